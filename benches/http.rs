//! `cargo bench --bench http`: what an axum server can do, bare, behind the layer when it admits, and when it refuses.

mod peers_bench;

fn main() {
    peers_bench::run("http");
}
