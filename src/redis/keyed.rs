//! What a machine remembers of a key by itself: its lease, and what it spent while the store did not answer.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{lease::Lease, local::Local, script::Change};
use crate::sync::{Mutex, lock};

/// So many keys at most are remembered at once.
pub(super) const MOST_KEYS: usize = 65_536;

/// The first time that keys nobody needs any more are looked for.
const FIRST_SWEEP: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Memory {
    lease: Mutex<Lease>,
    /// Held by the one that asks the store for a slice, so that a crowd that finds the lease empty does not take one each.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Counts what the store has answered to those who had the turn.
    answers: AtomicU64,
    local: OnceLock<Local>,
}

impl Memory {
    pub(super) fn lease<T>(&self, change: impl FnOnce(&mut Lease) -> T) -> T {
        change(&mut lock(&self.lease))
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn local(&self, make: impl FnOnce() -> Local) -> &Local {
        self.local.get_or_init(make)
    }

    /// Ends this term, or whichever there is. Returns what has to go back to the store.
    pub(super) fn close(&self, term: Option<u64>) -> Option<Vec<Change>> {
        let (rest, spent) = self.lease(|lease| lease.close(term))?;
        Some(Change::give_back(&rest, spent))
    }

    /// There is nothing to remember.
    fn is_blank(&self, now: Duration) -> bool {
        !self.lease(|lease| lease.is_open())
            && self.local.get().is_none_or(|local| local.is_full(now))
    }
}

#[derive(Debug)]
pub(super) struct Memories(Mutex<Table>);

#[derive(Debug)]
struct Table {
    by_tag: HashMap<String, Arc<Memory>>,
    /// Twice what was left by the last sweep, so that all of them together cost each newcomer little.
    sweep_at: usize,
}

impl Memories {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Table {
            by_tag: HashMap::new(),
            sweep_at: FIRST_SWEEP,
        }))
    }

    /// The memory of a key. `None` if there is none yet, and no room for one.
    pub(super) fn of(&self, tag: &str, now: Duration) -> Option<Arc<Memory>> {
        let mut table = lock(&self.0);
        if let Some(memory) = table.by_tag.get(tag) {
            return Some(Arc::clone(memory));
        }
        if table.by_tag.len() >= table.sweep_at {
            table.sweep(now);
        }
        if table.by_tag.len() >= MOST_KEYS {
            return None;
        }
        let memory = Arc::new(Memory::default());
        table.by_tag.insert(tag.to_owned(), Arc::clone(&memory));
        Some(memory)
    }

    pub(super) fn all(&self) -> Vec<(String, Arc<Memory>)> {
        let table = lock(&self.0);
        (table.by_tag.iter())
            .map(|(tag, memory)| (tag.clone(), Arc::clone(memory)))
            .collect()
    }
}

impl Table {
    fn sweep(&mut self, now: Duration) {
        self.by_tag
            .retain(|_, memory| Arc::strong_count(memory) > 1 || !memory.is_blank(now));
        self.sweep_at = (self.by_tag.len() * 2).clamp(FIRST_SWEEP, MOST_KEYS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn open(memory: &Memory) {
        memory.lease(|lease| {
            let draw = lease.draw(&[1], &[2]);
            lease.put(&draw, &[], 0)
        });
    }

    #[test]
    fn a_key_is_remembered() {
        let memories = Memories::new();
        let first = memories.of("a", NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &memories.of("a", NOW).unwrap()));
        assert!(!Arc::ptr_eq(&first, &memories.of("b", NOW).unwrap()));
    }

    #[test]
    fn keys_nobody_needs_are_forgotten() {
        let memories = Memories::new();
        let held = memories.of("held", NOW).unwrap();
        open(&memories.of("open", NOW).unwrap());
        for key in 0..10_000 {
            memories.of(&key.to_string(), NOW).unwrap();
        }
        assert!(memories.all().len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&held, &memories.of("held", NOW).unwrap()));
        assert!(
            memories
                .of("open", NOW)
                .unwrap()
                .lease(|lease| lease.is_open())
        );
    }

    #[test]
    fn there_is_no_room_for_more_keys_than_stated() {
        let memories = Memories::new();
        for key in 0..MOST_KEYS {
            open(&memories.of(&key.to_string(), NOW).unwrap());
        }
        assert!(memories.of("one more", NOW).is_none());
        assert!(memories.of("0", NOW).is_some());
        memories
            .of("0", NOW)
            .unwrap()
            .lease(|lease| lease.close(None));
        assert!(memories.of("one more", NOW).is_some());
    }
}
