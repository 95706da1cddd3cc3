//! Configuration files as pgBackRest's users have them.

use pgark_config::{Compression, option};

use crate::machine::{Machine, shown};

/// What the files have in common.
const COMMON: &str = "
[global]
# Retention
repo1-retention-full-type=time
repo1-retention-full=14
repo1-retention-diff=7
repo1-retention-archive=14
repo1-retention-history=365

# Encryption
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=zWaf6XtpjIVZC5444yXB+cgFDFl7MxGlgkZSaoPvTGirhPygu4jOKOXf9LO4vjfO

# How files are stored
repo1-bundle=y
repo1-bundle-limit=4MiB
repo1-bundle-size=128MiB
repo1-block=y
compress-type=gz
compress-level=6
buffer-size=4MiB

# Asynchronous archiving
archive-async=y
spool-path=/var/spool/pgbackrest
archive-push-queue-max=128GiB
archive-get-queue-max=2GiB
archive-timeout=300

process-max=4
start-fast=y
stop-auto=y
resume=y
delta=y
backup-standby=n
expire-auto=y
log-level-console=info
log-level-file=detail
log-path=/var/log/pgbackrest
lock-path=/tmp/pgbackrest
protocol-timeout=1860
db-timeout=1800
tcp-keep-alive-count=3
sck-keep-alive=y

[global:archive-push]
compress-type=lz4
compress-level=3
process-max=8

[global:archive-get]
process-max=8

[global:restore]
process-max=16

[main]
pg1-path=/var/lib/postgresql/17/main
pg1-port=5433
pg1-socket-path=/var/run/postgresql
pg1-user=backup
pg1-database=admin
recovery-option=primary_conninfo=host=db port=5432
";

const POSIX: &str = "
[global]
repo1-path=/var/lib/pgbackrest
repo1-hardlink=y
";

const S3: &str = "
[global]
repo1-type=s3
repo1-path=/pgbackrest/main
repo1-s3-bucket=backups
repo1-s3-endpoint=s3.eu-central-1.amazonaws.com
repo1-s3-region=eu-central-1
repo1-s3-key=AKIAIOSFODNN7EXAMPLE
repo1-s3-key-secret=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
repo1-s3-uri-style=path
repo1-s3-verify-tls=n
repo1-s3-ca-file=/etc/ssl/certs/ca.crt
repo1-storage-upload-chunk-size=16MiB
";

fn machine(repository: &str) -> Machine {
    Machine::default()
        .file("/etc/pgbackrest/pgbackrest.conf", COMMON)
        .file("/etc/pgbackrest/conf.d/repository.conf", repository)
}

#[test]
fn a_file_with_a_local_repository_works_without_a_warning() {
    let backup = machine(POSIX).run("backup --stanza=main");
    assert_eq!(backup.warnings(), [] as [&str; 0]);
    assert_eq!(backup.path(option::REPO_PATH.at(1)).to_str(), Some("/var/lib/pgbackrest"));
    assert!(backup.repository_passphrase(1).is_some());
    assert_eq!(backup.integer(&option::PROCESS_MAX), 4);
    assert_eq!(backup.compression(), Compression::Zstd { level: 3 });
    assert_eq!(backup.integer(option::PG_PORT.at(1)), 5433);

    let push = machine(POSIX).run("archive-push --stanza=main pg_wal/000000010000000000000001");
    // Whoever would read it for every segment reads it from check, once.
    assert_eq!(push.warnings(), [] as [&str; 0]);
    let check = machine(POSIX).run("check --stanza=main");
    assert_eq!(check.warnings(), [] as [&str; 0]);
    assert!(push.boolean(&option::ARCHIVE_ASYNC));
    assert_eq!(push.path(&option::SPOOL_PATH).to_str(), Some("/var/spool/pgbackrest"));
    assert_eq!(push.optional_size(&option::ARCHIVE_PUSH_QUEUE_MAX), Some(128 << 30));
    assert_eq!(push.compression(), Compression::Lz4);
    assert_eq!(push.integer(&option::PROCESS_MAX), 8);

    let restore = machine(POSIX).run("restore --stanza=main");
    assert_eq!(restore.warnings(), [] as [&str; 0]);
    assert!(restore.boolean(&option::DELTA));
    let pairs = [("primary_conninfo".to_owned(), "host=db port=5432".to_owned())];
    assert_eq!(restore.map(&option::RECOVERY_OPTION), pairs);

    for line in ["info", "info --stanza=main --output=json", "stanza-create --stanza=main"] {
        assert_eq!(machine(POSIX).run(line).warnings(), [] as [&str; 0], "{line}");
    }
}

#[test]
fn a_file_with_a_repository_in_s3_works_with_the_same_warning() {
    for line in ["backup --stanza=main", "archive-push --stanza=main x", "restore --stanza=main", "info"] {
        let configuration = machine(S3).run(line);
        assert_eq!(configuration.warnings(), machine(POSIX).run(line).warnings(), "{line}");
        assert_eq!(configuration.text(option::REPO_TYPE.at(1)), "s3");
        assert_eq!(configuration.text(option::REPO_S3_BUCKET.at(1)), "backups");
        assert_eq!(configuration.optional_secret(option::REPO_S3_KEY.at(1)).unwrap().expose(), "AKIAIOSFODNN7EXAMPLE");
        assert!(!configuration.boolean(option::REPO_STORAGE_VERIFY_TLS.at(1)));
        assert_eq!(configuration.size(option::REPO_STORAGE_UPLOAD_CHUNK_SIZE.at(1)), 16 << 20);
        assert_eq!(configuration.text(option::REPO_S3_URI_STYLE.at(1)), "path");
        let shown = configuration.describe();
        assert!(!shown.contains("AKIA") && !shown.contains("wJalr"), "{shown}");
    }
}

#[test]
fn options_of_storage_that_is_not_used_mean_nothing() {
    let without_type = S3.replace("repo1-type=s3", "repo1-type=posix");
    let backup = machine(&without_type).run("backup --stanza=main");
    assert_eq!(backup.warnings(), machine(POSIX).run("backup --stanza=main").warnings());
    assert_eq!(backup.optional_text(option::REPO_S3_BUCKET.at(1)), None);
}

#[test]
fn a_file_with_a_repository_elsewhere_is_refused() {
    let elsewhere = "[global]\nrepo1-type=azure\n";
    for line in ["backup --stanza=main", "archive-push --stanza=main x", "restore --stanza=main", "info"] {
        let error = shown(&machine(elsewhere).error(line));
        assert!(error.contains("value 'azure' of option 'repo1-type' is not available yet"), "{line}: {error}");
    }
    insta::assert_snapshot!(shown(&machine(elsewhere).error("info")), @r"
    FeatureNotSupported: value 'azure' of option 'repo1-type' is not available yet
      hint: available values are 'posix', 's3'
      hint: it is set in section [global] of '/etc/pgbackrest/conf.d/repository.conf', line 2
    ");
    let host = "[global]\nrepo1-host=backup\nrepo1-host-user=postgres\n";
    insta::assert_snapshot!(shown(&machine(host).error("archive-push --stanza=main x")), @r"
    FeatureNotSupported: option 'repo1-host' is not available yet
      hint: 'pgark help archive-push' lists the options that are available
      hint: leaving it out would do something else than was asked, so it is not ignored
      hint: it is set in section [global] of '/etc/pgbackrest/conf.d/repository.conf', line 2
    ");
}

#[test]
fn an_environment_of_a_container_works() {
    let machine = Machine::default()
        .variable("PGBACKREST_STANZA", "db")
        .variable("PGBACKREST_PG1_PATH", "/pgdata/pg17")
        .variable("PGBACKREST_PG1_PORT", "5432")
        .variable("PGBACKREST_PG1_SOCKET_PATH", "/tmp")
        .variable("PGBACKREST_REPO1_PATH", "/pgbackrest/repo1")
        .variable("PGBACKREST_REPO1_RETENTION_FULL", "2")
        .variable("PGBACKREST_LOG_PATH", "/tmp")
        .variable("PGDATA", "/pgdata/pg17");
    let push = machine.run("archive-push pg_wal/000000010000000000000001");
    assert_eq!(push.warnings(), [] as [&str; 0]);
    let backup = machine.run("backup");
    assert_eq!(backup.warnings(), [] as [&str; 0]);
    assert_eq!(backup.integer(option::REPO_RETENTION_FULL.at(1)), 2);
}
