use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use pyo3::{PyTraverseError, PyVisit, exceptions::PyTimeoutError, prelude::*, types::PyTuple};
use tokio::sync::Notify;
use tower_backpressure::stream::{self, Displaced, SendError};

use crate::{
    Common, Item,
    config::{self, Weigher},
    errors,
    wait::{Budget, Timed, block_on, may_block},
};

/// A producer's end of a stream. See `_native.pyi`.
#[pyclass(frozen, generic, weakref, module = "tower_backpressure")]
pub(crate) struct Sender {
    /// `None` once it is closed. What is sending by then has its own share of it.
    end: Mutex<Option<Arc<stream::Sender<Item>>>>,
    closing: Notify,
    common: Arc<Common>,
    /// Each sender has a reference of its own: the garbage collector counts them.
    weigher: Mutex<Weighing>,
    budget: Budget,
}

/// By what a sender's items are weighed.
enum Weighing {
    Nothing,
    By(Weigher),
    /// The garbage collector has taken the weigher: nobody can reach this sender but a finalizer.
    Gone,
}

impl Sender {
    pub(crate) fn new(
        end: stream::Sender<Item>,
        common: Arc<Common>,
        weigher: Option<Weigher>,
    ) -> Self {
        Self::with(
            Some(Arc::new(end)),
            common,
            weigher.map_or(Weighing::Nothing, Weighing::By),
        )
    }

    fn with(
        end: Option<Arc<stream::Sender<Item>>>,
        common: Arc<Common>,
        weighing: Weighing,
    ) -> Self {
        Self {
            end: Mutex::new(end),
            closing: Notify::new(),
            common,
            weigher: Mutex::new(weighing),
            budget: Budget::new(),
        }
    }

    /// A share of the weigher, which is not called under the lock.
    fn weighing(&self, py: Python<'_>) -> Weighing {
        match &*self.weigher.lock().unwrap_or_else(PoisonError::into_inner) {
            Weighing::Nothing => Weighing::Nothing,
            Weighing::By(weigher) => Weighing::By(weigher.clone_ref(py)),
            Weighing::Gone => Weighing::Gone,
        }
    }

    fn end(&self) -> Option<Arc<stream::Sender<Item>>> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.clone()
    }

    /// What to send with, and the item as it is sent.
    fn ready(
        &self,
        py: Python<'_>,
        object: Py<PyAny>,
    ) -> PyResult<(Arc<stream::Sender<Item>>, Item)> {
        self.common.birth.check()?;
        let Some(end) = self.end() else {
            return Err(errors::sender_closed(py, object));
        };
        let weight = match self.weighing(py) {
            Weighing::Nothing => 0,
            Weighing::By(weigher) => weigher.weigh(object.bind(py))?,
            Weighing::Gone => return Err(errors::sender_closed(py, object)),
        };
        Ok((end, Item { object, weight }))
    }
}

#[pymethods]
impl Sender {
    async fn send(&self, item: Py<PyAny>) -> PyResult<Py<PyTuple>> {
        self.budget.spend().await;
        let (end, item) = Python::attach(|py| self.ready(py, item))?;
        let sent = Timed::new(self.common.timed, end.send(item)).await;
        Python::attach(|py| answer(py, sent))
    }

    fn send_nowait(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<Py<PyTuple>> {
        let (end, item) = self.ready(py, item)?;
        answer(py, end.try_send(item))
    }

    #[pyo3(signature = (item, timeout = None))]
    fn blocking_send(
        &self,
        py: Python<'_>,
        item: Py<PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyTuple>> {
        let timeout = config::timeout(timeout)?;
        may_block(py, "blocking_send", "`await sender.send(item)`")?;
        let (end, item) = self.ready(py, item)?;
        let sending = Timed::new(self.common.timed, end.send(item));
        match block_on(py, timeout, sending)? {
            Some(sent) => answer(py, sent),
            None => Err(PyTimeoutError::new_err("not sent: the time was up")),
        }
    }

    async fn wait_closed(&self) -> PyResult<()> {
        self.common.birth.check()?;
        let closed = self.closing.notified();
        if let Some(end) = self.end() {
            // Both, since this holds a share of the sender: to wait for the reader alone would keep the stream from its end.
            let (mut closed, mut left) = (pin!(closed), pin!(end.closed()));
            poll_fn(|cx| match closed.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => left.as_mut().poll(cx),
            })
            .await;
        }
        Ok(())
    }

    #[getter]
    fn is_closed(&self) -> PyResult<bool> {
        self.common.birth.check()?;
        Ok(self.end().is_none_or(|end| end.is_closed()))
    }

    #[pyo3(name = "clone")]
    fn another(&self, py: Python<'_>) -> PyResult<Self> {
        self.common.birth.check()?;
        let end = self.end().map(|end| Arc::new(stream::Sender::clone(&end)));
        let common = Arc::clone(&self.common);
        Ok(Self::with(end, common, self.weighing(py)))
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.common.statistics(py)
    }

    fn close(&self) {
        let end = {
            let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
            end.take()
        };
        // Not under the lock: it wakes the reader, which runs Python code.
        drop(end);
        self.closing.notify_waiters();
    }

    async fn aclose(&self) {
        self.close();
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyTuple>) {
        self.close();
    }

    async fn __aenter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    async fn __aexit__(&self, _raised: Py<PyTuple>) {
        self.close();
    }

    fn __repr__(&self) -> String {
        self.common.describe("Sender")
    }

    /// A weigher may well hold the sender that holds it. Of the items in the stream the garbage collector sees nothing.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Nobody holds the lock while Python code runs, and the collector runs with the GIL.
        match self.weigher.try_lock().as_deref() {
            Ok(Weighing::By(weigher)) => weigher.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let weighing = {
            let mut weigher = self.weigher.lock().unwrap_or_else(PoisonError::into_inner);
            match &*weigher {
                Weighing::Nothing => Weighing::Nothing,
                _ => std::mem::replace(&mut *weigher, Weighing::Gone),
            }
        };
        // Not under the lock: it may run Python code.
        drop(weighing);
    }
}

/// What was displaced, oldest first.
fn answer(py: Python<'_>, sent: Result<Displaced<Item>, SendError<Item>>) -> PyResult<Py<PyTuple>> {
    match sent {
        Ok(displaced) if displaced.is_empty() => Ok(PyTuple::empty(py).unbind()),
        Ok(displaced) => {
            let items: Vec<_> = displaced.into_iter().map(|item| item.object).collect();
            Ok(PyTuple::new(py, items)?.unbind())
        }
        Err(error) => Err(errors::not_sent(py, error)),
    }
}
