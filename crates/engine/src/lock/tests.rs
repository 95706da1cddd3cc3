use super::*;
use crate::progress::{Board, Unit};

fn locks(directory: &Path, wait: Duration) -> Locks {
    Locks { directory: directory.to_owned(), wait }
}

#[test]
fn a_lock_is_of_one_stanza_even_where_names_begin_alike() {
    for (name, stanza) in [
        ("demo-backup-1.lock", Some("demo")),
        ("demo-two-restore-12.lock", Some("demo-two")),
        ("demo-agent-1.lock", None),
        ("demo.stop", None),
        ("demo-1.lock", None),
        ("demo-backup-x.lock", None),
        ("-backup-1.lock", None),
    ] {
        let found = stanza_of(name).map(|stanza| stanza.to_string());
        assert_eq!(found.as_deref(), stanza, "{name}");
    }
}

#[test]
fn a_refusal_names_who_holds_the_lock_and_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (stanza, locks): (StanzaName, _) = ("demo".parse().unwrap(), locks(directory.path(), Duration::ZERO));
    let lock = acquire(&locks, &stanza, "backup", 1, "backup").unwrap();
    let work = Board::default().begin("backup", 1, Unit::Bytes);
    work.expect(3000);
    work.advance(1000);
    let following = lock.follow(work.progress());
    let told = || look(&locks.directory, &stanza, "backup", 1).filter(|held| held.progress().is_some());
    let wait = clock::wait_for(Duration::from_secs(60), LOOK_TIME, || Ok::<_, ()>(told()));
    assert_eq!(wait.unwrap().unwrap().progress(), Some((3000, 1000)));
    let error = acquire(&locks, &stanza, "backup", 1, "backup").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockAcquire);
    let (message, pid) = (error.full_message(), std::process::id());
    assert!(message.contains(&format!("process {pid} (backup) holds it since ")), "{message}");
    assert!(message.ends_with(", 33.33% complete"), "{message}");
    let holder = look(&locks.directory, &stanza, "backup", 1).and_then(|held| held.holder).unwrap();
    assert_eq!((holder.pid, holder.size, holder.size_complete), (pid, Some(3000), Some(1000)));
    drop(following);
    lock.pass_to("expire");
    let holder = look(&locks.directory, &stanza, "backup", 1).and_then(|held| held.holder).unwrap();
    assert_eq!((holder.cmd.as_deref(), holder.progress()), (Some("expire"), None));
    drop(lock);
    assert_eq!(look(&locks.directory, &stanza, "backup", 1), None);
}

#[test]
fn who_waits_gets_the_lock_when_the_other_ends() {
    let directory = tempfile::tempdir().unwrap();
    let stanza: StanzaName = "demo".parse().unwrap();
    let first = acquire(&locks(directory.path(), Duration::ZERO), &stanza, "backup", 1, "backup").unwrap();
    let (patient, stanza) = (&locks(directory.path(), Duration::from_secs(60)), &stanza);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| acquire(patient, stanza, "backup", 1, "expire").map(drop));
        thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        drop(first);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_lock_file_reads_as_pgbackrests_does() {
    let mut holder = Holder::of_this_process("backup").unwrap();
    holder.set_progress(59_782_756, 5_978_275);
    let members: Vec<_> = serde_json::to_string(&holder)
        .unwrap()
        .split(',')
        .map(|member| member.split('"').nth(1).unwrap().to_owned())
        .collect();
    // Its reader relies on the order of the alphabet.
    assert_eq!(members, ["cmd", "execId", "pctCplt", "pid", "since", "sz", "szCplt"]);
    let theirs = br#"{"execId":"28586-3ee702b1","pctCplt":4567,"pid":28586,"sz":59782756,"szCplt":27302785}"#;
    let read: Holder = serde_json::from_slice(theirs).unwrap();
    assert_eq!(read.percentage().as_deref(), Some("45.67%"));
    holder.set_progress(0, 0);
    assert_eq!(holder.percentage().as_deref(), Some("0.00%"));
}
