//! How children end: what `wait` and its kin say to the interpreter, and who was sent a signal.
//!
//! Whoever observes is no parent of theirs, and the kernel tells only a parent how a child has ended, once. So what it tells is read where the interpreter
//! gets it. A child that was sent a signal was meant to end by it, which is no news.
//!
//! # Rules
//!
//! 1. The function of the C library is called exactly once, with the same arguments; what it returns, and `errno`, are what the interpreter gets.
//! 2. These functions are called without the GIL: what is touched here is the thread's own.

use std::ffi::{c_int, c_void};

use raddle_trace::events::format::{child, record};

use super::file;
use super::got::{self, Front};
use super::here::Here;

/// Writes a record, and leaves `errno` as it is.
fn write(kind: u8, flags: u8, pid: u32, number: c_int) {
    // SAFETY: the C library's own word for this thread, which lives as long as it does.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    let here = Here::get_or_begin();
    if !here.is_null() {
        // SAFETY: this thread's own.
        unsafe { (*here).write(kind, flags, pid, &[file::now(), u64::from(number as u32)]) };
    }
    *errno = before;
}

/// A child has been waited for. `status`: what the C library has filled in, or null.
///
/// # Safety
///
/// It is null, or filled in.
unsafe fn reaped(pid: libc::pid_t, status: *const c_int) -> libc::pid_t {
    if pid > 0 && !status.is_null() {
        // SAFETY: the caller says so.
        let status = unsafe { *status };
        if libc::WIFEXITED(status) {
            write(record::REAPED, 0, pid as u32, libc::WEXITSTATUS(status));
        } else if libc::WIFSIGNALED(status) {
            write(record::REAPED, child::BY_SIGNAL, pid as u32, libc::WTERMSIG(status));
        }
    }
    pid
}

unsafe extern "C" fn wait(status: *mut c_int) -> libc::pid_t {
    // SAFETY: rule 1.
    unsafe { reaped(libc::wait(status), status) }
}

unsafe extern "C" fn waitpid(pid: libc::pid_t, status: *mut c_int, options: c_int) -> libc::pid_t {
    // SAFETY: rule 1.
    unsafe { reaped(libc::waitpid(pid, status, options), status) }
}

unsafe extern "C" fn wait4(
    pid: libc::pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> libc::pid_t {
    // SAFETY: rule 1.
    unsafe { reaped(libc::wait4(pid, status, options, usage), status) }
}

/// `wait4` for any child.
unsafe extern "C" fn wait3(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t {
    // SAFETY: rule 1.
    unsafe { reaped(libc::wait4(-1, status, options, usage), status) }
}

unsafe extern "C" fn waitid(kind: libc::idtype_t, id: libc::id_t, info: *mut libc::siginfo_t, options: c_int) -> c_int {
    // SAFETY: rule 1; the fields are those of a SIGCHLD, which this is if there is a code of one.
    unsafe {
        let result = libc::waitid(kind, id, info, options);
        if result == 0 && !info.is_null() && (*info).si_pid() > 0 {
            let (pid, number) = ((*info).si_pid() as u32, (*info).si_status());
            match (*info).si_code {
                libc::CLD_EXITED => write(record::REAPED, 0, pid, number),
                libc::CLD_KILLED | libc::CLD_DUMPED => write(record::REAPED, child::BY_SIGNAL, pid, number),
                _ => {}
            }
        }
        result
    }
}

unsafe extern "C" fn kill(pid: libc::pid_t, number: c_int) -> c_int {
    // Before it: who has sent itself one may not come back. To a whole group it is sent to nobody in particular.
    if number != 0 {
        write(record::SIGNALLED, 0, pid.max(0) as u32, number);
    }
    // SAFETY: rule 1.
    unsafe { libc::kill(pid, number) }
}

unsafe extern "C" fn killpg(group: libc::pid_t, number: c_int) -> c_int {
    if number != 0 {
        write(record::SIGNALLED, 0, 0, number);
    }
    // SAFETY: rule 1.
    unsafe { libc::killpg(group, number) }
}

/// Attached. What the interpreter does not call is not there, and nothing is missing.
pub(super) fn install() {
    let fronts = [
        Front { name: c"wait", function: wait as *const c_void },
        Front { name: c"waitpid", function: waitpid as *const c_void },
        Front { name: c"wait3", function: wait3 as *const c_void },
        Front { name: c"wait4", function: wait4 as *const c_void },
        Front { name: c"waitid", function: waitid as *const c_void },
        Front { name: c"kill", function: kill as *const c_void },
        Front { name: c"killpg", function: killpg as *const c_void },
    ];
    _ = got::stand_before(&fronts);
}
