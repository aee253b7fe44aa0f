//! Locks of Python: which one a thread waits for, and which ones it holds.
//!
//! Nothing in a plain lock says who has taken it. But a thread that is inside `with lock:` has the lock's bound `__exit__`, or from 3.14 on
//! `__exit__` and the lock, on the value stack of that function, and the exception table says which slots are sure to be in use there. A
//! thread that waits for a lock sleeps on the lock's own word; the lock itself is in a slot of the innermost function, because that is what it calls.
//!
//! # Rules
//!
//! 1. Only slots that are sure to be in use say that something is held. Others may be left over.
//! 2. What is found is held only while the lock says that it is locked, and an `RLock` only by the owner that it names.
//! 3. `Condition.wait` gives its lock back while it waits, although the `with` around it is still there.
//! 4. Who has taken a plain lock by `acquire()` is not known, and not guessed.

use crate::frame::{Chain, Frame};
use crate::layout::DESCRIPTOR_NAME;
use crate::memory::{Memory, Read};
use crate::object::Heap;

/// Functions with `@contextlib.contextmanager` that use each other are not followed further.
const MOST_MANAGERS: usize = 16;

/// `threading.Lock` or `threading.RLock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) at: u64,
    pub(crate) is_reentrant: bool,
    pub(crate) is_locked: bool,
    /// `get_ident()` of the owner, of an `RLock`.
    pub(crate) owner: Option<u64>,
    /// The futex that its waiters sleep on, if it is a semaphore of its own.
    semaphore: Option<u64>,
}

/// A lock that is held, and the frame that has taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) lock: Lock,
    /// Its index in the chain.
    pub(crate) frame: usize,
    /// The line of its `with`.
    pub(crate) line: u32,
}

impl Lock {
    pub(crate) fn kind(self) -> &'static str {
        if self.is_reentrant { "rlock" } else { "lock" }
    }

    /// A lock of Raddle's, of which only the address is known.
    pub(crate) fn of_raddle(at: u64, is_reentrant: bool) -> Self {
        Self { at, is_reentrant, is_locked: true, owner: None, semaphore: None }
    }

    /// One that somebody else than its holder releases.
    pub(crate) fn released_by(self, owner: Option<u64>) -> Self {
        Self { owner, ..self }
    }

    pub(crate) fn class(self) -> &'static str {
        if self.is_reentrant { "RLock" } else { "Lock" }
    }
}

impl<M: Memory> Heap<M> {
    /// The lock at an address, if there is one.
    pub(crate) fn lock(&self, object: u64) -> Option<Lock> {
        let kind = self.type_of(object).ok()?;
        let read = || -> Read<Lock> {
            let word = |offset: u64| self.memory.u64(object.wrapping_add(offset));
            if kind.name == "_thread.RLock" && self.layout.minor >= 14 {
                // A byte as in a plain lock, then the owner.
                let owner = word(24)?;
                let is_locked = owner != 0 && self.memory.u8(object.wrapping_add(16))? & 1 != 0;
                let owner = is_locked.then_some(owner);
                return Ok(Lock { at: object, is_reentrant: true, is_locked, owner, semaphore: None });
            }
            if kind.name == "_thread.RLock" {
                let owner = word(24)?;
                let is_locked = owner != 0 && word(32)? != 0;
                let owner = is_locked.then_some(owner);
                return Ok(Lock { at: object, is_reentrant: true, is_locked, owner, semaphore: Some(word(16)?) });
            }
            // Up to 3.13.0: a pointer to a semaphore, the weak references, a flag. Since then: one byte, whose lowest bit is set while
            // it is locked. The size tells them apart.
            let (is_locked, semaphore) = if kind.basicsize >= 40 {
                (self.memory.u8(object.wrapping_add(32))? != 0, Some(word(16)?))
            } else {
                (self.memory.u8(object.wrapping_add(16))? & 1 != 0, None)
            };
            Ok(Lock { at: object, is_reentrant: false, is_locked, owner: None, semaphore })
        };
        matches!(kind.name.as_str(), "_thread.lock" | "_thread.RLock").then(read)?.ok()
    }

    /// Whether who sleeps on this futex waits for the object's lock, which lies at `offset` in it.
    pub(crate) fn sleeps_on(&self, futex: u64, object: u64, semaphore: Option<u64>) -> bool {
        // In the "parking lot" of 3.13 and later the sleeper's own record holds the futex, and before it the address of the lock's byte.
        semaphore == Some(futex)
            || (self.layout.minor >= 13 && self.memory.u64(futex.wrapping_sub(8)) == Ok(object.wrapping_add(16)))
    }

    /// The lock that a thread in its innermost function sleeps for.
    pub(crate) fn wanted_lock(&self, frame: &Frame, futex: u64) -> Option<Lock> {
        self.called_with(frame)
            .into_iter()
            .filter_map(|object| self.lock(object))
            .find(|lock| self.sleeps_on(futex, lock.at, lock.semaphore))
    }

    /// The `SimpleQueue` that a thread in its innermost function sleeps for.
    pub(crate) fn wanted_queue(&self, frame: &Frame, futex: u64) -> Option<u64> {
        self.called_with(frame).into_iter().find(|object| {
            self.type_of(*object).is_ok_and(|kind| kind.name == "_queue.SimpleQueue")
                && self.sleeps_on(futex, *object, self.memory.u64(object.wrapping_add(16)).ok())
        })
    }

    /// Every object in the slots of a function, and the `self` of every bound builtin there.
    fn called_with(&self, frame: &Frame) -> Vec<u64> {
        let mut found = Vec::new();
        for slot in self.slots(frame).into_iter().filter(|slot| *slot != 0) {
            found.push(slot);
            found.extend(self.bound_to(slot));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The name of a bound builtin.
    pub(crate) fn bound_name(&self, object: u64) -> Option<String> {
        let table = self.memory.u64(object.wrapping_add(self.layout.cfunction_ml)).ok()?;
        self.memory.c_string(self.memory.u64(table).ok()?).ok()
    }

    /// The `self` of a bound builtin.
    pub(crate) fn bound_to(&self, object: u64) -> Option<u64> {
        let kind = self.type_of(object).ok()?;
        let is_bound = matches!(kind.name.as_str(), "builtin_function_or_method" | "builtin_method");
        is_bound.then(|| self.memory.u64(object.wrapping_add(self.layout.cfunction_self)).ok()).flatten()
    }

    /// The locks that a thread holds through `with`.
    pub(crate) fn taken_locks(&self, chain: &Chain, ident: u64) -> Vec<Taken> {
        let mut found: Vec<Taken> = Vec::new();
        let given_back = self.given_back(chain);
        for (index, frame) in chain.frames.iter().enumerate() {
            let Some(instruction) = frame.instruction else { continue };
            let depth = self.sure_depth(&frame.code, instruction);
            if depth == 0 {
                continue;
            }
            let stack = frame.at.wrapping_add(self.layout.frame_localsplus + frame.code.locals * 8);
            let stack = self.objects(stack, depth).unwrap_or_default();
            for (slot, object) in (0..).zip(&stack) {
                let next = stack.get(slot as usize + 1).copied().unwrap_or(0);
                for lock in self.locks_left_by(*object, next, 0) {
                    let is_held = lock.is_locked && lock.owner.is_none_or(|owner| owner == ident);
                    if !is_held || given_back.contains(&lock.at) {
                        continue;
                    }
                    // An RLock was taken where its outermost `with` is; chains begin with the innermost.
                    let entered = self.entered_at(&frame.code, instruction, slot).or(frame.instruction);
                    let taken = Taken { lock, frame: index, line: frame.code.line(entered) };
                    match found.iter_mut().find(|taken| taken.lock.at == lock.at) {
                        Some(inner) if inner.frame == index => {}
                        Some(inner) => *inner = taken,
                        None => found.push(taken),
                    }
                }
            }
        }
        found
    }

    /// The locks that an `__exit__` on the value stack would release: its own, or those that a function with `@contextlib.contextmanager`
    /// holds at its `yield`.
    fn locks_left_by(&self, slot: u64, next: u64, depth: usize) -> Vec<Lock> {
        if let Some(lock) = self.lock_left_by(slot, next) {
            return vec![lock];
        }
        self.held_in_generator(slot, next, depth).unwrap_or_default()
    }

    fn held_in_generator(&self, slot: u64, next: u64, depth: usize) -> Option<Vec<Lock>> {
        let manager = match self.type_of(slot).ok()?.name.as_str() {
            "method" => self.memory.u64(slot.wrapping_add(self.layout.method_self)).ok()?,
            "function" => next,
            _ => return None,
        };
        if depth >= MOST_MANAGERS || !self.is_a(manager, "_GeneratorContextManager") {
            return None;
        }
        let (frame, state, _) = self.awaiting(self.attribute(manager, "gen")?)?;
        // One that runs is in the chain itself.
        let instruction = frame.instruction.filter(|_| state != 0)?;
        let stack = frame.at.wrapping_add(self.layout.frame_localsplus + frame.code.locals * 8);
        let stack = self.objects(stack, self.sure_depth(&frame.code, instruction)).ok()?;
        let behind = stack.iter().skip(1).copied().chain([0]);
        Some(stack.iter().zip(behind).flat_map(|(slot, next)| self.locks_left_by(*slot, next, depth + 1)).collect())
    }

    /// The lock that an `__exit__` on the value stack would release. What is in the slot behind it is its object, if it is not bound to one.
    fn lock_left_by(&self, slot: u64, next: u64) -> Option<Lock> {
        let kind = self.type_of(slot).ok()?;
        let lock_of = |condition| self.attribute(condition, "_lock").and_then(|lock| self.lock(lock));
        let is_exit =
            |name: u64| self.text(self.memory.u64(slot.wrapping_add(name)).ok()?).ok().map(|name| name == "__exit__");
        match kind.name.as_str() {
            "builtin_function_or_method" => {
                let object = self.bound_to(slot).filter(|_| self.bound_name(slot).as_deref() == Some("__exit__"))?;
                self.lock(object).or_else(|| self.own_lock(object))
            }
            "method" => {
                let object = self.memory.u64(slot.wrapping_add(self.layout.method_self)).ok()?;
                self.is_a(object, "Condition").then(|| lock_of(object)).flatten()
            }
            "method_descriptor" if is_exit(DESCRIPTOR_NAME)? => self.lock(next).or_else(|| self.own_lock(next)),
            "function" if is_exit(self.layout.function_name)? && self.is_a(next, "Condition") => lock_of(next),
            _ => None,
        }
    }

    /// The locks of the conditions in whose `wait` the thread is (rule 3).
    fn given_back(&self, chain: &Chain) -> Vec<u64> {
        let waits = chain.frames.iter().filter(|frame| frame.is_in("threading.py", "Condition.wait"));
        waits.filter_map(|frame| self.attribute(self.local(frame, "self")?, "_lock")).collect()
    }
}

impl Frame {
    /// Whether it is this function of this file of the standard library.
    pub(crate) fn is_in(&self, file: &str, function: &str) -> bool {
        self.code.qualname == function && self.is_of(file)
    }

    /// Whether it is a function of the machinery of `import`.
    pub(crate) fn is_of_import(&self) -> bool {
        self.code.filename.starts_with("<frozen importlib._bootstrap")
    }

    /// Whether it is a function of this file of the standard library: `queue.py`, `concurrent/futures/thread.py`.
    pub(crate) fn is_of(&self, file: &str) -> bool {
        // `…/lib/python3.11/queue.py`; a user's `queue.py` lies elsewhere.
        self.code.filename.strip_suffix(file).and_then(|path| path.strip_suffix('/')).is_some_and(|directory| {
            let last = directory.rsplit('/').next().unwrap_or_default();
            last.starts_with("python3") || last.ends_with(".zip") || last == "Lib"
        })
    }
}
