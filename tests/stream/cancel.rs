//! A send or a receive that is given up.

use std::task::Poll;

use tower_backpressure::BackpressureStrategy::Block;

use super::support::{Task, counts, drained, stream};

#[test]
fn a_send_that_is_given_up_has_not_been_sent() {
    let mut stream = stream(1, Block);
    let (sender, task) = (stream.sender(), Task::new());
    sender.try_send(1).unwrap();
    let mut waiting = sender.send(2);
    assert!(task.poll(&mut waiting).is_pending());
    assert_eq!(waiting.into_item(), Some(2));
    assert_eq!(drained(&mut stream), [1]);

    // Its turn had come, and it did not know yet.
    sender.try_send(3).unwrap();
    let mut waiting = sender.send(4);
    assert!(task.poll(&mut waiting).is_pending());
    assert_eq!(stream.try_receive(), Some(3));
    assert_eq!(task.woken(), 1);
    assert_eq!(waiting.into_item(), Some(4));
    assert!(drained(&mut stream).is_empty());
    sender.try_send(5).unwrap();
    assert_eq!(counts(&stream.metrics()), (3, 2, 0, 1));
}

#[test]
fn a_turn_that_is_given_up_goes_to_the_next_in_line() {
    let mut stream = stream(1, Block);
    let sender = stream.sender();
    let tasks = [Task::new(), Task::new(), Task::new()];
    sender.try_send(0).unwrap();
    let mut sends = [1, 2, 3].map(|item| Some(sender.send(item)));
    for (task, send) in tasks.iter().zip(&mut sends) {
        assert!(task.poll(send.as_mut().unwrap()).is_pending());
    }
    assert_eq!(stream.try_receive(), Some(0));
    assert_eq!(tasks.each_ref().map(|task| task.woken()), [1, 0, 0]);
    sends[0] = None;
    assert_eq!(tasks.each_ref().map(|task| task.woken()), [1, 1, 0]);
    // From the middle of the line, without a turn: nobody need know.
    sends[2] = None;
    assert!(tasks[1].poll(sends[1].as_mut().unwrap()).is_ready());
    assert_eq!(drained(&mut stream), [2]);
}

#[test]
fn a_place_that_is_kept_is_not_given_to_anybody_else() {
    let mut stream = stream(1, Block);
    let (sender, task) = (stream.sender(), Task::new());
    sender.try_send(0).unwrap();
    let mut waiting = sender.send(1);
    assert!(task.poll(&mut waiting).is_pending());
    assert_eq!(stream.try_receive(), Some(0));
    assert_eq!(sender.try_send(2).unwrap_err().into_item(), 2);
    assert!(task.poll(&mut waiting).is_ready());
    assert_eq!(drained(&mut stream), [1]);
}

#[test]
fn a_receive_that_is_given_up_takes_nothing() {
    let mut stream = stream(2, Block);
    let (sender, task) = (stream.sender(), Task::new());
    {
        let mut receive = Box::pin(stream.receive());
        assert_eq!(task.poll(&mut receive), Poll::Pending);
        sender.try_send(1).unwrap();
    }
    let mut items = Vec::new();
    {
        let mut many = Box::pin(stream.receive_many(&mut items, 10));
        assert_eq!(task.poll(&mut many), Poll::Ready(1));
    }
    {
        let mut many = Box::pin(stream.receive_many(&mut items, 10));
        assert_eq!(task.poll(&mut many), Poll::Pending);
        sender.try_send(2).unwrap();
    }
    assert_eq!(items, [1]);
    assert_eq!(drained(&mut stream), [2]);
}

#[test]
fn a_receive_polled_by_another_task_wakes_that_one() {
    let mut stream = stream::<u32>(1, Block);
    let sender = stream.sender();
    let (before, now) = (Task::new(), Task::new());
    assert!(before.poll_receive(&mut stream).is_pending());
    assert!(now.poll_receive(&mut stream).is_pending());
    sender.try_send(1).unwrap();
    assert_eq!((before.woken(), now.woken()), (0, 1));
}

#[tokio::test]
async fn many_are_received_at_once_and_none_at_the_end() {
    let mut stream = stream(10, Block);
    let sender = stream.sender();
    (1..=7).for_each(|item| drop(sender.try_send(item)));
    drop(sender);
    let mut items = vec![0];
    assert_eq!(stream.receive_many(&mut items, 0).await, 0);
    assert_eq!(stream.receive_many(&mut items, 5).await, 5);
    assert_eq!(stream.receive_many(&mut items, 5).await, 2);
    assert_eq!(stream.receive_many(&mut items, 5).await, 0);
    assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_reader_that_never_waits_lets_others_run() {
    let mut stream = stream(100_000, Block);
    let sender = stream.sender();
    (0..100_000).for_each(|item| drop(sender.try_send(item)));
    let other = tokio::spawn(async {});
    let mut read = 0;
    while !other.is_finished() && stream.receive().await.is_some() {
        read += 1;
    }
    assert!((1..10_000).contains(&read), "{read}");
}
