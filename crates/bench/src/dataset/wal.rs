//! Segments of WAL, as a server under load writes them.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::{Cluster, give_to_test_user};

use crate::files;

/// How many segments are archived one by one.
const SEGMENTS: usize = 16;

/// Has pgbench write segments, which are archived as they are.
pub(super) fn load(cluster: &mut Cluster, directory: &Path) -> io::Result<()> {
    let target = segment_directory(directory);
    fs::create_dir(&target)?;
    give_to_test_user(&target);
    cluster.pgbench_init(20);
    cluster.configure("wal_level", "replica");
    cluster.configure("archive_mode", "on");
    cluster.configure("archive_command", &format!("cp %p {}/%f", target.display()));
    cluster.restart();
    while segments(directory)?.len() < SEGMENTS {
        cluster.pgbench_run(2, 5000);
        cluster.wait_for_archived(&cluster.switch_wal());
    }
    Ok(())
}

/// The segments, in their order.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut segments = files::regular_files(&segment_directory(directory))?;
    segments.sort();
    segments.truncate(SEGMENTS);
    Ok(segments)
}

fn segment_directory(directory: &Path) -> PathBuf {
    directory.join("segments")
}
