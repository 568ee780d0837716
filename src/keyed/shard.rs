use hashbrown::HashTable;

use crate::gate::Holder;

/// How many held keys a new one looks at for one that can be evicted.
const LOOKS: usize = 16;

pub(super) struct Shard<K> {
    /// Where in `held` a key is.
    places: HashTable<usize>,
    held: Vec<Held<K>>,
    /// Where the next new key begins to look.
    hand: usize,
    pub(super) most: usize,
}

/// A key's gate. The hash is the one that the key is looked up with.
pub(super) struct Held<K> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) gate: Holder,
}

/// What there is for a key.
pub(super) enum Place {
    Held(Holder),
    Free,
    None,
}

impl<K: Eq> Shard<K> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: HashTable::new(),
            held: Vec::new(),
            hand: 0,
            most,
        }
    }

    pub(super) fn find(&self, hash: u64, key: &K) -> Option<&Holder> {
        let is_here = |&place: &usize| self.held[place].key == *key;
        let place = *self.places.find(hash, is_here)?;
        Some(&self.held[place].gate)
    }

    /// The gate of `key`, or whether there is room for one, if need be that of another which is `evicted`.
    pub(super) fn place(&mut self, hash: u64, key: &K, evicted: &mut Option<Held<K>>) -> Place {
        if let Some(gate) = self.find(hash, key) {
            return Place::Held(gate.clone());
        }
        if self.held.len() >= self.most {
            *evicted = self.evict();
        }
        match self.held.len() < self.most {
            true => Place::Free,
            false => Place::None,
        }
    }

    /// Likewise, and takes the place for `new` if it is free, or hands it back. Another request may have been quicker.
    pub(super) fn insert(
        &mut self,
        new: Held<K>,
        evicted: &mut Option<Held<K>>,
    ) -> (Place, Option<Held<K>>) {
        let place = self.place(new.hash, &new.key, evicted);
        let Place::Free = place else {
            return (place, Some(new));
        };
        let held = &self.held;
        self.places
            .insert_unique(new.hash, held.len(), |&place| held[place].hash);
        self.held.push(new);
        (place, None)
    }

    pub(super) fn gates(&self) -> Vec<Holder> {
        let gates = self.held.iter().map(|held| held.gate.clone());
        gates.collect()
    }

    fn evict(&mut self) -> Option<Held<K>> {
        for _ in 0..LOOKS.min(self.held.len()) {
            let nth = self.hand % self.held.len();
            self.hand = nth + 1;
            // Alone with it there is nobody in flight or waiting, and nobody can come before the lock is free.
            let gate = &self.held[nth].gate;
            if gate.is_alone() && gate.owes_nothing() {
                return Some(self.remove(nth));
            }
        }
        None
    }

    fn remove(&mut self, nth: usize) -> Held<K> {
        let removed = self.held.swap_remove(nth);
        if let Ok(entry) = self.places.find_entry(removed.hash, |&place| place == nth) {
            entry.remove();
        }
        // The last has come to its place.
        if let Some(moved) = self.held.get(nth) {
            let was = self.held.len();
            if let Some(place) = self.places.find_mut(moved.hash, |&place| place == was) {
                *place = nth;
            }
        }
        removed
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests;
