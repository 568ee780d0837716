//! What is asked for, and by whom, drawn from published traces. The same seed asks for the same.

use std::time::Duration;

use rand::{Rng, SeedableRng, distr::Distribution, rngs::SmallRng, seq::IndexedRandom};
use rand_distr::{Gamma, LogNormal, Zipf};

use super::sdk::Sdk;

/// Prompt and answer lengths are lognormal and independent; gaps between arrivals are gamma-distributed with this coefficient
/// of variation.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    pub name: &'static str,
    prompt: (f64, f64),
    output: (f64, f64),
    spread: f64,
}

/// `spread` of mooncake stands for its batches every three seconds. Where a trace gives quantiles alone, μ is the logarithm of the median and σ what puts the ninety-ninth percentile in its place.
pub const TRACES: [Trace; 4] = [
    Trace {
        name: "conversation",
        prompt: (6.63, 0.99),
        output: (5.02, 0.86),
        spread: 1.1,
    },
    Trace {
        name: "code",
        prompt: (7.00, 1.36),
        output: (2.79, 0.85),
        spread: 13.0,
    },
    Trace {
        name: "mooncake",
        prompt: (8.74, 1.20),
        output: (5.34, 1.36),
        spread: 3.0,
    },
    Trace {
        name: "reasoning",
        prompt: (5.58, 1.97),
        output: (6.69, 1.21),
        spread: 5.6,
    },
];

const LONGEST_PROMPT: f64 = 128_000.0;
const LONGEST_ANSWER: f64 = 16_000.0;
/// Of 20 tenants the largest then sends a third of all.
const TENANTS: f64 = 20.0;
const SKEW: f64 = 1.2;

impl Trace {
    pub fn named(name: &str) -> Option<Self> {
        TRACES.into_iter().find(|trace| trace.name == name)
    }

    /// Prompt and answer of one request, in tokens.
    pub fn lengths(&self, rng: &mut SmallRng) -> (u32, u32) {
        let draw = |(mu, sigma), most: f64, rng: &mut SmallRng| {
            let length: f64 = LogNormal::new(mu, sigma).expect("it is one").sample(rng);
            length.clamp(1.0, most) as u32
        };
        (
            draw(self.prompt, LONGEST_PROMPT, rng),
            draw(self.output, LONGEST_ANSWER, rng),
        )
    }
}

/// How those who ask behave. Shares are of the requests, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Leave in the middle of the answer.
    pub abort: f64,
    /// Read a piece a quarter of a second.
    pub slow: f64,
    /// Keep the connection and read nothing.
    pub never_read: f64,
    /// Want the answer in one piece.
    pub whole: f64,
    /// Leave if there is no first token by then.
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// Leaves after so many tokens.
    Aborts(u32),
    Slow,
    NeverReads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// One request, with all retries.
#[derive(Clone, Debug)]
pub struct Ask {
    pub dialect: Dialect,
    pub tenant: u32,
    pub prompt: u32,
    /// How long the answer will be; the client does not know.
    pub output: u32,
    pub max_tokens: Option<u32>,
    pub stream: bool,
    pub fate: Fate,
    pub sdk: Sdk,
    pub retries: u32,
    pub patience: Duration,
}

/// An endless supply of requests.
pub struct Mix {
    trace: Trace,
    manners: Manners,
    rng: SmallRng,
}

impl Mix {
    pub fn new(trace: Trace, manners: Manners, seed: u64) -> Self {
        Self {
            trace,
            manners,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// The time to the next arrival, where one is expected per unit of time.
    pub fn gap(&mut self) -> f64 {
        let shape = self.trace.spread.powi(-2);
        let gap = Gamma::new(shape, shape.recip()).expect("it is one");
        gap.sample(&mut self.rng)
    }

    pub fn next(&mut self) -> Ask {
        let (prompt, output) = self.trace.lengths(&mut self.rng);
        let rng = &mut self.rng;
        let sdk = *Sdk::ALL.choose(rng).expect("there are some");
        let dialect = match sdk {
            Sdk::AnthropicPython => Dialect::Anthropic,
            Sdk::OpenAiPython | Sdk::OpenAiNode => Dialect::OpenAi,
        };
        let manners = self.manners;
        let at = rng.random::<f64>();
        let fate = if at < manners.abort {
            Fate::Aborts(rng.random_range(0..=output / 2))
        } else if at < manners.abort + manners.slow {
            Fate::Slow
        } else if at < manners.abort + manners.slow + manners.never_read {
            Fate::NeverReads
        } else {
            Fate::Stays
        };
        let tenant = Zipf::new(TENANTS, SKEW).expect("it is one").sample(rng) as u32;
        Ask {
            dialect,
            tenant,
            prompt,
            output,
            // Anthropic insists on one; of the others half leave it away.
            max_tokens: (dialect == Dialect::Anthropic || rng.random()).then_some(output.max(4096)),
            stream: fate != Fate::Stays || rng.random::<f64>() >= manners.whole,
            fate,
            sdk,
            retries: 2,
            patience: manners.patience,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANNERS: Manners = Manners {
        abort: 0.1,
        slow: 0.02,
        never_read: 0.01,
        whole: 0.2,
        patience: Duration::from_secs(1),
    };

    fn quantile(mut lengths: Vec<u32>, q: f64) -> f64 {
        lengths.sort_unstable();
        f64::from(lengths[(lengths.len() as f64 * q) as usize])
    }

    #[test]
    fn lengths_are_those_of_the_traces() {
        // Medians of prompts and answers as published. A lognormal fit to a whole trace does not meet them exactly.
        let published = [
            ("conversation", 1020.0, 129.0),
            ("code", 1469.0, 13.0),
            ("mooncake", 6909.0, 350.0),
            ("reasoning", 266.0, 807.0),
        ];
        for (name, prompt, output) in published {
            let trace = Trace::named(name).unwrap();
            let mut rng = SmallRng::seed_from_u64(3);
            let (prompts, outputs): (Vec<_>, Vec<_>) =
                (0..20_000).map(|_| trace.lengths(&mut rng)).unzip();
            let near = |drawn: f64, said: f64| (drawn / said - 1.0).abs() < 0.45;
            assert!(near(quantile(prompts, 0.5), prompt), "{name}");
            assert!(near(quantile(outputs, 0.5), output), "{name}");
        }
    }

    #[test]
    fn one_arrival_per_unit_of_time_is_to_be_expected() {
        let mut mix = Mix::new(TRACES[0], MANNERS, 5);
        let mean = (0..20_000).map(|_| mix.gap()).sum::<f64>() / 20_000.0;
        assert!((0.97..1.03).contains(&mean), "{mean}");
    }

    #[test]
    fn the_largest_tenant_sends_a_third() {
        let mut mix = Mix::new(TRACES[0], MANNERS, 5);
        let largest = (0..10_000).filter(|_| mix.next().tenant == 1).count();
        assert!((2500..4500).contains(&largest), "{largest}");
    }

    #[test]
    fn the_same_seed_asks_for_the_same() {
        let asks = |seed| {
            let mut mix = Mix::new(TRACES[1], MANNERS, seed);
            (0..50)
                .map(|_| format!("{:?} {}", mix.next(), mix.gap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(asks(1), asks(1));
        assert_ne!(asks(1), asks(2));
    }
}
