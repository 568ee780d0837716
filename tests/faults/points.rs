//! Where code of others runs, and what goes wrong there.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// All there are.
pub const ALL: [&str; 35] = [
    "body.drop",
    "body.is_end_stream",
    "body.poll_frame",
    "body.size_hint",
    "classify",
    "cost",
    "exempt",
    "future.drop",
    "future.poll",
    "inner.call",
    "inner.clone",
    "inner.drop",
    "inner.poll_ready",
    "limit.drop",
    "limit.set_limit",
    "limit.update",
    "rate.check",
    "rate.cost",
    "rate.per_second",
    "rate.quota",
    "rate.refund",
    "rate.spend",
    "recorder.counter",
    "recorder.gauge",
    "recorder.histogram",
    "recorder.register",
    "remote.correct",
    "remote.decide",
    "remote.spend",
    "request.drop",
    "respond",
    "subscriber.enabled",
    "waker.clone",
    "waker.drop",
    "waker.wake",
];

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// The nth point panics.
    pub panic_at: Option<usize>,
    /// Points whose names begin so panic always.
    pub broken: Option<&'static str>,
    /// The caller leaves at the nth moment at which one can.
    pub leave_at: Option<usize>,
}

#[derive(Default)]
struct Points {
    plan: Plan,
    passed: Vec<&'static str>,
}

thread_local! {
    /// `None` while the code that runs is the test's own.
    static POINTS: RefCell<Option<Points>> = const { RefCell::new(None) };
}

struct Injected(&'static str);

/// Code of somebody else's begins to run.
pub fn point(name: &'static str) {
    let panics = POINTS.with_borrow_mut(|points| {
        let Some(Points { plan, passed }) = points else {
            return false;
        };
        let nth = passed.len();
        passed.push(name);
        plan.panic_at == Some(nth) || plan.broken.is_some_and(|broken| name.starts_with(broken))
    });
    // A destructor that panics during a panic ends the process, whoever runs it.
    if panics && !(name.ends_with("drop") && thread::panicking()) {
        // Without the hook, which would print thousands of reports.
        resume_unwind(Box::new(Injected(name)));
    }
}

/// Points count from now on.
pub fn begin(plan: Plan) {
    let passed = Vec::new();
    POINTS.set(Some(Points { plan, passed }));
}

/// Points do not count any more. Gives those that were passed.
pub fn end() -> Vec<&'static str> {
    POINTS
        .take()
        .map(|points| points.passed)
        .unwrap_or_default()
}

/// What the test itself does is no point.
pub fn apart<R>(f: impl FnOnce() -> R) -> R {
    let points = POINTS.take();
    let result = f();
    POINTS.set(points);
    result
}

/// Does something that may panic where it was planned; then it gives the name of the point.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, &'static str> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| match payload.downcast::<Injected>() {
        Ok(injected) => injected.0,
        Err(payload) => resume_unwind(payload),
    })
}
