//! Prints how far each limit gets, over the table and over the invented scenarios.
//!
//! `cargo bench --bench adaptive` plays everything on three seeds; `-- quick` one seed of the table only.

use backpressure_peers::{contenders, scores};
use tower_backpressure::sim::{invented, table};

/// Not those on which the constants of the limits were chosen (1 to 3).
const SEEDS: [u64; 3] = [101, 102, 103];

fn main() {
    let quick = std::env::args().any(|arg| arg == "quick");
    let seeds = if quick { &SEEDS[..1] } else { &SEEDS };
    let contenders = contenders();
    let rows = scores::rows(&table::scenarios(), seeds, &contenders);
    scores::print("The table: share of the best fixed limit", &rows);
    if !quick {
        let rows = scores::rows(&invented::scenarios(), seeds, &contenders);
        scores::print("Invented scenarios: share of the best fixed limit", &rows);
    }
    println!(
        "\nwhole: by scenario instead of by phase; p99/m: median over phases, in mean service times;"
    );
    println!(
        "cold, lost, back: seconds to nine tenths after a start at 600, a loss of 3/4 of the workers, their return"
    );
}
