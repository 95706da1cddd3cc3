//! A year of backups every hour, simulated: what cleaning does to a map that changes all the time.
//!
//! There are no bytes, only places: a file whose pages change, each backup's map made from the one before by the rules of a
//! backup, frames and packs as it would write them. What is looked at is what a user would feel: what a restore fetches
//! for each byte it needs, from how many packs, what all backups of the last week keep in the repository, how large the
//! map is, and how much is written to keep it so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pgark_repository::PackId;
use pgark_repository::map::{PageMap, Run, Source};
use ulid::Ulid;

use super::rewrites;
use crate::backup::pages::PageSet;

/// Pages of the file, unless `PGARK_YEAR_PAGES` says otherwise. The figures of docs/performance.md are of 4096.
const PAGES: u32 = 512;
const HOURS: u32 = 365 * 24;
/// Backups that are kept.
const KEPT: usize = 7 * 24;
const FRAME_PAGES: usize = 16;

/// How updates are spread over the pages.
#[derive(Clone, Copy, Debug)]
enum Updates {
    /// Every page is as likely as any other.
    Random,
    /// Nine of ten updates go to a tenth of the pages.
    Skewed,
    /// As skewed ones, and the tenth moves through the file, as where recent rows are updated most.
    Moving,
}

/// What one backup has done and needs.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// Pages that a restore fetches, for each page that it needs.
    fetched: f64,
    /// Packs that it fetches them from.
    packs: usize,
    /// Pages in the packs that the last week's backups need, for each page of the cluster.
    kept: f64,
    /// Bytes of the encoded map for each page.
    map_bytes: f64,
    /// Pages stored for each page that changed, since the beginning.
    written: f64,
}

/// The repository, as far as it matters: how many pages each frame and each pack has.
#[derive(Debug, Default)]
struct Simulation {
    pages: u32,
    map: PageMap,
    frames: BTreeMap<(PackId, u32), usize>,
    pack_pages: BTreeMap<PackId, u32>,
    backups: VecDeque<BTreeSet<PackId>>,
    changed: u64,
    stored: u64,
    state: u64,
}

impl Simulation {
    fn random(&mut self, below: u32) -> u32 {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let high = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from((high * u64::from(below)) >> 32).unwrap()
    }

    fn changes(&mut self, updates: Updates, hour: u32, count: u32) -> PageSet {
        let (pages, hot) = (self.pages, self.pages / 10);
        let mut changed: Vec<u32> = (0..count)
            .map(|_| match updates {
                Updates::Random => self.random(pages),
                Updates::Skewed | Updates::Moving if self.random(10) == 0 => self.random(pages),
                Updates::Skewed => self.random(hot),
                Updates::Moving => (self.random(hot) + hour * 4 * pages / HOURS) % pages,
            })
            .collect();
        changed.sort_unstable();
        changed.into_iter().map(|page| page..page + 1).collect()
    }

    /// A backup of `changed` pages in the hour `hour`.
    fn back_up(&mut self, hour: u32, changed: &PageSet) {
        let used: BTreeMap<PackId, u32> = self.map.pages_by_pack().into_iter().collect();
        let is_emptied = |pack: PackId| used.get(&pack).is_some_and(|used| used * 4 < self.pack_pages[&pack]);
        let mut frame_pages = |pack, block| self.frames.get(&(pack, block)).copied();
        let rewritten = rewrites(&self.map, changed, self.pages, &is_emptied, &mut frame_pages);
        let stored = changed.union(&rewritten);
        let pack = PackId { session: Ulid::from_parts(hour.into(), 0), number: 0 };
        let numbers: Vec<u32> = stored.ranges().iter().cloned().flatten().collect();
        let mut map = PageMap::default();
        let mut old = self.map.cursor();
        let mut next = 0;
        for (block, frame) in (0..).zip(numbers.chunks(FRAME_PAGES)) {
            self.frames.insert((pack, block), frame.len());
            let stride = u16::try_from(frame.len()).unwrap();
            for (slot, number) in (0..).zip(frame) {
                old.copy(number - next, &mut map);
                map.push(Run { pages: 1, source: Source::Frames { pack, block, slot, stride } });
                old.skip(1);
                next = number + 1;
            }
        }
        old.copy(self.pages - next, &mut map);
        self.map = map;
        self.pack_pages.insert(pack, stored.count());
        self.changed += u64::from(changed.count());
        self.stored += u64::from(stored.count());
        self.backups.push_back(self.map.packs().into_iter().collect());
        if self.backups.len() > KEPT {
            self.backups.pop_front();
            // What is forgotten later is of no account till then.
            if hour.is_multiple_of(24) {
                self.expire();
            }
        }
    }

    /// Forgets packs that no backup needs.
    fn expire(&mut self) {
        let needed: BTreeSet<PackId> = self.backups.iter().flatten().copied().collect();
        self.pack_pages.retain(|pack, _| needed.contains(pack));
        self.frames.retain(|(pack, _), _| needed.contains(pack));
    }

    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    fn figures(&self) -> Figures {
        let frames: BTreeSet<(PackId, u32)> = self.map.pieces().map(|piece| (piece.pack, piece.block)).collect();
        let fetched: usize = frames.iter().map(|frame| self.frames[frame]).sum();
        let needed: BTreeSet<PackId> = self.backups.iter().flatten().copied().collect();
        let kept: u32 = needed.iter().map(|pack| self.pack_pages[pack]).sum();
        Figures {
            fetched: fetched as f64 / f64::from(self.pages),
            packs: self.map.packs().len(),
            kept: f64::from(kept) / f64::from(self.pages),
            map_bytes: self.map.encode().len() as f64 / f64::from(self.pages),
            written: self.stored as f64 / self.changed.max(1) as f64,
        }
    }
}

/// The figures of each month.
fn year(pages: u32, updates: Updates, percent: f64) -> Vec<Figures> {
    let mut simulation = Simulation { pages, state: 1, ..Simulation::default() };
    simulation.map.push(Run { pages, source: Source::Zeros });
    simulation.back_up(0, &PageSet::all(pages));
    (simulation.changed, simulation.stored) = (0, 0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let count = (f64::from(pages) * percent / 100.0) as u32;
    let mut months = Vec::new();
    for hour in 1..=HOURS {
        let changed = simulation.changes(updates, hour, count);
        simulation.back_up(hour, &changed);
        if hour.is_multiple_of(HOURS / 12) {
            months.push(simulation.figures());
        }
    }
    months
}

#[test]
fn after_a_year_of_hourly_backups_a_restore_fetches_less_than_twice_what_it_needs() {
    let pages = std::env::var("PGARK_YEAR_PAGES").map_or(PAGES, |pages| pages.parse().expect("it is a number"));
    println!(
        "| updates | an hour | month | fetched | packs | kept | map | written |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    );
    // Of few pages a thousandth is none.
    let few = if pages < 1000 { 0.4 } else { 0.1 };
    for (updates, percent) in [
        (Updates::Random, few),
        (Updates::Random, 1.0),
        (Updates::Skewed, few),
        (Updates::Skewed, 1.0),
        (Updates::Moving, 1.0),
    ] {
        for (month, figures) in (1..).zip(year(pages, updates, percent)) {
            let Figures { fetched, packs, kept, map_bytes, written } = figures;
            if [1, 6, 12].contains(&month) {
                println!(
                    "| {updates:?} | {percent} % | {month} | {fetched:.2} | {packs} | {kept:.2} | {map_bytes:.1} | {written:.2} |"
                );
            }
            assert!(fetched < 2.0, "{updates:?}, {percent} %, month {month}: {figures:?}");
            assert!(written < 3.0, "{updates:?}, {percent} %, month {month}: {figures:?}");
        }
    }
}
