//! How the model checker is run.

/// Every way in which the threads of `f` can take turns, with at most so many preemptions as `LOOM_MAX_PREEMPTIONS` says,
/// or 3.
pub(crate) fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(3);
    }
    builder.check(f);
}
