use std::time::Duration;
use crate::ConfigError;
/// tmp
#[derive(Clone, Debug, Default)]
pub struct AdaptiveRateController {}
impl AdaptiveRateController {
    pub(super) fn validate(&self) -> Result<(), ConfigError> { Ok(()) }
    /// tmp
    pub fn per_second(&self) -> f64 { 1.0 }
    pub(super) fn on_full(&mut self, _: Duration) {}
    pub(super) fn observe(&mut self, _: Duration, _: usize, _: usize) {}
    pub(super) fn spend(&mut self, _: Duration) -> Result<(), Duration> { Ok(()) }
}
