//! What a shared rate reports: how its decisions were made, and whether its store answers.

#[cfg(not(feature = "metrics"))]
use crate::rate::Decision;

/// By what a request was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// It asked for more than can ever be spent at once; nobody had to be asked.
    Burst,
    /// The store, asked for this request.
    Store,
    /// What the machine had taken from the store before.
    Lease,
    /// What was chosen for when the store does not answer.
    Policy,
}

#[cfg(feature = "metrics")]
pub(super) use self::facade::Recording;

#[cfg(not(feature = "metrics"))]
#[derive(Debug, Default)]
pub(super) struct Recording;

#[cfg(not(feature = "metrics"))]
impl Recording {
    pub(super) fn decided(&self, _rate: &str, _by: By, _decision: &Decision) {}

    pub(super) fn unavailable(&self, _rate: &str, _unavailable: bool) {}
}

#[cfg(feature = "metrics")]
mod facade {
    use std::sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

    use super::By;
    use crate::{
        contained::contained,
        metrics::{REQUESTS_PER_LOOK, is_heard},
        rate::Decision,
    };

    const DECISIONS: &str = "backpressure_shared_rate_decisions_total";
    const UNAVAILABLE: &str = "backpressure_shared_rate_unavailable";

    const BY: [(By, &str); 4] = [
        (By::Burst, "burst"),
        (By::Store, "store"),
        (By::Lease, "lease"),
        (By::Policy, "policy"),
    ];

    /// Handles are taken once somebody listens, and kept.
    #[derive(Debug, Default)]
    pub(in super::super) struct Recording {
        handles: OnceLock<Handles>,
        /// Decisions that nobody heard of. Whether a recorder has come meanwhile is looked up once in so many.
        unheard: AtomicU64,
        /// For a recorder that comes later.
        unavailable: AtomicBool,
    }

    impl Recording {
        pub(in super::super) fn decided(&self, rate: &str, by: By, decision: &Decision) {
            contained(|| {
                if let Some(handles) = self.handles(rate) {
                    handles.decided(by, decision);
                }
            });
        }

        pub(in super::super) fn unavailable(&self, rate: &str, unavailable: bool) {
            self.unavailable.store(unavailable, Ordering::Relaxed);
            contained(|| {
                if let Some(handles) = self.handles.get().or_else(|| self.look(rate)) {
                    handles.unavailable(unavailable);
                }
            });
        }

        fn handles(&self, rate: &str) -> Option<&Handles> {
            self.handles.get().or_else(|| {
                let unheard = self.unheard.fetch_add(1, Ordering::Relaxed);
                (unheard % REQUESTS_PER_LOOK == 0)
                    .then(|| self.look(rate))
                    .flatten()
            })
        }

        /// Takes the handles, if there is a recorder by now.
        #[cold]
        fn look(&self, rate: &str) -> Option<&Handles> {
            is_heard(&gauge!(UNAVAILABLE, "rate" => rate.to_owned())).then(|| {
                self.handles.get_or_init(|| {
                    let handles = Handles::new(rate);
                    handles.unavailable(self.unavailable.load(Ordering::Relaxed));
                    handles
                })
            })
        }
    }

    #[derive(Debug)]
    struct Handles {
        admitted: [Counter; BY.len()],
        rejected: [Counter; BY.len()],
        unavailable: Gauge,
    }

    impl Handles {
        fn new(rate: &str) -> Self {
            describe_counter!(
                DECISIONS,
                "Requests decided by a shared rate, by what and how."
            );
            describe_gauge!(
                UNAVAILABLE,
                "1 while the store of a shared rate does not answer, else 0."
            );
            let decisions = |decision: &'static str| {
                BY.map(|(_, by)| {
                    counter!(DECISIONS, "rate" => rate.to_owned(), "by" => by, "decision" => decision)
                })
            };
            Self {
                admitted: decisions("admitted"),
                rejected: decisions("rejected"),
                unavailable: gauge!(UNAVAILABLE, "rate" => rate.to_owned()),
            }
        }

        fn decided(&self, by: By, decision: &Decision) {
            let counters = match decision {
                Decision::Admitted { .. } => &self.admitted,
                Decision::Short { .. } | Decision::Unavailable => &self.rejected,
            };
            counters[by as usize].increment(1);
        }

        fn unavailable(&self, unavailable: bool) {
            self.unavailable.set(f64::from(u8::from(unavailable)));
        }
    }
}
