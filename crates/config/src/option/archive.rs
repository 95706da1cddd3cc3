//! Archiving WAL.

use super::definition::{boolean, duration, size};
use super::options;
use crate::command::Command::{ArchiveGet, ArchivePush, Backup, Check};

const CHECK_DESCRIPTION: &str = "Waits until every WAL segment that the backup needs has reached the archive, and \
     fails if one does not within archive-timeout. Turn it off only if WAL is archived by something else.";

options! {
    [Archive]

    ARCHIVE_TIMEOUT, "archive-timeout", "how long to wait for a WAL segment to be archived",
        "Holds for each segment that check and backup wait for, and for how long asynchronous archive-push and archive-get \
         wait for the process that does the work."
        => duration("100ms", "1d").default("1m").of(&[ArchiveGet, ArchivePush, Backup, Check]);

    ARCHIVE_CHECK, "archive-check", "whether archived WAL is checked for", CHECK_DESCRIPTION
        => boolean("y").of(&[ArchivePush, Check]);

    BACKUP_ARCHIVE_CHECK, "archive-check", "whether archived WAL is checked for", CHECK_DESCRIPTION
        => boolean("y").needs_or("online", &["y"], Some("n")).of(&[Backup]);

    ARCHIVE_MODE_CHECK, "archive-mode-check", "whether archive_mode=always is refused",
        "With archive_mode=always primary and standby archive the same segments, which may differ. With n make sure \
         that only one server archives."
        => boolean("y").needs_or("archive-check", &["y"], Some("n")).of(&[ArchivePush, Backup, Check]);

    ARCHIVE_ASYNC, "archive-async", "whether WAL is archived asynchronously",
        "A process of its own pushes every segment that is ready, many at once, and another fetches segments ahead of \
         recovery, each with process-max workers. archive-push says that a segment is archived once every repository holds \
         it durably, as without this option; where others are ready, it mostly has been for some time.\n\n\
         The two leave word for each other in spool-path."
        => boolean("n").of(&[ArchiveGet, ArchivePush]);

    ARCHIVE_GET_QUEUE_MAX, "archive-get-queue-max", "how much WAL is fetched ahead",
        "Bounds what asynchronous archive-get keeps in spool-path. Where it is less than one segment, nothing is fetched \
         ahead."
        => size("0B", "4PiB").default("128MiB").of(&[ArchiveGet]);

    ARCHIVE_MISSING_RETRY, "archive-missing-retry", "whether a missing segment is looked for again",
        "pgBackRest may trust what an earlier run has noted of a missing segment."
        => boolean("y").of(&[ArchiveGet])
            .no_effect("pgark notes nothing of missing segments: it asks the repositories each time");

    ARCHIVE_PUSH_BATCH_SIZE, "archive-push-batch-size", "how much WAL one asynchronous run pushes",
        "After so much the process ends, and the next segment that PostgreSQL asks for starts another, with the \
         configuration as it is then. One segment is pushed in any case."
        => size("1MiB", "4PiB").default("16GiB").of(&[ArchivePush]);

    ARCHIVE_PUSH_QUEUE_MAX, "archive-push-queue-max", "how much WAL may wait to be archived",
        "If more waits it is dropped, and PostgreSQL is told that it is archived: the server goes on, but nothing past \
         that point can be recovered before the next backup. Each file that is dropped is warned of, in PostgreSQL's log and \
         in that of the asynchronous process; check warns of what is missing and info shows it.\n\n\
         With archive-async and several repositories only those lose the segments that keep PostgreSQL waiting; the others \
         get all of them. Without this option nothing is ever dropped, and pg_wal grows until its disk is full."
        => size("0B", "4PiB").of(&[ArchivePush]).once_called(&["archive-queue-max"]);
}
