//! The file in which the agent remembers what ran, one for each stanza: `<spool-path>/agent/<stanza>.json`.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_engine::{Error, ErrorKind};
use pgark_repository::StanzaName;
use pgark_system::durable::{self, Existing};
use serde::{Deserialize, Serialize};

use crate::job::Memory;

/// The version of the file.
const VERSION: u32 = 1;

/// The longest file that is read, in bytes.
const LIMIT: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    stanza: String,
    #[serde(flatten)]
    memory: Memory,
}

/// Where it is remembered what ran.
#[derive(Clone, Debug)]
pub(crate) struct MemoryFile {
    path: PathBuf,
    stanza: StanzaName,
}

impl MemoryFile {
    /// The file of a stanza below the state directory.
    pub(crate) fn new(state_directory: &Path, stanza: &StanzaName) -> Self {
        Self { path: state_directory.join(format!("{stanza}.json")), stanza: stanza.clone() }
    }

    /// What is remembered; nothing where the file is missing. With a text where there is a file that can't be used: it is
    /// as if there were none.
    pub(crate) fn read(&self) -> (Memory, Option<String>) {
        match self.document() {
            Ok(Some(document)) => (document.memory, None),
            Ok(None) => (Memory::default(), None),
            Err(reason) => {
                let text = format!("unable to read what ran until now from '{}': {reason}", self.path.display());
                (Memory::default(), Some(text))
            }
        }
    }

    fn document(&self) -> Result<Option<Document>, String> {
        let bytes = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > LIMIT => return Err("it is too long".to_owned()),
            Ok(_) => fs::read(&self.path).map_err(|error| error.to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if document.version != VERSION {
            return Err(format!("it has version {}, this program knows {VERSION}", document.version));
        }
        if document.stanza != self.stanza.as_str() {
            return Err(format!("it is of stanza '{}'", document.stanza));
        }
        Ok(Some(document))
    }

    /// Writes down what is to be remembered. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::PathCreate`], [`ErrorKind::FileWrite`]
    pub(crate) fn write(&self, memory: &Memory) -> Result<(), Error> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        durable::create_directory_all(directory, 0o750).map_err(|error| {
            Error::new(ErrorKind::PathCreate, error.to_string())
                .hint("set spool-path to a directory that can be written")
        })?;
        let document = Document { version: VERSION, stanza: self.stanza.to_string(), memory: memory.clone() };
        let bytes = serde_json::to_vec_pretty(&document).map_err(io::Error::from)?;
        durable::write(&self.path, &bytes, 0o640, Existing::Replace)
            .map_err(|error| Error::new(ErrorKind::FileWrite, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Kind, ToldLate, Working};

    #[test]
    fn what_ran_is_remembered_and_what_is_torn_or_foreign_is_no_reason_to_stop() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("agent");
        let file = MemoryFile::new(&state, &"demo".parse().unwrap());
        assert_eq!(file.read(), (Memory::default(), None));
        let mut memory = Memory::default();
        let time = "2026-11-26T00:00:00Z".parse().unwrap();
        memory.adopt([Kind::Full, Kind::Verify], time);
        memory.in_repositories.insert(Kind::Incr, time);
        memory.working.insert(Kind::Full, Working { due: time, started: time, process: 7 });
        memory.late.push(ToldLate { kind: Kind::Incr, reason: "too-old".to_owned(), since: time });
        memory.wal_gaps.push("repo1: WAL segment 000000010000000000000003 is missing".to_owned());
        memory.dropped.push((2, time));
        memory.looked = Some(time);
        file.write(&memory).unwrap();
        assert_eq!(file.read(), (memory.clone(), None));

        let whole = fs::read(state.join("demo.json")).unwrap();
        for end in 0..whole.len() {
            fs::write(state.join("demo.json"), &whole[..end]).unwrap();
            let (read, problem) = file.read();
            assert_eq!(read, Memory::default());
            assert!(problem.unwrap().contains("demo.json"));
        }
        fs::write(state.join("other.json"), &whole).unwrap();
        let (read, problem) = MemoryFile::new(&state, &"other".parse().unwrap()).read();
        assert_eq!(read, Memory::default());
        assert!(problem.unwrap().ends_with("it is of stanza 'demo'"));
        // And it can be written again.
        file.write(&memory).unwrap();
        assert_eq!(file.read(), (memory, None));
    }
}
