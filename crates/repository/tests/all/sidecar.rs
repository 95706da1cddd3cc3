//! A repository with one backup that has a sidecar: the golden files of sidecars are made of it.

use pgark_repository::codec::Compression;
use pgark_repository::container::WriteOptions;
use pgark_repository::manifest::{
    Attributes, Content, Entry, EntryKind, ManifestDocument, ManifestWriter, PackUse, Sidecar, SidecarEntry,
    SidecarKind, Stamp,
};
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::{FramePages, PackFrame, PackWriter};
use pgark_repository::{PAGE_SIZE, PackId, Repository, Result};
use ulid::Ulid;

use crate::backups::{cluster, document};
use crate::sample::{FULL, label, stanza};

/// The content of the file of the sidecar: a page and a bit.
pub(crate) fn content() -> Vec<u8> {
    (0..=250).cycle().take(PAGE_SIZE + 1000).collect()
}

/// Writes the whole repository.
pub(crate) fn write(repository: &Repository) -> Result<()> {
    let (stanza, label) = (stanza(), label(FULL));
    repository.add_cluster(&stanza, &cluster())?;
    let id = PackId { session: Ulid::from_bytes([4; 16]), number: 0 };
    let options = WriteOptions { compression: Compression::Zstd(3), verify: true };
    let mut pack = PackWriter::new(repository, &stanza, id, options)?;
    let plain = content();
    let page_hashes: Vec<_> = plain.chunks(PAGE_SIZE).map(|page| repository.vault().page_hash(page)).collect();
    // The file was called so once, and is pointed at under its new name.
    let path = SidecarEntry::pack_path(b"cache/blobs/old");
    let pages = FramePages::Contiguous { first: 0, count: 2 };
    let (block, _) =
        pack.append_frame(PackFrame { path: &path, pages: &pages, plain: &plain, page_hashes: &page_hashes })?;
    let written = pack.finish()?.written;
    let mut map = PageMap::default();
    map.push(Run { pages: 2, source: Source::Frames { pack: id, block, slot: 0, stride: 2 } });

    let mut manifest = ManifestWriter::with_sidecars(repository, &stanza, &label)?;
    let attributes = Attributes { mode: 0o700, user: 1, group: 1, modified: 1_795_000_000 };
    manifest.add(&Entry { path: Vec::new(), link: None, attributes, kind: EntryKind::Directory })?;
    for entry in entries(&map) {
        manifest.add_sidecar(&entry)?;
    }
    let size = plain.len() as u64;
    let sidecar = Sidecar { name: "cache".into(), path: "/var/lib/postgresql/.cache".into(), files: 2, size };
    let document = ManifestDocument { sidecars: vec![sidecar], ..document(&label) };
    let pack_use = PackUse { length: written.length, used: written.length, references: 0, root: written.root };
    manifest.commit(&document, &[(id, pack_use)].into())?;
    Ok(())
}

/// Entries of every kind.
fn entries(map: &PageMap) -> Vec<SidecarEntry> {
    let entry = |number: u32, path: &[u8], kind| SidecarEntry {
        path: path.to_vec(),
        attributes: Attributes { mode: 0o640, user: 1, group: 2, modified: -86_400 + i64::from(number) },
        stamp: Stamp {
            modified_nanoseconds: 123_456_789,
            changed: 1_795_000_000 + i64::from(number),
            changed_nanoseconds: number,
            inode: 4_000_000_000 + u64::from(number),
        },
        kind,
    };
    let file = |content| SidecarKind::File { size: if content == Content::None { 0 } else { 9192 }, content };
    vec![
        entry(0, b"cache", SidecarKind::Directory),
        entry(1, b"cache/blobs", SidecarKind::Directory),
        entry(2, b"cache/blobs/model", file(Content::Map(map.clone()))),
        entry(3, b"cache/blobs/other", SidecarKind::SameAs { path: b"cache/blobs/model".into() }),
        entry(4, b"cache/latest", SidecarKind::Link { target: b"blobs/model".into() }),
        entry(5, b"cache/odd\xff\n", file(Content::None)),
    ]
}
