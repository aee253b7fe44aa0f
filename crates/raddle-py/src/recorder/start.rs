//! The recorder's start: what the line in the `.pth` file calls, in every Python process that has `RADDLE_SESSION` in its environment.
//!
//! The module is never put into `sys.modules`, and nothing of it is kept. All that it does is done when it is created.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::ffi;
use raddle_core::prim::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed},
};
use raddle_trace::events::format::{BUFFER, flag, header};

use super::file::{Directory, Map};
use super::{children, fork, gil, join, life, lock, place};

/// What `_imp.create_dynamic` looks for.
#[unsafe(no_mangle)]
unsafe extern "C" fn PyInit_raddle_recorder() -> *mut ffi::PyObject {
    // SAFETY: a definition that lives for ever, and is only written by CPython under its import lock.
    unsafe { ffi::PyModuleDef_Init(DEFINITION.0.get()) }
}

struct Definition(UnsafeCell<ffi::PyModuleDef>);

// SAFETY: only CPython writes it, and holds a lock of its own or the GIL.
unsafe impl Sync for Definition {}

struct Slots(UnsafeCell<[ffi::PyModuleDef_Slot; 3]>);

// SAFETY: never written.
unsafe impl Sync for Slots {}

static SLOTS: Slots = Slots(UnsafeCell::new([
    ffi::PyModuleDef_Slot { slot: ffi::Py_mod_create, value: create as *mut c_void },
    #[cfg(Py_3_12)]
    ffi::PyModuleDef_Slot { slot: ffi::Py_mod_multiple_interpreters, value: ffi::Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
    ffi::PyModuleDef_Slot { slot: 0, value: ptr::null_mut() },
    #[cfg(not(Py_3_12))]
    ffi::PyModuleDef_Slot { slot: 0, value: ptr::null_mut() },
]));

static DEFINITION: Definition = Definition(UnsafeCell::new(ffi::PyModuleDef {
    m_base: ffi::PyModuleDef_HEAD_INIT,
    m_name: c"raddle_recorder".as_ptr(),
    m_doc: ptr::null(),
    m_size: 0,
    m_methods: ptr::null_mut(),
    m_slots: SLOTS.0.get().cast(),
    m_traverse: None,
    m_clear: None,
    m_free: None,
}));

static HAS_STARTED: AtomicBool = AtomicBool::new(false);

/// Starts the recorder, once in a process; and makes a module that nobody keeps.
unsafe extern "C" fn create(_spec: *mut ffi::PyObject, _definition: *mut ffi::PyModuleDef) -> *mut ffi::PyObject {
    if !HAS_STARTED.swap(true, AcqRel) {
        // A panic here must not end the user's program; what is half done stays off.
        // SAFETY: CPython calls this attached.
        let started = catch_unwind(AssertUnwindSafe(|| unsafe { start() }));
        if started.is_err() {
            lock::IS_ON.store(false, Relaxed);
        }
        // SAFETY: attached; whatever has gone wrong is not the program's.
        unsafe { ffi::PyErr_Clear() };
    }
    // SAFETY: attached.
    unsafe { ffi::PyModule_New(c"raddle_recorder".as_ptr()) }
}

unsafe fn start() {
    let Some(directory) = std::env::var_os("RADDLE_SESSION") else { return };
    use std::os::unix::ffi::OsStrExt;
    let Some(directory) = Directory::new(directory.as_bytes()) else { return };
    let buffer = std::env::var("RADDLE_BUFFER").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(BUFFER);
    if fork::begin(directory, buffer).is_err() {
        return;
    }
    let Some(map) = Map::get() else { return };
    // SAFETY: attached, which the caller says.
    unsafe {
        if let Err(why) = version() {
            return map.note(why);
        }
        let mut length = 0;
        let library = ffi::PySys_GetObject(c"_stdlib_dir".as_ptr());
        let library =
            if library.is_null() { ptr::null() } else { ffi::PyUnicode_AsUTF8AndSize(library, &raw mut length) };
        let mut path = Vec::new();
        if !library.is_null() {
            path.extend_from_slice(CStr::from_ptr(library).to_bytes());
            path.push(b'/');
        }
        if let Err(why) = place::learn(&path) {
            map.note(why);
        }
        let thread = ffi::PyDict_GetItemString(ffi::PyImport_GetModuleDict(), c"_thread".as_ptr());
        if thread.is_null() {
            return map.note("there is no module _thread");
        }
        let mut flags = 0;
        match lock::install(thread) {
            Ok(()) => flags |= flag::LOCKS,
            Err(why) => map.note(why),
        }
        match gil::install() {
            Ok(()) => flags |= flag::GIL,
            Err(why) => map.note(why),
        }
        match life::install(thread) {
            Ok(()) => flags |= flag::THREADS,
            Err(why) => map.note(why),
        }
        if let Err(why) = join::install(thread) {
            map.note(why);
        }
        children::install();
        map.half(header::FLAGS).fetch_or(flags, Relaxed);
    }
}

/// Whether the interpreter is of the version that this is built for, and one that the recorder knows.
fn version() -> Result<(), &'static str> {
    if cfg!(Py_GIL_DISABLED) {
        return Err("nothing is recorded in a free-threaded interpreter");
    }
    // SAFETY: a constant.
    let runs = unsafe { ffi::Py_Version } >> 16;
    if runs as u32 != 0x300 + place::MINOR {
        return Err("this version of Python is not known to the recorder: nothing is recorded from within");
    }
    Ok(())
}
