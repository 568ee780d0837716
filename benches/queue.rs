//! `cargo bench --bench queue`: what waiting costs, in time and in memory, a hundred thousand that wait.

mod peers_bench;

fn main() {
    peers_bench::run("queue");
}
