//! How much of each pack a backup uses: the pack list of its manifest.
//!
//! The list is made of that of the reference, by what files that have changed use less and more. What has not changed is
//! not looked at: the work grows with the changes, not with the cluster. Each page and each page map in a pack counts the
//! same; a pack of which nothing is used any more leaves the list.

use std::collections::{BTreeMap, BTreeSet};

use pgark_repository::PackId;
use pgark_repository::manifest::PackUse;

use super::entries::PackCounts;
use crate::error::{Error, ErrorKind, Result};

/// How many pages and page maps of each pack are used.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeMap<PackId, i64>);

impl Uses {
    /// Those of a reference.
    pub(super) fn of(packs: &BTreeMap<PackId, PackUse>) -> Self {
        Self(packs.iter().map(|(id, pack)| (*id, i64::from(pack.references))).collect())
    }

    /// What a file uses.
    pub(super) fn add(&mut self, counts: &PackCounts) {
        for (pack, count) in counts {
            self.change(*pack, i64::from(*count));
        }
    }

    /// What a file used in the reference, and does not use any more.
    pub(super) fn release(&mut self, counts: &PackCounts) {
        for (pack, count) in counts {
            self.change(*pack, -i64::from(*count));
        }
    }

    /// What a file used in the reference, and what it uses now, which is mostly the same.
    pub(super) fn replace(&mut self, old: &PackCounts, new: &PackCounts) {
        let mut old = old.iter().peekable();
        for (pack, now) in new {
            while let Some((gone, before)) = old.next_if(|(id, _)| id < pack) {
                self.change(*gone, -i64::from(*before));
            }
            let before = old.next_if(|(id, _)| id == pack).map_or(0, |(_, before)| *before);
            self.change(*pack, i64::from(*now) - i64::from(before));
        }
        old.for_each(|(gone, before)| self.change(*gone, -i64::from(*before)));
    }

    fn change(&mut self, pack: PackId, by: i64) {
        if by != 0 {
            *self.0.entry(pack).or_default() += by;
        }
    }

    /// The pack list. `known` says what is known of a pack: how many references are how many of its bytes. Nothing points
    /// at the packs that are `unusable`.
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`] where the counts of the reference can't be right.
    pub(super) fn into_packs(
        self,
        unusable: &BTreeSet<PackId>,
        known: impl Fn(PackId) -> Option<PackUse>,
    ) -> Result<BTreeMap<PackId, PackUse>> {
        let mut packs = BTreeMap::new();
        for (id, count) in self.0.into_iter().filter(|(id, count)| *count != 0 && !unusable.contains(id)) {
            let Some((pack, references)) = known(id).zip(u32::try_from(count).ok()) else {
                let message = format!("pack {id} is used {count} times, which can't be");
                return Err(
                    Error::new(ErrorKind::Runtime, message).hint("take a backup with --no-reuse, and report this")
                );
            };
            packs.insert(id, part(pack, references));
        }
        Ok(packs)
    }
}

/// What so many references use of a pack of which it is known how much some use.
fn part(pack: PackUse, references: u32) -> PackUse {
    let used = u128::from(pack.used) * u128::from(references) / u128::from(pack.references.max(1));
    PackUse { used: u64::try_from(used).unwrap_or(u64::MAX).min(pack.length), references, ..pack }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;

    proptest! {
        #[test]
        fn what_is_replaced_is_released_and_added(
            old in proptest::collection::btree_map(0_u32..20, 1_u32..9, 0..12),
            new in proptest::collection::btree_map(0_u32..20, 1_u32..9, 0..12),
        ) {
            let counts = |of: BTreeMap<u32, u32>| of.into_iter().map(|(number, count)| (id(number), count)).collect();
            let (old, new): (PackCounts, PackCounts) = (counts(old), counts(new));
            let (mut at_once, mut in_turn) = (Uses::default(), Uses::default());
            at_once.replace(&old, &new);
            in_turn.release(&old);
            in_turn.add(&new);
            in_turn.0.retain(|_, count| *count != 0);
            prop_assert_eq!(at_once.0, in_turn.0);
        }
    }

    fn id(number: u32) -> PackId {
        PackId { session: Ulid::from_bytes([1; 16]), number }
    }

    fn pack(used: u64, references: u32) -> PackUse {
        PackUse { length: 1000, used, references, root: [7; 32] }
    }

    #[test]
    fn a_pack_is_used_by_its_share_till_nothing_is_left() {
        let old: BTreeMap<_, _> = [(id(0), pack(1000, 10)), (id(1), pack(500, 5)), (id(2), pack(300, 3))].into();
        let known = |id| old.get(&id).copied().or(Some(pack(1000, 4)));
        let mut uses = Uses::of(&old);
        uses.release(&vec![(id(0), 4), (id(1), 5)]);
        uses.add(&vec![(id(0), 1), (id(3), 4)]);
        let packs = uses.into_packs(&[id(2)].into(), known).unwrap();
        assert_eq!(packs, [(id(0), pack(700, 7)), (id(3), pack(1000, 4))].into());
    }

    #[test]
    fn counts_that_can_not_be_are_refused() {
        let mut uses = Uses::of(&[(id(0), pack(1000, 3))].into());
        uses.release(&vec![(id(0), 4)]);
        assert_eq!(uses.into_packs(&BTreeSet::new(), |_| Some(pack(1, 1))).unwrap_err().kind(), ErrorKind::Runtime);
        let mut uses = Uses::default();
        uses.add(&vec![(id(5), 1)]);
        assert!(uses.into_packs(&BTreeSet::new(), |_| None).is_err(), "a pack that nobody knows");
    }
}
