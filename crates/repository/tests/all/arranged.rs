//! A repository with one backup of pages that are compressed in every arrangement: the golden files of arrangements are
//! made of it.

use pgark_repository::codec::Compression;
use pgark_repository::{PAGE_SIZE, Repository, Result};
use ulid::Ulid;

use crate::backups::{Backup, Item, Taken, cluster};
use crate::sample::{FULL, label, stanza};

/// Frames of a table, of vectors and of an index, one after the other: so many that each is found out.
const TABLE_FRAMES: usize = 33;
const VECTOR_FRAMES: usize = 3;
const INDEX_FRAMES: usize = 20;
const FRAME_BYTES: usize = 16 * PAGE_SIZE;

/// Writes the whole repository.
pub(crate) fn write(repository: &Repository) -> Result<()> {
    let (stanza, label) = (stanza(), label(FULL));
    repository.add_cluster(&stanza, &cluster())?;
    let session = Ulid::from_bytes([5; 16]);
    let backup = Backup { repository, stanza: &stanza, label, session, compression: Compression::Zstd(3) };
    backup.take(&items(), &Taken::default()).map(drop)
}

/// The files of the backup.
pub(crate) fn items() -> Vec<Item> {
    let table: Vec<u8> = (0..TABLE_FRAMES * 16).flat_map(table_page).collect();
    let vectors: Vec<u8> = (0..VECTOR_FRAMES * FRAME_BYTES / 4).flat_map(number).collect();
    let mut index: Vec<u8> = (0..INDEX_FRAMES * FRAME_BYTES / 16).flat_map(index_tuple).collect();
    // The last piece of a page makes no row of eight bytes.
    index.extend([7; 13]);
    vec![
        Item::directory(""),
        Item::directory("base"),
        Item::directory("base/5"),
        Item { map_in_pack: true, ..Item::file("base/5/16384", table) },
        Item::file("base/5/16385", vectors),
        Item::file("base/5/16386", index),
    ]
}

/// A page of a table in which one line pointer has no tuple, and one tuple points to a newer version.
fn table_page(number: usize) -> Vec<u8> {
    const TUPLES: usize = 40;
    // Of some pages one tuple ends the run, as it has no column.
    let short = if number.is_multiple_of(3) { 30 } else { TUPLES };
    let mut page = vec![0; PAGE_SIZE];
    page[12..20].copy_from_slice(&[24 + 4 * 41, 0, 0, 0, 0, 0x20, 4, 0x20]);
    let block = u32::try_from(number).unwrap() + 0x0001_0000;
    for tuple in 0..TUPLES {
        let (offset, length) = (PAGE_SIZE - 96 * (tuple + 1), 89 + tuple % 8);
        let line = if tuple < 20 { tuple } else { tuple + 1 };
        let pointer = u32::try_from(offset | 1 << 15 | length << 17).unwrap();
        page[24 + 4 * line..][..4].copy_from_slice(&pointer.to_le_bytes());
        let next = if tuple == 7 { 39 } else { u16::try_from(line + 1).unwrap() };
        let ctid = [&block.to_le_bytes()[2..], &block.to_le_bytes()[..2], &next.to_le_bytes()].concat();
        page[offset + 12..][..6].copy_from_slice(&ctid);
        page[offset + 22] = if tuple == short { 88 } else { 24 };
        let text = format!("row {tuple} of a table, which repeats much");
        page[offset + 24..][..8].copy_from_slice(&(number * TUPLES + tuple).to_le_bytes());
        page[offset + 32..][..text.len()].copy_from_slice(text.as_bytes());
    }
    page
}

/// A number of a vector, of which nothing repeats but that it is between one and two.
fn number(number: usize) -> [u8; 4] {
    let hash = blake3::hash(&number.to_le_bytes());
    [0, 0, 0x80 | hash.as_bytes()[0] >> 1, 0x3F]
}

/// A tuple of an index: where the row lies, how long the tuple is, and the number that is looked for.
fn index_tuple(number: usize) -> Vec<u8> {
    let [place, line] = [number / 60, number % 60 + 1].map(|part| u16::try_from(part).unwrap().to_le_bytes());
    [&[0, 0], &place[..], &line, &[16, 0], &number.to_le_bytes()].concat()
}
