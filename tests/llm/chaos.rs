//! Whatever models and clients do.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{sleep, timeout};
use tower_backpressure::{BackpressureLayer, limit::Outcome, rate::TokenBucket};

use crate::bench::*;

const CHUNKS: [&str; 9] = [
    ROLE,
    TOKEN,
    TOKEN,
    USAGE,
    DONE,
    ALIVE,
    OVERLOADED,
    "data: {\"choi",
    "\r\n",
];

fn script(random: &mut fastrand::Rng) -> Script {
    let mut script = Script::default();
    for _ in 0..random.usize(..12) {
        script = match random.u32(..20) {
            0 => script.breaks(),
            1..8 => script.wait(random.u32(..3000) * MILLI),
            _ => script.then(CHUNKS[random.usize(..CHUNKS.len())]),
        };
    }
    match random.u32(..5) {
        0 => script.hangs(),
        _ => script,
    }
}

fn answer(random: &mut fastrand::Rng, script: Script) -> Result<Response<Script>, io::Error> {
    let mut answer = match random.u32(..4) {
        0 => script.whole(),
        _ => script.streamed(),
    };
    match random.u32(..10) {
        0 => *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        1 => return Err(io::Error::other("nobody there")),
        _ => {}
    }
    Ok(answer)
}

fn request(random: &mut fastrand::Rng) -> Request<Full<bytes::Bytes>> {
    let mut request = match random.u32(..4) {
        0 => asks_for_whole(),
        1 => anthropic(r#"{"model":"c","stream":true,"max_tokens":40,"messages":[]}"#),
        _ => asks_for_stream(),
    };
    if random.bool() {
        let seconds = random.u32(1..10).to_string().parse().unwrap();
        request.headers_mut().insert("x-stainless-timeout", seconds);
    }
    request
}

/// Reads as a client does that may take its time, and may leave at any moment.
async fn read(answer: Answer, pause: u32) {
    let mut body = answer.into_body();
    while let Some(Ok(_)) = body.frame().await {
        sleep(pause * MILLI).await;
    }
}

#[tokio::test(start_paused = true)]
async fn everything_comes_back_once_and_is_paid_for() {
    let mut random = fastrand::Rng::with_seed(11);
    for play in 0..1500 {
        let rate = TokenBucket::per_second(1).burst(10_000);
        let gate = match random.bool() {
            true => BackpressureLayer::drop_oldest(2, 2).and_rate(rate),
            false => BackpressureLayer::drop_newest(3).and_rate(rate),
        };
        let limits = |layer: tower_backpressure::llm::LlmLayer| {
            layer
                .first_token_timeout(4 * SECOND)
                .token_timeout(2 * SECOND)
                .answer_timeout(6 * SECOND)
        };
        let bench = Bench::over(|_| gate, limits);
        let mut clients = tokio::task::JoinSet::new();
        let mut bodies = vec![];
        for _ in 0..random.usize(1..6) {
            let script = script(&mut random);
            bodies.push((Arc::clone(&script.dropped), Arc::clone(&script.polls)));
            let answer = answer(&mut random, script);
            bench.answers_after(random.u32(..2000) * MILLI, answer);
            let call = bench.call(request(&mut random));
            let (pause, stays) = (random.u32(..800), random.u32(..15_000));
            clients.spawn(timeout(stays * MILLI, async move {
                if let Ok(answer) = call.await {
                    read(answer, pause).await;
                }
            }));
            sleep(random.u32(..500) * MILLI).await;
        }
        if random.u32(..10) == 0 {
            bench.layer.drain(SECOND).await;
        }
        clients.join_all().await;
        let handle = bench.layer.handle();
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0), "{play}");
        let numbers = handle.snapshot();
        assert_eq!(numbers.consumed_count as usize, bench.calls(), "{play}");
        for (dropped, polls) in bodies {
            let began = polls.load(Ordering::SeqCst) > 0;
            assert!(!began || dropped.load(Ordering::SeqCst), "{play}");
        }
        for seen in bench.seen() {
            // Nobody pays for more than was asked, and estimated, or reported.
            let charge = seen.charge();
            assert!(charge.get() <= charge.reserved().max(10) + 20, "{charge:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_one_sample_and_at_most_an_overload_after_it() {
    let mut random = fastrand::Rng::with_seed(12);
    for play in 0..1500 {
        let bench = Bench::with(|layer| layer.token_timeout(2 * SECOND));
        let script = script(&mut random);
        let answer = answer(&mut random, script);
        bench.answers_after(random.u32(..2000) * MILLI, answer);
        let call = bench.call(request(&mut random));
        let (pause, stays) = (random.u32(..800), random.u32(..15_000));
        let _ = timeout(stays * MILLI, async {
            if let Ok(answer) = call.await {
                read(answer, pause).await;
            }
        })
        .await;
        let outcomes: Vec<_> = bench.samples().into_iter().map(|it| it.1).collect();
        let fine = matches!(
            outcomes[..],
            [] | [_] | [Outcome::Success, Outcome::Overload]
        );
        assert!(fine, "{play}: {outcomes:?}");
    }
}
