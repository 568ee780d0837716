//! Throughput, and the snippet that everybody begins with.

use std::time::Duration;

use tokio::time::{advance, sleep};
use tower_backpressure::{
    AdaptiveRateController, BackpressureController, BackpressureMetrics,
    BackpressureStrategy::{self, Adaptive, Block},
};

use super::support::{drained, stream};

#[test]
fn the_first_steps() -> Result<(), Box<dyn std::error::Error>> {
    let controller = BackpressureController::new(100, BackpressureStrategy::Adaptive);
    let stream = controller.create_stream();
    stream.sender().try_send(1)?;
    let metrics = controller.metrics();
    assert_eq!(metrics.current_depth, 1);
    assert_eq!(metrics.dropped_count, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn throughput_is_that_of_the_last_second_not_of_all_time() {
    let mut stream = stream(1000, Block);
    let sender = stream.sender();
    /// To within two items: between two looks at the clock they are taken to have been read evenly.
    #[track_caller]
    fn expect(metrics: BackpressureMetrics, throughput: f64) {
        let off = (metrics.throughput_rate - throughput).abs();
        assert!(
            off <= 2.0 && (throughput > 0.0 || off == 0.0),
            "{metrics:?}"
        );
    }
    expect(stream.metrics(), 0.0);
    // A hundred a second for three seconds, looked at by nobody.
    for n in 0..300 {
        sender.send(n).await.unwrap();
        assert_eq!(stream.receive().await, Some(n));
        sleep(Duration::from_millis(10)).await;
    }
    expect(stream.metrics(), 100.0);
    advance(Duration::from_millis(500)).await;
    expect(stream.metrics(), 50.0);
    advance(Duration::from_millis(600)).await;
    expect(stream.metrics(), 0.0);

    // A burst, and an hour in which nobody asked.
    (0..1000).for_each(|n| drop(sender.try_send(n)));
    assert_eq!(drained(&mut stream).len(), 1000);
    assert!(futures_util::poll!(Box::pin(stream.receive())).is_pending());
    advance(Duration::from_secs(3600)).await;
    expect(stream.metrics(), 0.0);
}

#[test]
fn what_is_not_paced_has_no_rate_limit() {
    let controller = BackpressureController::new(1, Block);
    assert_eq!(controller.metrics().current_rate_limit, f64::INFINITY);
    let stream = controller.create_stream::<()>();
    assert_eq!(stream.metrics().current_rate_limit, f64::INFINITY);
}

#[test]
fn a_controller_sums_the_rates_of_its_streams() {
    let controller = BackpressureController::builder(1, Adaptive)
        .rate(AdaptiveRateController::default().initial(50.0))
        .build();
    assert_eq!(controller.metrics().current_rate_limit, 50.0);
    let streams = [(); 3].map(|()| controller.create_stream::<()>());
    assert_eq!(controller.metrics().current_rate_limit, 150.0);
    let senders = streams.each_ref().map(|stream| stream.sender());
    drop(streams);
    assert_eq!(controller.metrics().current_rate_limit, 0.0, "nobody reads");
    drop(senders);
    assert_eq!(controller.metrics().current_rate_limit, 50.0);
}
