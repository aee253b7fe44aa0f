//! `raddle.sync.ConcurrentDict`. How a key is found while `__eq__` may run anything stands in `raddle_core::sync`'s table.

use std::sync::Arc;

use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTimeoutError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};
use raddle_core::life::UnitId;
use raddle_core::park::{Enders, Waiter};
use raddle_core::prim::atomic::{AtomicU64, Ordering::Relaxed};
use raddle_core::sync::{Claim, Claiming, Place, Removed, Search, Step, Table, Usage};

use super::{Numbers, numbers, until_called};
use crate::gate::Timeout;
use crate::unit::{self, my_id};
use crate::wait_graph::{Held, What};

type Key = Py<PyAny>;
type Value = Py<PyAny>;
type Here<'a> = Place<'a, Key, Value>;

const SHARDS: usize = 16;

/// A value that a unit is making.
#[derive(Debug)]
struct Making {
    unit: UnitId,
    address: usize,
}

impl Held for Making {
    fn enders(&self) -> Enders {
        if unit::find(self.unit).is_none() { Enders::Only(Vec::new()) } else { Enders::Holder(self.unit) }
    }

    fn kind(&self) -> &'static str {
        "a value of a ConcurrentDict"
    }

    fn address(&self) -> usize {
        self.address
    }

    fn holder(&self) -> Option<UnitId> {
        Some(self.unit)
    }
}

struct Inside {
    table: Table<Key, Value>,
    usage: Usage,
    computed: AtomicU64,
    failed: AtomicU64,
    repeated: AtomicU64,
}

/// A key with its hash.
struct Wanted<'a, 'py> {
    key: &'a Bound<'py, PyAny>,
    hash: u64,
}

impl<'a, 'py> Wanted<'a, 'py> {
    fn new(key: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self { key, hash: key.hash()?.cast_unsigned() as u64 })
    }

    fn own(&self) -> Key {
        self.key.clone().unbind()
    }
}

/// Ends a claim, whatever comes.
struct Mine<'a> {
    inside: &'a Inside,
    claim: Option<Claim>,
}

impl Mine<'_> {
    /// Does something with the place of the key, and ends the claim in the same step. `None`: the claim is void.
    fn end<R>(&mut self, act: impl FnOnce(&mut Here<'_>) -> R) -> Option<R> {
        let claim = self.claim.take()?;
        let (done, key) = self.inside.table.end(&claim, act)?;
        drop(key);
        Some(done)
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        if self.end(|_| ()).is_some() {
            self.inside.failed.fetch_add(1, Relaxed);
        }
    }
}

/// What a look at a key has come to.
enum Look {
    Is(Value),
    Claiming(Claiming<Key>),
}

impl Inside {
    /// Does something with the place of a key. `act` runs no Python.
    fn with<R>(&self, wanted: &Wanted<'_, '_>, mut act: impl FnMut(Here<'_>) -> R) -> PyResult<R> {
        let py = wanted.key.py();
        let mut search = Search::new(wanted.hash);
        loop {
            match self.table.step(&mut search, |key| key.is(wanted.key), |key| key.clone_ref(py), &mut act) {
                Step::Done(done) => return Ok(done),
                Step::Compare(key) => search.answer(key.bind(py).eq(wanted.key)?),
            }
        }
    }

    fn get(&self, wanted: &Wanted<'_, '_>) -> PyResult<Option<Value>> {
        let py = wanted.key.py();
        self.with(wanted, |place| place.get().map(|value| value.clone_ref(py)))
    }

    fn put(&self, wanted: &Wanted<'_, '_>, value: Value) -> PyResult<()> {
        let mut new = Some((wanted.own(), value));
        let removed = self.with(wanted, |mut place| new.take().map(|(key, value)| place.put(key, value)))?;
        drop(removed);
        Ok(())
    }

    /// The value that is there; or this one, which is then.
    fn put_if_absent(&self, wanted: &Wanted<'_, '_>, value: Value) -> PyResult<Value> {
        let py = wanted.key.py();
        let mut new = Some((wanted.own(), value));
        let (value, removed) = self.with(wanted, |place| put_if_absent(py, place, &mut new))?;
        drop((removed, new));
        Ok(value)
    }

    fn take(&self, wanted: &Wanted<'_, '_>) -> PyResult<Option<Value>> {
        let Removed { key, value } = self.with(wanted, |mut place| place.take())?;
        drop(key);
        Ok(value)
    }

    /// Claims a key, after whoever has the claim has ended it. With `unless_there`: or finds the value.
    fn claim(
        &self,
        wanted: &Wanted<'_, '_>,
        address: usize,
        timeout: Timeout,
        unless_there: bool,
    ) -> PyResult<Result<Mine<'_>, Value>> {
        let (py, me) = (wanted.key.py(), my_id());
        let (deadline, mut since) = (timeout.deadline(), None);
        let mut before: Option<Arc<Waiter>> = None;
        let claimed = loop {
            let mut key = Some(wanted.own());
            let look = self.with(wanted, |mut place| match place.get().filter(|_| unless_there) {
                Some(value) => Look::Is(value.clone_ref(py)),
                None => {
                    let key = key.take().unwrap_or_else(|| wanted.own());
                    Look::Claiming(place.claim(key, me, before.as_ref()))
                }
            });
            let (waiter, unit) = match look {
                Err(error) => break Err(error),
                Ok(Look::Is(value)) => break Ok(Err(value)),
                Ok(Look::Claiming(Claiming::Mine(claim, rest))) => {
                    drop(rest);
                    break Ok(Ok(Mine { inside: self, claim: Some(claim) }));
                }
                Ok(Look::Claiming(Claiming::Recursion)) => {
                    break Err(PyRuntimeError::new_err(
                        "the function that makes the value of this key asks for it, and would wait for itself",
                    ));
                }
                Ok(Look::Claiming(Claiming::Wait(waiter, unit))) => (waiter, unit),
            };
            since.get_or_insert_with(|| self.usage.wait());
            let what = What::Held(Arc::new(Making { unit, address }));
            match until_called(py, what, &waiter, deadline) {
                Ok(true) => before = Some(waiter),
                ended => {
                    self.table.leave(wanted.hash, &waiter);
                    break ended.and_then(|_| {
                        let seconds = timeout.duration().unwrap_or_default().as_secs_f64();
                        let message = format!("another thread's call for this key did not end within {seconds} s");
                        Err(PyTimeoutError::new_err(message))
                    });
                }
            }
        };
        if let Some(since) = since {
            self.usage.waited(since, claimed.is_ok());
        }
        claimed
    }

    fn compute(
        &self,
        wanted: &Wanted<'_, '_>,
        address: usize,
        function: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<Value> {
        let py = wanted.key.py();
        if let Some(value) = self.get(wanted)? {
            return Ok(value);
        }
        let mut mine = match self.claim(wanted, address, timeout, true)? {
            Ok(mine) => mine,
            Err(value) => return Ok(value),
        };
        self.computed.fetch_add(1, Relaxed);
        let value = function.call1((wanted.key,))?.unbind();
        let mut new = Some((wanted.own(), value.clone_ref(py)));
        let done = mine.end(|place| put_if_absent_at(py, place, &mut new));
        match done {
            Some((there, removed)) => {
                drop((removed, new));
                Ok(there)
            }
            // A fork came between, and somebody else has taken over.
            None => self.put_if_absent(wanted, value),
        }
    }

    fn update(
        &self,
        wanted: &Wanted<'_, '_>,
        address: usize,
        function: &Bound<'_, PyAny>,
        default: Option<&Bound<'_, PyAny>>,
        timeout: Timeout,
    ) -> PyResult<Value> {
        let py = wanted.key.py();
        let Ok(mut mine) = self.claim(wanted, address, timeout, false)? else {
            return Err(PyRuntimeError::new_err("a claim was neither had nor refused"));
        };
        loop {
            let Some(claim) = mine.claim else { return Err(void()) };
            let look = |place: &mut Here<'_>| (place.get().map(|value| value.clone_ref(py)), place.stamp());
            let (value, stamp) = self.table.at(&claim, look).ok_or_else(void)?;
            let value = match (value, default) {
                (Some(value), _) => value,
                (None, Some(default)) => default.clone().unbind(),
                (None, None) => {
                    mine.end(|_| ()).ok_or_else(void)?;
                    return Err(PyKeyError::new_err((wanted.own(),)));
                }
            };
            let new = function.call1((value,))?.unbind();
            let mut put = Some((wanted.own(), new.clone_ref(py)));
            let act = |place: &mut Here<'_>| {
                if place.stamp() == stamp { put.take().map(|(key, value)| place.put(key, value)) } else { None }
            };
            let removed = self.table.at(&claim, act).ok_or_else(void)?;
            if removed.is_some() {
                mine.end(|_| ()).ok_or_else(void)?;
                drop(removed);
                return Ok(new);
            }
            // Somebody has set or deleted it meanwhile, without a claim: once more, with what is there now.
            self.repeated.fetch_add(1, Relaxed);
        }
    }
}

fn void() -> PyErr {
    PyRuntimeError::new_err("the process was forked while a value was updated, and another thread has taken over")
}

type New = Option<(Key, Value)>;

fn put_if_absent(py: Python<'_>, mut place: Here<'_>, new: &mut New) -> (Value, Option<Removed<Key, Value>>) {
    put_if_absent_at(py, &mut place, new)
}

fn put_if_absent_at(py: Python<'_>, place: &mut Here<'_>, new: &mut New) -> (Value, Option<Removed<Key, Value>>) {
    if let Some(value) = place.get() {
        return (value.clone_ref(py), None);
    }
    match new.take() {
        Some((key, value)) => {
            let there = value.clone_ref(py);
            (there, Some(place.put(key, value)))
        }
        None => (py.None(), None),
    }
}

/// The dict.
#[pyclass(frozen, weakref, subclass, name = "ConcurrentDictCore", module = "raddle._raddle")]
pub(crate) struct PyConcurrentDict {
    /// Boxed, so that memory of zeros is an empty one: CPython 3.11 shows the object to the collector before it is made.
    inside: Option<Box<Inside>>,
}

impl PyConcurrentDict {
    fn inside(&self) -> &Inside {
        self.inside.as_deref().expect("it was made")
    }
}

#[pymethods]
impl PyConcurrentDict {
    #[new]
    #[pyo3(signature = (items = None))]
    fn new(py: Python<'_>, items: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let inside = Box::new(Inside {
            table: Table::new(SHARDS),
            usage: Usage::default(),
            computed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        });
        if let Some(items) = items {
            let items = py.get_type::<PyDict>().call1((items,))?;
            for (key, value) in items.cast_into::<PyDict>()? {
                inside.put(&Wanted::new(&key)?, value.unbind())?;
            }
        }
        Ok(Self { inside: Some(inside) })
    }

    fn __getitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<Value> {
        let wanted = Wanted::new(key)?;
        self.inside().get(&wanted)?.ok_or_else(|| PyKeyError::new_err((wanted.own(),)))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: Value) -> PyResult<()> {
        self.inside().put(&Wanted::new(key)?, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let wanted = Wanted::new(key)?;
        self.inside().take(&wanted)?.map(drop).ok_or_else(|| PyKeyError::new_err((wanted.own(),)))
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.inside().with(&Wanted::new(key)?, |place| place.get().is_some())
    }

    fn __len__(&self) -> usize {
        self.inside().table.len()
    }

    #[pyo3(signature = (key, default = None, /))]
    fn get(&self, key: &Bound<'_, PyAny>, default: Option<Value>) -> PyResult<Option<Value>> {
        Ok(self.inside().get(&Wanted::new(key)?)?.or(default))
    }

    #[pyo3(signature = (key, default = None, /))]
    fn setdefault(&self, py: Python<'_>, key: &Bound<'_, PyAny>, default: Option<Value>) -> PyResult<Value> {
        self.inside().put_if_absent(&Wanted::new(key)?, default.unwrap_or_else(|| py.None()))
    }

    #[pyo3(signature = (key, /, *default))]
    fn pop(&self, key: &Bound<'_, PyAny>, default: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<Value> {
        if default.len() > 1 {
            let message = format!("pop takes a key and at most one default, not {}", default.len());
            return Err(pyo3::exceptions::PyTypeError::new_err(message));
        }
        let wanted = Wanted::new(key)?;
        match self.inside().take(&wanted)? {
            Some(value) => Ok(value),
            None => default.get_item(0).map(Bound::unbind).map_err(|_| PyKeyError::new_err((wanted.own(),))),
        }
    }

    #[pyo3(signature = (key, function, /, *, timeout = Timeout::FOREVER), text_signature = "($self, key, function, /, *, timeout=None)")]
    fn get_or_compute(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<Value> {
        slf.get().inside().compute(&Wanted::new(key)?, slf.as_ptr().addr(), function, timeout)
    }

    #[pyo3(signature = (key, function, /, *default, timeout = Timeout::FOREVER), text_signature = "($self, key, function, /, *default, timeout=None)")]
    fn update(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        default: &Bound<'_, pyo3::types::PyTuple>,
        timeout: Timeout,
    ) -> PyResult<Value> {
        if default.len() > 1 {
            let message = format!("update takes a key, a function and at most one default, not {}", default.len());
            return Err(pyo3::exceptions::PyTypeError::new_err(message));
        }
        let default = default.get_item(0).ok();
        slf.get().inside().update(&Wanted::new(key)?, slf.as_ptr().addr(), function, default.as_ref(), timeout)
    }

    fn clear(&self) {
        let removed = self.inside().table.clear();
        drop(removed);
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.inside().table.snapshot(|key, _| key.clone_ref(py)))
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.inside().table.snapshot(|_, value| value.clone_ref(py)))
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.inside().table.snapshot(|key, value| (key.clone_ref(py), value.clone_ref(py))))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys(py)?.call_method0("__iter__")
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        cls.py().import("types")?.call_method1("GenericAlias", (cls, item))
    }

    /// Functions called, failed, called again, and the numbers of the waits.
    fn _usage(&self) -> (u64, u64, u64, Numbers) {
        let inside = self.inside();
        let [computed, failed, repeated] =
            [&inside.computed, &inside.failed, &inside.repeated].map(|number| number.load(Relaxed));
        (computed, failed, repeated, numbers(&inside.usage))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(inside) = &self.inside else { return Ok(()) };
        inside.table.peek(|key, value| {
            visit.call(key)?;
            value.map_or(Ok(()), |value| visit.call(value))
        })
    }

    fn __clear__(&self) {
        if let Some(inside) = &self.inside {
            drop(inside.table.clear());
        }
    }
}
