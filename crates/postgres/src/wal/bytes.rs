//! Reading little-endian numbers from bytes that may end anywhere, and the variable-length numbers of our own formats.

use thiserror::Error;

/// A block summary, time index, edge or analysis cannot be decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the {0} ends in the middle of a value")]
    Truncated(&'static str),
    /// The format is newer than this program, or the bytes are something else.
    #[error("the {what} has format {found}, which this program does not know: use a newer one")]
    UnknownFormat {
        /// What was to be decoded.
        what: &'static str,
        /// The format number found.
        found: u8,
    },
    /// A value is out of its range or its order.
    #[error("the {what} is damaged: {problem}")]
    Invalid {
        /// What was to be decoded.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Takes values from the front of a slice. Nothing is taken when too little is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number of seven bits a byte, lowest first, the top bit set on all but the last byte. `None` also where the
    /// number exceeds 64 bits or takes more bytes than it needs, so that each number has one form only.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Takes values of our own formats from the front of a slice; a failure names what was being decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a> {
    cursor: Cursor<'a>,
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// Begins to decode `bytes`, whose first byte must be `format`.
    pub(super) fn new(what: &'static str, format: u8, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut decoder = Self { cursor: Cursor(bytes), what };
        match decoder.byte()? {
            found if found == format => Ok(decoder),
            found => Err(DecodeError::UnknownFormat { what, found }),
        }
    }

    pub(super) fn invalid(&self, problem: &'static str) -> DecodeError {
        DecodeError::Invalid { what: self.what, problem }
    }

    pub(super) fn truncated(&self) -> DecodeError {
        DecodeError::Truncated(self.what)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.cursor.u8().ok_or(self.truncated())
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        self.cursor.varint().ok_or(self.truncated())
    }

    pub(super) fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| self.invalid("a number exceeds 32 bits"))
    }

    /// A signed number: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A count of things that take at least one byte each, so that it cannot exceed what is left.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| self.truncated())?;
        if count > self.cursor.remaining() { Err(self.truncated()) } else { Ok(count) }
    }

    /// Bytes after their count.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.count()?;
        self.cursor.take(count).ok_or(self.truncated())
    }

    /// Text in UTF-8 after its count of bytes.
    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.invalid("a text is not UTF-8"))
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.invalid("a flag is neither 0 nor 1")),
        }
    }

    /// Ends decoding; bytes left over are an error.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.cursor.remaining() == 0 { Ok(()) } else { Err(self.invalid("bytes follow its end")) }
    }
}

/// Appends values in our own formats.
#[derive(Debug)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(format: u8) -> Self {
        Self(vec![format])
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    pub(super) fn varint(&mut self, value: impl Into<u64>) {
        let mut value = value.into();
        loop {
            let bits = (value & 0x7F) as u8;
            value >>= 7;
            if value == 0 {
                self.0.push(bits);
                return;
            }
            self.0.push(bits | 0x80);
        }
    }

    pub(super) fn signed(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.varint(count as u64);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::new(1);
        write(&mut encoder);
        encoder.finish()
    }

    #[test]
    fn numbers_have_one_form_only() {
        for bytes in [
            &[0x80, 0x00][..],
            &[0x81, 0x80, 0x00],
            &[0xFF; 10],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2],
        ] {
            assert_eq!(Cursor(bytes).varint(), None, "{bytes:?}");
        }
        assert_eq!(Cursor(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]).varint(), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn numbers_go_both_ways(unsigned: u64, signed: i64) {
            let bytes = encoded(|encoder| {
                encoder.varint(unsigned);
                encoder.signed(signed);
            });
            let mut decoder = Decoder::new("test", 1, &bytes).unwrap();
            prop_assert_eq!(decoder.varint().unwrap(), unsigned);
            prop_assert_eq!(decoder.signed().unwrap(), signed);
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn a_count_never_exceeds_what_is_left(bytes: Vec<u8>) {
            let mut decoder = Decoder { cursor: Cursor(&bytes), what: "test" };
            if let Ok(count) = decoder.count() {
                prop_assert!(count <= decoder.cursor.remaining());
            }
        }
    }
}
