//! What came of a call, from the bytes of its answer to an object or an exception.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use raddle_proc::lane::{Refusal, Reply, flag, kind};
use rustix::process::Signal;

use crate::codec::{self, Entry};
use crate::errors;
use crate::gate;
use crate::parcel;
use crate::process_lane::Shared;

impl Shared {
    /// The value of a reply, or the exception.
    ///
    /// The outer error is a Ctrl-C that came while it was being unpickled: it is the caller's, and the reply can be
    /// read again.
    pub(crate) fn decode(
        &self,
        py: Python<'_>,
        reply: &Reply,
        (items, attempts): (u32, u32),
        label: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyResult<Py<PyAny>>> {
        match self.try_decode(py, reply, (items, attempts), label) {
            // Also what is no answer of this version is the outcome of the call, and of nobody who asks for it.
            Err(error) => unless_interrupted(py, error).map(Err),
            outcome => outcome,
        }
    }

    fn try_decode(
        &self,
        py: Python<'_>,
        reply: &Reply,
        (items, attempts): (u32, u32),
        label: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyResult<Py<PyAny>>> {
        match reply {
            Reply::Lost(loss) => {
                let call = describe(label);
                let call = if items > 1 { format!("a batch of {items} calls of {call}") } else { call };
                Ok(Err(errors::lost(py, &call, loss, attempts, self.config.memory)))
            }
            Reply::Broken(reason) => {
                Ok(Err(errors::refused(&Refusal::Broken(reason.clone()), self.config.broken.bind(py))))
            }
            Reply::Answer { kind: kind::VALUE, flags, payload, .. } => {
                let value = if flags & flag::FLAT != 0 {
                    codec::unflatten(py, payload)
                } else if flags & flag::LIST != 0 {
                    return self.decode_batch(py, *flags, payload, label).map(Ok);
                } else if flags & flag::BUFFERS != 0 {
                    parcel::unpack(self.config.loads.bind(py), payload, payload.leases().iter().cloned())
                } else {
                    parcel::load(self.config.loads.bind(py), payload, None)
                };
                Ok(self.judged(py, value, "the result of", label)?.map(Bound::unbind))
            }
            Reply::Answer { kind, payload, .. } => {
                let error = self.decode_error(py, payload, label)?;
                if *kind == kind::UNREADABLE {
                    let note = format!("raddle: the worker could not unpickle {} or its arguments", describe(label));
                    errors::note(py, &error, &note);
                    return Ok(Err(self.strictly(py, error)));
                }
                Ok(Err(error))
            }
        }
    }

    /// The outcome of a batch: the list of results, and the exception of the item that raised and ended it or None. Of a batch that goes
    /// on, exceptions are among the results.
    fn decode_batch(
        &self,
        py: Python<'_>,
        flags: u8,
        mut payload: &[u8],
        label: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (mut results, mut failure) = (Vec::new(), None);
        let goes_on = flags & flag::COUNTED != 0;
        while let Some(entry) = codec::next_entry(&mut payload)? {
            match self.decode_entry(py, &entry, label)? {
                Ok(value) => results.push(value),
                Err(error) if goes_on => results.push(error.into_value(py).into_bound(py).into_any()),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let failure = failure.map(|error| error.into_value(py));
        Ok((PyList::new(py, results)?, failure).into_pyobject(py)?.into_any().unbind())
    }

    /// What came of one item of a batch or a piece.
    pub(crate) fn decode_entry<'py>(
        &self,
        py: Python<'py>,
        entry: &Entry<'_>,
        label: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyResult<Bound<'py, PyAny>>> {
        let value = match entry {
            Entry::Flat(bytes) => codec::unflatten(py, bytes),
            Entry::Pickle(bytes) => parcel::load(self.config.loads.bind(py), bytes, None),
            Entry::Error(bytes) => return self.decode_error(py, bytes, label).map(Err),
        };
        self.judged(py, value, "a result of", label)
    }

    /// The exception that a worker has sent.
    fn decode_error(&self, py: Python<'_>, payload: &[u8], label: Option<&Bound<'_, PyAny>>) -> PyResult<PyErr> {
        let pair = parcel::load(self.config.loads.bind(py), payload, None);
        let pair = match self.judged(py, pair, "the exception of", label)? {
            Ok(pair) => pair,
            Err(error) => return Ok(error),
        };
        let (error, text): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
        let cause = match self.config.remote_traceback.bind(py).call1((text,)) {
            Ok(cause) => cause,
            Err(error) => return unless_interrupted(py, error),
        };
        match error.setattr("__cause__", cause) {
            Ok(()) => Ok(PyErr::from_value(error)),
            Err(error) => unless_interrupted(py, error),
        }
    }

    /// What unpickling came to: an exception becomes the outcome of the call, except for a Ctrl-C.
    fn judged<'py>(
        &self,
        py: Python<'py>,
        loaded: PyResult<Bound<'py, PyAny>>,
        what: &str,
        label: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyResult<Bound<'py, PyAny>>> {
        let error = match loaded {
            Ok(value) => return Ok(Ok(value)),
            Err(error) => unless_interrupted(py, error)?,
        };
        errors::note(py, &error, &format!("raddle: {what} {} could not be unpickled here", describe(label)));
        Ok(Err(self.strictly(py, error)))
    }

    /// In the standard library's semantics, a message that cannot be read breaks the pool.
    fn strictly(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if !self.config.strict {
            return error;
        }
        let reason = "a result could not be unpickled, or a call could not be read by a worker, and the pool is broken";
        if let Err(error) = gate::detached(py, || self.lane.destroy(reason, Signal::TERM)) {
            return error;
        }
        let broken = errors::refused(&Refusal::Broken(reason.into()), self.config.broken.bind(py));
        broken.set_cause(py, Some(error));
        broken
    }
}

/// An exception, to be treated as an outcome; but a Ctrl-C is raised.
fn unless_interrupted(py: Python<'_>, error: PyErr) -> PyResult<PyErr> {
    if error.is_instance_of::<PyKeyboardInterrupt>(py) { Err(error) } else { Ok(error) }
}

/// What was called, for messages.
fn describe(label: Option<&Bound<'_, PyAny>>) -> String {
    label.and_then(name_of).map_or_else(|| "the call".into(), |name| format!("{name}()"))
}

/// The name of a function, or a name itself.
pub(crate) fn name_of(label: &Bound<'_, PyAny>) -> Option<String> {
    let text = |name: &Bound<'_, PyAny>| Some(name.cast::<PyString>().ok()?.to_string_lossy().into_owned());
    text(label).or_else(|| text(&label.getattr("__qualname__").ok()?))
}
