//! The setters of the layer for any `Service + Clone`.

use super::BackpressureLayer;
use crate::{
    limit::Outcome,
    protocol::{self, Plain},
};

impl<P> BackpressureLayer<Plain<P>> {
    /// Lets requests for which `exempt` holds pass by the gate: they need no slot and are not counted. Of several closures
    /// it is enough that one holds.
    #[must_use]
    pub fn exempt<F, Req>(self, exempt: F) -> BackpressureLayer<Plain<protocol::Exempt<P, F>>>
    where
        F: Fn(&Req) -> bool,
    {
        self.with_protocol(|plain| plain.exempt(exempt))
    }

    /// What a request takes from a rate. Default: 1. The last closure set counts.
    ///
    /// It is an estimate; [`settle`](Self::settle) says what it turned out to be.
    #[must_use]
    pub fn cost<F, Req>(self, cost: F) -> BackpressureLayer<Plain<protocol::Cost<P, F>>>
    where
        F: Fn(&Req) -> u64,
    {
        self.with_protocol(|plain| plain.cost(cost))
    }

    /// What a request really cost, as its answer tells; `None` where it does not, and what was charged stays. Only for requests
    /// that have a [`cost`](Self::cost). What is missing is owed, what was too much is given back.
    ///
    /// ```
    /// use tower_backpressure::{BackpressureLayer, rate::TokenBucket};
    ///
    /// let layer = BackpressureLayer::rate(TokenBucket::per_minute(60_000).burst(10_000))
    ///     .plain()
    ///     .cost(|prompt: &String| prompt.len() as u64 / 4 + 1000)
    ///     .settle(|answer: &Result<(String, u64), std::io::Error>| answer.as_ref().ok().map(|(_, tokens)| *tokens));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn settle<F, Res, E>(self, settle: F) -> BackpressureLayer<Plain<protocol::Settle<P, F>>>
    where
        F: Fn(&Result<Res, E>) -> Option<u64>,
    {
        self.with_protocol(|plain| plain.settle(settle))
    }

    /// Says how a request went. Default: `Err` is overload, `Ok` is success. The last closure set counts.
    #[must_use]
    pub fn classify<F, Res, E>(
        self,
        classify: F,
    ) -> BackpressureLayer<Plain<protocol::Classify<P, F>>>
    where
        F: Fn(&Result<Res, E>) -> Outcome,
    {
        self.with_protocol(|plain| plain.classify(classify))
    }
}

#[cfg(not(feature = "http"))]
impl BackpressureLayer {
    /// The layer for any `Service + Clone`, with the error [`Error`](crate::Error).
    #[must_use]
    pub fn plain(self) -> BackpressureLayer<Plain> {
        self.with_protocol(|_| Plain::default())
    }
}
