//! Prints how far each limit gets, over the table and over the invented scenarios, and draws the main stories.
//!
//! `cargo bench --bench adaptive` plays everything on three seeds; `-- --quick` one seed of the table only; `-- plots`
//! draws and plays nothing else. The pictures go to `docs/plots`, the series to `target/plots`.

use std::{
    fmt::{self, Write},
    io, panic,
    path::Path,
};

use backpressure_peers::{
    contenders, counted, plots,
    report::{Asked, Report},
    scores,
};
use tower_backpressure::sim::{invented, table};

/// Not those on which the constants of the limits were chosen (1 to 4).
const SEEDS: [u64; 3] = [101, 102, 103];

fn main() -> io::Result<()> {
    let Some(asked) = Asked::of("adaptive")? else {
        return Ok(());
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    plots::write(&root.join("target/plots"), &root.join("docs/plots"))?;
    if asked.words.iter().any(|word| word == "plots") {
        return Ok(());
    }
    // A peer that panics is caught, as a gate would, and need not be heard of each time.
    panic::set_hook(Box::new(|_| {}));
    let quick = asked.quick;
    let mut report = Report::new("adaptive", asked);
    play(quick, &mut report).map_err(io::Error::other)?;
    report.finish(None)
}

fn play(quick: bool, to: &mut Report) -> fmt::Result {
    let seeds = if quick { &SEEDS[..1] } else { &SEEDS };
    let contenders = contenders();
    let rows = scores::rows(&table::scenarios(), seeds, &contenders);
    scores::write(to, "The table: share of the best fixed limit", &rows)?;
    if !quick {
        let rows = scores::rows(&invented::scenarios(), seeds, &contenders);
        let title = "Invented scenarios: share of the best fixed limit";
        scores::write(to, title, &rows)?;
    }
    upstream(seeds, to)?;
    writeln!(
        to,
        "\nwhole: by scenario instead of by phase; p99/m: median over phases, in mean service times;\n\
         cold, lost, back: seconds to nine tenths after a start at 600 workers, after the loss of three quarters of 100, \
         and after their return"
    )
}

/// In front of an upstream that counts.
fn upstream(seeds: &[u64], to: &mut Report) -> fmt::Result {
    writeln!(
        to,
        "\nAn upstream that serves {} a second, {} callers a second, answers in {:?}: from {} s to 60 s",
        counted::SERVED,
        counted::CALLERS,
        counted::LATENCY,
        counted::SETTLED,
    )?;
    writeln!(
        to,
        "{:<30} {:>8} {:>10} {:>8}",
        "", "served", "worst 10 s", "429s"
    )?;
    for (name, make) in counted::contenders() {
        let held: Vec<_> = seeds
            .iter()
            .map(|seed| counted::play(make(), *seed))
            .collect();
        let mean =
            |of: fn(&counted::Held) -> f64| held.iter().map(of).sum::<f64>() / held.len() as f64;
        let worst = held
            .iter()
            .map(|held| held.worst)
            .fold(f64::INFINITY, f64::min);
        let (served, refused) = (mean(|held| held.served), mean(|held| held.refused));
        writeln!(to, "{name:<30} {served:>8.3} {worst:>10.3} {refused:>8.3}")?;
    }
    writeln!(to, "as shares of what the upstream serves")
}
