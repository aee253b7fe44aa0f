//! `raddle.queue`'s queues. What a queue is stands in `raddle_core::channel`.
//!
//! # Opened queues
//!
//! The standard library's queues let their users in: subclasses replace `_put` and `_get`, others hold `mutex` and change
//! `queue`. For them a queue is *opened*: what is in it moves to an object in Python that works as the standard library's queue
//! does, and every call goes there from then on.

use std::sync::Arc;
use std::time::Instant;

use pyo3::Borrowed;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use raddle_core::channel::{Get, Join, Order, Put, Queue};
use raddle_core::park::{Attempt, Waiter};

use crate::attached::{Attached, ByGil};
use crate::errors;
use crate::gate::{Timeout, Truth};
use crate::shortcut::{self, plain_truth, shortcuts, truth};
use crate::sync::until_done;
use crate::wait_graph::What;

type Items = Queue<Py<PyAny>, ByGil>;

/// A queue that can be opened.
#[pyclass(frozen, weakref, subclass, dict, name = "QueueCore", module = "raddle._raddle")]
pub(crate) struct PyQueue {
    items: Attached<Items>,
}

fn capacity_of(maxsize: isize) -> Option<usize> {
    usize::try_from(maxsize).ok().filter(|size| *size > 0)
}

/// The timeout of `put` and `get`, which is refused as the standard library refuses it: before anything is done.
fn timeout_of(block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Timeout> {
    let Some(timeout) = timeout.filter(|_| block) else { return Ok(Timeout::FOREVER) };
    if timeout.lt(0)? {
        return Err(PyValueError::new_err("'timeout' must be a non-negative number"));
    }
    timeout.extract()
}

/// What is left of a timeout when a queue is opened while somebody waits in it.
struct Left<'a, 'py>(Option<(&'a Bound<'py, PyAny>, Instant)>);

impl<'a, 'py> Left<'a, 'py> {
    fn of(timeout: Option<&'a Bound<'py, PyAny>>) -> Self {
        Self(timeout.map(|timeout| (timeout, Instant::now())))
    }

    fn now(&self) -> PyResult<Option<f64>> {
        let Some((timeout, since)) = &self.0 else { return Ok(None) };
        let seconds: f64 = timeout.extract()?;
        Ok(Some(if seconds < 0.0 { seconds } else { (seconds - since.elapsed().as_secs_f64()).max(0.0) }))
    }
}

/// Puts, waiting if need be. `Some`: the queue has moved.
fn put(
    py: Python<'_>,
    items: &Items,
    address: usize,
    item: Py<PyAny>,
    block: bool,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Py<PyAny>>> {
    let timeout = timeout_of(block && timeout.is_some() && items.capacity().is_some(), timeout)?;
    match items.put(item, false, None) {
        Put::Done => Ok(None),
        Put::Full(_) if !block => Err(errors::queue_is_full(py)),
        Put::Full(item) => put_slow(py, items, address, item, timeout),
        Put::Shut(_) => Err(errors::queue_is_shut(py)),
        Put::Moved(item) | Put::Wait(_, item) => Ok(Some(item)),
    }
}

#[cold]
fn put_slow(
    py: Python<'_>,
    items: &Items,
    address: usize,
    item: Py<PyAny>,
    timeout: Timeout,
) -> PyResult<Option<Py<PyAny>>> {
    if timeout.is_over() {
        return Err(errors::queue_is_full(py));
    }
    let mut item = Some(item);
    let attempt = |before: Option<&Arc<Waiter>>| match items.put(
        item.take().expect("an attempt that waits gives it back"),
        true,
        before,
    ) {
        Put::Done => Attempt::Done(Ok(None)),
        Put::Wait(waiter, back) => {
            item = Some(back);
            Attempt::Wait(waiter)
        }
        Put::Shut(_) => Attempt::Done(Err(errors::queue_is_shut(py))),
        Put::Moved(item) | Put::Full(item) => Attempt::Done(Ok(Some(item))),
    };
    let what = What::Any("room in a Queue", address);
    until_done(py, what, timeout.deadline(), attempt, |waiter| items.leave_put(waiter))?
        .unwrap_or_else(|| Err(errors::queue_is_full(py)))
}

/// Gets, waiting if need be. `None`: the queue has moved.
fn get(
    py: Python<'_>,
    items: &Items,
    address: usize,
    block: bool,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Py<PyAny>>> {
    let timeout = timeout_of(block, timeout)?;
    match items.get(false, None) {
        Get::Item(item) => Ok(Some(item)),
        Get::Empty if !block => Err(errors::queue_is_empty(py)),
        Get::Empty => get_slow(py, items, address, timeout),
        Get::Shut => Err(errors::queue_is_shut(py)),
        Get::Moved | Get::Wait(_) => Ok(None),
    }
}

#[cold]
fn get_slow(py: Python<'_>, items: &Items, address: usize, timeout: Timeout) -> PyResult<Option<Py<PyAny>>> {
    if timeout.is_over() {
        return Err(errors::queue_is_empty(py));
    }
    let attempt = |before: Option<&Arc<Waiter>>| match items.get(true, before) {
        Get::Item(item) => Attempt::Done(Ok(Some(item))),
        Get::Wait(waiter) => Attempt::Wait(waiter),
        Get::Shut => Attempt::Done(Err(errors::queue_is_shut(py))),
        Get::Moved | Get::Empty => Attempt::Done(Ok(None)),
    };
    let what = What::Any("an item in a Queue", address);
    until_done(py, what, timeout.deadline(), attempt, |waiter| items.leave_get(waiter))?
        .unwrap_or_else(|| Err(errors::queue_is_empty(py)))
}

/// The object that works in place of a queue that was opened.
fn opened<'py>(slf: &Bound<'py, PyQueue>) -> PyResult<Bound<'py, PyAny>> {
    slf.getattr(intern!(slf.py(), "_opened"))
}

#[pymethods]
impl PyQueue {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(cls: &Bound<'_, PyType>, _args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let last_first = cls.getattr(intern!(cls.py(), "_is_lifo"))?.is_truthy()?;
        Ok(Self { items: Attached::new(Queue::guarded(if last_first { Order::Lifo } else { Order::Fifo }, None)) })
    }

    #[pyo3(signature = (item, block = Truth(true), timeout = None))]
    fn put(slf: &Bound<'_, Self>, item: Py<PyAny>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, left) = (slf.py(), Left::of(timeout));
        match put(py, slf.get().items.of(py), slf.as_ptr().addr(), item, block.0, timeout)? {
            None => Ok(()),
            Some(item) => opened(slf)?.call_method1(intern!(py, "put"), (item, block.0, left.now()?)).map(drop),
        }
    }

    #[pyo3(signature = (block = Truth(true), timeout = None))]
    fn get(slf: &Bound<'_, Self>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let (py, left) = (slf.py(), Left::of(timeout));
        match get(py, slf.get().items.of(py), slf.as_ptr().addr(), block.0, timeout)? {
            Some(item) => Ok(item),
            None => opened(slf)?.call_method1(intern!(py, "get"), (block.0, left.now()?)).map(Bound::unbind),
        }
    }

    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().items.of(slf.py()).task_done() {
            Some(true) => Ok(()),
            Some(false) => opened(slf)?.call_method0(intern!(slf.py(), "task_done")).map(drop),
            None => Err(PyValueError::new_err("task_done() called too many times")),
        }
    }

    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, items) = (slf.py(), slf.get().items.of(slf.py()));
        let attempt = |_: Option<&Arc<Waiter>>| match items.join() {
            Join::Done => Attempt::Done(true),
            Join::Wait(waiter) => Attempt::Wait(waiter),
            Join::Moved => Attempt::Done(false),
        };
        let what = What::Any("the end of all work in a Queue", slf.as_ptr().addr());
        if until_done(py, what, None, attempt, |waiter| items.leave_join(waiter))? == Some(true) {
            return Ok(());
        }
        opened(slf)?.call_method0(intern!(py, "join")).map(drop)
    }

    #[pyo3(signature = (immediate = false))]
    fn shutdown(slf: &Bound<'_, Self>, immediate: bool) -> PyResult<()> {
        match slf.get().items.of(slf.py()).shut(immediate) {
            Some(items) => {
                drop(items);
                Ok(())
            }
            None => opened(slf)?.call_method1(intern!(slf.py(), "shutdown"), (immediate,)).map(drop),
        }
    }

    /// How many items are in it, if it is not opened.
    fn _length(&self, py: Python<'_>) -> usize {
        self.items.of(py).len()
    }

    #[getter(_capacity)]
    fn get_capacity(&self, py: Python<'_>) -> usize {
        self.items.of(py).capacity().unwrap_or(0)
    }

    #[setter(_capacity)]
    fn set_capacity(&self, py: Python<'_>, maxsize: isize) {
        self.items.of(py).set_capacity(capacity_of(maxsize));
    }

    #[getter]
    fn _unfinished(&self, py: Python<'_>) -> usize {
        self.items.of(py).unfinished()
    }

    #[getter]
    fn _is_shut(&self, py: Python<'_>) -> bool {
        self.items.of(py).is_shut()
    }

    #[getter]
    fn _is_open(&self, py: Python<'_>) -> bool {
        self.items.of(py).has_moved()
    }

    /// Takes out all items and the number of unfinished ones; `None` if it was done before.
    fn _move_out<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyList>, usize)>> {
        match self.items.of(py).move_out() {
            None => Ok(None),
            Some((items, unfinished)) => Ok(Some((PyList::new(py, items)?, unfinished))),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.items.visited(&visit).peek(|item| visit.call(item))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.items.of(py).take_all());
    }
}

/// A queue without a bound, as `queue.SimpleQueue`.
#[pyclass(frozen, weakref, subclass, name = "SimpleQueue", module = "raddle.queue")]
pub(crate) struct PySimpleQueue {
    items: Attached<Items>,
}

#[pymethods]
impl PySimpleQueue {
    #[new]
    fn new() -> Self {
        Self { items: Attached::new(Queue::guarded(Order::Fifo, None)) }
    }

    #[pyo3(signature = (item, block = Truth(true), timeout = None))]
    fn put(&self, py: Python<'_>, item: Py<PyAny>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) {
        _ = (block, timeout);
        _ = self.items.of(py).put(item, false, None);
    }

    fn put_nowait(&self, py: Python<'_>, item: Py<PyAny>) {
        _ = self.items.of(py).put(item, false, None);
    }

    #[pyo3(signature = (block = Truth(true), timeout = None))]
    fn get(slf: &Bound<'_, Self>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let (py, items) = (slf.py(), slf.get().items.of(slf.py()));
        let timeout = timeout_of(block.0, timeout)?;
        match items.get(false, None) {
            Get::Item(item) => Ok(item),
            _ if !block.0 => Err(errors::queue_is_empty(py)),
            _ => get_slow(py, items, slf.as_ptr().addr(), timeout)?.ok_or_else(|| errors::queue_is_empty(py)),
        }
    }

    fn get_nowait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.items.of(py).get(false, None) {
            Get::Item(item) => Ok(item),
            _ => Err(errors::queue_is_empty(py)),
        }
    }

    fn qsize(&self, py: Python<'_>) -> usize {
        self.items.of(py).len()
    }

    fn empty(&self, py: Python<'_>) -> bool {
        self.items.of(py).is_empty()
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        cls.py().import("types")?.call_method1("GenericAlias", (cls, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.items.visited(&visit).peek(|item| visit.call(item))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.items.of(py).take_all());
    }
}

/// `(block, timeout)` of `put` and `get`, where nothing about them is special: they do not matter if nobody has to wait.
fn is_plain(terms: &[Borrowed<'_, '_, PyAny>]) -> bool {
    match terms {
        [] => true,
        [block] => plain_truth(*block).is_some(),
        [block, timeout] => plain_truth(*block).is_some() && timeout.is_none(),
        _ => false,
    }
}

/// Puts, if there is room.
#[inline]
fn put_at_once(py: Python<'_>, items: &Attached<Items>, arguments: &[Borrowed<'_, '_, PyAny>]) -> Option<Py<PyAny>> {
    let (item, terms) = arguments.split_first()?;
    if !is_plain(terms) {
        return None;
    }
    match items.of(py).try_put((**item).clone().unbind()) {
        Ok(()) => Some(py.None()),
        Err(item) => {
            item.drop_ref(py); // the caller has a reference, too
            None
        }
    }
}

/// Gets, if there is something.
#[inline]
fn get_at_once(py: Python<'_>, items: &Attached<Items>, arguments: &[Borrowed<'_, '_, PyAny>]) -> Option<Py<PyAny>> {
    if !is_plain(arguments) {
        return None;
    }
    items.of(py).try_get()
}

shortcuts! {
    QueuePut: PyQueue, c"put", |py, this, arguments| put_at_once(py, &this.get().items, arguments);
    QueueGet: PyQueue, c"get", |py, this, arguments| get_at_once(py, &this.get().items, arguments);
    SimplePut: PySimpleQueue, c"put", |py, this, arguments| put_at_once(py, &this.get().items, arguments);
    SimplePutNowait: PySimpleQueue, c"put_nowait", |py, this, arguments| match arguments {
        [item] => put_at_once(py, &this.get().items, &[*item]),
        _ => None,
    };
    SimpleGet: PySimpleQueue, c"get", |py, this, arguments| get_at_once(py, &this.get().items, arguments);
    SimpleSize: PySimpleQueue, c"qsize", |py, this, _| {
        this.get().items.of(py).len().into_pyobject(py).ok().map(|size| size.into_any().unbind())
    };
    SimpleEmpty: PySimpleQueue, c"empty", |py, this, _| Some(truth(py, this.get().items.of(py).is_empty()));
    SimpleGetNowait: PySimpleQueue, c"get_nowait", |py, this, _| get_at_once(py, &this.get().items, &[]);
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<QueuePut>(py)?;
    shortcut::open::<QueueGet>(py)?;
    shortcut::open::<SimplePut>(py)?;
    shortcut::open::<SimplePutNowait>(py)?;
    shortcut::open::<SimpleGet>(py)?;
    shortcut::open::<SimpleGetNowait>(py)?;
    shortcut::open::<SimpleSize>(py)?;
    shortcut::open::<SimpleEmpty>(py)
}
