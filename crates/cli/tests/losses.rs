//! What backups do when something in the repository is missing, damaged or a lie. What comes back is right, or nothing does,
//! and the message says why.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use pgark_postgres::wal::relation::RelationFork;
use pgark_postgres::wal::segment::SegmentAnalysis;
use pgark_postgres::wal::summary::{BlockSummary, Summary};
use pgark_repository::codec::Compression;
use pgark_repository::container::{BlockEncoder, WriteOptions};
use pgark_repository::names::ArchiveId;
use pgark_repository::wal::{Archive, SentSegment};
use pgark_repository::{Encryption, Repository};
use pgark_storage::LocalStorage;
use pgark_testkit::{Finished, Server, faults, give_to_test_user};

use crate::common::restoring::{as_it_is, assert_same};
use crate::common::{STANZA, Site};

/// A site whose last backup, an incremental one, has pages all over: it has a map that lies in a pack.
fn site_with_scattered_pages() -> (Site, String, String) {
    let site = Site::builder(&Server::get(17)).setting("autovacuum", "off").start();
    site.cluster.sql("create table scattered as select n id, md5(n::text) filler from generate_series(1, 40000) n");
    site.cluster.sql("vacuum freeze");
    let full = site.backup(&[]);
    change(&site, "scattered");
    let (incremental, _) = incremental(&site);
    (site, full, incremental)
}

fn change(site: &Site, word: &str) {
    site.cluster.sql(&format!("update scattered set filler = '{word}' where id % 997 = 0; checkpoint"));
}

/// Takes an incremental backup; gives its label and what was said.
#[track_caller]
fn incremental(site: &Site) -> (String, Finished) {
    // An expire would end with an error as long as a manifest is damaged.
    let options = ["--type=incr", "--no-expire-auto", "--log-level-console=info", "backup"];
    let said = site.pgark(&options).expect_success();
    let label = said.stdout.lines().find_map(|line| line.split_once("new backup label = "));
    (label.expect("it has a label").1.to_owned(), said)
}

/// Tries to restore a backup into a new directory, as it is.
fn try_restore(site: &Site, name: &str, label: &str) -> (PathBuf, Finished) {
    let directory = site.scratch.path().join(name);
    let path = format!("--pg1-path={}", directory.display());
    let finished = site.pgark(&[&path, &format!("--set={label}"), "--type=none", "restore"]);
    (directory, finished)
}

/// The name that messages give an object.
fn name_of(site: &Site, object: &Path) -> String {
    object.strip_prefix(site.repository()).unwrap().display().to_string()
}

#[test]
fn a_manifest_that_is_damaged_or_missing_is_passed_over() {
    let (site, full, first) = site_with_scattered_pages();
    let manifest = site.object(&format!("/{first}/manifest"));
    faults::flip_byte(&manifest, fs::metadata(&manifest).unwrap().len() - 300);
    change(&site, "again");
    let (second, said) = incremental(&site);
    assert!(said.stdout.contains(&format!("WARN: backup set {first} is passed over: ")), "{}", said.report());
    assert!(said.stdout.contains(&format!("last backup label = {full}")), "{}", said.report());
    assert!(!said.stdout.contains("all files are read"), "{}", said.report());
    let (directory, refused) = try_restore(&site, "damaged", &first);
    let report = refused.report();
    assert_eq!(refused.code(), Some(26), "{report}");
    assert!(report.contains(&name_of(&site, &manifest)) && report.contains("is damaged"), "{report}");
    assert!(!directory.join("global/pg_control").exists());

    fs::remove_file(&manifest).unwrap();
    let (_, refused) = try_restore(&site, "missing", &first);
    let report = refused.report();
    assert_eq!(refused.code(), Some(75), "{report}");
    assert!(report.contains(&format!("backup set {first} is not valid")), "{report}");

    // Without its full backup an incremental one is still a backup, and can be gone on from.
    let manifest = site.object(&format!("/{full}/manifest"));
    faults::flip_byte(&manifest, fs::metadata(&manifest).unwrap().len() - 300);
    change(&site, "once more");
    let (third, said) = incremental(&site);
    let changed = "WARN: no prior backup exists, incr backup has been changed to full";
    assert!(third.ends_with('F') && said.stdout.contains(changed), "{}", said.report());
    as_it_is(&site, "second", &second);
    let (fourth, said) = incremental(&site);
    assert!(said.stdout.contains(&format!("last backup label = {third}")), "{}", said.report());
    let anew = site.backup(&["--no-reuse", "--no-expire-auto"]);
    assert_same(&as_it_is(&site, "fourth", &fourth), &as_it_is(&site, "anew", &anew));
}

/// What is done to a pack, and how it is called.
type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 5] = [
    ("removed", |pack| fs::remove_file(pack).unwrap()),
    ("cut off", |pack| faults::truncate(pack, length(pack) / 2)),
    ("changed in a frame", |pack| faults::flip_byte(pack, length(pack) / 3)),
    ("changed in its tables", |pack| faults::flip_byte(pack, length(pack) - 600)),
    ("changed at its end", |pack| faults::flip_byte(pack, length(pack) - 20)),
];

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Would lose: the pages in the pack, without a word, until they are needed.
#[test]
fn what_packs_and_maps_have_lost_is_stored_anew_or_missed_by_name() {
    let (site, _, before) = site_with_scattered_pages();
    let relation = site.cluster.sql("select pg_relation_filepath('scattered')");
    let packs = site.objects("/pack/");
    assert!(packs.len() >= 3, "the maps lie in a pack of their own: {packs:?}");
    let (mut healed, mut refused) = (0, 0);
    for (number, pack) in packs.iter().enumerate() {
        let bytes = fs::read(pack).unwrap();
        for (harm, does) in HARMS {
            change(&site, harm);
            does(pack);
            let name = format!("{harm}-{number}").replace(' ', "-");
            let (label, said) = incremental(&site);
            let (directory, restored) = try_restore(&site, &name, &label);
            if restored.code() == Some(0) {
                healed += 1;
                let [found, expected] =
                    [directory.as_path(), site.cluster.data_directory()].map(|root| root.join(&relation));
                assert!(fs::read(found).unwrap() == fs::read(expected).unwrap(), "{harm} {}", said.report());
            } else {
                refused += 1;
                assert!(!["removed", "cut off"].contains(&harm), "it can be seen: {}", restored.report());
                assert_missed(&site, pack, &directory, &restored);
            }
            // The backup from before needs all packs, but perhaps not all of each.
            let (directory, restored) = try_restore(&site, &format!("{name}-before"), &before);
            if restored.code() == Some(0) {
                assert!(!["removed", "cut off"].contains(&harm), "{harm} {}", pack.display());
            } else {
                assert_missed(&site, pack, &directory, &restored);
            }
            fs::write(pack, &bytes).unwrap();
            give_to_test_user(pack);
            fs::remove_dir_all(site.object(&format!("/{label}/manifest")).parent().unwrap()).unwrap();
        }
    }
    assert!(healed >= packs.len() * 2 && refused > 0, "{healed} healed, {refused} refused");
}

#[track_caller]
fn assert_missed(site: &Site, pack: &Path, directory: &Path, restored: &Finished) {
    let report = restored.report();
    assert!(matches!(restored.code(), Some(26 | 55)), "{report}");
    assert!(report.contains(&name_of(site, pack)), "{report}");
    assert!(!directory.join("global/pg_control").exists(), "{report}");
}

/// Replaces what the archive says of a segment by what `change` makes of it. All hashes are right.
fn forge_segment(site: &Site, segment: &str, change: impl FnOnce(&mut SegmentAnalysis)) {
    let storage = LocalStorage::open(&site.repository()).unwrap();
    let repository = Repository::open(Arc::new(storage), &Encryption::None).unwrap();
    let id = ArchiveId { version: site.cluster.server().major().to_string(), number: 1 };
    let archive = Archive::new(&repository, STANZA.parse().unwrap(), id);
    let object = archive.segment(segment).unwrap();
    let document = object.document().clone();
    let bytes: Vec<u8> = object.data().flat_map(Result::unwrap).collect();
    let mut analysis = SegmentAnalysis::decode(&object.analysis().unwrap()).unwrap();
    change(&mut analysis);
    let path = site.object(&format!("/{segment}"));
    fs::remove_file(&path).unwrap();
    let options = WriteOptions { compression: Compression::Zstd(1), verify: false };
    let sent = archive.send_segment(&document, &bytes, || analysis.encode(), &mut BlockEncoder::of_wal(options), 1);
    sent.and_then(SentSegment::finish).unwrap();
    give_to_test_user(&path);
}

/// A summary without one block, of which there must be one.
fn without(summary: &BlockSummary, victim: RelationFork, block: u32) -> BlockSummary {
    let mut rest = BlockSummary::default();
    let mut is_found = false;
    for (fork, changes) in summary.iter() {
        changes.limit().into_iter().for_each(|limit| rest.lower_limit(fork, limit));
        for changed in changes.blocks().iter() {
            if (fork, changed) == (victim, block) { is_found = true } else { rest.mark(fork, changed) }
        }
    }
    assert!(is_found, "block {block} of {victim} is not in the summary");
    rest
}

/// Would lose: the page, in all incremental backups to come. No hash can tell, for they are right; a full backup does.
#[test]
fn a_summary_that_lies_is_found_out_by_the_next_full_backup() {
    let (site, ..) = site_with_scattered_pages();
    let relation = PathBuf::from(site.cluster.sql("select pg_relation_filepath('scattered')"));
    let fork = pgark_postgres::relation::RelationFile::parse(&relation).unwrap().fork;
    // All hint bits are set, and no page is left alone in a frame, which would be read because of that.
    site.cluster.sql("vacuum freeze scattered");
    site.backup(&["--no-reuse"]);
    site.archive_segment();
    let before = fs::read(site.cluster.data_directory().join(&relation)).unwrap();
    site.cluster.sql("update scattered set filler = md5(filler) where id between 20000 and 20010; checkpoint");
    let segment = site.archive_segment();
    let after = fs::read(site.cluster.data_directory().join(&relation)).unwrap();
    let mut pages = before.chunks(8192).zip(after.chunks(8192)).enumerate();
    let (page, _) = pages.find(|(_, (before, after))| before != after).expect("a page has changed");
    let block = u32::try_from(page).unwrap();
    forge_segment(&site, &segment, |analysis| {
        let Summary::Usable(summary) = &analysis.summary else { panic!("{:?}", analysis.summary) };
        analysis.summary = Summary::Usable(without(summary, fork, block));
    });
    // What the server still has is read instead.
    fs::remove_file(site.cluster.data_directory().join("pg_wal").join(&segment)).unwrap();

    let (label, said) = incremental(&site);
    assert!(!said.stdout.contains("all files are read"), "{}", said.report());
    let restored = fs::read(as_it_is(&site, "deceived", &label).join(&relation)).unwrap();
    assert!(restored[page * 8192..][..8192] == before[page * 8192..][..8192], "the lie was not believed");

    let said = site.pgark(&["--type=full", "--log-level-console=info", "backup"]).expect_success();
    let name = relation.display();
    let warning = format!("WARN: page(s) of file {name} have changed although no WAL names them: {block}\n");
    assert!(said.stdout.contains(&warning), "{}", said.report());
    let label = said.stdout.lines().find_map(|line| line.split_once("new backup label = ")).unwrap().1;
    let restored = fs::read(as_it_is(&site, "audited", label).join(&relation)).unwrap();
    assert!(restored == after, "the full backup has stored what it has found");
}
