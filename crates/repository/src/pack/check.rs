//! Checking a whole pack.

use std::ops::ControlFlow;

use super::reader::Pack;
use crate::PAGE_SIZE;
use crate::container::BlockKind;
use crate::error::{Error, Result};
use crate::vault::PageHash;

impl Pack<'_> {
    /// Reads the whole pack and checks every byte of it: that each block decodes to what the index says, that its frames
    /// are those of the frame table, and that their pages have the hashes of the page hash table. What is wrong is told
    /// to `flaw`, with the block that it is about if it is about one; `go_on` is asked after each block. What is given
    /// says whether all was read.
    ///
    /// # Errors
    /// The storage's error.
    pub fn check(&self, flaw: &mut dyn FnMut(Option<u32>, Error), go_on: &dyn Fn() -> bool) -> Result<ControlFlow<()>> {
        let storage = self.repository.storage();
        let (frames, unreadable) = match self.frames_with_hashes() {
            Ok(frames) => (frames, None),
            Err(error @ Error::Damaged { .. }) => (Vec::new(), Some(error)),
            Err(error) => return Err(error),
        };
        let mut frames = frames.into_iter().peekable();
        let mut has_flawed_table = false;
        let swept = self.container.sweep(storage, &mut |number, block| {
            let kind = self.container.kind_of(number).ok();
            let entry = frames.next_if(|(frame, _)| frame.block == number);
            match (block, entry) {
                (Err(error), _) => {
                    has_flawed_table |= !matches!(kind, Some(BlockKind::Frame | BlockKind::Maps));
                    flaw(Some(number), error);
                }
                (Ok(plain), Some((_, hashes))) if !self.has_hashes(plain, &hashes) => {
                    let what = format!("block {number}: its pages do not have the hashes of the page hash table");
                    flaw(Some(number), self.container.damaged(what));
                }
                (Ok(_), None) if kind == Some(BlockKind::Frame) && unreadable.is_none() => {
                    let what = format!("block {number}: a frame that is not in the frame table at its place");
                    flaw(Some(number), self.container.damaged(what));
                }
                (Ok(_), _) => {}
            }
            if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Some(error) = unreadable
            && !has_flawed_table
        {
            flaw(None, error);
        }
        match swept {
            Err(error @ Error::Damaged { .. }) => {
                flaw(None, error);
                Ok(ControlFlow::Continue(()))
            }
            swept => swept,
        }
    }

    fn has_hashes(&self, plain: &[u8], hashes: &[PageHash]) -> bool {
        let vault = self.repository.vault();
        plain.chunks(PAGE_SIZE).map(|page| vault.page_hash(page)).eq(hashes.iter().copied())
    }
}
