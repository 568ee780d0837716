//! Prints how far each limit gets, over the table and over the invented scenarios, and draws the main stories.
//!
//! `cargo bench --bench adaptive` plays everything on three seeds; `-- quick` one seed of the table only; `-- plots`
//! draws and plays nothing else. The pictures go to `docs/plots`, the series to `target/plots`.

use std::{io, panic, path::Path};

use backpressure_peers::{contenders, plots, scores};
use tower_backpressure::sim::{invented, table};

/// Not those on which the constants of the limits were chosen (1 to 4).
const SEEDS: [u64; 3] = [101, 102, 103];

fn main() -> io::Result<()> {
    let asked = |word: &str| std::env::args().any(|arg| arg == word);
    // `cargo test --all-targets` runs benches as well, without this.
    if !asked("--bench") {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    plots::write(&root.join("target/plots"), &root.join("docs/plots"))?;
    if asked("plots") {
        return Ok(());
    }
    // A peer that panics is caught, as a gate would, and need not be heard of each time.
    panic::set_hook(Box::new(|_| {}));
    let quick = asked("quick");
    let seeds = if quick { &SEEDS[..1] } else { &SEEDS };
    let contenders = contenders();
    let rows = scores::rows(&table::scenarios(), seeds, &contenders);
    scores::print("The table: share of the best fixed limit", &rows);
    if !quick {
        let rows = scores::rows(&invented::scenarios(), seeds, &contenders);
        scores::print("Invented scenarios: share of the best fixed limit", &rows);
    }
    println!(
        "\nwhole: by scenario instead of by phase; p99/m: median over phases, in mean service times;\n\
         cold, lost, back: seconds to nine tenths after a start at 600 workers, after the loss of three quarters of 100, \
         and after their return"
    );
    Ok(())
}
