//! Objects with large buffers, as bytes and places in shared memory.
//!
//! Pickle's protocol 5 hands out the buffers of arrays and the like instead of copying them. A large one is copied once, into a
//! heap that the other side sees, or not at all if it lies in one already; small ones go with the pickle. The other side
//! makes its arrays over what it finds there.

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList};
use raddle_proc::lane::parcel::{self, Buffer as Place};
use raddle_shm::channel::Draft;
use raddle_shm::heap::{Heap, Lease, View};

use crate::buffer::Buffer;
use crate::gate;

/// Buffers below this size go with the pickle: a lease costs about as much as this copy.
pub(crate) const SMALL: usize = 8 << 10;
/// Copies from this size on are made without the interpreter.
const LONG: usize = 256 << 10;
/// Pickles above this size are read where they lie instead of being copied first.
const LARGE: usize = 4 << 10;

/// Which heaps the other side sees.
pub(crate) enum Reach<'a> {
    /// In the parent: its own, and how to wait for room in it.
    Parent { own: &'a Arc<Heap>, wait: &'a dyn Fn(Python<'_>, usize) -> PyResult<()> },
    /// In a worker: its own, and its parent's.
    Worker { own: &'a Arc<Heap>, parent: &'a View },
}

impl Reach<'_> {
    fn own(&self) -> &Arc<Heap> {
        match self {
            Self::Parent { own, .. } | Self::Worker { own, .. } => own,
        }
    }

    /// What to call memory of ours that was filled for the other side alone, or that is shared with it.
    fn place(&self, lease: &Lease, shared: bool) -> Place {
        match self {
            Self::Parent { .. } if shared => Place::Shared(lease.piece()),
            Self::Parent { .. } => Place::Parent(lease.piece()),
            Self::Worker { .. } => Place::Worker(lease.piece()),
        }
    }
}

/// A pickled object.
pub(crate) struct Packed {
    /// The list of its buffers and the bytes of the small ones. None: it has no buffers.
    pub(crate) head: Option<Vec<u8>>,
    pub(crate) pickle: Pickle,
    /// The blocks of this side's heap that the list names.
    pub(crate) leases: Vec<Lease>,
}

/// The bytes that a pickler has made.
pub(crate) enum Pickle {
    Bytes(Py<PyBytes>),
    /// A view of the pickler's own buffer (`ForkingPickler`).
    View(PyBuffer<u8>),
}

impl Pickle {
    pub(crate) fn new(pickle: &Bound<'_, PyAny>) -> PyResult<Self> {
        match pickle.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.clone().unbind())),
            Err(_) => Ok(Self::View(PyBuffer::get(pickle)?)),
        }
    }

    pub(crate) fn as_bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py),
            // SAFETY: the buffer is the pickler's own, contiguous, and nobody else has it to change it; it lives as long as
            // `self`.
            Self::View(view) => unsafe { std::slice::from_raw_parts(view.buf_ptr().cast(), view.len_bytes()) },
        }
    }
}

/// Pickles by `dumps(callback)`, which is called once more, without a callback, where a buffer turns out not to be contiguous.
pub(crate) fn pack<'py>(
    py: Python<'py>,
    reach: &Reach<'_>,
    dumps: impl Fn(Option<&Bound<'py, PyList>>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Packed> {
    let buffers = PyList::empty(py);
    let pickle = Pickle::new(&dumps(Some(&buffers))?)?;
    if buffers.is_empty() {
        return Ok(Packed { head: None, pickle, leases: Vec::new() });
    }
    match stow(py, reach, &buffers) {
        Ok((head, leases)) => Ok(Packed { head: Some(head), pickle, leases }),
        Err(error) if error.is_instance_of::<PyBufferError>(py) => {
            Ok(Packed { head: None, pickle: Pickle::new(&dumps(None)?)?, leases: Vec::new() })
        }
        Err(error) => Err(error),
    }
}

/// Pickles by `dumps` into a heap, for whoever is sent the places: the pickle, and each buffer.
pub(crate) fn put<'py>(
    py: Python<'py>,
    heap: &Arc<Heap>,
    dumps: impl Fn(Option<&Bound<'py, PyList>>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Vec<Buffer>> {
    let buffers = PyList::empty(py);
    let mut pickle = dumps(Some(&buffers))?;
    let raw = |buffer: Bound<'py, PyAny>| PyBuffer::<u8>::get(&buffer.call_method0(intern!(py, "raw"))?);
    let buffers = match buffers.iter().map(raw).collect::<PyResult<Vec<_>>>() {
        Err(error) if error.is_instance_of::<PyBufferError>(py) => {
            pickle = dumps(None)?;
            Vec::new()
        }
        found => found?,
    };
    let stored = |raw: &PyBuffer<u8>| {
        // No block is empty: each must have an address of its own to be found by.
        let lease = heap.lease(raw.len_bytes().max(1)).ok_or_else(|| full(raw.len_bytes()))?;
        copy(py, raw, lease.as_ptr())?;
        Ok(Buffer::of_size(Arc::new(lease), raw.len_bytes()))
    };
    std::iter::once(&PyBuffer::get(&pickle)?).chain(&buffers).map(stored).collect()
}

/// What is raised when a heap has no room.
pub(crate) fn full(size: usize) -> PyErr {
    PyMemoryError::new_err(format!("the heap of this process has no room for {size} bytes of shared memory"))
}

/// Puts each buffer where the other side finds it.
fn stow(py: Python<'_>, reach: &Reach<'_>, buffers: &Bound<'_, PyList>) -> PyResult<(Vec<u8>, Vec<Lease>)> {
    let (mut places, mut leases, mut small) = (Vec::with_capacity(buffers.len()), Vec::new(), Vec::new());
    for buffer in buffers.iter() {
        let raw = PyBuffer::<u8>::get(&buffer.call_method0(intern!(py, "raw"))?)?;
        let (at, len) = (raw.buf_ptr().cast::<u8>().cast_const(), raw.len_bytes());
        if let Some(lease) = reach.own().find(at, len) {
            places.push(reach.place(&lease, true));
            leases.push(lease);
            continue;
        }
        if let Reach::Worker { parent, .. } = reach
            && let Some(piece) = parent.find(at, len)
        {
            places.push(Place::Shared(piece));
            continue;
        }
        if let Reach::Parent { own, wait } = reach
            && len >= SMALL
            && !own.has_room(len)
        {
            wait(py, len)?;
        }
        let lease = if len < SMALL { None } else { reach.own().lease(len) };
        let Some(lease) = lease else {
            places.push(Place::Inline(len));
            small.push(raw);
            continue;
        };
        copy(py, &raw, lease.as_ptr())?;
        places.push(reach.place(&lease, false));
        leases.push(lease);
    }
    let mut head = Vec::with_capacity(8 + 32 * places.len() + small.iter().map(|raw| raw.len_bytes()).sum::<usize>());
    parcel::write(&places, &mut head);
    for raw in small {
        // SAFETY: contiguous (`raw()` said so), alive while `raw` is, and nobody runs who could change it: we are attached.
        head.extend_from_slice(unsafe { std::slice::from_raw_parts(raw.buf_ptr().cast(), raw.len_bytes()) });
    }
    Ok((head, leases))
}

/// Copies a buffer to `to`, which is ours alone.
fn copy(py: Python<'_>, raw: &PyBuffer<u8>, to: *mut u8) -> PyResult<()> {
    struct Span(*const u8, *mut u8, usize);
    // SAFETY: plain addresses; both ends stay valid during the copy, see below.
    unsafe impl Send for Span {}
    impl Span {
        fn copy(&self) {
            // SAFETY: `raw` keeps the source valid and the lease the target; they do not overlap, since the source is in no
            // heap of ours. If another thread writes to the source meanwhile, the other side gets old or new bytes, as
            // with every other reader of an array.
            unsafe { std::ptr::copy_nonoverlapping(self.0, self.1, self.2) }
        }
    }
    let span = Span(raw.buf_ptr().cast::<u8>().cast_const(), to, raw.len_bytes());
    if span.2 < LONG {
        span.copy();
        return Ok(());
    }
    gate::detached(py, move || span.copy())
}

/// Copies a buffer into a draft, from `at` on.
pub(crate) fn copy_to(py: Python<'_>, raw: &PyBuffer<u8>, draft: &mut Draft, at: usize) -> PyResult<()> {
    assert!(at <= draft.len() && raw.len_bytes() <= draft.len() - at, "the draft was made for all of its parts");
    // SAFETY: inside the draft, which is ours alone.
    copy(py, raw, unsafe { draft.as_ptr().add(at) })
}

/// Makes the object of a payload that begins with a list of buffers. `leases`: those of the list, none for small ones.
pub(crate) fn unpack<'py>(
    loads: &Bound<'py, PyAny>,
    payload: &[u8],
    leases: impl IntoIterator<Item = Option<Arc<Lease>>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = loads.py();
    let (places, mut rest) = parcel::read(payload).ok_or_else(garbled)?;
    let buffers = PyList::empty(py);
    for (place, lease) in places.iter().zip(leases) {
        match (place, lease) {
            (Place::Inline(len), _) => {
                let (bytes, behind) = rest.split_at_checked(*len).ok_or_else(garbled)?;
                buffers.append(PyByteArray::new(py, bytes))?;
                rest = behind;
            }
            (_, Some(lease)) => buffers.append(Buffer::new(lease, false).into_pyobject(py)?)?,
            (_, None) => return Err(garbled()),
        }
    }
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "buffers"), buffers)?;
    load(loads, rest, Some(&keywords))
}

/// Unpickles bytes; large ones without copying them first.
pub(crate) fn load<'py>(
    loads: &Bound<'py, PyAny>,
    bytes: &[u8],
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = loads.py();
    if bytes.len() <= LARGE {
        return loads.call((PyBytes::new(py, bytes),), keywords);
    }
    // SAFETY: attached; the view is read-only and released below, before `bytes` goes out of scope.
    let view = unsafe {
        let len = bytes.len() as ffi::Py_ssize_t;
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyMemoryView_FromMemory(bytes.as_ptr().cast_mut().cast(), len, ffi::PyBUF_READ),
        )
    }?;
    let object = loads.call((&view,), keywords);
    view.call_method0(intern!(py, "release"))?;
    object
}

fn garbled() -> PyErr {
    PyValueError::new_err("a message between raddle's processes cannot be read: its list of buffers is garbled")
}
