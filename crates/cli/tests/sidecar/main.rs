//! Sidecars: directories outside the data directory that are backed up and restored with the cluster.

mod bad_input;
mod changes;
#[path = "../common/mod.rs"]
mod common;
mod huggingface;
mod restoring;
mod s3;

use std::path::{Path, PathBuf};
use std::process::Command;

use pgark_testkit::{Finished, Server, as_test_user, run};

use crate::common::{Site, SiteBuilder};

/// Something of every kind: what a walk can come by below a directory.
const TREE: &str = r"
    umask 022
    mkdir -p models/deep/er/est fonts shared closed && cd models
    printf hello > plain && : > empty && printf '#!/bin/sh\n' > tool && chmod 0755 tool
    head -c 300000 /dev/urandom > random && chmod 0400 random
    truncate -s 3000000 sparse && printf x | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none
    : > download.lock && printf 'odd' > 'name with spaces' && printf 'odd' > $'line\nfeed' && printf 'odd' > $'\xff\xfe'
    printf deep > deep/er/est/file && ln deep/er/est/file first && ln deep/er/est/file ../shared/last
    ln -s plain relative && ln -s /nowhere/at/all dangling && ln -s itself itself && ln -s deep/er directory
    ln -s .. up && ln -s deep/../plain winding
    cd .. && chmod 2750 shared && printf secret > closed/file && chmod 0500 closed
    touch -h -d '2001-02-03 04:05:06.123456789' models/relative
    touch -d '2002-03-04 05:06:07.987654321' models/plain models/empty && touch -d 1969-01-01T00:00:00Z models/tool
    touch -d '2003-04-05 06:07:08.000000001' models/deep shared
";

/// What a tree has, one line each: kind, mode, time to the nanosecond, target of a link, number of names; and contents.
const LIST: &str = r"
    find . -printf '%p|%y|%m|%T@|%l|%n|%s\n' | sed -E '/\|d\|/ s/\|[0-9]+\|[0-9]+$//' | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum
";

/// A site whose cluster has the sidecar `models`, in the directory `cache` that a script fills.
fn site(server: &Server, script: &str) -> Site {
    start(Site::builder(server), script)
}

fn start(builder: SiteBuilder, script: &str) -> Site {
    let site = builder.start();
    site.scratch.directory("cache");
    shell(&cache(&site), script);
    let line = format!("[demo]\nsidecar-models-path={}", cache(&site).display());
    site.reconfigure("[demo]", &line);
    site
}

fn cache(site: &Site) -> PathBuf {
    site.scratch.path().join("cache")
}

/// Runs a script in a directory, as the user of the tests; gives what it has written.
#[track_caller]
fn shell(directory: &Path, script: &str) -> String {
    let mut command = Command::new("bash");
    as_test_user(command.args(["-euo", "pipefail", "-c", script])).current_dir(directory);
    run(&mut command).expect_success().stdout
}

#[track_caller]
fn list(directory: &Path) -> String {
    shell(directory, LIST)
}

/// Restores the cluster, and the sidecar, into new directories.
#[track_caller]
fn restore(site: &Site, name: &str, arguments: &[&str]) -> (PathBuf, PathBuf) {
    let place = site.scratch.path().join(format!("{name}-cache"));
    let path = format!("--sidecar-models-path={}", place.display());
    (site.restore(name, &[&[path.as_str()], arguments].concat()), place)
}

/// Restores the sidecar alone to `place`.
fn restore_alone(site: &Site, place: &Path, arguments: &[&str]) -> Finished {
    let path = format!("--sidecar-models-path={}", place.display());
    site.pgark(&[&[path.as_str(), "--sidecar-only=models", "restore"], arguments].concat())
}

/// Takes an incremental backup; gives its label.
#[track_caller]
fn backup_changes(site: &Site, arguments: &[&str]) -> String {
    let finished =
        site.pgark(&[&["--type=incr", "--log-level-console=info", "backup"], arguments].concat()).expect_success();
    let label = finished.stdout.lines().find_map(|line| line.split_once("new backup label = "));
    label.unwrap_or_else(|| panic!("no label in {}", finished.report())).1.to_owned()
}

/// Bytes of all packs of the first repository.
fn stored(site: &Site) -> u64 {
    site.objects("/pack/").iter().map(|path| fs_err::metadata(path).expect("the pack is there").len()).sum()
}
