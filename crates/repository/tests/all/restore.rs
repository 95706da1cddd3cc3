//! Reads backups back as a restore does: manifest, maps, ranges of packs.

use std::collections::BTreeMap;

use pgark_repository::codec::Decoder;
use pgark_repository::manifest::{Entry, EntryKind, Manifest, PackUse};
use pgark_repository::map::{PageMap, Piece};
use pgark_repository::pack::Pack;
use pgark_repository::{Label, PAGE_SIZE, PackId, Repository, Result, StanzaName};

/// The content of every file of a backup.
pub(crate) fn files(repository: &Repository, stanza: &StanzaName, label: &Label) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let manifest = Manifest::open(repository, stanza, label)?;
    let packs = manifest.packs()?;
    let open = open_packs(repository, stanza, &packs)?;
    let mut maps = manifest.maps(&packs);
    let mut files = BTreeMap::new();
    for entry in entries(&manifest)? {
        if let EntryKind::File { size, .. } = entry.kind {
            let map = maps.map(&entry)?;
            files.insert(entry.path, content(repository, &open, &map, size)?);
        }
    }
    Ok(files)
}

/// All entries of a manifest, the late ones last.
pub(crate) fn entries(manifest: &Manifest<'_>) -> Result<Vec<Entry>> {
    let mut entries = manifest.entries().collect::<Result<Vec<_>>>()?.concat();
    entries.extend(manifest.late_entries()?);
    Ok(entries)
}

/// The packs of a manifest, each proven to be the one that it names.
fn open_packs<'a>(
    repository: &'a Repository,
    stanza: &StanzaName,
    packs: &BTreeMap<PackId, PackUse>,
) -> Result<BTreeMap<PackId, Pack<'a>>> {
    packs
        .iter()
        .map(|(id, pack_use)| {
            let pack = Pack::open(repository, stanza, *id, Some(pack_use.root))?;
            assert_eq!(pack.container().length(), pack_use.length);
            Ok((*id, pack))
        })
        .collect()
}

fn content(repository: &Repository, packs: &BTreeMap<PackId, Pack<'_>>, map: &PageMap, size: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    for piece in map.pieces() {
        let frame = frame(repository, &packs[&piece.pack], piece)?;
        let start = piece.first_page as usize * PAGE_SIZE;
        let end = (start + piece.pages as usize * PAGE_SIZE).min(bytes.len());
        let slot = usize::from(piece.slot) * PAGE_SIZE;
        bytes[start..end].copy_from_slice(&frame[slot..slot + end - start]);
    }
    Ok(bytes)
}

fn frame(repository: &Repository, pack: &Pack<'_>, piece: Piece) -> Result<Vec<u8>> {
    let range = pack.container().range(piece.block)?;
    let length = usize::try_from(range.end - range.start).unwrap();
    let mut stored = repository.storage().get_range(pack.name(), range.start, length)?;
    let mut plain = Vec::new();
    pack.container().decode(piece.block, &mut stored, &mut Decoder::default(), &mut plain)?;
    Ok(plain)
}
