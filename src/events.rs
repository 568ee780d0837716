//! Events for `tracing`: the rare ones, never one for each request.

/// The limit went from `before` to `after`.
pub(crate) fn limit_moved(gate: &str, before: usize, after: usize) {
    #[cfg(feature = "tracing")]
    crate::contained::contained(
        || tracing::debug!(target: "tower_backpressure", gate, before, after, "limit moved"),
    );
    let _ = (gate, before, after);
}

/// A request found no slot, for the first time in this episode.
pub(crate) fn full(gate: &str, limit: usize, in_flight: usize) {
    #[cfg(feature = "tracing")]
    crate::contained::contained(
        || tracing::warn!(target: "tower_backpressure", gate, limit, in_flight, "full: requests wait or are refused"),
    );
    let _ = (gate, limit, in_flight);
}

/// A request found no room in a rate, for the first time in this episode.
pub(crate) fn over_rate(gate: &str, per_second: f64) {
    #[cfg(feature = "tracing")]
    crate::contained::contained(
        || tracing::warn!(target: "tower_backpressure", gate, per_second, "over the rate: requests wait or are refused"),
    );
    let _ = (gate, per_second);
}

/// The store of a shared rate does not answer.
#[cfg(feature = "redis")]
pub(crate) fn store_lost(rate: &str, error: &str) {
    #[cfg(feature = "tracing")]
    crate::contained::contained(
        || tracing::warn!(target: "tower_backpressure", rate, error, "the store of a shared rate does not answer"),
    );
    let _ = (rate, error);
}

/// The store of a shared rate cannot decide for what is counted under some key, which may be a secret and is not named.
#[cfg(feature = "redis")]
pub(crate) fn key_failed(rate: &str) {
    #[cfg(feature = "tracing")]
    crate::contained::contained(
        || tracing::warn!(target: "tower_backpressure", rate, "a key of a shared rate holds something else"),
    );
    let _ = rate;
}

/// The store of a shared rate answers again.
#[cfg(feature = "redis")]
pub(crate) fn store_found(rate: &str) {
    #[cfg(feature = "tracing")]
    crate::contained::contained(
        || tracing::info!(target: "tower_backpressure", rate, "the store of a shared rate answers again"),
    );
    let _ = rate;
}
