//! What can't be backed up is told of, and nothing is lost by it.

use fs_err as fs;
use pgark_testkit::{Server, faults};

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

/// What a program does with a backup that needs what it does not know: to one that is older than sidecars, this is every
/// backup that has some.
#[test]
fn a_backup_that_needs_a_newer_program_is_refused_and_kept() {
    let site = site(&Server::get(17), "printf x > file");
    let label = site.backup(&[]);
    let manifest = site.object(&format!("/backup/{label}/manifest"));
    let length = fs::metadata(&manifest).expect("the manifest is there").len();
    // The feature bits, in the header and in its copy: section 2.1 of docs/format.md.
    let other_features = || [12, length - 192 + 12].into_iter().for_each(|offset| faults::flip_byte(&manifest, offset));
    assert_eq!(fs::read(&manifest).expect("it can be read")[12], 1, "bit 0: it has sidecars");
    other_features();
    let place = site.scratch.path().join("place");
    let whole = format!("--pg1-path={}", place.display());
    let set = format!("--set={label}");
    for arguments in [
        &[whole.as_str(), "restore"][..],
        &[&whole, &set, "restore"],
        &[&whole, &set, "--no-sidecar", "restore"],
        &[&set, "--sidecar-only=models", "--delta", "restore"],
        &["--type=incr", "backup"],
        &["expire"],
    ] {
        let refused = site.pgark(arguments);
        assert!(![Some(0), None].contains(&refused.code()), "{}", refused.report());
        for part in ["it needs unknown features 0x000000fe", "upgrade pgark on this host"] {
            assert!(refused.report().contains(part), "no '{part}' in {}", refused.report());
        }
        assert!(!place.exists(), "{}", refused.report());
    }
    let verified = site.pgark(&["verify", "--output=text"]);
    assert!(verified.code() != Some(0) && verified.report().contains("newer program"), "{}", verified.report());
    let info = site.pgark(&["info"]).expect_success();
    assert!(info.stdout.contains("unknown features"), "{}", info.report());
    other_features();
    restore(&site, "restored", &[]);
}

#[test]
fn extended_attributes_are_told_of_once() {
    let site = site(&Server::get(17), "mkdir d && printf x > d/file && printf y > plain && ln -s plain link");
    let warning = "sidecar 'models': extended attributes are not kept: ";
    let quiet = site.pgark(&["--type=full", "backup"]).expect_success();
    assert!(!quiet.report().contains(warning), "{}", quiet.report());
    // The user that runs this may read the file, as an access control list: version 2, and four entries.
    let entry =
        |tag: u16, rights: u16, id: u32| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let entries = [entry(1, 6, none), entry(2, 4, 1), entry(4, 4, none), entry(16, 4, none), entry(32, 4, none)];
    let list = [2_u32.to_le_bytes().to_vec(), entries.concat()].concat();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::setxattr(cache(&site).join(name), attribute, value, rustix::fs::XattrFlags::empty())
            .expect("the file system of the tests has extended attributes");
    };
    set("d/file", "user.origin", b"hub");
    set("d", "user.origin", b"hub");
    set("plain", "system.posix_acl_access", &list);
    let told = site.pgark(&["--type=incr", "backup"]).expect_success();
    let wanted = format!(
        "WARN: {warning}system.posix_acl_access, user.origin, of 3 files and directories, the first of them '{}'",
        cache(&site).join("d").display()
    );
    assert!(told.stdout.contains(&wanted) && told.stdout.contains("HINT: "), "{}", told.report());
    assert_eq!(told.stdout.matches(warning).count(), 1, "{}", told.report());
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
