//! `cargo bench --bench adaptive`: how far each limit gets in simulated overload, ours and those of other crates.

mod peers_bench;

fn main() {
    peers_bench::run("adaptive");
}
