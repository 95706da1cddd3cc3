//! What one worker gathers for a thread that writes: bytes of one or more files, in one buffer. What follows each other in a
//! file is joined and written at once, so that the disk gets long writes, and many small files cost few messages.

use std::ops::Range;
use std::sync::Arc;

use pgark_system::direct::{ALIGNMENT, Buffer};

use crate::restore::target::TargetFile;

/// Bytes of a load.
pub(super) const LOAD_BYTES: usize = 2 << 20;

/// Bytes to be written, in a buffer.
#[derive(Debug)]
pub(super) struct Load {
    buffer: Buffer,
    stretches: Vec<Stretch>,
}

/// Bytes that follow each other in a file and in the buffer.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) file: Arc<TargetFile>,
    /// Where they belong in the file.
    pub(super) offset: u64,
    /// Where they are in the buffer.
    pub(super) bytes: Range<usize>,
    /// How many parts of the file are done when they are written.
    pub(super) parts: usize,
}

impl Load {
    /// One with nothing in it.
    pub(super) fn new() -> Self {
        let mut buffer = Buffer::default();
        buffer.make_room(LOAD_BYTES);
        Self { buffer, stretches: Vec::new() }
    }

    /// Empties it, to be filled again.
    pub(super) fn clear(&mut self) {
        self.stretches.clear();
    }

    /// Whether there is room for so many bytes at `offset` of a file.
    pub(super) fn has_room(&self, file: &Arc<TargetFile>, offset: u64, length: usize) -> bool {
        place(self.stretches.last(), file, offset).start() + length <= LOAD_BYTES
    }

    /// Takes room for so many bytes at `offset` of a file, for which [`Load::has_room`]. They are to be filled in, and are a part
    /// of the file that is done when they are written.
    pub(super) fn take_room(&mut self, file: &Arc<TargetFile>, offset: u64, length: usize) -> &mut [u8] {
        let place = place(self.stretches.last(), file, offset);
        let bytes = place.start()..place.start() + length;
        file.add_part();
        if let (Place::Joined(_), Some(last)) = (place, self.stretches.last_mut()) {
            last.bytes.end = bytes.end;
            last.parts += 1;
        } else {
            let file = Arc::clone(file);
            self.stretches.push(Stretch { file, offset, bytes: bytes.clone(), parts: 1 });
        }
        &mut self.buffer[bytes]
    }

    /// What is to be written, with its bytes.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (&Stretch, &[u8])> {
        self.stretches.iter().map(|stretch| (stretch, &self.buffer[stretch.bytes.clone()]))
    }
}

/// Where in the buffer the next bytes go.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// At the end of the last stretch, whose file they go on with.
    Joined(usize),
    /// Behind it, where a stretch can begin.
    Apart(usize),
}

impl Place {
    fn start(self) -> usize {
        match self {
            Self::Joined(start) | Self::Apart(start) => start,
        }
    }
}

fn place(last: Option<&Stretch>, file: &Arc<TargetFile>, offset: u64) -> Place {
    match last {
        None => Place::Apart(0),
        Some(last) if Arc::ptr_eq(&last.file, file) && last.offset + last.bytes.len() as u64 == offset => {
            Place::Joined(last.bytes.end)
        }
        Some(last) => Place::Apart(last.bytes.end.next_multiple_of(ALIGNMENT)),
    }
}

/// From how many bytes on it is worth while to write them past the page cache. Each such write waits for the disk.
const DIRECT_BYTES: usize = 64 << 10;

/// How many of the first bytes of a stretch are written past the page cache: whole blocks of the disk. The rest is not.
pub(super) fn direct_bytes(offset: u64, length: usize) -> usize {
    let is_aligned = offset.is_multiple_of(ALIGNMENT as u64);
    if is_aligned && length >= DIRECT_BYTES { length / ALIGNMENT * ALIGNMENT } else { 0 }
}

#[cfg(test)]
mod tests {
    use pgark_repository::manifest::Attributes;
    use proptest::prelude::*;

    use super::*;
    use crate::restore::place::Root;
    use crate::restore::target::Present;

    proptest! {
        /// Whatever comes in whatever order: each byte is written once, at its place, and no more stretches are made than there
        /// are gaps.
        #[test]
        fn what_was_filled_in_is_what_is_written(
            pieces in proptest::collection::vec((0_usize..2, 0_u64..40, 1_usize..200_000, 0_u8..4), 0..40),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let root = Arc::new(Root::open(directory.path()).unwrap());
            let files: Vec<_> = ["a", "b"].into_iter().map(|name| {
                let place = crate::restore::place::Place::new(&root, name.into());
                Arc::new(TargetFile::new(place, 1 << 30, Attributes::default(), Present::Discarded))
            }).collect();
            let (mut load, mut expected, mut breaks) = (Load::new(), Vec::new(), 0);
            let mut end = None;
            for (number, (file, page, length, jump)) in (1_u8..).zip(pieces) {
                // Three of four go on where the last one ended.
                let (file, offset) = match end {
                    Some(end) if jump > 0 => end,
                    _ => (file, page * 8192),
                };
                if !load.has_room(&files[file], offset, length) {
                    break;
                }
                breaks += usize::from(end != Some((file, offset)));
                load.take_room(&files[file], offset, length).fill(number);
                expected.push((file, offset, vec![number; length]));
                end = Some((file, offset + length as u64));
            }
            prop_assert_eq!(load.stretches().count(), breaks);
            prop_assert_eq!(load.stretches().map(|(stretch, _)| stretch.parts).sum::<usize>(), expected.len());
            let mut expected = expected.into_iter();
            for (stretch, bytes) in load.stretches() {
                prop_assert!(stretch.bytes.start.is_multiple_of(ALIGNMENT));
                let (mut offset, mut rest) = (stretch.offset, bytes);
                for _ in 0..stretch.parts {
                    let (file, at, content) = expected.next().unwrap();
                    prop_assert!(Arc::ptr_eq(&stretch.file, &files[file]) && at == offset);
                    prop_assert!(rest.starts_with(&content));
                    (offset, rest) = (offset + content.len() as u64, &rest[content.len()..]);
                }
                prop_assert!(rest.is_empty());
            }
            load.clear();
            prop_assert!(load.stretches().next().is_none() && load.has_room(&files[0], 0, LOAD_BYTES));
            prop_assert!(!load.has_room(&files[0], 0, LOAD_BYTES + 1));
        }

        #[test]
        fn only_whole_blocks_go_past_the_page_cache(offset in 0_u64..1 << 40, length in 0..2 * LOAD_BYTES) {
            for offset in [offset, offset / 8192 * 8192] {
                let direct = direct_bytes(offset, length);
                prop_assert!(direct <= length && direct.is_multiple_of(ALIGNMENT));
                if direct > 0 {
                    prop_assert!(offset.is_multiple_of(ALIGNMENT as u64) && length - direct < ALIGNMENT);
                } else {
                    prop_assert!(length < DIRECT_BYTES || !offset.is_multiple_of(ALIGNMENT as u64));
                }
            }
        }
    }
}
