//! What can't be backed up is told of, and nothing is lost by it.

use pgark_testkit::Server;

use crate::common::Site;
use crate::{TREE, backup_changes, cache, list, restore, shell, site};

#[test]
fn a_sidecar_that_can_not_be_backed_up_is_told() {
    let site = site(&Server::get(17), TREE);
    let before = list(&cache(&site));
    site.backup(&[]);
    let (data, scratch) = (site.cluster.data_directory().to_owned(), site.scratch.path().to_owned());
    shell(&scratch, "ln -s two one && ln -s one two && ln -s self self && : > file && ln -s cache other");
    shell(&data, "mkdir inside");
    let configured = format!("sidecar-models-path={}", cache(&site).display());
    let inside = data.join("inside");
    for (path, code, message) in [
        (scratch.join("missing"), 73, "does not exist"),
        (scratch.join("file"), 73, "is no directory"),
        (scratch.join("file/below"), 73, "is no directory"),
        (scratch.join("one"), 70, "is a symbolic link that leads back to itself"),
        (scratch.join("self"), 70, "is a symbolic link that leads back to itself"),
        (inside.clone(), 32, "shares files with the data directory"),
        (data.clone(), 32, "shares files with the data directory"),
        (data.parent().expect("it lies in a directory").to_owned(), 32, "shares files with the data directory"),
        (site.repository(), 32, "shares files with the repository"),
        (site.repository().join("stanza"), 32, "shares files with the repository"),
    ] {
        site.reconfigure(&configured, &format!("sidecar-models-path={}", path.display()));
        let finished = site.pgark(&["backup"]).expect_code(code);
        let wanted = format!("sidecar 'models': path '{}' {message}", path.display());
        assert!(finished.report().contains(&wanted), "{}", finished.report());
        assert!(finished.report().contains("HINT: "), "{}", finished.report());
        site.reconfigure(&format!("sidecar-models-path={}\n", path.display()), &format!("{configured}\n"));
    }
    for other in ["other", "cache/models", "cache"] {
        let line = format!("{configured}\nsidecar-zz-path={}\n", scratch.join(other).display());
        site.reconfigure(&format!("{configured}\n"), &line);
        let finished = site.pgark(&["backup"]).expect_code(32);
        assert!(finished.report().contains("shares files with sidecar 'models'"), "{}", finished.report());
        site.reconfigure(&line, &format!("{configured}\n"));
    }
    // What was backed up before is there, and the next backup is as good as ever.
    let info = site.pgark(&["info"]).expect_success();
    assert_eq!(info.stdout.matches("full backup: ").count(), 1, "{}", info.report());
    backup_changes(&site, &[]);
    let (_, place) = restore(&site, "restored", &[]);
    assert_eq!(list(&place), before);
}

#[test]
fn a_sidecar_is_not_restored_into_a_cluster_or_another_sidecar() {
    let site = site(&Server::get(17), "printf x > file");
    site.backup(&[]);
    for place in [site.cluster.data_directory().to_owned(), site.cluster.data_directory().join("cache")] {
        let finished = crate::restore_alone(&site, &place, &["--delta"]).expect_code(32);
        assert!(finished.report().contains("shares files with the data directory"), "{}", finished.report());
    }
    let directory = site.scratch.path().join("restored");
    let arguments = [
        format!("--pg1-path={}", directory.display()),
        format!("--sidecar-models-path={}", directory.join("cache").display()),
        "restore".to_owned(),
    ];
    let finished = site.pgark(&arguments.each_ref().map(String::as_str)).expect_code(32);
    assert!(finished.report().contains("shares files with the data directory"), "{}", finished.report());
    assert!(!directory.exists());
}

#[test]
fn a_cluster_with_models_and_no_sidecar_is_told_of_by_check() {
    let server = Server::get(18);
    let extensions = pgark_testkit::Scratch::new();
    extensions.directory("extension");
    extensions.write("extension/pgml.control", "default_version = '1.0'\nrelocatable = true\n");
    extensions.write("extension/pgml--1.0.sql", "create function model() returns int language sql as 'select 1';\n");
    let path = format!("$system:{}", extensions.path().display());
    let site = Site::builder(&server).setting("extension_control_path", &path).start();
    let hint = "extension 'pgml' is installed in database 'learning', and no backup has the models";
    site.cluster.sql("create database learning");
    let quiet = site.pgark(&["check"]).expect_success();
    assert!(!quiet.report().contains("pgml"), "{}", quiet.report());
    site.cluster.sql_in("learning", "create extension pgml");
    let told = site.pgark(&["check"]).expect_success();
    assert!(
        told.stdout.contains(hint) && told.stdout.contains("HINT: set sidecar-huggingface-path"),
        "{}",
        told.report()
    );
    site.scratch.directory("cache");
    let path = cache(&site);
    site.reconfigure("[demo]", &format!("[demo]\nsidecar-huggingface-path={}", path.display()));
    let quiet = site.pgark(&["check"]).expect_success();
    assert!(!quiet.report().contains("pgml"), "{}", quiet.report());
    site.reconfigure(path.to_str().expect("it is text"), "/nowhere/at/all");
    let missing = site.pgark(&["check"]).expect_code(73);
    assert!(
        missing.report().contains("sidecar 'huggingface': path '/nowhere/at/all' does not exist"),
        "{}",
        missing.report()
    );
}
