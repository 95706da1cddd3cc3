//! Looking at what files have already. A disk gives long reads up to twice as fast as it gives them one frame at a time, and the
//! kernel takes less time for them: so pieces that lie together in a file are read at once. Small files are looked at several at
//! a time, each with few calls of the kernel.

use std::ops::Range;
use std::sync::Arc;

use pgark_repository::PAGE_SIZE;
use pgark_system::direct::Buffer;
use pgark_system::pace::Pacer;
use rustix::fs::Stat;

use super::Wanted;
use crate::error::Result;
use crate::restore::target::{TargetFile, byte_range};

/// Pages that are read at once: 4 MiB.
const MAXIMUM_PAGES: u32 = 512;

/// Pages between two pieces which are read too rather than making two reads.
const GAP_PAGES: u32 = 16;

/// Up to how many pages a look is a short one: 64 KiB. What comes to so little is read through the page cache, for to ask whether
/// it is there would cost more than to copy it.
const SHORT_PAGES: u32 = 8;

/// Short looks that are done together.
const SHORT_LOOKS: usize = 16;

/// A look at some pages of a file.
#[derive(Debug)]
pub(super) struct Look {
    file: Arc<TargetFile>,
    pages: Range<u32>,
    /// How many pieces it is for.
    pub(super) pieces: usize,
}

/// What was found there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) look: Look,
    /// What its file was, if nobody had opened it before.
    pub(super) file: Option<Stat>,
    /// Where in what was read the bytes of its pages are: as many as it has, none if it was made.
    pub(super) bytes: Range<usize>,
}

impl Look {
    /// The next look, for so many of the pieces as are looked at together; none if there are no pieces.
    pub(super) fn next(pieces: &[Wanted]) -> Option<Self> {
        let file = Arc::clone(&pieces.first()?.file);
        let (pieces, pages) = together(pieces)?;
        Some(Self { file, pages, pieces })
    }

    /// The first of its pages.
    pub(super) fn first_page(&self) -> u32 {
        self.pages.start
    }

    /// Whether it can be done together with these.
    pub(super) fn belongs_to(&self, others: &[Self]) -> bool {
        others.len() < SHORT_LOOKS && self.is_short() && others.iter().all(Self::is_short)
    }

    /// Whether it brings little.
    pub(super) fn is_short(&self) -> bool {
        self.pages.end - self.pages.start <= SHORT_PAGES
    }

    /// The bytes of its pages, if none of them is shorter.
    fn room(&self) -> usize {
        (self.pages.end - self.pages.start) as usize * PAGE_SIZE
    }
}

/// Does looks that belong together, or a single one. What was read is in `buffer`.
///
/// # Errors
/// What the file system says.
pub(super) fn look_at(looks: Vec<Look>, pacer: &Pacer, buffer: &mut Buffer) -> Result<Vec<Found>> {
    if looks.iter().all(Look::is_short) {
        buffer.make_room(looks.iter().map(Look::room).sum());
    }
    let mut room = 0..0;
    let look_at_one = |look: Look| {
        room = room.end..room.end + look.room();
        let open = look.file.open()?;
        let part = if open.is_reused { byte_range(look.file.size(), look.pages.clone()) } else { 0..0 };
        let length = part.end - part.start;
        pacer.wait(length)?;
        let bytes = if look.is_short() {
            let bytes = &mut buffer[room.clone()][..usize::try_from(length).unwrap_or(usize::MAX)];
            room.start..room.start + look.file.read_short(&open, bytes, part.start)?
        } else {
            look.file.read(&open, buffer, part)?;
            0..buffer.len()
        };
        Ok(Found { look, file: open.found, bytes })
    };
    looks.into_iter().map(look_at_one).collect()
}

/// How many of the pieces at the beginning are looked at together, and the pages of their file to be read for it; none if
/// there are no pieces. They ascend in one file; where they do not, they are looked at one by one.
fn together(pieces: &[Wanted]) -> Option<(usize, Range<u32>)> {
    let (first, others) = pieces.split_first()?;
    let mut pages = pages(first);
    let mut count = 1;
    for next in others {
        let wanted = self::pages(next);
        let is_near = wanted.start.checked_sub(pages.end).is_some_and(|gap| gap <= GAP_PAGES);
        if !Arc::ptr_eq(&first.file, &next.file) || !is_near || wanted.end - pages.start > MAXIMUM_PAGES {
            break;
        }
        pages.end = wanted.end;
        count += 1;
    }
    Some((count, pages))
}

/// Reads what a file has of these pages: nothing, if it was not there before.
///
/// # Errors
/// What the file system says.
pub(super) fn read(file: &TargetFile, pages: Range<u32>, pacer: &Pacer, buffer: &mut Buffer) -> Result<()> {
    let open = file.open()?;
    let part = if open.is_reused { byte_range(file.size(), pages) } else { 0..0 };
    pacer.wait(part.end - part.start)?;
    Ok(file.read(&open, buffer, part)?)
}

fn pages(wanted: &Wanted) -> Range<u32> {
    wanted.piece.first_page..wanted.piece.first_page + wanted.piece.pages
}

#[cfg(test)]
mod tests {
    use pgark_repository::PackId;
    use pgark_repository::manifest::Attributes;
    use pgark_repository::map::Piece;
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;
    use crate::restore::place::{Place, Root};
    use crate::restore::target::{Present, TargetFile};

    proptest! {
        /// Whatever pieces there are: each is looked at once, in a read of its own file that holds it, is short enough, and
        /// brings little that nobody asked for.
        #[test]
        fn every_piece_is_in_one_short_read(
            wanted in proptest::collection::vec((0_usize..2, 0_u32..1000, 1_u32..64), 0..60),
            is_sorted: bool,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let root = Arc::new(Root::open(directory.path()).unwrap());
            let files: Vec<_> = ["a", "b"].into_iter().map(|name| {
                let place = Place::new(&root, name.into());
                Arc::new(TargetFile::new(place, 1 << 30, Attributes::default(), Present::Reused))
            }).collect();
            let mut wanted = wanted;
            if is_sorted {
                wanted.sort_unstable();
            }
            let pack = PackId { session: Ulid::from_bytes([1; 16]), number: 0 };
            let pieces: Vec<Wanted> = wanted.iter().map(|(file, first_page, pages)| Wanted {
                file: Arc::clone(&files[*file]),
                piece: Piece { first_page: *first_page, pages: *pages, pack, block: 0, slot: 0, stride: 16 },
            }).collect();
            let mut rest = pieces.as_slice();
            while let Some((count, read)) = together(rest) {
                let (now, later) = rest.split_at(count);
                prop_assert!(count > 0 && read.end - read.start <= MAXIMUM_PAGES);
                let mut end = read.start;
                for piece in now {
                    prop_assert!(Arc::ptr_eq(&piece.file, &now[0].file));
                    prop_assert!((end..=end + GAP_PAGES).contains(&piece.piece.first_page));
                    end = piece.piece.first_page + piece.piece.pages;
                }
                prop_assert_eq!(end, read.end);
                rest = later;
            }
            prop_assert!(rest.is_empty());
        }

        /// Frames that follow each other are read in as few reads as there can be.
        #[test]
        fn frames_one_after_the_other_make_long_reads(count in 1_usize..200) {
            let directory = tempfile::tempdir().unwrap();
            let root = Arc::new(Root::open(directory.path()).unwrap());
            let place = Place::new(&root, "a".into());
            let file = Arc::new(TargetFile::new(place, 1 << 30, Attributes::default(), Present::Reused));
            let pack = PackId { session: Ulid::from_bytes([1; 16]), number: 0 };
            let pieces: Vec<Wanted> = (0..).step_by(16).take(count).map(|first_page| Wanted {
                file: Arc::clone(&file),
                piece: Piece { first_page, pages: 16, pack, block: 0, slot: 0, stride: 16 },
            }).collect();
            prop_assert_eq!(together(&pieces).unwrap().0, count.min(32));
        }
    }
}
