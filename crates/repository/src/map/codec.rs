//! The stored form of page maps.

use super::packs::{NOWHERE, PackNumbers};
use super::{HeldRun, MAXIMUM_FRAME_PAGES, PageMap};
use crate::bytes::{Reader, Write};
use crate::error::Malformed;
use crate::names::PackId;

/// Bytes of most runs: one for the pages, the slot and the stride each, two for the pack and for the block.
const USUAL_RUN_BYTES: usize = 8;

impl PageMap {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let pages = self.pages_by_number();
        let mut positions = vec![0_u64; pages.len()];
        let mut used = self.packs.ascending();
        used.retain(|number| pages[*number as usize] > 0);
        let mut bytes = Vec::with_capacity(16 + used.len() * 20 + self.runs.len() * USUAL_RUN_BYTES);
        bytes.put_varint(used.len() as u64);
        for (position, number) in (1..).zip(used) {
            let pack = self.packs.pack(number);
            bytes.extend(pack.session.to_bytes());
            bytes.extend(pack.number.to_le_bytes());
            positions[number as usize] = position;
        }
        bytes.put_varint(self.runs.len() as u64);
        for run in &self.runs {
            bytes.put_varint(u64::from(run.pages));
            if run.pack == NOWHERE {
                bytes.put_varint(0);
            } else {
                bytes.put_varint(positions[run.pack as usize]);
                bytes.put_varint(u64::from(run.block));
                bytes.put_varint(u64::from(run.slot));
                bytes.put_varint(u64::from(run.stride));
            }
        }
        bytes
    }

    /// Reads the stored form of the map of a file with `pages` pages.
    ///
    /// # Errors
    /// Where the bytes are no map, or the map of a file with another number of pages.
    pub fn decode(bytes: &[u8], pages: u32) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let pack_count = reader.count(20)?;
        let mut list = Vec::with_capacity(pack_count);
        for _ in 0..pack_count {
            list.push(PackId { session: ulid::Ulid::from_bytes(reader.array()?), number: reader.u32()? });
        }
        let run_count = reader.count(2)?;
        let mut runs = Vec::with_capacity(run_count);
        let mut total = 0_u64;
        for _ in 0..run_count {
            let run = decode_run(&mut reader, pack_count as u64)?;
            total += u64::from(run.pages);
            runs.push(run);
        }
        reader.finish()?;
        if total != u64::from(pages) {
            return Err(Malformed::new(format!("a page map of {total} pages where the file has {pages}")));
        }
        let (packs, numbers) = PackNumbers::of_list(list);
        if let Some(numbers) = numbers {
            runs.iter_mut().filter(|run| run.pack != NOWHERE).for_each(|run| run.pack = numbers[run.pack as usize]);
        }
        Ok(Self { packs, runs })
    }
}

/// Reads a run; its pack is a place in the list of the map.
#[inline]
fn decode_run(reader: &mut Reader<'_>, pack_count: u64) -> Result<HeldRun, Malformed> {
    let pages = reader.varint_u32()?;
    if pages == 0 {
        return Err(Malformed::new("a run of no pages"));
    }
    let position = reader.varint()?;
    if position == 0 {
        return Ok(HeldRun::zeros(pages));
    }
    if position > pack_count {
        return Err(Malformed::new("a run in a pack that is not listed"));
    }
    // Each pack of the list takes bytes of the map.
    let pack = u32::try_from(position - 1).map_err(|_| Malformed::new("a map of too many packs"))?;
    let block = reader.varint_u32()?;
    let slot = u16::try_from(reader.varint()?).unwrap_or(u16::MAX);
    let stride = u16::try_from(reader.varint()?).unwrap_or(u16::MAX);
    let run = HeldRun { pages, pack, block, slot, stride };
    if !(1..=MAXIMUM_FRAME_PAGES).contains(&stride) || slot >= stride || run.last_block() > u64::from(u32::MAX) {
        return Err(Malformed::new(format!("a run at slot {slot} of frames of {stride} pages from block {block}")));
    }
    Ok(run)
}
