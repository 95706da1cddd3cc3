//! The policies of docs/s3.md: each is enough for the commands it is for, and nothing in it is too much.

use std::path::PathBuf;

use pgark_storage::s3::{CredentialSettings, ServerEncryption, UriStyle};
use pgark_storage::{Endpoint, Key, S3Settings, S3Storage, Secret, Storage, Trust};
use pgark_system::pace::Pacer;
use pgark_testkit::s3::{Call, Policy, S3Server};
use pgark_testkit::{Finished, Server};

use crate::common::{Site, text};
use crate::{in_server, name_of, said, with_keys};

/// A policy of the documentation, with the commands that it says it is for.
struct Documented {
    commands: Vec<String>,
    policy: Policy,
}

/// The policies below this heading, in their order.
fn documented() -> [Documented; 3] {
    let document = include_str!("../../../../docs/s3.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Rights\n")).expect("there is a section");
    let parts: Vec<_> = section.split("\n### ").skip(1).collect();
    let read = |part: &&str| {
        let (text, rest) = part.split_once("```json\n").expect("there is a policy");
        let (policy, _) = rest.split_once("```").expect("it ends");
        let policy = policy.replace("arn:aws:s3:::acme-backups", &format!("arn:aws:s3:::{}", S3Server::BUCKET));
        let line = text.lines().find(|line| line.starts_with("For ")).expect("it says what it is for");
        let commands = line.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect();
        Documented { commands, policy: Policy::parse(&policy) }
    };
    let policies: Vec<_> = parts.iter().map(read).collect();
    policies.try_into().unwrap_or_else(|all: Vec<_>| panic!("{} policies", all.len()))
}

/// A repository below `main`, which the policies are for.
fn site(s3: &S3Server) -> crate::common::SiteBuilder {
    with_keys(in_server(&Server::get(18), s3), s3).passphrase("a pass phrase").repository_at("/main".as_ref())
}

fn denied(s3: &S3Server) -> usize {
    s3.requests().iter().filter(|request| request.status == Some(403)).count()
}

/// The policy is enough for the commands: they succeed, and not one request was refused.
#[track_caller]
fn is_enough(s3: &S3Server, policy: &Policy, commands: &[String], run: &mut dyn FnMut(&str) -> Finished) {
    s3.set_policy(policy.clone());
    s3.forget_requests();
    for command in commands {
        let finished = run(command).expect_success();
        assert!(!said(&finished).contains("WARN"), "{command}: {}", finished.report());
    }
    assert_eq!(denied(s3), 0, "{commands:?}: {:#?}", s3.requests());
}

/// Without any of its actions one of the commands says that it is refused.
#[track_caller]
fn is_not_too_much(s3: &S3Server, policy: &Policy, commands: &[String], run: &mut dyn FnMut(&str) -> Finished) {
    for (action, rest) in policy.each_without_one() {
        s3.set_policy(rest.clone());
        if action == "s3:AbortMultipartUpload" {
            assert_eq!(parts_left(s3), 1, "{action} is not needed");
            s3.set_policy(policy.clone());
            assert_eq!(parts_left(s3), 1, "{action} is not enough");
            continue;
        }
        let refused = commands.iter().map(|command| run(command)).find(|run| said(run).contains("AccessDenied"));
        let refused = refused.unwrap_or_else(|| panic!("no command needs {action}"));
        assert!(said(&refused).contains(&action), "{action} is not named: {}", refused.report());
        assert!(matches!(refused.code(), Some(0 | 39 | 167)), "{action}: {}", refused.report());
    }
}

/// Begins an upload below `main` and gives it up; gives how many there are that have begun and not ended.
fn parts_left(s3: &S3Server) -> usize {
    let credentials = s3.credentials();
    let settings = S3Settings {
        endpoint: Endpoint::parse(&s3.url()).unwrap(),
        region: s3.region().to_owned(),
        bucket: S3Server::BUCKET.to_owned(),
        style: UriStyle::Path,
        path: "/main".to_owned(),
        proxy: None,
        trust: Trust::System,
        credentials: CredentialSettings::Keys {
            key: Secret::new(&credentials.access_key),
            secret: Secret::new(&credentials.secret),
            token: None,
        },
        encryption: ServerEncryption::Default,
        tags: Vec::new(),
        requester_pays: false,
        part_size: S3Settings::PART_SIZE_MIN,
        io_timeout: std::time::Duration::from_secs(30),
        pacer: Pacer::unlimited(),
    };
    let storage = S3Storage::open(&settings).unwrap();
    let mut writer = storage.create(&Key::parse("given-up").unwrap()).unwrap();
    writer.write(&vec![7; S3Settings::PART_SIZE_MIN + 1]).unwrap();
    drop(writer);
    s3.unfinished_uploads()
}

fn empty(s3: &S3Server) {
    s3.keys().iter().for_each(|key| s3.remove(key));
}

#[test]
fn the_policy_of_who_may_do_everything() {
    let [everything, ..] = documented();
    assert_eq!(everything.commands, ["stanza-create", "stanza-upgrade", "stanza-delete"]);
    let s3 = S3Server::start();
    let (mine, other) = (site(&s3).create(), site(&s3).create());
    let upgraded = format!("--pg1-path={}", other.cluster.data_directory().display());
    let mut run = |command: &str| match command {
        "stanza-create" => {
            empty(&s3);
            let _started = mine.pgark(&["start"]);
            mine.pgark(&["stanza-create", "--no-online"])
        }
        "stanza-upgrade" => mine.pgark(&["stanza-upgrade", "--no-online", &upgraded]),
        _ => {
            mine.pgark(&["stop"]).expect_success();
            mine.pgark(&["stanza-delete"])
        }
    };
    is_enough(&s3, &everything.policy, &everything.commands, &mut run);
    assert_eq!(s3.keys().len(), 2, "only the descriptor and the key are left: {:?}", s3.keys());
    is_not_too_much(&s3, &everything.policy, &everything.commands, &mut run);
}

/// A backup, and a segment after it.
struct Stored {
    label: String,
    /// A copy beside the server, which may use its file again.
    segment: PathBuf,
}

impl Stored {
    fn by(site: &Site) -> Self {
        let label = site.backup(&[]);
        let name = site.archive_segment();
        let content = fs_err::read(site.cluster.data_directory().join("pg_wal").join(&name)).unwrap();
        Self { label, segment: site.scratch.write(&name, content) }
    }
}

/// Runs a command on a stanza that has a backup.
fn run_on(site: &Site, stored: &Stored, number: &mut usize, command: &str) -> Finished {
    *number += 1;
    let target = site.scratch.path().join(format!("target-{number}"));
    let Stored { label, segment } = stored;
    match command {
        "archive-push" => site.pgark(&[command, text(segment)]),
        "archive-get" => site.pgark(&[command, name_of(segment), text(&target)]),
        "backup" => site.pgark(&[command, "--type=full", "--no-expire-auto"]),
        "annotate" => site.pgark(&[&format!("--set={label}"), "--annotation=why=because", command]),
        "restore" => site.pgark(&[command, &format!("--pg1-path={}", target.display()), "--type=immediate"]),
        "repo-get" => {
            pgark_testkit::run(&mut site.command(&[command, &format!("stanza/demo/backup/{label}/manifest")]))
        }
        "repo-ls" => pgark_testkit::run(&mut site.command(&["--recurse", command])),
        _ => site.pgark(&[command]),
    }
}

#[test]
fn the_policy_of_who_may_not_destroy_backups() {
    let [everything, backups, _] = documented();
    let all = ["archive-push", "archive-get", "backup", "annotate", "check", "info", "restore", "repo-ls", "repo-get"];
    assert_eq!(backups.commands, all);
    let s3 = S3Server::start();
    let mut site = site(&s3).start();
    let (stored, mut number) = (Stored::by(&site), 0);
    let archived = s3.keys().into_iter().find(|key| key.ends_with(name_of(&stored.segment))).unwrap();
    let mut run = |site: &Site, command: &str| {
        if command == "archive-push" {
            // What is pushed twice is warned of.
            s3.remove(&archived);
        }
        run_on(site, &stored, &mut number, command)
    };
    is_enough(&s3, &everything.policy, &backups.commands, &mut |command| run(&site, command));
    is_enough(&s3, &backups.policy, &backups.commands, &mut |command| run(&site, command));
    is_not_too_much(&s3, &backups.policy, &backups.commands, &mut |command| run(&site, command));

    s3.set_policy(backups.policy);
    site.cluster.stop(pgark_testkit::Stop::Fast);
    let before = s3.keys();
    site.pgark(&["stop"]).expect_success();
    let refused = site.pgark(&["stanza-delete"]).expect_code(39);
    assert!(refused.stdout.contains("s3:DeleteObject"), "{}", refused.report());
    let sessions = |key: &&String| !key.contains("/session/");
    let kept: Vec<_> = s3.keys().into_iter().filter(|key| sessions(&key)).collect();
    assert_eq!(kept, before.iter().filter(sessions).cloned().collect::<Vec<_>>(), "something was deleted");
}

#[test]
fn the_policy_of_who_may_only_read() {
    let [_, _, reading] = documented();
    assert_eq!(reading.commands, ["archive-get", "info", "restore", "repo-ls", "repo-get", "verify"]);
    // These write something where they may, and do without where they may not.
    let (without, commands): (Vec<_>, Vec<_>) =
        reading.commands.into_iter().partition(|command| ["restore", "verify"].contains(&command.as_str()));
    let s3 = S3Server::start();
    let mut site = site(&s3).start();
    let (stored, mut number) = (Stored::by(&site), 0);
    site.cluster.stop(pgark_testkit::Stop::Fast);
    let mut run = |command: &str| run_on(&site, &stored, &mut number, command);
    is_enough(&s3, &reading.policy, &commands, &mut run);
    is_not_too_much(&s3, &reading.policy, &commands, &mut run);
    s3.set_policy(reading.policy);
    for command in &without {
        run(command).expect_success();
    }
    let before = s3.keys();
    for (command, arguments) in [("annotate", &[][..]), ("backup", &["--no-online", "--type=full"][..])] {
        let finished = if arguments.is_empty() { run(command) } else { site.pgark(&[arguments, &[command]].concat()) };
        // Of one repository among several `annotate` says only that it failed.
        let refused = finished.expect_code(if command == "annotate" { 104 } else { 39 });
        assert!(refused.stdout.contains("s3:PutObject"), "{}", refused.report());
    }
    assert_eq!(s3.keys(), before);
    assert_eq!(s3.count(Call::DeleteObject), 0);
}
