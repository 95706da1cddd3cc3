//! Containers with lies in them, for which all that vouches for them fits.

use arbitrary::Arbitrary;

use crate::draft::{Draft, DraftBlock};
use crate::repository::ID;

/// A container that no honest program writes.
#[derive(Arbitrary, Debug)]
pub struct Forgery {
    blocks: Vec<Block>,
    /// Bytes of the index that are replaced.
    index: Vec<(u16, u8)>,
    /// Bytes of the trailer that are replaced.
    trailer: Vec<(u8, u8)>,
}

#[derive(Arbitrary, Debug)]
struct Block {
    kind: u8,
    codec: u8,
    stored: Vec<u8>,
    plain_length: Option<u32>,
}

impl Forgery {
    /// The object under the name `name`.
    #[must_use]
    pub fn write(&self, magic: [u8; 8], name: &str) -> Vec<u8> {
        Draft::new(magic, ID, self.blocks.iter().map(Block::draft).collect()).write_with(
            name,
            |bytes| replace(bytes, self.index.iter().map(|(position, byte)| (usize::from(*position), *byte))),
            |bytes| replace(bytes, self.trailer.iter().map(|(position, byte)| (usize::from(*position), *byte))),
        )
    }
}

impl Block {
    fn draft(&self) -> DraftBlock {
        let honest = DraftBlock::new(self.kind, &self.stored);
        let plain_length = self.plain_length.unwrap_or(honest.plain_length);
        DraftBlock { codec: self.codec, plain_length, ..honest }
    }
}

fn replace(bytes: &mut [u8], changes: impl Iterator<Item = (usize, u8)>) {
    for (position, byte) in changes {
        if let Some(place) = bytes.get_mut(position) {
            *place = byte;
        }
    }
}
