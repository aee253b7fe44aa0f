//! Says which interpreter is built for: `Py_GIL_DISABLED` is set for one without a GIL.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
