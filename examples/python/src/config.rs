//! Arguments, and what is said about those that cannot work.

use std::time::Duration;

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};
use tower_backpressure::{
    AdaptiveRateController, BackpressureController, BackpressureStrategy, ConfigError,
};

/// The fields of `tower_backpressure.AdaptiveRate`.
#[derive(FromPyObject)]
pub(crate) struct AdaptiveRate {
    initial: f64,
    min: f64,
    max: f64,
    step: f64,
    factor: f64,
    interval: f64,
    burst: Py<PyAny>,
}

impl AdaptiveRate {
    fn controller(&self, py: Python<'_>) -> PyResult<AdaptiveRateController> {
        Ok(AdaptiveRateController::default()
            .initial(self.initial)
            .min(self.min)
            .max(self.max)
            .step(self.step)
            .factor(self.factor)
            .interval(seconds("interval", self.interval)?)
            .burst(at_least_one("burst", self.burst.bind(py))? as u64))
    }
}

pub(crate) fn controller(
    capacity: &Bound<'_, PyAny>,
    strategy: &str,
    time_to_live: Option<f64>,
    rate: Option<AdaptiveRate>,
) -> PyResult<BackpressureController> {
    let capacity = at_least_one("capacity", capacity)?;
    let strategy: BackpressureStrategy = strategy.parse().map_err(refused)?;
    let mut builder = BackpressureController::builder(capacity, strategy);
    if let Some(time_to_live) = time_to_live {
        builder = builder.time_to_live(seconds("time_to_live", time_to_live)?);
    }
    if let Some(rate) = rate {
        builder = builder.rate(Python::attach(|py| rate.controller(py))?);
    }
    builder.try_build().map_err(refused)
}

/// What a bound by weight needs: both of them, or neither.
pub(crate) fn bound_by_weight(
    max_weight: Option<&Bound<'_, PyAny>>,
    weigh: Option<Py<PyAny>>,
) -> PyResult<Option<(usize, Weigher)>> {
    match (max_weight, weigh) {
        (None, None) => Ok(None),
        (Some(most), Some(weigh)) => Ok(Some((at_least_one("max_weight", most)?, Weigher(weigh)))),
        (Some(most), None) => Err(PyValueError::new_err(format!(
            "max_weight is {most}, but nothing weighs: give weigh as well"
        ))),
        (None, Some(_)) => Err(PyValueError::new_err(
            "max_weight is None, but must be at least 1, since there is weigh",
        )),
    }
}

/// A function that gives an item's weight.
pub(crate) struct Weigher(Py<PyAny>);

impl Weigher {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// For Python's garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }

    pub(crate) fn weigh(&self, item: &Bound<'_, PyAny>) -> PyResult<usize> {
        let weight = self.0.bind(item.py()).call1((item,))?;
        whole("weight", &weight, 0)
    }
}

pub(crate) fn refused(error: ConfigError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A whole number, at least 1.
pub(crate) fn at_least_one(field: &'static str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    whole(field, value, 1)
}

/// A time to wait at most; not at all, if it is 0.
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) => Ok(Some(timeout)),
        Err(_) => Err(refused(ConfigError::new(
            "timeout",
            seconds,
            "a number of seconds from 0 to 1e19, or None",
        ))),
    }
}

/// 0 is refused by whoever knows that it cannot work, with the same words.
fn seconds(field: &'static str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        refused(ConfigError::new(
            field,
            value,
            "a number of seconds above 0, and below 1e19",
        ))
    })
}

/// Python's numbers have no bounds: one that is too small or too large is a wrong value, not another type.
fn whole(field: &'static str, value: &Bound<'_, PyAny>, least: usize) -> PyResult<usize> {
    let index = value.call_method0("__index__").map_err(|_| {
        let kind = value.get_type();
        PyTypeError::new_err(format!("{field} is {value}, of {kind}, but must be an int"))
    })?;
    let expected = match index.extract::<usize>() {
        Ok(number) if number >= least => return Ok(number),
        Err(_) if index.gt(least)? => format!("at most {}", usize::MAX),
        _ => format!("at least {least}"),
    };
    Err(refused(ConfigError::new(field, index, expected)))
}
