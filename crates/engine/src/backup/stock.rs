//! What the repository has already that a backup may point at: the packs of its reference, and those of backups that were
//! interrupted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use pgark_repository::PackId;
use pgark_repository::manifest::{Content, PackUse};
use pgark_repository::map::{Cursor, Source};
use pgark_repository::vault::PageHash;

use super::adoption::Adoption;
use super::reference::Emptied;
use super::tables::{PackTables, TableCache, path_key};
use super::task::Task;
use crate::error::Result;

/// The pages that are in the repository already.
#[derive(Debug)]
pub(super) struct Stock<'backup> {
    pub(super) tables: TableCache<'backup>,
    /// The packs that the reference needs.
    pub(super) packs: BTreeMap<PackId, PackUse>,
    /// Those of them that can't be used.
    pub(super) unusable: BTreeSet<PackId>,
    /// Those of them that are to be emptied.
    pub(super) emptied: Emptied,
    /// The packs of interrupted backups.
    pub(super) adoption: Adoption,
}

impl<'backup> Stock<'backup> {
    /// Nothing.
    pub(super) fn empty(tables: TableCache<'backup>) -> Self {
        let (packs, unusable) = (BTreeMap::new(), BTreeSet::new());
        Self { tables, packs, unusable, emptied: Emptied::default(), adoption: Adoption::default() }
    }
    /// The tables of a pack; `None` if it can't be used.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn tables(&self, pack: PackId) -> Result<Option<Arc<PackTables>>> {
        if self.unusable.contains(&pack) {
            return Ok(None);
        }
        self.tables.get(pack, self.packs.get(&pack).map(|pack| pack.root))
    }

    /// Whether the map of a file lies where it can't stay.
    pub(super) fn must_move(&self, content: &Content) -> bool {
        let Content::At(location) = content else { return false };
        self.emptied.packs.contains(&location.pack) || self.unusable.contains(&location.pack)
    }
}

/// Where the pages of a task lie already. Pages are asked for in ascending order.
pub(super) struct Lookup<'task> {
    stock: &'task Stock<'task>,
    task: &'task Task,
    old: Cursor<'task>,
    /// The page that the cursor is at.
    at: u32,
    last: Option<(PackId, Option<Arc<PackTables>>)>,
    adopted: Option<HashMap<(u32, PageHash), Source>>,
}

/// What the reference has in the place of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// Nothing that could be compared.
    Unknown,
    /// A page of zeros.
    Zeros,
    /// A page with this hash.
    Page(PageHash),
}

impl<'task> Lookup<'task> {
    pub(super) fn new(stock: &'task Stock<'task>, task: &'task Task) -> Self {
        Self { stock, task, old: task.old.cursor(), at: task.part.start, last: None, adopted: None }
    }

    /// What the reference has in the place of `page`.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn old(&mut self, page: u32) -> Result<Old> {
        self.old.skip(page - self.at);
        self.at = page;
        match self.old.source() {
            None => Ok(Old::Unknown),
            Some(Source::Zeros) => Ok(Old::Zeros),
            Some(Source::Frames { pack, block, slot, .. }) => {
                let hash = self.tables(pack)?.and_then(|tables| tables.hash(block, slot));
                Ok(hash.map_or(Old::Unknown, Old::Page))
            }
        }
    }

    /// Where an interrupted backup has stored the page.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn adopted(&mut self, page: u32, hash: PageHash) -> Result<Option<Source>> {
        if self.task.file.adopted.is_empty() {
            return Ok(None);
        }
        let adopted = match self.adopted.take() {
            Some(adopted) => adopted,
            None => adopted_pages(self.stock, &self.task.file.name, &self.task.file.adopted, &self.task.part)?,
        };
        let source = adopted.get(&(page, hash)).copied();
        self.adopted = Some(adopted);
        Ok(source)
    }

    fn tables(&mut self, pack: PackId) -> Result<Option<&PackTables>> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != pack) {
            self.last = Some((pack, self.stock.tables(pack)?));
        }
        Ok(self.last.as_ref().and_then(|(_, tables)| tables.as_deref()))
    }
}

/// The pages of a part of a file that lie in these packs.
fn adopted_pages(
    stock: &Stock<'_>,
    name: &[u8],
    packs: &[PackId],
    part: &Range<u32>,
) -> Result<HashMap<(u32, PageHash), Source>> {
    let key = path_key(name);
    let mut pages = HashMap::new();
    for pack in packs {
        let Some(tables) = stock.tables(*pack)? else { continue };
        tables.pages_of(key, &mut |page, hash, block, slot, stride| {
            if part.contains(&page) {
                pages.insert((page, hash), Source::Frames { pack: *pack, block, slot, stride });
            }
        });
    }
    Ok(pages)
}
