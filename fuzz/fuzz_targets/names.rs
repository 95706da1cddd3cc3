//! Names: those of objects, of files in a data directory and of WAL segments, numbers as text.
#![no_main]

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use pgark_postgres::relation::{DatabaseDirectory, RelationFile};
use pgark_postgres::wal::name::{SegmentName, WalFileName};
use pgark_postgres::wal::server_summary::ServerSummaryName;
use pgark_postgres::{Lsn, Version};
use pgark_repository::{Label, StanzaName, names};
use pgark_storage::Key;

/// What is read is written as it was.
fn check<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fuzz_target!(|text: &str| {
    check::<StanzaName>(text);
    check::<Label>(text);
    check::<SegmentName>(text);
    check::<WalFileName>(text);
    check::<ServerSummaryName>(text);
    check::<Version>(text);
    let _may_fail = text.parse::<Lsn>();
    let _may_fail = (RelationFile::parse(Path::new(text)), DatabaseDirectory::parse(Path::new(text)));
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.as_str(), text);
    }
    if let Ok(stanza) = text.parse::<StanzaName>() {
        names::clusters(&stanza).expect("a stanza's name makes names of objects");
    }
});
