//! What a model on a card can do.

use std::time::Duration;

/// The time of a step is `base_itl × (1 + (crowding − 1) × running / max_num_seqs) + prefill tokens / prefill_per_second`.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub name: &'static str,
    /// Answers that are produced together; further ones wait.
    pub max_num_seqs: usize,
    /// Between two tokens of an answer that runs alone.
    pub base_itl: Duration,
    /// How many times longer a step takes when all places are taken.
    pub crowding: f64,
    /// Prompt tokens read per second.
    pub prefill_per_second: f64,
    /// Prompt tokens read in one step.
    pub prefill_budget: u32,
    /// What comes before the line: parsing, counting tokens.
    pub fixed: Duration,
}

/// 8 billion parameters on an H100. With 512 tokens in and 64 out, kaito-project/kaito#2205 measured 32.2 requests and
/// 2066 tokens per second.
pub const H100_8B: Model = Model {
    name: "8b-h100",
    max_num_seqs: 128,
    base_itl: Duration::from_millis(12),
    crowding: 3.0,
    prefill_per_second: 40_000.0,
    prefill_budget: 8192,
    fixed: Duration::from_millis(30),
};

/// Small and quick, for tests.
pub const TINY: Model = Model {
    name: "tiny",
    max_num_seqs: 8,
    base_itl: Duration::from_millis(2),
    crowding: 3.0,
    prefill_per_second: 100_000.0,
    prefill_budget: 8192,
    fixed: Duration::from_millis(1),
};

impl Model {
    pub fn named(name: &str) -> Option<Self> {
        [H100_8B, TINY].into_iter().find(|model| model.name == name)
    }

    /// How long a step takes that reads so many prompt tokens while so many answers have a place.
    pub fn step(&self, prefill: u32, running: usize) -> Duration {
        let crowd = running as f64 / self.max_num_seqs as f64;
        let decode = self.base_itl.mul_f64(1.0 + (self.crowding - 1.0) * crowd);
        decode + Duration::from_secs_f64(f64::from(prefill) / self.prefill_per_second)
    }
}
