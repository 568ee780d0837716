//! What a proxy before an LLM can pass on: bare, behind the gate alone, and behind the layer that reads what passes.
//!
//! `cargo bench --bench llm`; `-- --quick` for a glance, `-- --recorder` with metrics-exporter-prometheus installed.

use std::{
    fmt::{self, Write},
    io,
    net::SocketAddr,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::post,
};
use backpressure_peers::{
    calls::worker,
    report::{Asked, Report},
    rounds::Spread,
    tokens::{Proxy, STREAMS, Served, TOKENS},
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower_backpressure::{BackpressureLayer, limit::Aimd, llm::LlmLayer};

/// How many tokens of each stream are on their way at once: one, as an LLM sends them, so that each comes to the proxy and leaves
/// it by itself; and as many as make the proxy read and write several at once, so that what it does with each weighs most.
const PACES: [(&str, usize); 2] = [("one by one", 1), ("in bursts", 16)];

struct Contender {
    name: &'static str,
    proxy: Proxy,
    /// By pace.
    served: [Vec<Served>; PACES.len()],
}

fn main() -> io::Result<()> {
    let Some(asked) = Asked::of("llm")? else {
        return Ok(());
    };
    let (rounds, round) = match asked.quick {
        true => (21, Duration::from_millis(50)),
        false => (101, Duration::from_millis(100)),
    };
    let recorder = asked.recorder.then(worker::install);
    let mut contenders = contenders()?;
    for contender in &mut contenders {
        contender.proxy.load(round, 1)?;
    }
    for turn in 0..rounds {
        eprint!("\rround {} of {rounds}", turn + 1);
        for (pace, (_, ahead)) in PACES.into_iter().enumerate() {
            let mut one = |contender: &mut Contender| -> io::Result<()> {
                let served = contender.proxy.load(round, ahead)?;
                contender.served[pace].push(served);
                if let Some(recorder) = &recorder {
                    recorder.run_upkeep();
                }
                Ok(())
            };
            // There and back, so that nobody always comes after the same neighbour.
            if turn % 2 == 0 {
                contenders.iter_mut().try_for_each(&mut one)?;
            } else {
                contenders.iter_mut().rev().try_for_each(&mut one)?;
            }
        }
    }
    eprint!("\r");
    let mut report = Report::new("llm", asked);
    for (pace, (name, ahead)) in PACES.into_iter().enumerate() {
        table(&contenders, pace, name, ahead, &mut report).map_err(io::Error::other)?;
    }
    writeln!(
        report,
        "\n{rounds} rounds of {round:?} of every line in turn, {STREAMS} streams at once, {TOKENS} tokens to an answer, an event of \
         some 300 bytes for each;\none thread is the proxy, another one its clients and the LLM behind it{}.\ntokens/s, CPU (of the \
         proxy's thread, per token), busy (the share of the time in which that ran): the median round; ratio:\nto the proxy \
         without a layer, the median of what each round says with the middle half of them.",
        if recorder.is_some() { "; recorder installed" } else { "" },
    )
    .map_err(io::Error::other)?;
    report.finish(None)
}

fn contenders() -> io::Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    let mut add = |name, layered: fn(Router) -> Router| -> io::Result<()> {
        contenders.push(Contender {
            name,
            proxy: Proxy::start(|llm| layered(proxy(llm)))?,
            served: Default::default(),
        });
        Ok(())
    };
    add("bare", |app| app)?;
    add("bare once more", |app| app)?;
    add("adaptive(Aimd)", |app| app.layer(gate()))?;
    add("LlmLayer, adaptive(Aimd)", |app| {
        app.layer(LlmLayer::new(gate()))
    })?;
    Ok(contenders)
}

/// Where every stream finds room, whatever is learned: a refusal would be less work.
fn gate() -> BackpressureLayer {
    BackpressureLayer::adaptive(Aimd::default().min(2 * STREAMS).initial(2 * STREAMS))
}

fn proxy(llm: SocketAddr) -> Router {
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let forward = move |mut request: Request| {
        let client = client.clone();
        async move {
            let uri = Uri::builder().scheme("http").authority(llm.to_string());
            let uri = uri.path_and_query(request.uri().path());
            *request.uri_mut() = uri.build().expect("an address and a path");
            match client.request(request).await {
                Ok(response) => response.map(Body::new),
                Err(error) => bad_gateway(&error),
            }
        }
    };
    Router::new().route("/v1/chat/completions", post(forward))
}

fn bad_gateway(error: &dyn std::error::Error) -> Response {
    (StatusCode::BAD_GATEWAY, error.to_string()).into_response()
}

impl Contender {
    fn median(&self, pace: usize, of: fn(&Served) -> f64) -> f64 {
        Spread::of(self.served[pace].iter().map(of)).median
    }

    fn ratio(&self, bare: &Self, pace: usize, of: fn(&Served) -> f64) -> Spread {
        let each = |one: &Self| -> Vec<f64> { one.served[pace].iter().map(of).collect() };
        Spread::between(&each(self), &each(bare), |one, other| one / other)
    }
}

fn table(
    contenders: &[Contender],
    pace: usize,
    name: &str,
    ahead: usize,
    to: &mut Report,
) -> fmt::Result {
    writeln!(
        to,
        "\n{:28}{:>10}{:>24}{:>9}{:>24}{:>7}",
        format!("{name}, {ahead} on the way"),
        "tokens/s",
        "ratio",
        "CPU µs",
        "ratio",
        "busy"
    )?;
    for contender in contenders {
        let bare = &contenders[0];
        let rate = contender.ratio(bare, pace, |served| served.per_second);
        let cpu = contender.ratio(bare, pace, |served| served.cpu_micros);
        writeln!(
            to,
            "{:28}{:10.0}{:>24}{:9.2}{:>24}{:7.2}",
            contender.name,
            contender.median(pace, |served| served.per_second),
            format!("{rate:.3}"),
            contender.median(pace, |served| served.cpu_micros),
            format!("{cpu:.3}"),
            contender.median(pace, |served| served.busy),
        )?;
    }
    Ok(())
}
