//! `cargo bench --bench admission`: what a call costs behind each layer, ours and those of other crates.

mod peers_bench;

fn main() {
    peers_bench::run("admission");
}
