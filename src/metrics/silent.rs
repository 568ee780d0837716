//! What a gate reports without the feature `metrics`: nothing.

use std::time::Duration;

use crate::{Reason, gate::Gate, limit::Outcome};

#[derive(Debug)]
pub(crate) struct Recording;

impl Recording {
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn admitted(&self, _: &Gate) -> bool {
        false
    }

    #[inline]
    pub(crate) fn hears(&self, _: &Gate, _: u64) -> bool {
        false
    }

    pub(crate) fn completed(&self, _: &Gate, _: Outcome) {}

    pub(crate) fn rejected(&self, _: &Gate, _: Reason) {}

    pub(crate) fn in_flight(&self, _: &Gate) {}

    pub(crate) fn keys(&self, _: &Gate) {}

    pub(crate) fn waiting(&self, _: &Gate) {}

    pub(crate) fn waited(&self, _: &Gate, _: Duration) {}

    pub(crate) fn latency(&self, _: Duration) {}

    pub(crate) fn limit(&self, _: &Gate) {}

    pub(crate) fn rate(&self, _: &Gate) {}
}
