//! The summaries that a server of 17 or later writes itself (`summarize_wal`): they fill gaps.

use std::ops::Range;
use std::path::Path;

use fs_err as fs;
use pgark_postgres::Lsn;
use pgark_postgres::wal::history::TimelineHistory;
use pgark_postgres::wal::server_summary::{ServerSummary, ServerSummaryName};
use pgark_postgres::wal::summary::BlockSummary;

use super::Between;

/// What the server says of the records that begin in `range`.
///
/// It keeps WAL until it has summarised it. So it need not be waited for: what can be missing elsewhere, it has been at.
///
/// # Errors
/// Why it does not say; nothing where it never does.
pub(super) fn fill(between: &Between<'_>, range: &Range<Lsn>) -> Result<BlockSummary, Option<String>> {
    let directory = between.data_directory.join("pg_wal/summaries");
    let names = names(&directory);
    if names.is_empty() {
        return Err(None);
    }
    let covering = covering(&names, between.history, range)
        .map_err(|missing| Some(format!("the server's own summaries of its WAL do not reach over {missing} either")))?;
    let mut summary = BlockSummary::default();
    for name in covering {
        let path = directory.join(name.to_string());
        let bytes = fs::read(&path).map_err(|error| Some(error.to_string()))?;
        let read = ServerSummary::parse(&bytes).map_err(|error| Some(format!("'{}': {error}", path.display())))?;
        summary.merge(&read.to_block_summary());
    }
    Ok(summary)
}

/// The summaries that there are.
fn names(directory: &Path) -> Vec<ServerSummaryName> {
    // Servers before 17 have none.
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Summaries that together cover `range` along a history, or the first position that none covers.
fn covering<'n>(
    names: &'n [ServerSummaryName],
    history: &TimelineHistory,
    range: &Range<Lsn>,
) -> Result<Vec<&'n ServerSummaryName>, Lsn> {
    let mut chosen = Vec::new();
    for span in history.path() {
        let mut reached = range.start.max(span.start);
        let end = span.end.map_or(range.end, |end| range.end.min(end));
        while reached < end {
            let of_timeline = names.iter().filter(|name| name.timeline == span.timeline);
            let next = of_timeline.filter(|name| name.range.contains(&reached)).max_by_key(|name| name.range.end);
            let next = next.ok_or(reached)?;
            chosen.push(next);
            reached = next.range.end;
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use pgark_postgres::wal::name::Timeline;

    use super::*;

    fn name(timeline: u32, range: Range<u64>) -> ServerSummaryName {
        ServerSummaryName { timeline: Timeline(timeline), range: Lsn(range.start)..Lsn(range.end) }
    }

    /// Would lose: what was changed in a range that no summary tells of.
    #[test]
    fn a_range_is_covered_only_by_summaries_of_its_timelines_without_a_hole() {
        let history = TimelineHistory::parse(Timeline(2), "1\t0/500\tx\n").unwrap();
        let names = [name(1, 0x100..0x300), name(1, 0x300..0x500), name(1, 0x500..0x900), name(2, 0x500..0x700)];
        let cover = |names: &[ServerSummaryName], start, end| {
            let chosen = covering(names, &history, &(Lsn(start)..Lsn(end)));
            chosen.map(|chosen| chosen.len()).map_err(|missing| missing.0)
        };
        assert_eq!(cover(&names, 0x150, 0x250), Ok(1));
        assert_eq!(cover(&names, 0x150, 0x301), Ok(2));
        assert_eq!(cover(&names, 0x150, 0x700), Ok(3));
        assert_eq!(cover(&names, 0x150, 0x701), Err(0x700));
        assert_eq!(cover(&names, 0xFF, 0x250), Err(0xFF));
        assert_eq!(cover(&[name(1, 0x100..0x300), name(1, 0x301..0x500)], 0x150, 0x400), Err(0x300));
        // What timeline 1 went on with is not what this cluster did.
        assert_eq!(cover(&names[..3], 0x500, 0x600), Err(0x500));
        assert_eq!(cover(&names, 0x600, 0x600), Ok(0));
        // Of several, the one that reaches furthest.
        let overlapping = [name(1, 0x100..0x200), name(1, 0x100..0x400), name(1, 0x180..0x300)];
        assert_eq!(cover(&overlapping, 0x150, 0x400), Ok(1));
    }
}
