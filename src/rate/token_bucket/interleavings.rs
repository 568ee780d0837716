//! Every way in which two threads can take turns at one bucket.

use std::{sync::Arc, time::Duration};

use loom::thread;

use super::*;
use crate::interleavings::model;

const NOW: Duration = Duration::from_secs(1);

fn beside(
    bucket: &Arc<TokenBucket>,
    f: impl FnOnce(&TokenBucket) -> bool + 'static,
) -> thread::JoinHandle<bool> {
    let bucket = Arc::clone(bucket);
    thread::spawn(move || f(&bucket))
}

/// Whether one thread gets a token while the other changes the rate.
fn taken_while_the_rate_changes(bucket: &Arc<TokenBucket>, rates: &[f64]) -> bool {
    let other = beside(bucket, |bucket| bucket.spend(NOW, 1).is_ok());
    for &rate in rates {
        bucket.set_per_second(NOW, rate);
    }
    other.join().unwrap()
}

#[test]
fn the_last_token_is_spent_once() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 1).unwrap();
        let other = beside(&bucket, |bucket| bucket.spend(NOW, 1).is_ok());
        let one = bucket.spend(NOW, 1).is_ok();
        assert!(other.join().unwrap() ^ one);
        assert_eq!(bucket.quota(NOW).remaining, 0);
    });
}

#[test]
fn a_refund_and_a_spend_at_once_are_both_counted() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 2).unwrap();
        let other = beside(&bucket, |bucket| {
            bucket.refund(NOW, NOW, 1);
            true
        });
        let spent = bucket.spend(NOW, 1).is_ok();
        other.join().unwrap();
        assert_eq!(bucket.quota(NOW).remaining, u64::from(!spent));
    });
}

#[test]
fn a_refund_that_sees_a_later_spend_from_a_full_bucket_gives_nothing() {
    const LATER: Duration = Duration::from_secs(2);
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 2).unwrap();
        let other = beside(&bucket, |bucket| {
            bucket.refund(LATER, NOW, 2);
            true
        });
        bucket.spend(LATER, 2).unwrap();
        other.join().unwrap();
        assert_eq!(bucket.quota(LATER).remaining, 0);
    });
}

#[test]
fn whoever_refunds_knows_of_every_moment_at_which_the_bucket_was_full() {
    const LATER: Duration = Duration::from_secs(2);
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 1).unwrap();
        let other = beside(&bucket, |bucket| bucket.spend(LATER, 1).is_ok());
        let one = beside(&bucket, |bucket| bucket.spend(LATER, 1).is_ok());
        bucket.refund(LATER, NOW, 1);
        assert!(other.join().unwrap() && one.join().unwrap());
        assert_eq!(bucket.quota(LATER).remaining, 0);
    });
}

#[test]
fn the_first_token_comes_back_whoever_takes_the_second() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 1).unwrap();
        let other = beside(&bucket, |bucket| bucket.spend(NOW, 1).is_ok());
        bucket.refund(NOW, NOW, 1);
        assert!(other.join().unwrap());
        assert_eq!(bucket.quota(NOW).remaining, 1);
    });
}

#[test]
fn a_moment_is_written_down_in_the_ticks_of_its_own_rate() {
    model(|| {
        // Its ticks are a little shorter than those at 2 per second.
        let bucket = Arc::new(TokenBucket::per_second(3));
        bucket.spend(NOW, 1).unwrap();
        assert!(taken_while_the_rate_changes(&bucket, &[5.0, 2.0]));
        bucket.refund(NOW, NOW, 3);
        assert_eq!(bucket.quota(NOW).remaining, 3);
    });
}

/// After four changes the age of the word is the same again.
#[test]
fn a_moment_is_not_written_down_for_a_word_of_four_changes_ago() {
    model(|| {
        const BURST: u64 = 10_000_000_000;
        // Each of its ticks is a third of a nanosecond, and at the last rate a whole one.
        let bucket = Arc::new(TokenBucket::per_second(3_000_000_000).burst(BURST));
        bucket.spend(NOW, 1).unwrap();
        assert!(taken_while_the_rate_changes(&bucket, &[5.0, 7.0, 5.0, 1e9]));
        bucket.refund(NOW, NOW, 3);
        assert_eq!(bucket.quota(NOW).remaining, BURST);
    });
}

/// Likewise, for who has read one part of the scale before the changes and another after them.
#[test]
fn a_wait_that_was_found_with_the_scales_of_two_rates_has_an_end() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(1).burst(2));
        let other = beside(&bucket, |bucket| match bucket.spend(NOW, 1) {
            Ok(()) => true,
            Err(Short::Wait(wait)) => wait < Duration::MAX,
            Err(Short::Never { .. }) => false,
        });
        for rate in [5.0, 7.0, 5.0, 1e9] {
            bucket.set_per_second(NOW, rate);
        }
        assert!(other.join().unwrap());
    });
}

#[test]
fn a_spend_while_the_rate_changes_is_neither_lost_nor_doubled() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 1).unwrap();
        assert!(taken_while_the_rate_changes(&bucket, &[5.0, 3.0]));
        assert_eq!(bucket.quota(NOW).remaining, 0);
        assert!(bucket.spend(NOW, 1).is_err());
    });
}

#[test]
fn whoever_is_refused_is_told_the_wait_at_one_rate_or_the_other() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 2).unwrap();
        let other = beside(&bucket, |bucket| match bucket.spend(NOW, 1) {
            Err(Short::Wait(wait)) => [500, 250, 125].contains(&wait.as_millis()),
            _ => false,
        });
        bucket.set_per_second(NOW, 4.0);
        bucket.set_per_second(NOW, 8.0);
        assert!(other.join().unwrap());
    });
}

#[test]
fn a_reader_sees_one_rate_or_the_other() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 2).unwrap();
        let other = beside(&bucket, |bucket| {
            let reset = bucket.quota(NOW).reset_after;
            [1000, 500, 250].contains(&reset.as_millis())
        });
        bucket.set_per_second(NOW, 4.0);
        bucket.set_per_second(NOW, 8.0);
        assert!(other.join().unwrap());
    });
}
