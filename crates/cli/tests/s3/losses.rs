//! Answers that get lost, and services that lose what they have confirmed.

use pgark_testkit::s3::{Call, Effect, Fault, Refusal, S3Server};
use pgark_testkit::{Server, Stop};

use crate::common::{SiteBuilder, text};
use crate::{in_server, segment_of, with_keys};

fn site(s3: &S3Server) -> SiteBuilder {
    with_keys(in_server(&Server::get(18), s3), s3).passphrase("a pass phrase")
}

#[test]
fn a_segment_whose_answer_was_lost_was_archived() {
    let s3 = S3Server::start();
    let site = site(&s3).create();
    site.pgark(&["stanza-create", "--no-online"]).expect_success();
    let segment = segment_of(&site);
    for effect in [Effect::LoseAnswer, Effect::CutAnswer(0), Effect::RefuseAfterwards(Refusal::INTERNAL_ERROR)] {
        s3.inject(Fault::new(effect.clone()).on(Call::PutObject).key_containing("/wal/"));
        let pushed = site.pgark(&["archive-push", text(&segment), "--log-level-console=info"]).expect_success();
        assert!(pushed.stdout.contains("pushed WAL file"), "{effect:?}: {}", pushed.report());
        assert!(!pushed.stdout.contains("already exists"), "{effect:?}: {}", pushed.report());
        let stored = s3.keys().into_iter().find(|key| key.contains("/wal/")).unwrap();
        s3.remove(&stored);
    }
    assert_eq!(s3.fired(), 3);
}

#[test]
fn a_backup_whose_answers_were_lost_is_complete() {
    let s3 = S3Server::start();
    let site = site(&s3).start();
    for part in ["/session/", "/pack/", "/manifest"] {
        s3.inject(Fault::new(Effect::LoseAnswer).on(Call::PutObject).key_containing(part));
    }
    site.cluster.sql("create table numbers as select generate_series(1, 1000) as number");
    let label = site.backup(&[]);
    assert_eq!(s3.fired(), 3);
    assert_eq!(s3.keys().iter().filter(|key| key.ends_with("/manifest")).count(), 1);
    let set = format!("--set={label}");
    let restored = site.recover("restored", &[&set, "--type=immediate", "--target-action=promote"]);
    assert_eq!(restored.sql("select count(*) from numbers"), "1000");
}

#[test]
fn a_wal_segment_that_the_service_has_lost_is_found_by_check_and_backup() {
    let s3 = S3Server::start();
    let site = site(&s3).start();
    site.backup(&[]);
    s3.inject(Fault::new(Effect::LoseObject).key_containing("/wal/").always());
    let check = site.pgark(&["check", "--archive-timeout=2s"]).expect_code(82);
    assert!(check.stdout.contains("was not archived before the 2000ms timeout"), "{}", check.report());
    let backup = site.pgark(&["backup", "--type=full", "--archive-timeout=2s"]).expect_code(82);
    assert!(backup.stdout.contains("was not archived before"), "{}", backup.report());
    assert!(s3.fired() >= 2, "the server has archived nothing");
    s3.heal();
    let info = site.pgark(&["info"]).expect_success();
    assert_eq!(info.stdout.matches("full backup: ").count(), 1, "a backup without its WAL: {}", info.report());
    site.pgark(&["check"]).expect_success();
    site.backup(&[]);
}

#[test]
fn a_backup_of_which_the_service_has_lost_something_is_none() {
    let s3 = S3Server::start();
    let site = site(&s3).start();
    site.cluster.sql("create table numbers as select generate_series(1, 1000) as number");
    for part in ["/pack/", "/manifest"] {
        s3.inject(Fault::new(Effect::LoseObject).key_containing(part));
        let backup = site.pgark(&["backup", "--type=full"]).expect_code(55);
        assert!(backup.stdout.contains(part), "{}", backup.report());
        assert!(backup.stdout.contains("but it is not there"), "{}", backup.report());
        let info = site.pgark(&["info"]).expect_success();
        assert!(info.stdout.contains("no valid backups"), "{}", info.report());
    }
    assert_eq!(s3.fired(), 2);
    site.backup(&[]);
    site.archive_segment();
    assert_eq!(site.recover("restored", &[]).sql("select count(*) from numbers"), "1000");
}

#[test]
fn a_restore_of_what_the_service_has_lost_ends() {
    let s3 = S3Server::start();
    let mut site = site(&s3).start();
    site.backup(&[]);
    site.cluster.stop(Stop::Fast);
    let keys = s3.keys();
    let pack = keys.iter().find(|key| key.contains("/pack/")).unwrap();
    let content = s3.object(pack).unwrap();
    let half = content.slice(..content.len() / 2);
    let mut name = pack.clone();
    name.drain(..name.find("stanza/").unwrap());
    for (what, code) in [("lost", 55), ("cut short", 26)] {
        s3.remove(pack);
        if what == "cut short" {
            s3.put(pack, half.clone());
        }
        let target = site.scratch.path().join(what.replace(' ', "-"));
        let path = format!("--pg1-path={}", target.display());
        let restore = site.pgark(&["restore", &path]).expect_code(code);
        assert!(restore.stdout.contains(&format!("'{name}'")), "{what}: {}", restore.report());
        assert!(!target.join("global/pg_control").exists(), "{what}: half a cluster could be started");
    }
    s3.put(pack, content);
    site.pgark(&["restore", &format!("--pg1-path={}", site.scratch.path().join("whole").display())]).expect_success();
    // What the service lists no more can't be missed by name; a backup without its manifest is none.
    let manifest = keys.iter().find(|key| key.ends_with("/manifest")).unwrap();
    s3.remove(manifest);
    let path = format!("--pg1-path={}", site.scratch.path().join("none").display());
    let restore = site.pgark(&["restore", &path]).expect_code(75);
    assert!(restore.stdout.contains("no backup set"), "{}", restore.report());
}

#[test]
fn a_damaged_answer_is_not_restored() {
    let s3 = S3Server::start();
    let mut site = site(&s3).start();
    site.backup(&[]);
    site.cluster.stop(Stop::Fast);
    for (part, offset) in [("/pack/", 10_000), ("/manifest", 100), ("/wal/", 1000)] {
        s3.inject(Fault::new(Effect::FlipByte(offset)).on(Call::GetObject).key_containing(part).always());
        let finished = if part == "/wal/" {
            let target = site.scratch.path().join("segment");
            let segment = s3.keys().into_iter().find(|key| key.contains(part)).unwrap();
            let segment = segment.rsplit('/').next().unwrap().to_owned();
            site.pgark(&["archive-get", &segment, text(&target)]).expect_code(128 + 26)
        } else {
            let target = site.scratch.path().join(part.replace('/', ""));
            site.pgark(&["restore", &format!("--pg1-path={}", target.display())]).expect_code(26)
        };
        assert!(finished.stdout.contains(part), "{}", finished.report());
        s3.heal();
    }
}
