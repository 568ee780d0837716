//! A store within the test, a millisecond away. It counts as the script does, and can be told how to fail.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::RedisError;

use super::{
    Place, SharedRate,
    budget::Budget,
    core::Core,
    script::{Call, Change, Reply, Running, Standing, Store, Verdict},
};
use crate::{gate::clock::Clock, rate::OnUnavailable};

/// There and back.
pub(super) const AWAY: Duration = Duration::from_millis(1);

/// The store's time is never as early as ours.
const EPOCH: u64 = 1_000_000_000;

pub(super) struct Pretend {
    clock: Clock,
    state: Mutex<State>,
}

/// The error that a call is answered with, if any.
type Fails = fn(&Call<'_>) -> Option<RedisError>;

#[derive(Default)]
struct State {
    /// The level of each key in parts of a unit, when it stood so, and since when it is not empty.
    levels: HashMap<String, (u64, u64, u64)>,
    fails: Option<Fails>,
    silent: bool,
    slow: Duration,
    calls: u64,
}

impl Pretend {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            state: Mutex::default(),
        })
    }

    pub(super) fn rate(self: &Arc<Self>, budget: Budget, policy: OnUnavailable) -> SharedRate {
        let store: Arc<dyn Store> = Arc::<Self>::clone(self);
        SharedRate {
            core: Arc::new(Core::new("a".to_owned(), store, budget, policy)),
            place: Place::of("a".to_owned()),
        }
    }

    pub(super) fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls
    }

    /// Calls of which this makes an error fail.
    pub(super) fn fails(&self, fails: Fails) {
        self.state.lock().unwrap().fails = Some(fails);
    }

    /// So much later than otherwise it answers.
    pub(super) fn slow(&self, slow: Duration) {
        self.state.lock().unwrap().slow = slow;
    }

    /// It takes calls, and answers none.
    pub(super) fn silent(&self, silent: bool) {
        self.state.lock().unwrap().silent = silent;
    }
}

impl Store for Pretend {
    fn run(&self, keys: Arc<[String]>, budgets: &[Budget], _: u64, call: Call<'_>) -> Running {
        let now = EPOCH + self.clock.now().as_micros() as u64;
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if state.silent {
            return Box::pin(std::future::pending());
        }
        let answer = match state.fails.and_then(|fails| fails(&call)) {
            Some(error) => Err(error),
            None if matches!(call, Call::Probe) => Ok(state.answer(&[], &[], now, &call)),
            None => Ok(state.answer(&keys, budgets, now, &call)),
        };
        let later = AWAY + state.slow;
        Box::pin(async move {
            tokio::time::sleep(later).await;
            answer
        })
    }
}

impl State {
    fn answer(&mut self, keys: &[String], budgets: &[Budget], now: u64, call: &Call<'_>) -> Reply {
        let mut limits: Vec<(u64, u64)> = (keys.iter().zip(budgets))
            .map(|(key, budget)| {
                let (level, stamp, since) = self.levels.get(key).copied().unwrap_or_default();
                match level.saturating_sub((now - stamp) * budget.count) {
                    0 => (0, now),
                    level => (level, since),
                }
            })
            .collect();
        let over = |i: usize, level: u64, cost: u64| {
            let budget = &budgets[i];
            (level + cost * budget.period).saturating_sub(budget.burst * budget.period)
        };
        let waits: Vec<u64> = (limits.iter().enumerate())
            .map(|(i, (level, _))| match call {
                Call::Spend { costs, .. } => over(i, *level, costs[i]).div_ceil(budgets[i].count),
                Call::Settle(_) | Call::Probe => 0,
            })
            .collect();
        let short = waits.iter().any(|wait| *wait > 0);
        let mut spent = vec![0; keys.len()];
        for (i, (level, since)) in limits.iter_mut().enumerate() {
            let period = budgets[i].period;
            let room = (budgets[i].burst * period).saturating_sub(*level) / period;
            match call {
                Call::Spend { costs, wants } if !short => {
                    spent[i] = costs[i].max(wants[i].min(room));
                    *level += spent[i] * period;
                }
                Call::Spend { .. } | Call::Probe => {}
                Call::Settle(changes) => match changes[i] {
                    Change::Owe(cost) => *level += cost * period,
                    Change::GiveBack { spent, .. } if spent < *since => {}
                    Change::GiveBack { cost, .. } => *level = level.saturating_sub(cost * period),
                },
            }
            self.levels.insert(keys[i].clone(), (*level, now, *since));
        }
        let standings = (limits.iter().zip(budgets).zip(waits).zip(spent))
            .map(|((((level, _), budget), wait), spent)| Standing {
                spent,
                remaining: (budget.burst * budget.period).saturating_sub(*level) / budget.period,
                wait,
                reset_after: level.div_ceil(budget.count),
            })
            .collect();
        Reply {
            now,
            verdict: if short { Verdict::Short } else { Verdict::Done },
            standings,
        }
    }
}

/// An answer such as `OOM no memory`.
pub(super) fn error(line: &str) -> RedisError {
    let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
    value.extract_error().unwrap_err()
}
