//! The token bucket against the table that it shares with the script in Redis.

mod gcra;

use std::time::Duration;

use tower_backpressure::rate::{Rate, Short, TokenBucket};

use self::gcra::{Answer, Case, Op, Step};

/// Of the bucket's clock.
const GRAIN: Duration = Duration::from_nanos(1);

#[test]
fn the_bucket_answers_as_the_table_says() {
    let cases = gcra::cases();
    assert!(cases.iter().map(|case| case.steps.len()).sum::<usize>() > 100);
    for case in &cases {
        let bucket = TokenBucket::per(case.rate.tokens, case.rate.period).burst(case.burst);
        for step in &case.steps {
            check(&bucket, case, step);
        }
    }
}

fn check(bucket: &TokenBucket, case: &Case, step: &Step) {
    let now = step.at;
    let answer = match step.op {
        Op::Spend(cost) => answer(bucket.spend(now, cost)),
        Op::Peek(cost) => answer(bucket.check(now, cost)),
        Op::Owe(cost) => {
            bucket.owe(now, cost);
            Answer::Nothing
        }
        Op::Refund { cost, spent } => {
            bucket.refund(now, spent, cost);
            Answer::Nothing
        }
        Op::Set(pace) => {
            bucket.set_per_second(now, pace.per_second());
            Answer::Nothing
        }
    };
    let quota = bucket.quota(now);
    let agrees = answer.agrees(step.answer, GRAIN)
        && quota.remaining == step.left
        && quota.reset_after.abs_diff(step.reset) <= GRAIN;
    assert!(agrees, "{}: {step:?}, but {answer:?}, {quota:?}", case.name);
    assert_eq!(quota.limit, case.burst);
}

fn answer(result: Result<(), Short>) -> Answer {
    match result {
        Ok(()) => Answer::Yes,
        Err(Short::Wait(wait)) => Answer::Wait(wait),
        Err(Short::Never { .. }) => Answer::Never,
    }
}
