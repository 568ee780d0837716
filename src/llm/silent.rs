//! What a layer reports without the feature `metrics`: nothing.

use std::time::Duration;

use super::{Usage, patience::Timeout};

#[derive(Debug)]
pub(super) struct Recording;

impl Recording {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn name(&self, _: &str) {}

    pub(super) fn asked(&self, _: Option<u8>) {}

    pub(super) fn first_token(&self, _: Duration) {}

    pub(super) fn used(&self, _: &Usage) {}

    pub(super) fn timed_out(&self, _: Timeout) {}
}
