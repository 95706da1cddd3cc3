//! Many small pieces of work at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::bounded;
use pgark_repository::PackId;
use pgark_repository::manifest::{Manifest, PackUse};
use pgark_storage::Storage;

use crate::error::Result;

/// How many requests are worth having under way at once where little work comes with each of them.
pub(crate) fn requests_at_once(storage: &dyn Storage) -> usize {
    if storage.requests_ahead() > 0 { 32 } else { 4 }
}

/// Reads the pack lists of manifests, many at once where they are short, and one after the other where they are long, so
/// that memory does not grow with cluster and threads both.
#[derive(Debug, Default)]
pub(crate) struct PackLists(Mutex<()>);

/// Bytes of a list that is long.
const LONG_LIST: u32 = 1 << 20;

impl PackLists {
    /// What `take` makes of the pack list of a manifest.
    ///
    /// # Errors
    /// Damage, or the storage's error.
    pub(crate) fn read<T>(
        &self,
        manifest: &Manifest<'_>,
        take: impl FnOnce(BTreeMap<PackId, PackUse>) -> T,
    ) -> Result<T, pgark_repository::Error> {
        let is_long = manifest.pack_list_length()? >= LONG_LIST;
        let _one_at_a_time = is_long.then(|| self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(take(manifest.packs()?))
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
    fn an_error_ends_it() {
        let items: Vec<u64> = (0..100_000).collect();
        let begun = AtomicUsize::new(0);
        let work = |_: &u64| begun.fetch_add(1, Ordering::Relaxed);
        let ended = for_each(&items, 4, work, |_, _| Err(Error::new(ErrorKind::Runtime, "enough")));
        assert_eq!(ended.unwrap_err().to_string(), "enough");
        assert!(begun.into_inner() < items.len());
    }
}
