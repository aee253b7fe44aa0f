//! Raddle's own locks, events and queues in the process that is looked at.
//!
//! A thread that waits for one of them sleeps on a futex of its own, which says nothing about what it waits for. What it calls does: in
//! the innermost function the called method and its object lie on the value stack, above the slots of the blocks around.
//!
//! # Rules
//!
//! 1. Only what is being called counts: a bound method, a method with its object in the next slot, or, in a `with` that is being entered, the
//!    object itself. An object that is merely an argument of something else does not.
//! 2. The lowest call wins: it is the one that is under way, and what lies above it may be left over.

use crate::frame::Frame;
use crate::layout::DESCRIPTOR_NAME;
use crate::lock::Lock;
use crate::memory::Memory;
use crate::object::Heap;

/// A thing of Raddle's, and the method of it that is being called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnCall {
    pub(crate) object: u64,
    /// `Lock`, `Queue` …
    pub(crate) class: &'static str,
    pub(crate) method: String,
}

/// Raddle's native classes that are waited for, as their types are named, and what users call them.
const CLASSES: [(&str, &str); 9] = [
    ("raddle.threading.Lock", "Lock"),
    ("raddle.threading.RLock", "RLock"),
    ("raddle._raddle.EventCore", "Event"),
    ("raddle._raddle.ConditionCore", "Condition"),
    ("raddle._raddle.SemaphoreCore", "Semaphore"),
    ("raddle._raddle.BarrierCore", "Barrier"),
    ("raddle._raddle.QueueCore", "Queue"),
    ("raddle.queue.SimpleQueue", "SimpleQueue"),
    ("raddle._raddle.FutureCore", "Future"),
];

/// The instruction that enters a `with`: in 3.11 and 3.12, and in 3.13. From 3.14 on `__enter__` is called as any other method.
const BEFORE_WITH: [u8; 3] = [53, 53, 2];

impl<M: Memory> Heap<M> {
    /// Which class of Raddle's the object is of, or inherits from.
    fn own_class(&self, object: u64) -> Option<&'static str> {
        CLASSES.iter().find(|(name, _)| self.is_a(object, name)).map(|(_, class)| *class)
    }

    /// Raddle's lock at an address. That it is locked is not read.
    pub(crate) fn own_lock(&self, object: u64) -> Option<Lock> {
        let class = self.own_class(object).filter(|class| matches!(*class, "Lock" | "RLock"))?;
        Some(Lock::of_raddle(object, class == "RLock"))
    }

    /// The call into a thing of Raddle's that the innermost function is in.
    pub(crate) fn own_call(&self, frame: &Frame) -> Option<OwnCall> {
        let instruction = frame.instruction?;
        let opcode = self.memory.u8(frame.code.instructions.wrapping_add(u64::from(instruction) * 2)).ok()?;
        let enters = BEFORE_WITH.get(self.layout.minor.checked_sub(11)? as usize) == Some(&opcode);
        let base = frame.code.locals + self.sure_depth(&frame.code, instruction);
        let slots = self.slots(frame);
        let stack = slots.get(usize::try_from(base).ok()?..)?;
        stack.iter().enumerate().filter(|(_, slot)| **slot != 0).find_map(|(index, slot)| {
            let (object, method) = match self.type_of(*slot).ok()?.name.as_str() {
                "builtin_function_or_method" | "builtin_method" => (self.bound_to(*slot)?, self.bound_name(*slot)?),
                "method_descriptor" => {
                    let name = self.memory.u64(slot.wrapping_add(DESCRIPTOR_NAME)).ok()?;
                    (*stack.get(index + 1)?, self.text(name).ok()?)
                }
                _ if enters => (*slot, "__exit__".into()),
                _ => return None,
            };
            if method == "__exit__" && !enters {
                return None;
            }
            self.own_class(object).map(|class| OwnCall { object, class, method })
        })
    }
}
