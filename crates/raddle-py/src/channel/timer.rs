//! Moments that can be waited for among other things.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use raddle_core::prim::Mutex;

/// One moment, or one after the other.
#[pyclass(frozen, weakref, subclass, name = "TimerCore", module = "raddle._raddle")]
pub(crate) struct PyTimer {
    /// The next moment. `None`: there is none any more.
    at: Mutex<Option<Instant>>,
    every: Option<Duration>,
}

#[pymethods]
impl PyTimer {
    #[new]
    fn new(seconds: &Bound<'_, PyAny>, repeats: bool) -> PyResult<Self> {
        let wrong = || PyTypeError::new_err("seconds must be a number");
        let seconds: f64 = seconds.extract().map_err(|_| wrong())?;
        let time = Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err(format!("seconds must be a number from 0 on, not {seconds}")))?;
        if repeats && time.is_zero() {
            return Err(PyValueError::new_err("seconds must be more than 0 between one moment and the next"));
        }
        Ok(Self { at: Mutex::new(Instant::now().checked_add(time)), every: repeats.then_some(time) })
    }

    /// Seconds until the next moment; `None`: there is none any more.
    #[getter]
    fn remaining(&self) -> Option<f64> {
        self.next().map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64())
    }
}

/// Of one second.
const NANOS: u128 = 1_000_000_000;

impl PyTimer {
    /// When it is due. `None`: never again.
    pub(crate) fn next(&self) -> Option<Instant> {
        *self.at.lock()
    }

    /// Takes the moment, if it has come: how many seconds ago it was. Moments that were missed are left out.
    pub(crate) fn take(&self) -> Option<f64> {
        let mut at = self.at.lock();
        let due = (*at)?;
        let late = Instant::now().checked_duration_since(due)?;
        *at = self.every.and_then(|every| {
            let since = late.as_nanos() % every.as_nanos();
            let since = Duration::new((since / NANOS) as u64, (since % NANOS) as u32);
            (due + late - since).checked_add(every)
        });
        Some(late.as_secs_f64())
    }
}
