//! `cargo bench --bench overload`: what share of its capacity a server answers in time, behind each layer, over HTTP.

mod peers_bench;

fn main() {
    peers_bench::run("overload");
}
