//! The packs that the runs of a map lie in, as numbers: there are many runs, and few packs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::names::PackId;

/// What stands in the place of a number for pages that are in no pack.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Packs, each with a number. None has two.
#[derive(Clone, Debug, Default)]
pub(super) struct PackNumbers {
    /// Those that the map was read with, ascending, numbered from 0. A map that is made of parts of another one shares
    /// them, so that runs go from one to the other as they are.
    shared: Option<Arc<[PackId]>>,
    /// Those that came to them, with the numbers after theirs.
    added: Vec<PackId>,
    /// The numbers of what was added.
    numbers: HashMap<PackId, u32>,
}

impl PackNumbers {
    /// Those of a map that is read: a number for each pack of the list that it is stored with. In a list as this program
    /// writes it, that is its place.
    pub(super) fn of_list(list: Vec<PackId>) -> (Self, Option<Vec<u32>>) {
        if list.is_sorted_by(|one, next| one < next) {
            let shared = (!list.is_empty()).then(|| list.into());
            return (Self { shared, ..Self::default() }, None);
        }
        let mut packs = Self::default();
        let numbers = list.into_iter().map(|pack| packs.number_of(pack)).collect();
        (packs, Some(numbers))
    }

    fn shared(&self) -> &[PackId] {
        self.shared.as_deref().unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shared().len() + self.added.len()
    }

    /// The pack with a number.
    pub(super) fn pack(&self, number: u32) -> PackId {
        let (shared, number) = (self.shared(), number as usize);
        shared.get(number).copied().unwrap_or_else(|| self.added[number - shared.len()])
    }

    /// The number of a pack, which it gets if it has none.
    pub(super) fn number_of(&mut self, pack: PackId) -> u32 {
        if let Some(number) = self.numbers.get(&pack) {
            return *number;
        }
        let number = self.shared().binary_search(&pack).unwrap_or(self.len());
        // There are fewer packs than bytes in a map.
        let number = u32::try_from(number).expect("the packs of a map can be counted");
        if number as usize == self.len() {
            self.numbers.insert(pack, number);
            self.added.push(pack);
        }
        number
    }

    /// Shares the others' packs, if there are none here yet.
    pub(super) fn share(&mut self, others: &Self) {
        if self.len() == 0 {
            self.shared.clone_from(&others.shared);
        }
    }

    /// How many of the others' numbers, from 0 on, stand for the same packs here.
    pub(super) fn in_common(&self, others: &Self) -> u32 {
        let common = match (&self.shared, &others.shared) {
            (Some(own), Some(other)) if Arc::ptr_eq(own, other) => own.len(),
            _ => 0,
        };
        u32::try_from(common).unwrap_or(u32::MAX)
    }

    /// The numbers in the order of their packs.
    pub(super) fn ascending(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..).take(self.len()).collect();
        if !self.added.is_empty() {
            // Fast where little was added: the others are in order.
            numbers.sort_by_key(|number| self.pack(*number));
        }
        numbers
    }
}
