use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

#[cfg(feature = "http")]
use super::Report;
use super::{Gate, slot::Spent};
use crate::{
    Demand,
    contained::contained,
    rate::Receipt,
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock},
};

/// What a request was charged, to be corrected once it is known what it really cost.
///
/// A request whose cost differs from others' (by `.cost(f)` or a [`Demand`]) is charged when it is let in. What is known only
/// later, such as the tokens that a model produced, is said here: the layer puts a `Charge` into the extensions of such a
/// request. When the response has ended, was dropped or failed, the rates are settled with what was said last: what is missing
/// is owed, and is worked off before anybody else is let in; what was too much is given back. A correction that comes even
/// later counts at once, but not where a rate is shared by many machines. Left alone, the charge stays what it was, also if the
/// caller leaves: the work was begun. A request that is exempt has none. Of several layers that charge, one inside the other,
/// it is the innermost's, and what the others were told to reserve stays so. One that only the shadow lets in has one that
/// settles nothing.
///
/// ```
/// use axum::Extension;
/// use tower_backpressure::Charge;
///
/// async fn complete(Extension(charge): Extension<Charge>, prompt: String) -> String {
///     let (answer, tokens) = (prompt.to_uppercase(), 42);
///     charge.set(tokens);
///     answer
/// }
/// # let _ = complete;
/// ```
#[derive(Clone)]
pub struct Charge {
    shared: Arc<Shared>,
}

struct Shared {
    gate: Arc<Gate>,
    reserved: u64,
    /// When it was taken from the rates. `None` if it was not, which the shadow lets pass.
    spent: Option<Duration>,
    actual: AtomicU64,
    /// What the rates have been told.
    settled: AtomicU64,
    ended: AtomicBool,
    /// Of a rate that is counted elsewhere, and can be corrected once.
    receipt: Mutex<Option<Receipt>>,
    /// What the gate above charged.
    above: OnceLock<Charge>,
    /// Of a service that may have something to say before there is a response.
    #[cfg(feature = "http")]
    report: OnceLock<Report>,
}

impl Charge {
    /// For what was spent at `gate`, if that differs from what others spend.
    #[inline]
    pub(super) fn of(spent: Spent, gate: &Arc<Gate>) -> Option<Self> {
        Some(Self::new(gate, spent.demand?.cost(), spent))
    }

    #[inline(never)]
    fn new(gate: &Arc<Gate>, cost: u64, spent: Spent) -> Self {
        Self {
            shared: Arc::new(Shared {
                gate: Arc::clone(gate),
                reserved: cost,
                spent: spent.taken.then_some(spent.at),
                actual: AtomicU64::new(cost),
                settled: AtomicU64::new(cost),
                ended: AtomicBool::new(false),
                receipt: Mutex::new(None),
                above: OnceLock::new(),
                #[cfg(feature = "http")]
                report: OnceLock::new(),
            }),
        }
    }

    /// Whatever is said of this is said of `above` as well, which ends with it.
    pub(super) fn also(&self, above: Option<Charge>) {
        if let Some(above) = above {
            let _ = self.shared.above.set(above);
        }
    }

    /// What was charged when the request was let in.
    pub fn reserved(&self) -> u64 {
        self.shared.reserved
    }

    /// What the request costs, as far as is known.
    pub fn get(&self) -> u64 {
        self.shared.actual.load(Ordering::Acquire)
    }

    /// Says what the request really cost, all in all. What is said last counts.
    pub fn set(&self, cost: u64) {
        let shared = &*self.shared;
        if let Some(above) = shared.above.get() {
            above.set(cost);
        }
        shared.actual.store(cost, Ordering::Release);
        // Not a mere load: either this is seen by whoever ends it, or the end is seen here.
        if shared.ended.fetch_or(false, Ordering::AcqRel) {
            shared.settle();
        }
    }

    /// Whether both are of the same call at the same gate.
    #[cfg(feature = "llm")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// What is to be heard if the request is dropped before it is answered.
    #[cfg(feature = "llm")]
    pub(crate) fn attach(&self, report: &Report) {
        let _ = self.shared.report.set(report.clone());
    }

    #[cfg(feature = "http")]
    pub(super) fn report(&self) -> Option<&Report> {
        self.shared.report.get()
    }

    /// What is to be settled elsewhere as well.
    pub(super) fn keep(&self, receipt: Receipt) {
        *lock(&self.shared.receipt) = Some(receipt);
    }

    /// The response has ended.
    pub(super) fn end(&self) {
        let shared = &*self.shared;
        shared.ended.swap(true, Ordering::AcqRel);
        shared.settle();
        let receipt = lock(&shared.receipt).take();
        if let Some(receipt) = receipt.filter(|_| self.get() != shared.reserved) {
            contained(|| receipt.settle(Demand::of(self.get())));
        }
        if let Some(above) = shared.above.get() {
            above.end();
        }
    }
}

impl Shared {
    /// Tells the rates what they have not been told. Of two that do so at once each tells its own part, and the one that was
    /// overtaken between reading and telling finds that out and tells the rest.
    fn settle(&self) {
        let Some(spent) = self.spent else {
            return;
        };
        loop {
            let actual = self.actual.load(Ordering::Acquire);
            let before = self.settled.swap(actual, Ordering::AcqRel);
            if before == actual {
                return;
            }
            let (before, actual) = (Demand::of(before), Demand::of(actual));
            self.gate.settle(spent, before, actual);
        }
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("reserved", &self.reserved())
            .field("cost", &self.get())
            .finish_non_exhaustive()
    }
}
