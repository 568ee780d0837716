//! What is left, and who gets what, when nobody reads or somebody reads slowly.

use std::{ops::RangeInclusive, time::Duration};

use tower_backpressure::{
    BackpressureController,
    BackpressureStrategy::{self, Adaptive, Block, DropNewest, DropOldest, Fail},
    stream::SendErrorKind,
};

use super::support::{counts, drained, stream};

#[test]
fn two_hundred_items_into_a_hundred_places() {
    let cases: [(
        BackpressureStrategy,
        RangeInclusive<u32>,
        Option<RangeInclusive<u32>>,
    ); 4] = [
        // strategy, what is left, what came back without an error
        (DropOldest, 101..=200, Some(1..=100)),
        (DropNewest, 1..=100, Some(101..=200)),
        (Block, 1..=100, None),
        (Fail, 1..=100, None),
    ];
    for (strategy, left, displaced) in cases {
        let mut stream = stream(100, strategy);
        let sender = stream.sender();
        let mut back = Vec::new();
        let mut refused = Vec::new();
        for item in 1..=200 {
            match sender.try_send(item) {
                Ok(displaced) => back.extend(displaced),
                Err(error) => refused.push((error.kind(), error.into_item())),
            }
        }
        let metrics = stream.metrics();
        let dropped = back.len() as u64;
        assert_eq!(
            counts(&metrics),
            (100 + dropped, 0, dropped, 100),
            "{strategy}"
        );
        assert_eq!(metrics.peak_depth, 100, "{strategy}");
        assert_eq!(metrics.backpressure_events, 1, "{strategy}");

        let came_back: Vec<_> = refused.iter().map(|(_, item)| *item).collect();
        match displaced {
            Some(displaced) => {
                assert!(back.iter().copied().eq(displaced), "{strategy}");
                assert!(came_back.is_empty(), "{strategy}");
            }
            None => assert!(came_back.into_iter().eq(101..=200), "{strategy}"),
        }
        // A stream that has failed is closed from then on.
        let (first, later) = (
            SendErrorKind::Full,
            match strategy {
                Fail => SendErrorKind::Closed,
                _ => SendErrorKind::Full,
            },
        );
        for (nth, (kind, _)) in refused.iter().enumerate() {
            assert_eq!(*kind, if nth == 0 { first } else { later }, "{strategy}");
        }
        assert!(drained(&mut stream).into_iter().eq(left), "{strategy}");
        assert_eq!(
            counts(&stream.metrics()),
            (100 + dropped, 100, dropped, 0),
            "{strategy}"
        );
    }
}

#[test]
fn one_place_keeps_the_last() {
    for mut stream in [
        stream(1, DropOldest),
        BackpressureController::latest().create_stream(),
    ] {
        let sender = stream.sender();
        for item in 1..=50 {
            sender.try_send(item).unwrap();
        }
        assert_eq!(drained(&mut stream), [50]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything_in_order() {
    for strategy in [Block, Adaptive] {
        let mut stream = stream(10, strategy);
        let sender = stream.sender();
        tokio::spawn(async move {
            for item in 1..=1000 {
                assert!(sender.send(item).await.unwrap().is_empty());
            }
        });
        let mut read = Vec::new();
        while let Some(item) = stream.receive().await {
            read.push(item);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert!(read.into_iter().eq(1..=1000), "{strategy}");
        assert_eq!(counts(&stream.metrics()), (1000, 1000, 0, 0), "{strategy}");
        assert!(stream.metrics().peak_depth <= 10, "{strategy}");
    }
}

#[tokio::test]
async fn a_send_waits_only_where_the_strategy_does() {
    for (strategy, waits) in [
        (Block, true),
        (Adaptive, true),
        (DropOldest, false),
        (DropNewest, false),
        (Fail, false),
    ] {
        let stream = stream(1, strategy);
        let sender = stream.sender();
        let _ = sender.send(1).await;
        let second = futures_util::poll!(sender.send(2));
        assert_eq!(second.is_pending(), waits, "{strategy}");
    }
}

#[test]
fn an_episode_of_being_full_lasts_until_half_is_free() {
    let mut stream = stream(4, DropNewest);
    let sender = stream.sender();
    let mut episodes = Vec::new();
    for step in "ssssss r s rr s rr sssss".bytes() {
        match step {
            b's' => drop(sender.try_send(())),
            b'r' => drop(stream.try_receive()),
            _ => episodes.push(stream.metrics().backpressure_events),
        }
    }
    episodes.push(stream.metrics().backpressure_events);
    assert_eq!(episodes, [1, 1, 1, 1, 1, 1, 2]);
}

#[test]
fn strategies_are_read_from_their_names() {
    for strategy in [Block, DropNewest, DropOldest, Adaptive, Fail] {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
    }
    assert_eq!(
        "drop"
            .parse::<BackpressureStrategy>()
            .unwrap_err()
            .to_string(),
        "strategy is drop, but must be one of block, drop_newest, drop_oldest, adaptive, fail"
    );
}
