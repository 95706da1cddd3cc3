//! Restoring.

use super::definition::{boolean, choice, later, list, map, now, text};
use super::options;
use crate::command::Command::Restore;

options! {
    [Restore]

    DELTA, "delta", "restore over what is there",
        "Compares what is in the data directory with the backup, fetches what differs and removes what is not in the \
         backup. Without it the directory must be empty."
        => boolean("n").of(&[Restore]);

    RECOVERY_OPTION, "recovery-option", "a recovery setting to write",
        "A pair key=value for postgresql.auto.conf (recovery.conf before PostgreSQL 12), for example \
         primary_conninfo=... May be given several times.\n\n\
         restore_command can be replaced by it; the settings of the recovery target belong to --type and --target."
        => map().needs("type", &["default", "immediate", "lsn", "name", "standby", "time", "xid"]).of(&[Restore]);

    ARCHIVE_MODE, "archive-mode", "whether the restored cluster archives",
        "off keeps a copy that is promoted for a test from archiving into the repository of its original."
        => choice(&[now("preserve", "as the cluster is configured"), later("off", "write archive_mode=off")])
            .default("preserve").of(&[Restore]);

    DB_INCLUDE, "db-include", "a database to restore",
        "All others are restored as empty files and can only be dropped. template0, template1 and postgres always \
         come. May be given several times."
        => list().of(&[Restore]).later();

    DB_EXCLUDE, "db-exclude", "a database not to restore",
        "It is restored as empty files and can only be dropped. May be given several times."
        => list().of(&[Restore]).later();

    LINK_ALL, "link-all", "whether symbolic links are restored as links",
        "Otherwise what they point at becomes part of the data directory."
        => boolean("n").of(&[Restore]).later();

    LINK_MAP, "link-map", "another destination for a symbolic link",
        "A pair link=destination. May be given several times."
        => map().of(&[Restore]).later();

    TABLESPACE_MAP, "tablespace-map", "another directory for a tablespace",
        "A pair tablespace=directory, the tablespace by name or OID. May be given several times."
        => map().of(&[Restore]).later_never_ignored();

    TABLESPACE_MAP_ALL, "tablespace-map-all", "another directory for all tablespaces",
        "Each tablespace gets a directory of its own below it."
        => text().of(&[Restore]).later_never_ignored();
}
