//! What the environment asks for.

use std::ops::RangeInclusive;
use std::str::FromStr;

/// How many scripts are to run, and which.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) runs: u64,
    pub(crate) first_seed: u64,
    pub(crate) backups: usize,
    /// The numbers of the steps that are left out.
    without: Vec<RangeInclusive<usize>>,
}

impl Request {
    /// Reads `PGARK_PROPERTY_RUNS`, `_SEED`, `_BACKUPS` and `_WITHOUT`.
    pub(crate) fn of_environment() -> Self {
        let random: [u8; 4] = pgark_system::random::bytes().expect("the system has randomness");
        Self {
            runs: variable("RUNS").unwrap_or(5),
            first_seed: variable("SEED").unwrap_or_else(|| u32::from_le_bytes(random).into()),
            backups: variable("BACKUPS").unwrap_or(6),
            without: variable("WITHOUT").map(|text: String| text.split(',').map(range).collect()).unwrap_or_default(),
        }
    }

    /// Whether the step of this number is left out.
    pub(crate) fn leaves_out(&self, step: usize) -> bool {
        self.without.iter().any(|range| range.contains(&step))
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let name = format!("PGARK_PROPERTY_{name}");
    let text = std::env::var(&name).ok()?;
    let value = text.parse().unwrap_or_else(|_| panic!("{name} can't be '{text}'"));
    Some(value)
}

fn range(text: &str) -> RangeInclusive<usize> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("'{text}' is no number of a step"));
    number(first)..=number(last)
}
