//! A cluster that archives its WAL into a directory.

use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::wal::name::SegmentName;
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};
use pgark_testkit::{Cluster, ClusterBuilder, Scratch, Server};

/// A cluster and its archive.
pub(crate) struct Archive {
    pub(crate) cluster: Cluster,
    scratch: Scratch,
}

impl Archive {
    /// Starts a cluster that archives; `adapt` adds to its settings.
    pub(crate) fn start(server: &Server, adapt: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.directory("archive");
        // A standby that is promoted may archive once more what its primary did.
        let command = format!(
            "if test -e {0}/%f; then cmp -s %p {0}/%f; else cp %p {0}/%f.new && mv {0}/%f.new {0}/%f; fi",
            directory.display()
        );
        let builder = Cluster::builder(server)
            .setting("archive_mode", "on")
            .setting("archive_command", &command)
            .setting("max_prepared_transactions", "10")
            .setting("max_locks_per_transaction", "256")
            .setting("wal_level", "logical");
        Self { cluster: adapt(builder).start(), scratch }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.scratch.path().join("archive")
    }

    /// Ends the current segment and waits until it is archived.
    pub(crate) fn flush(&self) {
        let segment = self.cluster.switch_wal();
        self.cluster.wait_for_archived(&segment);
    }

    /// The archived segments in their order.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        segments_in(&self.directory())
    }
}

/// The segments in `directory` in their order.
pub(crate) fn segments_in(directory: &Path) -> Vec<Segment> {
    let entries = fs::read_dir(directory).expect("the archive can be read");
    let mut segments: Vec<Segment> = entries
        .filter_map(|entry| {
            let path = entry.expect("the archive can be read").path();
            let name = path.file_name()?.to_str()?.parse().ok()?;
            Some(Segment { name, path })
        })
        .collect();
    segments.sort_by_key(|segment| segment.name);
    segments
}

/// An archived segment.
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
}

impl Segment {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).expect("a segment can be read")
    }

    /// Its analysis, after it went through its stored form.
    pub(crate) fn analysis(&self) -> SegmentAnalysis {
        let analysis = analyse(&self.bytes()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let stored = analysis.encode();
        let read = SegmentAnalysis::decode(&stored).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(analysis, read, "{} loses something in its stored form", self.name);
        read
    }
}
