//! The classes of the module, each made when it is first asked for.
//!
//! CPython makes a class from its description: it interns names, makes a descriptor for each method, and works out what is inherited. For
//! some fifty classes that is most of the time that the extension takes to load, and a program, or a worker process, uses a handful of them.
//!
//! # Rules
//!
//! 1. The module names every class in `__all__` and in `dir`, whether or not it is made.
//! 2. Python has no class before the shortcuts into its methods are open. Where code of ours makes an instance first, its methods have
//!    none until Python asks for the class, and take the long way.

use pyo3::PyClass;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyType};

use crate::{batch, buffer, channel, future, marks, outlet, piece, process_lane, queue, results, run, shared_channel};
use crate::{span, sync, thread_lane, trace, watch_set};

macro_rules! classes {
    ($($class:ty $(, $open_shortcuts:path)?;)*) => {
        const NAMES: &[&str] = &[$(<$class as PyClass>::NAME),*];

        /// Makes the class of this name, if there is one.
        fn make<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyType>>> {
            $(if name == <$class as PyClass>::NAME {
                $($open_shortcuts(py)?;)?
                return Ok(Some(py.get_type::<$class>()));
            })*
            Ok(None)
        }
    };
}

classes! {
    batch::Input;
    buffer::Buffer;
    channel::PyPipe;
    channel::PyReceiver, channel::open_shortcuts;
    channel::PySelection;
    channel::PySender, channel::open_shortcuts;
    channel::PySending;
    channel::PyTimer;
    future::FutureCore;
    marks::Marks;
    outlet::Outlet;
    piece::Harvest;
    process_lane::Binding;
    process_lane::ProcessLane;
    queue::PyQueue, queue::open_shortcuts;
    queue::PySimpleQueue, queue::open_shortcuts;
    results::Meter;
    results::Results, results::open_shortcuts;
    run::PyWatcher;
    shared_channel::PySharedChannel;
    shared_channel::PySharedEnd;
    shared_channel::PySharedReceiver;
    shared_channel::PySharedSender;
    span::Harvest;
    sync::PyAtomicFlag;
    sync::PyAtomicInt;
    sync::PyAtomicRef;
    sync::PyBarrier;
    sync::PyConcurrentDict;
    sync::PyCondition, sync::open_shortcuts;
    sync::PyCounter;
    sync::PyEvent, sync::open_shortcuts;
    sync::PyGuard;
    sync::PyLatch;
    sync::PyLock, sync::open_shortcuts;
    sync::PyOnce;
    sync::PyRGuard;
    sync::PyRLock, sync::open_shortcuts;
    sync::PyRwLock;
    sync::PyRwSide;
    sync::PySemaphore, sync::open_shortcuts;
    thread_lane::ThreadLane;
    trace::CallLog;
    watch_set::WatchSet;
}

/// Python asks for what the module does not have yet.
#[pyfunction]
#[pyo3(pass_module, name = "__getattr__")]
fn find<'py>(module: &Bound<'py, PyModule>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyType>> {
    match make(module.py(), &name.to_string_lossy())? {
        Some(class) => {
            module.setattr(name, &class)?;
            Ok(class)
        }
        None => Err(PyAttributeError::new_err(format!(
            "module {} has no attribute {}",
            module.name()?.repr()?,
            name.repr()?
        ))),
    }
}

/// What the module has, or would have.
#[pyfunction]
#[pyo3(pass_module, name = "__dir__")]
fn list<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyList>> {
    let names = module.dict().keys();
    for name in NAMES {
        if !names.contains(name)? {
            names.append(name)?;
        }
    }
    names.sort()?;
    Ok(names)
}

/// Has the module make its classes when it is asked for them.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let index = module.index()?;
    NAMES.iter().try_for_each(|name| index.append(name))?;
    module.setattr("__getattr__", wrap_pyfunction!(find, module)?)?;
    module.setattr("__dir__", wrap_pyfunction!(list, module)?)
}
