//! Services whose answers the test does not wait for, and ways to ask them.

use std::{convert::Infallible, future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_backpressure::{BackpressureLayer, Error, Rejected, protocol::ResponseBody};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MILLI: Duration = Duration::from_millis(1);

/// Answers at once, with what it was asked.
pub fn echo(
    layer: BackpressureLayer,
) -> impl Service<u32, Response = u32, Error = Error<Infallible>, Future: Send> + Clone + Send {
    layer.plain().layer(service_fn(async |n: u32| Ok(n)))
}

/// Asks once.
pub async fn ask<S>(service: &S) -> Result<u32, Rejected>
where
    S: Service<u32, Response = u32, Error = Error<Infallible>> + Clone,
{
    service
        .clone()
        .oneshot(1)
        .await
        .map_err(|error| match error {
            Error::Rejected(rejected) => rejected,
            Error::Inner(never) => match never {},
        })
}

/// Asks over HTTP, behind `layer`.
pub async fn get(
    layer: &BackpressureLayer,
    request: Request<()>,
) -> Response<ResponseBody<Full<Bytes>>> {
    let ok = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
    });
    layer.layer(ok).oneshot(request).await.unwrap()
}

/// How long `f` took.
pub async fn timed<R>(f: impl Future<Output = R>) -> (R, Duration) {
    let begin = Instant::now();
    let result = f.await;
    (result, begin.elapsed())
}
