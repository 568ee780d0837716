//! An LLM proxy that stays calm.
//!
//! ```text
//! cargo run --release --example llm_proxy
//! cargo run --release --example llm_proxy -- --load 5x
//! cargo run --release --example llm_proxy -- --upstream http://127.0.0.1:8000
//! cargo run --release --example llm_proxy -- --preset tiny --scene all
//! ```
//!
//! It needs no key, no network and no card: behind it is an engine that takes as long as a real one and says nothing of interest.
//! The page at <http://127.0.0.1:8080> shows what goes on; a switch turns the layer off and on. The API is OpenAI's
//! (`/v1/chat/completions`) and Anthropic's (`/v1/messages`), and `/metrics` is for Prometheus.
//!
//! - `engine`: the model that is none
//! - `proxy`: the proxy, of which `guard.rs` is what this crate is about
//! - `load`: traffic, as published traces have it
//! - `page`: what is seen
//! - `scenes`: nine scenes, each with what has to come out

mod args;
mod clock;
mod engine;
mod load;
mod page;
mod proxy;
mod scenes;
#[cfg(test)]
mod tests;

use std::{env, error, process::ExitCode, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use self::{
    args::{Args, HELP},
    engine::{Engine, batch, server::Server},
    load::{
        Tap,
        mix::{Manners, Mix},
    },
    page::{Model, Stage},
    proxy::{Guard, Proxy, Upstream},
};

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// In the traffic of the page.
const ABORT: f64 = 0.1;
const SLOW: f64 = 0.02;
const NEVER_READ: f64 = 0.005;
const WHOLE: f64 = 0.2;
/// Clients leave if there is no token by then.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::read(env::args_os())?;
    if args.help {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(scene) = &args.scene {
        let passed = scenes::play(scene, args.model).await?;
        return Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    serve(args).await?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args) -> Result<()> {
    let prometheus = recorder()?;
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let (upstream, server) = match args.upstream {
        Some(upstream) => (upstream, None),
        None => {
            let server = Server::new(Engine::start(args.model), args.seed);
            let address = server.clone().serve().await?;
            (format!("http://{address}").parse()?, Some(server))
        }
    };
    let proxy = Proxy::new(Upstream::new(upstream.clone())?, Guard::Calm(args.calm));
    let model = server.map(|server| {
        let mut rng = SmallRng::seed_from_u64(args.seed);
        let capacity = batch::capacity(args.model, || args.trace.lengths(&mut rng));
        let tap = Tap::start(address, Mix::new(args.trace, manners(), args.seed));
        tap.set_rate(args.load * capacity);
        Model {
            server,
            capacity,
            tap,
            in_time: PATIENCE,
        }
    });
    let page = page::app(Stage {
        proxy: proxy.clone(),
        upstream: upstream.to_string(),
        model,
        prometheus,
    });
    let app = proxy.app().merge(page);
    tokio::spawn(async move { axum::serve(listener, app).await });
    println!("http://{address}");

    asked_to_stop().await?;
    let open = proxy.live().open();
    let patience = args.drain;
    println!("draining: {open} under way have {patience:?} to end; new requests are refused");
    let cut = proxy.drain(patience).await;
    println!("drained: {cut} of {open} were ended with an error");
    Ok(())
}

fn manners() -> Manners {
    Manners {
        abort: ABORT,
        slow: SLOW,
        never_read: NEVER_READ,
        whole: WHOLE,
        patience: PATIENCE,
    }
}

fn recorder() -> Result<PrometheusHandle> {
    Ok(with_buckets(PrometheusBuilder::new())?.install_recorder()?)
}

fn with_buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder> {
    // From a millisecond to a minute, each twice the one before.
    let buckets: Vec<_> = (0..17).map(|nth| 0.001 * f64::from(1 << nth)).collect();
    Ok(builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &buckets)?)
}

/// Ctrl-C, or what a supervisor sends.
async fn asked_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
