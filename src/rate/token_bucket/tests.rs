use std::thread;

use super::*;

fn at(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn wait(result: Result<(), Short>) -> Duration {
    match result {
        Err(Short::Wait(wait)) => wait,
        other => panic!("there was no wait, but {other:?}"),
    }
}

#[test]
fn the_burst_is_what_comes_in_a_second() {
    let burst = |bucket: TokenBucket| bucket.quota(at(0)).limit;
    assert_eq!(burst(TokenBucket::per_second(50)), 50);
    assert_eq!(burst(TokenBucket::per_minute(150)), 2);
    assert_eq!(burst(TokenBucket::per_minute(59)), 1);
    assert_eq!(burst(TokenBucket::per_hour(1)), 1);
    assert_eq!(burst(TokenBucket::per(3, at(1_000))), 3_000_000);
    assert_eq!(burst(TokenBucket::per_second(50).burst(7)), 7);
}

#[test]
fn a_token_comes_exactly_when_it_is_due() {
    let rates: [(u64, u64); 7] = [
        (1, 1),
        (3, 1_000_000_000),
        (7, 60_000_000_000),
        (999, 1_000_000_000),
        (999_983, 1_000_000_000),
        (700_000_000, 1_000_000_000),
        (1, 3_600_000_000_000),
    ];
    for (n, period) in rates {
        let bucket = TokenBucket::per(n, at(period)).burst(1);
        let token = at(period.div_ceil(n));
        let mut now = at(0);
        for _ in 0..1000 {
            bucket.spend(now, 1).unwrap();
            if token > at(1) {
                let wait = wait(bucket.check(now, 1));
                // The clock of whole ticks may have been ahead by one.
                assert!(wait <= token && wait + at(1) >= token, "{n} per {period}");
                assert!(bucket.check(now + wait - at(1), 1).is_err());
                now += wait;
            } else {
                now += token;
            }
        }
    }
}

#[test]
fn rounding_does_not_add_up() {
    for n in [
        3,
        7,
        999,
        1_000_003,
        699_999_953,
        999_999_999,
        1_000_000_000,
    ] {
        let bucket = TokenBucket::per_second(n).burst(n);
        for second in 0..100_000 {
            let now = Duration::from_secs(second);
            assert_eq!(bucket.spend(now, n - n / 3), Ok(()), "{n}, {second}");
            assert_eq!(bucket.spend(now, n / 3), Ok(()), "{n}, {second}");
            assert!(bucket.spend(now, n / 100 + 1).is_err(), "{n}, {second}");
        }
    }
}

#[test]
fn ten_per_nanosecond_are_counted_one_by_one() {
    let bucket = TokenBucket::per_second(10_000_000_000).burst(10);
    bucket.spend(at(0), 10).unwrap();
    for now in 1..1000 {
        for _ in 0..10 {
            bucket.spend(at(now), 1).unwrap();
        }
        assert_eq!(bucket.spend(at(now), 1), Err(Short::Wait(at(1))));
    }
}

#[test]
fn no_cost_and_no_time_is_too_large() {
    let most = u64::MAX >> 4;
    let bucket = TokenBucket::per_hour(1).burst(most);
    for now in [Duration::ZERO, Duration::MAX] {
        assert_eq!(bucket.spend(now, u64::MAX), Err(Short::Never { most }));
        assert_eq!(bucket.spend(now, most), Ok(()));
        assert!(bucket.spend(now, most).is_err());
        bucket.owe(now, u64::MAX);
        bucket.owe(now, u64::MAX);
        assert!(wait(bucket.spend(now, 0)) > Duration::ZERO);
        assert_eq!(bucket.quota(now).remaining, 0);
        bucket.refund(now, now, u64::MAX);
        bucket.refund(now, now, u64::MAX);
        assert_eq!(bucket.quota(now).remaining, most);
        bucket.set_per_second(now, f64::MAX);
        bucket.set_per_second(now, f64::MIN_POSITIVE);
    }
}

#[test]
fn what_costs_nothing_does_not_tell_the_bucket_the_time() {
    let bucket = TokenBucket::per_second(10);
    assert_eq!(bucket.spend(Duration::from_secs(10), 0), Ok(()));
    assert_eq!(bucket.spend(Duration::from_secs(5), 10), Ok(()));
}

/// Which is that of who was overtaken by others.
#[test]
fn the_long_way_decides_like_the_short_one() {
    let bucket = || TokenBucket::per_second(3).burst(10);
    let (short, long) = (bucket(), bucket());
    for n in 0..1000 {
        let now = Duration::from_millis(n * 400 + n % 7 * 1000);
        let cost = n % 4;
        let decision = long.state.spend_again(nanos(now), cost);
        assert_eq!(decision, short.spend(now, cost), "{n}");
        assert_eq!(long.quota(now), short.quota(now), "{n}");
    }
}

#[test]
fn a_rate_of_zero_leaves_what_is_left_and_nothing_more() {
    let bucket = TokenBucket::per_second(10);
    bucket.spend(at(0), 4).unwrap();
    bucket.set_per_second(at(0), 0.0);
    assert_eq!(bucket.per_second(), 0.0);
    let years = Duration::from_secs(1_000_000_000);
    assert_eq!(bucket.quota(years).remaining, 6);
    assert_eq!(bucket.quota(years).reset_after, Duration::MAX);
    assert_eq!(bucket.spend(years, 7), Err(Short::Wait(Duration::MAX)));
    assert_eq!(bucket.spend(years, 6), Ok(()));
    assert_eq!(bucket.spend(years, 1), Err(Short::Wait(Duration::MAX)));
    assert_eq!(bucket.spend(years, 0), Ok(()));
    bucket.refund(years, years, 1);
    assert_eq!(bucket.spend(years, 1), Ok(()));

    bucket.set_per_second(years, 5.0);
    assert_eq!(bucket.spend(years, 1), Err(Short::Wait(at(200_000_000))));
    assert_eq!(bucket.spend(years + Duration::from_secs(2), 10), Ok(()));
}

#[test]
fn a_rate_below_zero_is_zero_and_what_is_no_number_changes_nothing() {
    let bucket = TokenBucket::per_second(10);
    bucket.set_per_second(at(0), f64::NAN);
    assert_eq!(bucket.per_second(), 10.0);
    bucket.set_per_second(at(0), -3.0);
    assert_eq!(bucket.per_second(), 0.0);
    bucket.set_per_second(at(0), f64::INFINITY);
    assert_eq!(bucket.per_second(), 1e10);
}

/// Whatever rate the ticks are made for, and whether one token is spent from a full bucket or more.
#[test]
fn only_what_was_spent_since_the_bucket_was_last_full_comes_back() {
    for rate in [0.3, 1.0, 3.0, 7e4, 999_983.0, 7e8, 1e9, 3e9] {
        for first in 1..=3 {
            let bucket = TokenBucket::per_second(1).burst(10);
            bucket.set_per_second(at(0), rate);
            let start = Duration::from_millis(1_234_567);
            bucket.spend(start, first).unwrap();
            let full = start + bucket.quota(start).reset_after;
            bucket.spend(full, first).unwrap();
            let left = |what| {
                assert_eq!(bucket.quota(full).remaining, what, "{first} at {rate}");
            };

            bucket.refund(full, start, first);
            left(10 - first);
            bucket.spend(full, 1).unwrap();
            bucket.refund(full, start, 1);
            left(9 - first);
            bucket.set_per_second(full, 2.0);
            bucket.refund(full, start, 1);
            left(9 - first);
            bucket.refund(full, full, 1);
            left(10 - first);
        }
    }
}

/// So large a burst has ticks of which many a nanosecond makes one.
#[test]
fn ticks_that_are_long_do_not_bring_back_what_was_spent_before() {
    let bucket = TokenBucket::per_second(1_000_000_000).burst(1_000_000_000_000);
    bucket.spend(at(1000), 1).unwrap();
    bucket.set_per_second(at(1002), 1.0);
    bucket.spend(at(1003), 1).unwrap();
    bucket.refund(at(1004), at(1000), 1);
    assert_eq!(bucket.quota(at(1004)).remaining, 1_000_000_000_000 - 1);
    bucket.refund(at(1004), at(1003), 1);
    assert_eq!(bucket.quota(at(1004)).remaining, 1_000_000_000_000);
}

#[test]
fn a_clock_that_stands_still_does_not_bring_back_what_was_spent_before() {
    let bucket = TokenBucket::per_second(1_000_000_000).burst(10);
    let end = |nanos| at(LONGEST + nanos);
    bucket.spend(at(LONGEST - 2), 1).unwrap();
    bucket.spend(end(5), 1).unwrap();
    bucket.refund(end(5), at(LONGEST - 2), 1);
    bucket.refund(end(5), end(4), 1);
    assert_eq!(bucket.quota(end(5)).remaining, 9);
    bucket.refund(end(5), end(5), 1);
    assert_eq!(bucket.quota(end(5)).remaining, 10);
}

#[test]
fn one_token_that_is_owed_comes_back_like_one_that_is_spent() {
    let bucket = TokenBucket::per_second(1).burst(10);
    let (start, now) = (Duration::from_secs(70), Duration::from_secs(71));
    bucket.owe(start, 1);
    bucket.owe(now, 1);
    bucket.refund(now, start, 1);
    assert_eq!(bucket.quota(now).remaining, 9);
    bucket.refund(now, now, 1);
    assert_eq!(bucket.quota(now).remaining, 10);
}

#[test]
fn the_one_token_that_was_taken_comes_back_at_another_rate_too() {
    for (before, after) in [(3.0, 7.0), (0.0, 5.0), (5.0, 0.0), (1e-3, 1e9)] {
        let bucket = TokenBucket::per_second(1).burst(10);
        bucket.set_per_second(at(0), before);
        let (start, now) = (Duration::from_secs(70), Duration::from_secs(71));
        bucket.spend(now, 1).unwrap();
        bucket.set_per_second(now, after);
        bucket.refund(now, start, 1);
        assert_eq!(bucket.quota(now).remaining, 9, "{before} to {after}");
        bucket.refund(now, now, 1);
        assert_eq!(bucket.quota(now).remaining, 10, "{before} to {after}");
    }
}

#[test]
fn the_rate_reads_as_it_was_given() {
    for n in [1, 3, 7, 50, 999_983] {
        assert_eq!(TokenBucket::per_second(n).per_second(), n as f64);
    }
    assert_eq!(TokenBucket::per_minute(90).per_second(), 1.5);
    let bucket = TokenBucket::per_second(1);
    for rate in [0.1, 2.5, 1.0 / 3.0, 12345.678] {
        bucket.set_per_second(at(0), rate);
        assert_eq!(bucket.per_second(), rate);
    }
}

#[test]
fn a_rate_set_to_and_fro_gives_nobody_a_token() {
    let bucket = TokenBucket::per_second(1000).burst(10);
    bucket.spend(at(0), 10).unwrap();
    for _ in 0..1000 {
        bucket.set_per_second(at(0), 7.3);
        bucket.set_per_second(at(0), 999_983.0);
    }
    assert_eq!(bucket.quota(at(0)).remaining, 0);
    let out = bucket.quota(at(0)).reset_after.as_secs_f64() * 999_983.0;
    assert!((10.0..10.01).contains(&out), "{out} are out");
}

#[test]
fn any_rate_between_a_lifetime_and_a_tenth_of_a_nanosecond_is_held() {
    let bucket = TokenBucket::per_second(1).burst(1);
    for exponent in -90..=90 {
        let rate = 10f64.powf(f64::from(exponent) / 10.0);
        bucket.set_per_second(at(0), rate);
        bucket.refund(at(0), at(0), u64::MAX);
        bucket.spend(at(0), 1).unwrap();
        let wait = wait(bucket.spend(at(0), 1)).as_secs_f64();
        let error = (wait - 1.0 / rate).abs();
        assert!(error <= 2e-9 + 1e-8 / rate, "{rate}: {wait}");
    }
}

#[test]
fn the_window_is_the_time_in_which_the_burst_comes() {
    let bucket = TokenBucket::per_second(50).burst(100);
    assert_eq!(bucket.quota(at(0)).window, Duration::from_secs(2));
    let bucket = TokenBucket::per_second(3).burst(1);
    assert_eq!(bucket.quota(at(0)).window, at(333_333_334));
    bucket.set_per_second(at(0), 0.0);
    assert_eq!(bucket.quota(at(0)).window, Duration::MAX);
}

#[test]
fn the_last_moment_of_the_clock_can_be_waited_for_and_none_after_it() {
    let speed = Scale::new(1, at(1), 1).speed;
    assert_eq!(speed.until(LONGEST, 0), at(LONGEST));
    assert_eq!(speed.until(LONGEST + 1, 0), Duration::MAX);
}

#[test]
fn its_debug_form_says_how_much_it_lets_in() {
    let bucket = TokenBucket::per_second(50).burst(100);
    let form = "TokenBucket { per_second: 50.0, burst: 100, .. }";
    assert_eq!(format!("{bucket:?}"), form);
}

#[test]
fn wrong_settings_are_refused_with_their_values() {
    let error = |result: Result<TokenBucket, ConfigError>| result.unwrap_err().to_string();
    assert_eq!(
        error(TokenBucket::try_per_minute(0)),
        "rate is 0, but must be at least 1"
    );
    assert_eq!(
        error(TokenBucket::try_per(1, Duration::ZERO)),
        "period is 0ns, but must be more than 0 and at most 36 years"
    );
    assert_eq!(
        error(TokenBucket::try_per(u64::MAX, SECOND)),
        "rate is 18446744073709551615 per 1s, but must be at most 10 per nanosecond"
    );
    assert_eq!(
        error(TokenBucket::per_second(1).try_burst(0)),
        "burst is 0, but must be at least 1"
    );
    assert!(TokenBucket::per_second(1).try_burst(LONGEST + 1).is_err());
    assert!(TokenBucket::try_per(1, at(LONGEST)).is_ok());
    assert!(TokenBucket::try_per(1, at(LONGEST + 1)).is_err());
    assert!(TokenBucket::try_per(1, Duration::MAX).is_err());
    assert!(TokenBucket::try_per(10, at(1)).is_ok());
}

#[test]
#[should_panic(expected = "burst is 0, but must be at least 1")]
fn a_burst_of_zero_panics() {
    let _ = TokenBucket::per_second(1).burst(0);
}

#[test]
fn threads_together_never_get_more_than_one_alone() {
    const THREADS: u64 = 4;
    const STEPS: u64 = 20_000;
    let bucket = TokenBucket::per_second(1_000_000).burst(100);
    // Each sees the same times, one microsecond apart, and asks for more than there is.
    let admitted: u64 = thread::scope(|scope| {
        let asks = |_| {
            scope.spawn(|| {
                let spends = |n: u64| bucket.spend(at(n * 1000), 1 + n % 3).is_ok();
                (0..STEPS)
                    .filter(|&n| spends(n))
                    .map(|n| 1 + n % 3)
                    .sum::<u64>()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(asks).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert!(admitted <= STEPS - 1 + 100, "{admitted} were let in");
    assert!(admitted >= STEPS - 1, "{admitted} were let in");
}

#[test]
fn threads_at_one_moment_share_exactly_the_burst() {
    let bucket = TokenBucket::per_second(3).burst(10_000);
    let now = Duration::from_millis(123_457);
    let admitted: u64 = thread::scope(|scope| {
        let asks = |_| {
            scope.spawn(|| {
                let mut net = 0;
                for n in 0..10_000 {
                    let spent = bucket.spend(now, 1).is_ok();
                    net += u64::from(spent);
                    if spent && n % 4 == 0 {
                        bucket.refund(now, now, 1);
                        net -= 1;
                    }
                }
                net
            })
        };
        let threads: Vec<_> = (0..4).map(asks).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(admitted, 10_000);
    assert_eq!(bucket.quota(now).remaining, 0);
}

#[test]
fn a_rate_changed_while_others_spend_loses_and_invents_nothing() {
    let bucket = TokenBucket::per_second(3).burst(40_000);
    let now = Duration::from_secs(50);
    let admitted: u64 = thread::scope(|scope| {
        let asks = |_| scope.spawn(|| (0..30_000).filter(|_| bucket.spend(now, 1).is_ok()).count());
        let threads: Vec<_> = (0..2).map(asks).collect();
        for n in 0..2000 {
            bucket.set_per_second(now, [3.0, 7.0, 1000.0][n % 3]);
        }
        threads.into_iter().map(|t| t.join().unwrap() as u64).sum()
    });
    // Each change may cost a tick, which is far less than a token.
    assert!(
        (39_999..=40_000).contains(&admitted),
        "{admitted} were let in"
    );
}
