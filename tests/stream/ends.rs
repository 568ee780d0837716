//! How each side notices that the other has gone.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, SinkExt, StreamExt, stream::FusedStream};
use tower_backpressure::{
    BackpressureController,
    BackpressureStrategy::{Block, DropOldest, Fail},
    stream::{SendError, SendErrorKind},
};

use super::support::{Task, counts, drained, stream};

#[tokio::test]
async fn the_stream_ends_after_what_the_last_sender_sent() {
    let mut stream = stream(10, Block);
    let one = stream.sender();
    let two = one.clone();
    one.send(1).await.unwrap();
    drop(one);
    two.send(2).await.unwrap();
    drop(two);
    assert!(!stream.is_terminated());
    assert_eq!(stream.by_ref().collect::<Vec<_>>().await, [1, 2]);
    assert!(stream.is_terminated());
    assert_eq!(stream.next().await, None);
}

#[test]
fn a_stream_that_never_had_a_sender_waits_for_one() {
    let (mut stream, task) = (stream(10, Block), Task::new());
    assert_eq!(task.poll_receive(&mut stream), Poll::Pending);
    let sender = stream.sender();
    assert_eq!(task.poll_receive(&mut stream), Poll::Pending);
    sender.try_send(1).unwrap();
    assert_eq!(task.woken(), 1);
    assert_eq!(task.poll_receive(&mut stream), Poll::Ready(Some(1)));
    assert_eq!(task.poll_receive(&mut stream), Poll::Pending);
    drop(sender);
    assert_eq!(task.woken(), 2);
    assert_eq!(task.poll_receive(&mut stream), Poll::Ready(None));
}

#[test]
fn senders_may_come_and_go_before_the_end_is_read() {
    let mut stream = stream(10, Block);
    stream.sender().try_send(1).unwrap();
    stream.sender().try_send(2).unwrap();
    assert_eq!(drained(&mut stream), [1, 2]);
    assert!(stream.is_terminated());
}

#[test]
fn a_sender_of_a_stream_that_has_ended_can_send_nothing() {
    let mut stream = stream(10, Block);
    drop(stream.sender());
    assert_eq!(stream.try_receive(), None);
    assert!(stream.is_terminated());
    let late = stream.sender();
    assert_eq!(late.try_send(1).unwrap_err().kind(), SendErrorKind::Closed);
    assert!(late.is_closed());
    assert_eq!(counts(&stream.metrics()), (0, 0, 0, 0));
}

#[test]
fn a_reader_that_leaves_fails_all_who_send_with_their_items() {
    let stream = stream(1, Block);
    let (sender, task) = (stream.sender(), Task::new());
    sender.try_send(1).unwrap();
    let (mut waiting, mut closed) = (sender.send(2), Box::pin(sender.closed()));
    assert!(task.poll(&mut waiting).is_pending());
    assert!(task.poll(&mut closed).is_pending());
    drop(stream);
    assert_eq!(task.woken(), 2);
    let refused = |result: Poll<Result<_, SendError<_>>>| match result {
        Poll::Ready(Err(error)) => (error.kind(), error.into_item()),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(task.poll(&mut waiting)), (SendErrorKind::Closed, 2));
    assert!(task.poll(&mut closed).is_ready());
    let late = sender
        .send(3)
        .now_or_never()
        .map_or(Poll::Pending, Poll::Ready);
    assert_eq!(refused(late), (SendErrorKind::Closed, 3));
    // What it left behind was produced, and dropped.
    assert_eq!(counts(&sender.metrics()), (1, 0, 1, 0));
}

#[tokio::test]
async fn a_stream_that_was_closed_can_be_read_to_its_end() {
    let mut stream = stream(10, Block);
    let sender = stream.sender();
    sender.send(1).await.unwrap();
    stream.close();
    assert_eq!(sender.send(2).await.unwrap_err().into_item(), 2);
    sender.closed().await;
    assert_eq!(stream.receive().await, Some(1));
    assert_eq!(stream.receive().await, None);
    assert_eq!(counts(&sender.metrics()), (1, 1, 0, 0));
}

#[tokio::test]
async fn a_stream_that_fails_is_read_and_then_says_so() {
    let mut stream = stream(2, Fail);
    let sender = stream.sender();
    sender.send(1).await.unwrap();
    sender.send(2).await.unwrap();
    assert_eq!(
        sender.send(3).await.unwrap_err().kind(),
        SendErrorKind::Full
    );
    assert_eq!(
        sender.send(4).await.unwrap_err().kind(),
        SendErrorKind::Closed
    );
    assert!(stream.overflow().is_none(), "not before it is read");
    assert_eq!(stream.by_ref().collect::<Vec<_>>().await, [1, 2]);
    let overflow = stream.overflow().unwrap();
    assert_eq!(overflow.capacity(), 2);
    assert_eq!(
        overflow.to_string(),
        "the stream was full, with a capacity of 2, when another item came"
    );
}

#[tokio::test]
async fn a_sink_sends_all_and_ends_when_it_is_closed() {
    let mut stream = stream(1, Block);
    let mut sink = stream.sender();
    let sends = tokio::spawn(async move {
        let items = futures_util::stream::iter((1..=100).map(Ok));
        items.forward(&mut sink).await.unwrap();
        sink
    });
    assert!(
        stream
            .by_ref()
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .eq(1..=100)
    );
    // It is still there, and has ended all the same.
    let sink = sends.await.unwrap();
    assert!(sink.is_closed());
    assert_eq!(
        sink.send(1)
            .now_or_never()
            .unwrap()
            .unwrap_err()
            .into_item(),
        1
    );
    assert_eq!(counts(&stream.metrics()), (100, 100, 0, 0));
}

#[test]
fn a_sink_that_is_dropped_takes_the_item_that_it_has_not_sent_with_it() {
    let mut stream = stream(1, Block);
    let mut sink = stream.sender();
    let keeper = stream.sender();
    sink.feed(1).now_or_never().unwrap().unwrap();
    sink.feed(2).now_or_never().unwrap().unwrap();
    assert!(sink.flush().now_or_never().is_none());
    drop(sink);
    assert_eq!(drained(&mut stream), [1]);
    keeper.try_send(3).unwrap();
    assert_eq!(drained(&mut stream), [3]);
    assert_eq!(counts(&stream.metrics()), (2, 2, 0, 0));
}

#[test]
fn a_controller_remembers_the_streams_that_are_gone() {
    let controller = BackpressureController::new(2, DropOldest);
    for _ in 0..3 {
        let mut stream = controller.create_stream();
        let sender = stream.sender();
        (1..=5).for_each(|item| drop(sender.try_send(item)));
        stream.try_receive();
    }
    let live = controller.create_stream();
    live.sender().try_send(1).unwrap();
    let metrics = controller.metrics();
    assert_eq!(counts(&metrics), (16, 3, 12, 1));
    assert_eq!((metrics.peak_depth, metrics.backpressure_events), (2, 3));
}

#[test]
fn a_waker_that_panics_keeps_no_other_sender_asleep() {
    struct Breaks;
    impl Wake for Breaks {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let stream = stream(1, Block);
    let sender = stream.sender();
    sender.try_send(0).unwrap();
    let (mut first, mut second) = (sender.send(1), sender.send(2));
    let waker = Waker::from(Arc::new(Breaks));
    let polled = Pin::new(&mut first).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let task = Task::new();
    assert!(task.poll(&mut second).is_pending());
    drop(stream);
    assert_eq!(task.woken(), 1);
    let Poll::Ready(Err(error)) = task.poll(&mut second) else {
        panic!("nobody reads it");
    };
    assert_eq!(error.into_item(), 2);
}
