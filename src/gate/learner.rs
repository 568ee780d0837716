//! Feeds samples to the limit's algorithm, one at a time, without making anybody wait.
//!
//! A sample costs two readings of the clock and the algorithm's own arithmetic, several times what all the rest of an
//! admission costs. Up to some 5 000 requests a second, each is a sample. Above that a limit learns nothing more from seeing
//! them all, and only a random share is looked at, from its admission on: whatever becomes of those is told, so that the share
//! of refusals and of callers that left stays what it is.

use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::{
    contained::contained,
    limit::{Limit, MAX_LIMIT, Sample},
    slots::Slots,
    sync::{AtomicU32, Mutex, Ordering, lock, try_lock},
};

/// Samples that may wait while another thread learns; beyond that the oldest is forgotten.
const LATE: usize = 64;
/// The mean time between samples below which requests are passed over.
const SPACING: Duration = Duration::from_micros(200);
/// How long is counted before the share is decided on anew.
const WINDOW: Duration = Duration::from_millis(1);
/// So many samples are enough before that: the share would be a small one even if nobody else came in the rest of the window, and
/// those who come after a pause need not all pay for a sample.
const ENOUGH: u32 = 128;
/// The smallest share is one request in so many: enough to make samples cheap, and soon made up for when the pace falls.
const LARGEST_STRIDE: u32 = 64;

pub(crate) struct Learner {
    student: Mutex<Student>,
    late: ArrayQueue<Sample>,
    learns: bool,
    /// One request in so many is a sample; a power of two.
    stride: AtomicU32,
}

/// What one thread at a time works with.
struct Student {
    /// `None` after it has panicked.
    limit: Option<Box<dyn Limit>>,
    /// Since when samples are counted, and how many they are.
    since: Duration,
    samples: u32,
}

impl Learner {
    pub(crate) fn new(limit: impl Limit) -> Self {
        Self {
            learns: limit.learns(),
            student: Mutex::new(Student {
                limit: Some(Box::new(limit)),
                since: Duration::ZERO,
                samples: 0,
            }),
            late: ArrayQueue::new(LATE),
            stride: AtomicU32::new(1),
        }
    }

    /// Whether the request that is let in now is to be a sample.
    #[inline]
    pub(crate) fn picks(&self) -> bool {
        if !self.learns {
            return false;
        }
        match self.stride.load(Ordering::Relaxed) {
            1 => true,
            stride => fastrand::u32(..) & (stride - 1) == 0,
        }
    }

    /// Learns from a sample and moves the limit in `slots`. Gives the limit before and after, if it moved.
    ///
    /// While another thread is learning the sample is left with that thread, or with whoever comes next.
    pub(crate) fn learn(&self, sample: Sample, slots: &Slots) -> Option<(usize, usize)> {
        let Some(mut student) = try_lock(&self.student) else {
            self.late.force_push(sample);
            return None;
        };
        let late = (0..LATE).map_while(|_| self.late.pop());
        let mut next = None;
        for sample in late.chain([sample]) {
            student.samples += 1;
            next = guarded(&mut student.limit, |limit| limit.update(&sample)).or(next);
        }
        let stride = self.stride.load(Ordering::Relaxed);
        if let Some(better) = student
            .stride(sample.at, stride)
            .filter(|&better| better != stride)
        {
            self.stride.store(better, Ordering::Relaxed);
        }
        let before = slots.read().limit();
        let after = next?.clamp(1, MAX_LIMIT);
        if before == after {
            return None;
        }
        slots.set_limit(after);
        Some((before, after))
    }

    /// The limit was set by hand. Gives the limit before and after.
    pub(crate) fn set_limit(&self, to: usize, slots: &Slots) -> (usize, usize) {
        let mut student = lock(&self.student);
        let kept = guarded(&mut student.limit, |limit| limit.set_limit(to)).unwrap_or(to);
        let after = kept.clamp(1, MAX_LIMIT);
        (slots.set_limit(after).limit(), after)
    }
}

impl Student {
    /// Which stride suits the pace of the last window, if that is known by now. A clock that stands still tells no pace.
    fn stride(&mut self, now: Duration, stride: u32) -> Option<u32> {
        let elapsed = now.saturating_sub(self.since);
        if elapsed.is_zero() || elapsed < WINDOW && self.samples < ENOUGH {
            return None;
        }
        let elapsed = elapsed.max(WINDOW);
        let requests = u128::from(self.samples) * u128::from(stride);
        let ideal = requests * SPACING.as_nanos() / elapsed.as_nanos();
        self.since = now;
        self.samples = 0;
        let ideal = u32::try_from(ideal).unwrap_or(u32::MAX);
        Some(match ideal {
            0 | 1 => 1,
            ideal if ideal >= LARGEST_STRIDE => LARGEST_STRIDE,
            ideal => ideal.next_power_of_two(),
        })
    }
}

/// Runs code of the user's. If it panics, the learning ends with it.
fn guarded<R>(
    limit: &mut Option<Box<dyn Limit>>,
    f: impl FnOnce(&mut dyn Limit) -> R,
) -> Option<R> {
    let algorithm = limit.as_deref_mut()?;
    let result = contained(|| f(algorithm));
    if result.is_none() {
        let broken = limit.take();
        contained(|| drop(broken));
    }
    result
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learner")
            .field("late", &self.late.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(backpressure_loom)))]
mod tests {
    use super::*;
    use crate::limit::Fixed;

    fn student() -> Student {
        Student {
            limit: Some(Box::new(Fixed::new(1))),
            since: Duration::ZERO,
            samples: 0,
        }
    }

    #[test]
    fn every_request_is_a_sample_up_to_five_thousand_a_second() {
        let mut student = student();
        for (samples, micros) in [(1, 1000), (5, 1000), (50, 10_000), (5, 60_000_000)] {
            student.since = Duration::ZERO;
            student.samples = samples;
            let now = Duration::from_micros(micros);
            assert_eq!(student.stride(now, 1), Some(1), "{samples} in {micros} us");
        }
    }

    #[test]
    fn beyond_that_a_share_keeps_samples_at_that_pace() {
        let mut student = student();
        student.samples = 40;
        assert_eq!(student.stride(WINDOW, 1), Some(8));
        student.samples = 5;
        assert_eq!(
            student.stride(2 * WINDOW, 8),
            Some(8),
            "the same pace, seen through it"
        );
        student.samples = u32::MAX;
        assert_eq!(student.stride(3 * WINDOW, 64), Some(LARGEST_STRIDE));
    }

    #[test]
    fn a_pace_that_falls_is_seen_with_the_next_sample() {
        let mut student = student();
        student.samples = 1;
        assert_eq!(student.stride(Duration::from_secs(6), 64), Some(1));
    }

    #[test]
    fn enough_samples_tell_the_pace_before_the_window_has_passed() {
        let mut student = student();
        let now = WINDOW / 10;
        student.samples = ENOUGH - 1;
        assert_eq!(student.stride(now, 1), None);
        student.samples = ENOUGH;
        assert_eq!(
            student.stride(now, 1),
            Some(32),
            "as if nobody came for the rest of it"
        );
        student.samples = ENOUGH;
        assert_eq!(student.stride(2 * now, 32), Some(LARGEST_STRIDE));
    }

    #[test]
    fn a_clock_that_stands_still_changes_nothing() {
        let mut student = student();
        student.samples = 1_000_000;
        assert_eq!(student.stride(Duration::ZERO, 1), None);
    }
}
