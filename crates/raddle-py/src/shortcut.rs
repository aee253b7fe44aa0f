//! Shorter ways into methods.
//!
//! PyO3 wraps every method: it counts that the thread is attached, looks for references that were dropped elsewhere, sorts the arguments
//! out, asks for the type of `self`. That takes some ten nanoseconds, which nobody notices in most methods; to put an item into a queue takes no
//! longer. A shortcut is a function in CPython's own calling convention that stands in front of such a method.
//!
//! # Rules
//!
//! 1. All or nothing. Either a shortcut does what the method does, and answers; or it has changed nothing and takes `None` for an answer, and
//!    the method is called with the same arguments. So errors, waits, and arguments that are not plain are the method's alone.
//! 2. A shortcut runs no code of users, and does not leave Python.
//! 3. A reference is dropped by `drop_ref`: PyO3, which does not know that the thread is attached, would drop it later otherwise.
//! 4. A method's name, signature and documentation are those that PyO3 has given it.
//! 5. Shortcuts are put in place once, before Python has the class (`classes.rs`).

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;
use std::{ptr, slice};

use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString};
use pyo3::{Borrowed, PyClass, ffi};

use crate::gate::{self, Raised};

/// A shortcut into one method.
pub(crate) trait Shortcut: 'static {
    type Class: PyClass<Frozen = True> + Sync;

    /// The method's name.
    const NAME: &'static CStr;

    /// The method itself.
    fn long_way() -> &'static LongWay;

    /// Does what the method does with positional arguments, or nothing.
    fn take<'py>(
        py: Python<'py>,
        this: Borrowed<'_, 'py, Self::Class>,
        arguments: &[Borrowed<'_, 'py, PyAny>],
    ) -> Option<Py<PyAny>>;
}

/// A method as PyO3 has made it.
pub(crate) struct LongWay(OnceLock<Function>);

#[derive(Clone, Copy)]
enum Function {
    Nothing(ffi::PyCFunction),
    Many(ffi::PyCFunctionFastWithKeywords),
}

impl LongWay {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }
}

/// Puts a shortcut in front of its method, once. Classes are the process', and a sub-interpreter that imports the module, too, must leave
/// those of another interpreter alone.
pub(crate) fn open<S: Shortcut>(py: Python<'_>) -> PyResult<()> {
    if S::long_way().0.get().is_some() {
        return Ok(());
    }
    let class = py.get_type::<S::Class>();
    let method = class.getattr(PyString::from_bytes(py, S::NAME.to_bytes())?)?;
    // SAFETY: what `cast` would say; there is no wrapper for the type of these objects.
    if unsafe { ffi::Py_TYPE(method.as_ptr()) != &raw mut ffi::PyMethodDescr_Type } {
        return Err(PySystemError::new_err("a shortcut must stand in front of a method"));
    }
    // SAFETY: a method descriptor, which lives, and whose definition lives as long as the process: PyO3 never frees one.
    let definition = unsafe { *(*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method };
    let (function, short) = match definition.ml_flags {
        ffi::METH_NOARGS => {
            // SAFETY: the flags say which member of the union it is.
            let function = Function::Nothing(unsafe { definition.ml_meth.PyCFunction });
            (function, ffi::PyMethodDefPointer { PyCFunction: with_nothing::<S> })
        }
        MANY => {
            // SAFETY: as above.
            let function = Function::Many(unsafe { definition.ml_meth.PyCFunctionFastWithKeywords });
            (function, ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: with_many::<S> })
        }
        flags => return Err(PySystemError::new_err(format!("no shortcut for a method with flags {flags:#x}"))),
    };
    // Before anybody can come this way. If another thread is here, too, it has found the same method, or the shortcut, and is late.
    _ = S::long_way().0.set(function);
    let definition = Box::leak(Box::new(ffi::PyMethodDef { ml_meth: short, ..definition }));
    // SAFETY: a class, and a definition that lives for ever; the new descriptor, or an error, is ours.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(PyString::from_bytes(py, S::NAME.to_bytes())?, method)
}

/// A shortcut into the slot by which an iterator is asked for its next item.
pub(crate) trait NextShortcut: 'static {
    type Class: PyClass<Frozen = True> + Sync;

    /// The slot as PyO3 has made it.
    fn long_way() -> &'static OnceLock<ffi::iternextfunc>;

    /// The next item, or nothing.
    fn take<'py>(py: Python<'py>, this: Borrowed<'_, 'py, Self::Class>) -> Option<Py<PyAny>>;
}

/// Puts a shortcut in front of the slot, once.
pub(crate) fn open_next<S: NextShortcut>(py: Python<'_>) -> PyResult<()> {
    if S::long_way().get().is_some() {
        return Ok(());
    }
    let class = py.get_type::<S::Class>().as_type_ptr();
    // SAFETY: a class that lives for ever, of which nobody has an instance yet (rule 5).
    unsafe {
        let Some(slot) = (*class).tp_iternext else {
            return Err(PySystemError::new_err("a shortcut must stand in front of a slot"));
        };
        _ = S::long_way().set(slot);
        (*class).tp_iternext = Some(next::<S>);
    }
    Ok(())
}

/// The shortcut of the slot.
unsafe extern "C" fn next<S: NextShortcut>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this with an instance of `S::Class`, attached.
    match unsafe { gate::called(|py| S::take(py, Borrowed::from_ptr(py, this).cast_unchecked())) } {
        Ok(Some(item)) => item.into_ptr(),
        Ok(None) => match S::long_way().get() {
            // SAFETY: as above.
            Some(slot) => unsafe { slot(this) },
            None => ptr::null_mut(),
        },
        Err(Raised) => ptr::null_mut(),
    }
}

const MANY: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

/// The shortcut of a method without arguments.
unsafe extern "C" fn with_nothing<S: Shortcut>(
    this: *mut ffi::PyObject,
    nothing: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this as a method of `S::Class`, whose type it has checked, attached.
    match unsafe { gate::called(|py| S::take(py, self_of::<S>(py, this), &[])) } {
        Ok(Some(answer)) => answer.into_ptr(),
        Ok(None) => match S::long_way().0.get() {
            // SAFETY: the arguments that CPython gave for this method.
            Some(Function::Nothing(method)) => unsafe { method(this, nothing) },
            _ => ptr::null_mut(),
        },
        Err(Raised) => ptr::null_mut(),
    }
}

/// The shortcut of a method with arguments.
unsafe extern "C" fn with_many<S: Shortcut>(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if names.is_null() {
        // SAFETY: as above; and CPython gives as many live objects as it says.
        let taken =
            unsafe { gate::called(|py| S::take(py, self_of::<S>(py, this), arguments_of(py, arguments, count))) };
        match taken {
            Ok(Some(answer)) => return answer.into_ptr(),
            Ok(None) => {}
            Err(Raised) => return ptr::null_mut(),
        }
    }
    match S::long_way().0.get() {
        // SAFETY: the arguments that CPython gave for this method.
        Some(Function::Many(method)) => unsafe { method(this, arguments, count, names) },
        _ => ptr::null_mut(),
    }
}

/// # Safety
///
/// It is a live instance of `S::Class`, or of a class below it.
#[inline]
unsafe fn self_of<'a, 'py, S: Shortcut>(py: Python<'py>, this: *mut ffi::PyObject) -> Borrowed<'a, 'py, S::Class> {
    // SAFETY: the caller says so.
    unsafe { Borrowed::from_ptr(py, this).cast_unchecked() }
}

/// # Safety
///
/// There are so many live objects, for as long as the slice is used.
#[inline]
unsafe fn arguments_of<'a, 'py>(
    _py: Python<'py>,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> &'a [Borrowed<'a, 'py, PyAny>] {
    match usize::try_from(count) {
        // SAFETY: the caller says so. A `Borrowed` is a pointer to an object, in memory as well.
        Ok(count) if count > 0 => unsafe { slice::from_raw_parts(arguments.cast(), count) },
        _ => &[],
    }
}

/// Whether an argument is `True` or `False` itself.
#[inline]
pub(crate) fn plain_truth(argument: Borrowed<'_, '_, PyAny>) -> Option<bool> {
    // SAFETY: the two live for ever, and only their addresses are looked at.
    let [yes, no] = unsafe { [ffi::Py_True(), ffi::Py_False()] };
    match argument.as_ptr() {
        pointer if pointer == yes => Some(true),
        pointer if pointer == no => Some(false),
        _ => None,
    }
}

/// Whether an argument is a zero of one of Python's own types.
#[inline]
pub(crate) fn is_plain_zero(argument: Borrowed<'_, '_, PyAny>) -> bool {
    if let Ok(whole) = argument.cast_exact::<PyInt>() {
        return whole.extract::<i64>().is_ok_and(|whole| whole == 0);
    }
    argument.cast_exact::<PyFloat>().is_ok_and(|number| number.value() == 0.0)
}

/// `True` or `False`.
#[inline]
pub(crate) fn truth(py: Python<'_>, value: bool) -> Py<PyAny> {
    PyBool::new(py, value).to_owned().into_any().unbind()
}

/// Defines shortcuts.
macro_rules! shortcuts {
    ($($(#[$meta:meta])* $name:ident: $class:ty, $method:literal, |$py:ident, $this:ident, $arguments:pat_param| $body:expr;)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name;

        impl $crate::shortcut::Shortcut for $name {
            type Class = $class;

            const NAME: &'static ::std::ffi::CStr = $method;

            fn long_way() -> &'static $crate::shortcut::LongWay {
                static LONG_WAY: $crate::shortcut::LongWay = $crate::shortcut::LongWay::new();
                &LONG_WAY
            }

            #[inline]
            fn take<'py>(
                $py: ::pyo3::Python<'py>,
                $this: ::pyo3::Borrowed<'_, 'py, $class>,
                $arguments: &[::pyo3::Borrowed<'_, 'py, ::pyo3::PyAny>],
            ) -> Option<::pyo3::Py<::pyo3::PyAny>> {
                $body
            }
        }
    )*};
}

pub(crate) use shortcuts;
