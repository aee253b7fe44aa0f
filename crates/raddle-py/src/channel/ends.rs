//! The two sides of a channel, as Python holds them.

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use raddle_core::channel::{Received, Sent};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

use super::choice::{Choice, choose};
use super::pipe::{Kind, Mark, PyPipe};
use crate::errors;
use crate::gate::{self, Timeout};
use crate::shortcut::{self, shortcuts};

/// A sender. Any number of threads may use one; it counts once.
#[pyclass(frozen, weakref, subclass, name = "SenderCore", module = "raddle._raddle")]
pub(crate) struct PySender {
    pipe: Py<PyPipe>,
    is_closed: AtomicBool,
    /// How many wait through it. Changed by attached threads.
    users: AtomicUsize,
}

/// A receiver. Any number of threads may use one; it counts once.
#[pyclass(frozen, weakref, subclass, name = "ReceiverCore", module = "raddle._raddle")]
pub(crate) struct PyReceiver {
    pipe: Py<PyPipe>,
    is_closed: AtomicBool,
    /// How many wait through it. Changed by attached threads.
    users: AtomicUsize,
    mark: Mutex<Mark>,
}

fn timeout_of(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Timeout> {
    timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())
}

impl PySender {
    /// The channel; `None`: this end was closed.
    #[inline]
    pub(crate) fn pipe(&self) -> Option<&PyPipe> {
        (!self.is_closed.load(Acquire)).then(|| self.pipe.get())
    }

    pub(crate) fn anyway(&self) -> &PyPipe {
        self.pipe.get()
    }

    /// Who waits through it, for whoever closes it meanwhile.
    pub(crate) fn users(&self) -> &AtomicUsize {
        &self.users
    }

    /// Why it cannot send.
    pub(crate) fn refusal(&self, source: &Bound<'_, PyAny>) -> PyErr {
        let what = if self.is_closed.load(Acquire) {
            "this sender was closed"
        } else if self.anyway().ends(source.py()).1 == 0 {
            "there is no receiver any more"
        } else {
            "the one item that it takes was sent"
        };
        errors::channel_is_closed(what, source)
    }
}

impl Drop for PySender {
    fn drop(&mut self) {
        // It is attached: Python objects are dropped so.
        gate::attached(|py| {
            self.shut(py);
            Ok(())
        });
    }
}

impl PySender {
    fn count_one_more(slf: &Bound<'_, Self>) -> PyResult<Py<PyPipe>> {
        let me = slf.get();
        match me.pipe() {
            Some(pipe) if pipe.add_sender(slf.py()) => Ok(me.pipe.clone_ref(slf.py())),
            _ => Err(me.refusal(slf.as_any())),
        }
    }

    fn shut(&self, py: Python<'_>) {
        if !self.is_closed.swap(true, AcqRel) {
            self.pipe.get().drop_sender(py);
            if self.users.load(Acquire) > 0 {
                self.pipe.get().call_senders(py);
            }
        }
    }
}

#[pymethods]
impl PySender {
    /// The first sender of a pipe, which the channel has counted; or one more beside another one. That is counted here, so that whoever is
    /// interrupted has either a sender or none.
    #[new]
    fn new(origin: &Bound<'_, PyAny>) -> PyResult<Self> {
        let pipe = match origin.cast::<Self>() {
            Ok(other) => Self::count_one_more(other)?,
            Err(_) => origin.cast::<PyPipe>()?.clone().unbind(),
        };
        Ok(Self { pipe, is_closed: AtomicBool::new(false), users: AtomicUsize::new(0) })
    }

    /// Puts a value in; waits while there is no room.
    ///
    /// Args:
    ///     value: What to send.
    ///     timeout: Seconds to wait at most; None: as long as it takes; 0: only tries.
    ///
    /// Raises:
    ///     Closed: There is no receiver any more, or this sender was closed.
    ///     TimeoutError: There was no room in time. The value was not sent.
    #[pyo3(signature = (value, timeout = None))]
    fn send(slf: &Bound<'_, Self>, value: Py<PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, me) = (slf.py(), slf.get());
        let Some(pipe) = me.pipe() else { return Err(me.refusal(slf.as_any())) };
        let value = match pipe.send(slf.py(), value, None) {
            Sent::Done => return Ok(()),
            Sent::Closed(_) => return Err(me.refusal(slf.as_any())),
            Sent::Full(value) => value,
        };
        let timeout = timeout_of(timeout)?;
        let case = Choice::send(slf.as_any().clone(), me, value);
        match choose(py, &[case], timeout, ("room in a channel", slf.as_ptr().addr()))? {
            Some(_) => Ok(()),
            None => Err(errors::timed_out("nobody took the value in time")),
        }
    }

    /// Sends it, if that can be done at once.
    fn _try(slf: &Bound<'_, Self>, value: Py<PyAny>) -> PyResult<bool> {
        let me = slf.get();
        let Some(pipe) = me.pipe() else { return Err(me.refusal(slf.as_any())) };
        match pipe.send(slf.py(), value, None) {
            Sent::Done => Ok(true),
            Sent::Full(_) => Ok(false),
            Sent::Closed(_) => Err(me.refusal(slf.as_any())),
        }
    }

    /// Closes it, for all who use it. The channel ends with its last sender. Closing again does nothing.
    fn close(&self, py: Python<'_>) {
        self.shut(py);
    }

    #[getter(closed)]
    fn get_closed(&self) -> bool {
        self.is_closed.load(Acquire)
    }

    #[getter]
    fn capacity(&self, py: Python<'_>) -> Option<usize> {
        self.anyway().capacity(py)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.anyway().len(py)
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// How many senders and receivers there are.
    fn _ends(&self, py: Python<'_>) -> (usize, usize) {
        self.anyway().ends(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pipe)
    }
}

impl PyReceiver {
    /// The channel; `None`: this end was closed.
    #[inline]
    pub(crate) fn pipe(&self) -> Option<&PyPipe> {
        (!self.is_closed.load(Acquire)).then(|| self.pipe.get())
    }

    pub(crate) fn anyway(&self) -> &PyPipe {
        self.pipe.get()
    }

    /// Who waits through it, for whoever closes it meanwhile.
    pub(crate) fn users(&self) -> &AtomicUsize {
        &self.users
    }

    /// Receives, where the receiver is.
    #[inline]
    pub(crate) fn attempt(
        &self,
        py: Python<'_>,
        pipe: &PyPipe,
        place: Option<raddle_core::channel::Place<'_>>,
    ) -> Received<Py<PyAny>> {
        match &pipe.kind {
            Kind::Channel(channel) => channel.of(py).recv(place),
            Kind::Broadcast(_) => {
                // It wakes senders, which may run anything: not under the mutex. Its mark never changes.
                let mut mark = *self.mark.lock();
                pipe.recv(py, &mut mark, place)
            }
            Kind::Watch(_) => pipe.recv(py, &mut self.mark.lock(), place),
        }
    }

    /// Why it will receive nothing.
    pub(crate) fn end(&self, source: &Bound<'_, PyAny>) -> PyErr {
        let is_mine = self.is_closed.load(Acquire);
        errors::channel_is_closed(
            if is_mine { "this receiver was closed" } else { "there is no sender any more, and nothing left" },
            source,
        )
    }

    fn shut(&self, py: Python<'_>) {
        if !self.is_closed.swap(true, AcqRel) {
            // What is dropped and who is woken may run anything: not under the mutex.
            let mark = *self.mark.lock();
            self.pipe.get().drop_receiver(py, mark);
            if self.users.load(Acquire) > 0 {
                self.pipe.get().call_receivers(py);
            }
        }
    }

    fn count_one_more(slf: &Bound<'_, Self>) -> PyResult<(Py<PyPipe>, Mark)> {
        let me = slf.get();
        let mark = *me.mark.lock();
        match me.pipe().and_then(|pipe| pipe.copy_receiver(slf.py(), mark)) {
            Some(mark) => Ok((me.pipe.clone_ref(slf.py()), mark)),
            None => Err(me.end(slf.as_any())),
        }
    }

    /// `None`: it is closed, and nothing will come.
    fn next(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let (py, me) = (slf.py(), slf.get());
        let Some(pipe) = me.pipe() else { return Ok(None) };
        match me.attempt(py, pipe, None) {
            Received::Item(value) => return Ok(Some(value)),
            Received::Closed => return Ok(None),
            Received::Lagged(count) => return Err(errors::channel_has_lagged(py, count)),
            Received::Empty => {}
        }
        let timeout = timeout_of(timeout)?;
        match choose(
            py,
            &[Choice::recv(slf.as_any().clone(), me)],
            timeout,
            ("an item in a channel", slf.as_ptr().addr()),
        ) {
            Ok(Some((_, value))) => Ok(Some(value)),
            Ok(None) => Err(errors::timed_out("nothing was sent in time")),
            Err(error) if errors::is_channel_closed(&error, slf.as_any()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for PyReceiver {
    fn drop(&mut self) {
        // It is attached: Python objects are dropped so.
        gate::attached(|py| {
            self.shut(py);
            Ok(())
        });
    }
}

#[pymethods]
impl PyReceiver {
    /// The first receiver of a pipe, which the channel has counted; one more at the place of another one; or a new one of what a sender
    /// broadcasts. These are counted here, so that whoever is interrupted has either a receiver or none.
    #[new]
    fn new(origin: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (pipe, mark) = if let Ok(other) = origin.cast::<Self>() {
            Self::count_one_more(other)?
        } else if let Ok(sender) = origin.cast::<PySender>() {
            let pipe = sender.get().pipe.clone_ref(origin.py());
            let Kind::Broadcast(channel) = &pipe.get().kind else {
                return Err(PyTypeError::new_err("only who broadcasts has subscribers"));
            };
            let mark = Mark(channel.add_receiver());
            (pipe, mark)
        } else {
            (origin.cast::<PyPipe>()?.clone().unbind(), Mark::default())
        };
        Ok(Self { pipe, is_closed: AtomicBool::new(false), users: AtomicUsize::new(0), mark: Mutex::new(mark) })
    }

    /// Takes a value out; waits while there is none.
    ///
    /// Args:
    ///     timeout: Seconds to wait at most; None: as long as it takes; 0: only tries.
    ///
    /// Raises:
    ///     Closed: Nothing is left and there is no sender any more, or this receiver was closed.
    ///     TimeoutError: Nothing came in time.
    ///     Lagged: Values of a broadcast were overwritten before they were received here.
    #[pyo3(signature = (timeout = None))]
    fn recv(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        Self::next(slf, timeout)?.ok_or_else(|| slf.get().end(slf.as_any()))
    }

    /// Receives what is there, or gives this back.
    fn _try(slf: &Bound<'_, Self>, nothing: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let (py, me) = (slf.py(), slf.get());
        let Some(pipe) = me.pipe() else { return Err(me.end(slf.as_any())) };
        match me.attempt(py, pipe, None) {
            Received::Item(value) => Ok(value),
            Received::Empty => Ok(nothing),
            Received::Closed => Err(me.end(slf.as_any())),
            Received::Lagged(count) => Err(errors::channel_has_lagged(py, count)),
        }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::next(slf, None)
    }

    /// Closes it, for all who use it. With the last receiver what is left in the channel is dropped. Closing again does nothing.
    fn close(&self, py: Python<'_>) {
        self.shut(py);
    }

    /// The value of a watch, whether or not it was seen. It counts as seen then.
    fn _latest(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let Kind::Watch(watch) = &self.anyway().kind else { return None };
        let (value, version) = watch.latest(|value| value.clone_ref(py))?;
        self.mark.lock().0 = version;
        Some(value)
    }

    #[getter(closed)]
    fn get_closed(&self) -> bool {
        self.is_closed.load(Acquire)
    }

    #[getter]
    fn capacity(&self, py: Python<'_>) -> Option<usize> {
        self.anyway().capacity(py)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        match &self.anyway().kind {
            Kind::Broadcast(channel) => channel.len_for(self.mark.lock().0),
            _ => self.anyway().len(py),
        }
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// How many senders and receivers there are.
    fn _ends(&self, py: Python<'_>) -> (usize, usize) {
        self.anyway().ends(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pipe)
    }
}

shortcuts! {
    SenderSend: PySender, c"send", |py, this, arguments| {
        let ([value], Some(pipe)) = (arguments, this.get().pipe()) else { return None };
        match pipe.as_channel(py)?.send((**value).clone().unbind(), None) {
            Sent::Done => Some(py.None()),
            Sent::Full(value) | Sent::Closed(value) => {
                value.drop_ref(py); // the caller has a reference, too
                None
            }
        }
    };
    ReceiverRecv: PyReceiver, c"recv", |py, this, arguments| {
        let ([], Some(pipe)) = (arguments, this.get().pipe()) else { return None };
        match pipe.as_channel(py)?.recv(None) {
            Received::Item(value) => Some(value),
            _ => None,
        }
    };
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<SenderSend>(py)?;
    shortcut::open::<ReceiverRecv>(py)
}
