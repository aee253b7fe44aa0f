//! What the recorder knows of the thread that runs: its number, its block, the locks that it holds.
//!
//! # Rules
//!
//! 1. A [`Here`] belongs to the thread whose thread-local it hangs on, until that ends; then it is free for another one. None is ever
//!    returned to the allocator.
//! 2. `held`, `permits` and `tstate` are read and written by who holds the GIL only, also for another thread. Everything else is the thread's own.
//! 3. A block is written by the thread that has claimed it. `used` is stored last, with Release.

use std::cell::Cell;
use std::ptr;

use pyo3::ffi;
use raddle_core::prim::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use raddle_trace::events::format::{BLOCK_SIZE, block, end, record};

use super::file::{self, Map};
use super::order;
use super::permit::{self, Permit};

/// The most locks of one thread that are known to be held at the same time.
pub(super) const MOST_HELD: usize = 16;

/// The first two lines of the processor's cache are all that a free lock needs.
#[repr(C, align(64))]
pub(super) struct Here {
    pub(super) tstate: *mut ffi::PyThreadState,
    pub(super) number: u32,
    pub(super) native_id: u32,
    pub(super) held_count: usize,
    /// The turn of its last release of a lock.
    pub(super) last: u64,
    /// Places of locks, in the order in which they were taken.
    pub(super) held: [u32; MOST_HELD],
    pub(super) gil: super::gil::Waiting,
    pub(super) permit_count: usize,
    /// Permits of semaphores that it has.
    pub(super) permits: [Permit; permit::MOST],
    /// Orders of locks that it has been told of.
    pub(super) orders: order::Recent,
    /// Whether it is known that it has met others.
    pub(super) has_met: bool,
    /// Whether it holds the lock by which others know of its end.
    pub(super) joins_seen: bool,
    block: *mut u8,
    used: usize,
    next_free: *mut Here,
}

thread_local! {
    static HERE: Cell<*mut Here> = const { Cell::new(ptr::null_mut()) };
    static END: End = const { End };
}

/// Its drop is the thread's end.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        Here::end();
    }
}

#[unsafe(link_section = "raddle_recorder")] // as said in `mod.rs`
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

/// How many releases there were: what is before what, more finely than a clock says it.
#[unsafe(link_section = "raddle_recorder")]
static TURNS: AtomicU64 = AtomicU64::new(1);

/// The threads that there are, by the low bits of their numbers.
static THREADS: [AtomicPtr<Here>; 4096] = [const { AtomicPtr::new(ptr::null_mut()) }; 4096];

/// The thread that was in here last, by what the C library calls it, and its [`Here`]: asked for less work than a thread-local is. Both are stored by who
/// holds the GIL; a thread that ends takes its name out without it, which costs another one no more than a look at its thread-local.
#[unsafe(link_section = "raddle_recorder")]
static LAST: (AtomicUsize, AtomicPtr<Here>) = (AtomicUsize::new(0), AtomicPtr::new(ptr::null_mut()));

/// What ended threads have left. Taken as a whole, so that nothing is taken twice.
static FREE: AtomicPtr<Here> = AtomicPtr::new(ptr::null_mut());

/// Blocks that ended threads have left with room in them.
static SPARE: [AtomicPtr<u8>; 32] = [const { AtomicPtr::new(ptr::null_mut()) }; 32];

impl Here {
    /// Notes a release. Only for who holds the GIL.
    #[inline]
    pub(super) fn turn(&mut self) {
        self.last = TURNS.load(Relaxed) + 1;
        TURNS.store(self.last, Relaxed);
    }

    /// Does not hold its lock at this place any more.
    #[inline]
    pub(super) fn let_go(&mut self, at: usize) {
        let count = self.held_count.min(MOST_HELD);
        self.held.copy_within(at + 1..count, at);
        self.held_count = count - 1;
    }

    /// The number of the thread that has begun last.
    #[inline]
    pub(super) fn newest() -> u32 {
        NEXT_NUMBER.load(Relaxed).wrapping_sub(1)
    }

    /// This thread's, if it has one.
    #[inline]
    pub(super) fn get() -> *mut Self {
        HERE.get()
    }

    /// The same as [`get_or_begin`](Self::get_or_begin). Only for who holds the GIL.
    #[inline]
    pub(super) fn get_again() -> *mut Self {
        let ident = ident();
        if LAST.0.load(Relaxed) == ident {
            // Whoever had this name before has taken it out at its end, before the name was given again.
            return LAST.1.load(Relaxed);
        }
        let here = Self::get_or_begin();
        if !here.is_null() {
            LAST.1.store(here, Relaxed);
            LAST.0.store(ident, Relaxed);
        }
        here
    }

    /// This thread's; makes it if there is none. Null at the thread's very end.
    #[inline]
    pub(super) fn get_or_begin() -> *mut Self {
        let here = HERE.get();
        if here.is_null() { Self::begin() } else { here }
    }

    #[cold]
    fn begin() -> *mut Self {
        if END.try_with(|_| ()).is_err() {
            return ptr::null_mut();
        }
        let number = NEXT_NUMBER.fetch_add(1, Relaxed);
        let new = Self {
            number,
            native_id: rustix::thread::gettid().as_raw_nonzero().get() as u32,
            tstate: ptr::null_mut(),
            held: [0; MOST_HELD],
            held_count: 0,
            gil: super::gil::Waiting::NONE,
            last: 0,
            permits: [Permit::default(); permit::MOST],
            permit_count: 0,
            orders: order::Recent::NONE,
            has_met: false,
            joins_seen: false,
            block: ptr::null_mut(),
            used: 0,
            next_free: ptr::null_mut(),
        };
        let here = match Self::recycled() {
            Some(here) => {
                // SAFETY: rule 1: it was free, and is this thread's alone.
                unsafe { here.write(new) };
                here
            }
            None => Box::into_raw(Box::new(new)),
        };
        HERE.set(here);
        THREADS[number as usize % THREADS.len()].store(here, Release);
        // SAFETY: this thread's own.
        unsafe { (*here).new_block() };
        here
    }

    fn recycled() -> Option<*mut Self> {
        // Ordering: AcqRel. Pairs with itself in `give_back`: the one that was left is whole.
        let all = FREE.swap(ptr::null_mut(), AcqRel);
        if all.is_null() {
            return None;
        }
        // SAFETY: what hung on `FREE` is this thread's since the swap.
        let rest = unsafe { (*all).next_free };
        if !rest.is_null() {
            Self::give_back(rest);
        }
        Some(all)
    }

    /// Hangs a chain of free ones up again.
    fn give_back(chain: *mut Self) {
        let mut last = chain;
        loop {
            // SAFETY: the chain is the caller's alone.
            let next = unsafe { (*last).next_free };
            if next.is_null() {
                break;
            }
            last = next;
        }
        let mut head = FREE.load(Acquire);
        loop {
            // SAFETY: as above.
            unsafe { (*last).next_free = head };
            match FREE.compare_exchange(head, chain, AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn end() {
        let here = HERE.replace(ptr::null_mut());
        if here.is_null() {
            return;
        }
        if LAST.1.load(Relaxed) == here {
            LAST.0.store(0, Relaxed);
        }
        // SAFETY: this thread's own; it ends, and nothing else of it runs.
        let me = unsafe { &mut *here };
        super::gil::flush(me);
        let flags =
            if super::life::is_ending() { end::CUT_OFF } else { 0 } | if me.joins_seen { end::JOINS_SEEN } else { 0 };
        me.write(record::END, flags, me.number, &[file::now(), me.last]);
        let place = &THREADS[me.number as usize % THREADS.len()];
        _ = place.compare_exchange(here, ptr::null_mut(), AcqRel, Relaxed);
        if !me.block.is_null() && me.used + 1024 < BLOCK_SIZE {
            me.head(block::WAIT).store(0, Relaxed);
            for spare in &SPARE {
                // Ordering: Release. Pairs with the swap in `new_block`: who takes it sees what was written.
                if spare.compare_exchange(ptr::null_mut(), me.block, AcqRel, Relaxed).is_ok() {
                    break;
                }
            }
        }
        me.block = ptr::null_mut();
        me.next_free = ptr::null_mut();
        Self::give_back(here);
    }

    /// The thread with this number, if it is there. Only for who holds the GIL.
    pub(super) fn of(number: u32) -> *mut Self {
        let here = THREADS[number as usize % THREADS.len()].load(Acquire);
        // SAFETY: rule 1: the memory stays a `Here`; the number is written before it is found here.
        if !here.is_null() && unsafe { (*here).number } == number { here } else { ptr::null_mut() }
    }

    /// In a forked child: the other threads are not there, and the block is the parent's.
    pub(super) fn forked() {
        for place in &THREADS {
            place.store(ptr::null_mut(), Relaxed);
        }
        for spare in &SPARE {
            spare.store(ptr::null_mut(), Relaxed);
        }
        FREE.store(ptr::null_mut(), Relaxed);
        LAST.0.store(0, Relaxed);
        let here = HERE.get();
        if here.is_null() {
            return;
        }
        // SAFETY: this thread's own, and the only one.
        let me = unsafe { &mut *here };
        me.block = ptr::null_mut();
        me.used = 0;
        me.gil = super::gil::Waiting::NONE;
        me.orders = order::Recent::NONE;
        me.native_id = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        THREADS[me.number as usize % THREADS.len()].store(here, Release);
        me.new_block();
    }

    /// A word of the block's head. There must be a block.
    fn head(&self, at: usize) -> &AtomicU32 {
        // SAFETY: rule 3, and `at` lies in the head.
        unsafe { &*self.block.add(at).cast() }
    }

    /// Says what the thread is about to wait for; returns what was said before, if it was in a wait already.
    pub(super) fn publish(&mut self, wait: Published) -> Published {
        if self.block.is_null() {
            return Published::NONE;
        }
        // SAFETY: rule 3: the head is ours; the fields lie in it.
        unsafe {
            let since = self.block.add(block::SINCE).cast::<u64>();
            let before = Published {
                lock: self.head(block::WAIT).load(Relaxed),
                holder: self.head(block::HOLDER).load(Relaxed),
                since: since.read(),
                stack: self.head(block::STACK).load(Relaxed),
                taken: self.head(block::TAKEN).load(Relaxed),
            };
            self.head(block::WAIT).store(0, Release);
            since.write(wait.since);
            self.head(block::HOLDER).store(wait.holder, Relaxed);
            self.head(block::STACK).store(wait.stack, Relaxed);
            self.head(block::TAKEN).store(wait.taken, Relaxed);
            self.head(block::WAIT).store(wait.lock, Release);
            before
        }
    }

    /// Writes a record. Where there is no room it is counted.
    pub(super) fn write(&mut self, kind: u8, flags: u8, a: u32, words: &[u64]) -> bool {
        let size = 8 + 8 * words.len();
        if (self.block.is_null() || self.used + size > BLOCK_SIZE) && !self.new_block() {
            if let Some(map) = Map::get() {
                map.drop_event();
            }
            return false;
        }
        let first = u64::from(kind) | u64::from(flags) << 8 | ((1 + words.len()) as u64) << 16 | u64::from(a) << 32;
        // SAFETY: rule 3: the block is ours, and there is room for the record behind `used`, which is a multiple of 8.
        unsafe {
            let at = self.block.add(self.used).cast::<u64>();
            at.write(first);
            ptr::copy_nonoverlapping(words.as_ptr(), at.add(1), words.len());
        }
        self.used += size;
        // Ordering: Release. Pairs with the reader, who may look at any time: what is used is written.
        self.head(block::USED).store(self.used as u32, Release);
        true
    }

    /// Goes on in another block.
    #[cold]
    fn new_block(&mut self) -> bool {
        let Some(map) = Map::get() else { return false };
        let spare = SPARE.iter().map(|spare| spare.swap(ptr::null_mut(), AcqRel)).find(|spare| !spare.is_null());
        let Some(new) = spare.or_else(|| map.claim()) else { return false };
        let wait = self.publish(Published::NONE);
        self.block = new;
        self.used = (self.head(block::USED).load(Relaxed) as usize).clamp(block::HEAD, BLOCK_SIZE);
        self.head(block::THREAD).store(self.number, Relaxed);
        _ = self.publish(wait);
        // SAFETY: POSIX: asks for nothing.
        let ident = unsafe { libc::pthread_self() };
        // It fits: a new block is empty, and a spare one has room.
        let words = [ident, file::now(), u64::from(self.native_id), TURNS.load(Relaxed)];
        self.write(record::THREAD, 0, self.number, &words)
    }
}

/// What the C library calls this thread.
#[inline]
fn ident() -> usize {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        let ident: usize;
        // SAFETY: the ABI for thread-local storage: the first word of what `fs` points to is its own address, which the C libraries take for the name.
        unsafe { std::arch::asm!("mov {}, fs:0", out(reg) ident, options(nostack, preserves_flags, readonly, pure)) };
        ident
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        // SAFETY: POSIX: asks for nothing.
        unsafe { libc::pthread_self() as usize }
    }
}

/// What a thread waits for, as the head of its block says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    pub(super) lock: u32,
    pub(super) holder: u32,
    pub(super) since: u64,
    pub(super) stack: u32,
    pub(super) taken: u32,
}

impl Published {
    pub(super) const NONE: Self = Self { lock: 0, holder: 0, since: 0, stack: 0, taken: 0 };
}
