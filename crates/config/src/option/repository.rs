//! Where repositories are, how they are encrypted and how long backups stay.

use super::commands::{RETAINING, USING_REPOSITORY};
use super::definition::{boolean, choice, duration, integer, later, map, now, path, secret, size};
use super::options;
use crate::command::Command::{Backup, Expire};

const PACKS: &str = "pgark packs the pages of all files together and refers to pages that are stored already";
const NO_LINKS: &str = "every backup of pgark stands alone, there is nothing to link";

options! {
    [Repository]

    REPO_TYPE, "repo-type", "the kind of storage",
        "A mounted network file system is posix if it keeps what was synced; for PostgreSQL's own files the same holds."
        => choice(&[
            later("azure", "Azure Blob Storage"),
            later("cifs", "a file system without links and synced directories"),
            later("gcs", "Google Cloud Storage"),
            now("posix", "a file system"),
            now("s3", "S3, and what speaks its language"),
            later("sftp", "SFTP"),
        ]).each_repository().default("posix").once_called(&["repo-type"]).of(USING_REPOSITORY);

    REPO_PATH, "repo-path", "where the repository lies",
        "A directory, or the prefix of all names in a bucket. A repository of pgBackRest may lie in the same place; \
         the two don't touch each other's files."
        => path().each_repository().default("/var/lib/pgark").once_called(&["repo-path"]).of(USING_REPOSITORY);

    REPO_CIPHER_TYPE, "repo-cipher-type", "how the repository is encrypted",
        "Whether a repository is encrypted is settled by stanza-create and can't be changed later."
        => choice(&[
            now("none", "not at all"),
            now("aes-256-gcm", "AES with a key of 256 bits, authenticated"),
            now("aes-256-cbc", "taken as aes-256-gcm, so that an existing configuration file works"),
        ]).each_repository().default("none").once_called(&["repo-cipher-type"]).of(USING_REPOSITORY);

    REPO_CIPHER_PASS, "repo-cipher-pass", "the passphrase of the repository",
        "It protects the key that everything else is encrypted with. Without it nothing can be read, by anyone: keep a \
         copy away from the database host."
        => secret().each_repository().required().needs("repo-cipher-type", &["aes-256-cbc", "aes-256-gcm"])
            .once_called(&["repo-cipher-pass"]).of(USING_REPOSITORY);

    REPO_BUNDLE, "repo-bundle", "whether small files are bundled",
        "pgBackRest otherwise stores each file of the cluster as a file of the repository."
        => boolean("n").each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BUNDLE_LIMIT, "repo-bundle-limit", "how large a bundled file may be",
        "Belongs to repo-bundle."
        => size("8KiB", "1PiB").each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BUNDLE_SIZE, "repo-bundle-size", "how large a bundle is",
        "Belongs to repo-bundle."
        => size("1MiB", "1PiB").each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BLOCK, "repo-block", "whether backups store parts of files",
        "pgBackRest otherwise stores a file that has changed as a whole."
        => boolean("n").each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BLOCK_AGE_MAP, "repo-block-age-map", "block sizes by the age of a file",
        "Belongs to repo-block."
        => map().each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BLOCK_CHECKSUM_SIZE_MAP, "repo-block-checksum-size-map", "checksum sizes by the size of a block",
        "Belongs to repo-block."
        => map().each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BLOCK_SIZE_MAP, "repo-block-size-map", "block sizes by the size of a file",
        "Belongs to repo-block."
        => map().each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BLOCK_SIZE_SUPER, "repo-block-size-super", "how many bytes are compressed together",
        "Belongs to repo-block."
        => size("32KiB", "16MiB").each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_BLOCK_SIZE_SUPER_FULL, "repo-block-size-super-full", "how many bytes of a full backup are compressed together",
        "Belongs to repo-block."
        => size("32KiB", "16MiB").each_repository().of(&[Backup]).no_effect(PACKS);

    REPO_HARDLINK, "repo-hardlink", "whether files are linked between backups",
        "Makes each of pgBackRest's backups look like a full one."
        => boolean("n").each_repository().once_called(&["hardlink"]).of(&[Backup]).no_effect(NO_LINKS);

    REPO_SYMLINK, "repo-symlink", "whether symbolic links are made in the repository",
        "pgBackRest links the latest backup and tablespaces."
        => boolean("y").each_repository().of(&[Backup, Expire]).no_effect(NO_LINKS);

    REPO_LOCAL, "repo-local", "whether the repository is on this host",
        "Makes pgBackRest disregard repoN-host."
        => boolean("n").each_repository().of(USING_REPOSITORY).later();

    [Retention]

    REPO_RETENTION_FULL, "repo-retention-full", "how many full backups are kept, or for how many days",
        "Older ones are removed with the differential and incremental backups that follow them. Each rule of retention says \
         what it wants to keep; a backup that none of them wants goes, but never the last one. Without any rule nothing is \
         removed."
        => integer(1, 9_999_999).each_repository().once_called(&["retention-full"]).of(RETAINING);

    REPO_RETENTION_FULL_TYPE, "repo-retention-full-type", "what repoN-retention-full counts",
        "With time a full backup is removed only if another that is at least as old as the limit remains."
        => choice(&[now("count", "full backups"), now("time", "days")])
            .each_repository().default("count").of(RETAINING);

    REPO_RETENTION_DIFF, "repo-retention-diff", "how many differential backups are kept",
        "Full backups count too. Without it they stay as long as the full backup before them."
        => integer(1, 9_999_999).each_repository().once_called(&["retention-diff"]).of(RETAINING);

    REPO_RETENTION_ARCHIVE, "repo-retention-archive", "for how many backups all WAL is kept",
        "Of older backups only the WAL that makes them consistent is kept. Without it follows the retention of backups."
        => integer(1, 9_999_999).each_repository().once_called(&["retention-archive"]).of(RETAINING);

    REPO_RETENTION_ARCHIVE_TYPE, "repo-retention-archive-type", "which backups repoN-retention-archive counts",
        "It is best left alone."
        => choice(&[now("full", "full ones"), now("diff", "full and differential ones"), now("incr", "all")])
            .each_repository().default("full").once_called(&["retention-archive-type"]).of(RETAINING);

    REPO_RETENTION_HISTORY, "repo-retention-history", "for how many days the history of removed backups is kept",
        "pgBackRest keeps the manifests of removed backups. pgark keeps nothing of them, which is what 0 asks for; with any \
         other number expire warns."
        => integer(0, 9_999_999).each_repository().of(RETAINING);

    REPO_RETENTION_WINDOW, "repo-retention-window", "how far back every point in time can be recovered",
        "14d keeps what it takes to recover to any time of the last 14 days: the newest backup that is older, all later \
         ones, and all WAL from its start on. If no backup is older yet, all of them stay."
        => duration("1h", "5000w").each_repository().of(RETAINING);

    REPO_KEEP_DAILY, "repo-keep-daily", "of how many days the last backup is kept",
        "Days are counted that have a backup, in local time, the newest first. For these backups only the WAL is kept \
         that makes them consistent, unless another rule wants more."
        => integer(1, 9_999_999).each_repository().of(RETAINING);

    REPO_KEEP_WEEKLY, "repo-keep-weekly", "of how many weeks the last backup is kept",
        "As repoN-keep-daily. Weeks begin on Monday."
        => integer(1, 9_999_999).each_repository().of(RETAINING);

    REPO_KEEP_MONTHLY, "repo-keep-monthly", "of how many months the last backup is kept",
        "As repoN-keep-daily."
        => integer(1, 9_999_999).each_repository().of(RETAINING);

    REPO_KEEP_YEARLY, "repo-keep-yearly", "of how many years the last backup is kept",
        "As repoN-keep-daily."
        => integer(1, 9_999_999).each_repository().of(RETAINING);
}
