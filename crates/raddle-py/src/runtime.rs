//! What the parts share: the type of futures, and the number of forks.
//!
//! # Shutdown
//!
//! 1. `raddle._exit`, which Python calls before it waits for threads, closes every lane that is alive. Nothing enters
//!    after: a closed lane refuses.
//! 2. It joins them: keepers and worker threads end when their lanes are empty.
//! 3. The interpreter goes on to finalise. No native thread of ours is left that could attach to it.
//!
//! # Fork
//!
//! `os.register_at_fork` calls [`forked`] in the child. A lane remembers the number of forks at its making; a lane from
//! before the last fork belongs to the parent process, and is refused by name instead of waited for.

use std::sync::Arc;

use pyo3::PyTypeInfo;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use raddle_core::prim::Mutex;
use raddle_core::prim::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use raddle_shm::heap::Heap;

use crate::errors;
use crate::future::FutureCore;
use crate::of_process::OfProcess;

static FUTURE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Tells which subclass of `FutureCore` the lanes make.
#[pyfunction]
pub(crate) fn set_future_type(py: Python<'_>, future: Bound<'_, PyType>) -> PyResult<()> {
    if !future.is_subclass(&FutureCore::type_object(py))? {
        return Err(pyo3::exceptions::PyTypeError::new_err("the future type must inherit from FutureCore"));
    }
    FUTURE.get_or_init(py, || future.unbind());
    Ok(())
}

/// To be called in a forked child.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Relaxed);
    raddle_core::park::next_epoch();
    HEAP_OF_PROCESS.renew();
    HEAP_OF_WORKER.renew();
    crate::shared_channel::forked();
    crate::channel::forked();
    crate::gate::forked();
    crate::turnstile::forked();
    crate::unit::forked();
    crate::wait_graph::forked();
    crate::lock_order::forked();
}

/// How often this process, or an ancestor since the extension was loaded, was forked off.
pub(crate) fn forks() -> u32 {
    FORKS.load(Relaxed)
}

/// Whether this is the process's main thread, in which Python runs the handlers of signals.
pub(crate) fn is_main_thread() -> bool {
    thread_local! {
        /// The number of forks at which it was asked, and the answer: a fork makes a main thread of the one that forks.
        static KNOWN: std::cell::Cell<Option<(u32, bool)>> = const { std::cell::Cell::new(None) };
    }
    match KNOWN.get() {
        Some((asked, answer)) if asked == forks() => answer,
        _ => {
            let answer = rustix::thread::gettid() == rustix::process::getpid();
            KNOWN.set(Some((forks(), answer)));
            answer
        }
    }
}

/// Address space of a process's heap; pages exist once they are used.
const HEAP: usize = 256 << 30;
/// So much of it stays in memory when it is free, for the next call.
const HEAP_KEEP: usize = 512 << 20;

/// Bytes of the heap that calls use before they wait for others to end.
static LIMIT: AtomicUsize = AtomicUsize::new(1 << 30);

/// Says how many bytes of shared memory calls use before they wait for others to end.
#[pyfunction]
pub(crate) fn limit_shared_memory(size: usize) {
    LIMIT.store(size, Relaxed);
    if let Some(heap) = &*HEAP_OF_PROCESS.get().lock() {
        heap.set_limit(size);
    }
}

/// That number.
#[pyfunction]
pub(crate) fn shared_memory_limit() -> usize {
    LIMIT.load(Relaxed)
}

/// Bytes of shared memory that are in use.
#[pyfunction]
pub(crate) fn shared_memory_in_use() -> usize {
    HEAP_OF_PROCESS.get().lock().as_ref().map_or(0, |heap| heap.used())
}

/// The heap of this process, once it has one.
static HEAP_OF_PROCESS: OfProcess<Mutex<Option<Arc<Heap>>>> = OfProcess::new(Mutex::default);
/// In a worker: the heap from which it answers.
static HEAP_OF_WORKER: OfProcess<Mutex<Option<Arc<Heap>>>> = OfProcess::new(Mutex::default);

/// The heap from which this process lends to its workers.
pub(crate) fn heap() -> PyResult<Arc<Heap>> {
    let mut current = HEAP_OF_PROCESS.get().lock();
    if let Some(heap) = &*current {
        return Ok(heap.clone());
    }
    let heap = Heap::create("raddle-heap", HEAP, HEAP_KEEP).map_err(errors::of_system)?;
    heap.set_limit(LIMIT.load(Relaxed));
    *current = Some(heap.clone());
    Ok(heap)
}

/// Where a worker's answers lie, from now on.
pub(crate) fn answer_from(heap: &Arc<Heap>) {
    *HEAP_OF_WORKER.get().lock() = Some(heap.clone());
}

/// The heap in which this process makes what it wants to share: in a worker the one that its parent sees, else its own.
pub(crate) fn lending_heap() -> PyResult<Arc<Heap>> {
    let of_worker = HEAP_OF_WORKER.get().lock().clone();
    of_worker.map_or_else(heap, Ok)
}

/// What the use of a pool from before the last fork raises.
pub(crate) fn foreign() -> PyErr {
    PyRuntimeError::new_err(
        "this pool belongs to the process that made it; this process is a fork of that one\n  \
         hint: make a pool of your own here, or return the work to the parent",
    )
}

/// Makes a future of the Python type, without running its `__init__`.
pub(crate) fn new_future(py: Python<'_>) -> PyResult<Py<FutureCore>> {
    let future = FUTURE
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("raddle.futures must be imported before lanes are used"))?
        .bind(py);
    let type_object = future.as_type_ptr();
    let no_arguments = PyTuple::empty(py);
    // SAFETY: a live type object; its `tp_new` slot, set by PyO3, is inherited by every subclass.
    let new = unsafe { (*type_object).tp_new }
        .ok_or_else(|| PyRuntimeError::new_err("the future type cannot be instantiated"))?;
    // SAFETY: attached; `tp_new` is called as the interpreter calls it, with a tuple and no keywords.
    let object = unsafe { new(type_object, no_arguments.as_ptr(), std::ptr::null_mut::<ffi::PyObject>()) };
    // SAFETY: `tp_new` returns a new reference, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    Ok(object.cast_into::<FutureCore>()?.unbind())
}
