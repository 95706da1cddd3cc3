//! The PostgreSQL versions that pgark knows.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A major version of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// PostgreSQL 13.
    V13,
    /// PostgreSQL 14.
    V14,
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

/// The version is none that pgark knows.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("PostgreSQL version '{0}' is not supported: this program knows 13 to 18")]
pub struct UnknownVersion(pub String);

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 6] = [Self::V13, Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The major version's number, as in `PG_VERSION`.
    pub fn major(self) -> u32 {
        match self {
            Self::V13 => 13,
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// `CATALOG_VERSION_NO` (PostgreSQL `src/include/catalog/catversion.h` of each version).
    pub fn catalog_version(self) -> u32 {
        match self {
            Self::V13 => 202_007_201,
            Self::V14 => 202_107_181,
            Self::V15 => 202_209_061,
            Self::V16 => 202_307_071,
            Self::V17 => 202_406_281,
            Self::V18 => 202_506_291,
        }
    }

    /// `PG_CONTROL_VERSION` (PostgreSQL `src/include/catalog/pg_control.h` of each version).
    pub fn control_version(self) -> u32 {
        match self {
            Self::V13 | Self::V14 | Self::V15 | Self::V16 => 1300,
            Self::V17 => 1700,
            Self::V18 => 1800,
        }
    }

    /// `XLOG_PAGE_MAGIC` (PostgreSQL `src/include/access/xlog_internal.h` of each version).
    pub fn wal_page_magic(self) -> u16 {
        match self {
            Self::V13 => 0xD106,
            Self::V14 => 0xD10D,
            Self::V15 => 0xD110,
            Self::V16 => 0xD113,
            Self::V17 => 0xD116,
            Self::V18 => 0xD118,
        }
    }

    /// The version whose WAL pages carry `magic`.
    pub fn from_wal_page_magic(magic: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.wal_page_magic() == magic)
    }

    /// The version of a control file with these two numbers.
    pub fn from_control_file(control_version: u32, catalog_version: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|version| {
            version.control_version() == control_version && version.catalog_version() == catalog_version
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.major())
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL.into_iter().find(|version| version.to_string() == text).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}
