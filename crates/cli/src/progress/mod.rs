//! How far a long command is, for whoever looks on: a bar for each repository on a terminal, a line of the log now and then
//! elsewhere. Both are read off the engine's board; the work itself knows of neither.

mod meter;
mod words;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pgark_config::{Configuration, option};
use pgark_engine::progress::{Board, Progress, Sample};
use pgark_system::clock::Stopwatch;

use self::meter::{Meters, Ticker};
use self::words::how_far;
use crate::terminal;

/// How often a bar is drawn, and how often it is asked whether it is time for a line.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the log tells how far the work is.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// A bar of work of which it is known how much there is, and one of other work.
const MEASURED: &str = "{prefix} [{bar:16}] {wide_msg}";
const UNMEASURED: &str = "{prefix} {wide_msg}";

/// The bars of this process. There is one terminal, on which log lines and bars must not get into each other's way.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// How it is shown how far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Hidden,
    Bars,
    Lines,
}

impl Manner {
    fn of(configuration: &Configuration) -> Self {
        Self::choose(configuration.boolean(&option::PROGRESS), stderr().is_terminal() && !terminal::is_dumb())
    }

    fn choose(is_wanted: bool, is_terminal: bool) -> Self {
        match (is_wanted, is_terminal) {
            (false, _) => Self::Hidden,
            (true, true) => Self::Bars,
            (true, false) => Self::Lines,
        }
    }
}

/// Does work, which tells a board how far it is, and shows that meanwhile. When this returns nothing is shown any more.
pub(crate) fn while_shown<T>(configuration: &Configuration, work: impl FnOnce(&Board) -> T) -> T {
    let board = Board::default();
    let manner = Manner::of(configuration);
    if manner == Manner::Hidden {
        return work(&board);
    }
    let shown_board = &board;
    thread::scope(|scope| {
        // Dropped when the work ends, be it by a panic.
        let (_working, ended) = channel::<()>();
        let show = move || {
            let (mut shown, stopwatch) = (Shown::new(manner), Stopwatch::start());
            let interval = if manner == Manner::Bars { DRAW_INTERVAL } else { ASK_INTERVAL };
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                shown.show(stopwatch.elapsed(), &shown_board.at_work());
            }
            shown.clear();
        };
        if let Err(error) = thread::Builder::new().name("progress".to_owned()).spawn_scoped(scope, show) {
            tracing::debug!("it is not shown how far the work is: {error}");
        }
        work(&board)
    })
}

/// Writes to a terminal, whose bars step aside for that.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Takes all bars away, where the process ends without the work having come to an end.
pub(crate) fn clear() {
    if let Some(bars) = BARS.get() {
        // There is nobody to tell, and the process ends.
        let _stays = bars.clear();
    }
}

/// What is shown.
struct Shown {
    manner: Manner,
    ticker: Ticker,
    meters: Meters,
    bars: BTreeMap<u64, ProgressBar>,
}

impl Shown {
    fn new(manner: Manner) -> Self {
        Self { manner, ticker: Ticker::new(TELL_INTERVAL), meters: Meters::default(), bars: BTreeMap::new() }
    }

    /// Shows how far the work is, so long after its begin.
    fn show(&mut self, now: Duration, at_work: &[Arc<Progress>]) {
        let is_there = |work: u64| at_work.iter().any(|progress| progress.id == work);
        self.meters.keep(is_there);
        self.bars.retain(|work, bar| {
            let stays = is_there(*work);
            if !stays {
                take_away(bar);
            }
            stays
        });
        let is_time = self.manner == Manner::Bars || self.ticker.ticks(now);
        for progress in at_work {
            let sample = progress.sample();
            let rate = self.meters.observe(progress.id, now, sample.done);
            if is_time {
                let text = how_far(progress.unit, &sample, rate);
                self.tell(progress, &sample, text);
            }
        }
    }

    fn tell(&mut self, progress: &Progress, sample: &Sample, text: String) {
        let Progress { command, repository, .. } = progress;
        if self.manner != Manner::Bars {
            tracing::info!("repo{repository}: {command} progress: {text}");
            return;
        }
        let bar = self.bars.entry(progress.id).or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(style(UNMEASURED));
            let bar = bar.with_prefix(format!("repo{repository} {command}"));
            BARS.get_or_init(MultiProgress::new).add(bar)
        });
        if let Some(total) = sample.total.filter(|total| bar.length() != Some(*total)) {
            bar.set_style(style(MEASURED));
            bar.set_length(total);
        }
        bar.set_position(sample.done);
        bar.set_message(text);
    }

    fn clear(&mut self) {
        self.bars.values().for_each(take_away);
        self.bars.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

fn take_away(bar: &ProgressBar) {
    bar.finish_and_clear();
    if let Some(bars) = BARS.get() {
        bars.remove(bar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_for_terminals_and_lines_for_others() {
        assert_eq!(Manner::choose(true, true), Manner::Bars);
        assert_eq!(Manner::choose(true, false), Manner::Lines);
        assert_eq!(Manner::choose(false, true), Manner::Hidden);
        assert_eq!(Manner::choose(false, false), Manner::Hidden);
    }

    #[test]
    fn the_bars_can_be_drawn() {
        for template in [MEASURED, UNMEASURED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
