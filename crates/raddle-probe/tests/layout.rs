//! The table of offsets is what CPython's headers say: a C program is compiled against those of each interpreter that is there.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Offsets that are not `offsetof(structure, field)` of one line of the table below.
const HEAD: &str = r#"
#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include <stdio.h>
#include "internal/pycore_runtime.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_frame.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_gil.h"
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_tstate.h"
#endif
#define O(name, type, field) printf("%s %zu\n", name, offsetof(type, field))
int main(void) {
#if PY_VERSION_HEX < 0x030C0000
    O("runtime_gil", _PyRuntimeState, ceval.gil);
    O("interp_modules", PyInterpreterState, modules);
    O("long_digits", PyLongObject, ob_digit);
#else
    O("interp_gil", PyInterpreterState, ceval.gil);
    O("interp_modules", PyInterpreterState, imports.modules);
    O("long_digits", PyLongObject, long_value.ob_digit);
#endif
#if PY_VERSION_HEX < 0x030D0000
    O("tstate_frame", PyThreadState, cframe);
    O("cframe_current_frame", _PyCFrame, current_frame);
    O("frame_code", _PyInterpreterFrame, f_code);
    O("frame_instr", _PyInterpreterFrame, prev_instr);
#else
    O("tstate_frame", PyThreadState, current_frame);
    O("frame_code", _PyInterpreterFrame, f_executable);
    O("frame_instr", _PyInterpreterFrame, instr_ptr);
#endif
#if PY_VERSION_HEX < 0x030E0000
    O("frame_stacktop", _PyInterpreterFrame, stacktop);
#else
    O("frame_stacktop", _PyInterpreterFrame, stackpointer);
    O("interp_tasks_head", PyInterpreterState, asyncio_tasks_head);
    O("tstate_tasks_head", _PyThreadStateImpl, asyncio_tasks_head);
#endif
    printf("str_ascii_size %zu\n", sizeof(PyASCIIObject));
    printf("str_compact_size %zu\n", sizeof(PyCompactUnicodeObject));
    printf("gil_size %zu\n", sizeof(struct _gil_runtime_state));
"#;

const FIELDS: &[(&str, &str, &[&str])] = &[
    ("runtime", "_PyRuntimeState", &["interpreters_head=interpreters.head"]),
    ("interp", "PyInterpreterState", &["next", "id", "threads_head=threads.head"]),
    ("tstate", "PyThreadState", &["next", "interp", "thread_id", "native_thread_id"]),
    ("frame", "_PyInterpreterFrame", &["previous", "globals=f_globals", "owner", "localsplus"]),
    (
        "code",
        "PyCodeObject",
        &[
            "filename=co_filename",
            "qualname=co_qualname",
            "linetable=co_linetable",
            "exceptiontable=co_exceptiontable",
            "firstlineno=co_firstlineno",
            "nlocalsplus=co_nlocalsplus",
            "stacksize=co_stacksize",
            "localsplusnames=co_localsplusnames",
            "code=co_code_adaptive",
        ],
    ),
    (
        "type",
        "PyTypeObject",
        &["name=tp_name", "basicsize=tp_basicsize", "flags=tp_flags", "dictoffset=tp_dictoffset", "base=tp_base"],
    ),
    ("type", "PyHeapTypeObject", &["cached_keys=ht_cached_keys"]),
    ("str", "PyASCIIObject", &["length", "state"]),
    ("bytes", "PyBytesObject", &["data=ob_sval"]),
    ("tuple", "PyTupleObject", &["items=ob_item"]),
    ("dict", "PyDictObject", &["keys=ma_keys", "values=ma_values"]),
    (
        "keys",
        "PyDictKeysObject",
        &["log2_index_bytes=dk_log2_index_bytes", "kind=dk_kind", "nentries=dk_nentries", "indices=dk_indices"],
    ),
    ("cfunction", "PyCFunctionObject", &["ml=m_ml", "self=m_self"]),
    ("method", "PyMethodObject", &["self=im_self"]),
    ("function", "PyFunctionObject", &["name=func_name"]),
    ("gil", "struct _gil_runtime_state", &["last_holder", "locked"]),
    ("values", "PyDictValues", &["values"]),
    ("set", "PySetObject", &["mask", "table"]),
    ("weakref", "PyWeakReference", &["object=wr_object"]),
    ("gen", "PyGenObject", &["frame_state=gi_frame_state", "iframe=gi_iframe"]),
];

fn program() -> String {
    let mut source = String::from(HEAD);
    for (prefix, structure, fields) in FIELDS {
        for field in *fields {
            let (name, field) = field.split_once('=').unwrap_or((field, field));
            source += &format!("    O(\"{prefix}_{name}\", {structure}, {field});\n");
        }
    }
    source + "    return 0;\n}\n"
}

/// Every Python 3 that is on PATH or beside others of its kind.
fn interpreters() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    directories.extend(
        versions.and_then(|at| fs::read_dir(at).ok()).into_iter().flatten().flatten().map(|at| at.path().join("bin")),
    );
    let names = ["python3.11", "python3.12", "python3.13", "python3.14"];
    directories
        .iter()
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn the_offsets_are_those_of_the_headers() {
    let directory = std::env::temp_dir().join(format!("raddle-probe-layout-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory for a small program");
    fs::write(directory.join("offsets.c"), program()).expect("a small program");
    for python in interpreters() {
        let ask = "import sys, sysconfig; print(sys.version_info[1], sysconfig.get_config_var('Py_GIL_DISABLED') or 0, sysconfig.get_path('include'))";
        let Ok(answer) = Command::new(&python).args(["-c", ask]).output() else { continue };
        let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
        let mut words = answer.trim().splitn(3, ' ');
        let (Some(minor), Some("0"), Some(include)) =
            (words.next().and_then(|word| word.parse().ok()), words.next(), words.next())
        else {
            continue;
        };
        let binary = directory.join(format!("offsets{minor}"));
        let built = Command::new("cc")
            .arg("-w")
            .arg(format!("-I{include}"))
            .arg(directory.join("offsets.c"))
            .arg("-o")
            .arg(&binary)
            .output();
        // Without headers or a compiler there is nothing to compare with.
        if !built.is_ok_and(|built| built.status.success()) {
            continue;
        }
        let said = Command::new(&binary).output().expect("it was built just now").stdout;
        let said: Vec<(String, u64)> = String::from_utf8_lossy(&said)
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        let table = raddle_probe::offsets(minor).expect("only known versions are asked");
        for (name, offset) in &table {
            let header = said.iter().find(|(other, _)| other == name).map_or(0, |(_, value)| *value);
            assert_eq!((*name, *offset), (*name, header), "CPython 3.{minor}, {}", python.display());
        }
        for (name, _) in &said {
            assert!(table.iter().any(|(other, _)| other == name), "{name} is asked for and not in the table");
        }
    }
    fs::remove_dir_all(&directory).expect("the directory is ours");
}
