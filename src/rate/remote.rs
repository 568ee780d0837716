//! A rate that many machines share.
//!
//! Ten replicas with a rate each let through ten times the rate. What they spend together must be counted in one place, and to
//! ask there takes time and can fail. So a shared rate is not a [`Rate`](super::Rate), which never waits: it has an asynchronous
//! trait of its own, and it must say what is to happen while nobody answers ([`OnUnavailable`]).

use std::{fmt, future::Future, pin::Pin};

use super::{Quota, Short};
use crate::{ConfigError, Demand};

/// A rate that is counted elsewhere.
///
/// With the feature `redis`, [`redis::SharedRate`](crate::redis::SharedRate) is one.
pub trait RemoteRate: fmt::Debug + Send + Sync + 'static {
    /// Spends what `demand` costs, under every limit there is or under none.
    ///
    /// Nothing happens before the future is polled. It is ready after a bounded time whatever becomes of the store.
    ///
    /// # Cancel safety
    ///
    /// Whoever drops the future before it is ready has spent nothing for good: what was spent meanwhile is given back.
    fn spend(&self, demand: &Demand) -> Deciding;

    /// As much of `demand` as can ever be spent at once: where a part of it is no more than a guess, no more is asked for. Unless this
    /// is implemented: all of it.
    fn at_most(&self, demand: &Demand) -> Demand {
        *demand
    }
}

/// What [`RemoteRate::spend`] returns.
pub type Deciding = Pin<Box<dyn Future<Output = Decision> + Send + Sync>>;

/// What a shared rate has decided about one request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Decision {
    /// It may go.
    Admitted {
        /// By which the cost can be corrected.
        receipt: Receipt,
        /// How the limit stands that has least left. `None` where the store was not asked.
        quota: Option<Quota>,
    },
    /// It asks for more than there is, and nothing was spent.
    Short {
        /// How much too early it is.
        short: Short,
        /// How the limit stands that it has to wait for. `None` where the store was not asked.
        quota: Option<Quota>,
    },
    /// The store did not answer in time, and nobody may go while it does not ([`OnUnavailable::Reject`]).
    Unavailable,
}

/// What was spent for one request, so that it can be corrected later. Whoever drops it leaves it at that.
///
/// A correction never waits. It is sent in the background, and reaches the store a little later.
#[must_use = "dropping it leaves the cost as it is; give it back with `refund` where the call never started"]
pub struct Receipt(Option<Box<dyn FnOnce(Option<Demand>) + Send + Sync>>);

impl Receipt {
    /// A receipt whose correction is `correct`, called at most once: with what the request cost in the end, or with `None` where it
    /// never ran.
    pub fn new(correct: impl FnOnce(Option<Demand>) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(correct)))
    }

    /// For nothing spent: there is nothing to correct.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// What the request cost in the end is what `demand` says. What is missing is owed, what is too much is given back.
    pub fn settle(self, demand: Demand) {
        if let Some(correct) = self.0 {
            correct(Some(demand));
        }
    }

    /// The request never ran: all of it is given back, but for what the passing of time has given back already.
    pub fn refund(self) {
        if let Some(correct) = self.0 {
            correct(None);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

/// What happens to requests while the store of a shared rate does not answer. There is no default: each of them hurts somebody,
/// and only you know whom.
///
/// What is let in meanwhile is not charged to the shared budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnUnavailable {
    /// Everything is let in. Right where the rate is a courtesy, wrong where it protects something.
    Admit,
    /// Nothing is let in. Right where one request too many is worse than an outage.
    Reject,
    /// Each machine keeps to this share of the rate and of the burst by itself, more than 0 and at most 1. With as many machines
    /// as 1 divided by the share, the rate is kept to altogether, but for one burst more: the machines' shares of it begin full.
    Local(f64),
}

impl OnUnavailable {
    /// Refuses a share that cannot work.
    ///
    /// # Errors
    ///
    /// The share is not above 0, or above 1.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Local(share) if !(share > 0.0 && share <= 1.0) => Err(ConfigError::new(
                "local share of the rate",
                share,
                "above 0 and at most 1",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn receipt() -> (Receipt, Arc<Mutex<Vec<Option<Demand>>>>) {
        let corrections = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&corrections);
        let receipt = Receipt::new(move |actual| to.lock().unwrap().push(actual));
        (receipt, corrections)
    }

    #[test]
    fn a_receipt_tells_what_it_was_settled_at() {
        let (receipt, corrections) = receipt();
        receipt.settle(Demand::of(7));
        assert_eq!(*corrections.lock().unwrap(), [Some(Demand::of(7))]);
    }

    #[test]
    fn a_refund_is_told_from_a_cost_of_nothing() {
        let (receipt, corrections) = receipt();
        receipt.refund();
        assert_eq!(*corrections.lock().unwrap(), [None]);
    }

    #[test]
    fn a_dropped_receipt_corrects_nothing() {
        let (receipt, corrections) = receipt();
        drop(receipt);
        assert!(corrections.lock().unwrap().is_empty());
    }

    #[test]
    fn a_share_that_cannot_work_is_refused() {
        for share in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
            let error = OnUnavailable::Local(share).validate().unwrap_err();
            assert_eq!(error.field(), "local share of the rate");
            assert_eq!(error.value(), share.to_string());
        }
        for right in [
            OnUnavailable::Admit,
            OnUnavailable::Reject,
            OnUnavailable::Local(0.01),
            OnUnavailable::Local(1.0),
        ] {
            right.validate().unwrap();
        }
    }
}
