//! What a command gets to know.

use std::time::Duration;

use pgark_config::{Compression, Configuration, Secret, Source, option};

use crate::machine::Machine;

fn backup(options: &str) -> Configuration {
    Machine::default().run(&format!("backup --stanza=demo --pg1-path=/pg {options}"))
}

fn restore(options: &str) -> Configuration {
    Machine::default().run(&format!("restore --stanza=demo --pg1-path=/pg {options}"))
}

#[test]
fn defaults_hold_where_nothing_is_set() {
    let configuration = backup("");
    assert_eq!(configuration.text(&option::BACKUP_TYPE), "incr");
    assert_eq!(configuration.integer(&option::PROCESS_MAX), 1);
    assert_eq!(configuration.duration(&option::DB_TIMEOUT), Duration::from_secs(30 * 60));
    assert_eq!(configuration.duration(&option::ARCHIVE_TIMEOUT), Duration::from_secs(60));
    assert_eq!(configuration.path(&option::LOCK_PATH).to_str(), Some("/tmp/pgark"));
    assert_eq!(configuration.path(&option::LOG_PATH).to_str(), Some("/var/log/pgark"));
    assert_eq!(configuration.path(option::REPO_PATH.at(1)).to_str(), Some("/var/lib/pgark"));
    assert_eq!(configuration.text(option::PG_DATABASE.at(1)), "postgres");
    assert_eq!(configuration.integer(option::PG_PORT.at(1)), 5432);
    assert_eq!(configuration.optional_text(option::PG_USER.at(1)), None);
    assert_eq!(configuration.optional_boolean(&option::CHECKSUM_PAGE), None);
    assert!(configuration.boolean(&option::VERIFY_WRITE));
    assert_eq!((configuration.repository_keys(), configuration.cluster_keys()), (&[1][..], &[1][..]));
    assert_eq!(configuration.source(&option::PROCESS_MAX), &Source::Default);
    assert!(configuration.is_set(&option::STANZA));
}

#[test]
fn repositories_and_clusters_are_those_that_something_is_set_for() {
    let configuration = Machine::default().run(
        "backup --stanza=demo --pg1-path=/pg --pg3-path=/pg3 --repo2-path=/two --repo7-path=/seven --repo9-bundle --repo=7",
    );
    assert_eq!(configuration.repository_keys(), [2, 7]);
    assert_eq!(configuration.cluster_keys(), [1, 3]);
    assert_eq!(configuration.path(option::REPO_PATH.at(7)).to_str(), Some("/seven"));
    assert_eq!(configuration.text(option::REPO_TYPE.at(2)), "posix");
    assert_eq!(configuration.integer(&option::REPO), 7);
}

#[test]
fn compression_follows_from_type_and_level() {
    for (options, compression) in [
        ("", Compression::Zstd { level: 3 }),
        ("--compress-level=9", Compression::Zstd { level: 9 }),
        ("--compress-type=zst --compress-level=-7", Compression::Zstd { level: -7 }),
        ("--compress-type=gz --compress-level=9", Compression::Zstd { level: 3 }),
        ("--compress-type=bz2", Compression::Zstd { level: 3 }),
        ("--compress-type=lz4 --compress-level=12", Compression::Lz4),
        ("--compress-type=none", Compression::None),
        ("--no-compress", Compression::None),
        ("--compress", Compression::Zstd { level: 3 }),
        ("--no-compress --compress-type=lz4", Compression::Lz4),
    ] {
        assert_eq!(backup(options).compression(), compression, "{options}");
    }
    assert_eq!(backup("--compress --compress-type=lz4").warnings().len(), 1);
}

#[test]
fn a_level_in_a_file_is_passed_over_where_nothing_is_compressed() {
    let machine = Machine::default().file("/etc/pgark/pgark.conf", "[global]\ncompress-level=9\ncompress-type=none\n");
    let configuration = machine.run("backup --stanza=demo --pg1-path=/pg");
    assert_eq!(configuration.compression(), Compression::None);
}

#[test]
fn a_cipher_needs_a_passphrase_and_has_one_name_for_two() {
    for cipher in ["aes-256-gcm", "aes-256-cbc"] {
        let machine = Machine::default()
            .variable("PGARK_REPO1_CIPHER_TYPE", cipher)
            .variable("PGARK_REPO1_CIPHER_PASS", "hunter2")
            .variable("PGARK_REPO2_PATH", "/plain");
        let configuration = machine.run("info");
        assert_eq!(configuration.repository_passphrase(1).map(Secret::expose), Some("hunter2"));
        assert_eq!(configuration.repository_passphrase(2), None);
    }
    let without_cipher = Machine::default().variable("PGARK_REPO1_CIPHER_PASS", "hunter2");
    assert_eq!(without_cipher.run("info").repository_passphrase(1), None);
}

#[test]
fn the_settings_of_a_target_belong_to_types_that_have_one() {
    let configuration = restore("--type=time --target=2026-11-22 --target-exclusive --delta --force");
    assert_eq!(configuration.text(&option::TARGET), "2026-11-22");
    assert_eq!(configuration.text(&option::TARGET_ACTION), "pause");
    assert!(configuration.boolean(&option::TARGET_EXCLUSIVE));
    assert!(configuration.boolean(&option::DELTA) && configuration.boolean(&option::RESTORE_FORCE));

    let configuration = restore("");
    assert_eq!(configuration.text(&option::RESTORE_TYPE), "default");
    assert_eq!(configuration.text(&option::RESTORE_SET), "latest");
    assert_eq!(configuration.optional_text(&option::TARGET), None);
    assert_eq!(configuration.optional_text(&option::TARGET_ACTION), None);
    assert!(!configuration.boolean(&option::TARGET_EXCLUSIVE));
}

#[test]
fn an_offline_backup_does_not_wait_for_the_archive() {
    assert!(backup("").boolean(&option::BACKUP_ARCHIVE_CHECK));
    assert!(!backup("--no-online").boolean(&option::BACKUP_ARCHIVE_CHECK));
    assert!(!backup("--no-online").boolean(&option::ARCHIVE_MODE_CHECK));
    assert!(!backup("--no-archive-check").boolean(&option::ARCHIVE_MODE_CHECK));
}

#[test]
fn check_works_without_a_stanza() {
    let configuration = Machine::default().run("check");
    assert_eq!(configuration.optional_text(&option::STANZA), None);
    assert_eq!(configuration.optional_path(option::PG_PATH.at(1)), None);
    assert_eq!(configuration.stanzas(), [] as [&str; 0]);
}

#[test]
fn the_stanzas_are_the_sections_that_are_not_global() {
    let text = "[global]\nrepo1-path=/r\n[b]\npg1-path=/b\n[a:backup]\nstart-fast=y\n[a]\npg1-path=/a\n\
                [global:backup]\nstart-fast=n\n";
    let configuration = Machine::default().file("/etc/pgark/pgark.conf", text).run("check");
    assert_eq!(configuration.stanzas(), ["a", "b"]);
}

#[test]
fn archive_push_works_without_a_data_directory() {
    let configuration = Machine::default().run("archive-push --stanza=demo x");
    assert_eq!(configuration.optional_path(option::PG_PATH.at(1)), None);
}

#[test]
fn what_has_no_effect_is_read_all_the_same() {
    assert_eq!(backup("--buffer-size=64KiB").size(&option::BUFFER_SIZE), 64 << 10);
}

#[test]
fn the_log_shows_what_is_set_but_no_secret() {
    let machine = Machine::default()
        .variable("PGARK_REPO1_CIPHER_PASS", "hunter2")
        .variable("PGARK_REPO1_CIPHER_TYPE", "aes-256-gcm")
        .file(
            "/etc/pgark/pgark.conf",
            "[global]\nprocess-max=2\nrepo1-bundle=y\nrepo1-retention-full=2\nexclude=a b\nexclude=c\nstart-fast=n\n",
        );
    let configuration =
        machine.run("backup --stanza=demo --pg1-path=/pg --reset-log-path --no-online --annotation=k=v");
    insta::assert_snapshot!(configuration.describe().replace(" --", "\n--"), @r#"
    --annotation=k=v
    --exclude="a b"
    --exclude=c
    --reset-log-path
    --no-online
    --pg1-path=/pg
    --process-max=2
    --repo1-bundle
    --repo1-cipher-pass=<redacted>
    --repo1-cipher-type=aes-256-gcm
    --repo1-retention-full=2
    --stanza=demo
    --no-start-fast
    "#);
    let push = Machine::default().run("archive-push --stanza=demo pg_wal/000000010000000000000001");
    assert_eq!(push.describe(), "[pg_wal/000000010000000000000001] --stanza=demo");
}

#[test]
#[should_panic(expected = "option 'start-fast' of the restore command can't be asked for")]
fn to_ask_for_an_option_of_another_command_is_a_mistake() {
    restore("").boolean(&option::START_FAST);
}

#[test]
#[should_panic(expected = "option 'stanza' of the restore command is not a boolean")]
fn to_ask_for_a_value_of_another_type_is_a_mistake() {
    restore("").boolean(&option::STANZA);
}

#[test]
#[should_panic(expected = "option 'target' of the restore command has no value")]
fn to_ask_for_a_value_that_is_not_there_is_a_mistake() {
    restore("").text(&option::TARGET);
}

#[test]
fn whoever_gives_a_key_twice_is_told_which_value_holds() {
    let configuration = restore("--tablespace-map=ts=/one --tablespace-map=other=/o --tablespace-map=ts=/two");
    let pairs = [("other", "/o"), ("ts", "/two")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(configuration.map(&option::TABLESPACE_MAP), pairs);
    let warning = "key 'ts' value '/one' is overwritten with '/two' for 'tablespace-map' option";
    assert_eq!(configuration.warnings(), [warning]);
}

#[test]
fn a_limit_of_the_network_that_nothing_goes_over_is_told_of() {
    let told =
        |line: &str| Machine::default().run(&format!("{line} --stanza=demo --pg1-path=/pg")).warnings().join("\n");
    insta::assert_snapshot!(told("backup --network-limit=1MiB"), @r"
    'network-limit' option holds nothing back: no repository is reached over the network
    HINT: a mounted file system is a directory like any other: see io-limit
    ");
    let in_s3 = "--repo2-type=s3 --repo2-s3-bucket=b --repo2-s3-endpoint=s3.test --repo2-s3-region=r";
    for line in [
        &format!("backup --network-limit=1MiB --repo1-path=/one {in_s3}"),
        "backup",
        "backup --reset-network-limit",
        "archive-push --network-limit=1MiB x",
    ] {
        assert_eq!(told(line), "", "{line}");
    }
}
