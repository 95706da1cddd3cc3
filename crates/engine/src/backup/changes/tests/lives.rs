//! What a cluster may have gone through so that the WAL under its names is not its own, or does not say everything.

use std::process::Command;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, as_test_user, run};

use super::site::{
    Site, archive_command, assert_covers, assert_unknown, backup, connect, control, flush, known, lsn, offline_backup,
};
use super::*;

/// A copy of a cluster that is shut down, which goes on by itself on the same timeline.
fn copy_of(site: &Site, name: &str, command: &str) -> Cluster {
    let directory = site.scratch().path().join(name);
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(site.cluster.data_directory()).arg(&directory);
    run(as_test_user(&mut copy)).expect_success();
    let copy = Cluster::adopt(site.cluster.server(), &directory);
    copy.configure("archive_command", command);
    copy
}

fn fill(cluster: &Cluster, table: &str, segments: u32) {
    cluster.sql(&format!("create table {table} (i int, v text)"));
    for _ in 0..segments {
        cluster.sql(&format!("insert into {table} select i, repeat('x', 300) from generate_series(1, 2000) i"));
        cluster.sql("select pg_switch_wal()");
    }
}

/// Would lose: the whole cluster, put together from the pages of two.
#[test]
fn an_older_copy_that_goes_on_is_told_from_the_cluster_whose_wal_is_in_the_archive() {
    let mut site = Site::start(15, |builder| builder);
    fill(&site.cluster, "common", 3);
    site.flush();
    let before = site.backup().document;
    site.flush();
    site.cluster.stop(Stop::Fast);
    // The archive refuses what the first copy has; that of the second is thrown away, and the server believes it safe.
    let mut refused = copy_of(&site, "refused", &archive_command(&site.directory()));
    let mut thrown_away = copy_of(&site, "thrown-away", "true");
    site.cluster.start();
    fill(&site.cluster, "first", 4);
    site.flush();
    let after = site.backup().document;
    fill(&site.cluster, "first_too", 4);
    site.flush();

    for (copy, table) in [(&mut refused, "second"), (&mut thrown_away, "third")] {
        copy.start();
        // Not by as much as the first cluster, then by more.
        for round in 0..3 {
            fill(copy, &format!("{table}_{round}"), 5);
            for reference in [&before, &after] {
                let (changes, _) = site.changes_of(copy, reference);
                assert!(matches!(changes, Changes::Unknown { .. }), "{table} {round}");
            }
        }
    }
    let (changes, _) = site.changes_of(&refused, &before);
    assert_unknown(changes, "in the archive is not the one in pg_wal");
    known(site.changes_since(&before).0);
    known(site.changes_since(&after).0);
}

/// Would lose: the backup, which can't be recovered past the damage.
#[test]
fn the_wal_of_the_backup_must_be_whole() {
    let site = Site::start(17, |builder| builder);
    let mut connection = connect(&site.cluster);
    let started = connection.start_backup("test", true).unwrap();
    site.cluster.sql("select pg_logical_emit_message(true, 'long', repeat('x', 3500000))");
    fill(&site.cluster, "t", 3);
    let stopped = connection.stop_backup().unwrap();
    site.cluster.wait_for_archived(&stopped.wal_segment.to_string());
    site.push();
    let control = control(&site.cluster);
    let check_from = |start| {
        let needed = Needed {
            data_directory: site.cluster.data_directory(),
            control: &control,
            history: &History::Unknown { reason: "it is lost".to_owned() },
            timeline: started.timeline,
            range: start..stopped.lsn,
        };
        check_archived(&site.archive(), &needed)
    };
    let check = || check_from(started.lsn);
    check().unwrap();
    // Where the server has removed it, the last segment is known by the record of the end of this backup and no other.
    site.forget(stopped.wal_segment);
    check().unwrap();
    let error = check_from(Lsn(started.lsn.0 + 8)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::ArchiveDuplicate, "{error}");
    assert!(error.to_string().contains("no record of the end of a backup"), "{error}");
    let second = started.wal_segment.next(control.wal_segment_size).unwrap();
    site.damage(second);
    for forgets in [false, true] {
        if forgets {
            site.forget(second);
        }
        let error = check().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::FileInvalid, "{error}");
        assert!(error.to_string().contains(&format!("{second}' is damaged")), "{error}");
    }
}

/// Would lose: what was changed on the way to a new timeline; or the backups before it as references.
fn a_promotion_is_followed(major: u32) {
    let mut site = Site::start(major, |builder| builder);
    fill(&site.cluster, "t", 3);
    site.flush();
    let reference = site.backup().document;
    let mut standby = site.cluster.standby();
    standby.start();
    site.cluster.sql("update t set v = 'before the promotion' where i % 7 = 0");
    site.cluster.wait_for_replay(&standby);
    standby.promote();
    // The old primary goes on for a while, to what is not this cluster's past.
    fill(&site.cluster, "lost", 2);
    site.flush();
    let lost = site.backup().document;
    site.cluster.stop(Stop::Fast);
    standby.sql("update t set v = 'after the promotion' where i % 9 = 0; select pg_switch_wal()");
    standby.sql("create table u as select generate_series(1, 1000) i");
    flush(&standby);
    let (changes, start) = site.changes_of(&standby, &reference);
    let summary = known(changes);
    flush(&standby);
    site.push();
    let file = standby.data_directory().join("pg_wal/00000002.history");
    let text = fs::read_to_string(&file).unwrap();
    let history = TimelineHistory::parse(Timeline(2), &text).unwrap();
    let expected = site.exact(&history, lsn(reference.start.lsn.as_ref()), start);
    assert_covers(&summary, &expected);
    assert_covers(&known(site.find(&standby, Timeline(2), &reference, start)), &expected);
    assert_unknown(site.changes_of(&standby, &lost).0, "does not lie on the history of timeline 2");
    // What was taken since serves too.
    let second = backup(&standby).document;
    standby.sql("insert into u values (0)");
    known(site.changes_of(&standby, &second).0);
    // An archive with another timeline 2 is not this cluster's; where the cluster says nothing, the archive counts.
    fs::write(&file, "1\t0/100028\tanother\n").unwrap();
    assert_unknown(site.changes_of(&standby, &reference).0, "'00000002.history' in the archive is of another cluster");
    fs::remove_file(&file).unwrap();
    known(site.changes_of(&standby, &reference).0);
}

#[test]
fn a_promotion_of_14_is_followed() {
    a_promotion_is_followed(14);
}

#[test]
fn a_promotion_of_18_is_followed() {
    a_promotion_is_followed(18);
}

/// Would lose: what was changed while nothing of it went into the WAL.
fn minimal_wal_is_told(major: u32) {
    let mut site = Site::start(major, |builder| builder);
    fill(&site.cluster, "t", 1);
    site.flush();
    let reference = site.backup().document;
    let switch = |site: &mut Site, level: &str, mode: &str, senders: &str| {
        let settings =
            [("wal_level", level), ("archive_mode", mode), ("max_wal_senders", senders), ("summarize_wal", "off")];
        for (name, value) in settings.into_iter().take(if major >= 17 { 4 } else { 3 }) {
            site.cluster.configure(name, value);
        }
        site.cluster.restart();
    };
    switch(&mut site, "minimal", "off", "0");
    site.cluster.sql("begin; create table u (i int); insert into u values (1); commit");
    switch(&mut site, "replica", "on", "5");
    site.push();
    assert_unknown(site.changes_since(&reference).0, "wal_level is minimal");
}

#[test]
fn minimal_wal_of_16_is_told() {
    minimal_wal_is_told(16);
}

#[test]
fn minimal_wal_of_18_is_told() {
    minimal_wal_is_told(18);
}

/// Would lose: what was changed by the WAL that was thrown away.
#[test]
fn a_reset_of_the_wal_is_told() {
    for server in Server::all() {
        let mut site = Site::start(server.major(), |builder| builder);
        fill(&site.cluster, "t", 2);
        site.flush();
        let reference = site.backup().document;
        site.flush();
        site.cluster.stop(Stop::Fast);
        let mut reset = server.tool("pg_resetwal");
        run(reset.arg("-f").arg(site.cluster.data_directory())).expect_success();
        site.cluster.start();
        let (changes, _) = site.changes_since(&reference);
        assert!(matches!(changes, Changes::Unknown { .. }), "{}", server.version());
        site.flush();
        fill(&site.cluster, "u", 2);
        let (changes, _) = site.changes_since(&reference);
        assert!(matches!(changes, Changes::Unknown { .. }), "{}", server.version());
    }
}

/// Would lose: the changes since a backup without a server, or up to one.
fn backups_without_a_server_serve(major: u32) {
    let mut site = Site::start(major, |builder| builder);
    fill(&site.cluster, "t", 2);
    site.flush();
    let online = site.backup().document;
    site.cluster.sql("update t set v = 'one' where i % 7 = 0");
    site.cluster.stop(Stop::Fast);
    let offline = offline_backup(&site.cluster).document;
    let history = TimelineHistory::without_ancestors(Timeline(1));
    let at = lsn(offline.start.lsn.as_ref());
    let up_to_it = known(site.find(&site.cluster, Timeline(1), &online, at));
    site.cluster.start();
    site.cluster.sql("update t set v = 'two' where i % 9 = 0; select pg_switch_wal()");
    site.cluster.sql("update t set v = 'three' where i % 10 = 0");
    site.flush();
    let (changes, start) = site.changes_since(&offline);
    let since = known(changes);
    site.flush();
    assert_covers(&up_to_it, &site.exact(&history, lsn(online.start.lsn.as_ref()), at));
    assert_covers(&since, &site.exact(&history, at, start));

    // Of a server that was killed, the files may lack what the last checkpoint has not reached.
    site.cluster.sql("checkpoint; update t set v = 'four'");
    site.cluster.kill9();
    let killed = offline_backup(&site.cluster).document;
    site.cluster.start();
    site.cluster.sql("update t set v = 'five' where i = 1");
    assert_unknown(site.changes_since(&killed).0, "no record of a shutdown");
}

#[test]
fn backups_of_13_without_a_server_serve() {
    backups_without_a_server_serve(13);
}

#[test]
fn backups_of_17_without_a_server_serve() {
    backups_without_a_server_serve(17);
}

/// Would lose: pages whose checksums are those of another setting, or of another cluster.
#[test]
fn a_reference_must_be_of_this_cluster() {
    let site = Site::start(15, |builder| builder);
    site.flush();
    let reference = site.backup().document;
    let (changes, start) = site.changes_since(&reference);
    known(changes);
    let find = |document: &ManifestDocument, start| site.find(&site.cluster, Timeline(1), document, start);
    let without = ManifestDocument { page_checksums: false, ..reference.clone() };
    assert_unknown(find(&without, start), "page checksums were switched on");
    let mut foreign = reference.clone();
    foreign.cluster.system_id = "1".to_owned();
    assert_unknown(find(&foreign, start), "is of another cluster");
    // Such a backup may have been taken of another cluster that has gone on under the same timeline.
    let mut other = reference.clone();
    other.stop.lsn = Some(Lsn(lsn(reference.stop.lsn.as_ref()).0 - 8).to_string());
    assert_unknown(find(&other, start), "is not of this cluster's past");
    let mut unplaced = reference.clone();
    unplaced.start.lsn = None;
    assert_unknown(find(&unplaced, start), "does not say where");
    assert_unknown(find(&reference, lsn(reference.start.lsn.as_ref())), "where this backup begins");
}
