//! Fresh data directories without the cost of initdb.
//!
//! The first process that needs a kind of cluster runs initdb and keeps the result; everyone copies it. A copy gets a
//! system identifier of its own, or two clusters of a test would be one and the same to whoever compares them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fs_err as fs;
use pgark_system::{clock, durable, lock::FileLock, random};

use crate::PATIENCE;
use crate::process::run;
use crate::server::{Server, cache_directory};
use crate::user::give_to_test_user;

/// What initdb settles once and for all.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) wal_segment_size_mib: u32,
    pub(crate) checksums: bool,
    pub(crate) group_access: bool,
}

impl Template {
    /// Makes a data directory of this kind at `target`, which must not exist.
    pub(crate) fn instantiate(&self, server: &Server, target: &Path) {
        let source = self.ensure(server);
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto", "--no-target-directory"]).arg(source).arg(target);
        run(&mut copy).expect_success();
        give_own_identifier(target).expect("a fresh data directory can be changed");
    }

    fn ensure(&self, server: &Server) -> PathBuf {
        let templates = cache_directory().join("templates");
        fs::create_dir_all(&templates).expect("the cache can be written: run `make setup`");
        give_to_test_user(&templates);
        let name = self.name(server);
        let template = templates.join(&name);
        let lock_path = templates.join(format!("{name}.lock"));
        let lock = clock::wait_for(PATIENCE, Duration::from_millis(50), || FileLock::try_acquire(&lock_path));
        let _lock = lock.expect("the template can be locked").expect("initdb of another process comes to an end");
        if !template.exists() {
            let unfinished = templates.join(format!("{name}.unfinished"));
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished).expect("an abandoned template can be removed");
            }
            self.initdb(server, &unfinished);
            durable::sync_file_system(&templates).expect("the template can be synced");
            fs::rename(&unfinished, &template).expect("the template can be renamed");
        }
        template
    }

    fn name(&self, server: &Server) -> String {
        let checksums = if self.checksums { "-checksums" } else { "" };
        let group_access = if self.group_access { "-group" } else { "" };
        format!("{}-wal{}{checksums}{group_access}", server.version(), self.wal_segment_size_mib)
    }

    fn initdb(&self, server: &Server, target: &Path) {
        let mut initdb = server.tool("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync"]);
        initdb.arg(format!("--wal-segsize={}", self.wal_segment_size_mib));
        // Checksums are on by default from 18 on, where there is an option to leave them out.
        match self.checksums {
            true => initdb.arg("--data-checksums"),
            false if server.major() >= 18 => initdb.arg("--no-data-checksums"),
            false => &mut initdb,
        };
        if self.group_access {
            initdb.arg("--allow-group-access");
        }
        run(initdb.arg("--pgdata").arg(target)).expect_success();
    }
}

/// Where the system identifier stands in the first page of a WAL segment (`XLogLongPageHeaderData`, `xlog_internal.h`).
const IDENTIFIER_IN_WAL: std::ops::Range<usize> = 24..32;

/// Writes a random system identifier into the control file and the WAL.
fn give_own_identifier(data_directory: &Path) -> io::Result<()> {
    let identifier: [u8; 8] = random::bytes()?;
    change_file(&data_directory.join("global/pg_control"), |control| {
        let end = checksummed_length(control).expect("a control file ends with its checksum");
        control[..8].copy_from_slice(&identifier);
        let checksum = crc32c::crc32c(&control[..end]);
        control[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
    })?;
    for entry in fs::read_dir(data_directory.join("pg_wal"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            change_file(&entry.path(), |segment| segment[IDENTIFIER_IN_WAL].copy_from_slice(&identifier))?;
        }
    }
    Ok(())
}

/// The length of what the checksum of a control file covers. It differs between major versions, and is where the
/// checksum is right.
fn checksummed_length(control: &[u8]) -> Option<usize> {
    (200..400).step_by(4).find(|&length| {
        control.get(length..length + 4) == Some(crc32c::crc32c(&control[..length]).to_le_bytes().as_slice())
    })
}

fn change_file(path: &Path, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    change(&mut bytes);
    // Written in place: the file keeps its owner and its mode.
    fs::write(path, bytes)
}
