//! A stream as the body of a response.

use std::pin::pin;

use bytes::Bytes;
use futures_util::poll;
use http_body::Body;
use http_body_util::BodyExt;
use tower_backpressure::{
    BackpressureStrategy::{Block, DropOldest, Fail},
    stream::{Event, SendErrorKind, StreamBody},
};

use super::support::stream;

#[tokio::test]
async fn each_item_is_a_frame_and_the_last_sender_the_end() {
    let stream = stream(10, Block);
    let sender = stream.sender();
    for piece in ["one ", "two ", "three"] {
        sender.try_send(piece).unwrap();
    }
    drop(sender);
    let body = StreamBody::bytes(stream);
    assert!(!body.is_end_stream());
    let mut body = pin!(body);
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "one "
    );
    let rest = body.as_mut().collect().await.unwrap().to_bytes();
    assert_eq!(rest, "two three");
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn events_are_framed() {
    let stream = stream(10, Block);
    let sender = stream.sender();
    sender
        .try_send(Event::data("17.4").event("price").id("1"))
        .unwrap();
    sender.try_send("two\nlines".into()).unwrap();
    drop(sender);
    let body = StreamBody::sse(stream).collect().await.unwrap().to_bytes();
    assert_eq!(
        body,
        "event: price\nid: 1\ndata: 17.4\n\ndata: two\ndata: lines\n\n"
    );
}

#[tokio::test]
async fn a_body_that_is_not_asked_for_frames_meets_the_strategy() {
    let stream = stream(2, DropOldest);
    let sender = stream.sender();
    let mut body = StreamBody::new(stream, |n: u32| Bytes::from(n.to_string()));
    for n in 0..10 {
        sender.try_send(n).unwrap();
    }
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "8");
    assert_eq!(sender.metrics().dropped_count, 8);
}

#[tokio::test]
async fn a_body_that_is_dropped_stops_the_producer() {
    let stream = stream(1, Block);
    let sender = stream.sender();
    let body = StreamBody::bytes(stream);
    sender.send("in").await.unwrap();
    let mut waiting = sender.send("out");
    assert!(poll!(&mut waiting).is_pending());
    drop(body);
    assert_eq!(waiting.await.unwrap_err().kind(), SendErrorKind::Closed);
}

#[tokio::test]
async fn a_stream_that_failed_does_not_end_like_one_that_is_complete() {
    let stream = stream(1, Fail);
    let sender = stream.sender();
    sender.try_send("in").unwrap();
    sender.try_send("out").unwrap_err();
    let mut body = StreamBody::bytes(stream);
    assert!(body.frame().await.unwrap().is_ok());
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap_err().capacity(), 1);
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}
