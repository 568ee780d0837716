//! Overload over real HTTP, all contenders in one run: what share of the capacity is answered in time.

use std::{fmt::Write, io};

use axum::{Router, error_handling::HandleErrorLayer, extract::Request, response::Response};
use backpressure_peers::{
    load::{
        App, COUNTED, Change, DEADLINE, Scene, WARM_UP, WORK, WORKERS, measured_capacity, refused,
        share,
    },
    report::{Asked, Report},
};
use little_loadshedder::{LoadShedLayer as LittleLayer, LoadShedResponse};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer,
    load_shed::LoadShedLayer, util::BoxCloneService,
};
use tower_backpressure::{BackpressureLayer, limit::Aimd};
use tower_resilience_adaptive::{
    AdaptiveLimiterLayer, Aimd as ResilienceAimd, Vegas as ResilienceVegas,
};

type Front = fn(Router) -> App;

fn contenders() -> Vec<(&'static str, Front)> {
    vec![
        ("none", |app| BoxCloneService::new(app)),
        ("drop_newest, told the truth", |app| {
            ours(app, BackpressureLayer::drop_newest(2 * WORKERS))
        }),
        ("adaptive(Aimd)", |app| {
            ours(app, BackpressureLayer::adaptive(Aimd::default()))
        }),
        ("tower limit + LoadShed, told", |app| {
            shed(app, GlobalConcurrencyLimitLayer::new(2 * WORKERS))
        }),
        ("tower-acc Aimd, told 4 means", |app| {
            let aimd = tower_acc::Aimd::builder().timeout(4 * WORK).build();
            shed(app, tower_acc::ConcurrencyLimitLayer::new(aimd))
        }),
        ("tower-acc Gradient2", |app| {
            let gradient = tower_acc::Gradient2::default();
            shed(app, tower_acc::ConcurrencyLimitLayer::new(gradient))
        }),
        ("tower-acc Vegas", |app| {
            let vegas = tower_acc::Vegas::default();
            shed(app, tower_acc::ConcurrencyLimitLayer::new(vegas))
        }),
        ("tower-resilience AIMD, told", |app| {
            let aimd = ResilienceAimd::builder()
                .latency_threshold(4 * WORK)
                .build();
            shed(
                app,
                AdaptiveLimiterLayer::new(aimd.expect("valid settings")),
            )
        }),
        ("tower-resilience Vegas", |app| {
            let vegas = ResilienceVegas::builder().build();
            shed(
                app,
                AdaptiveLimiterLayer::new(vegas.expect("valid settings")),
            )
        }),
        ("little-loadshedder, told", |app| {
            let service = ServiceBuilder::new()
                .map_response(|answer| match answer {
                    LoadShedResponse::Inner(response) => response,
                    LoadShedResponse::Overload => refused(),
                })
                .layer(LittleLayer::new(0.01, 4 * WORK))
                .service(app);
            BoxCloneService::new(service)
        }),
    ]
}

fn ours(app: Router, layer: BackpressureLayer) -> App {
    let service = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(axum::body::Body::new))
        .layer(layer)
        .service(app);
    BoxCloneService::new(service)
}

/// A limit that waits, with tower's `LoadShed` over it; made once, so that all connections share it.
fn shed<L>(app: Router, limit: L) -> App
where
    L: Layer<Router>,
    L::Service: Service<Request, Response = Response> + Clone + Send + 'static,
    <L::Service as Service<Request>>::Error: Into<BoxError>,
    <L::Service as Service<Request>>::Future: Send,
{
    let service = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(|_: BoxError| async { refused() }))
        .layer(LoadShedLayer::new())
        .service(limit.layer(app));
    BoxCloneService::new(service)
}

fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for noticed in [true, false] {
        for (name, load, change) in [
            ("2x", 2.0, Change::Nothing),
            ("10x", 10.0, Change::Nothing),
            ("slower 3x", 0.8, Change::WorkTakes(3)),
            ("2 of 10", 0.8, Change::WorkersLeft(WORKERS / 5)),
        ] {
            scenes.push(Scene {
                name,
                load,
                change,
                noticed,
            });
        }
    }
    scenes
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let Some(asked) = Asked::of("overload")? else {
        return Ok(());
    };
    let mut report = Report::new("overload", asked);
    let summary = play(&mut report).await?;
    report.finish(Some(&summary))
}

/// Writes the table, and gives the part of it that goes into the README.
async fn play(to: &mut Report) -> io::Result<String> {
    let capacity = measured_capacity().await;
    let scenes = scenes();
    let title = format!(
        "{WORKERS} workers of {WORK:?} finish {capacity:.0} requests/s; callers give up after {DEADLINE:?};\n\
         {COUNTED:?} are counted after {WARM_UP:?}, at whose end the backend changes.\n\
         Share of the capacity answered in time; * where nobody tells the server that a caller gave up.\n\n{:30}",
        ""
    );
    write(to, &title)?;
    let mut summary = String::from(
        "Share of an axum server's capacity that is answered in time when two and ten times as much is asked for, and the mean and \
         the\nworst over these, a backend that gets slower and one that loses workers, each with callers whose leaving is \
         noticed and not.\n\n| | 2× | 10× | mean | worst |\n|---|---|---|---|---|\n",
    );
    for scene in &scenes {
        let star = if scene.noticed { "" } else { "*" };
        write(to, &format!("{:>11}", format!("{}{star}", scene.name)))?;
    }
    write(to, &format!("{:>8}{:>8}\n", "mean", "worst"))?;
    for (name, front) in contenders() {
        write(to, &format!("{name:30}"))?;
        let mut shares = Vec::new();
        for scene in &scenes {
            let share = share(scene, capacity, front).await?;
            write(to, &format!("{share:11.2}"))?;
            shares.push(share);
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let worst = shares.iter().copied().fold(f64::INFINITY, f64::min);
        write(to, &format!("{mean:8.2}{worst:8.2}\n"))?;
        let (twice, tenfold) = (shares[0], shares[1]);
        summary += &format!("| {name} | {twice:.2} | {tenfold:.2} | {mean:.2} | {worst:.2} |\n");
    }
    Ok(summary)
}

/// At once, since it takes a while until there is a line.
fn write(to: &mut Report, text: &str) -> io::Result<()> {
    to.write_str(text).map_err(io::Error::other)?;
    io::Write::flush(&mut io::stdout())
}
