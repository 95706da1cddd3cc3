//! Restoring some of the databases: the files of the others are empty space of the right size, so that recovery finds
//! the pages that it changes, and only dropping them is left to do.
//!
//! That goes for all files of a database, `PG_VERSION` with them. A server that is asked to connect looks at that first
//! (`ValidatePgVersion`, PostgreSQL `src/backend/utils/init/miscinit.c`) and refuses. If it went on, to a map of relations
//! that is right and a `pg_class` without rows, it would not only refuse but come down (`load_critical_index`,
//! `src/backend/utils/cache/relcache.c`), with whoever else works on it: each time that autovacuum comes by.

use std::collections::BTreeSet;
use std::path::Path;

use pgark_postgres::relation::DatabaseDirectory;
use pgark_repository::manifest::Database;

use super::settings::DatabaseChoice;
use crate::error::{Error, ErrorKind, Result};

/// The databases that every cluster has from the beginning.
const SYSTEM_DATABASES: [&str; 3] = ["postgres", "template0", "template1"];

/// The lowest oid that a user's database gets: `FirstNormalObjectId`, PostgreSQL `src/include/access/transam.h`.
const FIRST_USER_OID: u32 = 16384;

/// The databases whose files are not restored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Emptied(BTreeSet<u32>);

impl Emptied {
    /// Chooses them. `named` are the databases whose names the backup knows; `present` those that have files in it.
    ///
    /// # Errors
    /// [`ErrorKind::DatabaseMissing`], [`ErrorKind::DatabaseInvalid`].
    pub(super) fn choose(choice: &DatabaseChoice, named: &[Database], present: &BTreeSet<u32>) -> Result<Self> {
        if choice.include.is_empty() && choice.exclude.is_empty() {
            return Ok(Self::default());
        }
        let present: BTreeSet<u32> = present.iter().copied().chain(system(named)).collect();
        let find = |wanted: &String, verb: &str| {
            let by_oid = wanted.parse().ok().filter(|oid| present.contains(oid));
            let by_name = || named.iter().find(|known| known.name == *wanted && present.contains(&known.oid));
            by_oid.or_else(|| by_name().map(|known| known.oid)).ok_or_else(|| {
                Error::new(ErrorKind::DatabaseMissing, format!("database to {verb} '{wanted}' does not exist"))
                    .hint("info --set shows the databases of the backup; of an offline backup only oids are known")
            })
        };
        let excluded: BTreeSet<u32> = choice.exclude.iter().map(|name| find(name, "exclude")).collect::<Result<_>>()?;
        let mut included = BTreeSet::new();
        for name in &choice.include {
            let oid = find(name, "include")?;
            check_included(name, oid, named, &excluded)?;
            included.insert(oid);
        }
        let system: BTreeSet<u32> =
            system(named).chain(present.iter().copied().filter(|oid| is_system(*oid))).collect();
        let emptied: BTreeSet<u32> = if included.is_empty() {
            excluded
        } else {
            let is_emptied = |oid: &u32| excluded.contains(oid) || !included.contains(oid) && !system.contains(oid);
            present.iter().copied().filter(is_emptied).collect()
        };
        tracing::debug!("databases found for selective restore ({})", list(&present));
        if emptied.is_empty() {
            tracing::info!("nothing to filter - all user databases have been selected");
        } else {
            tracing::info!("databases excluded (zeroed) from selective restore ({})", list(&emptied));
        }
        Ok(Self(emptied))
    }

    /// Whether the file is left empty, as one of such a database.
    pub(super) fn has(&self, file: &Path) -> bool {
        let directory = file.parent().filter(|_| !self.0.is_empty()).and_then(DatabaseDirectory::parse);
        directory.is_some_and(|directory| self.0.contains(&directory.database))
    }
}

fn check_included(name: &str, oid: u32, named: &[Database], excluded: &BTreeSet<u32>) -> Result<()> {
    if is_system(oid) || system(named).any(|system| system == oid) {
        let message = "system databases (template0, postgres, etc.) are included by default";
        return Err(Error::new(ErrorKind::DatabaseInvalid, message).hint(format!("do without --db-include={name}")));
    }
    if excluded.contains(&oid) {
        let message = format!("database to include '{name}' is in the exclude list");
        return Err(Error::new(ErrorKind::DatabaseInvalid, message));
    }
    Ok(())
}

fn is_system(oid: u32) -> bool {
    oid < FIRST_USER_OID
}

/// The databases of the names that every cluster has, also where somebody has made them anew.
fn system(named: &[Database]) -> impl Iterator<Item = u32> {
    named
        .iter()
        .filter(|known| SYSTEM_DATABASES.contains(&known.name.as_str()) || is_system(known.oid))
        .map(|known| known.oid)
}

fn list(oids: &BTreeSet<u32>) -> String {
    oids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Vec<Database> {
        let database = |(name, oid): (&str, u32)| Database { name: name.to_owned(), oid };
        [
            ("16399", 16385),
            ("new", 16400),
            ("one", 16384),
            ("postgres", 5),
            ("template0", 4),
            ("template1", 16390),
            ("two", 16386),
        ]
        .map(database)
        .into()
    }

    fn choose(include: &[&str], exclude: &[&str]) -> Result<Vec<u32>> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let choice = DatabaseChoice { include: texts(include), exclude: texts(exclude) };
        let present = BTreeSet::from([4, 5, 16384, 16385, 16386, 16390]);
        Emptied::choose(&choice, &named(), &present).map(|emptied| emptied.0.into_iter().collect())
    }

    #[test]
    fn what_is_not_included_or_excluded_is_emptied() {
        assert_eq!(choose(&[], &[]).unwrap(), [0_u32; 0]);
        assert_eq!(choose(&["one"], &[]).unwrap(), [16385, 16386]);
        assert_eq!(choose(&["16386", "one"], &[]).unwrap(), [16385]);
        assert_eq!(choose(&["one", "two", "16399"], &[]).unwrap(), [0_u32; 0]);
        assert_eq!(choose(&[], &["one"]).unwrap(), [16384]);
        assert_eq!(choose(&[], &["16384", "16399"]).unwrap(), [16384, 16385]);
        // Only a database that is named goes, of those that every cluster has.
        assert_eq!(choose(&[], &["postgres"]).unwrap(), [5]);
        assert_eq!(choose(&["one"], &["postgres"]).unwrap(), [5, 16385, 16386]);
    }

    #[test]
    fn choices_that_make_no_sense_are_refused() {
        for (include, exclude, kind, message) in [
            (&["three"][..], &[][..], ErrorKind::DatabaseMissing, "database to include 'three' does not exist"),
            (&[], &["three"], ErrorKind::DatabaseMissing, "database to exclude 'three' does not exist"),
            // Known by its name, but made after its files would have been copied.
            (&["new"], &[], ErrorKind::DatabaseMissing, "database to include 'new' does not exist"),
            (&["postgres"], &[], ErrorKind::DatabaseInvalid, "are included by default"),
            (&["4"], &[], ErrorKind::DatabaseInvalid, "are included by default"),
            (&["template1"], &[], ErrorKind::DatabaseInvalid, "are included by default"),
            (&["one"], &["16384"], ErrorKind::DatabaseInvalid, "database to include 'one' is in the exclude list"),
        ] {
            let error = choose(include, exclude).unwrap_err();
            assert_eq!(error.kind(), kind, "{include:?} {exclude:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn files_of_these_databases_are_left_empty_and_no_others() {
        let emptied = Emptied(BTreeSet::from([16384]));
        for path in [
            "base/16384/1259",
            "base/16384/1259_fsm",
            "base/16384/PG_VERSION",
            "base/16384/pg_filenode.map",
            "pg_tblspc/9/PG_17_202406281/16384/20000.1",
        ] {
            assert!(emptied.has(Path::new(path)), "{path}");
            assert!(!Emptied::default().has(Path::new(path)), "{path}");
        }
        for path in ["base/5/1259", "base/5/16384", "global/1262", "global/16384", "pg_xact/0000", "PG_VERSION", "base"]
        {
            assert!(!emptied.has(Path::new(path)), "{path}");
        }
    }
}
