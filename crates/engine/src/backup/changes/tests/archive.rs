//! What the archive and `pg_wal` have, and what they lack.

use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use pgark_postgres::wal::name::{SegmentName, WalFileName};
use pgark_storage::fault::{Effect, Fault};
use pgark_storage::{ErrorKind as StorageErrorKind, Operation};
use pgark_system::clock::Stopwatch;

use super::site::{Site, assert_covers, assert_unknown, known, lsn};
use super::*;

/// A cluster that has done something between a backup and now, all of which is archived; and a segment in the middle of it
/// that `pg_wal` has not any more.
fn worked(major: u32) -> (Site, ManifestDocument, SegmentName) {
    let site = Site::start(major, |builder| builder);
    site.cluster.sql("create table t as select i, repeat('x', 500) v from generate_series(1, 5000) i");
    site.flush();
    let reference = site.backup().document;
    let mut middle = None;
    for step in 1..=6 {
        site.cluster.sql(&format!("update t set v = 'step {step}' where i % 10 = {step}"));
        if step == 3 {
            middle = Some(site.segment_at(&site.cluster.current_lsn()));
        }
        site.flush();
    }
    let middle = middle.unwrap();
    if major >= 17 {
        let target = site.cluster.current_lsn();
        site.cluster.sql("checkpoint");
        let query = format!("select summarized_lsn >= '{target}' from pg_get_wal_summarizer_state()");
        site.cluster.wait_for_sql(&query, "t");
    }
    site.forget(middle);
    (site, reference, middle)
}

fn assert_is_right(site: &Site, reference: &ManifestDocument) {
    let (changes, start) = site.changes_since(reference);
    let summary = known(changes);
    let history = TimelineHistory::without_ancestors(Timeline(1));
    site.flush();
    let expected = site.exact(&history, lsn(reference.start.lsn.as_ref()), start);
    assert!(!expected.is_empty());
    assert_covers(&summary, &expected);
}

/// Would lose: the changes of a segment that is missing or damaged; or the backups' speed, where the server knows them.
fn a_missing_segment_is_told_or_filled(major: u32) {
    let (site, reference, middle) = worked(major);
    assert_is_right(&site, &reference);
    site.damage(middle);
    let without = |what: &str| {
        if major >= 17 {
            assert_is_right(&site, &reference);
            return;
        }
        let (changes, _) = site.changes_since(&reference);
        assert_unknown(changes, what);
    };
    without(&format!("{middle}' is damaged"));
    site.remove(middle);
    without(&format!("{middle} is neither in pg_wal nor in the archive"));
    // Without the one before and after it too, and without the server's summaries.
    let size = site.control().wal_segment_size;
    for name in [middle.next(size).unwrap(), middle.previous(size).unwrap()] {
        site.remove(name);
        site.forget(name);
    }
    without("is neither in pg_wal nor in the archive");
    if major >= 17 {
        let summaries = site.cluster.data_directory().join("pg_wal/summaries");
        for entry in fs::read_dir(summaries).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let (changes, _) = site.changes_since(&reference);
        assert_unknown(changes, "is neither in pg_wal nor in the archive");
    }
}

#[test]
fn a_missing_segment_of_15() {
    a_missing_segment_is_told_or_filled(15);
}

#[test]
fn a_missing_segment_of_17() {
    a_missing_segment_is_told_or_filled(17);
}

#[test]
fn a_missing_segment_of_18() {
    a_missing_segment_is_told_or_filled(18);
}

/// Would lose: the speed of backups, where an object is damaged or a segment was archived unread, though it can be read.
#[test]
fn what_the_archive_does_not_tell_is_read_from_the_segment() {
    let site = Site::start(16, |builder| builder.setting("wal_keep_size", "1GB"));
    site.cluster.sql("create table t as select i, repeat('x', 500) v from generate_series(1, 5000) i");
    site.flush();
    let reference = site.backup().document;
    let mut segments = Vec::new();
    for step in 1..=6 {
        site.cluster.sql(&format!("update t set v = 'step {step}' where i % 10 = {step}"));
        segments.push(site.segment_at(&site.cluster.current_lsn()));
        site.flush();
    }
    let pg_wal = site.cluster.data_directory().join("pg_wal");
    // Only pg_wal has the first, the object of the second is damaged, the third was archived unread; of the last, a file
    // of that name is left that has other WAL.
    site.remove(segments[0]);
    site.damage(segments[1]);
    site.remove(segments[2]);
    site.put(WalFileName::Segment(segments[2]), false);
    site.forget(segments[2]);
    assert_is_right(&site, &reference);
    fs::copy(pg_wal.join(segments[4].to_string()), pg_wal.join(segments[5].to_string())).unwrap();
    assert_is_right(&site, &reference);
    site.remove(segments[5]);
    let (changes, _) = site.changes_since(&reference);
    assert_unknown(changes, &format!("{} is neither in pg_wal nor in the archive", segments[5]));
}

/// Would lose: the changes of a record that is longer than what the archive keeps of it beside the segments.
#[test]
fn a_long_record_is_read_from_the_segments() {
    let site = Site::start(18, |builder| builder.wal_segment_size_mib(16));
    site.flush();
    let reference = site.backup().document;
    site.cluster.sql("create table t as select generate_series(1, 1000)");
    // Two records in a row, each longer than a segment.
    let message =
        "select count(pg_logical_emit_message(true, 'test', repeat('x', 20 << 20))) from generate_series(1, 2)";
    site.cluster.sql(message);
    site.cluster.sql("create table u as select generate_series(1, 1000)");
    site.flush();
    assert_is_right(&site, &reference);
}

/// Would lose: the backup of a whole night, to a repository that answers slowly or not at all.
#[test]
fn segments_are_asked_for_at_once_and_an_answer_that_fails_ends_it() {
    const LATENCY: Duration = Duration::from_millis(50);
    let site = Site::start(17, |builder| builder);
    site.flush();
    let reference = site.backup().document;
    site.cluster.sql(
        "do $$ begin for n in 1..300 loop
             perform pg_logical_emit_message(false, 'test', 'x'); perform pg_switch_wal();
         end loop; end $$",
    );
    site.flush();
    let failing = Fault::new(Effect::Fail(StorageErrorKind::Unavailable)).on(Operation::GetTail).skipping(100);
    site.storage.inject(failing);
    let control = site.control();
    let history = TimelineHistory::without_ancestors(Timeline(1));
    let start = site.cluster.current_lsn().parse().unwrap();
    let data_directory = site.cluster.data_directory();
    let between = Between { data_directory, control: &control, history: &history, reference: &reference, start };
    let error = changes(&site.archive(), &between).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Service, "{error}");

    let slow = Effect::Interleave(Arc::new(|_| std::thread::sleep(LATENCY)));
    site.storage.inject(Fault::new(slow).on(Operation::GetTail).repeatedly());
    let stopwatch = Stopwatch::start();
    let (changes, _) = site.changes_since(&reference);
    known(changes);
    let elapsed = stopwatch.elapsed();
    assert!(site.storage.fired() >= 300, "{}", site.storage.fired());
    assert!(elapsed < LATENCY * 300 / 2, "{elapsed:?}");
}
