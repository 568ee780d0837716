//! Whole calls through layers with a rate, ours and tower_governor's, by itself and with tower's limit around it, each with the
//! clock that it comes with.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use tower::{Layer, Service, limit::GlobalConcurrencyLimitLayer};
use tower_backpressure::{BackpressureLayer, rate::TokenBucket};
use tower_governor::{
    GovernorError, GovernorLayer,
    governor::GovernorConfigBuilder,
    key_extractor::{GlobalKeyExtractor, KeyExtractor},
};

use crate::{calls::drive::spin, decisions::Round};

/// Whose layer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// None.
    Bare,
    /// Ours.
    Backpressure,
    /// The peer, and tower's limit around it: two layers that together know what ours does, how many are in flight as well.
    GovernorAndLimit,
    /// The peer.
    TowerGovernor,
}

/// What it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// One rate, with room for all.
    Admitted,
    /// A rate for each of a thousand keys, with room for all.
    PerKey,
    /// One rate, with room for nobody.
    Refused,
}

/// Above whatever is in flight.
const ROOMY: usize = 1000;
/// How many keys take turns.
const KEYS: usize = 1000;
const HEADER: &str = "x-api-key";

impl Layers {
    /// In the order of the table.
    pub const ALL: [Self; 4] = [
        Self::Bare,
        Self::Backpressure,
        Self::GovernorAndLimit,
        Self::TowerGovernor,
    ];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "no layer",
            Self::Backpressure => "ours",
            Self::GovernorAndLimit => "governor+limit",
            Self::TowerGovernor => "tower_governor",
        }
    }
}

impl Case {
    /// In the order of the table.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::PerKey, Self::Refused];

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Admitted => "a call through the layer, admitted",
            Self::PerKey => "likewise, a rate for each of 1000 keys",
            Self::Refused => "a call through the layer, refused",
        }
    }
}

/// `calls` on each of `threads`, behind a layer that is made for them.
pub fn round(layers: Layers, case: Case, threads: usize, calls: u64) -> Round {
    match (layers, case) {
        (Layers::Bare, Case::Refused) => {
            timed(Constant(StatusCode::TOO_MANY_REQUESTS), threads, calls)
        }
        (Layers::Bare, _) => timed(OK, threads, calls),
        (Layers::Backpressure, Case::Admitted) => timed(plenty().layer(OK), threads, calls),
        (Layers::Backpressure, Case::PerKey) => {
            // The ceiling has no rate, as the other has none over all keys.
            let layer = BackpressureLayer::drop_newest(ROOMY)
                .per_key(|head| head.headers.get(HEADER).cloned(), |_| plenty());
            timed(layer.layer(OK), threads, calls)
        }
        (Layers::Backpressure, Case::Refused) => {
            let layer = BackpressureLayer::rate(TokenBucket::per_minute(1).burst(1));
            timed(layer.layer(OK), threads, calls)
        }
        (Layers::GovernorAndLimit, _) => {
            let limit = GlobalConcurrencyLimitLayer::new(ROOMY);
            match case {
                Case::PerKey => timed(limit.layer(by_key().layer(OK)), threads, calls),
                _ => timed(limit.layer(of_all(case).layer(OK)), threads, calls),
            }
        }
        (Layers::TowerGovernor, Case::PerKey) => timed(by_key().layer(OK), threads, calls),
        (Layers::TowerGovernor, _) => timed(of_all(case).layer(OK), threads, calls),
    }
}

fn bucket() -> TokenBucket {
    TokenBucket::per_second(1_000_000_000).burst(u32::MAX.into())
}

fn plenty() -> BackpressureLayer {
    BackpressureLayer::rate(bucket())
}

type Governor<K> =
    GovernorLayer<K, governor::middleware::NoOpMiddleware<governor::clock::QuantaInstant>, Body>;

/// One rate, with room for all or for nobody.
fn of_all(case: Case) -> Governor<GlobalKeyExtractor> {
    let mut config = GovernorConfigBuilder::default().key_extractor(GlobalKeyExtractor);
    let config = match case {
        Case::Refused => config.per_second(60).burst_size(1),
        _ => config.per_nanosecond(1).burst_size(u32::MAX),
    };
    GovernorLayer::new(config.finish().expect("valid settings"))
}

/// A rate for each key, with room for all.
fn by_key() -> Governor<ByHeader> {
    let mut config = GovernorConfigBuilder::default().key_extractor(ByHeader);
    let config = config.per_nanosecond(1).burst_size(u32::MAX).finish();
    GovernorLayer::new(config.expect("valid settings"))
}

#[derive(Clone, Copy, Debug)]
struct ByHeader;

impl KeyExtractor for ByHeader {
    type Key = Option<HeaderValue>;

    fn extract<T>(&self, request: &Request<T>) -> Result<Self::Key, GovernorError> {
        Ok(request.headers().get(HEADER).cloned())
    }
}

/// The service behind every layer.
#[derive(Clone, Copy, Debug)]
struct Constant(StatusCode);

const OK: Constant = Constant(StatusCode::OK);

impl Service<Request<Empty<&'static [u8]>>> for Constant {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<&'static [u8]>>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0;
        ready(Ok(response))
    }
}

fn timed<S, B>(service: S, threads: usize, calls: u64) -> Round
where
    S: Service<Request<Empty<&'static [u8]>>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
{
    let keys: Vec<HeaderValue> = (0..KEYS)
        .map(|key| HeaderValue::try_from(format!("key-{key}")).expect("a valid header"))
        .collect();
    let start = Barrier::new(threads);
    let run = |service: S| {
        let cx = &mut Context::from_waker(Waker::noop());
        let call = |nth: u64, cx: &mut Context<'_>| {
            let mut service = service.clone();
            let mut pending = 0;
            let Ok(()) = spin(&mut pending, || service.poll_ready(cx));
            let mut request = Request::new(Empty::new());
            let key = keys[nth as usize % KEYS].clone();
            request.headers_mut().insert(HEADER, key);
            let mut answer = pin!(service.call(black_box(request)));
            let Ok(response) = spin(&mut pending, || answer.as_mut().poll(cx));
            response.status().is_success()
        };
        // Each key is there, and the one token is gone where all are to be refused.
        for nth in 0..KEYS as u64 {
            black_box(call(nth, cx));
        }
        start.wait();
        let began = Instant::now();
        let mut admitted = 0;
        for nth in 0..calls {
            admitted += u64::from(call(nth, cx));
        }
        (began.elapsed(), admitted)
    };
    let done: Vec<(Duration, u64)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| service.clone())
            .map(|service| scope.spawn(|| run(service)))
            .collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended.map(|done| done.expect("no call panics")).collect()
    });
    let nanos: f64 = done.iter().map(|(took, _)| took.as_nanos() as f64).sum();
    Round {
        nanos: nanos / (threads as u64 * calls) as f64,
        admitted: done.iter().map(|&(_, admitted)| admitted).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_lets_in_what_the_case_says() {
        for case in Case::ALL {
            for layers in Layers::ALL {
                let round = round(layers, case, 2, 1000);
                let expected = if case == Case::Refused { 0 } else { 2000 };
                assert_eq!(round.admitted, expected, "{layers:?}, {case:?}");
            }
        }
    }
}
