use std::collections::VecDeque;

use super::scenario::{Backend, Phase};

/// The backend at work.
pub(super) struct Server {
    backend: Backend,
    workers: usize,
    slower: f64,
    running: usize,
    /// Waiting for a worker, with their work in nanoseconds.
    pub(super) queue: VecDeque<(u32, u64)>,
    /// Refusals on their way.
    pub(super) refused: usize,
    /// When the rate has room again, as in the generic cell rate algorithm.
    room_at: u64,
}

/// What the backend has to do with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Inside {
    #[default]
    Nothing,
    /// It waits for a worker.
    Queued,
    Worked,
    /// A refusal or a failure is on its way; nobody works on it.
    Turned,
}

impl Server {
    pub(super) fn new(backend: &Backend) -> Self {
        Self {
            backend: *backend,
            workers: backend.workers,
            slower: 1.0,
            running: 0,
            queue: VecDeque::new(),
            refused: 0,
            room_at: 0,
        }
    }

    pub(super) fn enter(&mut self, phase: &Phase) {
        let workers = (self.backend.workers as f64 * phase.workers).round();
        self.workers = (workers as usize).max(1);
        self.slower = phase.slower;
    }

    pub(super) fn inside(&self) -> usize {
        self.running + self.queue.len()
    }

    /// Whether it refuses an arrival, which is then on its way out.
    pub(super) fn refuses(&mut self, now: u64) -> bool {
        let full = self.backend.refuses_beyond;
        let mut refuses = full.is_some_and(|most| self.inside() + self.refused >= most);
        if let (Some(rate), false) = (self.backend.rate, refuses) {
            let gap = (1e9 / rate) as u64;
            let at_once = 100_000_000;
            refuses = self.room_at > now + at_once;
            if !refuses {
                self.room_at = self.room_at.max(now) + gap;
            }
        }
        self.refused += usize::from(refuses);
        refuses
    }

    /// Work that can begin, and how long it will take.
    pub(super) fn start(&mut self) -> Option<(u32, u64)> {
        if self.backend.knee.is_none() && self.running >= self.workers {
            return None;
        }
        let (id, nanos) = self.queue.pop_front()?;
        self.running += 1;
        let mut factor = self.slower;
        if let Some(steepness) = self.backend.knee {
            let over = self.running as f64 / self.workers as f64;
            factor *= over.max(1.0).powf(steepness);
        }
        Some((id, (nanos as f64 * factor) as u64))
    }

    /// Work has ended.
    pub(super) fn finish(&mut self) {
        self.running -= 1;
    }
}
