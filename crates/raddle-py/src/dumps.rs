//! Objects to pickles: plainly, or by value where whoever reads them could not follow a reference.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use raddle_core::prim::atomic::{AtomicBool, Ordering::Relaxed};

/// The two ways to pickle an object. Both are `dumps(object, buffer_callback) -> bytes-like`.
pub(crate) struct Dumps {
    plain: Py<PyAny>,
    /// None: there is no second way.
    by_value: Option<Py<PyAny>>,
    /// Whether a reference into `__main__` can be followed where it is read.
    main_is_there: bool,
    /// Whether the last object went by value: then the next one, which often is of its kind, probably does.
    names_main: AtomicBool,
}

impl Dumps {
    pub(crate) fn new(plain: Py<PyAny>, by_value: Option<Py<PyAny>>, main_is_there: bool) -> Self {
        Self { plain, by_value, main_is_there, names_main: AtomicBool::new(false) }
    }

    /// Pickles `object`, by value if that is how it has to be. Its large buffers are appended to `buffers`, if there is such a list,
    /// instead of going into the pickle.
    pub(crate) fn dumps<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        buffers: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let callback = buffers.map(|buffers| buffers.getattr(intern!(py, "append"))).transpose()?;
        let Some(by_value) = &self.by_value else { return self.plain.bind(py).call1((object, &callback)) };
        // Ordering: Relaxed. A wrong guess costs time.
        if !self.names_main.load(Relaxed) {
            match self.plain.bind(py).call1((object, &callback)) {
                Ok(bytes) if self.main_is_there || !mentions(&bytes, b"__main__")? => return Ok(bytes),
                Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
                _ => {}
            }
            if let Some(buffers) = buffers {
                buffers.del_slice(0, buffers.len())?; // what the first try has left
            }
        }
        let bytes = by_value.bind(py).call1((object, &callback))?;
        self.names_main.store(mentions(&bytes, b"raddle_boot")? || mentions(&bytes, b"__main__")?, Relaxed);
        Ok(bytes)
    }

    /// The pickle of a function, if it can be made plainly and followed where it is read.
    pub(crate) fn by_reference<'py>(&self, function: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = function.py();
        match self.plain.bind(py).call1((function, py.None())) {
            Ok(bytes) if self.main_is_there || self.by_value.is_none() || !mentions(&bytes, b"__main__")? => {
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }
}

/// Whether a pickle mentions this name.
fn mentions(pickle: &Bound<'_, PyAny>, name: &[u8]) -> PyResult<bool> {
    let mut rest = pickle.cast::<PyBytes>()?.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == name[0]) {
        rest = &rest[at..];
        if rest.starts_with(name) {
            return Ok(true);
        }
        rest = &rest[1..];
    }
    Ok(false)
}
