//! An LLM proxy that stays calm.
mod clock;
mod engine;
mod load;

fn main() {}
