//! Command lines, environments and configuration files.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pgark_config::{Environment, Files, Invocation, help, load, reference_markdown};

/// A word of a command line.
#[derive(Arbitrary, Debug)]
enum Word {
    Any(String),
    Known(u16),
    Option(u16, Option<String>),
}

/// A line of a configuration file.
#[derive(Arbitrary, Debug)]
enum Line {
    Any(String),
    Section(Option<String>, Option<u16>),
    Option(u16, String),
}

#[derive(Arbitrary, Debug)]
struct Input {
    words: Vec<Word>,
    environment: Vec<(u16, String)>,
    main: Vec<Line>,
    included: BTreeMap<String, Vec<Line>>,
}

/// Names of options and commands, as the reference has them.
fn names() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let markdown = reference_markdown();
        let is_name =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
        let words = markdown.split(|character: char| !is_name(character));
        let mut names: Vec<_> = words.map(|word| word.trim_matches('-').to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    })
}

fn name(number: u16) -> &'static str {
    let names = names();
    &names[usize::from(number) % names.len()]
}

fn text(lines: &[Line]) -> String {
    let lines = lines.iter().map(|line| match line {
        Line::Any(text) => text.clone(),
        Line::Section(stanza, command) => {
            let stanza = stanza.as_deref().unwrap_or("global");
            command.map_or_else(|| format!("[{stanza}]"), |command| format!("[{stanza}:{}]", name(command)))
        }
        Line::Option(option, value) => format!("{}={value}", name(*option)),
    });
    lines.collect::<Vec<_>>().join("\n")
}

struct FuzzedFiles<'a>(&'a Input);

impl Files for FuzzedFiles<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        let included = path.file_name().and_then(|name| self.0.included.get(name.to_str()?));
        Ok(text(included.unwrap_or(&self.0.main)))
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<String>> {
        Ok(self.0.included.keys().cloned().collect())
    }

    fn is_public(&self, _path: &Path) -> bool {
        true
    }
}

fuzz_target!(|input: Input| {
    let words = input.words.iter().map(|word| match word {
        Word::Any(text) => text.clone(),
        Word::Known(number) => name(*number).to_owned(),
        Word::Option(number, None) => format!("--{}", name(*number)),
        Word::Option(number, Some(value)) => format!("--{}={value}", name(*number)),
    });
    let variable = |(number, value): &(u16, String)| {
        (format!("PGARK_{}", name(*number).to_uppercase().replace('-', "_")), value.clone())
    };
    let environment: Environment = input.environment.iter().map(variable).collect();
    match load(words.map(Into::into), &environment, &FuzzedFiles(&input)) {
        Ok(Invocation::Help(topic)) => assert!(!help(topic).is_empty()),
        Ok(Invocation::Version(_) | Invocation::Completion(_) | Invocation::Run(_)) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
