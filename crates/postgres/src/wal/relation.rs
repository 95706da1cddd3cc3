//! How the WAL names the files of relations.

use std::fmt;

/// The files of one relation: PostgreSQL's `RelFileLocator` (`RelFileNode` before 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationLocator {
    /// OID of the tablespace.
    pub tablespace: u32,
    /// OID of the database; 0 for relations that all databases share.
    pub database: u32,
    /// The relation's file number (relfilenode), which is not its OID.
    pub number: u32,
}

impl RelationLocator {
    /// The locator that stands for a whole database in one of its tablespaces.
    pub fn whole_database(tablespace: u32, database: u32) -> Self {
        Self { tablespace, database, number: 0 }
    }
}

impl fmt::Display for RelationLocator {
    /// As `pg_waldump` writes it: `1663/5/16384`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.tablespace, self.database, self.number)
    }
}

/// A fork of a relation (PostgreSQL `src/include/common/relpath.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The data.
    Main,
    /// The free space map, which is not fully logged in the WAL.
    FreeSpaceMap,
    /// The visibility map.
    VisibilityMap,
    /// What an unlogged relation is reset to after a crash.
    Init,
}

impl Fork {
    /// Every fork, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Main, Self::FreeSpaceMap, Self::VisibilityMap, Self::Init];

    /// The fork with PostgreSQL's `number`.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// PostgreSQL's number of the fork.
    pub fn number(self) -> u8 {
        match self {
            Self::Main => 0,
            Self::FreeSpaceMap => 1,
            Self::VisibilityMap => 2,
            Self::Init => 3,
        }
    }

    /// Whether the WAL names every block of the fork that changes. Where it does not, a fork has to be read to know what
    /// has changed in it, whatever a block summary says.
    ///
    /// The free space map is hardly logged at all. Bits of the visibility map are cleared by records that name only the
    /// block of the main fork: 15.18 and 17.10 do so, 18.6 does not any more.
    pub fn is_fully_logged(self) -> bool {
        match self {
            Self::Main | Self::Init => true,
            Self::FreeSpaceMap | Self::VisibilityMap => false,
        }
    }

    /// The word for the fork in file names and in `pg_waldump`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::FreeSpaceMap => "fsm",
            Self::VisibilityMap => "vm",
            Self::Init => "init",
        }
    }
}

/// One fork of one relation. Ordered as PostgreSQL orders the entries of a WAL summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFork {
    /// The relation.
    pub relation: RelationLocator,
    /// The fork.
    pub fork: Fork,
}

impl fmt::Display for RelationFork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.relation, self.fork.name())
    }
}
