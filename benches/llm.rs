//! `cargo bench --bench llm`: tokens through a proxy before an LLM, with the layer and without it.

mod peers_bench;

fn main() {
    peers_bench::run("llm");
}
