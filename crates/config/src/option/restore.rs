//! Restoring.

use super::definition::{boolean, choice, list, map, now, text};
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
        "off keeps a copy that is promoted for a test from archiving into the repository of its original. It can't be \
         had with --type=none or preserve, which write no settings."
        => choice(&[now("preserve", "as the cluster is configured"), now("off", "write archive_mode=off")])
            .default("preserve").of(&[Restore]);

    DB_INCLUDE, "db-include", "a database to restore",
        "By name or OID. The files of all others take no space, and can only be dropped when recovery is over; \
         template0, template1, postgres and other databases with an OID below 16384 always come, unless --db-exclude \
         names them. May be given several times."
        => list().of(&[Restore]);

    DB_EXCLUDE, "db-exclude", "a database not to restore",
        "By name or OID. Its files take no space, and it can only be dropped when recovery is over. With --db-include \
         it matters for template0, template1 and postgres only. May be given several times."
        => list().of(&[Restore]);

    LINK_ALL, "link-all", "whether symbolic links are restored as links",
        "They lead where they led. Otherwise what they point at becomes part of the data directory."
        => boolean("n").of(&[Restore]);

    LINK_MAP, "link-map", "another destination for a symbolic link",
        "A pair link=destination, the link by its path in the data directory: pg_wal=/fast/wal. A directory or file \
         that was no link becomes one. May be given several times."
        => map().of(&[Restore]);

    TABLESPACE_MAP, "tablespace-map", "another directory for a tablespace",
        "A pair tablespace=directory, the tablespace by name or OID. May be given several times."
        => map().of(&[Restore]);

    TABLESPACE_MAP_ALL, "tablespace-map-all", "another directory for all tablespaces",
        "Each tablespace that --tablespace-map does not name gets a directory of its name below it."
        => text().of(&[Restore]);
}
