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
    sync::{Arc, OnceLock},
};

use self::shard::{Place, Shard};
use crate::{
    BackpressureLayer,
    gate::Gate,
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// With fewer keys to a shard than this, chance would fill one long before the others.
const KEYS_PER_SHARD: usize = 256;
const MOST_SHARDS: usize = 16;

/// The gates of all keys, whatever the keys are.
pub(crate) trait Keys: Send + Sync {
    fn find(&self, key: &dyn Any) -> Option<Arc<Gate>>;
    fn drain(&self);
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    fn held(&self) -> usize;
}

pub(crate) struct Keyed<K> {
    make: Box<dyn Fn(&K) -> BackpressureLayer + Send + Sync>,
    /// Made with the first request, when it is known how many keys are to be held.
    shards: OnceLock<Box<[Mutex<Shard<K>>]>>,
    hasher: RandomState,
    held: AtomicUsize,
    /// For those that find no place.
    overflow: Mutex<Option<Arc<Gate>>>,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
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
    pub(crate) fn gate(&self, key: K, above: &Arc<Gate>) -> Arc<Gate> {
        let shards = self
            .shards
            .get_or_init(|| shards(above.settings().max_keys));
        let shard = &shards[self.index(&key, shards.len())];
        match self.place(shard, &key) {
            Place::Held(gate) => return gate,
            Place::None => return self.overflow(&key, above),
            Place::Free => {}
        }
        // Not under the lock: it is the user's code.
        let made = (self.make)(&key).into_key_gate(above);
        let Some(gate) = self.insert(shard, &key, made) else {
            return self.overflow(&key, above);
        };
        above.keys_changed();
        if above.is_draining() {
            gate.drain();
        }
        gate
    }

    fn index(&self, key: &K, shards: usize) -> usize {
        (self.hasher.hash_one(key) % shards as u64) as usize
    }

    fn place(&self, shard: &Mutex<Shard<K>>, key: &K) -> Place {
        let mut evicted = None;
        let place = lock(shard).place(key, &mut evicted);
        self.forget(evicted);
        place
    }

    /// The gate of `key`; `None` if another key has taken the place meanwhile.
    fn insert(&self, shard: &Mutex<Shard<K>>, key: &K, made: Arc<Gate>) -> Option<Arc<Gate>> {
        let keys = (key.clone(), key.clone());
        let mut evicted = None;
        let place = lock(shard).insert(keys, &made, &mut evicted);
        self.forget(evicted);
        match place {
            Place::Held(gate) => Some(gate),
            Place::Free => {
                self.held.fetch_add(1, Ordering::Relaxed);
                Some(made)
            }
            Place::None => None,
        }
    }

    /// A key, a limit and rates may be the user's, and go where no lock is held.
    fn forget(&self, evicted: Option<(K, Arc<Gate>)>) {
        if evicted.is_some() {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn overflow(&self, key: &K, above: &Arc<Gate>) -> Arc<Gate> {
        if let Some(gate) = &*lock(&self.overflow) {
            return Arc::clone(gate);
        }
        let made = (self.make)(key).into_key_gate(above);
        let gate = Arc::clone(lock(&self.overflow).get_or_insert(made));
        if above.is_draining() {
            gate.drain();
        }
        gate
    }
}

fn shards<K: Hash + Eq>(max_keys: usize) -> Box<[Mutex<Shard<K>>]> {
    let n = (max_keys / KEYS_PER_SHARD).clamp(1, MOST_SHARDS);
    (0..n)
        .map(|nth| max_keys / n + usize::from(nth < max_keys % n))
        .map(|most| Mutex::new(Shard::new(most)))
        .collect()
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Keys for Keyed<K> {
    fn find(&self, key: &dyn Any) -> Option<Arc<Gate>> {
        let key = key.downcast_ref::<K>()?;
        let shards = self.shards.get()?;
        lock(&shards[self.index(key, shards.len())]).find(key)
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
