//! `raddle.threading.Event`.

use pyo3::prelude::*;
use raddle_core::park::Patience;
use raddle_core::sync::Event;
use std::sync::OnceLock;

use super::until_done;
use crate::gate::{self, Timeout};
use crate::shortcut::{self, shortcuts, truth};
use crate::wait_graph::What;

/// The flag of an event.
#[pyclass(frozen, weakref, subclass, name = "EventCore", module = "raddle._raddle")]
pub(crate) struct PyEvent {
    event: Event,
}

impl PyEvent {
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }
}

#[pymethods]
impl PyEvent {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { event: Event::new() }
    }

    fn is_set(&self) -> bool {
        self.event.is_set()
    }

    fn set(&self) {
        self.event.set();
    }

    fn clear(&self) {
        self.event.clear();
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let (py, event) = (slf.py(), &slf.get().event);
        if event.is_set() {
            return Ok(true);
        }
        let timeout = timeout.map_or(Ok(Timeout::FOREVER), |timeout| timeout.extract())?;
        if timeout.is_over() {
            return Ok(event.is_set());
        }
        let what = What::Any("an Event", slf.as_ptr().addr());
        let (attempt, leave) = (|before: Option<&_>| event.wait(before), |waiter: &_| _ = event.leave(waiter));
        Ok(until_done(py, what, timeout.deadline(), attempt, leave)?.is_some())
    }

    /// As `wait`, for an event that another thread is about to set: it looks for a moment first, which spares that thread a system call
    /// and this one a sleep.
    #[pyo3(signature = (timeout = None))]
    fn _wait_soon(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        static PLACE: OnceLock<Patience> = OnceLock::new();
        let event = &slf.get().event;
        if !event.is_set() {
            let patience = PLACE.get_or_init(Patience::new);
            gate::detached(slf.py(), || patience.look(|| event.is_set()))?;
        }
        Self::wait(slf, timeout)
    }
}

shortcuts! {
    IsSet: PyEvent, c"is_set", |py, this, _| Some(truth(py, this.get().event.is_set()));
    Set: PyEvent, c"set", |py, this, _| {
        this.get().event.set();
        Some(py.None())
    };
    Clear: PyEvent, c"clear", |py, this, _| {
        this.get().event.clear();
        Some(py.None())
    };
    Wait: PyEvent, c"wait", |py, this, arguments| match arguments {
        [] => this.get().event.is_set().then(|| truth(py, true)),
        _ => None,
    };
}

/// Opens the shortcuts of this file.
pub(crate) fn open_shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut::open::<IsSet>(py)?;
    shortcut::open::<Set>(py)?;
    shortcut::open::<Clear>(py)?;
    shortcut::open::<Wait>(py)
}
