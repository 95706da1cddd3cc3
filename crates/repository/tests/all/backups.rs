//! A small engine: writes backups of files that are given as bytes.

use std::collections::BTreeMap;

use pgark_repository::codec::Compression;
use pgark_repository::container::WriteOptions;
use pgark_repository::manifest::{
    Attributes, BackupPoint, ClusterIdentity, Content, DamagedFile, Database, Entry, EntryKind, ManifestDocument,
    ManifestWriter, MapLocation, PackUse, PageRange, Tablespace, Totals,
};
use pgark_repository::map::{PageMap, Run, Source};
use pgark_repository::pack::{FramePages, PackFrame, PackWriter};
use pgark_repository::repository::Cluster;
use pgark_repository::{Label, PAGE_SIZE, PackId, Repository, Result, StanzaName};
use ulid::Ulid;

/// Pages in a frame of a file that is read from front to back.
const FRAME_PAGES: u16 = 16;

/// A file or directory to back up.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) attributes: Attributes,
    /// The bytes of a file; `None` for a directory.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) page_checksums: bool,
    pub(crate) damaged: Vec<PageRange>,
    /// Whether its map goes into a block of maps.
    pub(crate) map_in_pack: bool,
    /// Whether a restore writes it last.
    pub(crate) late: bool,
}

impl Item {
    pub(crate) fn directory(path: &str) -> Self {
        let attributes = Attributes { mode: 0o700, user: 1, group: 1, modified: 1_795_000_000 };
        Self {
            path: path.as_bytes().to_vec(),
            link: None,
            attributes,
            content: None,
            page_checksums: false,
            damaged: Vec::new(),
            map_in_pack: false,
            late: false,
        }
    }

    pub(crate) fn file(path: &str, content: Vec<u8>) -> Self {
        let attributes = Attributes { mode: 0o600, user: 1, group: 1, modified: 1_795_000_001 };
        Self { attributes, content: Some(content), ..Self::directory(path) }
    }
}

/// What a later backup needs to know of an earlier one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    files: BTreeMap<Vec<u8>, (Vec<u8>, PageMap)>,
    packs: BTreeMap<PackId, PackUse>,
}

/// A backup to take.
pub(crate) struct Backup<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) stanza: &'a StanzaName,
    pub(crate) label: Label,
    pub(crate) session: Ulid,
    pub(crate) compression: Compression,
}

impl Backup<'_> {
    /// Takes it in one pack; pages that are the same in `prior` stay where they are.
    pub(crate) fn take(&self, items: &[Item], prior: &Taken) -> Result<Taken> {
        let id = PackId { session: self.session, number: 0 };
        let options = WriteOptions { compression: self.compression, verify: true };
        let mut pack = PackWriter::new(self.repository, self.stanza, id, options)?;
        let mut files = BTreeMap::new();
        for item in items {
            if let Some(content) = &item.content {
                let map = self.store(&mut pack, item, content, prior)?;
                files.insert(item.path.clone(), (content.clone(), map));
            }
        }
        let locations = store_maps(&mut pack, items, &files)?;
        let written = pack.finish()?.written;
        let mut packs = prior.packs.clone();
        packs.insert(
            id,
            PackUse { length: written.length, used: written.length / 2, references: 0, root: written.root },
        );
        let taken = Taken { files, packs };
        self.commit(items, &taken, &locations)?;
        Ok(taken)
    }

    fn store(&self, pack: &mut PackWriter<'_>, item: &Item, content: &[u8], prior: &Taken) -> Result<PageMap> {
        let (old, old_map) = prior.files.get(&item.path).cloned().unwrap_or_default();
        if old.is_empty() {
            self.store_all(pack, item, content)
        } else {
            self.store_changes(pack, item, &old, &old_map)
        }
    }

    /// Pages in frames of consecutive pages; zero pages in none.
    fn store_all(&self, pack: &mut PackWriter<'_>, item: &Item, content: &[u8]) -> Result<PageMap> {
        let pages: Vec<&[u8]> = content.chunks(PAGE_SIZE).collect();
        let is_zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
        let mut map = PageMap::default();
        let mut first = 0;
        for group in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
            if is_zero(&group[0]) {
                map.push(Run { pages: length(group.len()), source: Source::Zeros });
                first += length(group.len());
                continue;
            }
            for frame in group.chunks(usize::from(FRAME_PAGES)) {
                let count = u16::try_from(frame.len()).unwrap();
                let block = self.store_frame(pack, item, &FramePages::Contiguous { first, count }, frame)?;
                let source = Source::Frames { pack: pack.id(), block, slot: 0, stride: FRAME_PAGES };
                map.push(Run { pages: u32::from(count), source });
                first += u32::from(count);
            }
        }
        Ok(map)
    }

    /// The pages that differ from those of `old` in scattered frames.
    fn store_changes(&self, pack: &mut PackWriter<'_>, item: &Item, old: &[u8], old_map: &PageMap) -> Result<PageMap> {
        let content = item.content.as_deref().unwrap_or_default();
        let old_pages: Vec<&[u8]> = old.chunks(PAGE_SIZE).collect();
        let pages: Vec<&[u8]> = content.chunks(PAGE_SIZE).collect();
        let mut sources: Vec<Source> = places(old_map);
        sources.resize(pages.len(), Source::Zeros);
        let changed: Vec<usize> = (0..pages.len()).filter(|page| old_pages.get(*page) != Some(&pages[*page])).collect();
        for numbers in changed.chunks(64) {
            let frame: Vec<&[u8]> = numbers.iter().map(|page| pages[*page]).collect();
            let scattered = FramePages::Scattered(numbers.iter().map(|page| length(*page)).collect());
            let block = self.store_frame(pack, item, &scattered, &frame)?;
            for (slot, page) in (0..).zip(numbers) {
                sources[*page] = Source::Frames { pack: pack.id(), block, slot, stride: 64 };
            }
        }
        let mut map = PageMap::default();
        for source in sources {
            map.push(Run { pages: 1, source });
        }
        Ok(map)
    }

    fn store_frame(&self, pack: &mut PackWriter<'_>, item: &Item, pages: &FramePages, frame: &[&[u8]]) -> Result<u32> {
        let page_hashes: Vec<_> = frame.iter().map(|page| self.repository.vault().page_hash(page)).collect();
        let frame = PackFrame { path: &item.path, pages, plain: &frame.concat(), page_hashes: &page_hashes };
        Ok(pack.append_frame(frame)?.0)
    }

    fn commit(&self, items: &[Item], taken: &Taken, locations: &BTreeMap<Vec<u8>, MapLocation>) -> Result<()> {
        let mut manifest = ManifestWriter::new(self.repository, self.stanza, &self.label)?;
        for item in items {
            let entry = entry(item, taken, locations.get(&item.path));
            if item.late { manifest.add_late(&entry) } else { manifest.add(&entry)? }
        }
        manifest.commit(&document(&self.label), &taken.packs)?;
        Ok(())
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap()
}

/// Where each page lies, one by one.
fn places(map: &PageMap) -> Vec<Source> {
    let mut places = vec![Source::Zeros; usize::try_from(map.page_count()).unwrap()];
    for piece in map.pieces() {
        for page in 0..piece.pages {
            let slot = piece.slot + u16::try_from(page).unwrap();
            let place = Source::Frames { pack: piece.pack, block: piece.block, slot, stride: 64 };
            places[(piece.first_page + page) as usize] = place;
        }
    }
    places
}

fn store_maps(
    pack: &mut PackWriter<'_>,
    items: &[Item],
    files: &BTreeMap<Vec<u8>, (Vec<u8>, PageMap)>,
) -> Result<BTreeMap<Vec<u8>, MapLocation>> {
    let block = pack.next_block();
    let mut locations = BTreeMap::new();
    let mut bytes = Vec::new();
    for item in items.iter().filter(|item| item.map_in_pack) {
        let map = files[&item.path].1.encode();
        let location = MapLocation { pack: pack.id(), block, offset: length(bytes.len()), length: length(map.len()) };
        locations.insert(item.path.clone(), location);
        bytes.extend(map);
    }
    if !bytes.is_empty() {
        assert_eq!(pack.next_block(), block);
        pack.append_maps(&[&bytes], 1)?;
    }
    Ok(locations)
}

fn entry(item: &Item, taken: &Taken, location: Option<&MapLocation>) -> Entry {
    let kind = match &item.content {
        None => EntryKind::Directory,
        Some(bytes) => EntryKind::File {
            size: bytes.len() as u64,
            page_checksums: item.page_checksums,
            content: match location {
                _ if bytes.is_empty() => Content::None,
                Some(location) => Content::At(*location),
                None => Content::Map(taken.files[&item.path].1.clone()),
            },
            damaged: item.damaged.clone(),
        },
    };
    Entry { path: item.path.clone(), link: item.link.clone(), attributes: item.attributes, kind }
}

/// A document with all its members set.
pub(crate) fn document(label: &Label) -> ManifestDocument {
    let cluster = cluster();
    ManifestDocument {
        label: label.clone(),
        kind: label.kind(),
        prior: label.as_str().split_once('_').map(|(full, _)| full.parse().unwrap()),
        cluster: ClusterIdentity {
            id: cluster.id,
            version: cluster.version,
            system_id: cluster.system_id,
            control_version: cluster.control_version,
            catalog_version: cluster.catalog_version,
            wal_segment_size: 16 << 20,
        },
        start: point("2026-11-22T12:05:31Z", "0/4000028"),
        stop: point("2026-11-22T12:06:02.5Z", "0/4000120"),
        online: true,
        page_checksums: true,
        compression: "zst:3".into(),
        annotations: [("reason".into(), "before the upgrade".into())].into(),
        databases: vec![Database { name: "postgres".into(), oid: 5 }],
        tablespaces: vec![Tablespace { oid: 16400, name: "space".into(), path: "/mnt/space".into() }],
        users: vec!["postgres".into()],
        groups: vec!["postgres".into(), "backup".into()],
        damaged_files: vec![DamagedFile { path: "base/5/1259".into(), pages: vec![PageRange { first: 2, count: 1 }] }],
        hints_logged: true,
        unexplained: None,
        sidecars: Vec::new(),
        totals: Totals { files: 7, size: 290_000, read: 280_000, stored: 12_000, added: 11_000 },
        program: "pgark 0.0.0".into(),
    }
}

fn point(time: &str, lsn: &str) -> BackupPoint {
    BackupPoint {
        time: time.parse().unwrap(),
        lsn: Some(lsn.into()),
        timeline: 1,
        wal_segment: Some("000000010000000000000004".into()),
    }
}

/// The cluster that is backed up, the stanza's second.
pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: 2,
        version: "17".into(),
        system_id: "7549000000000000001".into(),
        control_version: 1700,
        catalog_version: 202_406_281,
        created: "2026-11-20T08:00:00Z".parse().unwrap(),
        archive_of: None,
    }
}
