//! Signals: who gets them, and how a worker learns that its parent is gone.
//!
//! # Rules
//!
//! 1. Native threads of the parent take no signals: they start with every signal blocked, so that the kernel
//!    delivers to a thread of the host language, whose waits then end with `EINTR`.
//! 2. A worker takes them, also one that such a thread has started: what a thread blocks its children inherit.
//! 3. A worker ends when its *process* parent ends. The kernel's parent-death signal fires whenever the *thread*
//!    that made the worker ends, and goes on firing for each thread that inherits it; so the handler looks whether the
//!    parent process has really changed, and ignores the signal otherwise. What the worker has started ends with it, as far as
//!    it is in a process group that the worker leads.

use std::io;
use std::mem::MaybeUninit;

use raddle_core::prim::atomic::AtomicU32;
use raddle_core::prim::atomic::Ordering::Relaxed;

/// Runs `work` with every signal blocked in this thread. A thread started inside inherits the mask (rule 1).
pub fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    /// Puts the old mask back, also when `work` unwinds.
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set was filled by `pthread_sigmask` below and is valid for this thread.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
        }
    }

    let mut all = MaybeUninit::uninit();
    let mut old = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was initialised just above; `old` is written by the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
    // SAFETY: `pthread_sigmask` cannot fail with these arguments and has written `old`.
    let _restore = Restore(unsafe { old.assume_init() });
    work()
}

/// Lets every signal through to this thread (rule 2).
pub(crate) fn unblock_signals() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was initialised just above; no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// The process whose death ends us; 0 while there is none.
static PARENT: AtomicU32 = AtomicU32::new(0);

/// Ends this process with exit code 1 as soon as `parent` has ended (rule 3).
///
/// # Errors
///
/// When the kernel refuses the handler or the death signal. If the parent has ended already, this call does not
/// return.
pub(crate) fn die_with_parent(parent: u32) -> io::Result<()> {
    PARENT.store(parent, Relaxed);
    let signal = libc::SIGRTMIN() + 7;
    // SAFETY: an all-zero sigaction is a valid value: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = look_for_parent as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `look_for_parent` calls async-signal-safe functions only.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: prctl with PR_SET_PDEATHSIG takes one integer and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) } != 0 {
        return Err(io::Error::last_os_error());
    }
    look_for_parent(signal); // it may have ended before the kernel was asked
    Ok(())
}

/// Signal handler: ends this process if its parent is no longer the one it was made by.
extern "C" fn look_for_parent(_signal: libc::c_int) {
    // SAFETY: `getppid` is async-signal-safe and always succeeds.
    if unsafe { libc::getppid() }.cast_unsigned() != PARENT.load(Relaxed) {
        // SAFETY: `getpgrp` and `getpid` are async-signal-safe and always succeed.
        if unsafe { libc::getpgrp() == libc::getpid() } {
            // SAFETY: `kill` is async-signal-safe. 0 is our own group, which we lead: nobody is in it but us and what we started.
            unsafe { libc::kill(0, libc::SIGKILL) };
        }
        // SAFETY: `_exit` is async-signal-safe; nobody is left who could read an exit report.
        unsafe { libc::_exit(1) };
    }
}
