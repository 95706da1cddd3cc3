//! Making backups.

use super::commands::COMPRESSING;
use super::definition::{Kind, boolean, choice, later, list, map, now, of, size};
use super::options;
use crate::command::Command::{Annotate, Backup, Check};

options! {
    [Backup]

    ANNOTATION, "annotation", "a note for the backup",
        "A pair key=value that info shows. May be given several times."
        => map().of(&[Backup]);

    ANNOTATE_ANNOTATION, "annotation", "a note for the backup",
        "A pair key=value that info shows. An empty value removes the note. May be given several times."
        => map().required().of(&[Annotate]);

    CHECKSUM_PAGE, "checksum-page", "whether page checksums are checked",
        "If not set they are, where the cluster has them. A page that fails does not end the backup: it is named in \
         the log and in the backup's manifest."
        => of(Kind::Boolean).of(&[Backup]);

    EXCLUDE, "exclude", "a file or directory to leave out",
        "Relative to the data directory. Without a slash at the end the file or the directory with all it contains is \
         left out; with one the directory itself is kept, empty. May be given several times.\n\n\
         It is easy to leave out something a cluster can't live without. Test the restore."
        => list().of(&[Backup]);

    START_FAST, "start-fast", "whether a checkpoint is forced so that the backup starts at once",
        "Otherwise it starts with the next regular checkpoint, which may take as long as checkpoint_timeout."
        => boolean("n").of(&[Backup]);

    VERIFY_WRITE, "verify-write", "whether a frame is decoded again and compared before it is stored",
        "Finds faulty memory and faulty code while the data can still be read from the cluster. It costs little beside \
         compression."
        => boolean("y").of(COMPRESSING);

    BACKUP_DELTA, "delta", "compare files by content instead of by time",
        "For an incremental or differential backup: every page is read and compared with the one that is stored, whatever \
         the WAL says of changes. A full backup does so always."
        => boolean("n").of(&[Backup]);

    REUSE, "reuse", "whether pages are pointed at that an earlier backup has stored",
        "So that a backup stores only what has changed, whatever its type. With n it stores every page anew: for a backup \
         that shares nothing with others."
        => boolean("y").of(&[Backup]);

    ARCHIVE_COPY, "archive-copy", "whether the WAL a backup needs is stored in it too",
        "So that the backup can be restored without the archive."
        => boolean("n").of(&[Backup]).later();

    BACKUP_STANDBY, "backup-standby", "whether to back up from a standby",
        "Takes load from the primary. Both primary and standby must be configured."
        => choice(&[
            now("n", "from the primary"),
            later("prefer", "from a standby if there is one, else from the primary"),
            later("y", "from a standby only"),
        ]).default("n").of(&[Backup, Check]).later();

    EXPIRE_AUTO, "expire-auto", "whether expire is run after a backup",
        "In every configured repository, or in the one named by --repo. Otherwise it has to be run by the scheduler."
        => boolean("y").of(&[Backup]);

    RESUME, "resume", "whether a backup goes on where an interrupted one ended",
        "Pages that the interrupted one has stored and that have not changed are not stored again. They are read, to be \
         certain of that."
        => boolean("y").of(&[Backup]);

    MANIFEST_SAVE_THRESHOLD, "manifest-save-threshold", "how often the manifest is saved during a backup",
        "pgBackRest saves it for the case that the backup is interrupted."
        => size("1B", "1TiB").of(&[Backup]).no_effect("pgark writes a manifest once, when the backup is complete");

    STOP_AUTO, "stop-auto", "whether an exclusive backup that was left is stopped",
        "No supported version of PostgreSQL has exclusive backups; pgBackRest ignores the option as well."
        => boolean("n").of(&[Backup]).no_effect("no supported version of PostgreSQL has exclusive backups");
}
