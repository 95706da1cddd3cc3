//! Whoever can write to a data directory or a repository must not be able to turn a restore against the rest of the
//! machine: links that were planted are not followed, and manifests that make no sense are refused.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::symlink;
use pgark_repository::manifest::Tablespace;
use pgark_testkit::{Server, Stop, as_test_user, give_to_test_user, run};

use crate::common::Site;
use crate::common::forging::{Change, file, forge, insert, link};
use crate::common::restoring::{comparable, recovered, restore, restore_into, rows};

/// What there is to know of a file or directory: whatever a restore could do to it would show.
#[derive(Debug, PartialEq, Eq)]
struct Witness {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    content: Vec<u8>,
}

/// Everything below a directory.
fn witnessed(directory: &Path) -> BTreeMap<PathBuf, Witness> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let look = fs::symlink_metadata(&path).unwrap();
        let content = if look.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let (owner, modified) = ((look.uid(), look.gid()), (look.mtime(), look.mtime_nsec()));
        found.insert(path.clone(), Witness { mode: look.mode(), owner, modified, content });
        if look.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

/// Moves something out of a cluster, and plants a link to it in its place.
fn plant(data: &Path, path: &str, outside: &Path) {
    let moved = outside.join(path.replace('/', "-"));
    if data.join(path).exists() {
        fs::rename(data.join(path), &moved).unwrap();
    } else {
        fs::write(&moved, "precious").unwrap();
        give_to_test_user(&moved);
    }
    symlink(&moved, data.join(path)).unwrap();
}

#[test]
fn planted_links_lead_a_restore_nowhere() {
    let server = Server::get(17);
    let site = Site::start(&server);
    let space = site.scratch.directory("space");
    site.cluster.sql(&format!("create tablespace space location '{}'", space.display()));
    site.cluster.sql("create table rows (id int); insert into rows select generate_series(1, 10)");
    site.cluster.sql("create table more (id int) tablespace space; insert into more select generate_series(1, 10)");
    site.backup(&[]);
    let database = site.cluster.sql("select oid from pg_database where datname = 'postgres'");
    let oid = site.cluster.sql("select oid from pg_tablespace where spcname = 'space'");
    let mapped = |name: &str| format!("--tablespace-map=space={}", site.scratch.path().join(name).display());
    let fresh = restore(&site, "fresh", &[&mapped("fresh-space")]);
    let is_space = |path: &Path| path.starts_with(format!("pg_tblspc/{oid}"));
    let compared = |directory: &Path| -> Vec<_> {
        comparable(directory).into_iter().filter(|(path, _)| path != Path::new("tablespace_map")).collect()
    };

    for (round, flag) in ["--delta", "--delta", "--force"].into_iter().enumerate() {
        let (name, map) = (format!("copy{round}"), mapped(&format!("space{round}")));
        let data = restore(&site, &name, &[&map]);
        let outside = site.scratch.directory(&format!("outside{round}"));
        let in_space = format!("pg_tblspc/{oid}/{}", version_directory(&data.join("pg_tblspc").join(&oid)));
        let planted = match round {
            0 => vec!["base/1/1259".to_owned(), format!("base/{database}"), format!("{in_space}/{database}")],
            _ => vec!["base".to_owned(), in_space],
        };
        for path in planted.iter().map(String::as_str).chain([
            "global",
            "pg_wal",
            "pg_xact/0000",
            "pg_hba.conf",
            "postgresql.auto.conf",
            "recovery.signal",
            "backup_label",
            "tablespace_map",
            "pgark.restore",
            "new",
            "pg_tblspc/99999",
        ]) {
            plant(&data, path, &outside);
        }
        fs::hard_link(outside.join("pg_hba.conf"), data.join("twice")).unwrap();
        fs::remove_file(data.join("pg_ident.conf")).unwrap();
        fs::hard_link(outside.join("pg_hba.conf"), data.join("pg_ident.conf")).unwrap();
        fs::remove_file(data.join("pg_multixact/offsets/0000")).unwrap();
        run(as_test_user(std::process::Command::new("mkfifo").arg(data.join("pg_multixact/offsets/0000"))))
            .expect_success();

        let before = witnessed(&outside);
        assert!(before.len() > 15, "{before:?}");
        restore_into(&site, &data, &[flag, &map]).expect_success();
        assert!(witnessed(&outside) == before, "the restore has touched what lies outside, in round {round}");
        assert!(compared(&data) == compared(&fresh), "what was restored is not what was backed up, in round {round}");
        assert!(compared(&data).iter().any(|(path, _)| is_space(path)));
        let mut restored = recovered(&server, &data);
        assert_eq!((rows(&restored), restored.sql("select count(*) from more")), ("10".to_owned(), "10".to_owned()));
        restored.stop(Stop::Fast);
    }
}

fn version_directory(tablespace: &Path) -> String {
    let name = fs::read_dir(tablespace).unwrap().next().unwrap().unwrap().file_name();
    name.into_string().unwrap()
}

#[test]
fn manifests_that_make_no_sense_are_refused_before_anything_is_touched() {
    let site = Site::start(&Server::get(18));
    let original = site.backup(&[]);
    let outside = site.scratch.directory("outside");
    let precious = site.scratch.write("outside/precious", "thirty years of work");
    let (elsewhere, data) = (outside.clone(), site.scratch.path().join("never"));
    let inside = data.join("base");
    let cases: [(i32, &str, &Change<'_>); 16] = [
        (26, "an entry with the path '../outside/new'", &|_, entries, _| entries.push(file("../outside/new"))),
        (26, "an entry with the path '/etc/new'", &|_, entries, _| entries.push(file("/etc/new"))),
        (26, "an entry with the path '../outside/new'", &|_, _, late| late.insert(0, file("../outside/new"))),
        (29, "'zzz/new' lies in no directory", &|_, entries, _| entries.push(file("zzz/new"))),
        (29, "'PG_VERSION/new' lies in no directory", &|_, entries, _| insert(entries, [file("PG_VERSION/new")])),
        (29, "'base' comes twice, or too late", &|_, entries, _| entries.push(link("base", &outside))),
        (29, "'base/1/a' comes twice, or too late", &|_, entries, _| {
            insert(entries, [file("base/1/a"), file("base/1/a")]);
        }),
        (29, "it does not begin with the data directory", &|_, entries, _| drop(entries.remove(0))),
        (29, "it does not begin with the data directory", &|_, entries, _| {
            entries[0].link = Some(b"/etc".to_vec());
        }),
        (29, "it has no entries", &|_, entries, _| entries.clear()),
        (29, "'global/pg_control' is among the files that are not written last", &|_, entries, _| {
            insert(entries, [file("global/pg_control")]);
        }),
        (29, "'base/1/1259' is among the files that are written last", &|_, _, late| {
            late.insert(0, file("base/1/1259"));
        }),
        (29, "'global/pg_control' is missing", &|_, _, late| drop(late.pop())),
        (29, "'../../outside' is no version of PostgreSQL", &|document, _, _| {
            document.cluster.version = "../../outside".to_owned();
        }),
        (29, "'pg_tblspc/99999/precious' is not of this cluster", &|_, entries, _| {
            insert(entries, [link("pg_tblspc/99999", &elsewhere), file("pg_tblspc/99999/precious")]);
        }),
        (70, "is in PGDATA", &|_, entries, _| insert(entries, [link("pg_tblspc/99999", &inside)])),
    ];
    let before = witnessed(&outside);
    for (number, (code, message, change)) in cases.into_iter().enumerate() {
        let label = format!("20300101-0000{number:02}F");
        forge(&site, &original, &label, change);
        let finished =
            restore_into(&site, &data, &[&format!("--set={label}"), "--delta", "--link-all"]).expect_code(code);
        assert!(finished.stdout.contains(message), "{message}: {}", finished.report());
        assert!(!data.exists(), "{message}");
    }
    assert_eq!(witnessed(&outside), before);
    assert_eq!(fs::read_to_string(precious).unwrap(), "thirty years of work");

    // Links of a manifest lead nowhere, if links are not asked for; and never to what is somebody else's.
    let label = "20300101-000100F";
    forge(&site, &original, label, &|_, entries, _| {
        insert(entries, [link("looted", &outside), file("looted/precious"), file("looted/new")]);
    });
    let set = format!("--set={label}");
    let finished = restore_into(&site, &data, &[&set, "--link-all"]).expect_code(40);
    assert!(finished.stdout.contains("because it contains files"), "{}", finished.report());
    restore_into(&site, &data, &[&set]).expect_success();
    assert!(data.join("looted").is_dir() && !data.join("looted").is_symlink() && data.join("looted/new").is_file());
    assert_eq!(witnessed(&outside), before);
    let restored = recovered(site.cluster.server(), &data);
    assert_eq!(restored.sql("select 1"), "1");
}

#[test]
fn a_tablespace_can_not_be_called_so_that_it_lies_elsewhere() {
    let site = Site::start(&Server::get(18));
    let original = site.backup(&[]);
    let all = site.scratch.directory("all");
    for (number, name) in ["..", ".", "a/b", "/etc", ""].into_iter().enumerate() {
        let label = format!("20300101-0000{number:02}F");
        forge(&site, &original, &label, &|document, entries, _| {
            document.tablespaces.push(Tablespace { oid: 99999, name: name.to_owned(), path: "/nowhere".to_owned() });
            insert(entries, [link("pg_tblspc/99999", Path::new("/nowhere"))]);
        });
        let data = site.scratch.path().join("never");
        let map = format!("--tablespace-map-all={}", all.display());
        let finished = restore_into(&site, &data, &[&format!("--set={label}"), &map]).expect_code(76);
        assert!(finished.stdout.contains("can't have a directory of its name"), "{}", finished.report());
        assert!(!data.exists() && fs::read_dir(&all).unwrap().next().is_none());
    }
}
