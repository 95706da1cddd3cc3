//! Repositories and clusters on other hosts.

use super::commands::{CONNECTING, USING_REPOSITORY};
use super::definition::{Choice, boolean, choice, integer, now, path, text};
use super::options;
use crate::command::Command::{
    ArchiveGet, ArchivePush, Backup, Check, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade,
};

static HOST_TYPES: &[Choice] = &[now("ssh", "Secure Shell"), now("tls", "pgBackRest's TLS server")];

const HOST_DESCRIPTION: &str = "Set where the cluster is not on the host that pgark runs on.";
const TLS: &str = "For a host that is reached by TLS.";
const SSH: &str = "For a host that is reached by ssh.";
const THERE: &str = "Where it is not the default one of that host.";
const PORT: &str = "8432 for TLS; for ssh what the client is configured for.";

options! {
    [RepositoryHost]

    REPO_HOST, "repo-host", "the host of the repository",
        "Set where the repository is not on the host that pgark runs on."
        => text().each_repository().once_called(&["backup-host"]).of(USING_REPOSITORY).later_never_ignored();

    REPO_HOST_TYPE, "repo-host-type", "how the repository host is reached",
        "Belongs to repoN-host."
        => choice(HOST_TYPES).each_repository().default("ssh").of(USING_REPOSITORY).later();

    REPO_HOST_PORT, "repo-host-port", "the port of the repository host", PORT
        => integer(0, 65535).each_repository().once_called(&["backup-ssh-port"]).of(USING_REPOSITORY).later();

    REPO_HOST_USER, "repo-host-user", "the user on the repository host", SSH
        => text().each_repository().default("pgbackrest").once_called(&["backup-user"]).of(USING_REPOSITORY).later();

    REPO_HOST_CMD, "repo-host-cmd", "the program on the repository host", SSH
        => text().each_repository().once_called(&["backup-cmd"]).of(USING_REPOSITORY).later();

    REPO_HOST_CONFIG, "repo-host-config", "the configuration file on the repository host", THERE
        => text().each_repository().once_called(&["backup-config"]).of(USING_REPOSITORY).later();

    REPO_HOST_CONFIG_INCLUDE_PATH, "repo-host-config-include-path",
        "the include directory on the repository host", THERE
        => path().each_repository().of(USING_REPOSITORY).later();

    REPO_HOST_CONFIG_PATH, "repo-host-config-path", "the configuration directory on the repository host", THERE
        => path().each_repository().of(USING_REPOSITORY).later();

    REPO_HOST_CA_FILE, "repo-host-ca-file",
        "the file of authorities that the repository host's certificate may be of", TLS
        => text().each_repository().of(USING_REPOSITORY).later();

    REPO_HOST_CA_PATH, "repo-host-ca-path",
        "the directory of authorities that the repository host's certificate may be of", TLS
        => text().each_repository().of(USING_REPOSITORY).later();

    REPO_HOST_CERT_FILE, "repo-host-cert-file", "the certificate shown to the repository host", TLS
        => text().each_repository().of(USING_REPOSITORY).later();

    REPO_HOST_KEY_FILE, "repo-host-key-file", "the key of the certificate shown to the repository host", TLS
        => text().each_repository().of(USING_REPOSITORY).later();

    [ClusterHost]

    PG_HOST, "pg-host", "the host of the cluster", HOST_DESCRIPTION
        => text().each_cluster().once_called(&["db-host", "db?-host"])
            .of(&[Backup, Check, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade]).later_never_ignored();

    PG_HOST_OF_ARCHIVE, "pg-host", "the host of the cluster",
        "PostgreSQL runs these commands itself, so the cluster is always on this host."
        => text().each_cluster().once_called(&["db-host", "db?-host"]).of(&[ArchiveGet, ArchivePush]).later();

    PG_LOCAL, "pg-local", "whether the cluster is on this host",
        "Makes pgBackRest disregard pgN-host."
        => boolean("n").each_cluster()
            .of(&[ArchiveGet, ArchivePush, Backup, Check, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade]).later();

    PG_HOST_TYPE, "pg-host-type", "how the cluster host is reached",
        "Belongs to pgN-host."
        => choice(HOST_TYPES).each_cluster().default("ssh").of(CONNECTING).later();

    PG_HOST_PORT, "pg-host-port", "the port of the cluster host", PORT
        => integer(0, 65535).each_cluster().once_called(&["db-ssh-port", "db?-ssh-port"]).of(CONNECTING).later();

    PG_HOST_USER, "pg-host-user", "the user on the cluster host", SSH
        => text().each_cluster().default("postgres").once_called(&["db-user", "db?-user"]).of(CONNECTING).later();

    PG_HOST_CMD, "pg-host-cmd", "the program on the cluster host", SSH
        => text().each_cluster().once_called(&["db-cmd", "db?-cmd"]).of(CONNECTING).later();

    PG_HOST_CONFIG, "pg-host-config", "the configuration file on the cluster host", THERE
        => path().each_cluster().once_called(&["db-config", "db?-config"]).of(CONNECTING).later();

    PG_HOST_CONFIG_INCLUDE_PATH, "pg-host-config-include-path", "the include directory on the cluster host", THERE
        => path().each_cluster().of(CONNECTING).later();

    PG_HOST_CONFIG_PATH, "pg-host-config-path", "the configuration directory on the cluster host", THERE
        => path().each_cluster().of(CONNECTING).later();

    PG_HOST_CA_FILE, "pg-host-ca-file", "the file of authorities that the cluster host's certificate may be of", TLS
        => text().each_cluster().of(CONNECTING).later();

    PG_HOST_CA_PATH, "pg-host-ca-path",
        "the directory of authorities that the cluster host's certificate may be of", TLS
        => text().each_cluster().of(CONNECTING).later();

    PG_HOST_CERT_FILE, "pg-host-cert-file", "the certificate shown to the cluster host", TLS
        => text().each_cluster().of(CONNECTING).later();

    PG_HOST_KEY_FILE, "pg-host-key-file", "the key of the certificate shown to the cluster host", TLS
        => text().each_cluster().of(CONNECTING).later();
}
