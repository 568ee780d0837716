//! What a gate reports without the feature `metrics`: nothing.

use std::time::Duration;

use crate::{Reason, gate::Gate, limit::Outcome};

#[derive(Debug)]
pub(crate) struct Recording;

impl Recording {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn wants_time(&self) -> bool {
        false
    }

    pub(crate) fn look_again(&self, _: &Gate) {}

    pub(crate) fn admitted(&self, _: &Gate) {}

    pub(crate) fn completed(&self, _: &Gate, _: Outcome) {}

    pub(crate) fn rejected(&self, _: &Gate, _: Reason) {}

    pub(crate) fn in_flight(&self, _: &Gate) {}

    pub(crate) fn waiting(&self, _: &Gate) {}

    pub(crate) fn waited(&self, _: &Gate, _: Duration) {}

    pub(crate) fn latency(&self, _: &Gate, _: Duration) {}

    pub(crate) fn limit(&self, _: &Gate) {}
}
