//! Passwords. There is one test in this file, since it changes the environment of its process.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fs_err as fs;
use pgark_postgres::client::{ClientError, ConnectSettings, Connection};
use pgark_testkit::{Cluster, Server};

#[expect(unsafe_code, reason = "the only way to change the environment")]
fn set(name: &str, value: &str) {
    // SAFETY: this process runs one test, in one thread, which alone uses the environment.
    unsafe { std::env::set_var(name, value) }
}

#[test]
fn a_password_comes_from_the_password_file_or_the_environment() {
    let cluster = Cluster::builder(&Server::get(17)).start();
    cluster.sql("alter role postgres password 'se:c\\ret'");
    fs::write(cluster.data_directory().join("pg_hba.conf"), "local all all scram-sha-256\n").unwrap();
    cluster.sql("select pg_reload_conf()");
    let settings = ConnectSettings {
        socket_path: Some(cluster.socket_directory()),
        port: cluster.port(),
        user: Some("postgres".to_owned()),
        database: "postgres".to_owned(),
        statement_timeout: Duration::from_secs(60),
        command: "check".to_owned(),
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgpass");
    set("PGPASSFILE", file.to_str().unwrap());
    set("PGPASSWORD", "");
    // A reload takes a moment to reach the server.
    pgark_testkit::wait_until("the server to ask for a password", || Connection::open(&settings).is_err());
    assert!(matches!(Connection::open(&settings), Err(ClientError::Connect { .. })));

    let place = format!("{}:{}", cluster.socket_directory().to_str().unwrap(), cluster.port());
    fs::write(&file, format!("other:*:*:*:no\n{place}:postgres:postgres:se\\:c\\\\ret\n")).unwrap();
    fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    Connection::open(&settings).unwrap();
    fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Connection::open(&settings), Err(ClientError::Connect { .. })));

    set("PGPASSWORD", "se:c\\ret");
    Connection::open(&settings).unwrap();
    set("PGPASSWORD", "wrong");
    let error = Connection::open(&settings).unwrap_err().to_string();
    assert!(error.contains("password authentication failed"), "{error}");
}
