//! Results as Markdown.

use std::fmt::Write;

use crate::group::{Data, Peer, Storage, Task};
use crate::limits::Limits;
use crate::result::{Conditions, GroupResult, Series, Spread};

/// Everything: the conditions, then a table for each group, with what `plot` gives above it.
pub(crate) fn page(results: &[GroupResult], plot: impl Fn(&GroupResult) -> String) -> String {
    let Some(newest) = results.iter().max_by_key(|result| result.conditions.measured_at) else {
        return "Nothing has been measured yet.\n\n".to_owned();
    };
    let groups = results.iter().map(|result| format!("{}{}", heading(result), plot(result)) + &group(result));
    conditions(&newest.conditions) + &groups.collect::<String>()
}

fn conditions(conditions: &Conditions) -> String {
    let Conditions { measured_at, machine, postgres, pgark, pgbackrest, garage, .. } = conditions;
    let mut programs = vec![format!("pgark {pgark}")];
    programs.extend(pgbackrest.as_ref().map(|version| format!("pgBackRest {version}")));
    programs.push(format!("PostgreSQL and pg_basebackup {postgres}"));
    programs.extend(garage.as_ref().map(|version| format!("Garage {version}")));
    format!(
        "Measured on {} with {}, on {} processors ({}) with {:.0} GiB of memory, Linux {}.\n\n",
        measured_at.strftime("%Y-%m-%d"),
        programs.join(", "),
        machine.processors,
        machine.processor,
        gib(machine.memory_bytes),
        machine.kernel,
    )
}

fn heading(result: &GroupResult) -> String {
    let extent = result.conditions.data;
    let what = match result.group.data {
        Data::Mixed => "rows, JSON and vectors",
        Data::Files => "small files",
        Data::Wal => "WAL",
        Data::Changes => "rows, JSON and vectors, some of which change",
        Data::WalQueue => "WAL that waits",
        Data::WalMany => "WAL that waits in many small segments",
    };
    let place = match result.group.storage {
        Storage::Disk => "local disk".to_owned(),
        Storage::S3 => match result.conditions.latency_milliseconds {
            0 => "S3 on loopback".to_owned(),
            late => format!("S3 on loopback, each request held up for {late} ms"),
        },
    };
    let (amount, files) = (megabytes(extent.bytes), extent.files);
    format!("### {}: {what}, {amount} in {files} files, {place}\n\n", result.group.name())
}

fn group(result: &GroupResult) -> String {
    let mut text = String::from(
        "| task | program | seconds | least - greatest | pgark is | CPU seconds | pgark is | memory, MiB | requests | stored |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for series in result.series_by_task() {
        let pgark = result.series(series.task, Peer::Pgark);
        text.push_str(&row(series, pgark.filter(|_| series.peer != Peer::Pgark)));
    }
    text.push('\n');
    text.push_str(&unchecked(result));
    text.push_str(&limits(result));
    text.push_str(&changed(result));
    text
}

/// How a full backup compares with pgBackRest's where it does no more than that.
fn unchecked(result: &GroupResult) -> String {
    let (unchecked, peer) =
        (result.series(Task::UncheckedBackup, Peer::Pgark), result.series(Task::Backup, Peer::PgBackRest));
    let Some((unchecked, peer)) = unchecked.zip(peer) else { return String::new() };
    format!(
        "Where pgark does not decode again what it has compressed (`--no-verify-write`), which no other program does, its full \
         backup takes {:.2} times as long as pgBackRest's, and {:.2} times its CPU time.\n\n",
        unchecked.median_seconds() / peer.median_seconds(),
        unchecked.mean_cpu_seconds() / peer.mean_cpu_seconds(),
    )
}

/// How many pages changed between backups.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn changed(result: &GroupResult) -> String {
    if result.changed.is_empty() {
        return String::new();
    }
    let shares = result.changed.iter().map(|pages| 100.0 * pages.changed as f64 / pages.all.max(1) as f64);
    let Spread { least, median, greatest } = Spread::of(shares.collect());
    format!("Of the pages of the cluster {median:.2} % had changed each time ({least:.2} - {greatest:.2} %).\n\n")
}

/// A line of the table: one program at one task, and how pgark compares with it.
fn row(series: &Series, pgark: Option<&Series>) -> String {
    let times = series.seconds();
    let ratio = |figure: fn(&Series) -> f64| {
        pgark.map_or_else(String::new, |pgark| format!("{:.2} x", figure(pgark) / figure(series)))
    };
    format!(
        "| {} | {} | {} | {} - {} | {} | {} | {} | {:.0} | {} | {} |\n",
        series.task.title(),
        series.peer.name(),
        seconds(times.median),
        seconds(times.least),
        seconds(times.greatest),
        ratio(Series::median_seconds),
        seconds(series.mean_cpu_seconds()),
        ratio(Series::mean_cpu_seconds),
        mib(series.peak_memory_bytes()),
        series.requests().map_or_else(String::new, |requests| requests.to_string()),
        series.stored.map_or_else(String::new, |stored| megabytes(stored.bytes)),
    )
}

/// What the machine can do, and how close a full backup comes to it.
fn limits(result: &GroupResult) -> String {
    if result.limits.is_empty() {
        return String::new();
    }
    let median = |figure: fn(&Limits) -> f64| Spread::of(result.limits.iter().map(figure).collect()).median;
    let (read, compress, write) =
        (median(|limits| limits.read), median(|limits| limits.compress), median(|limits| limits.write));
    let mut text = format!(
        "The machine alone: reading the data {} s, compressing it {} s, writing as much {} s.",
        seconds(read),
        seconds(compress),
        seconds(write),
    );
    if let Some(series) = result.series(Task::Backup, Peer::Pgark) {
        let ratio = series.median_seconds() / read.max(compress);
        write!(text, " pgark's full backup takes {ratio:.2} times the slower of reading and compressing.")
            .expect("a string can be written");
    }
    text + "\n\n"
}

/// Three significant digits or so.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{seconds:.3}"),
        ..10.0 => format!("{seconds:.2}"),
        _ => format!("{seconds:.1}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1000.0 { format!("{megabytes:.0} MB") } else { format!("{:.2} GB", megabytes / 1000.0) }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn gib(bytes: u64) -> f64 {
    mib(bytes) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;

    fn series(peer: Peer, seconds: &[f64]) -> Series {
        let run = |&seconds: &f64| Cost { seconds, cpu_seconds: seconds * 2.0, memory_bytes: 3 << 20, traffic: None };
        Series { task: Task::Backup, peer, runs: seconds.iter().map(run).collect(), stored: None }
    }

    #[test]
    fn ratios_are_of_median_times_and_mean_cpu_times_and_stand_beside_the_peer() {
        let pgark = series(Peer::Pgark, &[1.0, 3.0, 2.0]);
        let peer = series(Peer::PgBackRest, &[4.0, 41.0, 3.0]);
        assert_eq!(
            row(&peer, Some(&pgark)),
            "| full backup | pgBackRest | 4.00 | 3.00 - 41.0 | 0.50 x | 32.0 | 0.12 x | 3 |  |  |\n"
        );
        assert_eq!(row(&pgark, None), "| full backup | pgark | 2.00 | 1.00 - 3.00 |  | 4.00 |  | 3 |  |  |\n");
    }

    #[test]
    fn nothing_measured_is_said() {
        assert_eq!(page(&[], |_| String::new()), "Nothing has been measured yet.\n\n");
    }
}
