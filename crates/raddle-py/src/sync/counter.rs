//! `raddle.sync.Counter`.

use pyo3::prelude::*;
use raddle_core::prim::thread::processors;
use raddle_core::sync::Counter;

use crate::unit::my_id;

/// A sum in shards.
#[pyclass(frozen, weakref, subclass, name = "CounterCore", module = "raddle._raddle")]
pub(crate) struct PyCounter {
    counter: Counter,
}

#[pymethods]
impl PyCounter {
    #[new]
    #[pyo3(signature = (start = 0))]
    fn new(start: i64) -> Self {
        // More shards than processors, so that few of the threads that run share one.
        let counter = Counter::new(2 * processors());
        counter.add(0, start);
        Self { counter }
    }

    #[pyo3(signature = (n = 1))]
    fn add(&self, n: i64) {
        self.counter.add(my_id().0, n);
    }

    #[pyo3(signature = (n = 1))]
    fn sub(&self, n: i64) {
        self.counter.add(my_id().0, n.wrapping_neg());
    }

    fn __iadd__(&self, n: i64) {
        self.add(n);
    }

    fn __isub__(&self, n: i64) {
        self.sub(n);
    }

    fn value(&self) -> i64 {
        self.counter.sum()
    }

    fn take(&self) -> i64 {
        self.counter.take()
    }

    fn __int__(&self) -> i64 {
        self.counter.sum()
    }

    #[getter]
    fn _shards(&self) -> usize {
        self.counter.shards()
    }
}
