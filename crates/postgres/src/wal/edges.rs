//! What a segment has of the records that cross its borders, so that summaries of segments can be joined exactly.

use super::bytes::{DecodeError, Decoder, Encoder};
use super::reader::{Head, SegmentReader, Tail};
use crate::Lsn;

/// So many bytes are kept of each record that crosses a border. Where it is longer, whoever joins the segments must
/// read them.
pub const EDGE_MAXIMUM: usize = 1 << 20;

/// The records that cross the borders of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edges {
    /// What the segment has of a record that began before it.
    pub head: Head,
    /// The first of those bytes, up to [`EDGE_MAXIMUM`].
    pub head_bytes: Vec<u8>,
    /// The record that begins in the segment and ends in a later one.
    pub tail: Option<Tail>,
    /// Its first bytes, up to [`EDGE_MAXIMUM`].
    pub tail_bytes: Vec<u8>,
    /// Where the first record that begins and ends in the segment says that the record before it begins.
    pub first_link: Option<Lsn>,
    /// Where the last record begins that begins and ends in the segment.
    pub last_record: Option<Lsn>,
}

const WHAT: &str = "segment edge";
const FORMAT: u8 = 1;

/// The first byte of the stored form after the format: what the segment begins with.
const HEAD_NONE: u8 = 0;
const HEAD_OVERWRITTEN: u8 = 1;
const HEAD_CONTINUED: u8 = 2;

impl Edges {
    /// The edges of a segment whose last record has been read.
    pub(super) fn of(reader: &SegmentReader<'_>) -> Self {
        Self {
            head: reader.head(),
            head_bytes: reader.head_bytes(EDGE_MAXIMUM),
            tail: reader.tail(),
            tail_bytes: reader.tail_bytes(EDGE_MAXIMUM),
            first_link: reader.first_link(),
            last_record: reader.last_record(),
        }
    }

    /// Whether a record is longer than what is kept of it.
    pub fn is_truncated(&self) -> bool {
        let head_available = match self.head {
            Head::Continued { available, .. } => available as usize,
            Head::None | Head::Overwritten => 0,
        };
        let tail_available = self.tail.map_or(0, |tail| tail.available as usize);
        self.head_bytes.len() < head_available || self.tail_bytes.len() < tail_available
    }

    /// The edges in their stored form. `docs/format.md` says it byte by byte.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(FORMAT);
        match self.head {
            Head::None => encoder.byte(HEAD_NONE),
            Head::Overwritten => encoder.byte(HEAD_OVERWRITTEN),
            Head::Continued { remaining, available } => {
                encoder.byte(HEAD_CONTINUED);
                encoder.varint(remaining);
                encoder.varint(available);
                encoder.bytes(&self.head_bytes);
            }
        }
        encoder.flag(self.tail.is_some());
        if let Some(tail) = self.tail {
            encoder.varint(tail.lsn.0);
            encoder.varint(tail.total_length);
            encoder.varint(tail.available);
            encoder.bytes(&self.tail_bytes);
        }
        for lsn in [self.first_link, self.last_record] {
            encoder.flag(lsn.is_some());
            if let Some(lsn) = lsn {
                encoder.varint(lsn.0);
            }
        }
        encoder.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, FORMAT, bytes)?;
        let (head, head_bytes) = decode_head(&mut decoder)?;
        let (tail, tail_bytes) = decode_tail(&mut decoder)?;
        let mut lsn = || if decoder.flag()? { decoder.varint().map(|lsn| Some(Lsn(lsn))) } else { Ok(None) };
        let (first_link, last_record) = (lsn()?, lsn()?);
        decoder.finish()?;
        Ok(Self { head, head_bytes, tail, tail_bytes, first_link, last_record })
    }
}

fn decode_head(decoder: &mut Decoder<'_>) -> Result<(Head, Vec<u8>), DecodeError> {
    match decoder.byte()? {
        HEAD_NONE => Ok((Head::None, Vec::new())),
        HEAD_OVERWRITTEN => Ok((Head::Overwritten, Vec::new())),
        HEAD_CONTINUED => {
            let (remaining, available) = (decoder.varint_u32()?, decoder.varint_u32()?);
            let bytes = decode_kept(decoder, available, remaining)?;
            Ok((Head::Continued { remaining, available }, bytes))
        }
        _ => Err(decoder.invalid("its beginning is of an unknown kind")),
    }
}

fn decode_tail(decoder: &mut Decoder<'_>) -> Result<(Option<Tail>, Vec<u8>), DecodeError> {
    if !decoder.flag()? {
        return Ok((None, Vec::new()));
    }
    let lsn = Lsn(decoder.varint()?);
    let (total_length, available) = (decoder.varint_u32()?, decoder.varint_u32()?);
    let bytes = decode_kept(decoder, available, total_length)?;
    Ok((Some(Tail { lsn, total_length, available }), bytes))
}

/// The bytes that are kept of `available` ones of a record with `total`.
fn decode_kept(decoder: &mut Decoder<'_>, available: u32, total: u32) -> Result<Vec<u8>, DecodeError> {
    let bytes = decoder.bytes()?;
    let is_right = available <= total && bytes.len() == EDGE_MAXIMUM.min(available as usize);
    if is_right { Ok(bytes.to_vec()) } else { Err(decoder.invalid("the bytes of a record are too few or too many")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Edges {
        Edges {
            head: Head::Continued { remaining: 300, available: 3 },
            head_bytes: vec![7, 8, 9],
            tail: Some(Tail { lsn: Lsn(0x100), total_length: 40, available: 2 }),
            tail_bytes: vec![5, 6],
            first_link: None,
            last_record: Some(Lsn(0x80)),
        }
    }

    /// The stored form of format 1, which every later version must read.
    const GOLDEN: &[u8] = &[1, 2, 0xAC, 2, 3, 3, 7, 8, 9, 1, 0x80, 2, 40, 2, 2, 5, 6, 0, 1, 0x80, 1];

    #[test]
    fn the_stored_form_stays_as_it_is() {
        assert_eq!(sample().encode(), GOLDEN);
        assert_eq!(Edges::decode(GOLDEN), Ok(sample()));
        let (head, tail) = (Head::Overwritten, None);
        let empty = Edges { head, tail, head_bytes: Vec::new(), tail_bytes: Vec::new(), last_record: None, ..sample() };
        assert_eq!(empty.encode(), [1, 1, 0, 0, 0]);
        assert_eq!(Edges::decode(&[1, 1, 0, 0, 0]), Ok(empty));
    }

    #[test]
    fn cut_records_are_known_as_such() {
        assert!(!sample().is_truncated());
        let head = Head::Continued { remaining: 3 << 20, available: 2 << 20 };
        let cut = Edges { head, head_bytes: vec![0; EDGE_MAXIMUM], ..sample() };
        assert!(cut.is_truncated());
        assert_eq!(Edges::decode(&cut.encode()), Ok(cut));
    }

    #[test]
    fn damage_is_refused() {
        for length in 0..GOLDEN.len() {
            assert!(Edges::decode(&GOLDEN[..length]).is_err(), "{length}");
        }
        // Too few bytes, more available than remain, an unknown beginning.
        assert!(Edges::decode(&[1, 2, 9, 3, 2, 7, 8, 0, 0, 0]).is_err());
        assert!(Edges::decode(&[1, 2, 2, 3, 3, 7, 8, 9, 0, 0, 0]).is_err());
        assert!(Edges::decode(&[1, 3, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_to_what_they_say_or_refused(mut bytes: Vec<u8>) {
            bytes.insert(0, FORMAT);
            if let Ok(edges) = Edges::decode(&bytes) {
                prop_assert_eq!(edges.encode(), bytes);
            }
        }
    }
}
