//! Standing in front of methods that are written in C: the function in a method's definition is exchanged.
//!
//! The definition is shared by all that refer to the method: by bound methods that were made before, too, and by code that is specialised. The
//! type stays what it is. So it is done once, and whoever stands in front calls the function that was there.
//!
//! # Rules
//!
//! 1. A definition is changed only if its flags are those that the function in front is written for.
//! 2. It is changed while this thread holds the GIL and is the only one that can run Python; it is changed back only in the same moment.
//! 3. The function that was there is kept before.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;
use raddle_core::prim::atomic::{AtomicPtr, Ordering::Relaxed};

/// A function that was there before.
pub(super) struct Original(AtomicPtr<()>);

impl Original {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// A method without arguments, or with one.
    #[inline]
    pub(super) fn plain(&self) -> ffi::PyCFunction {
        // SAFETY: rules 1 and 3: what stands in front, and so gets here, was put there for a function of this kind after it was kept.
        unsafe { std::mem::transmute::<*mut (), ffi::PyCFunction>(self.0.load(Relaxed)) }
    }

    /// A method with positional arguments and keywords.
    #[inline]
    pub(super) fn with_keywords(&self) -> ffi::PyCFunctionWithKeywords {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut (), ffi::PyCFunctionWithKeywords>(self.0.load(Relaxed)) }
    }

    /// A method with positional arguments and keywords, in an array.
    #[inline]
    pub(super) fn fast(&self) -> ffi::PyCFunctionFastWithKeywords {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut (), ffi::PyCFunctionFastWithKeywords>(self.0.load(Relaxed)) }
    }

    /// What makes an object of a type.
    pub(super) fn newfunc(&self) -> ffi::newfunc {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut (), ffi::newfunc>(self.0.load(Relaxed)) }
    }

    /// What takes an object apart.
    pub(super) fn destructor(&self) -> ffi::destructor {
        // SAFETY: as above.
        unsafe { std::mem::transmute::<*mut (), ffi::destructor>(self.0.load(Relaxed)) }
    }

    pub(super) fn keep(&self, function: *mut ()) {
        self.0.store(function, Relaxed);
    }
}

/// The definition of a method of a type, or of a function of a module; null if there is none of that kind.
pub(super) fn definition(of: *mut ffi::PyObject, name: &CStr) -> *mut ffi::PyMethodDef {
    // SAFETY: attached, an object that lives; what is found stays alive in the type or the module.
    unsafe {
        let found = ffi::PyObject_GetAttrString(of, name.as_ptr());
        if found.is_null() {
            ffi::PyErr_Clear();
            return ptr::null_mut();
        }
        let definition = if ffi::Py_TYPE(found) == &raw mut ffi::PyMethodDescr_Type {
            (*found.cast::<ffi::PyMethodDescrObject>()).d_method
        } else if ffi::PyCFunction_CheckExact(found) != 0 {
            (*found.cast::<ffi::PyCFunctionObject>()).m_ml
        } else {
            ptr::null_mut()
        };
        ffi::Py_DECREF(found);
        definition
    }
}

/// Puts a function in front. False: it was left as it is.
///
/// `function` is one that takes what a method with these flags takes.
pub(super) fn stand_before(
    of: *mut ffi::PyObject,
    name: &CStr,
    flags: i32,
    original: &Original,
    function: *mut (),
) -> bool {
    let definition = definition(of, name);
    // SAFETY: rules 1 to 3; a definition lies in memory that can be written and lives as long as the process.
    unsafe {
        if definition.is_null() || (*definition).ml_flags & !ffi::METH_COEXIST != flags {
            return false;
        }
        let was = (*definition).ml_meth.PyCFunction as *mut ();
        if was != function {
            original.keep(was);
            (*definition).ml_meth = pointer(function);
        }
        true
    }
}

/// Takes it away again.
pub(super) fn stand_aside(of: *mut ffi::PyObject, name: &CStr, original: &Original, function: *mut ()) {
    let definition = definition(of, name);
    // SAFETY: as above.
    unsafe {
        if !definition.is_null() && (*definition).ml_meth.PyCFunction as *mut () == function {
            (*definition).ml_meth = pointer(original.0.load(Relaxed));
        }
    }
}

fn pointer(function: *mut ()) -> ffi::PyMethodDefPointer {
    // SAFETY: a function; which kind it is, the flags of the definition say, and CPython looks at them.
    ffi::PyMethodDefPointer { PyCFunction: unsafe { std::mem::transmute::<*mut (), ffi::PyCFunction>(function) } }
}
