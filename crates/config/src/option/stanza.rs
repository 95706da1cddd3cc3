//! Where the cluster of a stanza is.

use super::commands::CONNECTING;
use super::definition::{integer, path, text};
use super::options;
use crate::command::Command::{
    Agent, ArchiveGet, ArchivePush, Backup, Check, Restore, Schedule, StanzaCreate, StanzaDelete, StanzaUpgrade,
};

const PATH_DESCRIPTION: &str = "PostgreSQL's data_directory. A backup compares it with what the server says. It is \
     also where restore puts the cluster.";
const PATH_ONCE: &[&str] = &["db-path", "db?-path"];

options! {
    [Stanza]

    PG_PATH, "pg-path", "the data directory", PATH_DESCRIPTION
        => path().each_cluster().required().once_called(PATH_ONCE)
            .of(&[ArchiveGet, Backup, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade]);

    PG_PATH_OF_STANZA, "pg-path", "the data directory", PATH_DESCRIPTION
        => path().each_cluster().required().needs("stanza", &[]).once_called(PATH_ONCE).of(&[Check]);

    PG_PATH_IF_ANY, "pg-path", "the data directory", PATH_DESCRIPTION
        => path().each_cluster().once_called(PATH_ONCE).of(&[Agent, ArchivePush, Schedule]);

    PG_PORT, "pg-port", "the port of PostgreSQL",
        "Also part of the name of the Unix socket."
        => integer(0, 65535).each_cluster().default("5432").once_called(&["db-port", "db?-port"]).of(CONNECTING);

    PG_SOCKET_PATH, "pg-socket-path", "the directory of the Unix socket",
        "Only needed where unix_socket_directories is not the default. A leading @ names an abstract socket."
        => text().each_cluster().once_called(&["db-socket-path", "db?-socket-path"]).of(CONNECTING);

    PG_DATABASE, "pg-database", "the database to connect to",
        "Any database the user can connect to will do. PGDATABASE is not heeded."
        => text().each_cluster().default("postgres").of(CONNECTING);

    PG_USER, "pg-user", "the user to connect as",
        "Without it PGUSER, else the name of the operating system's user."
        => text().each_cluster().of(CONNECTING);
}
