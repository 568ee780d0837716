use std::{
    future::{Future, poll_fn},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use pyo3::{
    exceptions::{PyStopAsyncIteration, PyStopIteration, PyTimeoutError},
    intern,
    prelude::*,
    types::{PyList, PyTuple},
};
use tokio::sync::Semaphore;
use tower_backpressure::stream::{BoundedStream, Overflow};

use crate::{
    Common, Item, config, errors,
    wait::{Budget, block_on, may_block},
};

/// The reader's end of a stream. See `_native.pyi`.
///
/// A [`BoundedStream`] has one reader. Here several tasks and threads may read: they take turns, and who has the turn waits
/// for an item while the others wait for the turn.
#[pyclass(frozen, generic, weakref, module = "tower_backpressure")]
pub(crate) struct BoundedDSpyStream {
    place: Mutex<Place>,
    /// One permit, closed when the reader has left.
    turn: Semaphore,
    common: Arc<Common>,
    budget: Budget,
}

/// Where the stream is. It is polled outside of its place, for polling it wakes senders: that runs Python code, which may well
/// use this very stream.
enum Place {
    Here(BoundedStream<Item>),
    /// Whoever has the turn polls it, and brings it back if it still has a place then.
    Polled,
    /// The reader has left.
    Left,
}

/// What a reader gets.
enum Received<T> {
    Items(T),
    Ended(Option<Overflow>),
}

impl BoundedDSpyStream {
    pub(crate) fn new(stream: BoundedStream<Item>, common: Arc<Common>) -> Self {
        Self {
            place: Mutex::new(Place::Here(stream)),
            turn: Semaphore::new(1),
            common,
            budget: Budget::new(),
        }
    }

    /// Waits for the turn, and then for what `poll` waits for: nothing, when the stream has ended.
    ///
    /// What is received is received in the step that makes this future ready. Dropping it before loses nothing.
    async fn receive_with<T>(
        &self,
        mut poll: impl FnMut(&mut BoundedStream<Item>, &mut Context<'_>) -> Poll<Option<T>>,
    ) -> Received<T> {
        let Ok(_turn) = self.turn.acquire().await else {
            return Received::Ended(None);
        };
        poll_fn(|cx| self.poll_with(|stream| poll(stream, cx))).await
    }

    /// To be called by who has the turn.
    fn poll_with<T>(
        &self,
        poll: impl FnOnce(&mut BoundedStream<Item>) -> Poll<Option<T>>,
    ) -> Poll<Received<T>> {
        let mut stream = {
            let mut place = self.place();
            match std::mem::replace(&mut *place, Place::Polled) {
                Place::Here(stream) => stream,
                Place::Polled => unreachable!("there is one turn"),
                Place::Left => {
                    *place = Place::Left;
                    return Poll::Ready(Received::Ended(None));
                }
            }
        };
        let received = match poll(&mut stream) {
            Poll::Ready(Some(items)) => Poll::Ready(Received::Items(items)),
            Poll::Ready(None) => Poll::Ready(Received::Ended(stream.overflow())),
            Poll::Pending => Poll::Pending,
        };
        let mut place = self.place();
        if let Place::Polled = *place {
            *place = Place::Here(stream);
            return received;
        }
        drop(place);
        // The reader has left meanwhile, and nobody will wake who waits.
        drop(stream);
        match received {
            Poll::Pending => Poll::Ready(Received::Ended(None)),
            received => received,
        }
    }

    async fn receive_one(&self) -> Received<Item> {
        self.receive_with(|stream, cx| stream.poll_receive(cx))
            .await
    }

    fn leave(&self) {
        self.turn.close();
        let place = std::mem::replace(&mut *self.place(), Place::Left);
        if let Place::Here(mut stream) = place {
            // Wakes who waits to receive, which dropping alone does not.
            stream.close();
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl BoundedDSpyStream {
    async fn receive(&self) -> PyResult<Py<PyAny>> {
        self.common.birth.check()?;
        self.budget.spend().await;
        let received = self.receive_one().await;
        Python::attach(|py| received.or(py, errors::ended))
    }

    async fn receive_many(&self, limit: Py<PyAny>) -> PyResult<Py<PyList>> {
        self.common.birth.check()?;
        let limit = Python::attach(|py| config::at_least_one("limit", limit.bind(py)))?;
        self.budget.spend().await;
        let received = self
            .receive_with(|stream, cx| {
                let mut items = Vec::new();
                let count = stream.poll_receive_many(cx, &mut items, limit);
                count.map(|count| (count > 0).then_some(items))
            })
            .await;
        Python::attach(|py| {
            let items = match received {
                Received::Items(items) => items,
                Received::Ended(None) => Vec::new(),
                Received::Ended(Some(overflow)) => return Err(errors::overflowed(py, overflow)),
            };
            let objects = items.into_iter().map(|item| item.object);
            Ok(PyList::new(py, objects.collect::<Vec<_>>())?.unbind())
        })
    }

    fn receive_nowait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.common.birth.check()?;
        let mut cx = Context::from_waker(Waker::noop());
        let mut receiving = std::pin::pin!(self.receive_one());
        match receiving.as_mut().poll(&mut cx) {
            Poll::Ready(received) => received.or(py, errors::ended),
            Poll::Pending => Err(errors::empty(py)),
        }
    }

    #[pyo3(signature = (timeout = None))]
    fn blocking_receive(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.common.birth.check()?;
        let timeout = config::timeout(timeout)?;
        may_block(py, "blocking_receive", "`await stream.receive()`")?;
        match block_on(py, timeout, self.receive_one())? {
            Some(received) => received.or(py, errors::ended),
            None => Err(PyTimeoutError::new_err("nothing received: the time was up")),
        }
    }

    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.call_method0(intern!(this.py(), "_next"))
    }

    /// Apart from `__anext__`, since that cannot be an `async fn`.
    async fn _next(&self) -> PyResult<Py<PyAny>> {
        self.common.birth.check()?;
        self.budget.spend().await;
        let received = self.receive_one().await;
        Python::attach(|py| received.or(py, |_| PyStopAsyncIteration::new_err(())))
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.common.birth.check()?;
        may_block(py, "`for`", "`async for`")?;
        match block_on(py, None, self.receive_one())? {
            Some(received) => received.or(py, |_| PyStopIteration::new_err(())),
            None => unreachable!("there is no timeout"),
        }
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.common.statistics(py)
    }

    fn close(&self) {
        self.leave();
    }

    async fn aclose(&self) {
        self.leave();
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyTuple>) {
        self.leave();
    }

    async fn __aenter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    async fn __aexit__(&self, _raised: Py<PyTuple>) {
        self.leave();
    }

    fn __repr__(&self) -> String {
        self.common.describe("BoundedDSpyStream")
    }
}

impl Received<Item> {
    /// The item, or what there is at the end.
    fn or(self, py: Python<'_>, end: impl FnOnce(Python<'_>) -> PyErr) -> PyResult<Py<PyAny>> {
        match self {
            Self::Items(item) => Ok(item.object),
            Self::Ended(None) => Err(end(py)),
            Self::Ended(Some(overflow)) => Err(errors::overflowed(py, overflow)),
        }
    }
}
