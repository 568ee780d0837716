//! What one request asks for.

/// What one request asks for, where that is not the same for all.
///
/// Over HTTP the closure of `.cost(f)` sees the request's head only. What the body alone can tell (the size of a prompt, say) is
/// found out by an outer layer, which puts a `Demand` into the request's extensions; it has the last word.
///
/// ```
/// use tower_backpressure::Demand;
///
/// let mut request = http::Request::new("a long prompt");
/// request.extensions_mut().insert(Demand::of(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    cost: u64,
}

impl Demand {
    /// A request that costs as much as `cost` ordinary ones, or `cost` of whatever the rate counts.
    pub fn of(cost: u64) -> Self {
        Self { cost }
    }

    /// What is taken from the rate. 0 passes any rate that is not in debt, and takes nothing.
    pub fn cost(&self) -> u64 {
        self.cost
    }
}

/// An ordinary request: it costs 1.
impl Default for Demand {
    fn default() -> Self {
        Self::of(1)
    }
}
