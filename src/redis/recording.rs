//! What a shared rate reports: how its decisions were made, and whether its store answers.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;

#[cfg(feature = "metrics")]
use crate::contained::contained;
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

/// Handles are taken at the first decision, and kept.
#[derive(Debug, Default)]
pub(super) struct Recording {
    #[cfg(feature = "metrics")]
    handles: OnceLock<facade::Handles>,
}

impl Recording {
    pub(super) fn decided(&self, rate: &str, by: By, decision: &Decision) {
        #[cfg(feature = "metrics")]
        contained(|| self.handles(rate).decided(by, decision));
        let _ = (rate, by, decision);
    }

    pub(super) fn unavailable(&self, rate: &str, unavailable: bool) {
        #[cfg(feature = "metrics")]
        contained(|| self.handles(rate).unavailable(unavailable));
        let _ = (rate, unavailable);
    }

    #[cfg(feature = "metrics")]
    fn handles(&self, rate: &str) -> &facade::Handles {
        self.handles.get_or_init(|| facade::Handles::new(rate))
    }
}

#[cfg(feature = "metrics")]
mod facade {
    use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

    use super::By;
    use crate::rate::Decision;

    const DECISIONS: &str = "backpressure_shared_rate_decisions_total";
    const UNAVAILABLE: &str = "backpressure_shared_rate_unavailable";

    const BY: [(By, &str); 4] = [
        (By::Burst, "burst"),
        (By::Store, "store"),
        (By::Lease, "lease"),
        (By::Policy, "policy"),
    ];

    #[derive(Debug)]
    pub(super) struct Handles {
        admitted: [Counter; BY.len()],
        rejected: [Counter; BY.len()],
        unavailable: Gauge,
    }

    impl Handles {
        pub(super) fn new(rate: &str) -> Self {
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
            let unavailable = gauge!(UNAVAILABLE, "rate" => rate.to_owned());
            unavailable.set(0.0);
            Self {
                admitted: decisions("admitted"),
                rejected: decisions("rejected"),
                unavailable,
            }
        }

        pub(super) fn decided(&self, by: By, decision: &Decision) {
            let counters = match decision {
                Decision::Admitted { .. } => &self.admitted,
                Decision::Short { .. } | Decision::Unavailable => &self.rejected,
            };
            counters[by as usize].increment(1);
        }

        pub(super) fn unavailable(&self, unavailable: bool) {
            self.unavailable.set(f64::from(u8::from(unavailable)));
        }
    }
}
