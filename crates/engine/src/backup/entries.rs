//! Going through the files of the reference in step with the walk through the cluster.

use std::cmp::Ordering;
use std::vec::IntoIter;

use pgark_repository::PackId;
use pgark_repository::manifest::{Content, Entry, EntryKind, MapReader, SidecarEntry, SidecarKind};
use pgark_repository::map::PageMap;

use super::reference::Reference;

/// How many pages and page maps of each pack a file uses, in the order of the packs.
pub(super) type PackCounts = Vec<(PackId, u32)>;

/// An entry of a manifest, of the cluster or of a sidecar.
pub(super) trait Listed {
    /// Its path.
    fn path(&self) -> &[u8];

    /// Where its content is, and how many bytes that are, if it is a file.
    fn content(&self) -> Option<(&Content, u64)>;
}

impl Listed for Entry {
    fn path(&self) -> &[u8] {
        &self.path
    }

    fn content(&self) -> Option<(&Content, u64)> {
        match &self.kind {
            EntryKind::File { content, size, .. } => Some((content, *size)),
            EntryKind::Directory => None,
        }
    }
}

impl Listed for SidecarEntry {
    fn path(&self) -> &[u8] {
        &self.path
    }

    fn content(&self) -> Option<(&Content, u64)> {
        match &self.kind {
            SidecarKind::File { content, size } => Some((content, *size)),
            SidecarKind::Directory | SidecarKind::Link { .. } | SidecarKind::SameAs { .. } => None,
        }
    }
}

/// The entries of the reference. Both they and the walk come in one order, so that each entry is looked at once and few are
/// in memory.
pub(super) struct OldEntries<'reference, E> {
    blocks: Box<dyn Iterator<Item = pgark_repository::Result<Vec<E>>> + 'reference>,
    block: IntoIter<E>,
    next: Option<E>,
    maps: MapReader<'reference>,
}

impl<'reference> OldEntries<'reference, Entry> {
    /// Those of the cluster.
    pub(super) fn of(reference: &'reference Reference<'_>) -> Self {
        Self::new(reference, Box::new(reference.manifest.entries()))
    }
}

impl<'reference> OldEntries<'reference, SidecarEntry> {
    /// Those of sidecars.
    pub(super) fn of_sidecars(reference: &'reference Reference<'_>) -> Self {
        Self::new(reference, Box::new(reference.manifest.sidecar_entries()))
    }
}

impl<'reference, E: Listed> OldEntries<'reference, E> {
    fn new(
        reference: &'reference Reference<'_>,
        blocks: Box<dyn Iterator<Item = pgark_repository::Result<Vec<E>>> + 'reference>,
    ) -> Self {
        let maps = reference.manifest.maps(&reference.packs);
        let mut entries = Self { blocks, block: Vec::new().into_iter(), next: None, maps };
        entries.advance();
        entries
    }

    /// The entry with this path, if there is one. `gone` is told of the entries before it that were not asked for.
    pub(super) fn find(&mut self, path: &[u8], gone: &mut dyn FnMut(&mut MapReader<'_>, E)) -> Option<E> {
        while let Some(entry) = self.next.take() {
            match compare(entry.path(), path) {
                Ordering::Less => {
                    self.advance();
                    gone(&mut self.maps, entry);
                }
                Ordering::Equal => {
                    self.advance();
                    return Some(entry);
                }
                Ordering::Greater => {
                    self.next = Some(entry);
                    return None;
                }
            }
        }
        None
    }

    /// Tells of all that are left.
    pub(super) fn finish(mut self, gone: &mut dyn FnMut(&mut MapReader<'_>, E)) {
        while let Some(entry) = self.next.take() {
            self.advance();
            gone(&mut self.maps, entry);
        }
    }

    /// Where the pages of an entry lie; `None` where its map can't be read.
    pub(super) fn map(&mut self, entry: &E) -> Option<PageMap> {
        read_map(&mut self.maps, entry)
    }

    fn advance(&mut self) {
        self.next = self.block.next();
        while self.next.is_none() {
            match self.blocks.next() {
                None => return,
                Some(Ok(block)) => {
                    self.block = block.into_iter();
                    self.next = self.block.next();
                }
                Some(Err(error)) => tracing::warn!("files are stored anew: {error}"),
            }
        }
    }
}

/// Where the pages of an entry lie; `None` where its map can't be read.
pub(super) fn read_map(maps: &mut MapReader<'_>, entry: &impl Listed) -> Option<PageMap> {
    let map = entry.content().map_or_else(|| Ok(PageMap::default()), |(content, size)| maps.map_of(content, size));
    map.inspect_err(|error| {
        tracing::warn!("file '{}' is stored anew: {error}", String::from_utf8_lossy(entry.path()));
    })
    .ok()
}

/// What a file uses, whose content is this.
pub(super) fn counts(content: &Content, map: &PageMap) -> PackCounts {
    let mut counts = map.pages_by_pack();
    if let Content::At(location) = content {
        match counts.binary_search_by_key(&location.pack, |(pack, _)| *pack) {
            Ok(place) => counts[place].1 += 1,
            Err(place) => counts.insert(place, (location.pack, 1)),
        }
    }
    counts
}

/// What an entry uses; nothing where that can't be found out.
pub(super) fn counts_of(maps: &mut MapReader<'_>, entry: &impl Listed) -> PackCounts {
    match entry.content() {
        Some((content, _)) => read_map(maps, entry).map_or_else(Vec::new, |map| counts(content, &map)),
        None => Vec::new(),
    }
}

/// The order in which a walk through sorted directories finds paths.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_the_order_of_a_walk() {
        let walk: [&[u8]; 7] = [b"", b"base", b"base/1", b"base/1/2", b"base/1.x", b"base.x", b"c"];
        let mut sorted = walk;
        sorted.sort_by(|one, other| compare(one, other));
        assert_eq!(sorted, walk);
        sorted.sort_unstable();
        assert_ne!(sorted, walk, "the order of their bytes is another");
    }
}
