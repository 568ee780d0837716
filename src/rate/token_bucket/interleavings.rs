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
        let other = beside(&bucket, |bucket| bucket.spend(NOW, 1).is_ok());
        bucket.set_per_second(NOW, 5.0);
        bucket.set_per_second(NOW, 2.0);
        assert!(other.join().unwrap());
        bucket.refund(NOW, NOW, 3);
        assert_eq!(bucket.quota(NOW).remaining, 3);
    });
}

#[test]
fn a_spend_while_the_rate_changes_is_neither_lost_nor_doubled() {
    model(|| {
        let bucket = Arc::new(TokenBucket::per_second(2));
        bucket.spend(NOW, 1).unwrap();
        let other = beside(&bucket, |bucket| bucket.spend(NOW, 1).is_ok());
        bucket.set_per_second(NOW, 5.0);
        bucket.set_per_second(NOW, 3.0);
        assert!(other.join().unwrap());
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
