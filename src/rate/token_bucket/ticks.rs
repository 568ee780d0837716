//! Time as a token bucket counts it.

use std::time::Duration;

/// The furthest that the clock goes, and the longest that a burst may take to come back, in ticks: together they fit into
/// the 61 bits of `due`.
pub(super) const LONGEST: u64 = (1 << 60) - 1;

/// The fastest rate, in tokens per nanosecond: a speed of 10 fits into the four bits before its point.
const FASTEST: f64 = 10e9;

/// How many ticks a token is, and how fast they pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) token: u64,
    /// As many ticks as a whole burst is.
    pub(super) room: u64,
    pub(super) speed: Speed,
}

/// Ticks per nanosecond, a fixed-point number, rounded up: a moment at which a token is due is hit exactly. 0 if the rate is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed(pub(super) u64);

/// Where the point is in a speed: so many bits stand behind it.
const POINT: u32 = 60;

impl Scale {
    pub(super) fn new(n: u64, period: Duration, burst: u64) -> Self {
        Self::ratio(u128::from(n), period.as_nanos(), burst)
    }

    /// The scale of another rate, and that rate within its bounds. If it is 0, the ticks stay as long as they are and stand
    /// still.
    pub(super) fn at_rate(self, per_second: f64, burst: u64) -> (Self, f64) {
        const SECOND: f64 = 1e9;
        const FINE: u128 = 1 << 32;
        if per_second <= 0.0 {
            return (
                Self {
                    speed: Speed::STILL,
                    ..self
                },
                0.0,
            );
        }
        let rate = per_second.min(FASTEST);
        let scale = if rate < 1.0 {
            // Rates per minute or hour are mostly a whole number of nanoseconds for each token.
            let period = (SECOND / rate).round().min(LONGEST as f64);
            Self::ratio(1, period as u128, burst)
        } else if rate.fract() == 0.0 {
            Self::ratio(rate as u128, SECOND as u128, burst)
        } else {
            Self::ratio((rate * FINE as f64) as u128, SECOND as u128 * FINE, burst)
        };
        (scale, rate)
    }

    /// `n` tokens in `period` nanoseconds. A tick is the longest time of which a token is a whole number and that is not
    /// longer than a nanosecond; longer, if the burst would not fit otherwise.
    fn ratio(n: u128, period: u128, burst: u64) -> Self {
        let most = u128::from(LONGEST / burst.max(1));
        let token = period.div_ceil(n).min(most).max(1);
        let speed = (n * token * u128::from(Speed::ONE.0)).div_ceil(period);
        let token = token as u64;
        Self {
            token,
            room: token * burst,
            speed: Speed(u64::try_from(speed).unwrap_or(u64::MAX)),
        }
    }

    /// The same rate, with ticks so long that the burst fits.
    pub(super) fn with_room_for(self, burst: u64) -> Self {
        let token = self.token.min(LONGEST / burst.max(1));
        let speed = u128::from(self.speed.0) * u128::from(token);
        Self {
            token,
            room: token * burst,
            speed: Speed(speed.div_ceil(u128::from(self.token)) as u64),
        }
    }

    /// `cost` in ticks. A debt may be longer than any time.
    #[inline]
    pub(super) fn ticks(self, cost: u64) -> u64 {
        cost.saturating_mul(self.token)
    }
}

impl Speed {
    const STILL: Self = Self(0);
    /// A tick for each nanosecond.
    const ONE: Self = Self(1 << POINT);

    /// What the clock shows, in ticks.
    #[inline]
    pub(super) fn at(self, nanos: u64) -> u64 {
        if self == Self::ONE {
            return nanos.min(LONGEST);
        }
        let ticks = (u128::from(nanos) * u128::from(self.0)) >> POINT;
        ticks.min(u128::from(LONGEST)) as u64
    }

    /// From `now` to the first nanosecond at which the clock shows `ticks`.
    pub(super) fn until(self, ticks: u64, now: u64) -> Duration {
        if ticks <= self.at(now) {
            return Duration::ZERO;
        }
        if ticks > LONGEST {
            return Duration::MAX;
        }
        match self.nanos(ticks) {
            Some(nanos) => Duration::from_nanos(nanos.saturating_sub(now)),
            None => Duration::MAX,
        }
    }

    /// Whether what the clock shows then tells the nanosecond: ticks may be longer, and the clock may stand still.
    #[inline]
    pub(super) fn tells_nanoseconds_at(self, ticks: u64) -> bool {
        self.0 >= Self::ONE.0 && ticks < LONGEST
    }

    /// The nanosecond at which the clock first shows `ticks`. If it never does, the last one.
    pub(super) fn first_nanosecond(self, ticks: u64) -> u64 {
        self.nanos(ticks).unwrap_or(u64::MAX)
    }

    /// How long `ticks` take.
    pub(super) fn lasting(self, ticks: u64) -> Duration {
        self.nanos(ticks)
            .map_or(Duration::MAX, Duration::from_nanos)
    }

    /// Rounded up; none if they never pass.
    fn nanos(self, ticks: u64) -> Option<u64> {
        match self {
            Self::STILL => None,
            Self::ONE => Some(ticks),
            Self(speed) => {
                let nanos = (u128::from(ticks) << POINT).div_ceil(u128::from(speed));
                Some(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}
