//! Backups, expires and readers of many hosts at work on one stanza, interleaved at random between any two operations on
//! the storage; with processes that are killed or stall for longer than they are waited for, and clocks that jump.
//!
//! Nothing here takes time or runs at the same time: a run is a function of its seed. What the actors do are the functions
//! of the repository that the engine calls, in the engine's order.

mod backup;
mod expire;
mod reader;
mod storage;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use self::world::{Flaw, Summary, World};

/// How many runs a test makes. A run takes some milliseconds.
const SEEDS: u64 = 1000;

/// Makes all runs, on as many threads as the machine has for it; gives what happened in each, or why it ended.
fn run_all(flaw: Option<Flaw>) -> Vec<(u64, Result<Summary, String>)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return done;
            }
            let result = catch_unwind(AssertUnwindSafe(|| World::new(seed, flaw).run()));
            done.push((seed, result.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// A backup that was reported as taken stays whole until it is expired, and garbage goes.
#[test]
fn no_backup_is_harmed_and_all_garbage_goes() {
    let mut total = Summary::default();
    for (seed, result) in run_all(None) {
        total += result.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    // The runs are worth something only if everything happens in them.
    eprintln!("{total:?}");
    assert!(total.backups > SEEDS && total.withdrawn > SEEDS / 200, "{total:?}");
    assert!(total.swept > SEEDS && total.shared > SEEDS && total.adopted > SEEDS / 20, "{total:?}");
    assert!(total.killed > SEEDS && total.given_way > SEEDS / 20 && total.read > SEEDS / 4, "{total:?}");
}

/// The checks see what they are to see: whatever of the protocol is left out, some run ends with a loss.
#[test]
fn each_part_of_the_protocol_is_needed() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let flaws = [Flaw::NoConfirm, Flaw::ManifestsBeforeSweep, Flaw::NoMark, Flaw::ReadersNotHeeded];
    let harm = flaws.map(|flaw| (flaw, run_all(Some(flaw)).into_iter().filter(|(_, result)| result.is_err()).count()));
    std::panic::set_hook(quiet);
    eprintln!("runs of {SEEDS} that end with harm: {harm:?}");
    assert!(harm.iter().all(|(_, count)| *count > 0), "{harm:?}");
}
