//! `cargo bench --bench stream`: what an item costs on its way through a bounded stream, ours and those of others.

mod peers_bench;

fn main() {
    peers_bench::run("stream");
}
