//! Whether a server runs. Wrongly told that none does, a restore would overwrite a live cluster.

use fs_err as fs;
use pgark_postgres::process::{PID_FILE, Running, running};
use pgark_testkit::{Cluster, Scratch, Server, Stop};

#[test]
fn a_server_is_seen_while_it_lives() {
    for server in Server::all() {
        let mut cluster = Cluster::builder(&server).create();
        assert_eq!(running(cluster.data_directory()).unwrap(), Running::No);
        cluster.start();
        let Running::Yes(file) = running(cluster.data_directory()).unwrap() else { panic!("the server runs") };
        assert_eq!(file.pid.to_string(), cluster.sql("select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)"));
        assert_eq!((file.port, file.single_user), (Some(cluster.port()), false));
        assert_eq!(file.socket_directory, Some(cluster.socket_directory()));
        assert_eq!(
            fs::canonicalize(&file.data_directory).unwrap(),
            fs::canonicalize(cluster.data_directory()).unwrap()
        );
        cluster.stop(Stop::Fast);
        assert_eq!(running(cluster.data_directory()).unwrap(), Running::No);
    }
}

#[test]
fn a_server_that_was_killed_is_not_taken_for_alive() {
    let mut cluster = Cluster::builder(&Server::get(17)).start();
    let Running::Yes(before) = running(cluster.data_directory()).unwrap() else { panic!("the server runs") };
    cluster.kill9();
    assert_eq!(running(cluster.data_directory()).unwrap(), Running::Stale(before));
}

#[test]
fn a_copied_pid_file_tells_of_another_directory() {
    let cluster = Cluster::builder(&Server::get(17)).start();
    let scratch = Scratch::new();
    let copy = scratch.directory("copy");
    fs::copy(cluster.data_directory().join(PID_FILE), copy.join(PID_FILE)).unwrap();
    assert!(matches!(running(&copy).unwrap(), Running::Stale(_)));
}
