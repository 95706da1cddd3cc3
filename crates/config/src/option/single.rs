//! Options that may be given on the command line only, most of them for a single command.

use super::commands::{CHOOSING_REPOSITORY, LOOKING_BACK};
use super::definition::{Choice, boolean, choice, duration, integer, now, text};
use super::options;
use crate::command::Command::{
    Annotate, Backup, Check, Expire, Info, RepoGet, RepoLs, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade, Stop,
    Verify, Version,
};

static TEXT_OR_JSON: &[Choice] = &[now("text", "for people"), now("json", "for programs")];

options! {
    [Command]

    BACKUP_TYPE, "type", "the type of backup",
        "Types differ in what is read, in their labels, and in how long they are kept. None depends on another: every \
         backup can be restored by itself. Without a full backup before it, any other becomes one."
        => choice(&[
            now("full", "reads every page; stores what has changed since the last backup"),
            now("diff", "reads what has changed since the last backup; is kept as pgBackRest keeps such backups"),
            now("incr", "reads what has changed since the last backup"),
        ]).on_command_line().default("incr").of(&[Backup]);

    INFO_TYPE, "type", "show only backups of this type",
        "Without it backups of every type are shown."
        => choice(&[
            now("full", "full backups"),
            now("diff", "differential backups"),
            now("incr", "incremental backups"),
        ]).on_command_line().of(&[Info]);

    RESTORE_TYPE, "type", "how far to recover",
        "Says which recovery settings are written into the restored cluster. Where it is not given, an offline backup is \
         restored with none, unless another option asks for recovery settings."
        => choice(&[
            now("default", "to the end of the archive"),
            now("preserve", "as the settings say that are there already"),
            now("immediate", "only until the cluster is consistent"),
            now("standby", "go on as a standby"),
            now("none", "write no settings; only WAL in pg_wal is replayed, and no new timeline begins"),
            now("name", "to the restore point named by --target"),
            now("time", "to the time in --target"),
            now("lsn", "to the LSN in --target"),
            now("xid", "to the transaction in --target"),
        ]).on_command_line().default("default").of(&[Restore]);

    TARGET, "target", "where recovery ends",
        "A time (2026-11-22 12:00:00+00), an LSN (0/6000028), a transaction id or the name of a restore point, as \
         --type says. A time without a zone is in the local time zone."
        => text().on_command_line().required().needs("type", &["lsn", "name", "time", "xid"]).of(&[Restore]);

    TARGET_ACTION, "target-action", "what PostgreSQL does when it has reached the target",
        "PostgreSQL's recovery_target_action. pause needs hot_standby=on; without it PostgreSQL shuts down instead."
        => choice(&[
            now("pause", "wait, so that the data can be looked at"),
            now("promote", "open for writing on a new timeline"),
            now("shutdown", "shut down"),
        ]).on_command_line().default("pause")
            .needs("type", &["immediate", "lsn", "name", "time", "xid"]).of(&[Restore]);

    TARGET_EXCLUSIVE, "target-exclusive", "whether recovery ends just before the target",
        "With y the transaction that is the target is not recovered."
        => boolean("n").on_command_line().needs_or("type", &["lsn", "time", "xid"], Some("n")).of(&[Restore]);

    TARGET_TIMELINE, "target-timeline", "the timeline to recover along",
        "A number (also as 0x1A), current or latest: PostgreSQL's recovery_target_timeline."
        => text().on_command_line()
            .needs("type", &["default", "lsn", "name", "standby", "time", "xid"]).of(&[Restore]);

    RESTORE_SET, "set", "the backup to restore",
        "A label as info shows it. latest is the newest backup that suits the target, if there is one."
        => text().on_command_line().default("latest").of(&[Restore]);

    INFO_SET, "set", "the backup to show in detail",
        "Adds databases, tablespaces, links, annotations and errors to what is shown."
        => text().on_command_line().needs("stanza", &[]).of(&[Info]);

    ANNOTATE_SET, "set", "the backup to annotate",
        "A label as info shows it."
        => text().on_command_line().required().of(&[Annotate]);

    EXPIRE_SET, "set", "the backup to expire",
        "A label as info shows it. The backup goes whatever retention says, unless it is the last one; with a full backup go \
         the differential and incremental ones that follow it, with a differential one the incremental ones. A repository \
         that does not have it is left as it is."
        => text().on_command_line().of(&[Expire]);

    VERIFY_SET, "set", "the backup to verify",
        "A label as info shows it. Without it every backup and the whole archive are verified; with it, what this backup and \
         a recovery from it need."
        => text().on_command_line().of(&[Verify]);

    REPO, "repo", "the repository to use",
        "The index of a configured repository: 2 for the one whose options begin with repo2."
        => integer(1, 256).on_command_line().of(CHOOSING_REPOSITORY);

    REPO_TARGET_TIME, "repo-target-time", "read the repository as it was at this time",
        "For storage that keeps old versions of objects: finds what was deleted or damaged later."
        => text().on_command_line().of(LOOKING_BACK).later_never_ignored();

    ONLINE, "online", "whether PostgreSQL is running and to be connected to",
        "With n the cluster must be shut down; stanza-create then reads what it needs from pg_control, and backup \
         copies pg_wal instead of waiting for the archive."
        => boolean("y").on_command_line().of(&[Backup, StanzaCreate, StanzaUpgrade]);

    RESTORE_FORCE, "force", "overwrite what is in the data directory",
        "The directory is emptied first, if it is that of a cluster. With --delta it changes nothing: pages are always \
         compared by their content."
        => boolean("n").on_command_line().of(&[Restore]);

    BACKUP_FORCE, "force", "back up offline although PostgreSQL seems to be running",
        "For a crashed cluster whose postmaster.pid was left. A running cluster gives a damaged backup."
        => boolean("n").on_command_line().of(&[Backup]);

    STANZA_CREATE_FORCE, "force", "taken for old scripts",
        "Once overwrote what was in the repository; pgBackRest ignores it as well."
        => boolean("n").on_command_line().of(&[StanzaCreate])
            .no_effect("stanza-create never overwrites what is in a repository");

    STANZA_DELETE_FORCE, "force", "delete the stanza although PostgreSQL is running",
        "Without it the cluster must be shut down, and no other host may be at work on the stanza. The stop file must be \
         there all the same."
        => boolean("n").on_command_line().of(&[StanzaDelete]);

    STOP_FORCE, "force", "end running commands",
        "Every command that holds a lock of the stanza, or of any stanza, gets a signal to end. Without it they finish."
        => boolean("n").on_command_line().of(&[Stop]);

    INFO_OUTPUT, "output", "the form of the output",
        "JSON has pgBackRest's keys."
        => choice(TEXT_OR_JSON).on_command_line().default("text").of(&[Info]);

    REPO_LS_OUTPUT, "output", "the form of the output",
        "Text has one name on each line. JSON has type, size and time too."
        => choice(TEXT_OR_JSON).on_command_line().default("text").of(&[RepoLs]);

    VERIFY_OUTPUT, "output", "the form of the output",
        "Without a report what is wrong is logged as warnings."
        => choice(&[now("none", "no report"), now("text", "for people"), now("json", "for programs")])
            .on_command_line().default("none").of(&[Verify]);

    QUICK, "quick", "see only which objects there are and how long they are",
        "Reads manifests and listings, but no object that they name: it takes seconds, and finds what is missing, not what \
         is damaged."
        => boolean("n").on_command_line().of(&[Verify]);

    MAX_DURATION, "max-duration", "how long it may take",
        "What has not been verified for the longest time comes first, so that short runs, night by night, cover \
         everything. When the time is over the report says how much is covered, and since when."
        => duration("100ms", "30d").on_command_line().of(&[Verify]);

    VERSION_OUTPUT, "output", "the form of the output",
        "The number is 1000000 times major plus 1000 times minor plus patch."
        => choice(&[now("text", "for people"), now("num", "a number that grows with the version")])
            .on_command_line().default("text").of(&[Version]);

    DETAIL_LEVEL, "detail-level", "how much to show",
        "progress reads little of the repository and is quick."
        => choice(&[now("full", "everything"), now("progress", "only what is running and how far it is")])
            .on_command_line().default("full").of(&[Info]);

    REPORT, "report", "write a report of the check",
        "Collects what support would ask for."
        => boolean("n").on_command_line().of(&[Check]).later();

    DRY_RUN, "dry-run", "show what would be removed, and remove nothing",
        "The plan is logged, each line marked [DRY-RUN]."
        => boolean("n").on_command_line().of(&[Expire]);

    OLDEST, "oldest", "expire the oldest full backup",
        "With the differential and incremental backups that follow it, if a newer full backup remains. The rules of \
         retention do not keep it."
        => boolean("n").on_command_line().of(&[Expire]);

    ARCHIVE_EXPIRE_BEFORE, "archive-expire-before", "remove WAL older than this segment",
        "Only WAL that no backup needs, and none from this segment on, whatever retention says. It also removes WAL from an \
         archive that has no backup yet."
        => text().on_command_line().of(&[Expire]);

    VERBOSE, "verbose", "show what is in order too",
        "Without it the report shows only counts that are not zero."
        => boolean("n").on_command_line().of(&[Verify]);

    FILTER, "filter", "show only names that fit this regular expression",
        "It is compared with the path below the one that is listed, and may fit any part of it."
        => text().on_command_line().of(&[RepoLs]);

    RECURSE, "recurse", "list what lies deeper too",
        "Names are then paths, relative to the one that is listed."
        => boolean("n").on_command_line().of(&[RepoLs]);

    SORT, "sort", "the order of the output",
        "By name."
        => choice(&[now("none", "no matter; it is ascending"), now("asc", "ascending"), now("desc", "descending")])
            .on_command_line().default("asc").of(&[RepoLs]);

    IGNORE_MISSING, "ignore-missing", "exit 1 without an error if the file does not exist",
        "Any other failure is an error still."
        => boolean("n").on_command_line().of(&[RepoGet]);

    RAW, "raw", "do not decrypt or decode the file",
        "Writes what is stored, byte for byte. It needs no pass phrase."
        => boolean("n").on_command_line().of(&[RepoGet]);
}
