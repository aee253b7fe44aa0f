//! The one place where `raddle top` sleeps: for a key, for a signal, or until the next look is due.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

use crate::keys::{Key, keys};

/// What has ended the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It is time.
    Due,
    Keys(Vec<Key>),
    /// A signal has come.
    Signal,
    /// The terminal is gone.
    HungUp,
}

/// How long what follows an escape character may take: a key is sent at once, but may arrive in two parts.
const SECOND_PART: Duration = Duration::from_millis(50);

/// Waits. `told`: a pipe into which each signal writes.
pub(crate) fn wait(terminal: BorrowedFd<'_>, told: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Woken> {
    let mut watched =
        [PollFd::from_borrowed_fd(terminal, PollFlags::IN), PollFd::from_borrowed_fd(told, PollFlags::IN)];
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    match sleep(&mut watched, left) {
        Err(Errno::INTR) => return Ok(Woken::Signal),
        done => done?,
    };
    let [terminal_has, told_has] = watched.map(|one| one.revents());
    if told_has.contains(PollFlags::IN) {
        read(told, &mut [0; 64])?;
        return Ok(Woken::Signal);
    }
    if terminal_has.is_empty() {
        return Ok(Woken::Due);
    }
    let mut bytes = [0; 256];
    let mut length = match read(terminal, &mut bytes) {
        Ok(0) | Err(Errno::IO) => return Ok(Woken::HungUp),
        Err(Errno::INTR | Errno::AGAIN) => return Ok(Woken::Signal),
        length => length?,
    };
    if bytes[..length].ends_with(b"\x1b") && length < bytes.len() {
        let mut watched = [PollFd::from_borrowed_fd(terminal, PollFlags::IN)];
        if sleep(&mut watched, Some(SECOND_PART)) == Ok(1) {
            length += read(terminal, &mut bytes[length..]).unwrap_or(0);
        }
    }
    Ok(Woken::Keys(keys(&bytes[..length])))
}

fn sleep(watched: &mut [PollFd<'_>], time: Option<Duration>) -> rustix::io::Result<usize> {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    #[expect(clippy::disallowed_methods, reason = "the one wait of raddle top: for a key, a signal, or the next look")]
    poll(watched, time.as_ref())
}
