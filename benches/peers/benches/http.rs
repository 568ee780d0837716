//! What an axum server on loopback can do: bare, behind the layer when it admits, and when it refuses.
//!
//! `cargo bench --bench http`; `-- --quick` for a glance, `-- --recorder` with metrics-exporter-prometheus installed.

use std::{
    fmt::{self, Write},
    future::{Future, pending},
    io,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::HeaderMap,
    response::Response,
    routing::get,
};
use backpressure_peers::{
    calls::worker,
    keepalive::{Served, Server},
    report::{Asked, Report},
    rounds::{Spread, order},
};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, limit::GlobalConcurrencyLimitLayer, util::MapResponseLayer};
use tower_backpressure::{BackpressureLayer, limit::Aimd};

/// Far above what is ever in flight.
const ROOMY: usize = 1000;

struct Contender {
    name: &'static str,
    status: u16,
    /// The name of the one that it is compared to.
    reference: &'static str,
    server: Server,
    served: Vec<Served>,
}

const BARE: &str = "bare";
const CONSTANT: &str = "bare, a constant 503";

fn main() -> io::Result<()> {
    let Some(asked) = Asked::of("http")? else {
        return Ok(());
    };
    let (rounds, round) = match asked.quick {
        true => (21, Duration::from_millis(20)),
        false => (201, Duration::from_millis(25)),
    };
    let recorder = asked.recorder.then(worker::install);
    let mut contenders = contenders()?;
    for contender in &mut contenders {
        contender.server.load(round, contender.status)?;
    }
    for turn in 0..rounds {
        eprint!("\rround {} of {rounds}", turn + 1);
        for line in order(turn, contenders.len()) {
            let contender = &mut contenders[line];
            let served = contender.server.load(round, contender.status)?;
            contender.served.push(served);
            if let Some(recorder) = &recorder {
                recorder.run_upkeep();
            }
        }
    }
    eprint!("\r");
    let mut report = Report::new("http", asked);
    let busy = contenders.iter().flat_map(|one| &one.served);
    let busy = Spread::of(busy.map(|served| served.busy)).median;
    table(&contenders, &mut report).map_err(io::Error::other)?;
    writeln!(
        report,
        "\n{rounds} rounds of {round:?} of every line in turn, 16 connections, one thread serves and one asks{}; the server ran \
         for {:.0} % of the time.\nreq/s, p99, CPU (of the server's thread, per request): the median round; ratio: to the line \
         that is named, the median\nof what each round says with the middle half of them.",
        if recorder.is_some() { ", recorder installed" } else { "" },
        100.0 * busy
    )
    .map_err(io::Error::other)?;
    report.finish(Some(&summary(&contenders)))
}

fn contenders() -> io::Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    let mut add = |name, status, reference, server: io::Result<Server>| -> io::Result<()> {
        contenders.push(Contender {
            name,
            status,
            reference,
            server: server?,
            served: Vec::new(),
        });
        Ok(())
    };
    add(BARE, 200, BARE, Server::start(app()))?;
    add("bare once more", 200, BARE, Server::start(app()))?;
    let tower = GlobalConcurrencyLimitLayer::new(ROOMY);
    add(
        "tower GlobalConcurrencyLimit",
        200,
        BARE,
        Server::start(app().layer(tower)),
    )?;
    // What any layer costs that has to see the end of a body.
    let passed = MapResponseLayer::new(|response: Response| {
        response.map(|body| body.map_err(|error| error))
    });
    add(
        "a body passed on",
        200,
        BARE,
        Server::start(app().layer(passed)),
    )?;
    let layer = BackpressureLayer::block(ROOMY);
    add(
        "block, admits",
        200,
        BARE,
        Server::start(app().layer(layer)),
    )?;
    let layer = BackpressureLayer::drop_newest(ROOMY);
    add(
        "drop_newest, admits",
        200,
        BARE,
        Server::start(app().layer(layer)),
    )?;
    let layer = BackpressureLayer::adaptive(Aimd::default());
    add(
        "adaptive(Aimd), admits",
        200,
        BARE,
        Server::start(app().layer(layer)),
    )?;
    let around = |layer: BackpressureLayer| {
        let boxed = MapResponseLayer::new(|response: Response<_>| response.map(Body::new));
        (boxed, layer).layer(app())
    };
    let layer = BackpressureLayer::drop_newest(ROOMY);
    add(
        "drop_newest around it",
        200,
        BARE,
        Server::start(around(layer)),
    )?;
    let layer = BackpressureLayer::adaptive(Aimd::default());
    add(
        "adaptive(Aimd) around it",
        200,
        BARE,
        Server::start(around(layer)),
    )?;

    add(CONSTANT, 503, CONSTANT, Server::start(constant_refusal()))?;
    let layer = BackpressureLayer::drop_newest(1);
    add(
        "drop_newest, refuses",
        503,
        CONSTANT,
        Server::start(full(app().layer(layer), 1)),
    )?;
    let layer = BackpressureLayer::adaptive(Aimd::default());
    let limit = layer.handle().limit();
    let refusing = full(app().layer(layer), limit);
    add(
        "adaptive(Aimd), refuses",
        503,
        CONSTANT,
        Server::start(refusing),
    )?;
    Ok(contenders)
}

fn app() -> Router {
    Router::new()
        .route("/", get(|| async { "hello, world" }))
        .route("/hold", get(pending::<()>))
}

/// With `held` requests that are never answered.
fn full(app: Router, held: usize) -> Router {
    for _ in 0..held {
        let request = Request::get("/hold").body(Body::empty());
        let call = app.clone().oneshot(request.expect("a valid request"));
        let mut call = Box::pin(call);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(cx).is_pending(), "it is never answered");
        Box::leak(Box::new(call));
    }
    app
}

/// A handler that says what a refusal of the layer once said: the same status, headers and body.
fn constant_refusal() -> Router {
    let refusing = full(app().layer(BackpressureLayer::drop_newest(1)), 1);
    let request = Request::new(Body::empty());
    let refused = now(refusing.oneshot(request)).expect("a service that does not fail");
    let (head, body) = refused.into_parts();
    let body = now(body.collect()).expect("a body at hand").to_bytes();
    let answer: (_, HeaderMap, Bytes) = (head.status, head.headers, body);
    Router::new().route("/", get(move || async move { answer }))
}

/// What is there at once.
fn now<F: Future>(future: F) -> F::Output {
    let cx = &mut Context::from_waker(Waker::noop());
    match pin!(future).poll(cx) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it should have been there at once"),
    }
}

impl Contender {
    fn median(&self, of: fn(&Served) -> f64) -> f64 {
        Spread::of(self.served.iter().map(of)).median
    }

    /// Beside its reference, which is one of `contenders`.
    fn ratio(&self, contenders: &[Self], of: fn(&Served) -> f64) -> Spread {
        let each = |one: &Self| -> Vec<f64> { one.served.iter().map(of).collect() };
        let reference = contenders
            .iter()
            .find(|other| other.name == self.reference)
            .expect("it is among them");
        Spread::between(&each(self), &each(reference), |one, other| one / other)
    }
}

fn table(contenders: &[Contender], to: &mut Report) -> fmt::Result {
    writeln!(
        to,
        "{:30}{:>9}{:>24}{:>9}{:>9}{:>24}  compared to",
        "", "req/s", "ratio", "p99 µs", "CPU µs", "ratio"
    )?;
    for contender in contenders {
        let rate = contender.ratio(contenders, |served| served.per_second);
        let cpu = contender.ratio(contenders, |served| served.cpu_micros);
        write!(
            to,
            "{:30}{:9.0}{:>24}{:9.0}{:9.2}{:>24}  {}",
            contender.name,
            contender.median(|served| served.per_second),
            format!("{rate:.3}"),
            contender.median(|served| served.p99_micros),
            contender.median(|served| served.cpu_micros),
            format!("{cpu:.3}"),
            contender.reference
        )?;
        let right = Spread::of(contender.served.iter().map(|served| served.right)).lower;
        if right < 1.0 {
            let astray = 100.0 * (1.0 - right);
            write!(to, "  ! {astray:.1} % were answered otherwise")?;
        }
        writeln!(to)?;
    }
    Ok(())
}

/// The part that goes into the README.
fn summary(contenders: &[Contender]) -> String {
    let mut text = String::from(
        "An axum handler that answers a constant, one core, 16 keep-alive connections on loopback; the ratio is the median of \
         interleaved\nrounds, with the middle half of them. `around it`: around the whole router instead of on it with \
         `Router::layer`; `a body passed on`: a layer\nthat does nothing but wrap the body.\n\n\
         | | requests/s | ratio | p99 |\n|---|---|---|---|\n",
    );
    for contender in contenders {
        let beside = match contender.reference {
            reference if reference == contender.name => "1".to_owned(),
            _ => contender
                .ratio(contenders, |served| served.per_second)
                .to_string(),
        };
        text += &format!(
            "| {} | {:.0} | {beside} | {:.0} µs |\n",
            contender.name,
            contender.median(|served| served.per_second),
            contender.median(|served| served.p99_micros),
        );
    }
    text
}
