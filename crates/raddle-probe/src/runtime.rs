//! Finding the interpreter in a process: its version, `_PyRuntime`, its interpreters and their threads.

use std::fs::File;
use std::io;

use crate::elf::Image;
use crate::error::{Trouble, ptrace_scope};
use crate::layout::Layout;
use crate::memory::{self, Fault, Memory, Piece, Read};
use crate::object::Heap;
use crate::process;

/// A process with an interpreter in it.
#[derive(Debug)]
pub(crate) struct Target<M = File> {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) heap: Heap<M>,
    pub(crate) runtime: u64,
}

/// One interpreter of a process.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    pub(crate) at: u64,
    pub(crate) id: u64,
    pub(crate) modules: u64,
    pub(crate) gil: Option<Gil>,
    /// The thread states, those that were made first in front.
    pub(crate) threads: Vec<ThreadState>,
}

/// A thread as the interpreter knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadState {
    pub(crate) at: u64,
    /// `threading.get_ident()`.
    pub(crate) ident: u64,
    pub(crate) native_id: u32,
}

/// The lock around an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gil {
    pub(crate) at: u64,
    /// The thread state that holds it.
    pub(crate) holder: Option<u64>,
}

/// Rule 2 of `memory`: no list is followed further.
const MOST_INTERPRETERS: usize = 256;
const MOST_THREADS: usize = 1 << 16;

impl Target {
    /// Finds the interpreter.
    pub(crate) fn open(pid: u32) -> Result<Self, Trouble> {
        Self::find(pid).map_err(|trouble| match trouble {
            // What could not be read was perhaps gone: a process that ends loses its memory a little before it is dead.
            Trouble::UnknownVersion { .. } | Trouble::Unreadable { .. } if process::is_ending(pid) => {
                Trouble::Ended { pid }
            }
            other => other,
        })
    }

    fn find(pid: u32) -> Result<Self, Trouble> {
        if process::stat(pid).is_none() {
            return Err(Trouble::NoSuchProcess { pid });
        }
        if !process::is_alive(pid) {
            return Err(Trouble::Ended { pid });
        }
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => Trouble::NoPermission { pid, ptrace_scope: ptrace_scope() },
            _ => Trouble::Ended { pid },
        };
        let memory = memory::of_process(pid).map_err(refused)?;
        let mappings = process::mappings(pid).map_err(refused)?;
        let program = process::executable(pid);
        let not_python = || {
            let command = process::command(pid).join(" ");
            // A process that is just being started has a program, and no words yet.
            let command = match &program {
                _ if !command.is_empty() => command,
                Some(program) => program.clone(),
                None => "a thread of the kernel".into(),
            };
            Trouble::NotPython { pid, command }
        };
        let is_candidate = |mapping: &&process::Mapping| {
            let name = mapping.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("libpython") || program.as_ref() == Some(&mapping.path)
        };
        let candidates: Vec<&process::Mapping> = mappings.iter().filter(is_candidate).collect();
        let look_up = |in_file| candidates.iter().find_map(|mapping| find_in(&memory, pid, mapping, in_file));
        let found = look_up(false).or_else(|| look_up(true));
        let Some(found) = found else {
            return Err(if process::is_alive(pid) { not_python() } else { Trouble::Ended { pid } });
        };
        let unknown = |version: String| Trouble::UnknownVersion { pid, version };
        let Some(number) = found.version else { return Err(unknown("a CPython before 3.11".into())) };
        let version = version_text(number);
        let layout = (number >> 24 == 3).then(|| Layout::of(number >> 16 & 0xff)).flatten();
        let Some(layout) = layout else { return Err(unknown(format!("CPython {version}"))) };
        if layout.minor >= 13 && Layout::is_free_threaded(&memory, found.runtime) == Ok(true) {
            return Err(unknown(format!("CPython {version} without a GIL")));
        }
        let layout = layout.told_by(&memory, found.runtime).map_err(|Fault| Trouble::Unreadable {
            pid,
            version: format!("CPython {version}"),
            what: "it does not say where its structures lie",
        })?;
        Ok(Self { pid, version, heap: Heap::new(memory, layout), runtime: found.runtime })
    }
}

impl<M: Memory> Target<M> {
    /// The interpreters, the main one first.
    pub(crate) fn interpreters(&self) -> Result<Vec<Interpreter>, Trouble> {
        let layout = &self.heap.layout;
        let head = self.heap.memory.u64(self.runtime.wrapping_add(layout.runtime_interpreters_head));
        let mut at = head.map_err(|Fault| Trouble::Ended { pid: self.pid })?;
        let mut found = Vec::new();
        while at != 0 && found.len() < MOST_INTERPRETERS {
            match self.interpreter(at) {
                Ok((interpreter, next)) => {
                    found.push(interpreter);
                    at = next;
                }
                Err(Fault) => break,
            }
        }
        found.sort_by_key(|interpreter| interpreter.id);
        if found.iter().any(|interpreter| !interpreter.threads.is_empty()) {
            return Ok(found);
        }
        Err(if process::is_ending(self.pid) {
            Trouble::Ended { pid: self.pid }
        } else {
            Trouble::NotReady { pid: self.pid }
        })
    }

    fn interpreter(&self, at: u64) -> Read<(Interpreter, u64)> {
        let (layout, memory) = (&self.heap.layout, &self.heap.memory);
        let word = |offset: u64| memory.u64(at.wrapping_add(offset));
        let gil_at =
            if layout.minor < 12 { self.runtime.wrapping_add(layout.runtime_gil) } else { word(layout.interp_gil)? };
        let mut threads = Vec::new();
        let mut state = word(layout.interp_threads_head)?;
        while state != 0 && threads.len() < MOST_THREADS {
            let piece = Piece::of(memory, state, layout.tstate_native_thread_id as usize + 8)?;
            // A state that is being freed is no longer of this interpreter; what comes behind it is not believed.
            if piece.u64(layout.tstate_interp)? != at {
                break;
            }
            threads.push(ThreadState {
                at: state,
                ident: piece.u64(layout.tstate_thread_id)?,
                native_id: piece.u64(layout.tstate_native_thread_id)? as u32,
            });
            let next = piece.u64(layout.tstate_next)?;
            if next == state {
                break;
            }
            state = next;
        }
        threads.reverse();
        let interpreter = Interpreter {
            at,
            id: word(layout.interp_id)?,
            modules: word(layout.interp_modules)?,
            gil: (gil_at != 0).then(|| self.gil(gil_at)).transpose()?,
            threads,
        };
        Ok((interpreter, word(layout.interp_next)?))
    }

    /// The lock around an interpreter, as it is now.
    pub(crate) fn gil(&self, at: u64) -> Read<Gil> {
        let (layout, memory) = (&self.heap.layout, &self.heap.memory);
        let is_locked = memory.u32(at.wrapping_add(layout.gil_locked))? == 1;
        let holder = memory.u64(at.wrapping_add(layout.gil_last_holder))?;
        Ok(Gil { at, holder: (is_locked && holder != 0).then_some(holder) })
    }

    /// Where the lists of asyncio's tasks begin: one for each thread, and one of the interpreter (from 3.14 on).
    pub(crate) fn task_lists(&self, interpreter: &Interpreter) -> Vec<u64> {
        let layout = &self.heap.layout;
        if layout.minor < 14 {
            return Vec::new();
        }
        let of_threads = interpreter.threads.iter().map(|thread| thread.at.wrapping_add(layout.tstate_tasks_head));
        of_threads.chain([interpreter.at.wrapping_add(layout.interp_tasks_head)]).collect()
    }

    /// Whether a futex is one of the GIL's.
    pub(crate) fn is_of_gil(&self, gil: Gil, address: u64) -> bool {
        address.wrapping_sub(gil.at) < self.heap.layout.gil_size
    }
}

struct Found {
    runtime: u64,
    version: Option<u32>,
}

/// Looks for the interpreter in a loaded file: among what it exports, or in the file itself.
fn find_in(memory: &File, pid: u32, mapping: &process::Mapping, in_file: bool) -> Option<Found> {
    let image = Image::at(memory, mapping.start).ok()?;
    // Inside a container the path means another file to us: the kernel's link leads to the right one.
    let file = in_file.then(|| File::open(format!("/proc/{pid}/root{}", mapping.path)).ok()).flatten();
    let symbol = |name: &str| image.dynamic_symbol(memory, name).or_else(|| image.symbol_of_file(file.as_ref()?, name));
    let runtime = symbol("_PyRuntime")?;
    let told = || {
        let says_so = memory.u64(runtime) == Ok(u64::from_ne_bytes(*b"xdebugpy"));
        says_so.then(|| memory.u64(runtime.wrapping_add(8)).ok()).flatten()
    };
    let version = symbol("Py_Version").and_then(|at| memory.u64(at).ok()).or_else(told);
    Some(Found { runtime, version: version.and_then(|number| u32::try_from(number).ok()) })
}

/// `0x030b07f0` is 3.11.7.
fn version_text(number: u32) -> String {
    let part = |shift: u32| number >> shift & 0xff;
    let serial = number & 0xf;
    let level = match number >> 4 & 0xf {
        0xa => format!("a{serial}"),
        0xb => format!("b{serial}"),
        0xc => format!("rc{serial}"),
        _ => String::new(),
    };
    format!("{}.{}.{}{level}", part(24), part(16), part(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_as_python_tells_them() {
        assert_eq!(version_text(0x030b_07f0), "3.11.7");
        assert_eq!(version_text(0x030e_00c2), "3.14.0rc2");
        assert_eq!(version_text(0), "0.0.0");
    }

    #[test]
    fn the_file_says_the_same_as_the_memory() {
        let program = "import sys; print(flush=True); sys.stdin.read()";
        let piped = std::process::Stdio::piped;
        let child = std::process::Command::new("python3").args(["-c", program]).stdin(piped()).stdout(piped()).spawn();
        let Ok(mut child) = child else { return };
        let mut line = [0];
        let mut output = child.stdout.take().expect("it is piped");
        std::io::Read::read_exact(&mut output, &mut line).expect("the program says that it is there");
        let (pid, memory) = (child.id(), memory::of_process(child.id()).expect("it is ours"));
        let mappings = process::mappings(pid).expect("it is ours");
        let found = mappings.iter().filter_map(|mapping| {
            let image = Image::at(&memory, mapping.start).ok()?;
            let exported = image.dynamic_symbol(&memory, "_PyRuntime")?;
            Some((exported, image.symbol_of_file(&File::open(&mapping.path).ok()?, "_PyRuntime")))
        });
        let found: Vec<_> = found.collect();
        assert!(!found.is_empty(), "python3 exports _PyRuntime");
        for (exported, in_file) in found {
            // Debian's is stripped of all but what it exports, and has no section of that name before 3.13.
            assert!(in_file.is_none_or(|in_file| in_file == exported), "{exported:#x} {in_file:x?}");
        }
        drop(child.stdin.take());
        child.wait().expect("it is ours");
    }
}
