//! Reading whole objects, to find out whether they are as they were written.

use std::ops::{ControlFlow, Range};
use std::sync::mpsc::sync_channel;
use std::thread;

use pgark_storage::Storage;

use super::layout::HEADER_LENGTH;
use super::reader::Container;
use crate::codec::Decoder;
use crate::error::{Error, Result};

/// Stored bytes that are fetched with one request. Three of them are in memory at once: one on its way, one that waits
/// and one that is looked at.
const REQUEST_BYTES: u64 = 4 << 20;

/// Looks at a block: its plain bytes, or what is wrong with it. Says whether to go on.
pub type Visit<'visit> = dyn FnMut(u32, Result<&[u8]>) -> ControlFlow<()> + 'visit;

/// Blocks that are fetched with one request, and where they lie; before the first of them lies the header.
#[derive(Clone, Debug)]
struct Group {
    blocks: Range<u32>,
    bytes: Range<u64>,
}

impl Container<'_> {
    /// Reads the whole object once, from front to back, and shows each block to `visit`: its plain bytes, or what is
    /// wrong with it. `visit` says whether to go on; what is given says whether all was read. While blocks are looked at
    /// those after them are fetched.
    ///
    /// # Errors
    /// Where the object does not begin as its end says it does, once all blocks were shown; or the storage's error.
    pub fn sweep(&self, storage: &dyn Storage, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        let groups = self.groups()?;
        let mut sweep = Sweep { container: self, decoder: Decoder::default(), plain: Vec::new(), header: Ok(()) };
        let swept = match &groups[..] {
            [only] => sweep.show(only, self.fetch(storage, only.bytes.clone())?, visit)?,
            several => thread::scope(|scope| {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move || {
                    for group in several {
                        let fetched = self.fetch(storage, group.bytes.clone());
                        let failed = fetched.is_err();
                        if sender.send((group, fetched)).is_err() || failed {
                            return;
                        }
                    }
                });
                for (group, fetched) in receiver {
                    if sweep.show(group, fetched?, visit)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok::<_, Error>(ControlFlow::Continue(()))
            })?,
        };
        sweep.header.map(|()| swept)
    }

    fn groups(&self) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        let mut group = Group { blocks: 0..0, bytes: 0..HEADER_LENGTH as u64 };
        for number in 0..self.block_count() {
            let end = self.range(number)?.end;
            if end - group.bytes.start > REQUEST_BYTES && !group.blocks.is_empty() {
                let next = Group { blocks: number..number, bytes: group.bytes.end..group.bytes.end };
                groups.push(std::mem::replace(&mut group, next));
            }
            group.blocks.end = number + 1;
            group.bytes.end = end;
        }
        groups.push(group);
        Ok(groups)
    }
}

struct Sweep<'sweep, 'vault> {
    container: &'sweep Container<'vault>,
    decoder: Decoder,
    plain: Vec<u8>,
    header: Result<()>,
}

impl Sweep<'_, '_> {
    fn show(&mut self, group: &Group, mut stored: Vec<u8>, visit: &mut Visit<'_>) -> Result<ControlFlow<()>> {
        let mut rest = &mut stored[..];
        if group.bytes.start == 0 {
            let (header, blocks) = rest.split_at_mut(HEADER_LENGTH);
            self.header = self.container.compare_header(header);
            rest = blocks;
        }
        for number in group.blocks.clone() {
            let length = self.container.stored_length(number)?;
            let (block, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            let decoded = self.container.decode(number, block, &mut self.decoder, &mut self.plain);
            if visit(number, decoded.map(|()| &self.plain[..])).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
