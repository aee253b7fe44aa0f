//! A forked child: it has one thread, and writes into a file of its own.
//!
//! The C library calls [`in_child`] inside of `fork`, before anything else of the child runs. A child that only executes another program is made by
//! `vfork` or `posix_spawn` and does not come here.
//!
//! # Rules
//!
//! 1. Nothing is allocated and no lock is taken: what other threads held at the fork stays locked.
//! 2. The parent's file is not written by the child. The mapping is left before anything is noted.

use std::sync::OnceLock;

use raddle_core::prim::atomic::{AtomicU32, Ordering::Relaxed};
use raddle_trace::events::format::header;

use super::file::{self, Directory, Map, Name};
use super::here::Here;
use super::{gil, order, place, table};

static DIRECTORY: OnceLock<(Directory, usize)> = OnceLock::new();
/// Which file is written.
static PID: AtomicU32 = AtomicU32::new(0);
static TURN: AtomicU32 = AtomicU32::new(0);

/// Opens the first file of this process, and stays with it through forks.
pub(super) fn begin(directory: Directory, buffer: usize) -> Result<(), &'static str> {
    let kept = DIRECTORY.get_or_init(|| (directory, buffer));
    let name = Map::open(&kept.0, kept.1, pid(), None, file::now())?;
    PID.store(name.pid, Relaxed);
    TURN.store(name.turn, Relaxed);
    if let Some(map) = Map::get() {
        map.half(header::FIRST_ID).store(place::next_id(), Relaxed);
    }
    // SAFETY: a function that keeps the rules of this file, and lives as long as the process: a loaded extension is never unloaded.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    Ok(())
}

unsafe extern "C" fn in_child() {
    let Some(old) = Map::leave() else { return };
    let Some(kept) = DIRECTORY.get() else { return };
    let parent = Name { pid: PID.load(Relaxed), turn: TURN.load(Relaxed) };
    if let Ok(name) = Map::open(&kept.0, kept.1, pid(), Some(parent), file::now()) {
        PID.store(name.pid, Relaxed);
        TURN.store(name.turn, Relaxed);
        if let Some(map) = Map::get() {
            map.half(header::FIRST_ID).store(place::next_id(), Relaxed);
            map.half(header::FLAGS).store(old.half(header::FLAGS).load(Relaxed), Relaxed);
            table::forked(old, map);
        }
    }
    Here::forked();
    gil::forked();
    order::forked();
    old.unmap();
}

fn pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}
