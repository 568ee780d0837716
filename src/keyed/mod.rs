//! A gate for each key, for a bounded number of keys.
//!
//! No task cleans up: whoever brings a new key to a full shard looks at a few held ones and evicts the first that has nothing to
//! remember. Nothing of a request's is lost with it: under the shard's lock the map is the only holder of a gate that can be
//! evicted, so that nobody is in flight there, waits there, or has a charge to correct.

mod shard;

use std::{
    any::Any,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::OnceLock,
};

use self::shard::{Held, Place, Shard};
use crate::{
    BackpressureLayer,
    contained::contained,
    gate::{Holder, Keys},
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// With fewer keys to a shard than this, chance would fill one long before the others.
const KEYS_PER_SHARD: usize = 256;
const MOST_SHARDS: usize = 16;

pub(crate) struct Keyed<K> {
    make: Box<dyn Fn(&K) -> BackpressureLayer + Send + Sync>,
    /// Made with the first request, when it is known how many keys are to be held.
    shards: OnceLock<Box<[Mutex<Shard<K>>]>>,
    hasher: RandomState,
    held: AtomicUsize,
    /// For those that find no place.
    overflow: Mutex<Option<Holder>>,
}

impl<K: Hash + Eq> Keyed<K> {
    pub(crate) fn new(make: impl Fn(&K) -> BackpressureLayer + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            shards: OnceLock::new(),
            hasher: RandomState::new(),
            held: AtomicUsize::new(0),
            overflow: Mutex::new(None),
        }
    }

    /// The gate of `key` under `above`.
    pub(crate) fn gate(&self, key: K, above: &Holder) -> Holder {
        let shards = self
            .shards
            .get_or_init(|| shards(above.settings().max_keys));
        let hash = self.hasher.hash_one(&key);
        let shard = shard_of(shards, hash);
        let mut evicted = None;
        let place = lock(shard).place(hash, &key, &mut evicted);
        self.forget(evicted);
        match place {
            Place::Held(gate) => gate,
            Place::Free => self.newcomer(shard, hash, key, above),
            Place::None => self.overflow(&key, above),
        }
    }

    #[cold]
    fn newcomer(&self, shard: &Mutex<Shard<K>>, hash: u64, key: K, above: &Holder) -> Holder {
        // Not under the lock: it is the user's code.
        let gate = (self.make)(&key).into_key_gate(above);
        let new = Held {
            hash,
            key,
            gate: gate.clone(),
        };
        let mut evicted = None;
        let (place, not_held) = lock(shard).insert(new, &mut evicted);
        self.forget(evicted);
        match (place, not_held) {
            (Place::Held(gate), _) => return gate,
            (_, Some(not_held)) => return self.overflow(&not_held.key, above),
            (_, None) => {}
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        above.keys_changed();
        if above.is_draining() {
            gate.drain();
        }
        gate
    }

    /// A key, a limit and rates may be the user's, and go where no lock is held. If that panics, it is not the concern of
    /// the request for which they go.
    fn forget(&self, evicted: Option<Held<K>>) {
        if evicted.is_some() {
            self.held.fetch_sub(1, Ordering::Relaxed);
            contained(|| drop(evicted));
        }
    }

    #[cold]
    fn overflow(&self, key: &K, above: &Holder) -> Holder {
        if let Some(gate) = &*lock(&self.overflow) {
            return gate.clone();
        }
        let made = (self.make)(key).into_key_gate(above);
        // Where another request was quicker, this one's goes when the lock is free.
        let gate = lock(&self.overflow)
            .get_or_insert_with(|| made.clone())
            .clone();
        if above.is_draining() {
            gate.drain();
        }
        gate
    }
}

fn shards<K: Eq>(max_keys: usize) -> Box<[Mutex<Shard<K>>]> {
    let n = (max_keys / KEYS_PER_SHARD).clamp(1, MOST_SHARDS);
    (0..n)
        .map(|nth| max_keys / n + usize::from(nth < max_keys % n))
        .map(|most| Mutex::new(Shard::new(most)))
        .collect()
}

/// By other bits of the hash than the lowest, which say where in its shard a key is.
fn shard_of<K>(shards: &[Mutex<Shard<K>>], hash: u64) -> &Mutex<Shard<K>> {
    &shards[(hash >> 32) as usize % shards.len()]
}

impl<K: Hash + Eq + Send + Sync + 'static> Keys for Keyed<K> {
    fn find(&self, key: &dyn Any) -> Option<Holder> {
        let key = key.downcast_ref::<K>()?;
        let shards = self.shards.get()?;
        let hash = self.hasher.hash_one(key);
        lock(shard_of(shards, hash)).find(hash, key).cloned()
    }

    fn drain(&self) {
        let shards = self.shards.get().into_iter().flatten();
        let mut gates: Vec<_> = shards.flat_map(|shard| lock(shard).gates()).collect();
        gates.extend(lock(&self.overflow).clone());
        for gate in gates {
            gate.drain();
        }
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests;
