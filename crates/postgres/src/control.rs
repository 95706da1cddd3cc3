//! The control file, `global/pg_control`: the cluster's identity, its state and its last checkpoint.
//!
//! Layout: `ControlFileData` and `CheckPoint` in PostgreSQL's `src/include/catalog/pg_control.h`. The fields read here
//! have the same offsets from 13 to 18; only the place of the CRC differs. All numbers are little-endian.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;
use thiserror::Error;

use crate::page::PAGE_SIZE;
use crate::wal::name::{SegmentSize, Timeline};
use crate::{Lsn, Version};

/// Where the control file lies in the data directory.
pub const CONTROL_FILE_PATH: &str = "global/pg_control";

/// The size of the file, most of it zeros (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_FILE_SIZE: usize = 8192;

/// `sizeof(ControlFileData)` from 13 to 18, with the CRC.
const DATA_SIZE: usize = 296;

/// A server updates the file with one write of a few hundred bytes: a torn read heals within microseconds.
const READ_TRIES: u32 = 20;
const READ_PAUSE: Duration = Duration::from_millis(10);

/// What a control file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// The major version, from the control and catalog version numbers.
    pub version: Version,
    /// The cluster's identity, set by `initdb` and shared by its standbys.
    pub system_identifier: u64,
    /// Whether the server runs, recovers or was shut down.
    pub state: ClusterState,
    /// When the file was last written, to the second.
    pub modified: Timestamp,
    /// The last checkpoint, or restart point of a standby.
    pub checkpoint: Checkpoint,
    /// How far recovery must go before the cluster is consistent; invalid unless in archive recovery.
    pub minimum_recovery_point: Lsn,
    /// The timeline of `minimum_recovery_point`.
    pub minimum_recovery_timeline: Timeline,
    /// The start of the backup from which the cluster is being recovered, while its end is not yet reached.
    pub backup_start_point: Lsn,
    /// The end of that backup, where it was taken from a standby.
    pub backup_end_point: Lsn,
    /// Whether recovery must see the record that ends a backup.
    pub backup_end_required: bool,
    /// How much the WAL says.
    pub wal_level: WalLevel,
    /// Whether changes of hint bits are logged in full page images although page checksums are off.
    pub wal_log_hints: bool,
    /// The settings that a hot standby must not undercut.
    pub limits: HotStandbyLimits,
    /// Pages in a full segment of a relation: 131,072 unless built otherwise.
    pub relation_segment_pages: u32,
    /// The size of a WAL segment.
    pub wal_segment_size: SegmentSize,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
}

/// A checkpoint, as the control file remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where its record lies.
    pub location: Lsn,
    /// Where replay from it begins.
    pub redo: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
    /// The timeline before, if this checkpoint began a new one; the same otherwise.
    pub previous_timeline: Timeline,
    /// Whether `full_page_writes` was on.
    pub full_page_writes: bool,
    /// The next transaction id, with the epoch in the upper half.
    pub next_transaction: u64,
    /// When it was made, to the second.
    pub time: Timestamp,
}

/// `DBState`: what the server was doing when it last wrote the control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Starting up.
    Startup,
    /// Shut down cleanly.
    ShutDown,
    /// A standby, shut down cleanly.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// Recovering from a crash.
    InCrashRecovery,
    /// Recovering from an archive, or a standby.
    InArchiveRecovery,
    /// Open for work.
    InProduction,
}

/// `wal_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalLevel {
    /// Enough for crash recovery only: no backup can be recovered with it.
    Minimal,
    /// Enough for archiving and standbys.
    Replica,
    /// Enough for logical decoding.
    Logical,
}

/// The settings whose values a standby, or a server in archive recovery, must not undercut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotStandbyLimits {
    /// `max_connections`.
    pub connections: i32,
    /// `max_worker_processes`.
    pub worker_processes: i32,
    /// `max_wal_senders`.
    pub wal_senders: i32,
    /// `max_prepared_transactions`.
    pub prepared_transactions: i32,
    /// `max_locks_per_transaction`.
    pub locks_per_transaction: i32,
}

/// The bytes are not a control file that pgark can work with.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidControlFile {
    /// The file is shorter than its data.
    #[error("it holds {0} bytes where at least {DATA_SIZE} are needed")]
    Truncated(usize),
    /// The version numbers belong to no supported version.
    #[error(
        "control version {control_version} with catalog version {catalog_version} is none of PostgreSQL 13 to 18, the \
         versions that this program knows"
    )]
    UnknownVersion {
        /// `PG_CONTROL_VERSION`.
        control_version: u32,
        /// `CATALOG_VERSION_NO`.
        catalog_version: u32,
    },
    /// The file is damaged, or was read while it was written.
    #[error("its CRC is {computed:08X} where {stored:08X} is stored")]
    Crc {
        /// The CRC in the file.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// The cluster's block sizes are not the usual ones.
    #[error("{what} is {size} bytes: pgark supports {PAGE_SIZE} only")]
    BlockSize {
        /// Which of the sizes.
        what: &'static str,
        /// Its value in bytes.
        size: u32,
    },
    /// A field has a value that PostgreSQL never writes.
    #[error("{field} is {value}, which is not valid")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
}

/// The control file of a data directory can't be used.
#[derive(Debug, Error)]
pub enum ControlFileError {
    /// It can't be read.
    #[error("failed to read the control file")]
    Read(#[source] io::Error),
    /// It can't be understood.
    #[error("control file '{path}' can't be used")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: InvalidControlFile,
    },
}

impl ControlFileError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read(_) => Some("is pg-path a PostgreSQL data directory, and may this user read it?"),
            Self::Invalid { source: InvalidControlFile::Crc { .. }, .. } => {
                Some("the file is damaged: restore the cluster from a backup")
            }
            Self::Invalid { .. } => None,
        }
    }
}

impl ControlFile {
    /// Reads a control file's bytes.
    ///
    /// # Errors
    /// Fails unless the CRC is right, the version is known and the block sizes are the usual 8192 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidControlFile> {
        let data = Data(bytes.first_chunk().ok_or(InvalidControlFile::Truncated(bytes.len()))?);
        let version = data.checked_version()?;
        data.check_block_sizes()?;
        Ok(Self {
            version,
            system_identifier: data.u64(0),
            state: data.state()?,
            modified: data.time("the time of the last update", 24)?,
            checkpoint: data.checkpoint()?,
            minimum_recovery_point: data.lsn(136),
            minimum_recovery_timeline: Timeline(data.u32(144)),
            backup_start_point: data.lsn(152),
            backup_end_point: data.lsn(160),
            backup_end_required: data.flag(168),
            wal_level: data.wal_level()?,
            wal_log_hints: data.flag(176),
            limits: data.limits(),
            relation_segment_pages: data.relation_segment_pages()?,
            wal_segment_size: data.wal_segment_size()?,
            data_checksums: data.data_checksums()?,
        })
    }

    /// Reads the control file of a data directory, whether or not a server is at work there.
    ///
    /// # Errors
    /// Fails where the file can't be read, or [`ControlFile::parse`] refuses it.
    pub fn read(data_directory: &Path) -> Result<Self, ControlFileError> {
        Self::read_image(data_directory).map(|(control_file, _image)| control_file)
    }

    /// As [`ControlFile::read`], and gives the file's bytes too, as a backup has to store them.
    ///
    /// A read that meets a write of the server is told by its CRC, and repeated.
    ///
    /// # Errors
    /// As [`ControlFile::read`].
    pub fn read_image(data_directory: &Path) -> Result<(Self, Vec<u8>), ControlFileError> {
        let path = data_directory.join(CONTROL_FILE_PATH);
        let mut tries_left = READ_TRIES;
        loop {
            let image = read_limited(&path).map_err(ControlFileError::Read)?;
            tries_left -= 1;
            match Self::parse(&image) {
                Ok(control_file) => return Ok((control_file, image)),
                Err(InvalidControlFile::Crc { .. }) if tries_left > 0 => std::thread::sleep(READ_PAUSE),
                Err(source) => return Err(ControlFileError::Invalid { path, source }),
            }
        }
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut image = Vec::with_capacity(CONTROL_FILE_SIZE);
    fs::File::open(path)?.take(CONTROL_FILE_SIZE as u64).read_to_end(&mut image)?;
    Ok(image)
}

/// The bytes of a `ControlFileData`.
struct Data<'bytes>(&'bytes [u8; DATA_SIZE]);

impl Data<'_> {
    /// All callers pass constant offsets within the array.
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0[offset + index])
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    fn i32(&self, offset: usize) -> i32 {
        i32::from_le_bytes(self.array(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    fn lsn(&self, offset: usize) -> Lsn {
        Lsn(self.u64(offset))
    }

    fn flag(&self, offset: usize) -> bool {
        self.0[offset] != 0
    }

    fn time(&self, field: &'static str, offset: usize) -> Result<Timestamp, InvalidControlFile> {
        let seconds = i64::from_le_bytes(self.array(offset));
        Timestamp::from_second(seconds).map_err(|_| InvalidControlFile::Field { field, value: seconds })
    }

    /// The version, once the CRC has shown that the numbers are those that were written.
    fn checked_version(&self) -> Result<Version, InvalidControlFile> {
        let (control_version, catalog_version) = (self.u32(8), self.u32(12));
        let unknown = InvalidControlFile::UnknownVersion { control_version, catalog_version };
        let crc_offset = match control_version {
            1300 | 1700 => 288,
            1800 => 292,
            _ => return Err(unknown),
        };
        let (stored, computed) = (self.u32(crc_offset), crc32c::crc32c(&self.0[..crc_offset]));
        if stored != computed {
            return Err(InvalidControlFile::Crc { stored, computed });
        }
        Version::from_control_file(control_version, catalog_version).ok_or(unknown)
    }

    fn check_block_sizes(&self) -> Result<(), InvalidControlFile> {
        for (what, offset) in [("the database block size", 216), ("the WAL block size", 224)] {
            let size = self.u32(offset);
            if size as usize != PAGE_SIZE {
                return Err(InvalidControlFile::BlockSize { what, size });
            }
        }
        Ok(())
    }

    fn state(&self) -> Result<ClusterState, InvalidControlFile> {
        match self.u32(16) {
            0 => Ok(ClusterState::Startup),
            1 => Ok(ClusterState::ShutDown),
            2 => Ok(ClusterState::ShutDownInRecovery),
            3 => Ok(ClusterState::ShuttingDown),
            4 => Ok(ClusterState::InCrashRecovery),
            5 => Ok(ClusterState::InArchiveRecovery),
            6 => Ok(ClusterState::InProduction),
            other => Err(InvalidControlFile::Field { field: "the cluster state", value: other.into() }),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint, InvalidControlFile> {
        Ok(Checkpoint {
            location: self.lsn(32),
            redo: self.lsn(40),
            timeline: Timeline(self.u32(48)),
            previous_timeline: Timeline(self.u32(52)),
            full_page_writes: self.flag(56),
            next_transaction: self.u64(64),
            time: self.time("the time of the last checkpoint", 104)?,
        })
    }

    fn wal_level(&self) -> Result<WalLevel, InvalidControlFile> {
        match self.i32(172) {
            0 => Ok(WalLevel::Minimal),
            1 => Ok(WalLevel::Replica),
            2 => Ok(WalLevel::Logical),
            other => Err(InvalidControlFile::Field { field: "wal_level", value: other.into() }),
        }
    }

    fn limits(&self) -> HotStandbyLimits {
        HotStandbyLimits {
            connections: self.i32(180),
            worker_processes: self.i32(184),
            wal_senders: self.i32(188),
            prepared_transactions: self.i32(192),
            locks_per_transaction: self.i32(196),
        }
    }

    fn relation_segment_pages(&self) -> Result<u32, InvalidControlFile> {
        match self.u32(220) {
            0 => Err(InvalidControlFile::Field { field: "the size of a relation segment", value: 0 }),
            pages => Ok(pages),
        }
    }

    fn wal_segment_size(&self) -> Result<SegmentSize, InvalidControlFile> {
        let bytes = self.u32(228);
        let invalid = InvalidControlFile::Field { field: "the WAL segment size", value: bytes.into() };
        SegmentSize::new(bytes.into()).map_err(|_| invalid)
    }

    fn data_checksums(&self) -> Result<bool, InvalidControlFile> {
        match self.u32(252) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(InvalidControlFile::Field { field: "the data checksum version", value: other.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put<const N: usize>(image: &mut [u8], offset: usize, bytes: [u8; N]) {
        image[offset..offset + N].copy_from_slice(&bytes);
    }

    fn seal(image: &mut [u8], crc_offset: usize) {
        let crc = crc32c::crc32c(&image[..crc_offset]);
        put(image, crc_offset, crc.to_le_bytes());
    }

    fn image_of(version: Version) -> (Vec<u8>, usize) {
        let mut image = vec![0; CONTROL_FILE_SIZE];
        put(&mut image, 0, 7_711_018_063_713_587_681_u64.to_le_bytes());
        put(&mut image, 8, version.control_version().to_le_bytes());
        put(&mut image, 12, version.catalog_version().to_le_bytes());
        put(&mut image, 16, 6_u32.to_le_bytes());
        put(&mut image, 24, 1_795_349_977_i64.to_le_bytes());
        put(&mut image, 32, 0x1_0500_0080_u64.to_le_bytes());
        put(&mut image, 40, 0x1_0500_0028_u64.to_le_bytes());
        put(&mut image, 48, 3_u32.to_le_bytes());
        put(&mut image, 52, 2_u32.to_le_bytes());
        put(&mut image, 64, (5_u64 << 32 | 0x2D4).to_le_bytes());
        put(&mut image, 172, 2_i32.to_le_bytes());
        put(&mut image, 180, 100_i32.to_le_bytes());
        put(&mut image, 216, 8192_u32.to_le_bytes());
        put(&mut image, 220, 131_072_u32.to_le_bytes());
        put(&mut image, 224, 8192_u32.to_le_bytes());
        put(&mut image, 228, (16_u32 << 20).to_le_bytes());
        put(&mut image, 252, 1_u32.to_le_bytes());
        let crc_offset = if version == Version::V18 { 292 } else { 288 };
        seal(&mut image, crc_offset);
        (image, crc_offset)
    }

    #[test]
    fn every_version_is_read() {
        for version in Version::ALL {
            let control_file = ControlFile::parse(&image_of(version).0).unwrap();
            assert_eq!(control_file.version, version);
            assert_eq!(control_file.system_identifier, 7_711_018_063_713_587_681);
            assert_eq!(control_file.state, ClusterState::InProduction);
            assert_eq!(control_file.checkpoint.location, Lsn(0x1_0500_0080));
            assert_eq!(control_file.checkpoint.redo, Lsn(0x1_0500_0028));
            assert_eq!(
                (control_file.checkpoint.timeline, control_file.checkpoint.previous_timeline),
                (Timeline(3), Timeline(2))
            );
            assert_eq!(control_file.checkpoint.next_transaction, 5 << 32 | 0x2D4);
            assert_eq!(control_file.wal_level, WalLevel::Logical);
            assert_eq!(control_file.limits.connections, 100);
            assert_eq!(control_file.wal_segment_size, SegmentSize::DEFAULT);
            assert!(control_file.data_checksums);
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        for version in [Version::V13, Version::V18] {
            let (image, crc_offset) = image_of(version);
            for offset in 0..crc_offset + 4 {
                let mut damaged = image.clone();
                damaged[offset] ^= 0x10;
                assert!(ControlFile::parse(&damaged).is_err(), "{version} at {offset}");
            }
        }
    }

    #[test]
    fn a_short_file_is_refused() {
        let (image, _) = image_of(Version::V17);
        assert_eq!(ControlFile::parse(&image[..295]), Err(InvalidControlFile::Truncated(295)));
        assert!(ControlFile::parse(&image[..296]).is_ok());
    }

    #[test]
    fn unknown_versions_are_named() {
        for (offset, number) in [(8, 1902_u32), (12, 202_605_131)] {
            let (mut image, crc_offset) = image_of(Version::V17);
            put(&mut image, offset, number.to_le_bytes());
            seal(&mut image, crc_offset);
            let message = ControlFile::parse(&image).unwrap_err().to_string();
            assert!(message.contains(&number.to_string()), "{message}");
        }
    }

    #[test]
    fn what_this_program_can_not_work_with_is_refused() {
        let field = |field, value| InvalidControlFile::Field { field, value };
        let size = |what| InvalidControlFile::BlockSize { what, size: 32768 };
        let cases = [
            (216, 32768, size("the database block size")),
            (224, 32768, size("the WAL block size")),
            (228, (16 << 20) + 1, field("the WAL segment size", (16 << 20) + 1)),
            (228, 1 << 31, field("the WAL segment size", 1 << 31)),
            (220, 0, field("the size of a relation segment", 0)),
            (252, 2, field("the data checksum version", 2)),
            (16, 7, field("the cluster state", 7)),
            (172, 3, field("wal_level", 3)),
        ];
        for (offset, value, expected) in cases {
            let (mut image, crc_offset) = image_of(Version::V16);
            put(&mut image, offset, u32::to_le_bytes(value));
            seal(&mut image, crc_offset);
            assert_eq!(ControlFile::parse(&image), Err(expected));
        }
    }

    #[test]
    fn a_file_that_stays_damaged_is_an_error_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CONTROL_FILE_PATH);
        assert!(matches!(ControlFile::read(directory.path()), Err(ControlFileError::Read(_))));
        let (mut image, _) = image_of(Version::V15);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, &image).unwrap();
        assert_eq!(ControlFile::read_image(directory.path()).unwrap().1, image);
        image[40] ^= 1;
        fs::write(&path, &image).unwrap();
        let error = ControlFile::read(directory.path()).unwrap_err();
        assert!(matches!(error, ControlFileError::Invalid { source: InvalidControlFile::Crc { .. }, .. }));
    }
}
