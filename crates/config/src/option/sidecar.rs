//! Sidecars: directories outside the data directory that go with the cluster.

use super::definition::{boolean, integer, path, text};
use super::options;
use crate::command::Command::{Backup, Check, Restore};

options! {
    [Sidecar]

    SIDECAR_PATH, "sidecar-path", "a directory that is backed up with the cluster",
        "NAME is the user's choice: small letters, digits and dashes. The directory lies outside the data directory, and \
         every backup takes what is in it: files, links, modes and times.\n\n\
         restore puts it back where this says, or where it was if nothing is set, before the cluster can be started."
        => path().each_sidecar().required().of(&[Backup, Check, Restore]);

    SIDECAR_REPO, "sidecar-repo", "the repository for a directory that is backed up with the cluster",
        "The index of a configured repository: only backups into it take the directory. Without it all backups do."
        => integer(1, 256).each_sidecar().needs("sidecar-path", &[]).of(&[Backup]);

    SIDECAR_ONLY, "sidecar-only", "restore nothing but this sidecar",
        "The name of a sidecar of the backup. Nothing in the data directory is touched, and the server may be running."
        => text().on_command_line().of(&[Restore]);

    SIDECAR, "sidecar", "whether sidecars are restored",
        "With n the cluster is restored without them."
        => boolean("y").of(&[Restore]);
}
