//! Traffic: requests that come whether or not earlier ones were answered.

pub mod call;
mod events;
pub mod mix;
pub mod sdk;
pub mod tally;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep_until},
};

use self::{
    call::{Caller, Report},
    mix::{Ask, Mix},
    tally::Tally,
};
use crate::clock::now;

/// Beyond so many at once further requests are left out: what is to be shown is the proxy's end, not this process's.
const MOST: usize = 4000;

/// Sends what `asks` gives at the times that it gives, in seconds from now, and waits for what became of each.
pub async fn send(target: SocketAddr, asks: impl IntoIterator<Item = (f64, Ask)>) -> Tally {
    let caller = Caller::new(target);
    let began = now();
    let mut calls = JoinSet::new();
    for (nth, (at, ask)) in asks.into_iter().enumerate() {
        let due = began + Duration::from_secs_f64(at);
        sleep_until(due).await;
        let caller = caller.clone();
        calls.spawn(async move { caller.call(ask, due, nth as u64).await });
    }
    Tally {
        reports: calls.join_all().await,
    }
}

/// Traffic that goes on, and whose rate can be changed.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Requests per second, as bits of an `f64`.
    rate: Arc<AtomicU64>,
    under_way: Arc<AtomicUsize>,
    ended: Arc<Mutex<Vec<Report>>>,
}

impl Tap {
    /// Runs until the runtime ends. It is shut at first.
    pub fn start(target: SocketAddr, mut mix: Mix) -> Self {
        let tap = Self {
            rate: Arc::new(AtomicU64::new(0)),
            under_way: Arc::default(),
            ended: Arc::default(),
        };
        let running = tap.clone();
        tokio::spawn(async move { running.run(Caller::new(target), &mut mix).await });
        tap
    }

    pub fn set_rate(&self, per_second: f64) {
        self.rate
            .store(per_second.max(0.0).to_bits(), Ordering::Relaxed);
    }

    pub fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }

    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// What ended since this was called last.
    pub fn take_ended(&self) -> Vec<Report> {
        std::mem::take(&mut *self.ended.lock().expect("nothing panics under it"))
    }

    async fn run(self, caller: Caller, mix: &mut Mix) {
        let mut ticks = interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = now();
        let mut due = mix.gap();
        let mut seed = 0;
        loop {
            ticks.tick().await;
            let came = now();
            due -= self.rate() * (came - last).as_secs_f64();
            last = came;
            while due <= 0.0 {
                due += mix.gap();
                seed += 1;
                let ask = mix.next();
                if self.under_way() >= MOST {
                    continue;
                }
                self.under_way.fetch_add(1, Ordering::Relaxed);
                let (tap, caller) = (self.clone(), caller.clone());
                tokio::spawn(async move {
                    let report = caller.call(ask, came, seed).await;
                    tap.under_way.fetch_sub(1, Ordering::Relaxed);
                    tap.ended
                        .lock()
                        .expect("nothing panics under it")
                        .push(report);
                });
            }
        }
    }
}
