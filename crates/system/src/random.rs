//! Randomness from the operating system.

use std::io;

use ulid::Ulid;

use crate::clock;

/// Fills an array with random bytes that are fit for keys.
///
/// # Errors
/// Fails where the operating system has no randomness to give; there is no weaker fallback.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Fills `buffer` with random bytes that are fit for keys.
///
/// # Errors
/// As [`bytes`].
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws randomness")]
pub fn fill(buffer: &mut [u8]) -> io::Result<()> {
    getrandom::fill(buffer)
        .map_err(|error| io::Error::other(format!("no randomness from the operating system: {error}")))
}

/// A new ULID: 48 bits of the clock in milliseconds, 80 random bits. Unique whatever the clock says.
///
/// # Errors
/// As [`bytes`].
pub fn ulid() -> io::Result<Ulid> {
    let milliseconds = u64::try_from(clock::now().as_millisecond()).unwrap_or(0);
    Ok(Ulid::from_parts(milliseconds, u128::from_le_bytes(bytes()?)))
}
