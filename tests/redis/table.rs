//! The script answers as the token bucket does, to the token.

use std::time::Duration;

use redis::{Connection, Script};
use tower_backpressure::rate::{Rate, Short, TokenBucket};

use crate::{
    gcra::{self, Answer, Op, Pace},
    server::Server,
};

/// What the script says of one limit, with the times in microseconds.
#[derive(Debug, PartialEq)]
struct Said {
    done: bool,
    left: u64,
    wait: u64,
    reset: u64,
}

struct Scripted {
    script: Script,
    connection: Connection,
    key: String,
    pace: Pace,
    burst: u64,
}

impl Scripted {
    fn new(server: &Server, key: String, pace: Pace, burst: u64) -> Self {
        Self {
            script: Script::new(include_str!("../../src/redis/gcra.lua")),
            connection: server.client().get_connection().unwrap(),
            key,
            pace,
            burst,
        }
    }

    fn call(&mut self, at: Duration, op: &str, cost: i64, spent: Duration) -> Said {
        // The store's time is never as early as the table's.
        let time = |time: Duration| 1_000_000_000 + time.as_micros() as u64;
        let last = if op == "spend" {
            cost as u64
        } else {
            time(spent)
        };
        let answer: Vec<i64> = self
            .script
            .key(&self.key)
            .arg(time(at))
            .arg(0)
            .arg(op)
            .arg(self.pace.tokens)
            .arg(self.pace.period.as_micros() as u64)
            .arg(self.burst)
            .arg(cost)
            .arg(last)
            .invoke(&mut self.connection)
            .unwrap();
        let [done, _, _, left, wait, reset] = answer[..] else {
            panic!("{answer:?}");
        };
        Said {
            done: done == 1,
            left: left as u64,
            wait: wait as u64,
            reset: reset as u64,
        }
    }

    /// A peek has no word of its own in the script: what is spent is looked at on a copy.
    fn apply(&mut self, at: Duration, op: Op) -> Said {
        match op {
            Op::Spend(cost) => self.call(at, "spend", cost as i64, at),
            Op::Peek(cost) => {
                let copy = format!("{} copy", self.key);
                let _: i64 = redis::cmd("DEL")
                    .arg(&copy)
                    .query(&mut self.connection)
                    .unwrap();
                let _: i64 = redis::cmd("COPY")
                    .arg(&self.key)
                    .arg(&copy)
                    .query(&mut self.connection)
                    .unwrap();
                let key = std::mem::replace(&mut self.key, copy);
                let peeked = self.call(at, "spend", cost as i64, at);
                self.key = key;
                let stands = self.call(at, "spend", 0, at);
                Said {
                    done: peeked.done,
                    wait: peeked.wait,
                    ..stands
                }
            }
            Op::Owe(cost) => self.call(at, "settle", cost as i64, at),
            Op::Refund { cost, spent } => self.call(at, "settle", -(cost as i64), spent),
            Op::Set(pace) => {
                self.pace = pace;
                self.call(at, "spend", 0, at)
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_nanos().div_ceil(1000) as u64
}

#[test]
fn the_script_keeps_to_the_table() {
    let Some(server) = Server::start() else {
        return;
    };
    let cases = gcra::cases();
    assert!(cases.len() > 20);
    for (n, case) in cases.iter().enumerate() {
        let mut scripted = Scripted::new(&server, format!("case {n}"), case.rate, case.burst);
        for step in &case.steps {
            let said = scripted.apply(step.at, step.op);
            let place = format!("{}, line {}: {:?}", case.name, step.line, step.op);
            match step.answer {
                Answer::Yes => assert!(said.done, "{place}: {said:?}"),
                Answer::Wait(wait) => {
                    assert!(!said.done, "{place}: {said:?}");
                    assert_eq!(said.wait, micros(wait), "{place}");
                }
                // What can never be is not asked for; the script only has to refuse it.
                Answer::Never => assert!(!said.done, "{place}: {said:?}"),
                Answer::Nothing => {}
            }
            assert_eq!(
                (said.left, said.reset),
                (step.left, micros(step.reset)),
                "{place}"
            );
        }
    }
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn the_script_and_the_bucket_agree_on_whatever_comes() {
    let Some(server) = Server::start() else {
        return;
    };
    // A token is a whole number of nanoseconds, so that only the microsecond is rounded.
    let rates = [(1, 1), (4, 1), (50, 1), (100, 60), (90_000, 60), (7, 70)];
    let mut dice = Dice(1);
    for round in 0..60 {
        let (tokens, period) = rates[dice.below(rates.len() as u64) as usize];
        let pace = Pace {
            tokens,
            period: Duration::from_secs(period),
        };
        let burst = 1 + dice.below(40);
        let bucket = TokenBucket::per(tokens, pace.period).burst(burst);
        let mut scripted = Scripted::new(&server, format!("round {round}"), pace, burst);
        let token = pace.period.as_micros() as u64 / tokens;
        let mut now = Duration::from_secs(100);
        let mut spent = vec![now];
        for step in 0..60 {
            let moved = Duration::from_micros(dice.below(3 * token + 2));
            // A clock that steps back now and then.
            now = if dice.below(12) == 0 {
                now - moved
            } else {
                now + moved
            };
            let cost = dice.below(burst + 1);
            let op = match dice.below(10) {
                0 => Op::Owe(cost),
                1 | 2 => Op::Refund {
                    cost,
                    spent: spent[dice.below(spent.len() as u64) as usize],
                },
                _ => Op::Spend(cost),
            };
            let decided = match op {
                Op::Spend(cost) => bucket.spend(now, cost),
                Op::Owe(cost) => {
                    bucket.owe(now, cost);
                    Ok(())
                }
                Op::Refund { cost, spent } => {
                    bucket.refund(now, spent, cost);
                    Ok(())
                }
                Op::Peek(_) | Op::Set(_) => unreachable!(),
            };
            spent.push(now);
            let quota = bucket.quota(now);
            let expected = Said {
                done: decided.is_ok(),
                left: quota.remaining,
                wait: match decided {
                    Ok(()) => 0,
                    Err(Short::Wait(wait)) => micros(wait),
                    Err(Short::Never { .. }) => unreachable!("no cost is above the burst"),
                },
                reset: micros(quota.reset_after),
            };
            let said = scripted.apply(now, op);
            assert_eq!(
                said, expected,
                "round {round}, step {step}: {op:?} at {now:?} of {pace:?} burst {burst}"
            );
        }
    }
}
