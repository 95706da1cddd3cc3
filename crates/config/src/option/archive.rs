//! Archiving WAL.

use super::definition::{boolean, duration, size};
use super::options;
use crate::command::Command::{ArchiveGet, ArchivePush, Backup, Check};

const CHECK_DESCRIPTION: &str = "Waits until every WAL segment that the backup needs has reached the archive, and \
     fails if one does not within archive-timeout. Turn it off only if WAL is archived by something else.";

options! {
    [Archive]

    ARCHIVE_TIMEOUT, "archive-timeout", "how long to wait for a WAL segment to be archived",
        "Holds for each segment that check and backup wait for."
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
        "Pushes many ready segments at once and fetches segments ahead, with process-max workers."
        => boolean("n").of(&[ArchiveGet, ArchivePush]).later();

    ARCHIVE_GET_QUEUE_MAX, "archive-get-queue-max", "how much WAL is fetched ahead",
        "Bounds the queue of asynchronous archive-get in spool-path."
        => size("0B", "4PiB").default("128MiB").of(&[ArchiveGet]).later();

    ARCHIVE_MISSING_RETRY, "archive-missing-retry", "whether a missing segment is looked for again",
        "Without it asynchronous archive-get trusts what an earlier run has noted in spool-path."
        => boolean("y").of(&[ArchiveGet]).later();

    ARCHIVE_PUSH_BATCH_SIZE, "archive-push-batch-size", "how much WAL one asynchronous run pushes",
        "After so much a run ends and the next checks archive-push-queue-max anew."
        => size("1MiB", "4PiB").default("16GiB").of(&[ArchivePush]).later();

    ARCHIVE_PUSH_QUEUE_MAX, "archive-push-queue-max", "how much WAL may wait to be archived",
        "If more waits it is dropped, and PostgreSQL is told that it is archived: the server goes on, but nothing past \
         that point can be recovered before the next backup."
        => size("0B", "4PiB").of(&[ArchivePush]).once_called(&["archive-queue-max"]).later();
}
