//! Many short rounds of every contender in turn, since the machine's mood changes: whatever slows a round down slows all
//! that are compared in it. What counts is the median over rounds of the ratio within a round.

use std::fmt;

/// In which order so many lines have their turn in a round: there and back, so that nobody always comes after the same neighbour,
/// and beginning with another one each time, so that nobody is always the first or the last.
pub fn order(round: usize, lines: usize) -> impl Iterator<Item = usize> {
    (0..lines).map(move |nth| {
        let line = (round / 2 + nth) % lines;
        if round % 2 == 0 {
            line
        } else {
            lines - 1 - line
        }
    })
}

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

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn everybody_has_a_turn_in_each_round_and_each_place_in_its_turn() {
        let rounds: Vec<Vec<usize>> = (0..6).map(|round| order(round, 3).collect()).collect();
        let there = [[0, 1, 2], [1, 2, 0], [2, 0, 1]];
        let back = [[2, 1, 0], [1, 0, 2], [0, 2, 1]];
        for nth in 0..3 {
            assert_eq!(rounds[2 * nth], there[nth]);
            assert_eq!(rounds[2 * nth + 1], back[nth]);
        }
    }
}
