//! Every layer in every situation.
//!
//! Limits that are told are 1000 where calls are let in, so that they are never reached; adaptive ones start as their
//! crates would have it, which is enough for two threads. Where a peer only waits when it is full, tower's `LoadShed`
//! refuses for it.

use std::{convert::Infallible, time::Duration};

use little_loadshedder::{LoadShedLayer as LittleLayer, LoadShedResponse};
use tower::{
    Layer, Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer,
};
use tower_backpressure::{
    BackpressureLayer,
    limit::{Aimd, Fixed, Gradient2, Vegas},
};
use tower_resilience_adaptive::{AdaptiveLimiterLayer, Aimd as ResilienceAimd};
use tower_resilience_bulkhead::BulkheadLayer;

use super::{
    Path, Shared, Stack,
    drive::{Ask, Constant, ConstantHttp, calls, evictions, hold, http_calls},
};

/// Far above what is ever in flight.
const ROOMY: usize = 1000;
/// A latency that is never reached.
const LONG: Duration = Duration::from_secs(1);

/// In the order of the tables.
pub fn stacks() -> Vec<Stack> {
    [
        fixed(Path::Admitted),
        adaptive(Path::Adaptive),
        refused(Path::Refused),
        http(Path::Http),
    ]
    .concat()
}

fn theirs(path: Path, name: &'static str, make: fn() -> Shared) -> Stack {
    Stack {
        name,
        path,
        ours: false,
        make,
    }
}

fn ours(path: Path, name: &'static str, make: fn() -> Shared) -> Stack {
    Stack {
        name,
        path,
        ours: true,
        make,
    }
}

fn fixed(path: Path) -> Vec<Stack> {
    vec![
        theirs(path, "bare service", || open(Constant)),
        theirs(path, "tower GlobalConcurrencyLimit", || {
            open(GlobalConcurrencyLimitLayer::new(ROOMY).layer(Constant))
        }),
        theirs(path, "tower limit + LoadShed", || open(shed(ROOMY))),
        ours(path, "block", || {
            open(BackpressureLayer::block(ROOMY).plain().layer(Constant))
        }),
        ours(path, "drop_newest", || {
            open(
                BackpressureLayer::drop_newest(ROOMY)
                    .plain()
                    .layer(Constant),
            )
        }),
        ours(path, "drop_oldest", || {
            open(
                BackpressureLayer::drop_oldest(ROOMY, ROOMY)
                    .plain()
                    .layer(Constant),
            )
        }),
        ours(path, "adaptive(Fixed)", || {
            open(
                BackpressureLayer::adaptive(Fixed::new(ROOMY))
                    .plain()
                    .layer(Constant),
            )
        }),
        theirs(path, "tower-resilience bulkhead", || {
            open(bulkhead(
                BulkheadLayer::builder()
                    .max_concurrent_calls(ROOMY)
                    .backpressure(),
            ))
        }),
    ]
}

fn adaptive(path: Path) -> Vec<Stack> {
    vec![
        theirs(path, "tower-acc Aimd", || {
            open(tower_acc::ConcurrencyLimitLayer::new(tower_acc::Aimd::default()).layer(Constant))
        }),
        theirs(path, "tower-acc Gradient2", || {
            let gradient = tower_acc::Gradient2::default();
            open(tower_acc::ConcurrencyLimitLayer::new(gradient).layer(Constant))
        }),
        ours(path, "adaptive(Aimd)", || {
            open(
                BackpressureLayer::adaptive(Aimd::default())
                    .plain()
                    .layer(Constant),
            )
        }),
        ours(path, "adaptive(Gradient2)", || {
            open(
                BackpressureLayer::adaptive(Gradient2::default())
                    .plain()
                    .layer(Constant),
            )
        }),
        ours(path, "adaptive(Vegas)", || {
            open(
                BackpressureLayer::adaptive(Vegas::default())
                    .plain()
                    .layer(Constant),
            )
        }),
        theirs(path, "tower-resilience Aimd", || {
            open(resilience().layer(Constant))
        }),
        theirs(path, "little-loadshedder", || {
            let service = LittleLayer::new(0.01, LONG).layer(Constant);
            Box::new(move || calls(service.clone(), little_admitted))
        }),
    ]
}

fn refused(path: Path) -> Vec<Stack> {
    vec![
        theirs(path, "tower limit + LoadShed", || full(shed(1), 1)),
        ours(path, "block, nobody may wait", || {
            let layer = BackpressureLayer::block(1).max_waiting(0);
            full(layer.plain().layer(Constant), 1)
        }),
        ours(path, "drop_newest", || {
            full(BackpressureLayer::drop_newest(1).plain().layer(Constant), 1)
        }),
        ours(path, "drop_oldest, one evicts another", || {
            let service = BackpressureLayer::drop_oldest(1, 1).plain().layer(Constant);
            let held = hold(&service, 1);
            Box::new(move || {
                let _ = &held;
                evictions(service.clone())
            })
        }),
        ours(path, "adaptive(Aimd)", || {
            let layer = BackpressureLayer::adaptive(Aimd::default());
            let limit = layer.handle().limit();
            full(layer.plain().layer(Constant), limit)
        }),
        ours(path, "adaptive(Fixed)", || {
            full(
                BackpressureLayer::adaptive(Fixed::new(1))
                    .plain()
                    .layer(Constant),
                1,
            )
        }),
        theirs(path, "tower-acc Aimd + LoadShed", || {
            let aimd = tower_acc::Aimd::builder()
                .min_limit(1)
                .initial_limit(1)
                .build();
            let limit = tower_acc::ConcurrencyLimitLayer::new(aimd);
            full(
                ServiceBuilder::new()
                    .layer(LoadShedLayer::new())
                    .layer(limit)
                    .service(Constant),
                1,
            )
        }),
        theirs(path, "tower-resilience Aimd + LoadShed", || {
            let service = ServiceBuilder::new()
                .layer(LoadShedLayer::new())
                .layer(resilience())
                .service(Constant);
            full(service, 10)
        }),
        // Told to reject, it lets a timer of tokio expire, which takes a millisecond.
        theirs(path, "tower-resilience bulkhead + LoadShed", || {
            let layer = BulkheadLayer::builder()
                .max_concurrent_calls(1)
                .backpressure();
            full(
                ServiceBuilder::new()
                    .layer(LoadShedLayer::new())
                    .service(bulkhead(layer)),
                1,
            )
        }),
        theirs(path, "little-loadshedder", || {
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

fn http(path: Path) -> Vec<Stack> {
    vec![
        theirs(path, "bare HTTP service", || {
            Box::new(|| http_calls(ConstantHttp))
        }),
        theirs(path, "tower GlobalConcurrencyLimit", || {
            let service = GlobalConcurrencyLimitLayer::new(ROOMY).layer(ConstantHttp);
            Box::new(move || http_calls(service.clone()))
        }),
        ours(path, "block", || over_http(BackpressureLayer::block(ROOMY))),
        ours(path, "drop_newest", || {
            over_http(BackpressureLayer::drop_newest(ROOMY))
        }),
        ours(path, "drop_oldest", || {
            over_http(BackpressureLayer::drop_oldest(ROOMY, ROOMY))
        }),
        ours(path, "adaptive(Aimd)", || {
            over_http(BackpressureLayer::adaptive(Aimd::default()))
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
    S: Service<Ask> + Clone + Send + 'static,
    S::Future: 'static,
{
    let held = hold(&service, held);
    Box::new(move || {
        let _ = &held;
        calls(service.clone(), Result::is_ok)
    })
}

fn over_http(layer: BackpressureLayer) -> Shared {
    Box::new(move || http_calls(layer.layer(ConstantHttp)))
}

fn shed(
    limit: usize,
) -> impl Service<Ask, Response = u64, Error = tower::BoxError, Future: 'static> + Clone + Send + 'static
{
    ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(limit))
        .service(Constant)
}

/// It starts at 10.
fn resilience() -> AdaptiveLimiterLayer<ResilienceAimd> {
    let aimd = ResilienceAimd::builder()
        .initial_limit(10)
        .latency_threshold(LONG)
        .build();
    AdaptiveLimiterLayer::new(aimd.expect("valid settings"))
}

fn bulkhead(
    settings: tower_resilience_bulkhead::BulkheadConfigBuilder,
) -> tower_resilience_bulkhead::Bulkhead<Constant> {
    settings.build().expect("valid settings").layer(Constant)
}

fn little_admitted(answer: &Result<LoadShedResponse<u64>, Infallible>) -> bool {
    matches!(answer, Ok(LoadShedResponse::Inner(_)))
}
