//! What rustix does not wrap: how a child has ended together with what it has used, and signals to the process group of a pidfd.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::{Signal, WaitIdOptions};

use crate::Ending;

/// How a child ended, and its peak resident memory in bytes, or that of one of its own children if that was larger. None: it has
/// not ended. Sleeps until it has, unless the options say otherwise.
pub(crate) fn wait(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<(Ending, u64)>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // The C library's `waitid` leaves out the fifth argument, and its `wait4` knows no pidfd.
    // SAFETY: both pointers are to memory of the type that the kernel fills in, and live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            options.bits(),
            usage.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(last_error());
    }
    // SAFETY: all-zero is a valid value, and the kernel has written over it or left it.
    let info = unsafe { info.assume_init() };
    // SAFETY: as above.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: the field is there for what `waitid` fills in; zero, if no child has ended.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let ending = match info.si_code {
        libc::CLD_EXITED => Ending::Exited(status),
        libc::CLD_KILLED | libc::CLD_DUMPED => Ending::Signalled(status),
        _ => Ending::Unknown,
    };
    Ok(Some((ending, usage.ru_maxrss.unsigned_abs() << 10)))
}

/// Sends a signal to the process group that this process leads, also when the leader is gone. `INVAL`: the kernel is older than 6.9.
pub(crate) fn signal_group(leader: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    /// `PIDFD_SIGNAL_PROCESS_GROUP`
    const GROUP: libc::c_uint = 4;
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the null pointer stands for the information that `kill` sends.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, leader.as_raw_fd(), signal.as_raw(), info, GROUP) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
