//! A user's tablespaces and links go where they are meant to go, or the restore is refused.

use fs_err as fs;
use fs_err::os::unix::fs::symlink;

use super::*;
use crate::error::ErrorKind;
use crate::restore::contents::Named;

/// A cluster with tablespaces 16400 (`fast`), 16401 (`odd/name`) and 16402 (`inside`, in the data directory), with links
/// `pg_wal` and `postgresql.conf`, and with a plain directory `log` and file `pg_hba.conf` that links are asked for.
fn contents() -> Contents {
    let named = |path: &str, target: Option<&str>, is_directory| {
        (PathBuf::from(path), Named { target: target.map(PathBuf::from), is_directory })
    };
    Contents {
        named: [
            named("pg_tblspc/16400", Some("/old/fast"), true),
            named("pg_tblspc/16401", Some("/old/odd"), true),
            named("pg_wal", Some("../wal"), true),
            named("pg_wal/archive_status", Some("/old/status"), true),
            named("postgresql.conf", Some("/old/conf/postgresql.conf"), false),
            named("log", None, true),
            named("pg_hba.conf", None, false),
        ]
        .into(),
        tablespaces_in_place: [16402].into(),
        ..Contents::default()
    }
}

fn tablespaces() -> Vec<Tablespace> {
    let tablespace = |(oid, name): (u32, &str)| Tablespace { oid, name: name.to_owned(), path: String::new() };
    [(16400, "fast"), (16401, "odd/name"), (16402, "inside")].map(tablespace).into()
}

fn relocation(tablespaces: &[&str], all: Option<&str>, links: &[&str]) -> Relocation {
    let pairs = |pairs: &[&str]| {
        pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(key, path)| (key.to_owned(), path.into())).collect()
    };
    Relocation {
        link_all: false,
        links: pairs(links),
        tablespaces: pairs(tablespaces),
        all_tablespaces: all.map(Into::into),
    }
}

fn layout(relocation: &Relocation) -> Result<Layout> {
    Layout::new(Path::new("/nowhere/data"), &contents(), &tablespaces(), relocation, "PG_17_1")
}

/// The links of a layout with where they lead.
fn links(relocation: &Relocation) -> Vec<String> {
    let layout = layout(relocation).unwrap();
    layout.links().map(|link| format!("{} -> {}", link.path.display(), link.place.display())).collect()
}

#[test]
fn without_wishes_only_tablespaces_stay_links() {
    let nothing = Relocation::default();
    assert_eq!(links(&nothing), ["pg_tblspc/16400 -> /old/fast", "pg_tblspc/16401 -> /old/odd"]);
    assert_eq!(layout(&nothing).unwrap().tablespace_map(), None);
}

#[test]
fn links_come_back_as_they_were_if_that_is_asked_for() {
    let all = Relocation { link_all: true, ..Relocation::default() };
    let expected = [
        "pg_tblspc/16400 -> /old/fast",
        "pg_tblspc/16401 -> /old/odd",
        "pg_wal -> /nowhere/wal",
        "pg_wal/archive_status -> /old/status",
        "postgresql.conf -> /old/conf/postgresql.conf",
    ];
    assert_eq!(links(&all), expected);
    assert_eq!(layout(&all).unwrap().link(Path::new("pg_wal")).unwrap().text, Path::new("../wal"));
}

#[test]
fn tablespaces_are_mapped_by_name_by_oid_and_all_together() {
    let by_name = relocation(&["fast=/new/fast"], None, &[]);
    assert_eq!(links(&by_name), ["pg_tblspc/16400 -> /new/fast", "pg_tblspc/16401 -> /old/odd"]);
    let map = layout(&by_name).unwrap().tablespace_map().unwrap();
    assert_eq!(String::from_utf8(map).unwrap(), "16400 /new/fast\n16401 /old/odd\n");
    let both = relocation(&["fast=/new/fast", "16400=/new/fast"], None, &[]);
    assert_eq!(links(&both), links(&by_name));
    let all = relocation(&["16401=/new/odd"], Some("/all"), &[]);
    assert_eq!(links(&all), ["pg_tblspc/16400 -> /all/fast", "pg_tblspc/16401 -> /new/odd"]);
}

#[test]
fn links_are_mapped_and_made_where_there_were_none() {
    let wishes = relocation(&[], None, &["pg_wal=/fast/wal", "log=../log", "pg_hba.conf=../etc/pg_hba.conf"]);
    let expected = [
        "log -> /nowhere/log",
        "pg_hba.conf -> /nowhere/etc/pg_hba.conf",
        "pg_tblspc/16400 -> /old/fast",
        "pg_tblspc/16401 -> /old/odd",
        "pg_wal -> /fast/wal",
    ];
    assert_eq!(links(&wishes), expected);
}

#[test]
fn files_behind_links_are_found_where_the_links_lead() {
    let layout = layout(&Relocation { link_all: true, ..relocation(&[], None, &["pg_wal=/fast/wal"]) }).unwrap();
    for (path, name, content) in [
        ("base/5/1259", "base/5/1259", "base/5/1259"),
        ("pg_tblspc", "pg_tblspc", "pg_tblspc"),
        ("pg_tblspc/16400", "pg_tblspc/16400", "[/old/fast]"),
        ("pg_tblspc/16400/PG_17_1/5/1", "[/old/fast]PG_17_1/5/1", "[/old/fast]PG_17_1/5/1"),
        (
            "pg_wal/000000010000000000000001",
            "[/fast/wal]000000010000000000000001",
            "[/fast/wal]000000010000000000000001",
        ),
        ("pg_wal/archive_status", "[/fast/wal]archive_status", "[/old/status]"),
        ("pg_wal/archive_status/a", "[/old/status]a", "[/old/status]a"),
        ("postgresql.conf", "postgresql.conf", "[/old/conf]postgresql.conf"),
        ("", "", ""),
    ] {
        let show = |location: Location<'_>| {
            let root = location.link.map_or(String::new(), |link| format!("[{}]", link.root().display()));
            format!("{root}{}", location.below.display())
        };
        assert_eq!(show(layout.name(Path::new(path))), name);
        assert_eq!(show(layout.content(Path::new(path))), content);
    }
    let status = layout.name_path(Path::new("pg_wal/archive_status"));
    assert_eq!(status, Path::new("/fast/wal/archive_status"));
    assert_eq!(layout.name_path(Path::new("pg_wal")), Path::new("/nowhere/data/pg_wal"));
}

#[test]
fn wishes_that_make_no_sense_are_refused() {
    use ErrorKind as Kind;
    for (tablespaces, all, links, kind, message) in [
        (&["slow=/new"][..], None, &[][..], Kind::TablespaceMap, "unable to remap invalid tablespace 'slow'"),
        (&["99999=/new"], None, &[], Kind::TablespaceMap, "unable to remap invalid tablespace '99999'"),
        (&["inside=/new"], None, &[], Kind::TablespaceMap, "unable to remap invalid tablespace 'inside'"),
        (&["16402=/new"], None, &[], Kind::TablespaceMap, "unable to remap invalid tablespace '16402'"),
        (&["fast=/new", "16400=/other"], None, &[], Kind::TablespaceMap, "by name 'fast' and id 16400 with different"),
        (&["fast=new"], None, &[], Kind::OptionInvalidValue, "'new' must begin with / for 'tablespace-map' option"),
        (&["fast="], None, &[], Kind::OptionInvalidValue, "'' must begin with / for 'tablespace-map' option"),
        (&[], Some("all"), &[], Kind::OptionInvalidValue, "'all' must begin with / for 'tablespace-map-all' option"),
        (&[], Some("/all"), &[], Kind::TablespaceMap, "tablespace 'odd/name' can't have a directory of its name"),
        (&["fast=/new", "16401=/new"], None, &[], Kind::LinkDestination, "is the same as"),
        (&["fast=/new", "16401=/new/PG_17_1/deep"], None, &[], Kind::LinkDestination, "is in the"),
        (&["fast=/nowhere/data"], None, &[], Kind::LinkDestination, "is in PGDATA"),
        (&["fast=/nowhere/data/space"], None, &[], Kind::LinkDestination, "is in PGDATA"),
        (&["fast=/old/../nowhere/data/space"], None, &[], Kind::LinkDestination, "is in PGDATA"),
        (&[], None, &["pg_wal=/old/fast"], Kind::LinkDestination, "has in it"),
        (&[], None, &["pg_wal=/nowhere"], Kind::LinkDestination, "PGDATA is in the link 'pg_wal'"),
        (&[], None, &["pg_wal=deeper"], Kind::LinkDestination, "is in PGDATA"),
        (&[], None, &["pg_wal=/wal", "log=/wal/log"], Kind::LinkDestination, "has in it"),
        (&[], None, &["pg_wal=/wal", "pg_hba.conf=/wal/pg_hba.conf"], Kind::LinkDestination, "has in it"),
        (&[], None, &["postgresql.conf=/etc/one", "pg_hba.conf=/etc/one"], Kind::LinkDestination, "is the same as"),
        (&[], None, &["nothing=/new"], Kind::LinkMap, "unable to map link 'nothing'"),
        (&[], None, &["pg_wal/=/new"], Kind::LinkMap, "unable to map link 'pg_wal/'"),
        (&[], None, &["=/new"], Kind::LinkMap, "unable to map link ''"),
        (&[], None, &["pg_tblspc/16400=/new"], Kind::LinkMap, "unable to remap tablespace 'pg_tblspc/16400'"),
        (&[], None, &["pg_hba.conf=new"], Kind::LinkMap, "'new' is not long enough"),
        (&[], None, &["pg_hba.conf=/"], Kind::LinkMap, "'/' is not long enough"),
        (&[], None, &["pg_hba.conf=.."], Kind::LinkMap, "'..' is not long enough"),
    ] {
        let error = layout(&relocation(tablespaces, all, links)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn two_names_of_one_place_are_seen_through() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    fs::create_dir(root.join("disk")).unwrap();
    symlink("disk", root.join("mount")).unwrap();
    let wishes = |one: &str, other: &str| {
        let pair = |key: &str, path: &str| format!("{key}={}", root.join(path).display());
        let (one, other) = (pair("fast", one), pair("16401", other));
        layout(&relocation(&[&one, &other], None, &[]))
    };
    assert_eq!(wishes("disk/a", "mount/a").unwrap_err().kind(), ErrorKind::LinkDestination);
    assert_eq!(wishes("disk/new/deep", "mount/new/x/../deep").unwrap_err().kind(), ErrorKind::LinkDestination);
    wishes("disk/a", "mount/b").unwrap();
}
