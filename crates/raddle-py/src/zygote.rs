//! What a zygote needs of the system and Python does not have: see `raddle_boot.zygote`.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use raddle_proc::child;

/// Makes this process end when `parent` does, and lets every signal through to this thread.
#[pyfunction]
pub(crate) fn follow(parent: u32) -> PyResult<()> {
    Ok(child::follow(parent)?)
}

/// The exit code of the child behind a pidfd, negative for a signal, and the bytes that it had in memory at most; it is not
/// collected. None: it runs.
#[pyfunction]
pub(crate) fn look_at_child(pidfd: RawFd) -> PyResult<Option<(Option<i32>, u64)>> {
    // SAFETY: the caller keeps the descriptor open during the call.
    let pidfd = unsafe { BorrowedFd::borrow_raw(pidfd) };
    Ok(child::look_at(pidfd)?.map(|(ending, peak)| (ending.code(), peak)))
}
