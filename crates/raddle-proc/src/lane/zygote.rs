#![doc = include_str!("zygote.md")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, sendmsg,
    shutdown, socketpair,
};
use rustix::process::Signal;

use super::dispatch::Dispatch;
use super::engine::Lane;
use super::seat::Stage;
use super::ticket::Ticket;
use crate::{Ending, Process, Spawn, Watch, spawn};

/// Descriptors that one worker is given through the socket, at most.
const GIVEN: usize = 8;
/// Bytes of a message, at most.
const MESSAGE: usize = 32 << 10;
/// Bytes of what every message begins with: its kind and three numbers.
const HEAD: usize = 32;

/// What a message is.
mod word {
    /// Parent to zygote: fork a worker for this request. So many descriptors come along.
    pub(super) const FORK: i64 = 1;
    /// Parent to zygote: collect this process.
    pub(super) const COLLECT: i64 = 2;
    /// Zygote to parent: everything is loaded.
    pub(super) const READY: i64 = 16;
    /// Zygote to parent: it has several threads, because of what the text names, and does not fork any more.
    pub(super) const THREADS: i64 = 17;
    /// Zygote to parent: something could not be loaded; the text says what and why. It does not fork.
    pub(super) const UNFIT: i64 = 18;
    /// Zygote to parent: for this request it has forked this process.
    pub(super) const FORKED: i64 = 19;
    /// Zygote to parent: for this request it could not fork, for the reason in the text.
    pub(super) const FAILED: i64 = 20;
    /// Zygote to parent: this process has ended, with this exit code (negative for a signal), and had so many bytes in memory.
    pub(super) const ENDED: i64 = 21;
}

/// What has become of a lane's zygote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZygoteNews {
    /// It has several threads, because of what the text names, and forks no more. So many workers are wanted in another way.
    Threads(String, usize),
    /// A worker could not be forked, for this reason.
    Failed(String),
    /// It has ended unasked. So many workers that it was to fork are wanted.
    Ended {
        /// How it ended.
        ending: Ending,
        /// Whether it had loaded everything.
        ready: bool,
        /// Workers that it was to fork.
        wanted: usize,
    },
}

/// The parent's end of a zygote.
#[derive(Debug)]
pub(super) struct Zygote {
    process: Process,
    socket: OwnedFd,
    /// It has loaded everything.
    ready: bool,
    /// It forks no more.
    unfit: bool,
    /// It is being ended from here.
    dismissed: bool,
    /// The next request.
    next: i64,
    /// Seats for which a worker was asked for, by request.
    asked: HashMap<i64, usize>,
    /// Seats by the process number of their worker.
    children: HashMap<u32, usize>,
    /// Processes whose end is noted here, and which the zygote is still to be told to collect.
    ended: Vec<u32>,
}

impl<H: Ticket> Lane<H> {
    /// Starts a zygote, unless there is one. In `argv`, `{0}` to `{4}` stand for the descriptors of its socket, the lane's page,
    /// the keeper's bell, the heap and `boot`.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, or there are no more descriptors.
    pub fn start_zygote(&self, argv: Vec<OsString>, boot: BorrowedFd<'_>) -> io::Result<()> {
        if self.zygote.lock().is_some() {
            return Ok(());
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let post = self.post()?;
        let fds = vec![theirs.as_fd(), post.page(), post.bell(), self.heap_fd(), boot];
        let mut process = spawn(&Spawn { argv, env: Vec::new(), fds, own_group: true })?;
        let mut slot = self.zygote.lock();
        let watched = if slot.is_some() { Ok(()) } else { post.watch.add_zygote(&process, ours.as_fd()) };
        if slot.is_some() || watched.is_err() {
            process.kill(Signal::KILL);
            process.wait()?;
            return watched;
        }
        *slot = Some(Zygote {
            process,
            socket: ours,
            ready: false,
            unfit: false,
            dismissed: false,
            next: 0,
            asked: HashMap::new(),
            children: HashMap::new(),
            ended: Vec::new(),
        });
        Ok(())
    }

    /// Has the zygote fork a worker. It gets the descriptors of its link, of the file for its last words, and of `with`.
    ///
    /// # Errors
    ///
    /// When there is no zygote that forks, or the system has no room for it. Nothing has happened then.
    pub fn fork(&self, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        let seating = self.seat()?;
        let given: Vec<BorrowedFd<'_>> =
            [seating.link.as_fd(), seating.words.as_fd()].into_iter().chain(with.iter().copied()).collect();
        let asked = match self.zygote.lock().as_mut() {
            Some(zygote) if !zygote.unfit && !zygote.dismissed => zygote.ask(seating.seat, &given),
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        if asked.is_err() {
            self.vacate(seating.seat);
        }
        asked
    }

    /// The process number of the zygote, if there is one.
    pub fn zygote_pid(&self) -> Option<u32> {
        self.zygote.lock().as_ref().map(|zygote| zygote.process.pid())
    }
}

impl Zygote {
    /// Ends it; it has no workers. It collects those that have ended before.
    fn dismiss(&mut self) {
        self.dismissed = true;
        self.have_collected();
        self.process.kill(Signal::CONT);
        if !self.ready || !self.ended.is_empty() || shutdown(&self.socket, Shutdown::Write).is_err() {
            self.process.kill(Signal::KILL); // it loads, and would not hear of it
        }
    }

    /// Sees to it that it tells of its workers, also if somebody has stopped it.
    pub(super) fn wake(&self) {
        self.process.kill(Signal::CONT);
    }

    fn ask(&mut self, seat: usize, given: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(given)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one worker"));
        }
        match self.say([word::FORK, self.next, given.len() as i64, 0], &mut control) {
            // It has ended, and the keeper is about to see it, and that a worker was asked for.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
        self.asked.insert(self.next, seat);
        self.next += 1;
        Ok(())
    }

    fn say(&self, head: [i64; 4], control: &mut SendAncillaryBuffer<'_, '_, '_>) -> Result<(), Errno> {
        let bytes = head.map(i64::to_ne_bytes).concat();
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message.
    fn hear(&self) -> Heard {
        let mut bytes = [0; MESSAGE];
        let len = match rustix::io::read(&self.socket, &mut bytes) {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Heard::Nothing,
            Err(_) => 0,
        };
        let Some((head, text)) = bytes[..len].split_first_chunk::<HEAD>() else { return Heard::End };
        let (numbers, _) = head.as_chunks::<8>();
        let number = |index: usize| i64::from_ne_bytes(numbers[index]);
        Heard::Message([number(0), number(1), number(2), number(3)], String::from_utf8_lossy(text).into_owned())
    }

    /// Has the zygote collect the processes whose end is noted here. From here on their numbers may be somebody else's.
    fn have_collected(&mut self) {
        while let Some(&pid) = self.ended.last() {
            if self.say([word::COLLECT, i64::from(pid), 0, 0], &mut SendAncillaryBuffer::default()).is_err() {
                return; // there is no room in the socket now; they wait
            }
            self.ended.pop();
        }
    }

    /// Gives up the seats whose workers were not forked, and returns how many these are. It may have been ended between forking a
    /// worker and saying so; then the worker may have begun a call, and is a dead one.
    fn withdraw<H: Ticket>(&mut self, dispatch: &mut Dispatch<H>) -> usize {
        dispatch.drain();
        let mut given_up = 0;
        for (_, number) in self.asked.drain() {
            if dispatch.seat(number).is_some_and(|seat| seat.stage == Stage::Starting) {
                dispatch.vacate(number);
                given_up += 1;
            } else {
                dispatch.bury(number, Ending::Orphaned);
            }
        }
        given_up
    }
}

/// What came through the socket.
enum Heard {
    Message([i64; 4], String),
    Nothing,
    /// The zygote has closed it, or makes no sense.
    End,
}

/// Takes in what the zygote has said, and that it has ended.
pub(super) fn attend<H: Ticket>(lane: &Lane<H>, watch: &Watch, dispatch: &mut Dispatch<H>) -> Vec<ZygoteNews> {
    let mut news = Vec::new();
    let mut slot = lane.zygote.lock();
    let Some(zygote) = slot.as_mut() else { return news };
    let ending = zygote.process.poll(); // first: then everything that it has said before lies in the socket
    loop {
        match zygote.hear() {
            Heard::Message(head, text) => news.extend(take_in(zygote, dispatch, head, text)),
            Heard::Nothing => break,
            Heard::End => {
                watch.remove_socket(zygote.socket.as_fd());
                zygote.process.kill(Signal::KILL);
                break;
            }
        }
    }
    let Some(ending) = ending else {
        zygote.have_collected();
        return news;
    };
    watch.remove(&zygote.process);
    let wanted = zygote.withdraw(dispatch);
    for &seat in zygote.children.values() {
        let is_watched = match dispatch.seat_mut(seat).and_then(|seat| seat.process.as_mut()) {
            Some(process) => {
                process.orphaned();
                process.kill(Signal::KILL); // the kernel has told it to end; it may not have listened
                watch.add(process, seat).unwrap_or(false)
            }
            None => false,
        };
        if !is_watched {
            dispatch.bury(seat, Ending::Orphaned);
        }
    }
    if !zygote.dismissed && !zygote.unfit {
        news.push(ZygoteNews::Ended { ending, ready: zygote.ready, wanted });
    }
    *slot = None;
    news
}

fn take_in<H: Ticket>(
    zygote: &mut Zygote,
    dispatch: &mut Dispatch<H>,
    [word, first, second, third]: [i64; 4],
    text: String,
) -> Option<ZygoteNews> {
    match word {
        word::READY => zygote.ready = true,
        // It says so for each request that was under way, and once is enough.
        word::THREADS if !zygote.unfit => {
            zygote.unfit = true;
            return Some(ZygoteNews::Threads(text, zygote.withdraw(dispatch)));
        }
        word::UNFIT => {
            zygote.unfit = true;
            dispatch.break_all(&text, Signal::KILL);
            zygote.withdraw(dispatch);
        }
        word::FORKED => {
            let is_broken = dispatch.broken.is_some();
            let process = u32::try_from(second).ok().map(|pid| (pid, Process::of_zygote(pid)));
            let (Some((pid, process)), Some(number)) = (process, zygote.asked.remove(&first)) else { return None };
            zygote.children.insert(pid, number);
            // Without a descriptor nobody can end it from here; it is still seen to end.
            if let (Ok(process), Some(seat)) = (process, dispatch.seat_mut(number)) {
                if is_broken {
                    process.kill(Signal::KILL);
                }
                seat.occupy(process);
            }
        }
        word::FAILED => {
            let number = zygote.asked.remove(&first)?;
            dispatch.vacate(number);
            return Some(ZygoteNews::Failed(text));
        }
        word::ENDED => {
            let (pid, code) = (u32::try_from(first).ok()?, i32::try_from(second).ok()?);
            let ending = if code < 0 { Ending::Signalled(-code) } else { Ending::Exited(code) };
            if let Some(number) = zygote.children.remove(&pid) {
                if let Some(process) = dispatch.seat_mut(number).and_then(|seat| seat.process.as_mut()) {
                    process.told(ending, third.unsigned_abs());
                }
                dispatch.bury(number, ending);
            }
            zygote.ended.push(pid);
        }
        _ => {}
    }
    None
}

/// After everything else that a pass does: ends a zygote that nobody needs any more.
pub(super) fn settle<H: Ticket>(lane: &Lane<H>, dispatch: &mut Dispatch<H>) {
    let mut slot = lane.zygote.lock();
    let Some(zygote) = slot.as_mut() else { return };
    let no_more = dispatch.broken.is_some() || dispatch.closing && dispatch.outstanding() == 0;
    if no_more && !zygote.ready {
        zygote.withdraw(dispatch); // it has forked nobody
    }
    let is_idle = zygote.asked.is_empty() && zygote.children.is_empty();
    if is_idle && (no_more || zygote.unfit) && !zygote.dismissed {
        zygote.dismiss();
    }
}
