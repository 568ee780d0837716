//! What a sliding window lets in.

use std::{thread, time::Duration};

use tower_backpressure::rate::{Rate, Short, SlidingWindow};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn wait(wait: Duration) -> Result<(), Short> {
    Err(Short::Wait(wait))
}

#[test]
fn what_was_spent_counts_for_exactly_a_window() {
    let window = SlidingWindow::new(3, SECOND);
    for milli in [0, 100, 200] {
        window.spend(milli * MILLI, 1).unwrap();
    }
    assert_eq!(window.spend(300 * MILLI, 1), wait(700 * MILLI));
    assert_eq!(
        window.spend(SECOND - Duration::from_nanos(1), 1),
        wait(Duration::from_nanos(1))
    );
    assert_eq!(window.spend(SECOND, 1), Ok(()));
    assert_eq!(window.spend(SECOND, 1), wait(100 * MILLI));
}

#[test]
fn a_cost_waits_for_as_many_of_the_oldest_as_it_needs() {
    let window = SlidingWindow::new(10, SECOND);
    window.spend(100 * MILLI, 4).unwrap();
    window.spend(200 * MILLI, 1).unwrap();
    window.spend(300 * MILLI, 4).unwrap();
    let now = 500 * MILLI;
    assert_eq!(window.check(now, 1), Ok(()));
    assert_eq!(window.check(now, 2), wait(600 * MILLI));
    assert_eq!(window.check(now, 5), wait(600 * MILLI));
    assert_eq!(window.check(now, 6), wait(700 * MILLI));
    assert_eq!(window.check(now, 7), wait(800 * MILLI));
    assert_eq!(window.check(now, 10), wait(800 * MILLI));
    assert_eq!(window.check(now, 11), Err(Short::Never { most: 10 }));
    assert_eq!(window.quota(now).remaining, 1);
    assert_eq!(window.quota(now).reset_after, 800 * MILLI);
    assert_eq!(window.quota(now).window, SECOND);
}

#[test]
fn a_refund_is_taken_out_where_it_was_spent() {
    let window = SlidingWindow::new(10, SECOND);
    window.spend(100 * MILLI, 6).unwrap();
    window.spend(600 * MILLI, 4).unwrap();
    window.refund(700 * MILLI, 600 * MILLI, 3);
    assert_eq!(window.quota(700 * MILLI).remaining, 3);
    assert_eq!(window.check(700 * MILLI, 4), wait(400 * MILLI));
    window.refund(700 * MILLI, 100 * MILLI, 6);
    assert_eq!(window.quota(700 * MILLI).remaining, 9);
    assert_eq!(window.quota(700 * MILLI).reset_after, 900 * MILLI);
}

#[test]
fn what_has_left_the_window_is_not_given_back() {
    let window = SlidingWindow::new(10, SECOND);
    window.spend(100 * MILLI, 10).unwrap();
    window.spend(1100 * MILLI, 10).unwrap();
    window.refund(1100 * MILLI, 100 * MILLI, 10);
    assert_eq!(window.quota(1100 * MILLI).remaining, 0);
}

#[test]
fn no_refund_gives_more_than_was_spent_at_its_time() {
    let window = SlidingWindow::new(10, SECOND);
    window.spend(100 * MILLI, 2).unwrap();
    window.spend(200 * MILLI, 5).unwrap();
    window.refund(300 * MILLI, 100 * MILLI, 100);
    assert_eq!(window.quota(300 * MILLI).remaining, 5);
    window.refund(300 * MILLI, 400 * MILLI, 100);
    assert_eq!(window.quota(300 * MILLI).remaining, 5);
}

#[test]
fn a_debt_counts_as_long_as_anything_else() {
    let window = SlidingWindow::new(10, SECOND);
    window.owe(100 * MILLI, 25);
    window.owe(200 * MILLI, 5);
    assert_eq!(window.quota(200 * MILLI).remaining, 0);
    assert_eq!(window.spend(200 * MILLI, 0), wait(900 * MILLI));
    assert_eq!(window.spend(1100 * MILLI, 5), Ok(()));
    assert_eq!(window.spend(1100 * MILLI, 1), wait(100 * MILLI));
}

#[test]
fn a_debt_of_any_size_is_held_in_bounded_memory() {
    for limit in [1, 1000, 100_000] {
        let window = SlidingWindow::new(limit, SECOND);
        for micro in 0..5000 {
            window.owe(Duration::from_micros(micro), u64::MAX / 3);
        }
        let now = 5 * MILLI;
        assert!(window.spend(now, 0).is_err());
        assert!(window.quota(now).reset_after <= SECOND + 10 * MILLI);
        assert_eq!(window.quota(SECOND + 15 * MILLI).remaining, limit);
    }
}

#[test]
fn a_large_window_is_late_by_a_hundredth_at_most_and_never_early() {
    let window = SlidingWindow::new(5000, SECOND);
    window.spend(1234 * MILLI, 5000).unwrap();
    assert_eq!(window.spend(2234 * MILLI, 1), wait(6 * MILLI));
    assert_eq!(window.spend(2240 * MILLI, 5000), Ok(()));
    window.refund(2245 * MILLI, 2240 * MILLI, 1000);
    assert_eq!(window.spend(2245 * MILLI, 1000), Ok(()));
    assert_eq!(window.spend(3240 * MILLI, 4000), Ok(()));
    assert_eq!(window.spend(3240 * MILLI, 1), wait(10 * MILLI));
}

#[test]
fn under_steady_overload_a_large_window_lets_in_99_percent() {
    let window = SlidingWindow::new(2000, SECOND);
    let asked = (0..100_000).map(|n| n * MILLI / 5);
    let admitted = asked.filter(|&now| window.spend(now, 1).is_ok()).count();
    assert!((39_600..=40_000).contains(&admitted), "{admitted} in 20 s");
}

#[test]
fn a_clock_that_steps_back_lets_nothing_out_of_the_window() {
    let window = SlidingWindow::new(2, SECOND);
    window.spend(5 * SECOND, 1).unwrap();
    window.spend(4 * SECOND, 1).unwrap();
    assert_eq!(window.spend(4500 * MILLI, 1), wait(SECOND));
    assert_eq!(window.spend(6 * SECOND, 2), Ok(()));
}

#[test]
fn what_is_in_the_window_stays_when_the_rate_changes() {
    let window = SlidingWindow::new(100, 2 * SECOND);
    assert_eq!(window.per_second(), 50.0);
    window.spend(SECOND, 60).unwrap();
    window.set_per_second(SECOND, 20.0);
    assert_eq!(window.per_second(), 20.0);
    assert_eq!(window.spend(SECOND, 1), wait(2 * SECOND));
    assert_eq!(window.spend(SECOND, 41), Err(Short::Never { most: 40 }));
    window.set_per_second(SECOND, 1000.0);
    assert_eq!(window.quota(SECOND).remaining, 1940);
    assert_eq!(window.spend(1001 * MILLI, 1940), Ok(()));
    assert_eq!(window.spend(2999 * MILLI, 1), wait(MILLI));
    window.set_per_second(2 * SECOND, f64::NAN);
    assert_eq!(window.per_second(), 1000.0);
    window.set_per_second(2 * SECOND, 0.001);
    assert_eq!(window.quota(9 * SECOND).limit, 1);
}

#[test]
fn a_rate_of_zero_lets_nothing_in() {
    let window = SlidingWindow::new(10, SECOND);
    window.set_per_second(SECOND, 0.0);
    assert_eq!(window.per_second(), 0.0);
    assert_eq!(window.spend(SECOND, 1), wait(Duration::MAX));
    assert_eq!(window.spend(SECOND, 0), Ok(()));
    window.set_per_second(SECOND, 2.0);
    assert_eq!(window.spend(SECOND, 2), Ok(()));
}

#[test]
fn threads_at_one_moment_share_exactly_the_limit() {
    for limit in [900, 9000] {
        let window = SlidingWindow::new(limit, SECOND);
        let admitted: usize = thread::scope(|scope| {
            let spend = |_: usize| window.spend(SECOND, 1).is_ok();
            let asks = |_| scope.spawn(move || (0..5000).filter(|&n| spend(n)).count());
            let threads: Vec<_> = (0..4).map(asks).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted as u64, limit);
    }
}

#[test]
fn wrong_settings_are_refused_with_their_values() {
    let error = |limit, window| {
        SlidingWindow::try_new(limit, window)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error(0, SECOND), "limit is 0, but must be at least 1");
    assert_eq!(
        error(1, Duration::from_nanos(999)),
        "window is 999ns, but must be between 1 µs and a hundred years"
    );
    assert!(SlidingWindow::try_new(1, Duration::MAX).is_err());
}
