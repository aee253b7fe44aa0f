//! What the bytes of a function rest on: objects by identity, compared quickly.
//!
//! The Python around it (`raddle._rests`) says what is to be compared; this compares it, for every call of such a function.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// Everything that must be the same object still.
#[pyclass(frozen, module = "raddle._raddle")]
pub(crate) struct Marks(Vec<Mark>);

enum Mark {
    /// A dict has these items, in this order, and no others.
    Items(Py<PyDict>, Vec<(Py<PyAny>, Py<PyAny>)>),
    /// A dict has these values under these names, or nothing.
    Names(Py<PyDict>, Vec<(Py<PyAny>, Option<Py<PyAny>>)>),
    /// An object has these attributes.
    Attributes(Py<PyAny>, Vec<(Py<PyString>, Py<PyAny>)>),
    /// A function returns an equal number.
    Answer(Py<PyAny>, Py<PyAny>),
}

#[pymethods]
impl Marks {
    /// `items`: dicts that are to stay as they are. `names`: dicts, and the names that are to stay as they are in them. `attributes`: objects, and
    /// the names of their attributes. `answers`: functions whose answers are to stay as they are.
    #[new]
    fn new(
        items: Vec<Bound<'_, PyDict>>,
        names: Vec<(Bound<'_, PyDict>, Bound<'_, PyTuple>)>,
        attributes: Vec<(Bound<'_, PyAny>, Vec<Bound<'_, PyString>>)>,
        answers: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut marks = Vec::new();
        for dict in items {
            let pairs = dict.iter().map(|(key, value)| (key.unbind(), value.unbind())).collect();
            marks.push(Mark::Items(dict.unbind(), pairs));
        }
        for (dict, names) in names {
            let pairs: PyResult<_> =
                names.iter().map(|name| Ok((name.clone().unbind(), dict.get_item(name)?.map(Bound::unbind)))).collect();
            marks.push(Mark::Names(dict.unbind(), pairs?));
        }
        for (object, names) in attributes {
            let pairs: PyResult<_> =
                names.into_iter().map(|name| Ok((name.clone().unbind(), object.getattr(name)?.unbind()))).collect();
            marks.push(Mark::Attributes(object.unbind(), pairs?));
        }
        for function in answers {
            let answer = function.call0()?.unbind();
            marks.push(Mark::Answer(function.unbind(), answer));
        }
        Ok(Self(marks))
    }

    /// Whether all is as it was. What cannot be read is not.
    pub(crate) fn hold(&self, py: Python<'_>) -> bool {
        self.0.iter().all(|mark| mark.holds(py))
    }
}

impl Mark {
    fn holds(&self, py: Python<'_>) -> bool {
        match self {
            Self::Items(dict, pairs) => {
                let dict = dict.bind(py);
                dict.len() == pairs.len()
                    && dict.iter().zip(pairs).all(|((key, value), (old, was))| key.is(old) && value.is(was))
            }
            Self::Names(dict, pairs) => pairs.iter().all(|(name, was)| {
                dict.bind(py).get_item(name).is_ok_and(|value| match (value, was) {
                    (Some(value), Some(was)) => value.is(was),
                    (None, None) => true,
                    _ => false,
                })
            }),
            Self::Attributes(object, pairs) => {
                pairs.iter().all(|(name, was)| object.bind(py).getattr(name).is_ok_and(|value| value.is(was)))
            }
            Self::Answer(function, was) => function.bind(py).call0().and_then(|now| now.eq(was)).unwrap_or(false),
        }
    }
}
