//! Threads: who starts them, with which function, and how they end; and what the interpreter leaves behind when it ends.
//!
//! # Rules
//!
//! 1. What a thread is started with is only looked at where that runs no code of users: in the dictionary of a `threading.Thread`, by names that are strings.
//! 2. Of an exception only its type's name and a message that is a string already are noted. It is CPython's hook that asks it for more.

use std::ffi::{CStr, c_int};
use std::ptr;

use pyo3::ffi;
use raddle_core::prim::atomic::Ordering::{Relaxed, Release};
use raddle_trace::events::format::{STACK_DEPTH, TEXT_LENGTH, flag, header, lock, record};

use super::file::{self, Map};
use super::here::Here;
use super::method::{self, Original};
use super::{join, lock as locks, place, table};

type Object = *mut ffi::PyObject;

static START_NEW: Original = Original::new();
static START_JOINABLE: Original = Original::new();
static EXCEPTHOOK: Original = Original::new();

/// What a thread is started with.
#[derive(Clone, Copy, Debug, Default)]
struct Started {
    called: u64,
    stack: u32,
    function: u32,
    name: u32,
    daemon: u8,
}

/// `_thread.start_new_thread`.
unsafe extern "C" fn start_new(module: Object, arguments: Object) -> Object {
    // SAFETY: CPython's own arguments for this function.
    unsafe {
        let original = START_NEW.plain();
        let Some((_, here)) = locks::enter() else { return original(module, arguments) };
        let function =
            if ffi::PyTuple_GET_SIZE(arguments) > 0 { ffi::PyTuple_GET_ITEM(arguments, 0) } else { ptr::null_mut() };
        let started = look(&mut *here, function);
        let result = original(module, arguments);
        if !result.is_null() && ffi::PyLong_CheckExact(result) != 0 {
            note(started, ffi::PyLong_AsUnsignedLongLong(result), 0);
        }
        result
    }
}

/// `_thread.start_joinable_thread`, from 3.13 on.
unsafe extern "C" fn start_joinable(module: Object, arguments: Object, keywords: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        let original = START_JOINABLE.with_keywords();
        let Some((_, here)) = locks::enter() else { return original(module, arguments, keywords) };
        let mut function =
            if ffi::PyTuple_GET_SIZE(arguments) > 0 { ffi::PyTuple_GET_ITEM(arguments, 0) } else { ptr::null_mut() };
        if function.is_null() && !keywords.is_null() {
            function = ffi::PyDict_GetItemString(keywords, c"function".as_ptr());
        }
        let started = look(&mut *here, function);
        let result = original(module, arguments, keywords);
        if !result.is_null() {
            // A property of a type of CPython's own.
            let ident = ffi::PyObject_GetAttrString(result, c"ident".as_ptr());
            if !ident.is_null() && ffi::PyLong_CheckExact(ident) != 0 {
                join::begins(result);
                note(started, ffi::PyLong_AsUnsignedLongLong(ident), result as u64);
            }
            ffi::Py_XDECREF(ident);
            if !ffi::PyErr_Occurred().is_null() {
                ffi::PyErr_Clear();
            }
        }
        result
    }
}

unsafe fn look(here: &mut Here, function: Object) -> Started {
    let first = place::innermost(here);
    let mut started =
        Started { called: file::now(), stack: place::stack(here, first, STACK_DEPTH), ..Started::default() };
    // SAFETY: rule 1; everything is borrowed from what is being started, but for the dictionary.
    unsafe {
        if function.is_null() {
            return started;
        }
        if !is_method(function) {
            started.function = place_of(here, function);
            return started;
        }
        let this = PyMethod_Self(function);
        let has_dictionary = !this.is_null() && (*ffi::Py_TYPE(this)).tp_dictoffset != 0;
        let dictionary =
            if has_dictionary { ffi::PyObject_GenericGetDict(this, ptr::null_mut()) } else { ptr::null_mut() };
        if dictionary.is_null() {
            ffi::PyErr_Clear();
            started.function = place_of(here, function);
            return started;
        }
        if ffi::PyDict_CheckExact(dictionary) != 0 {
            let get = |name: &CStr| ffi::PyDict_GetItemString(dictionary, name.as_ptr());
            let target = get(c"_target");
            let runs = if target.is_null() || target == ffi::Py_None() { in_class(this, c"run") } else { target };
            started.function = place_of(here, runs);
            let name = get(c"_name");
            started.name = if name.is_null() { 0 } else { place::string(here, name) };
            started.daemon = match get(c"_daemonic") {
                daemon if daemon == ffi::Py_True() => 1,
                daemon if daemon == ffi::Py_False() => 2,
                _ => 0,
            };
        }
        ffi::Py_DECREF(dictionary);
        ffi::PyErr_Clear();
    }
    started
}

/// What a name means in an object's class, found in the dictionaries of its bases; borrowed.
unsafe fn in_class(object: Object, name: &CStr) -> Object {
    // SAFETY: a type that lives, whose order of bases is a tuple of types.
    unsafe {
        let order = (*ffi::Py_TYPE(object)).tp_mro;
        let count = if order.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(order) };
        for index in 0..count {
            let dictionary = (*ffi::PyTuple_GET_ITEM(order, index).cast::<ffi::PyTypeObject>()).tp_dict;
            let found = if dictionary.is_null() {
                ptr::null_mut()
            } else {
                ffi::PyDict_GetItemString(dictionary, name.as_ptr())
            };
            if !found.is_null() {
                return found;
            }
        }
        ptr::null_mut()
    }
}

/// The number of the place where a function begins.
unsafe fn place_of(here: &mut Here, function: Object) -> u32 {
    // SAFETY: borrowed, and alive.
    unsafe {
        let mut function = function;
        if !function.is_null() && is_method(function) {
            function = PyMethod_Function(function);
        }
        if function.is_null() || ffi::PyFunction_Check(function) == 0 {
            return 0;
        }
        place::beginning(here, ffi::PyFunction_GetCode(function) as usize)
    }
}

fn note(started: Started, ident: u64, handle: u64) {
    let Some((map, here)) = locks::enter() else { return };
    join::look_for_means(map);
    let what = u64::from(started.function) | u64::from(started.name) << 32;
    let words = [ident, started.called, file::now(), what, handle];
    // SAFETY: this thread's own.
    unsafe { (*here).write(record::START, started.daemon, started.stack, &words) };
}

/// `_thread._excepthook`, which `threading.excepthook` is unless the program has another.
unsafe extern "C" fn excepthook(module: Object, arguments: Object) -> Object {
    // SAFETY: as above.
    unsafe {
        if let Some((_, here)) = locks::enter() {
            note_exception(&mut *here, arguments);
        }
        EXCEPTHOOK.plain()(module, arguments)
    }
}

unsafe fn note_exception(here: &mut Here, arguments: Object) {
    // SAFETY: rule 2; a structure of four fields, all borrowed.
    unsafe {
        if ffi::PyTuple_Check(arguments) == 0 || ffi::PyTuple_GET_SIZE(arguments) < 4 {
            return;
        }
        let [kind, value, traceback] = [0, 1, 2].map(|index| ffi::PyTuple_GET_ITEM(arguments, index));
        if kind == ffi::PyExc_SystemExit || ffi::PyType_Check(kind) == 0 {
            return;
        }
        let mut places = [0; STACK_DEPTH];
        let mut count = 0;
        let mut at = traceback.cast::<ffi::PyTracebackObject>();
        while !at.is_null() && ffi::Py_TYPE(at.cast()) == &raw mut ffi::PyTraceBack_Type {
            let code = ffi::PyFrame_GetCode((*at).tb_frame);
            let place = place::at(here, code as usize, (*at).tb_lasti);
            ffi::Py_DECREF(code.cast());
            // The innermost is the last, and stands in front.
            places.copy_within(..STACK_DEPTH - 1, 1);
            places[0] = place;
            count = (count + 1).min(STACK_DEPTH);
            at = (*at).tb_next;
        }
        let stack = place::stack_of(here, &places[..count]);
        let mut line = [0; TEXT_LENGTH];
        let name = CStr::from_ptr((*kind.cast::<ffi::PyTypeObject>()).tp_name).to_bytes();
        let mut length = put(&mut line, 0, name);
        if !value.is_null() && ffi::PyExceptionInstance_Check(value) != 0 {
            let words = (*value.cast::<ExceptionHead>()).args;
            if !words.is_null() && ffi::PyTuple_CheckExact(words) != 0 && ffi::PyTuple_GET_SIZE(words) == 1 {
                let mut message = [0; TEXT_LENGTH];
                let size = place::bytes_of(ffi::PyTuple_GET_ITEM(words, 0), &mut message);
                if size > 0 {
                    length = put(&mut line, length, b": ");
                    let first = message[..size].split(|byte| *byte == b'\n').next().unwrap_or_default();
                    length = put(&mut line, length, first);
                }
            }
        }
        let text = place::text(here, &line[..length]);
        here.write(record::EXCEPTION, 0, stack, &[file::now(), u64::from(text)]);
    }
}

/// The front of every exception.
#[repr(C)]
struct ExceptionHead {
    head: ffi::PyObject,
    dict: Object,
    args: Object,
}

fn put(line: &mut [u8; TEXT_LENGTH], at: usize, text: &[u8]) -> usize {
    let length = text.len().min(line.len() - at);
    line[at..at + length].copy_from_slice(&text[..length]);
    at + length
}

unsafe extern "C" {
    #[cfg_attr(Py_3_13, link_name = "Py_IsFinalizing")]
    fn _Py_IsFinalizing() -> c_int;
    static PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Self(method: Object) -> Object;
    fn PyMethod_Function(method: Object) -> Object;
}

fn is_method(object: Object) -> bool {
    // SAFETY: only the address of the type is looked at.
    unsafe { ffi::Py_TYPE(object) == (&raw const PyMethod_Type).cast_mut() }
}

/// Whether the interpreter is coming to its end.
pub(super) fn is_ending() -> bool {
    // SAFETY: asks for nothing.
    unsafe { _Py_IsFinalizing() != 0 }
}

/// A lock is about to go; is it held still, although the interpreter ends?
pub(super) fn leaks(map: Map, here: &mut Here, object: usize) {
    if !is_ending() {
        return;
    }
    let Some((_, entry)) = table::find(map, object) else { return };
    // SAFETY: an entry under the GIL.
    let entry = unsafe { &mut *entry };
    if entry.owner != 0 && entry.flags & (lock::IS_WAITER | lock::IS_PASSED_ON) == 0 {
        entry.flags |= lock::IS_NAMED;
        let words = [file::now(), u64::from(entry.owner) | u64::from(entry.taken_at) << 32];
        here.write(record::LEAKED, 0, entry.serial, &words);
    }
}

/// The interpreter has ended.
extern "C" fn ended() {
    if let Some(map) = Map::get() {
        map.word(header::ENDED).store(file::now(), Relaxed);
        map.half(header::FLAGS).fetch_or(flag::ENDED, Release);
    }
    locks::IS_ON.store(false, Relaxed);
}

/// # Safety
///
/// Attached; `thread` is the module `_thread`.
pub(super) unsafe fn install(thread: Object) -> Result<(), &'static str> {
    method::stand_before(thread, c"_excepthook", ffi::METH_O, &EXCEPTHOOK, excepthook as *mut ());
    let keywords = ffi::METH_VARARGS | ffi::METH_KEYWORDS;
    let mut starts =
        method::stand_before(thread, c"start_new_thread", ffi::METH_VARARGS, &START_NEW, start_new as *mut ());
    starts &= method::stand_before(thread, c"start_new", ffi::METH_VARARGS, &START_NEW, start_new as *mut ());
    if cfg!(Py_3_13) {
        starts &= method::stand_before(
            thread,
            c"start_joinable_thread",
            keywords,
            &START_JOINABLE,
            start_joinable as *mut (),
        );
    }
    // SAFETY: a function that lives as long as the process, and touches nothing of Python. There is room for 32; without it the end is not known.
    unsafe { ffi::Py_AtExit(Some(ended)) };
    if starts { Ok(()) } else { Err("the starts of threads are not recorded") }
}
