//! Which configuration files are read.

use pgark_config::{Configuration, SystemFiles, option};
use pgark_config::{Environment, Invocation, load};

use crate::machine::{Machine, shown};

/// Every file there could be. Each sets the path of a repository to one of its own.
fn every_file() -> Vec<(&'static str, &'static str)> {
    vec![
        ("/etc/pgark/pgark.conf", "repo1-path=/pgark.conf"),
        ("/etc/pgark/conf.d/b.conf", "repo2-path=/pgark-b"),
        ("/etc/pgark/conf.d/a.conf", "repo3-path=/pgark-a"),
        ("/etc/pgark/conf.d/not.conf.txt", "repo4-path=/never"),
        ("/etc/pgark/conf.d/.conf", "repo4-path=/never"),
        ("/etc/pgbackrest/pgbackrest.conf", "repo1-path=/pgbackrest.conf"),
        ("/etc/pgbackrest/conf.d/x.conf", "repo5-path=/pgbackrest-x"),
        ("/etc/pgbackrest.conf", "repo1-path=/etc-pgbackrest.conf"),
        ("/other/pgark.conf", "repo1-path=/other-pgark"),
        ("/other/pgbackrest.conf", "repo1-path=/other-pgbackrest"),
        ("/other/conf.d/z.conf", "repo6-path=/other-z"),
    ]
}

/// The paths of the repositories that are configured when the files in `removed` are not there.
fn read(line: &str, removed: &[&str]) -> Vec<String> {
    let mut machine = Machine::default();
    for (path, text) in every_file() {
        if !removed.iter().any(|prefix| path.starts_with(prefix)) {
            machine = machine.file(path, &format!("[global]\n{text}\n"));
        }
    }
    paths(&machine.run(line))
}

fn paths(configuration: &Configuration) -> Vec<String> {
    let path = |key: &u32| configuration.path(option::REPO_PATH.at(*key)).display().to_string();
    configuration.repository_keys().iter().map(path).collect()
}

#[test]
fn the_first_default_file_is_read_and_the_directory_beside_it() {
    assert_eq!(read("info", &[]), ["/pgark.conf", "/pgark-b", "/pgark-a"]);
    assert_eq!(read("info", &["/etc/pgark/"]), ["/pgbackrest.conf", "/pgbackrest-x"]);
    assert_eq!(read("info", &["/etc/pgark/pgark.conf"]), ["/pgbackrest.conf", "/pgbackrest-x"]);
    assert_eq!(read("info", &["/etc/pgark/", "/etc/pgbackrest/p"]), ["/etc-pgbackrest.conf", "/pgbackrest-x"]);
}

#[test]
fn a_directory_alone_is_enough() {
    let files = ["/etc/pgark/pgark.conf", "/etc/pgbackrest/pgbackrest.conf", "/etc/pgbackrest.conf"];
    assert_eq!(read("info", &files), ["/pgark-b", "/pgark-a"]);
    assert_eq!(read("info", &[files[0], files[1], files[2], "/etc/pgark/"]), ["/pgbackrest-x"]);
    assert_eq!(read("info", &["/etc"]), ["/var/lib/pgark"]);
}

#[test]
fn a_file_that_is_named_is_read_alone() {
    assert_eq!(read("info --config=/other/pgbackrest.conf", &[]), ["/other-pgbackrest"]);
    assert_eq!(
        read("info --config=/other/pgbackrest.conf --config-include-path=/etc/pgbackrest/conf.d", &[]),
        ["/other-pgbackrest", "/pgbackrest-x"]
    );
    assert_eq!(
        read("info --config=/etc/pgbackrest.conf --config-path=/other", &[]),
        ["/etc-pgbackrest.conf", "/other-z"]
    );
}

#[test]
fn another_base_directory_moves_both() {
    assert_eq!(read("info --config-path=/other", &[]), ["/other-pgark", "/other-z"]);
    assert_eq!(read("info --config-path=/other", &["/other/pgark.conf"]), ["/other-pgbackrest", "/other-z"]);
    assert_eq!(read("info --config-path=/nowhere", &[]), ["/var/lib/pgark"]);
}

#[test]
fn another_include_directory_leaves_the_file_as_it_is() {
    assert_eq!(read("info --config-include-path=/other/conf.d", &[]), ["/pgark.conf", "/other-z"]);
}

#[test]
fn no_config_leaves_the_file_out() {
    assert_eq!(read("info --no-config", &[]), ["/var/lib/pgark"]);
    assert_eq!(read("info --no-config --config-include-path=/other/conf.d", &[]), ["/other-z"]);
    assert_eq!(read("info --no-config --config-path=/other", &[]), ["/other-z"]);
}

#[test]
fn the_environment_names_files_too() {
    let machine = Machine::default()
        .variable("PGBACKREST_CONFIG", "/mine.conf")
        .file("/mine.conf", "[global]\nrepo1-path=/mine\n")
        .file("/etc/pgark/pgark.conf", "[global]\nrepo1-path=/default\n");
    assert_eq!(paths(&machine.run("info")), ["/mine"]);
}

#[test]
fn files_are_read_in_the_order_of_their_names_as_if_they_were_one() {
    let machine = Machine::default()
        .file("/etc/pgark/conf.d/2.conf", "[demo]\nexclude=c\n")
        .file("/etc/pgark/conf.d/1.conf", "[demo]\nexclude=b\n")
        .file("/etc/pgark/pgark.conf", "[demo]\nexclude=a\npg1-path=/pg");
    assert_eq!(machine.run("backup --stanza=demo").list(&option::EXCLUDE), ["a", "b", "c"]);
}

#[test]
fn what_is_asked_for_must_be_there_and_well_formed() {
    let machine = Machine::default();
    insta::assert_snapshot!(shown(&machine.error("info --config=/nonexist")), @"FileMissing: unable to open missing file '/nonexist' for read");
    insta::assert_snapshot!(shown(&machine.error("info --config-include-path=/nonexist")), @"PathMissing: unable to list missing path '/nonexist'");
    let machine = machine.file("/etc/pgark/conf.d/a.conf", "[global]\nrepo1-cipher-pass hunter2\n");
    insta::assert_snapshot!(shown(&machine.error("info")), @"Format: missing '=' in key/value at line 2 of '/etc/pgark/conf.d/a.conf'");
}

#[test]
fn the_files_of_this_machine_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgark.conf");
    fs_err::write(&file, "[global]\nrepo1-path=/real\n").unwrap();
    fs_err::create_dir(directory.path().join("conf.d")).unwrap();
    fs_err::write(directory.path().join("conf.d/x.conf"), "[global]\nrepo2-path=/too\n").unwrap();
    let line = ["info".to_owned(), format!("--config-path={}", directory.path().display())];
    let invocation = load(line.map(Into::into), &Environment::default(), &SystemFiles).unwrap();
    let Invocation::Run(configuration) = invocation else { panic!("{invocation:?}") };
    assert_eq!(paths(&configuration), ["/real", "/too"]);

    let missing = ["info".to_owned(), format!("--config={}", directory.path().join("missing").display())];
    let error = load(missing.map(Into::into), &Environment::default(), &SystemFiles).unwrap_err();
    assert_eq!(error.kind(), pgark_config::ErrorKind::FileMissing);

    let unreadable = ["info".to_owned(), format!("--config={}", directory.path().join("conf.d").display())];
    let error = load(unreadable.map(Into::into), &Environment::default(), &SystemFiles).unwrap_err();
    assert_eq!(error.kind(), pgark_config::ErrorKind::FileRead);
}
