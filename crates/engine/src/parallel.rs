//! Many small pieces of work at once.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::bounded;
use pgark_repository::manifest::{Manifest, PackList};
use pgark_storage::Storage;

use crate::error::Result;

/// How many requests are worth having under way at once where little work comes with each of them.
pub(crate) fn requests_at_once(storage: &dyn Storage) -> usize {
    if storage.requests_ahead() > 0 { 32 } else { 4 }
}

/// So many things that take much memory, lent to whoever needs one: room for it, or the thing itself, to be used again.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    things: Mutex<Vec<T>>,
    given: Condvar,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lent<'pool, T: Default> {
    thing: T,
    pool: &'pool Pool<T>,
}

impl<T: Default> Pool<T> {
    /// So many of them.
    pub(crate) fn new(count: usize) -> Self {
        Self { things: Mutex::new((0..count).map(|_| T::default()).collect()), given: Condvar::new() }
    }

    /// Waits till there is one: that which was given back last, so that no more of them grow than are needed at once.
    pub(crate) fn lend(&self) -> Lent<'_, T> {
        let things = self.given.wait_while(self.things(), |things| things.is_empty());
        let thing = things.unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Lent { thing, pool: self }
    }

    fn things(&self) -> MutexGuard<'_, Vec<T>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T: Default> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.thing
    }
}

impl<T: Default> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.pool.things().push(mem::take(&mut self.thing));
        self.pool.given.notify_one();
    }
}

/// Reads the pack lists of manifests, many at once where they are short, and few where they are long, so that memory does
/// not grow with cluster and threads both.
#[derive(Debug)]
pub(crate) struct PackLists(Pool<()>);

/// Bytes of a list that is long.
const LONG_LIST: u32 = 1 << 20;

/// How many lists that are long are read at once.
const LONG_LISTS: usize = 2;

impl Default for PackLists {
    fn default() -> Self {
        Self(Pool::new(LONG_LISTS))
    }
}

impl PackLists {
    /// What `take` makes of the pack list of a manifest.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(crate) fn read<T>(
        &self,
        manifest: &Manifest<'_>,
        take: impl FnOnce(&PackList) -> T,
    ) -> Result<T, pgark_repository::Error> {
        let is_long = manifest.pack_list_length()? >= LONG_LIST;
        let _room = is_long.then(|| self.0.lend());
        Ok(take(&manifest.pack_list()?))
    }
}

/// Does `work` on each item in so many threads, and shows what comes of it to `take`, in the caller's thread and in no
/// certain order.
///
/// # Errors
/// The first error of `take`, after which nothing new is begun; or where no thread can be started.
pub(crate) fn for_each<Item: Sync, Done: Send>(
    items: &[Item],
    threads: usize,
    work: impl Fn(&Item) -> Done + Sync,
    mut take: impl FnMut(&Item, Done) -> Result<()>,
) -> Result<()> {
    let threads = threads.clamp(1, items.len().max(1));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (sender, results) = bounded(threads);
        for number in 1..=threads {
            let (sender, next, stop, work) = (sender.clone(), &next, &stop, &work);
            thread::Builder::new().name(format!("P{number:02}")).spawn_scoped(scope, move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    if sender.send((item, work(item))).is_err() {
                        return;
                    }
                }
            })?;
        }
        drop(sender);
        let mut taken = Ok(());
        for (item, done) in results {
            // What is still under way is waited for, but of no account any more.
            if taken.is_ok() {
                taken = take(item, done);
                stop.store(taken.is_err(), Ordering::Relaxed);
            }
        }
        taken
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn every_item_is_worked_on_once() {
        let items: Vec<u64> = (0..1000).collect();
        let mut sum = 0;
        for_each(
            &items,
            8,
            |item| item * 2,
            |item, done| {
                assert_eq!(item * 2, done);
                sum += done;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(sum, 999 * 1000);
        for_each(&[], 8, |item: &u64| *item, |_, _| Ok(())).unwrap();
    }

    #[test]
    fn what_is_lent_comes_back_and_is_used_again() {
        let pool: Pool<Vec<u8>> = Pool::new(2);
        let (mut one, other) = (pool.lend(), pool.lend());
        one.push(1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.lend().clone());
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(one);
            assert_eq!(waiting.join().unwrap(), [1]);
        });
        drop(other);
        assert!(pool.lend().is_empty(), "that which was given back last");
    }

    #[test]
    fn an_error_ends_it() {
        let items: Vec<u64> = (0..100_000).collect();
        let begun = AtomicUsize::new(0);
        let work = |_: &u64| begun.fetch_add(1, Ordering::Relaxed);
        let ended = for_each(&items, 4, work, |_, _| Err(Error::new(ErrorKind::Runtime, "enough")));
        assert_eq!(ended.unwrap_err().to_string(), "enough");
        assert!(begun.into_inner() < items.len());
    }
}
