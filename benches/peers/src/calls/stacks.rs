//! Every layer in every situation.
//!
//! Limits that are told are 1000 where calls are let in, so that they are never reached; adaptive ones start as their
//! crates would have it, which is enough for two threads. Where a peer only waits when it is full, tower's `LoadShed`
//! refuses for it.

use std::{convert::Infallible, time::Duration};

use little_loadshedder::{LoadShedLayer as LittleLayer, LoadShedResponse};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Fixed, Gradient2, Vegas},
    rate::{SlidingWindow, TokenBucket},
};
use tower_resilience_adaptive::{AdaptiveLimiterLayer, Aimd as ResilienceAimd};
use tower_resilience_bulkhead::BulkheadLayer;

use super::{
    Path, Shared, Stack,
    drive::{Ask, Constant, calls, evictions, hold},
    http,
    told::Told,
};

/// Far above what is ever in flight.
pub(super) const ROOMY: usize = 1000;
/// A latency that is never reached.
const LONG: Duration = Duration::from_secs(1);

/// In the order of the tables.
pub fn stacks() -> Vec<Stack> {
    let plain = [fixed(), adaptive(), paced(), refused()];
    [plain.concat(), http::admitted(), http::refused()].concat()
}

/// One that reports to a recorder.
pub(super) fn reporting(path: Path, name: &'static str, make: fn() -> Shared) -> Stack {
    Stack {
        name,
        path,
        reports: true,
        make,
    }
}

/// One that does not.
pub(super) fn silent(path: Path, name: &'static str, make: fn() -> Shared) -> Stack {
    Stack {
        name,
        path,
        reports: false,
        make,
    }
}

fn fixed() -> Vec<Stack> {
    let path = Path::Admitted;
    vec![
        silent(path, "bare service", || open(Constant)),
        silent(path, "tower GlobalConcurrencyLimit", || {
            open(GlobalConcurrencyLimitLayer::new(ROOMY).layer(Constant))
        }),
        silent(path, "tower limit + LoadShed", || {
            open(shed(GlobalConcurrencyLimitLayer::new(ROOMY)))
        }),
        reporting(path, "block", || {
            open(ours(BackpressureLayer::block(ROOMY)))
        }),
        reporting(path, "drop_newest", || {
            open(ours(BackpressureLayer::drop_newest(ROOMY)))
        }),
        reporting(path, "drop_oldest", || {
            open(ours(BackpressureLayer::drop_oldest(ROOMY, ROOMY)))
        }),
        reporting(path, "adaptive(Fixed)", || {
            open(ours(BackpressureLayer::adaptive(Fixed::new(ROOMY))))
        }),
        reporting(path, "drop_newest, in the shadow", || {
            open(ours(BackpressureLayer::drop_newest(ROOMY).shadow()))
        }),
        reporting(path, "rate(TokenBucket)", || {
            open(ours(BackpressureLayer::rate(plenty())))
        }),
        reporting(path, "rate(SlidingWindow)", || {
            let window = SlidingWindow::new(PLENTY, Duration::from_secs(1));
            open(ours(BackpressureLayer::rate(window)))
        }),
        reporting(path, "drop_newest and_rate(TokenBucket)", || {
            let layer = BackpressureLayer::drop_newest(ROOMY);
            open(ours(layer.and_rate(plenty())))
        }),
        reporting(path, "drop_newest, per key likewise", || {
            let ceiling = BackpressureLayer::drop_newest(ROOMY).plain();
            let layer = ceiling.per_key(|_: &Ask| 1_u64, |_| BackpressureLayer::drop_newest(ROOMY));
            open(layer.layer(Constant))
        }),
        // What a recorder costs whoever says as much to it.
        reporting(path, "the recorder's own calls", || open(Told::new())),
        silent(path, "tower-resilience bulkhead", || {
            let bulkhead = BulkheadLayer::builder().backpressure();
            let bulkhead = bulkhead.max_concurrent_calls(ROOMY).build();
            open(bulkhead.expect("valid settings").layer(Constant))
        }),
        reporting(path, "the same, with its metrics", || {
            let bulkhead = bulkhead_metered::BulkheadLayer::builder().backpressure();
            let bulkhead = bulkhead.max_concurrent_calls(ROOMY).build();
            open(bulkhead.expect("valid settings").layer(Constant))
        }),
    ]
}

fn adaptive() -> Vec<Stack> {
    let path = Path::Adaptive;
    vec![
        silent(path, "tower-acc Aimd", || {
            open(acc(tower_acc::Aimd::default()).layer(Constant))
        }),
        silent(path, "tower-acc Gradient2", || {
            open(acc(tower_acc::Gradient2::default()).layer(Constant))
        }),
        reporting(path, "adaptive(Aimd)", || {
            open(ours(BackpressureLayer::adaptive(Aimd::default())))
        }),
        reporting(path, "adaptive(Gradient2)", || {
            open(ours(BackpressureLayer::adaptive(Gradient2::default())))
        }),
        reporting(path, "adaptive(Vegas)", || {
            open(ours(BackpressureLayer::adaptive(Vegas::default())))
        }),
        silent(path, "tower-resilience Aimd", || {
            open(resilience().layer(Constant))
        }),
        silent(path, "little-loadshedder", || {
            let service = LittleLayer::new(0.01, LONG).layer(Constant);
            Box::new(move || calls(service.clone(), little_admitted))
        }),
    ]
}

fn paced() -> Vec<Stack> {
    let measured = adaptive().into_iter();
    let paced = measured.map(|stack| Stack {
        path: Path::Paced,
        ..stack
    });
    paced.collect()
}

fn refused() -> Vec<Stack> {
    let path = Path::Refused;
    vec![
        silent(path, "tower limit + LoadShed", || {
            full(shed(GlobalConcurrencyLimitLayer::new(1)), 1)
        }),
        reporting(path, "block, nobody may wait", || {
            full(ours(BackpressureLayer::block(1).max_waiting(0)), 1)
        }),
        reporting(path, "drop_newest", || {
            full(ours(BackpressureLayer::drop_newest(1)), 1)
        }),
        reporting(path, "drop_oldest, one evicts another", || {
            let service = ours(BackpressureLayer::drop_oldest(1, 1));
            let held = hold(&service, 1);
            Box::new(move || {
                let _ = &held;
                evictions(service.clone())
            })
        }),
        reporting(path, "adaptive(Aimd)", || {
            let layer = BackpressureLayer::adaptive(Aimd::default());
            let limit = layer.handle().limit();
            full(ours(layer), limit)
        }),
        reporting(path, "adaptive(Fixed)", || {
            full(ours(BackpressureLayer::adaptive(Fixed::new(1))), 1)
        }),
        reporting(path, "rate(TokenBucket)", || {
            full(ours(BackpressureLayer::rate(TokenBucket::per_hour(1))), 1)
        }),
        silent(path, "tower-acc Aimd + LoadShed", || {
            let aimd = tower_acc::Aimd::builder().min_limit(1).initial_limit(1);
            full(shed(acc(aimd.build())), 1)
        }),
        silent(path, "tower-resilience Aimd + LoadShed", || {
            full(shed(resilience()), RESILIENCE_STARTS_AT)
        }),
        // Told to reject by itself, it waits for a timer of tokio, which takes a millisecond.
        silent(path, "tower-resilience bulkhead + LoadShed", || {
            let bulkhead = BulkheadLayer::builder().backpressure();
            let bulkhead = bulkhead.max_concurrent_calls(1).build();
            full(shed(bulkhead.expect("valid settings")), 1)
        }),
        silent(path, "little-loadshedder", || {
            let service = LittleLayer::new(0.01, LONG).layer(Constant);
            // One runs and one waits, to begin with.
            let held = hold(&service, 2);
            Box::new(move || {
                let _ = &held;
                calls(service.clone(), little_admitted)
            })
        }),
    ]
}

/// Calls are let in.
fn open<S>(service: S) -> Shared
where
    S: Service<Ask> + Clone + Send + 'static,
{
    Box::new(move || calls(service.clone(), Result::is_ok))
}

/// Calls are refused, since `held` others fill the limit.
fn full<S>(service: S, held: usize) -> Shared
where
    S: Service<Ask, Future: 'static> + Clone + Send + 'static,
{
    let held = hold(&service, held);
    Box::new(move || {
        let _ = &held;
        calls(service.clone(), Result::is_ok)
    })
}

/// More than is ever asked for, so that nothing is refused.
const PLENTY: u64 = 1_000_000_000;

fn plenty() -> TokenBucket {
    TokenBucket::per_second(PLENTY).burst(PLENTY)
}

fn ours(layer: BackpressureLayer) -> impl Service<Ask, Future: 'static> + Clone + Send + 'static {
    layer.plain().layer(Constant)
}

fn shed<L>(limit: L) -> impl Service<Ask, Future: 'static> + Clone + Send + 'static
where
    L: Layer<Constant>,
    L::Service: Service<Ask, Error: Into<BoxError>, Future: 'static> + Clone + Send + 'static,
{
    ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(limit)
        .service(Constant)
}

fn acc<A>(algorithm: A) -> tower_acc::ConcurrencyLimitLayer<A> {
    tower_acc::ConcurrencyLimitLayer::new(algorithm)
}

const RESILIENCE_STARTS_AT: usize = 10;

fn resilience() -> AdaptiveLimiterLayer<ResilienceAimd> {
    let aimd = ResilienceAimd::builder()
        .initial_limit(RESILIENCE_STARTS_AT)
        .latency_threshold(LONG)
        .build();
    AdaptiveLimiterLayer::new(aimd.expect("valid settings"))
}

fn little_admitted(answer: &Result<LoadShedResponse<u64>, Infallible>) -> bool {
    matches!(answer, Ok(LoadShedResponse::Inner(_)))
}
