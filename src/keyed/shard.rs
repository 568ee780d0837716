use std::{collections::HashMap, hash::Hash, sync::Arc};

use crate::gate::Gate;

/// How many held keys a new one looks at for one that can be evicted.
const LOOKS: usize = 16;

pub(super) struct Shard<K> {
    /// Where in `held` a key is.
    places: HashMap<K, usize>,
    held: Vec<(K, Arc<Gate>)>,
    /// Where the next new key begins to look.
    hand: usize,
    most: usize,
}

/// What there is for a key.
pub(super) enum Place {
    Held(Arc<Gate>),
    Free,
    None,
}

impl<K: Hash + Eq> Shard<K> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            places: HashMap::new(),
            held: Vec::new(),
            hand: 0,
            most,
        }
    }

    pub(super) fn find(&self, key: &K) -> Option<Arc<Gate>> {
        let place = *self.places.get(key)?;
        Some(Arc::clone(&self.held[place].1))
    }

    /// The gate of `key`, or whether there is room for one, if need be that of another which is `evicted`.
    pub(super) fn place(&mut self, key: &K, evicted: &mut Option<(K, Arc<Gate>)>) -> Place {
        if let Some(gate) = self.find(key) {
            return Place::Held(gate);
        }
        if self.held.len() >= self.most {
            *evicted = self.evict();
        }
        match self.held.len() < self.most {
            true => Place::Free,
            false => Place::None,
        }
    }

    /// Likewise, and takes the place for `made` if it is free. Another request may have been quicker.
    pub(super) fn insert(
        &mut self,
        (key, kept): (K, K),
        made: &Arc<Gate>,
        evicted: &mut Option<(K, Arc<Gate>)>,
    ) -> Place {
        let place = self.place(&key, evicted);
        if let Place::Free = place {
            self.places.insert(key, self.held.len());
            self.held.push((kept, Arc::clone(made)));
        }
        place
    }

    pub(super) fn gates(&self) -> Vec<Arc<Gate>> {
        let gates = self.held.iter().map(|(_, gate)| Arc::clone(gate));
        gates.collect()
    }

    fn evict(&mut self) -> Option<(K, Arc<Gate>)> {
        for _ in 0..LOOKS.min(self.held.len()) {
            let nth = self.hand % self.held.len();
            self.hand = nth + 1;
            // Alone with it there is nobody in flight or waiting, and nobody can come before the lock is free.
            let alone = Arc::get_mut(&mut self.held[nth].1).is_some();
            if alone && self.held[nth].1.owes_nothing() {
                self.places.remove(&self.held[nth].0);
                let evicted = self.held.swap_remove(nth);
                if let Some((moved, _)) = self.held.get(nth) {
                    if let Some(place) = self.places.get_mut(moved) {
                        *place = nth;
                    }
                }
                return Some(evicted);
            }
        }
        None
    }
}
