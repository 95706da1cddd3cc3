//! Compression of blocks.

use zstd::bulk::Decompressor;

use crate::arrangement::{self, Arrangement};
use crate::error::Malformed;
use crate::thrift::{Content, Thrifty};

/// How blocks are to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4, block format.
    Lz4,
    /// zstd at this level, -7 to 22.
    Zstd(i32),
}

/// How one block is compressed: what does not shrink is stored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    None,
    /// A zstd frame of the bytes in an arrangement.
    Zstd(Arrangement),
    /// LZ4 block format.
    Lz4,
}

impl Codec {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd(Arrangement::None) => 1,
            Self::Lz4 => 2,
            Self::Zstd(Arrangement::RelativePages) => 3,
            Self::Zstd(Arrangement::Columns4) => 4,
            Self::Zstd(Arrangement::Columns8) => 5,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Zstd(Arrangement::None)),
            2 => Ok(Self::Lz4),
            3 => Ok(Self::Zstd(Arrangement::RelativePages)),
            4 => Ok(Self::Zstd(Arrangement::Columns4)),
            5 => Ok(Self::Zstd(Arrangement::Columns8)),
            _ => Err(Malformed::new(format!("unknown codec {number}; it may take a newer pgark to read it"))),
        }
    }
}

/// Compresses blocks, one after the other, with one context.
pub(crate) struct Encoder {
    method: Method,
}

enum Method {
    None,
    Lz4,
    Zstd(Box<Thrifty>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new(compression: Compression, content: Content) -> Self {
        let method = match compression {
            Compression::None => Method::None,
            Compression::Lz4 => Method::Lz4,
            Compression::Zstd(level) => Method::Zstd(Box::new(Thrifty::new(level, content))),
        };
        Self { method }
    }

    /// Leaves the encoded form of `plain` in `encoded`, and says how it is encoded.
    pub(crate) fn encode(&mut self, plain: &[u8], encoded: &mut Vec<u8>) -> Codec {
        encoded.clear();
        let codec = match &mut self.method {
            Method::None => Codec::None,
            Method::Lz4 => {
                encoded.resize(lz4_flex::block::get_maximum_output_size(plain.len()), 0);
                match lz4_flex::block::compress_into(plain, encoded) {
                    Ok(length) => {
                        encoded.truncate(length);
                        Codec::Lz4
                    }
                    Err(_) => Codec::None,
                }
            }
            // The one cause of failure is memory that can't be had, at which nothing else would work either; there is room for
            // whatever comes out.
            Method::Zstd(compressor) => compressor.compress(plain, encoded).map_or(Codec::None, Codec::Zstd),
        };
        if codec != Codec::None && encoded.len() < plain.len() {
            return codec;
        }
        encoded.clear();
        encoded.extend_from_slice(plain);
        Codec::None
    }
}

/// Decompresses blocks, one after the other, with one context.
#[derive(Default)]
pub struct Decoder {
    zstd: Option<Decompressor<'static>>,
    /// The columns of a block.
    columns: Vec<u8>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// Decodes `encoded` into `plain`, which is exactly filled.
    pub(crate) fn decode(&mut self, codec: Codec, encoded: &[u8], plain: &mut [u8]) -> Result<(), Malformed> {
        let length = match codec {
            Codec::None if encoded.len() == plain.len() => {
                plain.copy_from_slice(encoded);
                plain.len()
            }
            Codec::None => encoded.len(),
            Codec::Lz4 => lz4_flex::block::decompress_into(encoded, plain)
                .map_err(|error| Malformed::new(format!("LZ4 can't decode a block: {error}")))?,
            Codec::Zstd(arrangement) => self.decode_zstd(arrangement, encoded, plain)?,
        };
        if length == plain.len() {
            Ok(())
        } else {
            Err(Malformed::new(format!("a block of {length} bytes where {} were expected", plain.len())))
        }
    }

    fn decode_zstd(&mut self, arrangement: Arrangement, encoded: &[u8], plain: &mut [u8]) -> Result<usize, Malformed> {
        match arrangement {
            Arrangement::None => self.decompress(encoded, plain),
            Arrangement::RelativePages => {
                let length = self.decompress(encoded, plain)?;
                arrangement::make_pages_absolute(plain);
                Ok(length)
            }
            Arrangement::Columns4 => self.decode_columns::<4>(encoded, plain),
            Arrangement::Columns8 => self.decode_columns::<8>(encoded, plain),
        }
    }

    fn decode_columns<const WIDTH: usize>(&mut self, encoded: &[u8], plain: &mut [u8]) -> Result<usize, Malformed> {
        let mut columns = std::mem::take(&mut self.columns);
        columns.resize(plain.len(), 0);
        let decoded = self.decompress(encoded, &mut columns);
        arrangement::merge_columns::<WIDTH>(&columns, plain);
        self.columns = columns;
        decoded
    }

    /// Decompresses a zstd frame, and gives how many bytes it holds.
    fn decompress(&mut self, encoded: &[u8], plain: &mut [u8]) -> Result<usize, Malformed> {
        let zstd = match self.zstd.take() {
            Some(zstd) => zstd,
            None => Decompressor::new().map_err(|error| Malformed::new(format!("zstd can't be set up: {error}")))?,
        };
        self.zstd
            .insert(zstd)
            .decompress_to_buffer(encoded, plain)
            .map_err(|error| Malformed::new(format!("zstd can't decode a block: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressions() -> impl Strategy<Value = Compression> {
        prop_oneof![
            Just(Compression::None),
            Just(Compression::Lz4),
            Just(Compression::Zstd(3)),
            Just(Compression::Zstd(-5)),
        ]
    }

    proptest! {
        #[test]
        fn blocks_go_both_ways(
            compression in compressions(),
            content in prop_oneof![Just(Content::Any), Just(Content::Pages), Just(Content::Wal)],
            pieces in proptest::collection::vec((any::<u8>(), 1_usize..300), 0..20),
        ) {
            let plain: Vec<u8> = pieces.iter().flat_map(|(byte, count)| vec![*byte; *count]).collect();
            let mut encoder = Encoder::new(compression, content);
            let mut encoded = Vec::new();
            let codec = encoder.encode(&plain, &mut encoded);
            prop_assert!(encoded.len() <= plain.len());
            let mut back = vec![1; plain.len()];
            Decoder::default().decode(codec, &encoded, &mut back).unwrap();
            prop_assert_eq!(back, plain);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_decoded_but_never_too_long(
            number in 0_u8..6,
            encoded in proptest::collection::vec(any::<u8>(), 0..200),
            plain_length in 0_usize..1000,
        ) {
            let mut plain = vec![7; plain_length + 1];
            let codec = Codec::from_number(number).unwrap();
            let _either = Decoder::default().decode(codec, &encoded, &mut plain[..plain_length]);
            prop_assert_eq!(plain[plain_length], 7);
        }
    }
}
