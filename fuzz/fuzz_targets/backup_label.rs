//! The small text files of a data directory and an archive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgark_postgres::label::{BackupHistory, BackupLabel, TablespaceMap};
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::Timeline;

fuzz_target!(|bytes: &[u8]| {
    let _may_fail = BackupLabel::parse(bytes);
    let _may_fail = BackupHistory::parse(bytes);
    if let Ok(map) = TablespaceMap::parse(bytes) {
        assert_eq!(TablespaceMap::parse(&map.render()).as_ref(), Ok(&map));
    }
    if let Ok(history) = TimelineHistory::parse(Timeline(9), &String::from_utf8_lossy(bytes)) {
        assert!(history.path().len() > history.switches().len());
    }
});
