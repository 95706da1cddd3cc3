//! Many things read at once, and taken in their order.

use std::ops::RangeInclusive;
use std::thread;

use crossbeam_channel::{Receiver, bounded};

/// So many results may wait for each worker's turn. Together with the number of workers it bounds memory.
const WAITING: usize = 2;

/// Reads each number with one of `workers` threads, and shows the results to `visit` in the order of the numbers.
///
/// # Errors
/// The first error, in that order, of `read` or of `visit`. No worker is left behind.
pub(super) fn in_order<T: Send, E: Send>(
    numbers: RangeInclusive<u64>,
    workers: usize,
    read: impl Fn(u64) -> Result<T, E> + Sync,
    mut visit: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let read = &read;
    thread::scope(|scope| {
        // Each worker has every n-th number, so that its results come in order by themselves.
        let lanes: Vec<Receiver<Result<T, E>>> = (0..workers)
            .map(|lane| {
                let (sender, receiver) = bounded(WAITING);
                let mut numbers = numbers.clone().skip(lane).step_by(workers);
                // A closed channel means that nobody needs the rest.
                scope.spawn(move || numbers.try_for_each(|number| sender.send(read(number))));
                receiver
            })
            .collect();
        for (_, lane) in numbers.clone().zip(lanes.iter().cycle()) {
            // A worker that is gone has panicked, and the scope passes that on.
            let Ok(result) = lane.recv() else { break };
            visit(result?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_however_many_read() {
        for (workers, last) in [(1, 9), (3, 9), (4, 3), (16, 3), (2, 0)] {
            let mut seen = Vec::new();
            let read = |number: u64| {
                // Later numbers are quicker.
                thread::sleep(std::time::Duration::from_millis(10 - number));
                Ok::<_, ()>(number)
            };
            in_order(0..=last, workers, read, |number| {
                seen.push(number);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, (0..=last).collect::<Vec<_>>());
        }
        let nothing: RangeInclusive<u64> = RangeInclusive::new(5, 4);
        in_order(nothing, 3, |_| Err::<(), _>("read"), |()| Err("visited")).unwrap();
    }

    #[test]
    fn the_first_error_ends_it_and_little_is_read_ahead() {
        let reads = AtomicU64::new(0);
        let read = |number| {
            reads.fetch_add(1, Ordering::Relaxed);
            if number == 20 { Err(number) } else { Ok(number) }
        };
        assert_eq!(in_order(0..=100_000, 4, read, |_| Ok(())), Err(20));
        assert!(reads.load(Ordering::Relaxed) <= 20 + 4 * (WAITING as u64 + 2), "{reads:?}");
        reads.store(0, Ordering::Relaxed);
        assert_eq!(in_order(0..=100_000, 4, read, |number| if number == 10 { Err(number) } else { Ok(()) }), Err(10));
        assert!(reads.load(Ordering::Relaxed) <= 10 + 4 * (WAITING as u64 + 2), "{reads:?}");
    }
}
