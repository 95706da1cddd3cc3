//! What unit tests of several modules share.

use std::collections::BTreeMap;

use pgark_repository::LabelKind;
use pgark_repository::manifest::{BackupPoint, ClusterIdentity, ManifestDocument, Totals};

/// The document of some backup.
pub(crate) fn document() -> ManifestDocument {
    let point = BackupPoint { time: jiff::Timestamp::UNIX_EPOCH, lsn: None, timeline: 1, wal_segment: None };
    ManifestDocument {
        label: "20261122-120531F".parse().unwrap(),
        kind: LabelKind::Full,
        prior: None,
        cluster: ClusterIdentity {
            id: 1,
            version: "17".to_owned(),
            system_id: "1".to_owned(),
            control_version: 1700,
            catalog_version: 1,
            wal_segment_size: 1 << 24,
        },
        start: point.clone(),
        stop: point,
        online: true,
        page_checksums: true,
        compression: "none".to_owned(),
        annotations: BTreeMap::new(),
        databases: Vec::new(),
        tablespaces: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        damaged_files: Vec::new(),
        hints_logged: true,
        unexplained: None,
        sidecars: Vec::new(),
        totals: Totals::default(),
        program: "pgark 0.1.0".to_owned(),
    }
}
