//! The arguments `blocking` and `timeout` of `acquire`, as the standard library's locks take them.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// The longest timeout of the standard library's locks, in seconds (`threading.TIMEOUT_MAX`).
const MOST: f64 = 9_223_372_036.0;

/// How long a lock is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until then, or for ever.
    Until(Option<Instant>),
}

/// What `acquire(blocking, timeout)` means.
pub(crate) fn patience(blocking: bool, timeout: f64) -> PyResult<Patience> {
    if !blocking {
        return if timeout == -1.0 {
            Ok(Patience::None)
        } else {
            Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"))
        };
    }
    if timeout == -1.0 {
        return Ok(Patience::Until(None));
    }
    if timeout.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    if timeout < 0.0 {
        return Err(PyValueError::new_err("timeout value must be a non-negative number"));
    }
    if timeout > MOST {
        return Err(PyOverflowError::new_err("timeout value is too large"));
    }
    if timeout == 0.0 {
        return Ok(Patience::None);
    }
    Ok(Patience::Until(Instant::now().checked_add(Duration::from_secs_f64(timeout))))
}
