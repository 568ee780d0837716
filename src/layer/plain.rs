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
