//! What a gate reports without the feature `metrics`: nothing.

use std::time::Duration;

use crate::{Reason, limit::Outcome, slots::Slots};

#[derive(Debug)]
pub(crate) struct Recording;

impl Recording {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn wants_time(&self) -> bool {
        false
    }

    pub(crate) fn look_again(&self, _: &str, _: &Slots) {}

    pub(crate) fn admitted(&self, _: &str, _: &Slots) {}

    pub(crate) fn completed(&self, _: &str, _: &Slots, _: Outcome) {}

    pub(crate) fn rejected(&self, _: &str, _: &Slots, _: Reason) {}

    pub(crate) fn waiting(&self, _: &str, _: &Slots, _: usize) {}

    pub(crate) fn waited(&self, _: &str, _: &Slots, _: Duration) {}

    pub(crate) fn latency(&self, _: &str, _: &Slots, _: Duration) {}

    pub(crate) fn limit(&self, _: &str, _: &Slots) {}
}
