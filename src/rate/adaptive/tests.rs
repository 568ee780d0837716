use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn answer(at: Duration, outcome: Outcome) -> Sample {
    Sample::new(at, MILLI, 1, outcome)
}

fn refuse(rate: &AdaptiveRate, at: Duration) {
    rate.observe(&answer(at, Outcome::Overload));
}

/// All that the rate allows is spent in this second and served at once. Gives the rate at the end of it.
fn busy(rate: &AdaptiveRate, second: u32) -> f64 {
    for milli in 0..1000 {
        let now = second * SECOND + milli * MILLI;
        while rate.spend(now, 1).is_ok() {
            rate.observe(&answer(now, Outcome::Success));
        }
    }
    rate.pass((second + 1) * SECOND);
    rate.per_second()
}

fn at(initial: f64) -> AdaptiveRate {
    let rate = AdaptiveRate::default().initial(initial);
    rate.set_per_second(Duration::ZERO, initial);
    rate
}

#[test]
fn the_rate_grows_by_a_step_near_the_base_and_ever_faster_beyond() {
    let rate = at(20.0);
    let rates: Vec<_> = (0..6).map(|second| busy(&rate, second)).collect();
    assert_eq!(rates, [21.0, 22.0, 24.0, 28.0, 36.0, 52.0]);
}

#[test]
fn a_rate_of_which_nothing_is_known_doubles_its_step_from_the_start() {
    let rate = AdaptiveRate::default();
    let rates: Vec<_> = (0..5).map(|second| busy(&rate, second)).collect();
    assert_eq!(rates, [11.0, 13.0, 17.0, 25.0, 41.0]);
}

#[test]
fn without_demand_the_rate_stays() {
    let rate = at(20.0);
    for milli in (0..10_000).step_by(100) {
        let now = milli * MILLI;
        assert!(rate.spend(now, 1).is_ok());
        rate.observe(&answer(now, Outcome::Success));
    }
    assert_eq!(rate.per_second(), 20.0);
}

#[test]
fn a_short_burst_is_no_demand() {
    let rate = at(20.0);
    for second in 0..10 {
        while rate.spend(second * SECOND, 1).is_ok() {}
    }
    assert_eq!(rate.per_second(), 20.0);
}

#[test]
fn a_refusal_when_nothing_is_served_takes_the_rate_times_the_factor() {
    let rate = at(100.0);
    refuse(&rate, 5 * SECOND);
    assert_eq!(rate.per_second(), 50.0);
    let rate = AdaptiveRate::default().initial(100.0).factor(0.8);
    refuse(&rate, 5 * SECOND);
    assert_eq!(rate.per_second(), 80.0);
}

#[test]
fn there_is_one_cut_in_an_interval() {
    let rate = at(100.0);
    for milli in 0..1000 {
        refuse(&rate, 5 * SECOND + milli * MILLI);
        assert_eq!(rate.per_second(), 50.0);
    }
    refuse(&rate, 6 * SECOND + MILLI);
    assert_eq!(rate.per_second(), 25.0);
}

#[test]
fn a_refusal_of_what_was_asked_for_before_the_cut_does_not_cut_again() {
    let rate = at(100.0);
    refuse(&rate, 5 * SECOND);
    rate.observe(&Sample::new(
        8 * SECOND,
        3 * SECOND + MILLI,
        1,
        Outcome::Overload,
    ));
    assert_eq!(rate.per_second(), 50.0);
    rate.observe(&Sample::new(8 * SECOND, 3 * SECOND, 1, Outcome::Overload));
    assert_eq!(rate.per_second(), 25.0);
}

#[test]
fn a_cut_goes_to_just_below_what_is_served() {
    let rate = at(100.0);
    // 104 are served: 5 at once, then one every 10 ms.
    assert_eq!(busy(&rate, 0), 101.0);
    // Nothing in the next 200 ms: of the last second there remain 800 ms of the one before.
    refuse(&rate, SECOND + 200 * MILLI);
    let served = 0.8 * 104.0;
    let served = served * served / (served + 1.0);
    assert!((rate.per_second() - 0.97 * served).abs() < 1e-9);
}

#[test]
fn growth_waits_for_the_time_that_the_upstream_told() {
    let rate = at(100.0);
    let mut refusal = answer(MILLI, Outcome::Overload);
    refusal.retry_after = Some(5 * SECOND);
    rate.observe(&refusal);
    let rates: Vec<_> = (0..7).map(|second| busy(&rate, second)).collect();
    assert_eq!(rates, [50.0, 50.0, 50.0, 50.0, 50.0, 51.0, 52.0]);
}

#[test]
fn a_time_beyond_a_minute_is_taken_for_a_minute() {
    let rate = at(100.0);
    let mut refusal = answer(MILLI, Outcome::Overload);
    refusal.retry_after = Some(Duration::MAX);
    rate.observe(&refusal);
    let rates: Vec<_> = (0..61).map(|second| busy(&rate, second)).collect();
    assert_eq!(rates[58..], [50.0, 50.0, 51.0]);
}

#[test]
fn other_failures_and_callers_that_leave_change_nothing() {
    let rate = at(100.0);
    rate.observe(&answer(SECOND, Outcome::Ignore));
    rate.observe(&answer(2 * SECOND, Outcome::Cancelled));
    assert_eq!(rate.per_second(), 100.0);
}

#[test]
fn the_rate_stays_between_its_bounds() {
    let rate = AdaptiveRate::default().min(8.0).max(12.0);
    assert_eq!(busy(&rate, 0), 11.0);
    assert_eq!(busy(&rate, 1), 12.0);
    for second in 2..10 {
        refuse(&rate, second * SECOND);
    }
    assert_eq!(rate.per_second(), 8.0);
    rate.set_per_second(11 * SECOND, 1000.0);
    assert_eq!(rate.per_second(), 12.0);
    rate.set_per_second(11 * SECOND, 0.0);
    assert_eq!(rate.per_second(), 8.0);
    rate.set_per_second(11 * SECOND, f64::NAN);
    assert_eq!(rate.per_second(), 8.0);
    assert_eq!(AdaptiveRate::default().min(20.0).per_second(), 20.0);
    assert_eq!(AdaptiveRate::default().max(2.0).per_second(), 2.0);
}

#[test]
fn what_is_given_back_was_not_served() {
    let rate = at(100.0);
    for n in 0..5 {
        rate.spend(n * MILLI, 1).unwrap();
        rate.refund(n * MILLI, n * MILLI, 1);
    }
    assert_eq!(rate.totals().spent, 0);
    assert_eq!(rate.quota(5 * MILLI).remaining, 5);
}

#[test]
fn wrong_settings_are_refused_with_their_values() {
    let error = |rate: AdaptiveRate| rate.validate().unwrap_err().to_string();
    let rate = AdaptiveRate::default;
    assert!(rate().validate().is_ok());
    assert_eq!(
        error(rate().min(0.0)),
        "min is 0, but must be a number above 0"
    );
    assert_eq!(
        error(rate().max(f64::NAN)),
        "max is NaN, but must be a number above 0"
    );
    assert_eq!(
        error(rate().step(-1.0)),
        "step is -1, but must be a number above 0"
    );
    assert_eq!(
        error(rate().min(5.0).max(4.0)),
        "max is 4, but must be at least min, which is 5"
    );
    assert_eq!(
        error(rate().max(50.0).initial(60.0)),
        "initial is 60, but must be between min, 0.1, and max, 50"
    );
    assert_eq!(
        error(rate().factor(1.0)),
        "factor is 1, but must be above 0 and below 1"
    );
    assert_eq!(error(rate().burst(0)), "burst is 0, but must be at least 1");
    assert_eq!(
        error(rate().interval(Duration::ZERO)),
        "interval is 0ns, but must be longer than 0"
    );
}
