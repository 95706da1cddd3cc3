//! Completing command lines in a shell.
//!
//! The script of a shell knows nothing of pgark: it asks `pgark completion <shell> -- <words>` what the last of the words
//! can become, and gets it from the same table as everything else. So a script need not be renewed with pgark, and what
//! can be completed is decided once for all shells.

mod candidates;

use std::fmt;

use crate::arguments;
use crate::collect::{self, Collector};
use crate::command::{Command, quoted};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::files::{self, Files};
use crate::option;

use self::candidates::{Candidate, Candidates, candidates};

/// What a script finds in place of candidates where the shell is to complete the name of a file.
const FILES: &str = ":files\n";

/// A shell that can be taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    const ALL: [Self; 3] = [Self::Bash, Self::Fish, Self::Zsh];

    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Fish => "fish",
            Self::Zsh => "zsh",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("pgark.bash"),
            Self::Fish => include_str!("pgark.fish"),
            Self::Zsh => include_str!("pgark.zsh"),
        }
    }

    fn find(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|shell| shell.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::ParameterInvalid, format!("shell '{name}' is not known"))
                .hint(format!("known shells are {}", quoted(Self::ALL.map(Self::name))))
        })
    }

    /// A candidate in the form that the script reads.
    fn write(self, candidate: &Candidate, output: &mut impl fmt::Write) -> fmt::Result {
        let Candidate { value, meaning } = candidate;
        match self {
            Self::Bash => writeln!(output, "{value}"),
            Self::Fish => writeln!(output, "{value}\t{meaning}"),
            // As zsh's _describe wants it.
            Self::Zsh => writeln!(output, "{}:{meaning}", value.replace(':', r"\:")),
        }
    }
}

/// What the completion command shows: the script of the shell that is its first parameter; or, where the words of a
/// command line follow, what the last of them can become.
pub(crate) fn text(parameters: &[String], environment: &Environment, files: &dyn Files) -> Result<String, Error> {
    let Some((shell, words)) = parameters.split_first() else { return Ok(String::new()) };
    let shell = Shell::find(shell)?;
    let Some((word, before)) = words.split_last() else { return Ok(shell.script().to_owned()) };
    Ok(match candidates(before, word, &|| stanzas(before, environment, files)) {
        Candidates::Files => FILES.to_owned(),
        Candidates::These(candidates) => {
            let mut text = String::new();
            candidates.iter().try_for_each(|candidate| shell.write(candidate, &mut text)).unwrap_or_default();
            text
        }
    })
}

/// The stanzas of the configuration that a command with these words would have. Of what is wrong with it the command
/// will tell; here nothing is completed then.
fn stanzas(words: &[String], environment: &Environment, files: &dyn Files) -> Vec<String> {
    let mut options = arguments::parse(words.iter().map(Into::into)).unwrap_or_default().options;
    let of_files = [&option::CONFIG, &option::CONFIG_INCLUDE_PATH, &option::CONFIG_PATH].map(Into::into);
    options.retain(|address, _| of_files.contains(address));
    // Any command that reads files takes these.
    let mut collector = Collector::new(Command::Info);
    let entries = collector
        .take_arguments(&options)
        .and_then(|()| collector.take_environment(environment))
        .and_then(|()| files::load(&collector.request(), files));
    entries.map_or_else(|_| Vec::new(), |entries| collect::stanzas(&entries).into_iter().collect())
}

#[cfg(test)]
mod tests;
