//! Whatever code of others does at whatever moment, nobody else may notice.
//!
//! A run of the layer passes many points at which somebody else's code runs: the service's, the body's, closures, the
//! limit's algorithm, wakers, the recorder, the subscriber, destructors. It is played once to count them, and then once
//! for each, with a panic there; and once for each moment at which a caller may leave.
#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "tests may look at the clock")]

mod points;
mod rates;
mod stage;
mod story;
mod tellers;
mod waker;
mod work;

use std::collections::BTreeSet;

use self::{
    points::Plan,
    story::{Passed, Setup, play, setups},
};

#[test]
fn a_caller_may_leave_at_any_moment() {
    let mut faults = Faults::default();
    for setup in setups() {
        let moments = faults.play(&setup, Plan::default()).moments;
        assert!(moments > 30, "{setup:?} has only {moments} moments");
        for nth in 0..moments {
            let plan = Plan {
                leave_at: Some(nth),
                ..Plan::default()
            };
            faults.play(&setup, plan);
        }
    }
    faults.report();
}

#[test]
fn code_of_others_may_panic_anywhere() {
    let mut faults = Faults::default();
    for setup in setups() {
        faults.everywhere(&setup, None);
    }
    for point in points::ALL {
        assert!(faults.seen.contains(point), "{point} was never reached");
    }
    faults.report();
}

/// Those that only watch panic whenever they are called, and on top of that anything else panics once, so that they are
/// called while a panic unwinds.
#[test]
fn who_only_watches_may_panic_always_and_during_another_panic() {
    let mut faults = Faults::default();
    for broken in ["recorder", "subscriber", "waker.wake", "limit"] {
        for setup in setups().into_iter().filter(|setup| !setup.drains) {
            faults.everywhere(&setup, Some(broken));
        }
    }
    faults.report();
}

/// What was noticed by others in all the runs.
#[derive(Default)]
struct Faults {
    plays: usize,
    seen: BTreeSet<&'static str>,
    noticed: Vec<String>,
}

impl Faults {
    fn play(&mut self, setup: &Setup, plan: Plan) -> Passed {
        self.plays += 1;
        let passed = play(setup, plan);
        let point = plan.panic_at.and_then(|nth| passed.points.get(nth));
        let what = || format!("{setup:?} with {plan:?}, {point:?}: ");
        let noticed = passed.noticed.iter().map(|noticed| what() + noticed);
        self.noticed.extend(noticed);
        passed
    }

    /// Plays it once for each point that it passes.
    fn everywhere(&mut self, setup: &Setup, broken: Option<&'static str>) {
        let plan = |panic_at| Plan {
            panic_at,
            broken,
            ..Plan::default()
        };
        let points = self.play(setup, plan(None)).points;
        for nth in 0..points.len() {
            let again = self.play(setup, plan(Some(nth))).points;
            assert_eq!(
                again.get(..=nth),
                points.get(..=nth),
                "{setup:?} is not repeatable"
            );
            self.seen.extend(again);
        }
    }

    fn report(self) {
        let Self { plays, noticed, .. } = self;
        println!("{plays} plays, {} faults", noticed.len());
        let first: Vec<_> = noticed.iter().take(20).collect();
        assert!(noticed.is_empty(), "{} faults: {first:#?}", noticed.len());
    }
}
