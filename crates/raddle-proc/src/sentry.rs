//! A thread that learns when processes end which are not ours.
//!
//! Who waits for something that another process is to bring must be told when that process has been killed. A [`Sentry`] holds a pidfd for
//! each process it was asked about, sleeps in one epoll wait over all of them, and does what it was told to do when one ends. Its thread
//! is there as long as it has something to watch.
//!
//! # Rules
//!
//! 1. A process is a number and the moment of its start: a number that has been given to another process means that ours has ended.
//! 2. What is to be done is done once, on the sentry's thread, or by who asks if the process has ended already; without a lock.
//! 3. The thread ends under the lock under which the last watch was taken away: who comes later starts another.
//! 4. A forked child has no sentry: it forgets the one it inherited, and makes its own.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use raddle_core::prim::{Mutex, thread};

use crate::signal::with_signals_blocked;
use crate::watch::{Process, Watch, Watched};

/// What is to be done when a process ends.
pub type Act = Box<dyn FnOnce() + Send>;

/// Watches processes. See the module head.
#[derive(Debug)]
pub struct Sentry {
    watch: Watch,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    watched: HashMap<usize, (Target, Act)>,
    next: usize,
    has_thread: bool,
}

/// What is watched.
#[derive(Debug)]
enum Target {
    Process(Process),
    Pipe(OwnedFd),
}

impl Target {
    /// `false`: it has ended.
    fn add(&self, watch: &Watch, token: usize) -> io::Result<bool> {
        match self {
            Self::Process(process) => watch.add(process, token),
            Self::Pipe(pipe) => watch.add_pipe(pipe.as_fd(), token).map(|()| true),
        }
    }

    fn remove(&self, watch: &Watch) {
        match self {
            Self::Process(process) => watch.remove(process),
            Self::Pipe(pipe) => watch.remove_pipe(pipe.as_fd()),
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("watched", &self.watched.len()).finish_non_exhaustive()
    }
}

/// A process that is watched. Dropped, it is watched no longer.
#[derive(Debug)]
#[must_use = "it is watched as long as this lives"]
pub struct Post {
    sentry: Arc<Sentry>,
    token: usize,
}

impl Sentry {
    /// One that watches nobody yet.
    ///
    /// # Errors
    ///
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { watch: Watch::new()?, inner: Mutex::default() }))
    }

    /// Does `act` when a process has ended: that with this number, which was started then, if that is known. None: it has ended, and it is
    /// done.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor, watch or thread to give. Nothing is watched then.
    pub fn watch(self: &Arc<Self>, pid: u32, start: Option<u64>, act: Act) -> io::Result<Option<Post>> {
        let process = Process::open(pid, false)?;
        // After it was opened: the number is that process' as long as this says so (rule 1).
        if !is_there(pid, start) {
            act();
            return Ok(None);
        }
        self.watch_target(Target::Process(process), act)
    }

    /// Does `act` when nobody has the writing end of a pipe any more. This is its reading end.
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch).
    pub fn watch_pipe(self: &Arc<Self>, pipe: OwnedFd, act: Act) -> io::Result<Option<Post>> {
        self.watch_target(Target::Pipe(pipe), act)
    }

    fn watch_target(self: &Arc<Self>, target: Target, act: Act) -> io::Result<Option<Post>> {
        let mut inner = self.inner.lock();
        let token = inner.next;
        inner.next += 1;
        if !target.add(&self.watch, token)? {
            drop(inner);
            act();
            return Ok(None);
        }
        inner.watched.insert(token, (target, act));
        let post = Post { sentry: self.clone(), token };
        if !inner.has_thread {
            let me = self.clone();
            // Signals are for the threads of the program.
            let started =
                with_signals_blocked(|| thread::Builder::new().name("raddle-sentry".into()).spawn(move || me.stand()));
            if let Err(error) = started {
                let gone = inner.watched.remove(&token);
                drop(inner);
                std::mem::forget(post);
                drop(gone);
                return Err(error);
            }
            inner.has_thread = true;
        }
        Ok(Some(post))
    }

    /// What the thread does.
    fn stand(&self) {
        let mut seen = Vec::new();
        loop {
            {
                let mut inner = self.inner.lock();
                if inner.watched.is_empty() {
                    inner.has_thread = false; // rule 3
                    return;
                }
            }
            self.watch.wait(&mut seen);
            for event in seen.drain(..) {
                let Watched::Ended(token) = event else { continue };
                let ended = self.inner.lock().watched.remove(&token);
                if let Some((target, act)) = ended {
                    target.remove(&self.watch);
                    act();
                }
            }
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let mut inner = self.sentry.inner.lock();
        let gone = inner.watched.remove(&self.token);
        let is_last = inner.watched.is_empty() && inner.has_thread;
        drop(inner);
        if let Some((target, _)) = &gone {
            target.remove(&self.sentry.watch);
        }
        if is_last {
            self.sentry.watch.wake();
        }
    }
}

/// When a process was started, in the kernel's clock ticks since it was booted. None: there is no such process. One that has ended, and was
/// not collected yet, is one.
pub fn started_at(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, which may contain anything, ends with the last parenthesis.
    let behind = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    std::str::from_utf8(behind).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether there is a process with this number that was started then, if that is known. It may have ended, and not be collected.
pub fn is_there(pid: u32, start: Option<u64>) -> bool {
    match started_at(pid) {
        Some(now) => start.is_none_or(|start| start == now),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    fn sleeper() -> std::process::Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("there is cat")
    }

    #[test]
    fn this_process_is_there_and_was_not_started_at_another_time() {
        let start = started_at(std::process::id());
        assert!(start.is_some() && is_there(std::process::id(), start));
        assert!(is_there(std::process::id(), None));
        assert!(!is_there(std::process::id(), start.map(|start| start + 1)));
    }

    #[test]
    fn an_end_is_told_of_once_and_the_thread_goes() {
        let sentry = Sentry::new().expect("there are descriptors");
        let (mut one, mut other) = (sleeper(), sleeper());
        let (tell, told) = mpsc::channel();
        let watch = |child: &std::process::Child, word: &'static str| {
            let tell = tell.clone();
            let act = Box::new(move || tell.send(word).expect("somebody listens"));
            sentry.watch(child.id(), started_at(child.id()), act).expect("there are descriptors")
        };
        let first = watch(&one, "one");
        let second = watch(&other, "other");
        drop(second);
        let again = watch(&other, "again");
        assert!(first.is_some() && again.is_some());
        one.kill().expect("it is ours");
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok("one"));
        one.wait().expect("it is ours");
        other.kill().expect("it is ours");
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok("again"));
        other.wait().expect("it is ours");
        let late = watch(&one, "late");
        assert!(late.is_none());
        assert_eq!(told.try_recv(), Ok("late"), "at once");
        assert!(told.try_recv().is_err());
    }
}
