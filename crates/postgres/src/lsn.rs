//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A position in the write-ahead log: a byte offset from its beginning. Written `16/B374D848`, as PostgreSQL does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// PostgreSQL's `InvalidXLogRecPtr`.
    pub const INVALID: Self = Self(0);

    /// The position `bytes` further on, or `None` past the end of the 64-bit range.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not an LSN.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("'{0}' is not an LSN: it takes two hexadecimal numbers of up to 8 digits, as in 16/B374D848")]
pub struct InvalidLsn(pub String);

impl FromStr for Lsn {
    type Err = InvalidLsn;

    /// Takes `%X/%X` and the zero-padded `%X/%08X`.
    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let invalid = || InvalidLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(invalid)?;
        let half = |digits: &str| {
            let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_number.then(|| u64::from_str_radix(digits, 16).ok()).flatten().ok_or_else(invalid)
        };
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_both_ways() {
        for text in ["0/0", "0/5000028", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert_eq!("0/05000028".parse(), Ok(Lsn(0x500_0028)));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "/", "0", "0/", "/0", "0/123456789", "g/0", "+1/0", "0/0/0", " 0/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
