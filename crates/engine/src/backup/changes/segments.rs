//! Where the segments are: in the archive, and the last ones in `pg_wal`.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::control::ControlFile;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::name::{SegmentName, SegmentSize};
use pgark_postgres::wal::segment::{SegmentAnalysis, analyse};
use pgark_repository::wal::{Archive, WalObject};
use pgark_storage::ErrorKind;
use pgark_system::termination;

use super::chain::Link;
use super::ordered::in_order;
use super::{Stop, doubt};
use crate::check::hash_segment;
use crate::error::{Error, Result};
use crate::parallel::{Lent, Pool};

/// So many bytes of WAL before the end are compared with the archive, as far as `pg_wal` still has them.
const COMPARED: u32 = 256 << 20;

/// How many requests are under way at once, where each takes its time; and where none does.
const REQUESTS: usize = 32;
const LOCAL_READS: usize = 2;

/// Bytes of whole segments that may be in memory at once, unless one is larger by itself.
const WHOLE_SEGMENTS: u32 = 32 << 20;

/// The segments along the history of a cluster.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    archive: &'a Archive<'a>,
    control: &'a ControlFile,
    history: &'a TimelineHistory,
    pg_wal: PathBuf,
    /// Segments that the server has not archived yet: `pg_wal` has them, and what it has counts.
    unarchived: BTreeSet<SegmentName>,
    /// The segment with the end of what is needed.
    last: u64,
    /// Each for a whole segment.
    buffers: Pool<Vec<u8>>,
}

/// A segment that the archive must have.
pub(super) struct Archived {
    /// What its records change, or why that is not known.
    pub(super) link: Link,
    /// Whether `pg_wal` has it yet, and the same.
    pub(super) is_compared: bool,
}

/// A segment in `pg_wal`.
struct Local<'pool> {
    bytes: Lent<'pool, Vec<u8>>,
    analysis: SegmentAnalysis,
}

impl<'a> Segments<'a> {
    /// The segments of a cluster up to that of `end`.
    ///
    /// # Errors
    /// Where the data directory can't be read.
    pub(super) fn new(
        archive: &'a Archive<'a>,
        data_directory: &Path,
        control: &'a ControlFile,
        history: &'a TimelineHistory,
        end: Lsn,
    ) -> Result<Self> {
        let size = control.wal_segment_size;
        let pg_wal = data_directory.join("pg_wal");
        let unarchived = unarchived(&pg_wal.join("archive_status"))?;
        let buffers = Pool::new((WHOLE_SEGMENTS / size.bytes()).max(1) as usize);
        Ok(Self { archive, control, history, pg_wal, unarchived, last: size.segment_of(end), buffers })
    }

    /// The segments from that of `start` on.
    pub(super) fn from(&self, start: Lsn) -> RangeInclusive<u64> {
        self.size().segment_of(start)..=self.last
    }

    /// Reads what the records of each segment change, many segments at once, and shows it to `visit` in their order.
    ///
    /// # Errors
    /// Those of `visit`; a segment that is of another cluster; a repository that can't be reached.
    pub(super) fn read_all(
        &self,
        numbers: RangeInclusive<u64>,
        visit: impl FnMut(Link) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.read_by(|number| self.link(number), numbers, visit)
    }

    /// Reads what the archive has of each segment, and compares it with what `pg_wal` has, as far as it has it yet.
    ///
    /// # Errors
    /// As [`Segments::read_all`].
    pub(super) fn read_archived(
        &self,
        numbers: RangeInclusive<u64>,
        visit: impl FnMut(Archived) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.read_by(|number| self.archived(number), numbers, visit)
    }

    fn read_by<T: Send>(
        &self,
        read: impl Fn(u64) -> Result<T, Stop> + Sync,
        numbers: RangeInclusive<u64>,
        mut visit: impl FnMut(T) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let is_slow = self.archive.repository().storage().requests_ahead() > 0;
        let workers = if is_slow { REQUESTS } else { LOCAL_READS };
        in_order(numbers, workers, read, |found| {
            termination::check().map_err(Error::from)?;
            visit(found)
        })
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub(super) fn bytes(&self, number: u64) -> Result<Lent<'_, Vec<u8>>, Stop> {
        let name = self.name(number)?;
        if self.prefers_local(number, name)
            && let Some(local) = self.local(number, name)?
        {
            return Ok(local.bytes);
        }
        match self.look(name, |object| self.data(object))? {
            Ok(bytes) => Ok(bytes),
            Err(reason) => match self.local(number, name)? {
                Some(local) => Ok(local.bytes),
                None => doubt(reason),
            },
        }
    }

    /// What the records of a segment change, or why that is not known.
    fn link(&self, number: u64) -> Result<Link, Stop> {
        let name = self.name(number)?;
        if self.prefers_local(number, name) {
            // What the server is writing to can't be in the archive yet.
            if number < self.last
                && let Some(archived) = self.agreed(name)?
            {
                return self.expect(archived, number, name);
            }
            if let Some(local) = self.local(number, name)? {
                return match self.look(name, |object| agrees(&local, object))? {
                    Ok(true) | Err(_) => Ok(Ok(local.analysis)),
                    Ok(false) => differs(name),
                };
            }
        }
        let archived = match self.look(name, |object| self.analysis(name, object))? {
            Ok(archived) => archived,
            Err(_) => match self.local(number, name)? {
                Some(local) => return Ok(Ok(local.analysis)),
                // Between the two looks the server may have archived the segment, and made another one of its file.
                None => self.look(name, |object| self.analysis(name, object))?.and_then(|archived| archived),
            },
        };
        self.expect(archived, number, name)
    }

    /// What the records of a segment change that must be in the archive, or why that is not known.
    fn archived(&self, number: u64) -> Result<Archived, Stop> {
        let name = self.name(number)?;
        if let Some(archived) = self.agreed(name)? {
            let link = self.expect(archived, number, name)?;
            return Ok(Archived { link, is_compared: true });
        }
        if let Some(local) = self.local(number, name)? {
            return match self.look(name, |object| agrees(&local, object))? {
                Ok(true) => Ok(Archived { link: Ok(local.analysis), is_compared: true }),
                Ok(false) => differs(name),
                Err(reason) => Ok(Archived { link: Err(reason), is_compared: false }),
            };
        }
        let archived = self.look(name, |object| self.analysis(name, object))?.and_then(|archived| archived);
        Ok(Archived { link: self.expect(archived, number, name)?, is_compared: false })
    }

    /// What the archive says of a segment that `pg_wal` has too, with the same bytes: by their hash, so that none of them
    /// is read twice or held. `None` where that is not so, or is not known.
    fn agreed(&self, name: SegmentName) -> Result<Option<Link>, Stop> {
        let Some(hash) = hash_segment(self.archive, &self.pg_wal.join(name.to_string()))? else { return Ok(None) };
        let is_same = |object: &WalObject<'_>| object.has_content(&hash);
        let archived = self.look(name, |object| is_same(object).then(|| self.analysis(name, object)).transpose())?;
        Ok(archived.ok().flatten())
    }

    /// An archived segment, if it is the one that its name says.
    fn expect(&self, archived: Link, number: u64, name: SegmentName) -> Result<Link, Stop> {
        match archived {
            Ok(analysis) if !self.is_expected(&analysis, number, name) => {
                doubt(format!("WAL segment {name} in the archive is of another cluster or timeline than its name says"))
            }
            link => Ok(link),
        }
    }

    /// What the archive says that a segment's records change. Where it was archived unread, it is read now.
    fn analysis(&self, name: SegmentName, object: &WalObject<'_>) -> pgark_repository::Result<Link> {
        if let Ok(analysis) = SegmentAnalysis::decode(&object.analysis()?) {
            return Ok(Ok(analysis));
        }
        Ok(analyse(&self.data(object)?).map_err(|error| format!("WAL segment {name} in the archive: {error}")))
    }

    /// Room for a whole segment.
    fn buffer(&self) -> Lent<'_, Vec<u8>> {
        let mut buffer = self.buffers.lend();
        buffer.clear();
        buffer.reserve_exact(self.size().bytes() as usize);
        buffer
    }

    /// The bytes of an archived segment.
    fn data(&self, object: &WalObject<'_>) -> pgark_repository::Result<Lent<'_, Vec<u8>>> {
        let mut bytes = self.buffer();
        for block in object.data() {
            bytes.extend_from_slice(&block?);
        }
        Ok(bytes)
    }

    /// Looks into the archive for a segment: what `read` finds there, or why nothing can be found.
    fn look<T>(
        &self,
        name: SegmentName,
        read: impl FnOnce(&WalObject<'_>) -> pgark_repository::Result<T>,
    ) -> Result<Result<T, String>, Stop> {
        match self.archive.segment(&name.to_string()).and_then(|object| read(&object)) {
            Ok(found) => Ok(Ok(found)),
            Err(error) if error.is_not_found() => {
                Ok(Err(format!("WAL segment {name} is neither in pg_wal nor in the archive")))
            }
            Err(pgark_repository::Error::Storage(error)) if is_unreachable(error.kind()) => {
                Err(Error::from(error).into())
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The segment in `pg_wal`, if what the file has is that segment, and all of it unless it is the last one. A server
    /// makes new segments of old files, so that names there do not say what is in them.
    fn local(&self, number: u64, name: SegmentName) -> Result<Option<Local<'_>>, Stop> {
        let mut bytes = self.buffer();
        let read = fs::File::open(self.pg_wal.join(name.to_string())).and_then(|file| {
            let is_whole = file.metadata()?.len() == u64::from(self.size().bytes());
            if is_whole { file.take(self.size().bytes().into()).read_to_end(&mut bytes).map(Some) } else { Ok(None) }
        });
        match read {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::from(error).into()),
        }
        let analysis = analyse(&bytes).ok().filter(|analysis| {
            self.is_expected(analysis, number, name) && (analysis.end.is_complete() || number == self.last)
        });
        Ok(analysis.map(|analysis| Local { bytes, analysis }))
    }

    /// Whether `pg_wal` is asked first: for what the server has not archived, and for the last segments, to see that the
    /// archive has the WAL of this cluster.
    fn prefers_local(&self, number: u64, name: SegmentName) -> bool {
        let compared = u64::from(COMPARED / self.size().bytes()).max(2);
        number + compared > self.last || self.unarchived.contains(&name)
    }

    /// Whether a segment is the one of this name on the cluster's history.
    fn is_expected(&self, analysis: &SegmentAnalysis, number: u64, name: SegmentName) -> bool {
        let header = &analysis.header;
        header.number == number
            && header.size == self.size()
            && header.version == self.control.version
            && header.system_id == self.control.system_identifier
            // A segment in which the timeline changes begins with the old one.
            && header.timeline == self.history.timeline_at(header.start)
            && analysis.last_timeline <= name.timeline
    }

    fn name(&self, number: u64) -> Result<SegmentName, Stop> {
        match self.history.segment(number, self.size()) {
            Some(name) => Ok(name),
            None => doubt(format!("there is no WAL segment with number {number}")),
        }
    }

    fn size(&self) -> SegmentSize {
        self.control.wal_segment_size
    }
}

/// Whether the archive has what `pg_wal` has. A segment that was read while it was being written has its beginning only.
fn agrees(local: &Local<'_>, object: &WalObject<'_>) -> pgark_repository::Result<bool> {
    let written = local.analysis.end_offset as usize;
    let mut rest = if local.analysis.end.is_complete() { &local.bytes[..] } else { &local.bytes[..written] };
    for block in object.data() {
        let block = block?;
        let (compared, others) = rest.split_at(block.len().min(rest.len()));
        if !block.starts_with(compared) {
            return Ok(false);
        }
        rest = others;
    }
    Ok(rest.is_empty())
}

fn differs<T>(name: SegmentName) -> Result<T, Stop> {
    doubt(format!("WAL segment {name} in the archive is not the one in pg_wal: another cluster has archived to it"))
}

/// Whether nothing else can be read from the storage either.
fn is_unreachable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::RootMissing | ErrorKind::Settings)
}

/// The segments that the server has finished and not archived yet.
fn unarchived(archive_status: &Path) -> Result<BTreeSet<SegmentName>> {
    let mut segments = BTreeSet::new();
    for entry in fs::read_dir(archive_status)? {
        let name = entry?.file_name();
        let segment = name.to_str().and_then(|name| name.strip_suffix(".ready")).map(str::parse::<SegmentName>);
        segments.extend(segment.and_then(Result::ok));
    }
    Ok(segments)
}
