//! `pgark agent` and `pgark schedule`

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use pgark_testkit::faults::SmallFileSystem;
use pgark_testkit::{Server, Stop, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Host, STANZA, Site, SiteBuilder, text};

/// A site whose agent has this schedule, and remembers what ran.
fn site(lines: &[&str]) -> Site {
    let with = |builder: SiteBuilder, line: &&str| builder.global(line);
    lines.iter().fold(Site::builder(&Server::get(17)), with).start()
}

/// An agent that runs. It is killed when it is dropped.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn start(site: &Site, name: &str, environment: &[(&str, &str)]) -> Self {
        let log = site.scratch.path().join(format!("{name}.txt"));
        let file = fs::File::create(&log).unwrap();
        let mut command = site.command(&["--log-level-console=info", "agent"]);
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(file.into_parts().0);
        Self { child: command.spawn().expect("the program starts"), log }
    }

    /// An agent on another host.
    fn start_on(host: &Host, site: &Site) -> Self {
        let log = site.scratch.path().join("other-agent.txt");
        let file = fs::File::create(&log).unwrap();
        let mut command = host.command(site, &["--log-level-console=info", "agent"]);
        command.stdin(Stdio::null()).stdout(file.into_parts().0);
        Self { child: command.spawn().expect("the program starts"), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, what: &str) {
        wait_until(&format!("the agent to say '{what}'"), || self.log().contains(what));
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn manifests(site: &Site) -> usize {
    site.objects("/backup/").iter().filter(|path| path.ends_with("manifest")).count()
}

#[test]
fn backups_are_taken_by_schedule_by_one_agent_only() {
    let site = site(&["schedule-incr=*/5 * * * * *"]);
    let told = site.scratch.path().join("told");
    fs::write(&told, "").unwrap();
    fs::set_permissions(&told, Permissions::from_mode(0o666)).unwrap();
    let hook = format!("hook-success=echo $PGARK_HOOK_JOB >> {}", told.display());
    site.reconfigure("log-timestamp=n", &format!("log-timestamp=n\n{hook}"));
    let mut agent = Running::start(&site, "agent", &[]);
    wait_until("two backups", || manifests(&site) >= 2);

    let second = site.pgark(&["agent"]).expect_code(50);
    let other = format!("another agent looks after stanza '{STANZA}'");
    assert!(second.stdout.contains(&other), "{}", second.report());
    assert!(second.stdout.contains(&format!("process {} (agent)", agent.child.id())), "{}", second.report());

    let schedule = site.pgark(&["schedule"]).expect_success();
    for part in ["    incr: */5 * * * * * (", "        last run: ", ", ok, ", "        next run: "] {
        assert!(schedule.stdout.contains(part), "{}", schedule.report());
    }

    // Another schedule holds from now on.
    site.reconfigure("schedule-incr=*/5 * * * * *", "schedule-verify=*/5 * * * * *");
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was read again");
    agent.wait_for("verify completed");
    // What makes no sense changes nothing.
    site.reconfigure("schedule-verify=*/5 * * * * *", "schedule-verify=0 0 30 2 *");
    agent.signal(Signal::HUP);
    agent.wait_for("option 'schedule-verify': '0 0 30 2 *' never comes");

    agent.signal(Signal::TERM);
    assert_eq!(agent.child.wait().unwrap().code(), Some(0), "{}", agent.log());
    assert!(!agent.log().contains("failed"), "{}", agent.log());
    let told = fs::read_to_string(told).unwrap();
    assert!(told.starts_with("incr\nincr\n") && told.contains("verify\n"), "{told}");
}

#[test]
fn what_was_missed_is_caught_up_once() {
    let site = site(&["schedule-full=*/4 * * * * *"]);
    let mut agent = Running::start(&site, "first", &[]);
    agent.wait_for("full completed");
    agent.signal(Signal::KILL);
    agent.child.wait().unwrap();
    // A job that it has left behind goes on, and is waited for.
    thread::sleep(Duration::from_secs(13));
    let agent = Running::start(&site, "second", &[]);
    agent.wait_for("full completed");
    let log = agent.log();
    let begun: Vec<_> = log.lines().filter(|line| line.contains("begin full")).collect();
    assert!(begun[0].contains("it stands for "), "{log}");
    let times = begun[0].split("it stands for ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(times.parse::<u32>().unwrap() >= 3, "{log}");
    let before = log.split("full completed").next().unwrap();
    assert_eq!(before.matches("begin full").count(), 1, "{log}");
}

#[test]
fn a_job_waits_for_who_is_at_work_and_is_late_then() {
    let site = site(&["schedule-incr=*/5 * * * * *", "hook-late=exit 7"]);
    let lock = site.hold_lock("demo-backup-1.lock");
    let agent = Running::start(&site, "agent", &[]);
    agent.wait_for("incr runs already for ");
    // A hook that fails is told of, and changes nothing.
    agent.wait_for("hook-late failed: the command ended with exit status: 7");
    assert_eq!(agent.log().matches("begin incr").count(), 1, "{}", agent.log());
    drop(lock);
    agent.wait_for("incr completed");
    wait_until("another backup", || manifests(&site) >= 2);
}

#[test]
fn jobs_wait_while_the_stanza_is_stopped() {
    let site = site(&["schedule-incr=*/3 * * * * *"]);
    site.pgark(&["stop"]).expect_success();
    let agent = Running::start(&site, "agent", &[]);
    agent.wait_for("stop file exists for stanza demo: jobs wait until it is started");
    thread::sleep(Duration::from_secs(4));
    assert!(!agent.log().contains("begin incr"), "{}", agent.log());
    // It ends running commands, but not the agent.
    site.pgark(&["stop", "--force"]).expect_success();
    site.pgark(&["start"]).expect_success();
    agent.wait_for("incr completed");
}

#[test]
fn what_is_due_runs_once_without_a_service() {
    let site = site(&["schedule-incr=*/2 * * * * *"]);
    let once = |code| site.pgark(&["--log-level-console=info", "agent", "--once"]).expect_code(code);
    let first = once(0);
    assert!(first.stdout.contains("nothing is due: the next job is due at "), "{}", first.report());
    thread::sleep(Duration::from_secs(3));
    let second = once(0);
    assert_eq!(second.stdout.matches("incr completed").count(), 1, "{}", second.report());
    assert_eq!(manifests(&site), 1);
    site.reconfigure("[demo]", "[demo:backup]\narchive-timeout=1s\n[demo]");
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    thread::sleep(Duration::from_secs(2));
    let failed = once(104);
    assert!(failed.stdout.contains("incr failed with exit code 82"), "{}", failed.report());
    assert!(failed.stdout.contains("1 of 1 jobs failed: incr of stanza 'demo'"), "{}", failed.report());
}

/// Whoever calls an agent by a timer is not called back once a minute for one and the same thing.
#[test]
fn what_was_told_once_is_not_told_by_the_next_agent_again() {
    let site = site(&["schedule-incr=*/5 * * * * *", "agent-look-interval=1s"]);
    let told = site.scratch.path().join("told");
    fs::write(&told, "").unwrap();
    fs::set_permissions(&told, Permissions::from_mode(0o666)).unwrap();
    let hook = |event: &str| format!("hook-{event}=echo $PGARK_HOOK_EVENT $PGARK_HOOK_MESSAGE >> {}", told.display());
    let hooks = [hook("late"), hook("wal-gap")].join("\n");
    site.reconfigure("log-timestamp=n", &format!("log-timestamp=n\n{hooks}"));
    let once = || site.pgark(&["agent", "--once"]).expect_success();
    let told = || fs::read_to_string(&told).unwrap();
    once();
    thread::sleep(Duration::from_secs(6));
    once();
    assert_eq!(manifests(&site), 1);

    let lost = site.archive_segment();
    site.archive_segment();
    fs::remove_file(site.object(&lost)).unwrap();
    site.pgark(&["stop"]).expect_success();
    thread::sleep(Duration::from_secs(11));
    for _ in 0..3 {
        once();
        thread::sleep(Duration::from_millis(1100));
    }
    let lines = told();
    assert_eq!(lines.matches("late the last good incr began at ").count(), 1, "{lines}");
    let gap = format!("wal-gap repo1: WAL segment {lost} is missing\n");
    assert_eq!((lines.matches(&gap).count(), lines.matches("wal-gap").count()), (1, 1), "{lines}");

    // What was right again meanwhile is told anew.
    site.pgark(&["start"]).expect_success();
    let kept = site.pgark(&["--log-level-console=info", "agent", "--once"]).expect_success();
    assert!(kept.stdout.contains("the schedule of incr is kept again"), "{}", kept.report());
    site.pgark(&["stop"]).expect_success();
    thread::sleep(Duration::from_secs(11));
    once();
    assert_eq!(told().matches("late the last good incr").count(), 2, "{}", told());
}

/// Would lose: knowing that WAL is lost before somebody needs it. The archive shows no gap as long as nothing comes after it.
#[test]
fn wal_that_is_dropped_is_an_alarm() {
    let site = site(&["schedule-full=0 0 1 1 *", "agent-look-interval=1s", "archive-push-queue-max=2MiB"]);
    let told = site.scratch.path().join("told");
    fs::write(&told, "").unwrap();
    fs::set_permissions(&told, Permissions::from_mode(0o666)).unwrap();
    let hook = format!("hook-wal-gap=echo $PGARK_HOOK_EVENT $PGARK_HOOK_MESSAGE >> {}", told.display());
    site.reconfigure("log-timestamp=n", &format!("log-timestamp=n\nagent-listen=none\n{hook}"));
    site.backup(&[]);
    let agent = Running::start(&site, "agent", &[]);
    agent.wait_for("look after the schedule");
    let (repository, taken) = (site.repository(), site.scratch.path().join("taken"));
    fs::rename(&repository, &taken).unwrap();
    let first = site.cluster.switch_wal();
    (0..4).for_each(|_| drop(site.cluster.switch_wal()));
    site.cluster.wait_for_log("dropped WAL file");
    agent.wait_for("because more waited than archive-push-queue-max allows: no recovery gets past them");
    assert!(agent.log().contains(&format!(" WAL file(s) from {first} to ")), "{}", agent.log());
    fs::rename(&taken, &repository).unwrap();
    wait_until("the hook to be called", || fs::read_to_string(&told).unwrap().starts_with("wal-gap repo1: "));
    site.archive_segment();
    drop(agent);

    // Who comes after it does not tell it again.
    let dropped = || fs::read_to_string(&told).unwrap();
    assert_eq!(dropped().matches("were dropped").count(), 1, "{}", dropped());
    site.pgark(&["agent", "--once"]).expect_success();
    assert_eq!(dropped().matches("were dropped").count(), 1, "{}", dropped());
}

/// A package that is upgraded puts another file where the program was.
#[test]
fn jobs_are_begun_after_the_program_was_replaced_too() {
    let site = site(&["schedule-incr=*/3 * * * * *", "agent-listen=none"]);
    let place = site.scratch.directory("program");
    let (program, next) = (place.join("pgark"), place.join("next"));
    fs::copy(site.command(&[]).get_program(), &program).unwrap();
    let log = site.scratch.path().join("agent.txt");
    let mut command = std::process::Command::new(&program);
    command.arg(format!("--config={}", site.configuration_file().display()));
    command.args(["--log-level-console=info", "agent"]).stdin(Stdio::null());
    command.stdout(fs::File::create(&log).unwrap().into_parts().0);
    let child = pgark_testkit::as_test_user(&mut command).spawn().unwrap();
    let agent = Running { child, log };
    agent.wait_for("incr completed");
    fs::copy(&program, &next).unwrap();
    fs::rename(&next, &program).unwrap();
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was read again");
    let good = agent.log().matches("incr completed").count();
    wait_until("a job to end", || {
        agent.log().matches("incr completed").count() > good || agent.log().contains("ERROR")
    });
    assert!(!agent.log().contains("ERROR"), "{}", agent.log());
}

#[test]
fn the_schedule_tells_of_what_is_at_work_and_of_what_keeps_it_from_beginning() {
    let site = site(&["schedule-incr=*/30 * * * * *", "agent-listen=none"]);
    site.reconfigure("[demo]", "[demo:backup]\narchive-timeout=30s\n[demo]");
    site.cluster.configure("archive_command", "false archive-push");
    site.cluster.reload();
    let agent = Running::start(&site, "agent", &[]);
    agent.wait_for("begin incr");
    let shown = |wanted: &str| site.pgark(&["schedule"]).expect_success().stdout.contains(wanted);
    wait_until("the backup to be shown", || shown("        running: since "));
    site.pgark(&["stop"]).expect_success();
    assert!(shown("    stopped: jobs wait until 'pgark start'\n"));
    // What an agent has begun that is gone ends too, and is not taken to run for ever.
    drop(agent);
    site.pgark(&["stop", "--force"]).expect_success();
    wait_until("the backup to be gone", || !shown("        running: since "));
}

#[test]
fn options_of_the_agent_in_the_section_of_a_stanza_are_not_passed_over_in_silence() {
    let site = site(&["schedule-incr=0 0 1 1 *"]);
    site.reconfigure("[demo]", "[demo]\nagent-listen=none");
    let all = run(&mut site.command(&["agent", "--print-unit"])).expect_success();
    let warning = "option 'agent-listen' in section [demo] is passed over: one agent looks after all stanzas";
    assert!(all.stderr.contains(warning) && !all.stdout.contains("WARN"), "{}", all.report());
    let one = site.pgark(&["agent", "--print-unit"]).expect_success();
    assert!(one.stderr.is_empty(), "{}", one.report());
}

#[test]
fn a_schedule_that_makes_no_sense_is_refused() {
    let site = Site::builder(&Server::get(17)).global("schedule-full=0 0 30 2 *").create();
    let refused = |code, what: &str| {
        let finished = site.pgark(&["agent"]).expect_code(code);
        assert!(finished.stdout.contains(what), "{}", finished.report());
    };
    refused(32, "option 'schedule-full': '0 0 30 2 *' never comes");
    site.reconfigure("schedule-full=0 0 30 2 *", "schedule-full=every day");
    refused(32, "option 'schedule-full': 'every day' is not a cron expression");
    site.reconfigure("schedule-full=every day", "schedule-full=@daily\nschedule-time-zone=Europe/Atlantis");
    refused(32, "option 'schedule-time-zone': 'Europe/Atlantis' is not a time zone");
    site.reconfigure("schedule-full=@daily\nschedule-time-zone=Europe/Atlantis", "");
    refused(37, "agent command requires option: schedule-full");
}

#[test]
fn a_standby_passes_backups_over_and_takes_them_after_its_promotion() {
    let mut site = site(&["schedule-incr=*/10 * * * * *", "agent-look-interval=1s", "agent-listen=none"]);
    site.cluster.sql("create table rows (id int); insert into rows values (1)");
    let mut standby = site.cluster.standby();
    let host = Host::new(&site, "other", &standby);
    standby.configure("archive_command", &host.archive_command(&site));
    standby.start();
    let primary_agent = Running::start(&site, "agent", &[]);
    // Without a service it is the same: what comes due is passed over, and late is nothing that the repositories have.
    let once = || host.pgark(&site, &["--log-level-console=info", "agent", "--once"]).expect_success();
    once();
    thread::sleep(Duration::from_secs(11));
    let second = once();
    assert!(second.stdout.contains("is passed over"), "{}", second.report());
    assert!(!second.stdout.contains("WARN") && !second.stdout.contains("begin incr"), "{}", second.report());
    let agent = Running::start_on(&host, &site);
    agent.wait_for("the cluster here is a standby: its backups are taken where its primary is");
    wait_until("three backups", || manifests(&site) >= 3);
    let passed_over = || agent.log().matches("is passed over: the cluster here is a standby").count();
    wait_until("two backups to be passed over", || passed_over() >= 2);
    let log = agent.log();
    for alarm in ["begin incr", "last good", "no good", "WARN", "ERROR"] {
        assert!(!log.contains(alarm), "{alarm}: {log}");
    }
    let told = host.pgark(&site, &["schedule"]).expect_success();
    for part in ["    standby: backups are passed over", "        last passed over: due at ", "last run: none"] {
        assert!(told.stdout.contains(part), "{}", told.report());
    }
    assert!(!told.stdout.contains("late"), "{}", told.report());

    // Whether backups are missing is judged by what there is, on whichever host.
    drop(primary_agent);
    agent.wait_for("the last good incr began at ");
    assert!(!agent.log().contains("begin incr"), "{}", agent.log());

    site.cluster.stop(Stop::Fast);
    standby.promote();
    standby.sql("insert into rows values (2)");
    agent.wait_for("the cluster here is a standby no more");
    agent.wait_for("incr completed");
    agent.wait_for("the schedule of incr is kept again");
    // It is told before it is written down.
    wait_until("the schedule to tell of the backup", || {
        let told = host.pgark(&site, &["schedule"]).expect_success().stdout;
        !told.contains("standby") && told.contains(", ok, ")
    });
    drop(agent);
    let restored = site.recover("restored", &[]);
    assert_eq!(restored.sql("select string_agg(id::text, ' ' order by id) from rows"), "1 2");
}

#[test]
fn what_ran_by_a_wrong_clock_or_elsewhere_is_no_reason_to_stop() {
    let site = site(&["schedule-incr=*/4 * * * * *", "agent-listen=none"]);
    let agent = Running::start(&site, "first", &[]);
    agent.wait_for("incr completed");
    drop(agent);
    let file = site.scratch.path().join("spool/agent/demo.json");
    let known: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let with = |pointer: &str, value: &str| {
        let mut changed = known.clone();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        changed.to_string()
    };
    // The clock was years ahead when it ran; the file is another stanza's, as in a spool of another host; it is torn.
    for (name, content, message) in [
        ("ahead", with("/jobs/incr/settled", "2100-01-01T00:00:00Z"), "the clock was wrong then, or is now"),
        ("foreign", with("/stanza", "other"), "it is of stanza 'other': what was missed meanwhile is not caught up"),
        ("torn", known.to_string()[..40].to_owned(), "EOF while parsing"),
    ] {
        fs::write(&file, content).unwrap();
        let before = manifests(&site);
        let agent = Running::start(&site, name, &[]);
        agent.wait_for(message);
        agent.wait_for("incr completed");
        assert!(manifests(&site) > before, "{}", agent.log());
    }
}

#[test]
fn backups_go_on_with_a_spool_that_is_full() {
    let disk = SmallFileSystem::new(1);
    let builder = Site::builder(&Server::get(17)).spool_at(disk.path());
    let site = builder.global("schedule-incr=*/4 * * * * *").global("agent-listen=none").start();
    let agent = Running::start(&site, "agent", &[]);
    agent.wait_for("incr completed");
    let filler = disk.path().join("filler");
    let mut bytes = 1 << 20;
    while bytes > 0 && fs::write(&filler, vec![1; bytes]).is_err() {
        bytes -= 4096;
    }
    let before = manifests(&site);
    wait_until("two more backups", || manifests(&site) >= before + 2);
    if disk.is_limited() {
        agent.wait_for("unable to write down what ran: ");
        drop(agent);
        let refused = site.pgark(&["agent"]).expect_code(64);
        assert!(refused.stdout.contains("No space left on device"), "{}", refused.report());
    }
}

#[test]
fn systemd_is_told_how_the_agent_is() {
    let site = site(&["schedule-incr=0 0 1 1 *"]);
    let path = site.scratch.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let environment = [("NOTIFY_SOCKET", text(&path)), ("WATCHDOG_USEC", "3000000")];
    let mut agent = Running::start(&site, "agent", &environment);
    let next = || {
        let mut message = [0; 1000];
        let length = socket.recv(&mut message).expect("the agent tells something");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let wait_for = |what: &str| while !next().contains(what) {};
    assert!(next().starts_with("READY=1\nSTATUS=1 stanza(s), 1 job(s)"));
    wait_for("WATCHDOG=1");
    agent.signal(Signal::HUP);
    wait_for("RELOADING=1\nMONOTONIC_USEC=");
    wait_for("READY=1");
    agent.signal(Signal::TERM);
    wait_for("STOPPING=1");
    assert_eq!(agent.child.wait().unwrap().code(), Some(0), "{}", agent.log());
}

#[test]
fn units_and_lines_of_a_crontab_are_printed() {
    let site = site(&["schedule-full=30 2 * * 0", "schedule-time-zone=Europe/Berlin"]);
    // It is written to a file: there is nothing else in it, whatever is logged.
    let unit = site.pgark(&["--log-level-console=info", "agent", "--print-unit"]).expect_success();
    assert!(unit.stdout.starts_with("# /etc/systemd/system/pgark-agent.service\n"), "{}", unit.report());
    assert!(!unit.stdout.contains("P00"), "{}", unit.report());
    for line in ["Type=notify", "WatchdogSec=60", "ExecReload=/bin/kill -HUP $MAINPID", "KillMode=mixed"] {
        assert!(unit.stdout.lines().any(|found| found == line), "{}", unit.report());
    }
    let timer = site.pgark(&["agent", "--print-timer"]).expect_success();
    assert!(
        timer.stdout.contains("OnCalendar=*:0/1") && timer.stdout.contains(" agent --once\n"),
        "{}",
        timer.report()
    );
    // What is printed for cron is a command that works.
    site.reconfigure("schedule-full=30 2 * * 0", "schedule-full=31 2 * * 0");
    let cron = site.pgark(&["agent", "--print-cron"]).expect_success();
    assert!(cron.stdout.contains("CRON_TZ=Europe/Berlin\n31 2 * * 0 "), "{}", cron.report());
    let line = cron.stdout.lines().find_map(|line| line.strip_prefix("31 2 * * 0 ")).unwrap();
    let mut shell = std::process::Command::new("sh");
    run(pgark_testkit::as_test_user(shell.args(["-c", line]))).expect_success();
    assert_eq!(manifests(&site), 1);
}
