//! `raddle.sync.AtomicInt`, `AtomicFlag` and `AtomicRef`.

use pyo3::exceptions::PyOverflowError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyType;
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use raddle_core::sync::{Int, OutOfRange};

/// A whole number of 64 bits.
#[pyclass(frozen, weakref, subclass, name = "AtomicIntCore", module = "raddle._raddle")]
pub(crate) struct PyAtomicInt {
    int: Int,
    /// How often `compare_exchange` has found another value.
    failed: AtomicU64,
}

impl PyAtomicInt {
    #[inline]
    fn change(&self, what: &str, change: impl Fn(i64) -> Option<i64>) -> PyResult<i64> {
        self.int.change(change).map_err(|OutOfRange(value)| {
            PyOverflowError::new_err(format!(
                "the AtomicInt is {value}, and {what} does not fit in 64 bits; it was not changed"
            ))
        })
    }
}

#[pymethods]
impl PyAtomicInt {
    #[new]
    #[pyo3(signature = (value = 0))]
    fn new(value: i64) -> Self {
        Self { int: Int::new(value), failed: AtomicU64::new(0) }
    }

    fn load(&self) -> i64 {
        self.int.load()
    }

    fn store(&self, value: i64) {
        self.int.exchange(value);
    }

    fn exchange(&self, value: i64) -> i64 {
        self.int.exchange(value)
    }

    fn compare_exchange(&self, expected: i64, value: i64) -> bool {
        let done = self.int.compare_exchange(expected, value).is_ok();
        if !done {
            self.failed.fetch_add(1, Relaxed);
        }
        done
    }

    #[pyo3(signature = (n = 1))]
    fn add(&self, n: i64) -> PyResult<i64> {
        self.change("the sum", |value| value.checked_add(n))
    }

    #[pyo3(signature = (n = 1))]
    fn sub(&self, n: i64) -> PyResult<i64> {
        self.change("the difference", |value| value.checked_sub(n))
    }

    fn and_(&self, bits: i64) -> PyResult<i64> {
        self.change("the result", |value| Some(value & bits))
    }

    fn or_(&self, bits: i64) -> PyResult<i64> {
        self.change("the result", |value| Some(value | bits))
    }

    fn xor(&self, bits: i64) -> PyResult<i64> {
        self.change("the result", |value| Some(value ^ bits))
    }

    fn max(&self, other: i64) -> PyResult<i64> {
        self.change("the result", |value| Some(value.max(other)))
    }

    fn min(&self, other: i64) -> PyResult<i64> {
        self.change("the result", |value| Some(value.min(other)))
    }

    fn update(&self, function: &Bound<'_, PyAny>) -> PyResult<i64> {
        loop {
            let value = self.int.load();
            let new = function.call1((value,))?.extract()?;
            if self.compare_exchange(value, new) {
                return Ok(new);
            }
        }
    }

    fn __iadd__(&self, n: i64) -> PyResult<()> {
        self.add(n).map(drop)
    }

    fn __isub__(&self, n: i64) -> PyResult<()> {
        self.sub(n).map(drop)
    }

    fn __iand__(&self, bits: i64) -> PyResult<()> {
        self.and_(bits).map(drop)
    }

    fn __ior__(&self, bits: i64) -> PyResult<()> {
        self.or_(bits).map(drop)
    }

    fn __ixor__(&self, bits: i64) -> PyResult<()> {
        self.xor(bits).map(drop)
    }

    fn __int__(&self) -> i64 {
        self.int.load()
    }

    #[getter]
    fn _failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// A flag.
#[pyclass(frozen, weakref, subclass, name = "AtomicFlagCore", module = "raddle._raddle")]
pub(crate) struct PyAtomicFlag {
    flag: AtomicBool,
    /// How often `test_and_set` has found it set.
    failed: AtomicU64,
}

#[pymethods]
impl PyAtomicFlag {
    #[new]
    #[pyo3(signature = (value = false))]
    fn new(value: bool) -> Self {
        Self { flag: AtomicBool::new(value), failed: AtomicU64::new(0) }
    }

    fn is_set(&self) -> bool {
        self.flag.load(SeqCst)
    }

    fn __bool__(&self) -> bool {
        self.flag.load(SeqCst)
    }

    fn set(&self) {
        self.flag.store(true, SeqCst);
    }

    fn clear(&self) {
        self.flag.store(false, SeqCst);
    }

    fn test_and_set(&self) -> bool {
        let was_set = self.flag.swap(true, SeqCst);
        if was_set {
            self.failed.fetch_add(1, Relaxed);
        }
        was_set
    }

    fn exchange(&self, value: bool) -> bool {
        self.flag.swap(value, SeqCst)
    }

    #[getter]
    fn _failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// A reference to any object.
#[pyclass(frozen, weakref, subclass, name = "AtomicRefCore", module = "raddle._raddle")]
pub(crate) struct PyAtomicRef {
    /// Memory of zeros is an empty one: the collector may see it before it is made.
    value: Mutex<Option<Py<PyAny>>>,
    failed: AtomicU64,
}

impl PyAtomicRef {
    /// What it had is dropped by the caller, who holds no lock: that may run anything.
    fn replace(&self, value: Py<PyAny>) -> Option<Py<PyAny>> {
        self.value.lock().replace(value)
    }
}

#[pymethods]
impl PyAtomicRef {
    #[new]
    #[pyo3(signature = (value = None))]
    fn new(value: Option<Py<PyAny>>) -> Self {
        Self { value: Mutex::new(value), failed: AtomicU64::new(0) }
    }

    fn load(&self, py: Python<'_>) -> Py<PyAny> {
        self.value.lock().as_ref().map_or_else(|| py.None(), |value| value.clone_ref(py))
    }

    fn store(&self, value: Py<PyAny>) {
        drop(self.replace(value));
    }

    fn exchange(&self, py: Python<'_>, value: Py<PyAny>) -> Py<PyAny> {
        self.replace(value).unwrap_or_else(|| py.None())
    }

    fn compare_exchange(&self, expected: &Bound<'_, PyAny>, value: Py<PyAny>) -> bool {
        let mut inside = self.value.lock();
        let is_it = inside.as_ref().map_or_else(|| expected.is_none(), |value| value.is(expected));
        let before = if is_it { inside.replace(value) } else { Some(value) };
        drop(inside);
        drop(before);
        if !is_it {
            self.failed.fetch_add(1, Relaxed);
        }
        is_it
    }

    fn update(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        loop {
            let value = self.load(py).into_bound(py);
            let new = function.call1((&value,))?;
            if self.compare_exchange(&value, new.clone().unbind()) {
                return Ok(new.unbind());
            }
        }
    }

    #[getter]
    fn _failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        cls.py().import("types")?.call_method1("GenericAlias", (cls, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.value.try_lock().map_or(Ok(()), |value| visit.call(&*value))
    }

    fn __clear__(&self) {
        let value = self.value.lock().take();
        drop(value);
    }
}
