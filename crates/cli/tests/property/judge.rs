//! The judges: what must be true of every backup.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fs_err as fs;
use pgark_postgres::label::{BACKUP_LABEL_FILE, BackupLabel};
use pgark_repository::manifest::Manifest;
use pgark_repository::{Encryption, Label, Repository, StanzaName, names};
use pgark_storage::LocalStorage;
use pgark_testkit::{Cluster, Stop, as_test_user, run};

use crate::common::STANZA;
use crate::pages;
use crate::world::{Moment, View, World};

/// What is restored is, before any recovery, page for page what PostgreSQL's own `pg_basebackup` copies of the cluster,
/// which has been quiet since the backup began.
pub(crate) fn pages_are_those_of_the_cluster(world: &World, moment: &Moment, hints_are_logged: bool) {
    let site = &world.site;
    let directory = site.scratch.directory("pages");
    for name in ["restored-tablespaces", "copied-tablespaces", "copied-tablespaces/away"] {
        site.scratch.directory(&format!("pages/{name}"));
    }
    let [restored, copied] = ["restored", "copied"].map(|name| directory.join(name));
    restore(world, moment, &restored, &directory.join("restored-tablespaces"), &["--type=none"]);
    let mut copy = site.cluster.client("pg_basebackup");
    let away = site.cluster.sql("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'away'");
    copy.args(["--checkpoint=fast", "--no-sync", "--no-manifest", "--wal-method=none", "--pgdata"]).arg(&copied);
    copy.arg(format!("--tablespace-mapping={away}={}", directory.join("copied-tablespaces/away").display()));
    run(&mut copy).expect_success();
    let label = fs::read(restored.join(BACKUP_LABEL_FILE)).expect("a restored backup has a label");
    let start = BackupLabel::parse(&label).expect("PostgreSQL wrote it").start;
    let differences = pages::differences(&restored, &copied, start, hints_are_logged);
    assert!(
        differences.is_empty(),
        "backup {} (start {start}) differs from the cluster:\n{}",
        moment.label,
        differences.join("\n")
    );
    fs::remove_dir_all(&directory).expect("a scratch directory can be removed");
}

/// A backup that reads everything compares what it reads with what the WAL says. It may not find a page that has changed
/// and that no WAL names, where that can't be: an incremental backup would have missed it.
pub(crate) fn nothing_is_unexplained(output: &str) {
    let unexplained = output.lines().find(|line| line.contains("WARN") && line.contains("no WAL names"));
    assert!(unexplained.is_none(), "{output}");
}

/// An incremental backup reads everything where nobody knows what has changed, and only there.
pub(crate) fn all_is_read_where_it_must_be(output: &str, changes_are_known: bool) {
    let reads_all = output.contains("all files are read, since it is not known what has changed");
    assert!(reads_all != changes_are_known, "changes are known: {changes_are_known}\n{output}");
}

/// What a run shows is worth something: between the last two backups pages have changed of which only the WAL tells, many
/// of them, in tables and indexes, at all distances from one another, and in a database whose files were copied. That the
/// last backup has them as they are was judged when it was taken.
pub(crate) fn much_was_told_by_the_wal_alone(world: &World) {
    let [.., before, after] = &world.moments[..] else { panic!("a script ends with two backups") };
    let site = &world.site;
    let directory = site.scratch.directory("told");
    let [before, after] = [before, after].map(|moment| {
        let restored = directory.join(&moment.label);
        let tablespaces = site.scratch.directory(&format!("told/{}-tablespaces", moment.label));
        restore(world, moment, &restored, &tablespaces, &["--type=none"]);
        restored
    });
    let changed = pages::changed(&before, &after);
    fs::remove_dir_all(&directory).expect("a scratch directory can be removed");
    let all: Vec<usize> = changed.values().flatten().copied().collect();
    assert!(all.len() > 100 && changed.len() > 5, "only {} pages of {} files: {changed:?}", all.len(), changed.len());
    let places: BTreeSet<usize> = all.iter().map(|page| page % 7).collect();
    assert_eq!(places.len(), 7, "{changed:?}");
    let oids = site.cluster.sql("select oid from pg_database where datname like 'database_%'");
    let is_copied = |path: &Path| oids.lines().any(|oid| path.components().any(|part| part.as_os_str() == oid));
    let copied: usize = changed.iter().filter(|(path, _)| is_copied(path)).map(|(_, pages)| pages.len()).sum();
    assert!(copied > 10, "only {copied} pages of a database that was copied: {changed:?}");
}

/// The backup comes back from a repository in which there is nothing but what it needs and the WAL: all that clients
/// saw is there again, and all that PostgreSQL's tools can check is sound.
pub(crate) fn stands_alone(world: &World, moment: &Moment) {
    let site = &world.site;
    let directory = site.scratch.directory("alone");
    let repository = directory.join("repository");
    copy_with_one_backup(world, moment, &repository);
    let [data, tablespaces] = ["data", "tablespaces"].map(|name| directory.join(name));
    site.scratch.directory("alone/tablespaces");
    let repository = format!("--repo1-path={}", repository.display());
    let target = format!("--target={}", moment.restore_point);
    // Without archiving, or what is restored would fight with the cluster over the next timeline.
    let to = if moment.wal_goes_on {
        vec!["--type=name", &target, "--target-timeline=current"]
    } else {
        vec!["--type=immediate"]
    };
    let arguments = [&[repository.as_str(), "--archive-mode=off", "--target-action=promote"], &to[..]].concat();
    restore(world, moment, &data, &tablespaces, &arguments);
    let mut cluster = Cluster::adopt(site.cluster.server(), &data);
    cluster.start();
    cluster.wait_for_sql("select pg_is_in_recovery()", "f");
    if moment.wal_goes_on || moment.quiet {
        is_as_it_was(&cluster, moment);
    }
    is_sound(&cluster);
    cluster.stop(Stop::Fast);
    // The tool is of one version only, and not installed for 13.
    if moment.checksums && cluster.server().major() >= 14 {
        cluster.check_pages();
    }
    drop(cluster);
    fs::remove_dir_all(&directory).expect("a scratch directory can be removed");
}

fn restore(world: &World, moment: &Moment, data: &Path, tablespaces: &Path, arguments: &[&str]) {
    let data = format!("--pg1-path={}", data.display());
    let tablespaces = format!("--tablespace-map-all={}", tablespaces.display());
    let set = format!("--set={}", moment.label);
    let fixed = [data.as_str(), &tablespaces, &set, "restore"];
    world.site.pgark(&[&fixed[..], arguments].concat()).expect_success();
}

/// Copies the repository, but for the other backups and what only they need.
fn copy_with_one_backup(world: &World, moment: &Moment, copy: &Path) {
    // Links will do: objects are never changed.
    let mut link = Command::new("cp");
    link.args(["--archive", "--link"]).arg(world.site.repository()).arg(copy);
    run(as_test_user(&mut link)).expect_success();
    let stanza = copy.join("stanza").join(STANZA);
    for entry in entries(&stanza.join("backup")) {
        if entry.file_name().is_some_and(|name| name.to_str() != Some(&moment.label)) {
            fs::remove_dir_all(&entry).expect("a copy can be changed");
        }
    }
    let needed = packs_of(world, &moment.label);
    for session in entries(&stanza.join("pack")) {
        for pack in entries(&session) {
            let name = pack.strip_prefix(copy).expect("it is in the copy").to_str().expect("names are ASCII");
            if !needed.iter().any(|needed| needed == name) {
                fs::remove_file(&pack).expect("a copy can be changed");
            }
        }
    }
}

/// No pack is left that no backup needs.
pub(crate) fn nothing_is_left_over(world: &World) {
    let repository = world.site.repository();
    let mut needed: Vec<String> = world.labels().iter().flat_map(|label| packs_of(world, label)).collect();
    let name = |path: PathBuf| path.strip_prefix(&repository).expect("it is in it").to_str().expect("ASCII").to_owned();
    let mut stored: Vec<String> = world.site.objects("/pack/").into_iter().map(name).collect();
    needed.sort();
    needed.dedup();
    stored.sort();
    assert_eq!(stored, needed, "packs that are stored, and packs that are needed");
}

/// The names of the packs that the manifest of a backup names.
fn packs_of(world: &World, label: &str) -> Vec<String> {
    let storage = Arc::new(LocalStorage::open(&world.site.repository()).expect("the repository can be opened"));
    let encryption = match world.passphrase() {
        Some(passphrase) => Encryption::Passphrase(passphrase.to_owned().into()),
        None => Encryption::None,
    };
    let repository = Repository::open(storage, &encryption).expect("the repository can be opened");
    let stanza: StanzaName = STANZA.parse().expect("the name of the stanza is valid");
    let label: Label = label.parse().expect("the label of a backup is valid");
    let manifest = Manifest::open(&repository, &stanza, &label).expect("the manifest can be read");
    let packs = manifest.packs().expect("the manifest has a list of packs");
    packs.keys().map(|pack| names::pack(&stanza, *pack).expect("a pack has a name").to_string()).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    entries.map(|entry| entry.expect("the directory can be read").path()).collect()
}

/// Clients see what they saw, and what was promised can still be kept.
fn is_as_it_was(cluster: &Cluster, moment: &Moment) {
    let view = View::of(cluster);
    let (before, after) = (&moment.view, &view);
    if before.dump != after.dump {
        let differing = before.dump.lines().zip(after.dump.lines()).find(|(before, after)| before != after);
        panic!("backup {} comes back otherwise: {differing:?}", moment.label);
    }
    assert_eq!(before.prepared, after.prepared, "prepared transactions of backup {}", moment.label);
    for ((name, before), (_, after)) in before.sequences.iter().zip(&after.sequences) {
        // A server takes 32 numbers of a sequence ahead: after a recovery some are left out, none comes twice.
        assert!((*before..=before + 33).contains(after), "sequence {name} was at {before}, is at {after}");
    }
    for promise in view.prepared.split(", ").filter(|promise| !promise.is_empty()) {
        cluster.sql(&format!("commit prepared '{promise}'"));
    }
    let unlogged = cluster.sql("select relname from pg_class where relpersistence = 'u' and relkind = 'r'");
    for table in unlogged.lines() {
        assert_eq!(cluster.sql(&format!("select count(*) from {table}")), "0", "rows of an unlogged table came back");
    }
}

/// `pg_amcheck`, `pg_visibility` and `VACUUM` find nothing to complain about.
fn is_sound(cluster: &Cluster) {
    if cluster.server().major() >= 14 {
        cluster.check_relations();
    }
    let databases =
        cluster.sql("select datname from pg_database where datallowconn and datname <> 'template1' order by 1");
    for database in databases.lines() {
        let wrong = cluster.sql_in(
            database,
            "create extension pg_visibility;
             select relation.oid::regclass from pg_class relation
              where relkind in ('r', 'm', 't') and relpersistence = 'p'
                and (exists (select from pg_check_visible(relation.oid)) or exists (select from pg_check_frozen(relation.oid)))",
        );
        assert_eq!(wrong, "", "visibility maps of database {database} claim what is not so");
        cluster.sql_in(database, "vacuum (disable_page_skipping)");
    }
    let warnings: Vec<_> = cluster.log().lines().filter(|line| line.contains("WARNING: ")).map(str::to_owned).collect();
    assert!(warnings.is_empty(), "the restored server warns: {warnings:?}");
}
