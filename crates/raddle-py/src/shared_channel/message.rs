//! Objects as messages of a channel, and back.
//!
//! The plainest values have the flat encoding of `codec`; the rest is pickled, with large buffers apart:
//!
//! ```text
//! FLAT      the flat encoding
//! PICKLE    a pickle
//! PARTS     count u64, length of the pickle u64; then count times: where the buffer begins u64, its length u64; the pickle; the buffers,
//!           each at a multiple of 64
//! ```
//!
//! A message that does not fit into a slot is written into a block, each buffer once. The receiver makes its arrays over the block, which
//! it has as long as one of them lives.

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList};
use raddle_shm::channel::{Draft, INLINE, Message, Received};

use crate::buffer::Buffer;
use crate::codec;
use crate::parcel::{self, Pickle, SMALL};

pub(super) const FLAT: u8 = 1;
const PICKLE: u8 = 2;
const PARTS: u8 = 3;

const ALIGN: usize = 64;
const WORD: usize = 8;

/// What stands before the pickle of a message in parts.
fn head(buffers: usize) -> usize {
    2 * WORD * (buffers + 1)
}

/// An object that is to be sent.
pub(super) struct Outgoing {
    pub(super) kind: u8,
    pub(super) len: usize,
    body: Body,
}

enum Body {
    Flat(Vec<u8>),
    Pickle(Pickle),
    /// The pickle, and each buffer with the place where it is to begin.
    Parts(Pickle, Vec<(usize, PyBuffer<u8>)>),
}

impl Outgoing {
    /// Encodes an object. `flat`: room for the flat encoding, which may be used again.
    pub(super) fn new(object: &Bound<'_, PyAny>, mut flat: Vec<u8>) -> PyResult<Self> {
        flat.clear();
        if codec::flatten(object, &mut flat) {
            return Ok(Self { kind: FLAT, len: flat.len(), body: Body::Flat(flat) });
        }
        let py = object.py();
        let dumps = py.import(intern!(py, "raddle_boot"))?.getattr(intern!(py, "dumps"))?;
        let buffers = PyList::empty(py);
        let pickle = Pickle::new(&dumps.call1((object, buffers.getattr(intern!(py, "append"))?))?)?;
        if buffers.is_empty() {
            return Ok(Self { kind: PICKLE, len: pickle.as_bytes(py).len(), body: Body::Pickle(pickle) });
        }
        let raw = |buffer: Bound<'_, PyAny>| PyBuffer::<u8>::get(&buffer.call_method0(intern!(py, "raw"))?);
        let raws = match buffers.iter().map(raw).collect::<PyResult<Vec<_>>>() {
            Err(error) if error.is_instance_of::<PyBufferError>(py) => {
                let pickle = Pickle::new(&dumps.call1((object,))?)?;
                return Ok(Self { kind: PICKLE, len: pickle.as_bytes(py).len(), body: Body::Pickle(pickle) });
            }
            raws => raws?,
        };
        let mut end = head(raws.len()) + pickle.as_bytes(py).len();
        let placed = raws
            .into_iter()
            .map(|raw| {
                let at = end.next_multiple_of(ALIGN);
                end = at + raw.len_bytes();
                (at, raw)
            })
            .collect();
        Ok(Self { kind: PARTS, len: end, body: Body::Parts(pickle, placed) })
    }

    /// Whether it goes into a slot.
    pub(super) fn is_short(&self) -> bool {
        self.len <= INLINE && !matches!(self.body, Body::Parts(..))
    }

    /// The bytes of one that goes into a slot.
    pub(super) fn bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match &self.body {
            Body::Flat(bytes) => bytes,
            Body::Pickle(pickle) | Body::Parts(pickle, _) => pickle.as_bytes(py),
        }
    }

    /// Writes it into a draft of its length.
    pub(super) fn write(&self, py: Python<'_>, draft: &mut Draft) -> PyResult<()> {
        let Body::Parts(pickle, buffers) = &self.body else {
            draft.write(0, self.bytes(py));
            return Ok(());
        };
        let pickle = pickle.as_bytes(py);
        let places = buffers.iter().flat_map(|(at, raw)| [*at, raw.len_bytes()]);
        for (number, word) in [buffers.len(), pickle.len()].into_iter().chain(places).enumerate() {
            draft.write(number * WORD, &(word as u64).to_ne_bytes());
        }
        draft.write(head(buffers.len()), pickle);
        for (at, raw) in buffers {
            parcel::copy_to(py, raw, draft, *at)?;
        }
        Ok(())
    }

    /// The memory of a flat encoding, to be used again, if it is not much.
    pub(super) fn into_spare(self) -> Vec<u8> {
        match self.body {
            Body::Flat(bytes) if bytes.capacity() <= 1 << 16 => bytes,
            _ => Vec::new(),
        }
    }
}

/// Makes the object of a message. `may_keep`: asked when it has buffers that could stay where they are.
pub(super) fn decode(py: Python<'_>, received: Received, may_keep: impl FnOnce() -> bool) -> PyResult<Py<PyAny>> {
    let Received { kind, message } = received;
    if kind == FLAT {
        return Ok(codec::unflatten(py, message.bytes())?.unbind());
    }
    let loads = py.import(intern!(py, "_pickle"))?.getattr(intern!(py, "loads"))?;
    match kind {
        PICKLE => Ok(parcel::load(&loads, message.bytes(), None)?.unbind()),
        PARTS => decode_parts(&loads, message, may_keep),
        _ => Err(garbled()),
    }
}

fn decode_parts(loads: &Bound<'_, PyAny>, message: Message, may_keep: impl FnOnce() -> bool) -> PyResult<Py<PyAny>> {
    let py = loads.py();
    let bytes = message.bytes();
    let word = |number: usize| -> PyResult<usize> {
        let at = number.checked_mul(WORD).ok_or_else(garbled)?;
        let (word, _) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<WORD>()).ok_or_else(garbled)?;
        usize::try_from(u64::from_ne_bytes(*word)).map_err(|_| garbled())
    };
    let (count, pickle) = (word(0)?, word(1)?);
    if count > bytes.len() / (2 * WORD) {
        return Err(garbled());
    }
    let places =
        (0..count).map(|number| Ok((word(2 * number + 2)?, word(2 * number + 3)?))).collect::<PyResult<Vec<_>>>()?;
    let begin = head(count);
    let pickle = begin.checked_add(pickle).and_then(|end| bytes.get(begin..end)).ok_or_else(garbled)?;
    let keywords = PyDict::new(py);
    let buffers = PyList::empty(py);
    let is_worth_it = places.iter().any(|&(_, len)| len >= SMALL);
    let keeps = matches!(message, Message::Long(_)) && is_worth_it && may_keep();
    for &(at, len) in &places {
        if !keeps || len < SMALL {
            let part = at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(garbled)?;
            buffers.append(PyByteArray::new(py, part))?;
        } else {
            buffers.append(py.None())?; // below
        }
    }
    keywords.set_item(intern!(py, "buffers"), &buffers)?;
    if !keeps {
        return Ok(parcel::load(loads, pickle, Some(&keywords))?.unbind());
    }
    let pickle = pickle.to_vec();
    let Message::Long(lease) = message else { return Err(garbled()) };
    let lease = Arc::new(lease);
    for (number, &(at, len)) in places.iter().enumerate() {
        if len >= SMALL {
            let part = Buffer::of_message(lease.clone(), at, len).ok_or_else(garbled)?;
            buffers.set_item(number, part.into_pyobject(py)?)?;
        }
    }
    drop(lease);
    Ok(parcel::load(loads, &pickle, Some(&keywords))?.unbind())
}

fn garbled() -> PyErr {
    PyValueError::new_err("a message of a channel cannot be read: its bytes are garbled")
}
