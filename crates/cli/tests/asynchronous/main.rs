//! Asynchronous archiving: `archive-async=y`

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod get;
mod push;

use std::path::PathBuf;

use fs_err as fs;
use pgark_testkit::{Server, wait_until};

use common::{STANZA, Site, SiteBuilder};

/// A site that archives asynchronously.
pub(crate) fn asynchronous(server: &Server) -> SiteBuilder {
    Site::builder(server).global("archive-async=y\nprocess-max=2\nlog-level-console=detail\nlog-level-file=detail")
}

/// A directory of the stanza's spool.
pub(crate) fn spool(site: &Site, part: &str) -> PathBuf {
    site.scratch.path().join("spool/archive").join(STANZA).join(part)
}

/// The names in a directory of the stanza's spool, ascending.
pub(crate) fn spooled(site: &Site, part: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(spool(site, part)) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the background of a command has logged.
pub(crate) fn log(site: &Site, command: &str) -> String {
    fs::read_to_string(site.scratch.path().join(format!("log/{STANZA}-{command}-async.log"))).unwrap_or_default()
}

/// Whether a repository has a segment.
pub(crate) fn has(site: &Site, repository: u32, segment: &str) -> bool {
    let directory = site.scratch.path().join(format!("repository{repository}"));
    let major = site.cluster.server().major();
    directory.join(format!("stanza/{STANZA}/wal/{major}-1/{}/{segment}", &segment[..16])).is_file()
}

/// Whether PostgreSQL takes a segment for archived.
pub(crate) fn is_done(site: &Site, segment: &str) -> bool {
    let status = site.cluster.data_directory().join("pg_wal/archive_status");
    // PostgreSQL forgets in time what it has archived.
    !status.join(format!("{segment}.ready")).exists()
}

/// Has the server fill so many segments, each with something of its own; gives their names.
pub(crate) fn fill_segments(site: &Site, count: usize) -> Vec<String> {
    site.cluster.sql("create table if not exists filler (number int, text text)");
    let fill = |number| {
        site.cluster.sql(&format!(
            "insert into filler select {number}, repeat(md5(random()::text), 20) from generate_series(1, 300)"
        ));
        site.cluster.switch_wal()
    };
    (0..count).map(fill).collect()
}

/// Waits until no background is at work.
pub(crate) fn wait_for_rest(site: &Site, kind: &str) {
    let lock = site.scratch.path().join(format!("lock/{STANZA}-{kind}-1.lock"));
    wait_until("the background to end", || !pgark_system::lock::is_held(&lock));
}
