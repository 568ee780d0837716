//! The numbers of one moment, and how fast those that only grow have grown lately.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use tokio::time::Instant;

use super::Stage;
use crate::{
    clock::now,
    engine::faults::Faults,
    load::call::{End, Report},
    proxy::{Counts, REASONS},
};

/// Over so many looks is a speed taken: a second.
const LOOKS: usize = 4;
/// And over so many the share of clients that were served in time: ten seconds.
const LATELY: usize = 40;

#[derive(Debug, Default)]
pub struct Numbers {
    before: VecDeque<(Instant, Counts)>,
    ended: VecDeque<(usize, usize)>,
}

#[derive(Debug, Serialize)]
pub struct Now<'a> {
    on: bool,
    draining: bool,
    upstream: &'a str,
    gate: Option<Gate>,
    open: usize,
    per_second: Speeds,
    /// The median and the ninety-ninth percentile, in milliseconds.
    first_token: [Option<f64>; 2],
    engine: Option<Engine>,
    load: Option<Load>,
    faults: Option<Faults>,
}

#[derive(Debug, Serialize)]
struct Gate {
    limit: usize,
    in_flight: usize,
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct Speeds {
    arrived: f64,
    answered: f64,
    left: f64,
    broken: f64,
    tokens: f64,
    refused: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize)]
struct Engine {
    name: &'static str,
    places: usize,
    running: usize,
    waiting: usize,
    capacity: f64,
}

#[derive(Debug, Serialize)]
struct Load {
    multiple: f64,
    per_second: f64,
    under_way: usize,
    /// Clients that wanted an answer and have got it or not, lately; and those that got it in time.
    ended: usize,
    good: usize,
}

impl Numbers {
    pub fn now<'a>(&mut self, stage: &'a Stage) -> Now<'a> {
        let proxy = &stage.proxy;
        let at = now();
        let counts = proxy.live().counts();
        let per_second = self.speeds(at, counts);
        let gate = proxy.handle().map(|handle| Gate {
            limit: handle.limit(),
            in_flight: handle.in_flight(),
            waiting: handle.waiting(),
        });
        let model = stage.model.as_ref();
        let engine = model.map(|model| {
            let engine = &model.server.engine;
            let load = engine.load();
            Engine {
                name: engine.model().name,
                places: engine.model().max_num_seqs,
                running: load.running,
                waiting: load.waiting,
                capacity: model.capacity,
            }
        });
        let load = model.map(|model| {
            let (ended, good) = self.served(&model.tap.take_ended(), |report| {
                report.end == End::Complete
                    && report.first_token.is_some_and(|took| took <= model.in_time)
            });
            Load {
                multiple: (model.tap.rate() / model.capacity * 100.0).round() / 100.0,
                per_second: model.tap.rate(),
                under_way: model.tap.under_way(),
                ended,
                good,
            }
        });
        Now {
            on: proxy.is_on(),
            draining: proxy.is_draining(),
            upstream: &stage.upstream,
            gate,
            open: proxy.live().open(),
            per_second,
            first_token: proxy.live().first_tokens(at),
            engine,
            load,
            faults: model.map(|model| model.server.faults()),
        }
    }

    fn speeds(&mut self, at: Instant, counts: Counts) -> Speeds {
        let (then, before) = self.before.front().cloned().unwrap_or((at, counts.clone()));
        let seconds = (at - then).as_secs_f64().max(0.001);
        let speed = |of: fn(&Counts) -> u64| (of(&counts) - of(&before)) as f64 / seconds;
        let refused = counts.refused.iter().zip(&before.refused).zip(REASONS);
        let speeds = Speeds {
            arrived: speed(|counts| counts.arrived),
            answered: speed(|counts| counts.answered),
            left: speed(|counts| counts.left),
            broken: speed(|counts| counts.broken),
            tokens: speed(|counts| counts.tokens),
            refused: refused
                .map(|((now, before), reason)| (reason, (now - before) as f64 / seconds))
                .collect(),
        };
        self.before.push_back((at, counts));
        while self.before.len() > LOOKS {
            self.before.pop_front();
        }
        speeds
    }

    fn served(&mut self, reports: &[Report], good: impl Fn(&Report) -> bool) -> (usize, usize) {
        let wanted = reports.iter().filter(|report| report.end != End::Left);
        let ended = wanted.clone().count();
        self.ended
            .push_back((ended, wanted.filter(|report| good(report)).count()));
        while self.ended.len() > LATELY {
            self.ended.pop_front();
        }
        let all = self.ended.iter();
        all.fold((0, 0), |(ended, good), (more, served)| {
            (ended + more, good + served)
        })
    }
}
