//! What is guessed of an answer refuses nobody for good.

use http::Request;
use tower_backpressure::{
    BackpressureLayer, Charge, Demand, Reason, Rejected,
    llm::Learned,
    rate::{Deciding, Decision, Receipt, RemoteRate, Requests, SlidingWindow, TokenBucket},
};

use crate::bench::*;

type Body = http_body_util::Full<bytes::Bytes>;

/// About as many tokens as the prompt of `asks` is taken for.
const PROMPT: u64 = 20;

/// Says nothing of how long the answer may be.
fn asks() -> Request<Body> {
    openai(
        r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Will it rain tomorrow?"}]}"#,
    )
}

fn asks_for_at_most(tokens: u64) -> Request<Body> {
    let body = format!(r#"{{"model":"m","stream":true,"max_tokens":{tokens},"messages":[]}}"#);
    openai(&body)
}

/// The charge of a request that is let in.
async fn let_in(bench: &Bench, request: Request<Body>) -> Charge {
    bench.answers(Script::new(&[TOKEN, USAGE, DONE]).streamed());
    let answer = bench.ask(request).await;
    assert_eq!(answer.status(), 200);
    let charge = bench.seen()[0].charge().clone();
    text(answer).await;
    assert_eq!(charge.get(), 10, "settled with what was used");
    charge
}

async fn refused(bench: &Bench, request: Request<Body>) -> Reason {
    let answer = bench.ask(request).await;
    assert_eq!(header(answer.headers(), "x-should-retry"), "false");
    let rejected = answer.extensions().get::<Rejected>();
    rejected.expect("it is refused").reason()
}

#[tokio::test(start_paused = true)]
async fn a_guess_above_the_burst_takes_the_burst_until_it_is_known_better() {
    // 833 at once.
    let rate = TokenBucket::per_minute(50_000);
    let bench = Bench::over(|gate| gate.and_rate(rate), |layer| layer);
    let mut reserved = vec![];
    for _ in 0..40 {
        reserved.push(let_in(&bench, asks()).await.reserved());
        tokio::time::sleep(10 * SECOND).await;
    }
    assert_eq!(reserved[0], 833);
    assert!(reserved[39] < 100, "{reserved:?}");
}

#[tokio::test(start_paused = true)]
async fn long_answers_that_were_learned_lock_nobody_out() {
    let mut learned = Learned::default();
    for _ in 0..200 {
        learned.learn("somebody", "m", 5000);
    }
    let bench = Bench::over(
        |gate| gate.and_rate(SlidingWindow::new(2000, 60 * SECOND)),
        |layer| layer.learned(learned),
    );
    assert_eq!(let_in(&bench, asks()).await.reserved(), 2000);
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_is_no_more_than_a_guess() {
    let rate = || TokenBucket::per_minute(50_000);
    for most in [900, 1_000, 32_000] {
        let bench = Bench::over(|gate| gate.and_rate(rate()), |layer| layer);
        assert_eq!(
            let_in(&bench, asks_for_at_most(most)).await.reserved(),
            833,
            "{most}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_above_the_burst_is_refused_for_good() {
    let rate = TokenBucket::per_minute(50_000);
    let bench = Bench::over(|gate| gate.and_rate(rate), |layer| layer);
    assert_eq!(
        refused(&bench, asks_at_length(4000)).await,
        Reason::OverBurst
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_requests_makes_no_guess_smaller_and_the_smallest_in_tokens_counts() {
    let bench = Bench::over(
        |gate| {
            gate.and_rate(Requests::new(TokenBucket::per_minute(60)))
                .and_rate(TokenBucket::per_minute(50_000).burst(50_000))
                .and_rate(TokenBucket::per_hour(50_000).burst(700))
        },
        |layer| layer,
    );
    assert_eq!(let_in(&bench, asks()).await.reserved(), 700);
    let bench = Bench::over(
        |gate| gate.and_rate(Requests::new(TokenBucket::per_minute(60))),
        |layer| layer,
    );
    assert!(let_in(&bench, asks()).await.reserved() > 1000);
}

#[tokio::test(start_paused = true)]
async fn a_key_and_the_ceiling_over_it_bound_a_guess_both() {
    for (of_key, of_all) in [(600, 10_000), (10_000, 600)] {
        let bench = Bench::over(
            |gate| {
                gate.and_rate(TokenBucket::per_second(of_all))
                    .per_key(|_| 1, move |_| rated(of_key))
            },
            |layer| layer,
        );
        assert_eq!(let_in(&bench, asks()).await.reserved(), 600);
    }
}

fn rated(per_second: u64) -> BackpressureLayer {
    BackpressureLayer::rate(TokenBucket::per_second(per_second))
}

/// Has room for 500 at once.
#[derive(Debug)]
struct Elsewhere;

impl RemoteRate for Elsewhere {
    fn spend(&self, demand: &Demand) -> Deciding {
        assert!((PROMPT..=500).contains(&demand.cost()), "{demand:?}");
        Box::pin(std::future::ready(Decision::Admitted {
            receipt: Receipt::nothing(),
            quota: None,
        }))
    }

    fn at_most(&self, demand: &Demand) -> Demand {
        Demand::of(demand.cost().min(500))
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_counted_elsewhere_bounds_it_too() {
    let bench = Bench::over(|gate| gate.and_shared_rate(Elsewhere), |layer| layer);
    assert_eq!(let_in(&bench, asks()).await.reserved(), 500);
}
