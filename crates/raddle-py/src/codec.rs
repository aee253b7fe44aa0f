//! Values as bytes: a flat encoding for the plainest, pickle for the rest.
//!
//! Most calls carry a few numbers and strings. Pickle takes a microsecond and several allocations for them; the flat
//! encoding writes them one after the other. It knows the exact built-in types only (never a subclass), and only immutable
//! ones, for which it does not matter whether two equal objects were one.
//!
//! ```text
//! N None   T True   F False   i int, 8 bytes   f float, 8 bytes   s str, u32 length   y bytes, u32 length
//! ( tuple, u8 length, then the items
//! ```
//!
//! Numbers are little-endian. Both sides run the same version of this file: it is not a format for storage.

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

/// Longer strings go through pickle, which frames them; there is nothing to win any more.
const LONG: usize = 1 << 16;
/// Before each entry of a sequence: its length, and in the lowest two bits whether it is flat, a pickle, or an error.
const HEADER: usize = 8;
/// Tuples inside tuples, at most.
const DEPTH: u32 = 8;

/// Appends `object` as an entry of a sequence, if it has a flat encoding.
pub(crate) fn push_flat(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    if !flatten(object, out) {
        out.truncate(start);
        return false;
    }
    let len = (out.len() - start - HEADER) as u64;
    out[start..start + HEADER].copy_from_slice(&(len << 2).to_le_bytes());
    true
}

/// Appends a pickle as an entry of a sequence.
pub(crate) fn push_pickle(pickle: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&((pickle.len() as u64) << 2 | 1).to_le_bytes());
    out.extend_from_slice(pickle);
}

/// Appends the pickle of what an item has raised as an entry of a sequence.
pub(crate) fn push_error(pickle: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&((pickle.len() as u64) << 2 | 2).to_le_bytes());
    out.extend_from_slice(pickle);
}

/// One object of a sequence.
pub(crate) enum Entry<'a> {
    Flat(&'a [u8]),
    Pickle(&'a [u8]),
    Error(&'a [u8]),
}

/// Takes the first entry off a sequence. None at its end.
pub(crate) fn next_entry<'a>(sequence: &mut &'a [u8]) -> PyResult<Option<Entry<'a>>> {
    if sequence.is_empty() {
        return Ok(None);
    }
    let header = u64::from_le_bytes(take(sequence)?);
    let len = usize::try_from(header >> 2).map_err(|_| garbled())?;
    let (bytes, rest) = sequence.split_at_checked(len).ok_or_else(garbled)?;
    *sequence = rest;
    match header & 3 {
        0 => Ok(Some(Entry::Flat(bytes))),
        1 => Ok(Some(Entry::Pickle(bytes))),
        2 => Ok(Some(Entry::Error(bytes))),
        _ => Err(garbled()),
    }
}

/// How many entries a sequence has. None: it is none.
pub(crate) fn count_entries(mut sequence: &[u8]) -> Option<u32> {
    let mut count = 0;
    while !sequence.is_empty() {
        next_entry(&mut sequence).ok()?;
        count += 1;
    }
    Some(count)
}

/// Appends the flat encoding of `object`. False, and `out` as it was, if there is none.
pub(crate) fn flatten(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let flat = put(object, out, DEPTH).is_some();
    if !flat {
        out.truncate(start);
    }
    flat
}

fn put(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u32) -> Option<()> {
    if let Ok(int) = object.cast_exact::<PyInt>() {
        let (mut overflow, py) = (0, object.py());
        // SAFETY: `int` is an int; the call writes the flag and returns -1 with an exception only for other types.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(int.as_ptr(), &raw mut overflow) };
        if overflow != 0 {
            debug_assert!(!PyErr::occurred(py), "an int that overflows is no error here");
            return None;
        }
        out.push(b'i');
        out.extend_from_slice(&value.to_le_bytes());
    } else if object.is_none() {
        out.push(b'N');
    } else if let Ok(text) = object.cast_exact::<PyString>() {
        // Lone surrogates have no UTF-8; pickle knows what to do with them.
        let Ok(text) = text.to_str() else { return None };
        put_bytes(b's', text.as_bytes(), out)?;
    } else if let Ok(float) = object.cast_exact::<PyFloat>() {
        out.push(b'f');
        out.extend_from_slice(&float.value().to_le_bytes());
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        let depth = depth.checked_sub(1)?;
        out.extend_from_slice(&[b'(', u8::try_from(tuple.len()).ok()?]);
        for item in tuple.iter_borrowed() {
            put(&item, out, depth)?;
        }
    } else if let Ok(truth) = object.cast_exact::<PyBool>() {
        out.push(if truth.is_true() { b'T' } else { b'F' });
    } else {
        let bytes = object.cast_exact::<PyBytes>().ok()?;
        put_bytes(b'y', bytes.as_bytes(), out)?;
    }
    Some(())
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if bytes.len() > LONG {
        return None;
    }
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

/// Makes the object that `bytes` encode.
///
/// # Errors
///
/// `ValueError` if they encode nothing: the other side is another version, or memory was overwritten.
pub(crate) fn unflatten<'py>(py: Python<'py>, mut bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let object = get(py, &mut bytes, DEPTH)?;
    if bytes.is_empty() { Ok(object) } else { Err(garbled()) }
}

fn get<'py>(py: Python<'py>, bytes: &mut &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
    Ok(match take::<1>(bytes)?[0] {
        b'N' => py.None().into_bound(py),
        b'T' => PyBool::new(py, true).to_owned().into_any(),
        b'F' => PyBool::new(py, false).to_owned().into_any(),
        b'i' => i64::from_le_bytes(take(bytes)?).into_pyobject(py)?.into_any(),
        b'f' => PyFloat::new(py, f64::from_le_bytes(take(bytes)?)).into_any(),
        b's' => {
            let text = std::str::from_utf8(take_bytes(bytes)?).map_err(|_| garbled())?;
            PyString::new(py, text).into_any()
        }
        b'y' => PyBytes::new(py, take_bytes(bytes)?).into_any(),
        b'(' => {
            let depth = depth.checked_sub(1).ok_or_else(garbled)?;
            let len = usize::from(take::<1>(bytes)?[0]);
            let items = (0..len).map(|_| get(py, bytes, depth)).collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(py, items)?.into_any()
        }
        _ => return Err(garbled()),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> PyResult<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(garbled)?;
    *bytes = rest;
    Ok(*head)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> PyResult<&'a [u8]> {
    let len = u32::from_le_bytes(take(bytes)?) as usize;
    let (head, rest) = bytes.split_at_checked(len).ok_or_else(garbled)?;
    *bytes = rest;
    Ok(head)
}

pub(crate) fn garbled() -> PyErr {
    PyValueError::new_err("a message between raddle's processes cannot be read: its bytes are garbled")
}
