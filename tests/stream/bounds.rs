//! Bounds by weight and by time, and settings that cannot work.

use std::time::Duration;

use tokio::time::advance;
use tower_backpressure::{
    AdaptiveRateController, BackpressureController,
    BackpressureStrategy::{Adaptive, Block, DropNewest, DropOldest},
    ConfigError,
    rate::TokenBucket,
    stream::SendErrorKind,
};

use super::support::{Task, counts, drained, now};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_heavy_item_takes_the_place_of_many_light_ones() {
    let controller = BackpressureController::new(100, DropOldest);
    let mut stream = controller.create_weighted_stream(10, |item: &usize| *item);
    let sender = stream.sender();
    for item in [1, 2, 3, 4] {
        assert!(sender.try_send(item).unwrap().is_empty());
    }
    let displaced = sender.try_send(6).unwrap();
    assert_eq!(displaced.len(), 3);
    assert!(displaced.into_iter().eq([1, 2, 3]));
    assert!(
        sender.try_send(0).unwrap().is_empty(),
        "nothing weighs nothing"
    );
    let displaced = sender.try_send(10).unwrap();
    assert!(displaced.into_iter().eq([4, 6]));
    assert_eq!(drained(&mut stream), [0, 10]);
    assert_eq!(counts(&stream.metrics()), (7, 2, 5, 0));
}

#[test]
fn what_can_never_be_in_is_refused() {
    for strategy in [Block, DropNewest, DropOldest] {
        let controller = BackpressureController::new(100, strategy);
        let stream = controller.create_weighted_stream(10, |item: &usize| *item);
        let sender = stream.sender();
        let error = sender.try_send(11).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::TooHeavy);
        assert_eq!(error.into_item(), 11);
        assert_eq!(counts(&stream.metrics()), (0, 0, 0, 0));
    }
}

#[test]
fn a_heavy_item_that_waits_is_not_overtaken_by_a_light_one() {
    let controller = BackpressureController::new(100, Block);
    let mut stream = controller.create_weighted_stream(10, |item: &usize| *item);
    let (sender, task) = (stream.sender(), Task::new());
    sender.try_send(6).unwrap();
    let (mut heavy, mut light) = (sender.send(5), sender.send(1));
    assert!(task.poll(&mut heavy).is_pending());
    assert!(task.poll(&mut light).is_pending());
    assert_eq!(sender.try_send(1).unwrap_err().kind(), SendErrorKind::Full);
    assert_eq!(drained(&mut stream), [6]);
    assert!(task.poll(&mut light).is_ready());
    assert!(task.poll(&mut heavy).is_ready());
    assert_eq!(stream.metrics().current_depth, 2);
}

#[tokio::test(start_paused = true)]
async fn an_item_is_read_until_its_time_has_come() {
    let controller = BackpressureController::builder(10, Block)
        .time_to_live(SECOND)
        .build();
    let mut stream = controller.create_stream();
    let sender = stream.sender();
    sender.try_send(1).unwrap();
    advance(SECOND / 2).await;
    sender.try_send(2).unwrap();
    advance(SECOND / 2 - Duration::from_nanos(1)).await;
    assert_eq!(stream.try_receive(), Some(1));
    sender.try_send(3).unwrap();
    advance(SECOND / 2 + Duration::from_nanos(1)).await;
    assert_eq!(stream.try_receive(), Some(3));
    assert_eq!(counts(&stream.metrics()), (3, 2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_makes_room_for_a_sender_that_waits() {
    let controller = BackpressureController::builder(1, Block)
        .time_to_live(SECOND)
        .build();
    let mut stream = controller.create_stream();
    let (one, two) = (stream.sender(), stream.sender());
    one.try_send(0).unwrap();
    let began = now();
    let (one, two) = tokio::join!(one.send(1), two.send(2));
    assert!(one.is_ok() && two.is_ok());
    let waited = began.elapsed();
    assert!(
        waited >= 2 * SECOND && waited < 2 * SECOND + SECOND / 10,
        "{waited:?}"
    );
    assert_eq!(drained(&mut stream), [2]);
    assert_eq!(counts(&stream.metrics()), (3, 1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_does_not_displace_anything() {
    let controller = BackpressureController::builder(1, DropNewest)
        .time_to_live(SECOND)
        .build();
    let mut stream = controller.create_stream();
    let sender = stream.sender();
    sender.try_send(1).unwrap();
    advance(SECOND).await;
    assert!(sender.try_send(2).unwrap().is_empty());
    assert_eq!(drained(&mut stream), [2]);
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_value_and_what_would_be_right() {
    let builder = || BackpressureController::builder(10, Adaptive);
    let rate = AdaptiveRateController::default;
    let cases: [(Result<BackpressureController, ConfigError>, &str); 11] = [
        (
            BackpressureController::try_new(0, Block),
            "capacity is 0, but must be at least 1",
        ),
        (
            builder().time_to_live(Duration::ZERO).try_build(),
            "time_to_live is 0ns, but must be longer than 0",
        ),
        (
            BackpressureController::builder(10, Block)
                .rate(TokenBucket::per_second(1))
                .try_build(),
            "strategy is block, but must be adaptive, since there is a rate",
        ),
        (
            builder().rate(rate().min(0.0)).try_build(),
            "min is 0, but must be a number above 0",
        ),
        (
            builder().rate(rate().max(f64::INFINITY)).try_build(),
            "max is inf, but must be a number above 0",
        ),
        (
            builder().rate(rate().step(-1.0)).try_build(),
            "step is -1, but must be a number above 0",
        ),
        (
            builder()
                .rate(rate().initial(5.0).min(20.0).max(10.0))
                .try_build(),
            "max is 10, but must be at least min, which is 20",
        ),
        (
            builder().rate(rate().initial(0.5)).try_build(),
            "initial is 0.5, but must be between min, 1, and max, 1000000",
        ),
        (
            builder().rate(rate().factor(1.0)).try_build(),
            "factor is 1, but must be above 0 and below 1",
        ),
        (
            builder().rate(rate().interval(Duration::ZERO)).try_build(),
            "interval is 0ns, but must be longer than 0",
        ),
        (
            builder().rate(rate().burst(0)).try_build(),
            "burst is 0, but must be at least 1",
        ),
    ];
    for (result, message) in cases {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
    let stream =
        BackpressureController::new(10, Block).try_create_weighted_stream(0, |item: &usize| *item);
    assert_eq!(
        stream.unwrap_err().to_string(),
        "max_weight is 0, but must be at least 1"
    );
}

#[test]
#[should_panic = "capacity is 0, but must be at least 1"]
fn a_stream_without_a_place_is_refused_where_it_is_asked_for() {
    let _ = BackpressureController::new(0, Block);
}
