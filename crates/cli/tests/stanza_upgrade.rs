//! `pgark stanza-upgrade`

mod common;

use fs_err as fs;
use pgark_testkit::{Cluster, Server, Stop, faults, run};

use crate::common::{STANZA, Site, Transcript, text};

/// The cluster that `pg_upgrade` makes of a site's, and what it takes to have the site use it.
struct Upgrade {
    new: Cluster,
    /// What the configuration file said of the old cluster, and what it says of the new one.
    lines: [(String, String); 2],
}

fn lines_of(cluster: &Cluster) -> [String; 2] {
    let socket = cluster.socket_directory().display().to_string();
    let port = cluster.port();
    [
        format!("pg1-path={}\n", cluster.data_directory().display()),
        format!("pg1-port={port}\npg1-socket-path={socket}\n"),
    ]
}

impl Upgrade {
    /// Upgrades the site's cluster, which is shut down then.
    fn of(site: &mut Site, to: &Server) -> Self {
        let new = Cluster::builder(to).wal_segment_size_mib(1).create();
        site.cluster.stop(Stop::Fast);
        let work = site.scratch.directory("upgrade");
        let [old_bin, new_bin] = [site.cluster.server(), to].map(|server| server.bin_directory().display().to_string());
        let [old_data, new_data] = [&site.cluster, &new].map(|cluster| cluster.data_directory().display().to_string());
        let mut command = to.tool("pg_upgrade");
        command.current_dir(&work).args(["-b", &old_bin, "-B", &new_bin, "-d", &old_data, "-D", &new_data]);
        command.args(["-U", "postgres", "--socketdir", text(&work), "-p", "50432", "-P", "50433"]);
        run(&mut command).expect_success();
        // What the new server writes while it is upgraded is of no use to anybody.
        new.configure("archive_mode", "on");
        new.configure("archive_command", &site.archive_command());
        let [one, two] = lines_of(&site.cluster);
        let [new_one, new_two] = lines_of(&new);
        Self { new, lines: [(one, new_one), (two, new_two)] }
    }

    fn use_new(&self, site: &Site) {
        self.lines.iter().for_each(|(old, new)| site.reconfigure(old, new));
    }

    fn use_old(&self, site: &Site) {
        self.lines.iter().for_each(|(old, new)| site.reconfigure(new, old));
    }
}

/// Restores a backup set and gives the roles in it.
#[track_caller]
fn roles_in(site: &Site, server: &Server, set: &str) -> String {
    let directory = site.scratch.path().join(format!("restored-{}-{set}", server.major()));
    let path = format!("--pg1-path={}", directory.display());
    let set = format!("--set={set}");
    let options = ["--target-action=promote", "--recovery-option=archive_mode=off"];
    site.pgark(&[&[path.as_str(), &set, "--type=immediate"][..], &options, &["restore"]].concat()).expect_success();
    let mut restored = Cluster::adopt(server, &directory);
    restored.start();
    restored.wait_for_sql("select pg_is_in_recovery()", "f");
    let answer = restored.sql("select rolname from pg_roles where rolname in ('before', 'after')");
    restored.stop(Stop::Fast);
    answer
}

/// Both before and after an upgrade there are backups that can be restored; in between the user learns what to do.
fn an_upgraded_cluster_goes_on(old: u32, new: u32) {
    let (old, new) = (Server::get(old), Server::get(new));
    let mut site = Site::builder(&old).repositories(2).start();
    // A role and no table: some builds of PostgreSQL give tables properties that no other version takes over.
    site.cluster.sql("create role before");
    let before = site.backup(&[]);
    site.backup(&["--repo=2"]);
    let mut upgrade = Upgrade::of(&mut site, &new);
    upgrade.use_new(&site);
    upgrade.new.start();
    upgrade.new.sql("alter role before rename to after");

    let mut transcript = Transcript::default();
    let segment = upgrade.new.switch_wal();
    let segment = upgrade.new.data_directory().join("pg_wal").join(segment);
    let push = |title: &str, code: i32, transcript: &mut Transcript| {
        transcript.add(title, code, site.pgark(&["archive-push", text(&segment)]));
    };
    push("archive-push before", 104, &mut transcript);
    transcript.add("check before", 28, site.pgark(&["check"]));
    transcript.add("backup before", 51, site.pgark(&["--type=full", "backup"]));
    transcript.add("stanza-create instead", 28, site.pgark(&["stanza-create"]));
    transcript.add("upgrade", 0, site.pgark(&["--log-level-console=info", "stanza-upgrade"]));
    let objects = site.objects("");
    transcript.add("upgrade again", 0, site.pgark(&["--log-level-console=info", "stanza-upgrade"]));
    let is_wal = |path: &std::path::PathBuf| path.to_string_lossy().contains("/wal/");
    assert!(
        site.objects("").iter().all(|path| objects.contains(path) || is_wal(path)),
        "the second one has changed it"
    );
    site.pgark(&["check"]).expect_success();
    let after = site.backup(&[]);
    site.backup(&["--repo=2"]);
    transcript.add("info", 0, site.pgark(&["info"]));
    insta::with_settings!({ snapshot_suffix => format!("{}-to-{}", old.major(), new.major()) }, {
        assert_output!("upgraded", transcript.text());
    });

    assert_eq!(roles_in(&site, &new, &after), "after");
    assert_eq!(roles_in(&site, &old, &before), "before");
}

#[test]
fn an_upgraded_cluster_goes_on_from_15_to_17() {
    an_upgraded_cluster_goes_on(15, 17);
}

#[test]
fn an_upgraded_cluster_goes_on_from_17_to_18() {
    an_upgraded_cluster_goes_on(17, 18);
}

/// The archive of the old cluster goes with the last of its backups, and not before there is another backup.
#[test]
fn after_an_upgrade_the_old_archive_goes_with_its_backups() {
    let (old, new) = (Server::get(16), Server::get(18));
    let mut site = Site::start(&old);
    site.cluster.sql("create role before");
    let before = site.backup(&[]);
    let mut upgrade = Upgrade::of(&mut site, &new);
    upgrade.use_new(&site);
    upgrade.new.start();
    site.pgark(&["stanza-upgrade"]).expect_success();
    let labels = || {
        let manifests = site.objects("/manifest");
        let label =
            |path: &std::path::PathBuf| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        manifests.iter().map(label).collect::<Vec<_>>()
    };
    // However strict the rules are, the only backup there is stays with its WAL.
    let strict = ["--repo1-retention-full=1", "--repo1-retention-diff=1", "--repo1-retention-archive=1"];
    let strictest = [&strict[..], &["--repo1-retention-window=1h", "--repo1-keep-daily=1", "expire"]].concat();
    site.pgark(&strictest).expect_success();
    site.pgark(&[&strict[..], &["--repo1-retention-full-type=time", "expire"]].concat()).expect_success();
    assert_eq!(labels(), [before.as_str()]);
    assert!(!site.objects("/wal/16-1/").is_empty());

    let after = site.backup(&["--repo1-retention-full=2"]);
    assert_eq!(labels(), [before.as_str(), &after]);
    assert_eq!(roles_in(&site, &old, &before), "before");
    let last = site.backup(&["--repo1-retention-full=2"]);
    assert_eq!(labels(), [after.as_str(), &last]);
    assert_eq!(site.objects("/wal/16-1/"), Vec::<std::path::PathBuf>::new());
    assert_eq!(roles_in(&site, &new, &after), "before");
    site.pgark(&["--repo1-retention-full=2", "expire"]).expect_success();
    site.pgark(&["verify"]).expect_success();
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains(&last) && !info.stdout.contains("(16)"), "{}", info.report());
}

/// Takes an incremental backup; gives its label and what was said.
#[track_caller]
fn incremental(site: &Site) -> (String, String) {
    let said = site.pgark(&["--type=incr", "--log-level-console=info", "backup"]).expect_success().stdout;
    let label = said.lines().find_map(|line| line.split_once("new backup label = ")).expect("a backup has a label").1;
    (label.to_owned(), said)
}

/// Would lose: pages of the new cluster, where the old one's were taken for them, or the other way round.
#[test]
fn incremental_backups_stay_with_their_cluster() {
    let (old, new) = (Server::get(15), Server::get(17));
    let mut site = Site::builder(&old).setting("autovacuum", "off").start();
    let full = site.backup(&[]);
    site.cluster.sql("create role before");
    let (before, said) = incremental(&site);
    assert!(before.starts_with(&full) && !said.contains("all files are read"), "{said}");
    let mut upgrade = Upgrade::of(&mut site, &new);
    upgrade.use_new(&site);
    upgrade.new.configure("autovacuum", "off");
    upgrade.new.start();
    site.pgark(&["stanza-upgrade"]).expect_success();

    let (first, said) = incremental(&site);
    assert!(said.contains("WARN: no prior backup exists, incr backup has been changed to full"), "{said}");
    assert!(first.ends_with('F'), "{first}");
    upgrade.new.sql("alter role before rename to after");
    let (after, said) = incremental(&site);
    assert!(after.starts_with(&first) && said.contains(&format!("last backup label = {first}")), "{said}");
    assert!(!said.contains("all files are read"), "{said}");

    assert_eq!(roles_in(&site, &old, &before), "before");
    assert_eq!(roles_in(&site, &new, &first), "before");
    assert_eq!(roles_in(&site, &new, &after), "after");
    // What is left of the old cluster's set is no help to the new one, and no harm.
    fs::remove_file(site.object(&format!("{first}/manifest"))).unwrap();
    let (last, said) = incremental(&site);
    assert!(last.ends_with('F') && said.contains("changed to full"), "{said}");
    assert_eq!(roles_in(&site, &new, &last), "after");
}

/// A server whose upgrade was given up archives where it did before, so that a recovery finds all its WAL.
#[test]
fn a_cluster_that_comes_back_goes_on_with_its_archive() {
    let old = Server::get(17);
    let mut site = Site::start(&old);
    site.cluster.sql("create table event (name text)");
    let before = site.backup(&[]);
    let upgrade = Upgrade::of(&mut site, &Server::get(18));
    upgrade.use_new(&site);
    site.pgark(&["stanza-upgrade"]).expect_code(56);
    site.pgark(&["--no-online", "stanza-upgrade"]).expect_success();
    upgrade.use_old(&site);
    site.cluster.start();
    site.pgark(&["stanza-upgrade"]).expect_success();
    site.cluster.sql("insert into event values ('after all')");
    let segment = site.archive_segment();
    let found = site.object(&segment);
    assert!(found.to_string_lossy().contains("/wal/17-1/"), "{}", found.display());
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("db (current)\n        wal archive min/max (17): "), "{}", info.report());
    assert!(info.stdout.contains(&before) && !info.stdout.contains("db (prior)"), "{}", info.report());
    let json = site.pgark(&["--output=json", "info"]).expect_success().stdout;
    let stanzas: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(stanzas[0]["db"].as_array().unwrap().len(), 3, "{json}");

    site.cluster.stop(Stop::Fast);
    let directory = site.scratch.path().join("restored");
    let path = format!("--pg1-path={}", directory.display());
    site.pgark(&[&path, "--recovery-option=archive_mode=off", "restore"]).expect_success();
    let mut restored = Cluster::adopt(&old, &directory);
    restored.start();
    restored.wait_for_sql("select pg_is_in_recovery()", "f");
    assert_eq!(restored.sql("select name from event"), "after all");
}

#[test]
fn what_can_not_be_upgraded_is_told() {
    let server = Server::get(17);
    let mut site = Site::builder(&server).passphrase("first").start();
    let other = Cluster::builder(&server).wal_segment_size_mib(1).start();
    let mut transcript = Transcript::default();
    let upgrade = |site: &Site, arguments: &[&str]| site.pgark(&[arguments, &["stanza-upgrade"]].concat());

    transcript.add("no stanza", 37, run(&mut site.command(&["stanza-upgrade"])));
    transcript.add("a parameter", 96, site.pgark(&["stanza-upgrade", "extra"]));
    transcript.add("one repository", 31, upgrade(&site, &["--repo=1"]));
    let text = fs::read_to_string(site.configuration_file()).unwrap().replace("[demo]", "[nope]");
    let _private = faults::set_mode(&site.scratch.write("nope.conf", text), 0o600);
    let configuration = format!("--config={}", site.scratch.path().join("nope.conf").display());
    let mut nope = site.program.command();
    nope.args([configuration.as_str(), "--stanza=nope", "stanza-upgrade"]);
    transcript.add("a stanza that does not exist", 55, run(&mut nope));
    let held = site.hold_lock("demo-backup-1.lock");
    transcript.add("lock held", 50, upgrade(&site, &[]));
    drop(held);
    site.pgark(&["stop"]).expect_success();
    transcript.add("stopped", 62, upgrade(&site, &[]));
    site.pgark(&["start"]).expect_success();
    let [path, _] = lines_of(&site.cluster);
    let [other_path, _] = lines_of(&other);
    site.reconfigure(&path, &other_path);
    transcript.add("another cluster's server", 58, upgrade(&site, &[]));
    site.reconfigure(&other_path, &path);
    site.cluster.stop(Stop::Fast);
    transcript.add("server down", 56, upgrade(&site, &[]));
    site.reconfigure("cipher-pass=first", "cipher-pass=second");
    transcript.add("wrong passphrase", 95, upgrade(&site, &["--no-online"]));
    assert_eq!(site.objects(&format!("stanza/{STANZA}/cluster/")).len(), 1);
    assert_output!("refused", transcript.text());
}
