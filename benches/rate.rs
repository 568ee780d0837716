//! `cargo bench --bench rate`: what a decision of a rate costs, of ours and of governor.

mod peers_bench;

fn main() {
    peers_bench::run("rate");
}
