//! What was backed up comes back: all of it, to where it belongs, and nothing else is touched.

use fs_err as fs;
use pgark_testkit::{Cluster, Server, faults};

use crate::common::Site;
use crate::{TREE, cache, list, restore, restore_alone, shell, site, start};

#[test]
fn a_sidecar_comes_back_with_its_cluster() {
    for (major, passphrase) in [(13, None), (18, Some("open sesame"))] {
        let server = Server::get(major);
        let builder = passphrase.into_iter().fold(Site::builder(&server), crate::SiteBuilder::passphrase);
        let site = start(builder, TREE);
        site.cluster.sql("create table rows as select generate_series(1, 1000) id");
        let before = list(&cache(&site));
        assert_eq!(before.lines().filter(|line| line.contains("|3|4")).count(), 3, "a file of three names: {before}");
        site.backup(&[]);
        let verified = site.pgark(&["verify", "--output=text"]).expect_success();
        assert!(verified.stdout.contains("status: ok"), "{}", verified.report());
        let (directory, place) = restore(&site, "restored", &[]);
        assert_eq!(list(&place), before);
        shell(&place, "test models/first -ef models/deep/er/est/file && test models/first -ef shared/last");
        let mut cluster = Cluster::adopt(&server, &directory);
        cluster.start();
        assert_eq!(cluster.sql("select count(*) from rows"), "1000");
        assert_eq!(list(&cache(&site)), before, "a backup leaves everything as it was");
    }
}

#[test]
fn what_is_neither_file_nor_directory_nor_link_is_left_out_and_told_of() {
    let site = site(&Server::get(17), "printf x > file && mkfifo pipe && touch -d 2001-01-01 .");
    let finished = site.pgark(&["--type=full", "backup"]).expect_success();
    let pipe = cache(&site).join("pipe");
    let warning = format!("WARN: '{}' is left out: it is neither file nor directory nor link", pipe.display());
    assert!(finished.stdout.contains(&warning), "{}", finished.report());
    shell(&cache(&site), "rm pipe && touch -d 2001-01-01 .");
    let before = list(&cache(&site));
    let place = site.scratch.path().join("place");
    restore_alone(&site, &place, &[]).expect_success();
    assert_eq!(list(&place), before);
}

#[test]
fn it_goes_to_where_it_was_unless_something_else_is_set() {
    let site = site(&Server::get(16), TREE);
    let before = list(&cache(&site));
    site.backup(&[]);
    shell(&cache(&site), "chmod -R u+rwx . && rm -rf ./*");
    // What the configuration says no more is known from the backup.
    let line = format!("sidecar-models-path={}\n", cache(&site).display());
    site.reconfigure(&line, "");
    site.restore("restored", &[]);
    assert_eq!(list(&cache(&site)), before);
}

#[test]
fn a_sidecar_is_restored_alone_while_the_server_runs() {
    let site = site(&Server::get(17), TREE);
    let before = list(&cache(&site));
    let label = site.backup(&[]);
    shell(&cache(&site), "chmod -R u+rwx . && rm -rf ./*");
    let control_file = site.cluster.data_directory().join("global/pg_control");
    let (control, postmaster) =
        (fs::read(&control_file).unwrap(), site.cluster.sql("select pg_postmaster_start_time()"));
    let finished = restore_alone(&site, &cache(&site), &["--log-level-console=info"]).expect_success();
    assert!(
        finished.stdout.contains(&format!("restore sidecar 'models' of backup set {label}")),
        "{}",
        finished.report()
    );
    assert_eq!(list(&cache(&site)), before);
    assert_eq!(site.cluster.sql("select pg_postmaster_start_time()"), postmaster);
    assert!(
        fs::read(&control_file).unwrap() == control && !site.cluster.data_directory().join("pgark.restore").exists()
    );

    let finished = site.pgark(&["--sidecar-only=nope", "restore"]).expect_code(32);
    for message in [&format!("backup set {label} has no sidecar 'nope'"), "HINT: it has models;"] {
        assert!(finished.stdout.contains(message), "{}", finished.report());
    }
    let finished = site.pgark(&["--sidecar-only=models", "--no-sidecar", "restore"]).expect_code(31);
    assert!(finished.report().contains("'sidecar-only' not valid with option 'no-sidecar'"), "{}", finished.report());
}

#[test]
fn a_cluster_is_restored_without_its_sidecar() {
    let site = site(&Server::get(15), TREE);
    site.backup(&[]);
    let (directory, place) = restore(&site, "restored", &["--no-sidecar"]);
    assert!(directory.join("global/pg_control").exists() && !place.exists());
}

#[test]
fn files_that_are_there_stay_unless_the_user_says_otherwise() {
    let site = site(&Server::get(17), TREE);
    let before = list(&cache(&site));
    site.backup(&[]);
    let place = site.scratch.directory("place");
    shell(&place, "printf precious > file");
    let refused = restore_alone(&site, &place, &[]).expect_code(40);
    assert!(refused.report().contains("unable to restore sidecar 'models' to path"), "{}", refused.report());
    assert!(refused.report().contains("--delta"), "{}", refused.report());
    assert_eq!(shell(&place, "cat file"), "precious");
    // Nothing of the cluster is touched either, if its sidecar can't go to its place.
    let directory = site.scratch.path().join("restored");
    let arguments = [
        format!("--pg1-path={}", directory.display()),
        format!("--sidecar-models-path={}", place.display()),
        "restore".to_owned(),
    ];
    site.pgark(&arguments.each_ref().map(String::as_str)).expect_code(40);
    assert!(!directory.exists());
    // A copy beside a cluster does not make the sidecar of that one what it was, unless its place is given.
    let original = cache(&site);
    shell(&original, "printf newer > newer");
    for how in ["--delta", "--force"] {
        let refused = site.pgark(&[&arguments[0], how, "restore"]).expect_code(40);
        let hint = "give --sidecar-models-path, too, if this is what you intended";
        assert!(refused.report().contains(hint), "{}", refused.report());
    }
    assert_eq!(shell(&original, "cat newer && rm newer"), "newer");
    assert!(!directory.exists());

    restore_alone(&site, &place, &["--force"]).expect_success();
    assert_eq!(list(&place), before);
    // What is wrong is put right, what is right is not fetched, what does not belong goes; what a link leads to stays.
    shell(&place, "printf precious > ../outside && ln -s ../outside models/link && printf more > models/more");
    shell(
        &place,
        "chmod u+w models/random && printf X | dd of=models/random bs=1 seek=200000 conv=notrunc status=none",
    );
    shell(&place, "rm models/plain && mkdir models/plain && rm models/relative && ln -s ../../outside models/relative");
    shell(&place, "rm -r models/deep && ln -s ../fonts models/deep && chmod 0777 shared");
    let finished = restore_alone(&site, &place, &["--delta", "--log-level-console=info"]).expect_success();
    assert_eq!(list(&place), before, "{}", finished.report());
    assert_eq!(shell(&place, "cat ../outside"), "precious");
}

#[test]
fn a_file_with_a_name_elsewhere_is_not_written_to() {
    let site = site(&Server::get(17), "head -c 100000 /dev/urandom > file");
    let before = list(&cache(&site));
    site.backup(&[]);
    let place = site.scratch.directory("place");
    shell(&place, "printf precious > ../outside && ln ../outside file");
    restore_alone(&site, &place, &["--delta"]).expect_success();
    assert_eq!(list(&place), before);
    assert_eq!(shell(&place, "cat ../outside"), "precious");
}

#[test]
fn a_restore_that_was_killed_leaves_no_cluster_that_starts() {
    let server = Server::get(17);
    let site = site(&server, "head -c 60000000 /dev/urandom > large");
    let before = list(&cache(&site));
    site.backup(&[]);
    let (directory, place) = (site.scratch.path().join("restored"), site.scratch.path().join("place"));
    let arguments = [
        "--stanza=demo".to_owned(),
        format!("--pg1-path={}", directory.display()),
        format!("--sidecar-models-path={}", place.display()),
        "--archive-mode=off".to_owned(),
        "restore".to_owned(),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    // The cluster has some 30 MB, the sidecar twice as much: at this pace it is at work on the sidecar for seconds.
    let slow = [&["--io-limit=16MiB"], &arguments[..]].concat();
    let mut child = site.command(&slow).spawn().expect("the program starts");
    pgark_testkit::wait_for_some("the sidecar is being restored", || place.join("large").exists().then_some(()));
    child.kill().expect("the child can be killed");
    child.wait().expect("the child can be waited for");
    assert!(!directory.join("global/pg_control").exists());
    site.pgark(&[&["--delta"], &arguments[1..]].concat()).expect_success();
    assert_eq!(list(&place), before);
    let mut cluster = Cluster::adopt(&server, &directory);
    cluster.start();
}

#[test]
fn damage_to_what_a_sidecar_needs_is_found() {
    let site = site(&Server::get(17), "head -c 2000000 /dev/urandom > large");
    site.cluster.sql("select 1");
    site.backup(&["--process-max=1"]);
    // The largest pack is not it for certain: that of the cluster may be larger. Its frames tell.
    let is_of_sidecar = |path: &&std::path::PathBuf| {
        let name = path.strip_prefix(site.repository()).expect("it is in the repository").display().to_string();
        site.pgark(&["repo-get", &name]).expect_success().stdout.contains(r#""file":"/models/large""#)
    };
    let pack = site.objects("/pack/").iter().find(is_of_sidecar).expect("a pack has the file").clone();
    let frame = first_frame_of_sidecar(&site, &pack);
    faults::flip_byte(&pack, frame + 100);
    let verified = site.pgark(&["verify", "--output=text"]).expect_code(26);
    assert!(verified.report().contains("/models/large"), "{}", verified.report());
    let place = site.scratch.path().join("place");
    let failed = restore_alone(&site, &place, &[]);
    assert!(failed.code() != Some(0), "{}", failed.report());
}

/// Where the first frame of a file of a sidecar begins in a pack: frames lie back to back behind the header.
fn first_frame_of_sidecar(site: &Site, pack: &std::path::Path) -> u64 {
    let name = pack.strip_prefix(site.repository()).expect("it is in the repository").display().to_string();
    let text = site.pgark(&["repo-get", &name]).expect_success().stdout;
    let mut offset = 64;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("repo-get writes lines of JSON");
        let Some(frame) = line.get("frame") else { continue };
        if frame["file"].as_str().is_some_and(|file| file.starts_with("/models/")) {
            return offset;
        }
        offset += frame["stored"].as_u64().expect("a frame has a length");
    }
    panic!("no frame of the sidecar in {name}");
}
