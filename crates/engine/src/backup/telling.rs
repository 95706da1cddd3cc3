//! Telling what becomes of each file, in the order of the walk: at level detail a line for each file, which sums up its
//! frames, and at debug one for each frame. Where nobody listens nothing is put together.

use pgark_postgres::data_directory::{LeftOut, Scope};
use pgark_repository::map::{PageMap, Source};
use pgark_repository::{Label, PackId};
use tracing::Level;
use ulid::Ulid;

use super::collector::FileRead;
use super::hand_out::{Member, OldContent};
use super::plan::FilePlan;
use super::stock::Stock;
use crate::lock::percentage;
use crate::progress::Progress;
use crate::size::{human_size, pages};

/// Bytes of a plan that are told.
const PLAN_BYTES: usize = 400;

/// Tells of files.
pub(super) struct Telling<'backup> {
    /// Of which files are told of, and frames.
    files: bool,
    frames: bool,
    /// The session of this backup, by which its packs are known.
    session: Ulid,
    stock: &'backup Stock<'backup>,
    /// The backup that is compared with.
    since: Option<&'backup Label>,
    progress: &'backup Progress,
}

/// What pages of a file have been found to lie in: how many pages, and in how many frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lying {
    pages: u64,
    frames: u64,
}

/// Where the pages of a file lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frames {
    stored: Lying,
    pointed_at: Lying,
    taken_over: Lying,
    zeros: u64,
}

/// What a frame is to this backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Stored,
    PointedAt,
    TakenOver,
}

/// Whether somebody listens to what becomes of each file.
pub(super) fn is_wanted() -> bool {
    tracing::enabled!(Level::DEBUG)
}

/// Tells that something is not part of the backup.
pub(super) fn left_out(LeftOut { path, exclusion }: &LeftOut) {
    let what = match exclusion.scope {
        Scope::Whole => "",
        Scope::Contents => "what is in ",
    };
    tracing::debug!("leave out {what}'{}': {}", path.display(), exclusion.reason);
}

/// Tells of a file that is not there any more.
pub(super) fn gone(found: &Member) {
    tracing::debug!("skip file '{}': it was removed while the backup ran", name(found));
}

/// What is planned for a file, if somebody listens to that; not all of it where it is long, as many files wait to be told
/// of.
pub(super) fn of_plan(plan: &FilePlan) -> Option<String> {
    tracing::enabled!(Level::TRACE).then(|| shortened(plan.to_string()))
}

fn shortened(mut text: String) -> String {
    if text.len() > PLAN_BYTES {
        // Plans are plain ASCII.
        text.truncate(PLAN_BYTES);
        text.push_str(" and so on");
    }
    text
}

impl<'backup> Telling<'backup> {
    pub(super) fn new(
        session: Ulid,
        stock: &'backup Stock<'backup>,
        since: Option<&'backup Label>,
        progress: &'backup Progress,
    ) -> Self {
        Self { files: is_wanted(), frames: tracing::enabled!(Level::TRACE), session, stock, since, progress }
    }

    /// Tells of a file that is as it was in the reference, which was seen without reading it.
    pub(super) fn kept(&self, found: &Member, old: &OldContent) {
        if !self.files {
            return;
        }
        let since = self.since.map(|label| format!(" since {label}")).unwrap_or_default();
        let why = match found {
            _ if old.size == 0 => "is empty".to_owned(),
            Member::Cluster(_) => format!("is unchanged by the WAL{since}"),
            Member::Sidecar(_) => format!("is unchanged by its times{since}"),
        };
        self.file(&name(found), old.size, &why);
    }

    /// Tells of a file that was read.
    pub(super) fn read(&self, found: &Member, plan: Option<&str>, read: &FileRead, old: Option<&OldContent>) {
        if !self.files {
            return;
        }
        let (size, bytes) = (read.size(), human_size(read.bytes()));
        let is_same = size > 0 && old.is_some_and(|old| read.is_as(old));
        let damaged: u64 = read.damaged().iter().map(|range| u64::from(range.count)).sum();
        let what = [
            if size == 0 { "is empty".to_owned() } else { format!("read {bytes}") },
            if is_same { ", its content is unchanged".to_owned() } else { String::new() },
            frames_in_words(&self.frames_of(read.map())),
            if damaged > 0 { format!(", {damaged} page(s) do not match their checksums") } else { String::new() },
            if read.has_shrunk() { ", it was cut off while the backup ran".to_owned() } else { String::new() },
        ]
        .concat();
        self.file(&name(found), size, &what);
        if let Some(plan) = plan {
            tracing::trace!("plan for '{}': {plan}", name(found));
        }
        self.each_frame(&name(found), read.map());
    }

    /// Tells of a file that a restore writes last.
    pub(super) fn late(&self, name: &str, size: u64, map: &PageMap) {
        if self.files {
            self.file(name, size, &format!("is restored last{}", frames_in_words(&self.frames_of(map))));
            self.each_frame(name, map);
        }
    }

    fn file(&self, name: &str, size: u64, what: &str) {
        let sample = self.progress.sample();
        let share = sample.total.map(|total| format!(", {}", percentage(total, sample.done))).unwrap_or_default();
        tracing::debug!("backup file '{name}' ({}{share}) {what}", human_size(size));
    }

    fn each_frame(&self, name: &str, map: &PageMap) {
        if !self.frames {
            return;
        }
        for piece in map.pieces() {
            let origin = match self.origin(piece.pack) {
                Origin::Stored => "stored in",
                Origin::PointedAt => "found in an earlier backup's",
                Origin::TakenOver => "found in an interrupted backup's",
            };
            let pages = pages(piece.first_page, piece.pages);
            tracing::trace!("{pages} of '{name}' {origin} frame {} of pack {}", piece.block, piece.pack);
        }
        let mut first_page = 0;
        for run in map.runs() {
            if run.source == Source::Zeros {
                tracing::trace!("{} of '{name}' zeros", pages(first_page, run.pages));
            }
            first_page += run.pages;
        }
    }

    fn origin(&self, pack: PackId) -> Origin {
        if pack.session == self.session {
            Origin::Stored
        } else if self.stock.adoption.pack(pack).is_some() {
            Origin::TakenOver
        } else {
            Origin::PointedAt
        }
    }

    fn frames_of(&self, map: &PageMap) -> Frames {
        let mut frames = Frames::default();
        for piece in map.pieces() {
            let lying = match self.origin(piece.pack) {
                Origin::Stored => &mut frames.stored,
                Origin::PointedAt => &mut frames.pointed_at,
                Origin::TakenOver => &mut frames.taken_over,
            };
            lying.pages += u64::from(piece.pages);
            lying.frames += 1;
        }
        let zeros = map.runs().filter(|run| run.source == Source::Zeros);
        frames.zeros = zeros.map(|run| u64::from(run.pages)).sum();
        frames
    }
}

fn name(found: &Member) -> String {
    match found {
        Member::Cluster(found) => found.path.to_string_lossy().into_owned(),
        Member::Sidecar(found) => String::from_utf8_lossy(&found.path).into_owned(),
    }
}

/// Where the pages of a file lie: `, stored 3 pages in 1 frame(s), pointed at 61 pages in 4 frame(s)`.
fn frames_in_words(frames: &Frames) -> String {
    let Frames { stored, pointed_at, taken_over, zeros } = frames;
    let lying = |what: &str, Lying { pages, frames }: &Lying| {
        (*pages > 0).then(|| format!(", {what} {pages} page(s) in {frames} frame(s)"))
    };
    let parts = [
        lying("stored", stored),
        lying("pointed at", pointed_at),
        lying("took over", taken_over),
        (*zeros > 0).then(|| format!(", zeros {zeros} page(s)")),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_summed_up() {
        let frames = Frames {
            stored: Lying { pages: 3, frames: 1 },
            pointed_at: Lying { pages: 61, frames: 5 },
            taken_over: Lying::default(),
            zeros: 7,
        };
        assert_eq!(
            frames_in_words(&frames),
            ", stored 3 page(s) in 1 frame(s), pointed at 61 page(s) in 5 frame(s), zeros 7 page(s)"
        );
        assert_eq!(frames_in_words(&Frames::default()), "");
        assert_eq!(shortened("1, 2".to_owned()), "1, 2");
        assert_eq!(shortened("x".repeat(1 << 20)).len(), PLAN_BYTES + " and so on".len());
        let frames = Frames { taken_over: Lying { pages: 16, frames: 1 }, ..Frames::default() };
        assert_eq!(frames_in_words(&frames), ", took over 16 page(s) in 1 frame(s)");
    }
}
