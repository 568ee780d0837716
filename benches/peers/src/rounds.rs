//! Many short rounds of every contender in turn, since the machine's mood changes: whatever slows a round down slows all
//! that are compared in it. What counts is the median over rounds of the ratio within a round.

use std::fmt;

/// Where the middle half of the rounds lies.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// A quarter of the rounds was below.
    pub lower: f64,
    /// Half of them was.
    pub median: f64,
    /// Three quarters were.
    pub upper: f64,
}

impl Spread {
    /// Of one value for each round.
    ///
    /// # Panics
    ///
    /// If there was no round.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1).expect("there was a round");
        let at = |share: f64| values[(share * last as f64).round() as usize];
        Self {
            lower: at(0.25),
            median: at(0.5),
            upper: at(0.75),
        }
    }

    /// Of what each round makes of `values` beside `reference`.
    pub fn between(values: &[f64], reference: &[f64], of: impl Fn(f64, f64) -> f64) -> Self {
        Self::of(
            values
                .iter()
                .zip(reference)
                .map(|(&value, &other)| of(value, other)),
        )
    }
}

/// `1.23 [1.20 1.27]`, with as many decimals as are asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        let Self {
            lower,
            median,
            upper,
        } = self;
        write!(
            f,
            "{median:.decimals$} [{lower:.decimals$} {upper:.decimals$}]"
        )
    }
}
