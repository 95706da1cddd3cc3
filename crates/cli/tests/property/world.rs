//! A real cluster to which the steps of a script happen, with its repository and what was seen at each backup.

use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use pgark_testkit::{Cluster, Server, Stop, run};

use crate::change::{Change, FOUNDATION, UNREST};
use crate::common::{STANZA, Site};
use crate::judge;
use crate::script::{Backup, BackupKind, Event, Retention, Shape, Step};

const PASSPHRASE: &str = "speak friend";

/// What the cluster looked like right after a backup.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// The number of the step that took the backup.
    pub(crate) step: usize,
    pub(crate) label: String,
    /// The restore point at which it looked like this.
    pub(crate) restore_point: String,
    /// Whether nothing was written from the backup's beginning to the restore point.
    pub(crate) quiet: bool,
    /// Whether there is more WAL than what makes the backup consistent.
    pub(crate) wal_goes_on: bool,
    pub(crate) checksums: bool,
    pub(crate) view: View,
}

/// What clients see of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) dump: String,
    pub(crate) prepared: String,
    pub(crate) sequences: Vec<(String, i64)>,
}

impl View {
    /// Looks at a cluster to which nobody writes.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        // Each cluster has the tablespace in a place of its own.
        let is_place = |line: &&str| line.starts_with("CREATE TABLESPACE away");
        let dump = cluster.dump().lines().filter(|line| !is_place(line)).collect::<Vec<_>>().join("\n");
        // That of an unlogged table begins anew with its table.
        let sequences = cluster.sql(
            "select sequencename, coalesce(last_value, 0) from pg_sequences join pg_class on relname = sequencename
              where relpersistence = 'p' order by 1",
        );
        let sequence = |line: &str| {
            let (name, value) = line.split_once('|').expect("two columns");
            (name.to_owned(), value.parse().expect("a number"))
        };
        Self {
            dump,
            prepared: cluster.sql("select coalesce(string_agg(gid, ', ' order by gid), '') from pg_prepared_xacts"),
            sequences: sequences.lines().map(sequence).collect(),
        }
    }
}

/// A primary that another cluster has taken the place of.
#[derive(Debug)]
struct FormerPrimary {
    cluster: Cluster,
    tablespaces: PathBuf,
}

/// The cluster and all that belongs to it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) site: Site,
    /// The directory with a directory for each tablespace of the cluster.
    tablespaces: PathBuf,
    former: Option<FormerPrimary>,
    pub(crate) moments: Vec<Moment>,
    /// How many clusters there have been.
    clusters: usize,
    shape: Shape,
    checksums: bool,
    /// Whether the WAL has told of every hint on the pages since the first backup. Of those on one page it has the first
    /// after each checkpoint, so that a standby has fewer than its primary.
    hints_are_the_same: bool,
    /// Whether the cluster had page checksums at the newest backup on the way here.
    newest_had_checksums: Option<bool>,
    /// Whether the WAL since then tells all that has changed.
    wal_is_whole: bool,
    /// Whether changes may fail, because some before them were left out.
    pub(crate) forgiving: bool,
}

impl World {
    /// Makes the cluster and its stanza.
    pub(crate) fn new(server: &Server, shape: Shape) -> Self {
        let mut builder = Site::builder(server);
        if !shape.checksums {
            builder = builder.without_checksums();
        }
        if shape.encrypted {
            builder = builder.passphrase(PASSPHRASE);
        }
        if server.major() >= 17 {
            builder = builder.setting("summarize_wal", "on");
        }
        let on_or_off = |on| if on { "on" } else { "off" };
        let site = builder
            .setting("wal_log_hints", on_or_off(shape.wal_log_hints))
            .setting("wal_compression", on_or_off(shape.wal_compression))
            .setting("wal_level", wal_level(shape))
            .setting("max_prepared_transactions", "10")
            // pg_rewind needs the WAL since the clusters parted.
            .setting("wal_keep_size", "500MB")
            // A quiet cluster is to be quiet.
            .setting("autovacuum", "off")
            // A script that waits for itself is to end.
            .setting("lock_timeout", "20s")
            .start();
        let tablespaces = site.scratch.directory("tablespaces0");
        let away = site.scratch.directory("tablespaces0/away");
        site.cluster.sql(&format!("create tablespace away location '{}'", away.display()));
        site.cluster.sql(FOUNDATION);
        let checksums = shape.checksums;
        Self {
            site,
            tablespaces,
            former: None,
            moments: Vec::new(),
            clusters: 1,
            shape,
            checksums,
            hints_are_the_same: checksums || shape.wal_log_hints,
            newest_had_checksums: None,
            wal_is_whole: true,
            forgiving: false,
        }
    }

    /// The pass phrase of the repository, if it has one.
    pub(crate) fn passphrase(&self) -> Option<&'static str> {
        self.shape.encrypted.then_some(PASSPHRASE)
    }

    /// Lets the step with this number happen.
    pub(crate) fn take(&mut self, number: usize, step: &Step) {
        match step {
            Step::Change(change) => self.change(number, *change),
            Step::Event(event) => self.happen(number, event),
            Step::Backup(backup) => self.back_up(number, *backup),
            Step::KilledBackup { backup, after_ms } => {
                let before = self.labels();
                self.kill(&arguments(*backup), *after_ms);
                // The server ends the session of a killed backup by itself.
                let sessions = "select count(*) from pg_stat_activity where application_name like 'pgark%'";
                self.site.cluster.wait_for_sql(sessions, "0");
                // It may have been quicker than that.
                if self.labels().iter().any(|label| !before.contains(label)) {
                    say("     it was taken");
                    self.note_backup();
                }
            }
            Step::Expire { retention, killed_after_ms } => self.expire(*retention, *killed_after_ms),
        }
    }

    fn change(&self, number: usize, change: Change) {
        let (database, sql) = change.sql(number);
        match self.site.cluster.try_sql_in(&database, &sql) {
            Err(error) if !self.forgiving => panic!("SQL fails: {error}\n{sql}"),
            Err(error) => say(&format!("     {error}")),
            Ok(_) => {}
        }
    }

    fn happen(&mut self, number: usize, event: &Event) {
        let cluster = &mut self.site.cluster;
        match event {
            Event::Restart => cluster.restart(),
            Event::Crash => {
                cluster.stop(Stop::Immediate);
                cluster.start();
            }
            Event::Kill => {
                cluster.kill9();
                cluster.start();
            }
            Event::FailOver { from, old_crashes } => self.fail_over(*from, *old_crashes),
            Event::Rewind => self.rewind(),
            Event::GoBack { to } => self.go_back(*to),
            Event::Checksums { on } => {
                self.with_stopped("pg_checksums", &[if *on { "--enable" } else { "--disable" }]);
                self.checksums = *on;
                self.hints_are_the_same = false;
            }
            Event::WithoutWal { changes } => self.without_wal(number, changes),
            Event::ResetWal => {
                self.with_stopped("pg_resetwal", &[]);
                self.wal_is_whole = false;
            }
        }
    }

    /// Has a tool change the cluster while it is shut down.
    fn with_stopped(&mut self, tool: &str, arguments: &[&str]) {
        self.former = None;
        let cluster = &mut self.site.cluster;
        cluster.stop(Stop::Fast);
        run(cluster.server().tool(tool).args(arguments).arg("--pgdata").arg(cluster.data_directory())).expect_success();
        cluster.start();
    }

    fn without_wal(&mut self, number: usize, changes: &[Change]) {
        self.former = None;
        self.wal_is_whole = false;
        let has_summaries = self.site.cluster.server().major() >= 17;
        let cluster = &mut self.site.cluster;
        let configure = |cluster: &Cluster, settings: &[(&str, &str)]| {
            for (name, value) in settings {
                if *name != "summarize_wal" || has_summaries {
                    cluster.configure(name, value);
                }
            }
        };
        cluster.stop(Stop::Fast);
        let without =
            [("archive_mode", "off"), ("max_wal_senders", "0"), ("wal_level", "minimal"), ("summarize_wal", "off")];
        configure(cluster, &without);
        cluster.start();
        for change in changes {
            self.change(number, *change);
        }
        let cluster = &mut self.site.cluster;
        cluster.stop(Stop::Fast);
        let with = [
            ("archive_mode", "on"),
            ("max_wal_senders", "10"),
            ("wal_level", wal_level(self.shape)),
            ("summarize_wal", "on"),
        ];
        configure(cluster, &with);
        cluster.start();
    }

    fn moment(&self, step: usize) -> &Moment {
        self.moments.iter().find(|moment| moment.step == step).expect("a backup was taken in that step")
    }

    fn fail_over(&mut self, from: usize, old_crashes: bool) {
        self.hints_are_the_same = false;
        let number = self.clusters;
        self.clusters += 1;
        let tablespaces = self.site.scratch.directory(&format!("tablespaces{number}"));
        let data = self.site.scratch.path().join(format!("data{number}"));
        self.site
            .pgark(&[
                &format!("--pg1-path={}", data.display()),
                &format!("--tablespace-map-all={}", tablespaces.display()),
                &format!("--set={}", self.moment(from).label),
                &format!("--recovery-option=primary_conninfo={}", self.site.cluster.connection_string()),
                "--target-timeline=latest",
                "--type=standby",
                "restore",
            ])
            .expect_success();
        let mut standby = Cluster::adopt(self.site.cluster.server(), &data);
        standby.start();
        self.site.cluster.wait_for_replay(&standby);
        standby.promote();
        // It has this cluster's path, which the former primary would take over with the rest of the settings.
        standby.sql("alter system reset restore_command");
        let mut old = self.site.take_over_by(standby);
        // What nobody hears of any more.
        old.sql("update busy set counter = -1, line = 'lost' where id % 3 = 0; insert into fleeting select generate_series(1, 9000)");
        old.sql("create table lost as select generate_series(1, 1000) n; truncate journal");
        old.stop(if old_crashes { Stop::Immediate } else { Stop::Fast });
        let tablespaces = std::mem::replace(&mut self.tablespaces, tablespaces);
        self.former = Some(FormerPrimary { cluster: old, tablespaces });
        self.archive_all();
    }

    fn rewind(&mut self) {
        let FormerPrimary { cluster: mut old, tablespaces } = self.former.take().expect("there is a former primary");
        let source = format!("--source-server={} dbname=postgres", self.site.cluster.connection_string());
        let mut rewind = old.server().tool("pg_rewind");
        rewind.args([&source, "--write-recovery-conf", "--no-sync", "--target-pgdata"]).arg(old.data_directory());
        run(&mut rewind).expect_success();
        old.start();
        self.site.cluster.wait_for_replay(&old);
        self.site.cluster.stop(Stop::Fast);
        old.promote();
        drop(self.site.take_over_by(old));
        self.tablespaces = tablespaces;
        self.archive_all();
    }

    fn go_back(&mut self, to: usize) {
        self.former = None;
        let moment = self.moment(to).clone();
        self.site.cluster.stop(Stop::Fast);
        self.site
            .pgark(&[
                &format!("--tablespace-map-all={}", self.tablespaces.display()),
                &format!("--set={}", moment.label),
                &format!("--target={}", moment.restore_point),
                "--type=name",
                "--target-timeline=current",
                "--target-action=promote",
                "--delta",
                "restore",
            ])
            .expect_success();
        let cluster = &mut self.site.cluster;
        cluster.start();
        cluster.wait_for_sql("select pg_is_in_recovery()", "f");
        // They would hold a standby back that is made later.
        cluster.sql(
            "alter system reset recovery_target_name; alter system reset recovery_target_timeline;
             alter system reset recovery_target_action",
        );
        self.checksums = moment.checksums;
        self.newest_had_checksums = Some(moment.checksums);
        self.wal_is_whole = true;
        self.hints_are_the_same &= moment.checksums || self.shape.wal_log_hints;
        self.archive_all();
    }

    /// Sees to it that everything so far is in the archive, the history of the timeline included.
    fn archive_all(&self) {
        self.site.archive_segment();
    }

    fn back_up(&mut self, number: usize, backup: Backup) {
        let cluster = &self.site.cluster;
        let script = self.site.scratch.write("unrest.sql", UNREST);
        let unrest = backup.unrest.then(|| cluster.load_script(&script));
        let arguments = arguments(backup);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let finished = self.site.pgark(&[&["--log-level-console=info"], &arguments[..]].concat()).expect_success();
        let label = finished.stdout.lines().find_map(|line| line.split_once("new backup label = "));
        let label = label.unwrap_or_else(|| panic!("no label in {}", finished.report())).1.to_owned();
        if let Some(unrest) = unrest {
            unrest.stop();
            cluster.wait_for_idleness();
        }
        let restore_point = format!("after step {number}");
        cluster.sql(&format!("select pg_create_restore_point('{restore_point}')"));
        let view = View::of(cluster);
        self.archive_all();
        say(&format!("     {label}"));
        let telling = ["WARN", "last backup label", "all files are read", "taken over", "pages are stored"];
        for line in finished.stdout.lines().filter(|line| telling.iter().any(|part| line.contains(part))) {
            say(&format!("    {line}"));
        }
        judge::nothing_is_unexplained(&finished.stdout);
        if backup.kind != BackupKind::Full && backup.reuse && !backup.delta {
            judge::all_is_read_where_it_must_be(&finished.stdout, self.changes_are_known());
        }
        let (quiet, checksums) = (!backup.unrest, self.checksums);
        let moment = Moment { step: number, label, restore_point, quiet, wal_goes_on: true, checksums, view };
        if quiet {
            judge::pages_are_those_of_the_cluster(self, &moment, self.hints_are_the_same);
        }
        self.moments.push(moment);
        self.note_backup();
    }

    /// Whether the WAL tells of all changes since the newest backup on the way here, if there is one.
    fn changes_are_known(&self) -> bool {
        self.newest_had_checksums.is_none_or(|checksums| self.wal_is_whole && checksums == self.checksums)
    }

    /// Notes that a backup was taken just now.
    fn note_backup(&mut self) {
        self.newest_had_checksums = Some(self.checksums);
        self.wal_is_whole = true;
    }

    /// Runs the program and kills it.
    fn kill(&self, arguments: &[String], after_ms: u32) {
        let stanza = format!("--stanza={STANZA}");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.site.command(&[&[stanza.as_str()], &arguments[..]].concat());
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
        thread::sleep(Duration::from_millis(after_ms.into()));
        let ended = child.try_wait().expect("the child can be asked");
        let _ended_already = child.kill();
        child.wait().expect("the child can be waited for");
        say(if ended.is_some() { "     it had ended before" } else { "     killed" });
    }

    fn expire(&mut self, retention: Retention, killed_after_ms: Option<u32>) {
        let Retention { full, diff, archive } = retention;
        let mut arguments = vec![format!("--repo1-retention-full={full}"), "expire".to_owned()];
        arguments.extend(diff.map(|diff| format!("--repo1-retention-diff={diff}")));
        arguments.extend(archive.map(|archive| format!("--repo1-retention-archive={archive}")));
        if let Some(after_ms) = killed_after_ms {
            self.kill(&arguments, after_ms);
        } else {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.site.pgark(&arguments).expect_success();
        }
        let kept = self.labels();
        let newest = self.moments.last().map(|moment| &moment.label);
        assert!(newest.is_some_and(|newest| kept.contains(newest)), "the newest backup is gone: {kept:?}");
        self.moments.retain(|moment| kept.contains(&moment.label));
        if archive.is_some() {
            let older = self.moments.len() - 1;
            self.moments[..older].iter_mut().for_each(|moment| moment.wal_goes_on = false);
        }
        say(&format!(
            "     kept {}",
            self.moments.iter().map(|moment| moment.step.to_string()).collect::<Vec<_>>().join(", ")
        ));
    }

    /// The labels of the backups that info shows.
    pub(crate) fn labels(&self) -> Vec<String> {
        let json = self.site.pgark(&["--output=json", "info"]).expect_success().stdout;
        let stanzas: serde_json::Value = serde_json::from_str(&json).expect("info writes JSON");
        let backups = stanzas[0]["backup"].as_array().expect("a stanza has backups");
        backups.iter().map(|backup| backup["label"].as_str().expect("a backup has a label").to_owned()).collect()
    }

    /// Expires with the rule that keeps all, until nothing is left that no backup needs.
    pub(crate) fn sweep(&self) {
        for _ in 0..3 {
            self.site.pgark(&["--repo1-retention-full=1000", "expire"]).expect_success();
        }
    }
}

fn arguments(backup: Backup) -> Vec<String> {
    let kind = match backup.kind {
        BackupKind::Full => "full",
        BackupKind::Diff => "diff",
        BackupKind::Incr => "incr",
    };
    let mut arguments = vec![format!("--type={kind}"), format!("--process-max={}", backup.workers)];
    if backup.delta {
        arguments.push("--delta".to_owned());
    }
    if !backup.reuse {
        arguments.push("--no-reuse".to_owned());
    }
    arguments.push("backup".to_owned());
    arguments
}

fn wal_level(shape: Shape) -> &'static str {
    if shape.logical { "logical" } else { "replica" }
}

/// Tells what happens; shown where a test fails.
#[expect(clippy::print_stderr, reason = "the script of a run that failed is what one needs to know")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
