//! What answers really use, learned.
//!
//! A client that sends `max_tokens: 32000` gets 300, as a rule. Who reserves what it allows for lets a hundredth of the traffic
//! through that a budget has room for; who reserves nothing spends the budget several times over before the first answer has
//! ended. So that is reserved which nine in ten answers of this key and model do not exceed.
//!
//! # How it is learned
//!
//! For each pair a histogram whose buckets grow by √2, from one token to a million: 41 weights. A quantile is interpolated
//! within its bucket, and so is never off by more than 41 %, usually by a few (the idea of DDSketch: Masson, Rim, Lee,
//! "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019). With each answer all
//! older weights shrink by 1/200 (exponential decay as in Cormode, Shkapenyuk, Srivastava, Xu, "Forward decay", ICDE 2009,
//! counted in answers since there is no clock here), so that the estimate stands on the last few hundred answers and follows a
//! change within those.
//!
//! P² (Jain, Chlamtac, "The P² algorithm for dynamic calculation of quantiles", CACM 1985) needs but five numbers, and was
//! rejected: it weighs the first answer as much as the last, cannot be merged or seeded, and goes astray on the mixtures that
//! tokens of answers are.
//!
//! What nobody has seen begins with what is known above it: a new key of a known model with the model's distribution, worth three
//! answers; a new model with [`prior`](Learned::prior).

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
};

use crate::{
    ConfigError,
    config::{at_least_one, built},
};

const BUCKETS: usize = 41;
/// What is left of a weight after one more answer.
const DECAY: f32 = 1.0 - 1.0 / 200.0;
/// How many answers a guess is worth.
const GUESS: f32 = 3.0;
/// How many pairs share a place; the one that learned longest ago makes room.
const WAYS: usize = 8;
const PAIRS: usize = 4096;
const QUANTILE: f64 = 0.9;
/// Between the p99 of a conversation (600 and 1100 in published traces) and the median of a model that thinks (800).
const PRIOR: u64 = 1000;

/// How many tokens answers have, learned for each key and model.
///
/// ```
/// use tower_backpressure::llm::Learned;
///
/// let mut learned = Learned::default();
/// assert_eq!(learned.expect("tenant", "gpt-5", Some(32_000)), 1000);
/// for _ in 0..100 {
///     learned.learn("tenant", "gpt-5", 100);
/// }
/// assert!((90..=130).contains(&learned.expect("tenant", "gpt-5", Some(32_000))));
/// assert_eq!(learned.expect("tenant", "gpt-5", Some(50)), 50);
/// ```
pub struct Learned {
    /// By the hash of a pair, or of a model alone. Two that have the same hash, one chance in 2⁶⁴, share what they learn.
    sets: Vec<Vec<Entry>>,
    hasher: RandomState,
    quantile: f64,
    prior: u64,
    learned: u64,
}

struct Entry {
    tag: u64,
    last: u64,
    sketch: Sketch,
}

impl Learned {
    /// Remembers about `pairs` of key and model, models for themselves among them; others are forgotten, those first that have
    /// learned nothing for long. Default: 4096, of 184 bytes each once they are used.
    ///
    /// # Panics
    ///
    /// If `pairs` is 0.
    #[track_caller]
    pub fn new(pairs: usize) -> Self {
        built(Self::try_new(pairs))
    }

    /// As [`new`](Self::new), for a number from a file.
    ///
    /// # Errors
    ///
    /// If `pairs` is 0.
    pub fn try_new(pairs: usize) -> Result<Self, ConfigError> {
        let sets = at_least_one("pairs", pairs)?.div_ceil(WAYS);
        Ok(Self {
            sets: (0..sets).map(|_| Vec::new()).collect(),
            hasher: RandomState::new(),
            quantile: QUANTILE,
            prior: PRIOR,
            learned: 0,
        })
    }

    /// Which share of answers is to stay within what is expected of them. Default: 0.9. Higher reserves more than is used as a rule,
    /// lower owes more often.
    ///
    /// # Panics
    ///
    /// If it is not above 0 and below 1.
    #[track_caller]
    #[must_use]
    pub fn quantile(self, quantile: f64) -> Self {
        built(self.try_quantile(quantile))
    }

    /// As [`quantile`](Self::quantile), for a number from a file.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and below 1.
    pub fn try_quantile(self, quantile: f64) -> Result<Self, ConfigError> {
        if quantile > 0.0 && quantile < 1.0 {
            return Ok(Self { quantile, ..self });
        }
        Err(ConfigError::new(
            "quantile",
            quantile,
            "above 0 and below 1",
        ))
    }

    /// What is expected before anything is known, in tokens. Default: 1000.
    #[must_use]
    pub fn prior(self, prior: u64) -> Self {
        Self { prior, ..self }
    }

    /// How many tokens to reserve for the answer to a request of `key` to `model`: what is learned, and no more than `max_output`
    /// ([`Asked::max_output`](super::Asked::max_output)). Asking makes nothing be remembered.
    pub fn expect<K>(&self, key: &K, model: &str, max_output: Option<u64>) -> u64
    where
        K: Hash + ?Sized,
    {
        let [pair, model] = self.tags(key, model);
        let sketch = self.find(pair).or_else(|| self.find(model));
        let expected = sketch.map_or(self.prior, |sketch| sketch.quantile(self.quantile));
        expected.min(max_output.unwrap_or(u64::MAX))
    }

    /// Learns that an answer had so many tokens. To be told of answers that are complete: one that the client left would have been
    /// longer.
    pub fn learn<K>(&mut self, key: &K, model: &str, output: u64)
    where
        K: Hash + ?Sized,
    {
        let [pair, model] = self.tags(key, model);
        self.learned += 1;
        let guess = match self.find(model) {
            Some(sketch) => sketch.scaled_to(GUESS),
            None => Sketch::point(self.prior, GUESS),
        };
        for tag in [model, pair] {
            self.entry(tag, &guess).sketch.add(output);
        }
    }

    /// Of the pair, and of the model alone.
    fn tags<K: Hash + ?Sized>(&self, key: &K, model: &str) -> [u64; 2] {
        [
            self.hasher.hash_one((0, key, model)),
            self.hasher.hash_one((1, model)),
        ]
    }

    fn set(&self, tag: u64) -> usize {
        (tag % self.sets.len() as u64) as usize
    }

    fn find(&self, tag: u64) -> Option<&Sketch> {
        let set = &self.sets[self.set(tag)];
        let entry = set.iter().find(|entry| entry.tag == tag);
        entry.map(|entry| &entry.sketch)
    }

    fn entry(&mut self, tag: u64, guess: &Sketch) -> &mut Entry {
        let (set, last) = (self.set(tag), self.learned);
        let set = &mut self.sets[set];
        let at = match set.iter().position(|entry| entry.tag == tag) {
            Some(at) => at,
            None => {
                if set.len() == WAYS {
                    let oldest = (0..WAYS).min_by_key(|at| set[*at].last);
                    set.swap_remove(oldest.unwrap_or(0));
                }
                let sketch = guess.clone();
                set.push(Entry { tag, last, sketch });
                set.len() - 1
            }
        };
        set[at].last = last;
        &mut set[at]
    }

    fn len(&self) -> usize {
        self.sets.iter().map(Vec::len).sum()
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self::new(PAIRS)
    }
}

impl fmt::Debug for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learned")
            .field("pairs", &self.len())
            .field("quantile", &self.quantile)
            .field("prior", &self.prior)
            .finish_non_exhaustive()
    }
}

/// A histogram of the last answers. Bucket `i` has those of up to 2^(i/2) tokens.
#[derive(Clone, Debug)]
struct Sketch {
    weights: [f32; BUCKETS],
}

impl Sketch {
    fn point(output: u64, weight: f32) -> Self {
        let mut weights = [0.0; BUCKETS];
        weights[bucket(output)] = weight;
        Self { weights }
    }

    fn add(&mut self, output: u64) {
        for weight in &mut self.weights {
            *weight *= DECAY;
        }
        self.weights[bucket(output)] += 1.0;
    }

    fn scaled_to(&self, total: f32) -> Self {
        let factor = total / self.total();
        Self {
            weights: self.weights.map(|weight| weight * factor),
        }
    }

    fn total(&self) -> f32 {
        self.weights.iter().sum()
    }

    fn quantile(&self, quantile: f64) -> u64 {
        let mut left = quantile * f64::from(self.total());
        for (bucket, weight) in self.weights.iter().enumerate() {
            let weight = f64::from(*weight);
            if weight > 0.0 && left <= weight {
                let (low, high) = (edge(bucket as f64 - 1.0), edge(bucket as f64));
                return (low + (high - low) * left / weight).round() as u64;
            }
            left -= weight;
        }
        // Only what was lost in rounding is left.
        edge(BUCKETS as f64 - 1.0) as u64
    }
}

fn bucket(output: u64) -> usize {
    let bucket = (2.0 * (output.max(1) as f64).log2()).ceil() as usize;
    bucket.min(BUCKETS - 1)
}

fn edge(bucket: f64) -> f64 {
    (bucket / 2.0).exp2()
}

#[cfg(test)]
mod tests;
