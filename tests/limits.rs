//! Whatever a gate tells a limit, the limit stays a limit.

use std::time::Duration;

use proptest::prelude::*;
use tower_backpressure::limit::{
    Aimd, Fixed, Gradient2, Limit, MAX_LIMIT, Measure, Outcome, Sample, Vegas, Windowed,
};

fn all() -> Vec<Box<dyn Limit>> {
    let threshold = Duration::from_millis(50);
    vec![
        Box::new(Aimd::default()),
        Box::new(Aimd::default().latency_threshold(threshold)),
        Box::new(Aimd::default().min(3).max(7).initial(5)),
        Box::new(Aimd::default().min(4).max(4).initial(4)),
        Box::new(Gradient2::default()),
        Box::new(Gradient2::default().min(2).max(30).queue(0).tolerance(1.0)),
        Box::new(Vegas::default()),
        Box::new(Vegas::default().min(1).max(20).initial(1).smoothing(0.1)),
        Box::new(Windowed::new(Aimd::default())),
        Box::new(
            Windowed::new(Aimd::default())
                .samples(1)
                .lasting(Duration::ZERO)
                .measure(Measure::Mean),
        ),
        Box::new(Fixed::new(9)),
    ]
}

fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0..2_000_000_000u64).prop_map(Duration::from_nanos),
        any::<u64>().prop_map(Duration::from_nanos),
        any::<u64>().prop_map(Duration::from_secs),
    ]
}

fn in_flight() -> impl Strategy<Value = usize> {
    prop_oneof![0..30usize, Just(0), any::<usize>()]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Success),
        1 => Just(Outcome::Overload),
        1 => Just(Outcome::Ignore),
        1 => Just(Outcome::Cancelled),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Sample(Sample),
    SetLimit(usize),
}

fn events() -> impl Strategy<Value = Vec<(Event, usize)>> {
    let sample = (times(), times(), in_flight(), outcomes())
        .prop_map(|(at, latency, n, outcome)| Event::Sample(Sample::new(at, latency, n, outcome)));
    let event = prop_oneof![
        20 => sample,
        1 => any::<usize>().prop_map(Event::SetLimit),
    ];
    // Repeated, so that rounds and windows end.
    prop::collection::vec((event, 1..60usize), 1..60)
}

proptest! {
    #[test]
    fn no_sequence_of_samples_breaks_a_limit(events in events()) {
        for mut limit in all() {
            limit.validate().unwrap();
            for (event, times) in &events {
                for _ in 0..*times {
                    let now = match event {
                        Event::Sample(sample) => limit.update(sample),
                        Event::SetLimit(to) => {
                            limit.set_limit((*to).clamp(1, MAX_LIMIT));
                            limit.limit()
                        }
                    };
                    prop_assert!((1..=MAX_LIMIT).contains(&now), "{now} after {event:?}");
                    prop_assert_eq!(now, limit.limit());
                }
            }
        }
    }
}

#[test]
fn bounds_that_contradict_each_other_are_refused_by_name() {
    let cases: [(Box<dyn Limit>, &str); 8] = [
        (Box::new(Aimd::default().min(0)), "min"),
        (Box::new(Aimd::default().max(0)), "max"),
        (Box::new(Aimd::default().initial(0)), "initial"),
        (Box::new(Vegas::default().min(30).initial(20)), "initial"),
        (Box::new(Vegas::default().smoothing(f64::NAN)), "smoothing"),
        (Box::new(Gradient2::default().tolerance(0.5)), "tolerance"),
        (Box::new(Gradient2::default().max(MAX_LIMIT + 1)), "max"),
        (Box::new(Windowed::new(Fixed::new(1)).samples(0)), "samples"),
    ];
    for (limit, field) in cases {
        assert_eq!(limit.validate().unwrap_err().field(), field);
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_service_that_only_refuses_brings_aimd_to_its_minimum_though_no_time_passes() {
    let mut limit = Aimd::default();
    let calls = (1..).find(|_| {
        let in_flight = limit.limit();
        limit.update(&Sample::new(ms(1), ms(0), in_flight, Outcome::Overload)) == 1
    });
    assert!(calls.unwrap() <= 200, "{calls:?}");
}

#[test]
fn when_every_other_call_hangs_until_its_caller_leaves_aimd_falls() {
    let mut limit = Aimd::default().initial(100);
    for n in 0..2000 {
        let in_flight = limit.limit();
        let at = ms(1000 + 10 * n);
        let (latency, outcome) = match n % 2 {
            0 => (ms(5), Outcome::Success),
            _ => (ms(1000), Outcome::Cancelled),
        };
        limit.update(&Sample::new(at, latency, in_flight, outcome));
    }
    assert!(limit.limit() < 10, "{}", limit.limit());
}

#[test]
fn calls_one_after_another_do_not_move_aimd() {
    let mut limit = Aimd::default();
    for n in 0..10_000 {
        let latency = ms(if n % 7 == 0 { 80 } else { 2 });
        limit.update(&Sample::new(ms(100 * n), latency, 1, Outcome::Success));
    }
    assert_eq!(limit.limit(), 10);
}

#[test]
fn the_noise_of_timers_is_no_latency() {
    let mut limit = Aimd::default();
    for n in 0..5000 {
        let in_flight = limit.limit();
        let latency = Duration::from_micros(if n < 1000 { 1 } else { 900 });
        limit.update(&Sample::new(ms(n), latency, in_flight, Outcome::Success));
        assert!(limit.limit() >= 8, "{n}: {}", limit.limit());
    }
    assert!(limit.limit() > 100);
}

#[test]
fn aimd_told_a_threshold_holds_to_it() {
    let mut limit = Aimd::default().latency_threshold(ms(50)).max(400);
    let mut feed = |latency: u64, times: u64| {
        for n in 0..times {
            let in_flight = limit.limit();
            limit.update(&Sample::new(
                ms(n * 100),
                ms(latency),
                in_flight,
                Outcome::Success,
            ));
        }
        limit.limit()
    };
    assert_eq!(
        feed(49, 5000),
        400,
        "ten times slower than ever, and still below it"
    );
    assert!(feed(51, 5000) < 10);
}

#[test]
fn a_limit_set_by_hand_is_where_the_search_goes_on() {
    let limits: [Box<dyn Limit>; 5] = [
        Box::new(Aimd::default()),
        Box::new(Gradient2::default()),
        Box::new(Vegas::default()),
        Box::new(Windowed::new(Vegas::default())),
        Box::new(Fixed::new(9)),
    ];
    for mut limit in limits {
        limit.set_limit(5);
        let sample = Sample::new(ms(10), ms(10), 1, Outcome::Success);
        assert_eq!(limit.update(&sample), 5);
    }
}
