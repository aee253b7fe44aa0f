//! Memory of a heap as a Python object.
//!
//! Whoever uses the memory (an array, a memoryview) holds this object, and this object holds the lease: so the lease lasts
//! exactly as long as the last view of it.

use std::ffi::c_int;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use raddle_shm::channel;
use raddle_shm::heap::Lease;

use crate::gate;
use crate::parcel;
use crate::runtime;

/// Bytes in shared memory: exports the buffer protocol.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Buffer {
    memory: Memory,
    size: usize,
    readonly: bool,
}

/// What holds the bytes.
enum Memory {
    Heap(Arc<Lease>),
    /// The block of a message, and where the buffer begins in it.
    Message(Arc<channel::Lease>, usize),
}

impl Memory {
    fn as_ptr(&self) -> *mut u8 {
        match self {
            Self::Heap(lease) => lease.as_ptr(),
            // SAFETY: inside the block, see `of_message`.
            Self::Message(lease, start) => unsafe { lease.as_ptr().add(*start) },
        }
    }
}

impl Buffer {
    /// The first bytes of a lease.
    pub(crate) fn of_size(lease: Arc<Lease>, size: usize) -> Self {
        debug_assert!(size <= lease.len(), "a buffer lies inside its lease");
        Self { memory: Memory::Heap(lease), size, readonly: false }
    }

    pub(crate) fn new(lease: Arc<Lease>, readonly: bool) -> Self {
        Self { size: lease.len(), memory: Memory::Heap(lease), readonly }
    }

    /// A part of a message. None: there is no such part.
    pub(crate) fn of_message(lease: Arc<channel::Lease>, start: usize, size: usize) -> Option<Self> {
        let is_inside = start <= lease.len() && size <= lease.len() - start;
        is_inside.then(|| Self { memory: Memory::Message(lease, start), size, readonly: false })
    }
}

#[pymethods]
impl Buffer {
    /// So many bytes of this process's heap; zeros, unless what they are does not matter.
    #[new]
    #[pyo3(signature = (size, *, zeroed = true))]
    fn make(py: Python<'_>, size: usize, zeroed: bool) -> PyResult<Self> {
        let heap = runtime::lending_heap()?;
        let lease = heap.lease(size.max(1)).ok_or_else(|| parcel::full(size))?;
        let lease = Arc::new(lease);
        let buffer = Self { memory: Memory::Heap(lease.clone()), size, readonly: false };
        if zeroed {
            // SAFETY: the lease is for these bytes, and nobody else has a lease of the block yet.
            gate::detached(py, move || unsafe { lease.as_ptr().write_bytes(0, size) })?;
        }
        Ok(buffer)
    }

    /// Pickled with protocol 5 and a callback for buffers, as pools do, it is sent as a place and not as bytes.
    fn __reduce_ex__<'py>(
        slf: &Bound<'py, Self>,
        protocol: i32,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyAny>,))> {
        let py = slf.py();
        if protocol < 5 {
            return Err(PyTypeError::new_err(format!(
                "shared memory cannot be pickled with protocol {protocol}\n  hint: use pickle.dumps(..., protocol=5)"
            )));
        }
        let view = py.import("pickle")?.getattr("PickleBuffer")?.call1((slf,))?;
        Ok((py.import("raddle_boot")?.getattr("as_it_is")?, (view,)))
    }

    fn __len__(&self) -> usize {
        self.size
    }

    fn __repr__(&self) -> String {
        format!("<raddle.shared.Buffer of {} bytes>", self.size)
    }

    /// # Safety
    ///
    /// Called by the interpreter, with a view to fill in.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (at, len, readonly) = (slf.get().memory.as_ptr(), slf.get().size, slf.get().readonly);
        let len = ffi::Py_ssize_t::try_from(len).map_err(|_| PyValueError::new_err("too long for a buffer"))?;
        // SAFETY: `view` is the interpreter's. The bytes are valid while the lease lives, which this object holds; the view
        // holds this object.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), at.cast(), len, c_int::from(readonly), flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
