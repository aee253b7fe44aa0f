//! Seeing processes end, without polling and without signals.
//!
//! A [`Process`] is a pid with its pidfd, which becomes readable when the process has ended. A [`Watch`] is an epoll
//! set over such descriptors, one eventfd through which other threads and other processes wake the watching thread, and two
//! timers.
//! This file holds one of the house's few sleeping places ([`Watch::wait`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitIdOptions, getpgid, kill_process_group, pidfd_open, pidfd_send_signal,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::{Ending, kernel};

/// Who collects a process when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collector {
    /// We do: it is our child.
    Us,
    /// Its zygote, once we have heard from it how it has ended.
    Zygote,
    /// The system, because its zygote has ended.
    System,
    /// Somebody else; the exit code is only looked at.
    Others,
}

/// A process that somebody started.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// Absent if the process had ended and been collected before it could be opened.
    pidfd: Option<OwnedFd>,
    collector: Collector,
    /// Whether it leads a process group of its own.
    leads: bool,
    /// Whether its group has got a signal from here: then nobody of the group outlives it.
    struck: bool,
    ending: Option<Ending>,
    /// Bytes that the kernel counts as its peak because of the process that started it.
    before: u64,
    /// Bytes that it had in memory at most, as the kernel counts them.
    peak: Option<u64>,
}

impl Process {
    /// Opens a process by number. With `ours`, it is a child that nobody else collects.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor to give. A process that has ended already is no error: its ending is unknown.
    pub fn open(pid: u32, ours: bool) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process number"))?;
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Some(fd),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(error.into()),
        };
        let ending = pidfd.is_none().then_some(Ending::Unknown);
        let collector = if ours { Collector::Us } else { Collector::Others };
        Ok(Self { pid, pidfd, collector, leads: false, struck: false, ending, before: 0, peak: None })
    }

    /// Opens a process that a zygote has forked off as the leader of a group, and does not collect before it was
    /// [`told`](Self::told) here how it has ended.
    pub(crate) fn of_zygote(pid: u32) -> io::Result<Self> {
        Ok(Self { collector: Collector::Zygote, leads: true, ..Self::open(pid, false)? })
    }

    /// Its zygote says how it has ended, and how many bytes it had in memory. The zygote has not collected it yet.
    pub(crate) fn told(&mut self, ending: Ending, peak: u64) {
        self.sweep(true);
        self.ending = Some(ending);
        self.peak = Some(peak);
    }

    /// Its zygote has ended, and cannot say any more how it ends.
    pub(crate) fn orphaned(&mut self) {
        self.collector = Collector::System;
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. A process that has ended is no error: that is what was wanted.
    pub fn kill(&self, signal: Signal) {
        if let (Some(fd), None) = (&self.pidfd, self.ending) {
            // The only other failure is EPERM, when the process has changed its user: it is not ours to end then.
            let _ = pidfd_send_signal(fd, signal);
        }
    }

    /// Says that it was started as the leader of a process group of its own.
    pub(crate) fn leads_a_group(mut self) -> Self {
        self.leads = true;
        self
    }

    /// Says how many bytes the process that started it had in memory before, at most: until it calls `exec`, a child has the memory
    /// of its parent, and the kernel counts that as its own.
    pub(crate) fn started_by_one_with(mut self, before: u64) -> Self {
        self.before = before;
        self
    }

    /// How many bytes it had in memory, at most. None while it runs, if it is not ours, or if the kernel does not tell: that is so
    /// when it has never had more than the process that started it.
    pub fn peak_memory(&self) -> Option<u64> {
        // The kernel's counters are exact to some pages per CPU, and read at different moments.
        self.peak.filter(|peak| *peak > self.before + self.before / 8)
    }

    /// Sends a signal to it and to the processes that it has started, as far as they are of its group. When it has ended because of
    /// that, or later, those that are left of its group are killed.
    pub fn kill_group(&mut self, signal: Signal) {
        let (Some(_), true, None) = (&self.pidfd, self.leads, self.ending) else { return self.kill(signal) };
        self.struck = true;
        // It may have left its group, and is meant all the same. Until it is collected its number is nobody else's.
        let stays = Pid::from_raw(self.pid.cast_signed()).is_some_and(|pid| getpgid(Some(pid)) == Ok(pid));
        if !self.signal_group(signal, self.collector != Collector::System) || !stays {
            self.kill(signal);
        }
    }

    /// It has ended: what it has started and is left of its group ends, too, if the group was to end. A process that ignores SIGTERM
    /// would live on otherwise. `is_there`: it is not collected yet, nor will be before this returns.
    fn sweep(&self, is_there: bool) {
        if self.struck && self.ending.is_none() {
            self.signal_group(Signal::KILL, is_there);
        }
    }

    /// Sends a signal to the group. False: that is not possible. `is_there`: its leader is not collected; until then its number is
    /// nobody else's, and so is its group's.
    fn signal_group(&self, signal: Signal, is_there: bool) -> bool {
        let Some(fd) = &self.pidfd else { return false };
        if kernel::signal_group(fd.as_fd(), signal) != Err(Errno::INVAL) {
            return true;
        }
        let group = Pid::from_raw(self.pid.cast_signed()).filter(|_| is_there);
        // It fails if nobody is left, and that was wanted.
        group.map(|group| kill_process_group(group, signal)).is_some()
    }

    /// How it ended, if it has. Collects it if it is ours.
    pub fn poll(&mut self) -> Option<Ending> {
        if self.ending.is_none() {
            self.ending = match (self.collector, &self.pidfd) {
                (Collector::Zygote, _) => None, // it is told
                (Collector::System, Some(fd)) if is_readable(fd) => {
                    self.sweep(false);
                    // Where this process is the first of its system, or has asked for it, orphans become its own.
                    let _ = kernel::wait(fd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
                    Some(Ending::Orphaned)
                }
                (Collector::System, Some(_)) => None,
                _ => self.ask(WaitIdOptions::NOHANG),
            };
        }
        self.ending
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// When the wait fails for another reason than that somebody else collected the process.
    pub fn wait(&mut self) -> io::Result<Ending> {
        loop {
            if let Some(ending) = self.ending {
                return Ok(ending);
            }
            self.ending = self.ask(WaitIdOptions::empty());
        }
    }

    fn ask(&mut self, mut options: WaitIdOptions) -> Option<Ending> {
        let Some(fd) = &self.pidfd else { return Some(Ending::Unknown) };
        options |= WaitIdOptions::EXITED;
        if self.collector != Collector::Us {
            options |= WaitIdOptions::NOWAIT;
        }
        if self.struck {
            // Before it is collected: after that its number can be somebody else's.
            match kernel::wait(fd.as_fd(), options | WaitIdOptions::NOWAIT) {
                Ok(Some(_)) => self.sweep(true),
                Err(error) if error != Errno::INTR && is_readable(fd) => self.sweep(false),
                _ => {}
            }
        }
        match kernel::wait(fd.as_fd(), options) {
            Ok(Some((ending, peak))) => {
                self.peak = (self.collector == Collector::Us).then_some(peak);
                Some(ending)
            }
            Ok(None) | Err(Errno::INTR) => None,
            // Not our child, or collected by somebody else: whether it has ended the pidfd still tells.
            Err(_) => is_readable(fd).then_some(Ending::Unknown),
        }
    }
}

/// Whether a descriptor can be read now.
fn is_readable(fd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(clippy::disallowed_methods, reason = "the timeout is zero: it looks and does not sleep")]
    let readable = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now));
    matches!(readable, Ok(1))
}

/// What a [`Watch`] has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Somebody called [`Watch::wake`] or wrote to the [`bell`](Watch::bell), or the time of [`Watch::wake_in`] has passed.
    Woken,
    /// The process that was added under this token has ended, or the pipe has.
    Ended(usize),
    /// The zygote has said something, or has ended.
    Zygote,
}

/// The one epoll wait of a supervising thread.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    bell: OwnedFd,
    timer: OwnedFd,
    alarm: OwnedFd,
}

const BELL: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
const ALARM: u64 = u64::MAX - 2;
const ZYGOTE: u64 = u64::MAX - 3;

impl Watch {
    /// Makes an empty watch.
    ///
    /// # Errors
    ///
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &alarm, epoll::EventData::new_u64(ALARM), epoll::EventFlags::IN)?;
        Ok(Self { epoll, bell, timer, alarm })
    }

    /// The eventfd, to be handed to other processes: eight bytes written there wake the watching thread.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Wakes the watching thread.
    pub fn wake(&self) {
        ring(self.bell());
    }

    /// Wakes the watching thread once this time has passed; takes the place of what was asked before.
    pub fn wake_in(&self, time: Duration) {
        set(&self.timer, time);
    }

    /// The same, for another purpose: neither takes the place of the other.
    pub fn alarm_in(&self, time: Duration) {
        set(&self.alarm, time);
    }

    /// Watches a process. Returns false if it has ended so long ago that there is nothing left to watch.
    ///
    /// # Errors
    ///
    /// When the kernel's limit of watches is reached.
    pub fn add(&self, process: &Process, token: usize) -> io::Result<bool> {
        let Some(fd) = &process.pidfd else { return Ok(false) };
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)?;
        Ok(true)
    }

    /// Watches the reading end of a pipe for its end: nobody else has the other end any more.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_pipe(&self, pipe: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        // That the other end is gone is told always.
        epoll::add(&self.epoll, pipe, epoll::EventData::new_u64(token as u64), epoll::EventFlags::empty())?;
        Ok(())
    }

    /// Watches it no longer.
    pub fn remove_pipe(&self, pipe: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, pipe); // it may have been removed before
    }

    /// Watches a process no longer.
    pub fn remove(&self, process: &Process) {
        if let Some(fd) = &process.pidfd {
            // It may never have been added; then there is nothing to remove.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Watches a zygote: its process, and the socket through which it speaks.
    pub(crate) fn add_zygote(&self, process: &Process, socket: BorrowedFd<'_>) -> io::Result<()> {
        for fd in [Some(socket), process.pidfd.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
            epoll::add(&self.epoll, fd, epoll::EventData::new_u64(ZYGOTE), epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    /// Watches the socket of a zygote no longer, which says nothing any more.
    pub(crate) fn remove_socket(&self, socket: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, socket); // it may have been removed before
    }

    /// Sleeps until something is to be seen, and puts it into `seen`.
    pub fn wait(&self, seen: &mut Vec<Watched>) {
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 16];
        #[expect(clippy::disallowed_methods, reason = "the one epoll wait of the supervisor")]
        let seen_now = epoll::wait(&self.epoll, &mut events, None);
        let Ok((events, _)) = seen_now else { return };
        for event in events {
            match event.data.u64() {
                which @ (BELL | TIMER | ALARM) => {
                    let mut count = [0; 8];
                    let fd = match which {
                        BELL => &self.bell,
                        TIMER => &self.timer,
                        _ => &self.alarm,
                    };
                    // Nonblocking; it can only fail because somebody has set the timer anew meanwhile.
                    let _ = rustix::io::read(fd, &mut count);
                    seen.push(Watched::Woken);
                }
                ZYGOTE => seen.push(Watched::Zygote),
                token => seen.push(Watched::Ended(token as usize)),
            }
        }
    }
}

/// Sets a timer.
fn set(timer: &OwnedFd, time: Duration) {
    let tv_sec = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    // A time of zero would stop the timer.
    let it_value = Timespec { tv_sec, tv_nsec: time.subsec_nanos().max(1).into() };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It can only fail for a time that is none.
    let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value });
}

/// Writes to an eventfd.
pub(crate) fn ring(bell: BorrowedFd<'_>) {
    // It cannot block: the counter would have to reach 2^64 - 2. If the descriptor is gone, so is the watcher.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}
