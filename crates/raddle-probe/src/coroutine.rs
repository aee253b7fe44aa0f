//! The tasks of asyncio, and what each awaits.
//!
//! A coroutine that waits has its frame inside of itself, and what it awaits on top of that frame's value stack: another coroutine, and so on, down to
//! a future. Which tasks there are is in a set of weak references that `asyncio.tasks` keeps. From 3.14 on each thread has a list of its own, and
//! the interpreter one of those that were left by threads that have ended.
//!
//! Where a task of `_asyncio` has its coroutine and its name is in no header. Both are found by their types among the few words of the object.

use crate::frame::Frame;
use crate::layout::OBJECT_SIZE;
use crate::memory::{Memory, Read};
use crate::object::Heap;

/// A task that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) at: u64,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    /// The future or the task that it awaits.
    pub(crate) awaits: Option<u64>,
    /// The functions that await each other, the innermost first.
    pub(crate) frames: Vec<Frame>,
}

/// Rule 2 of `memory`.
const LONGEST_CHAIN: usize = 1000;
const MOST_TASKS: usize = 1 << 16;

impl<M: Memory> Heap<M> {
    /// The tasks that `asyncio.tasks`, with these globals, knows, or that are in one of these lists, and that have not ended.
    pub(crate) fn tasks(&self, globals: u64, lists: &[u64]) -> Vec<Task> {
        let mut objects: Vec<u64> = lists.iter().flat_map(|list| self.listed(globals, *list)).collect();
        for name in ["_all_tasks", "_scheduled_tasks"] {
            let set = self.item(globals, name).ok().flatten().and_then(|weak_set| self.attribute(weak_set, "data"));
            let references = set.and_then(|set| self.members(set).ok()).unwrap_or_default();
            objects.extend(
                references
                    .into_iter()
                    .filter_map(|reference| self.memory.u64(reference.wrapping_add(self.layout.weakref_object)).ok()),
            );
        }
        let eager = self.item(globals, "_eager_tasks").ok().flatten();
        objects.extend(eager.and_then(|set| self.members(set).ok()).unwrap_or_default());
        let mut tasks: Vec<Task> = objects.into_iter().filter_map(|object| self.task(object)).collect();
        tasks.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
        tasks
    }

    /// The tasks of a list: a circle of two pointers each, which a task has at its very end.
    fn listed(&self, globals: u64, list: u64) -> Vec<u64> {
        let size = || self.basicsize(self.item(globals, "_CTask").ok()??).ok()?.checked_sub(16);
        let (Some(offset), mut at) = (size(), list) else { return Vec::new() };
        let mut found = Vec::new();
        while found.len() < MOST_TASKS {
            let Ok(next) = self.memory.u64(at) else { break };
            // Who is being taken out or put in is not followed.
            if next == list || self.memory.u64(next.wrapping_add(8)) != Ok(at) {
                break;
            }
            found.push(next.wrapping_sub(offset));
            at = next;
        }
        found
    }

    fn task(&self, object: u64) -> Option<Task> {
        let coroutine = self.find_in(object, |heap, word| heap.is_a(word, "coroutine").then_some(word))?;
        let name = self.task_name(object)?;
        let mut task = Task { at: object, name, state: "waiting", awaits: None, frames: Vec::new() };
        let mut at = coroutine;
        for depth in 0..LONGEST_CHAIN {
            let Some((frame, state, awaited)) = self.awaiting(at) else { break };
            task.frames.insert(0, frame);
            match (state, depth) {
                (0, _) => task.state = "running",
                (1.., 0) => return None,
                (1.., _) => {}
                (-2, 0) if self.layout.minor < 13 => task.state = "new",
                (-3, 0) => task.state = "new",
                _ => match awaited.and_then(|object| self.awaited_by(object)) {
                    Some(Awaited::Coroutine(next)) => {
                        at = next;
                        continue;
                    }
                    Some(Awaited::Future(future)) => task.awaits = Some(future),
                    None => {}
                },
            }
            break;
        }
        (!task.frames.is_empty()).then_some(task)
    }

    /// A coroutine's frame, its state, and the top of its value stack.
    pub(crate) fn awaiting(&self, coroutine: u64) -> Option<(Frame, i8, Option<u64>)> {
        let layout = &self.layout;
        let at = coroutine.wrapping_add(layout.gen_iframe);
        let state = self.memory.u8(coroutine.wrapping_add(layout.gen_frame_state)).ok()?.cast_signed();
        if state > 0 {
            return None;
        }
        let (frame, _) = self.frame(at).ok()?;
        let slots = at.wrapping_add(layout.frame_localsplus);
        let top = at.wrapping_add(layout.frame_stacktop);
        // The number of slots in use, or from 3.14 on the address behind them.
        let used = if layout.minor < 14 {
            u64::try_from(self.memory.u32(top).ok()?.cast_signed()).ok()
        } else {
            self.memory.u64(top).ok()?.checked_sub(slots).map(|size| size / 8)
        };
        let top = used.and_then(|used| used.checked_sub(1)).filter(|top| *top < 1 << 16);
        let awaited = top.and_then(|top| self.memory.u64(slots.wrapping_add(top * 8)).ok());
        Some((frame?, state, awaited.map(|slot| layout.object_in(slot))))
    }

    fn awaited_by(&self, object: u64) -> Option<Awaited> {
        let behind_head = || self.memory.u64(object.wrapping_add(OBJECT_SIZE)).ok();
        match self.type_of(object).ok()?.name.as_str() {
            "coroutine" | "generator" => Some(Awaited::Coroutine(object)),
            // Both have what they stand for right behind their heads.
            "async_generator_asend" | "async_generator_athrow" | "coroutine_wrapper" => {
                behind_head().map(Awaited::Coroutine)
            }
            "_asyncio.FutureIter" => behind_head().map(Awaited::Future),
            _ => None,
        }
    }

    /// The name of a task; a plain future has none.
    fn task_name(&self, object: u64) -> Option<String> {
        if !self.is_a(object, "_asyncio.Task") {
            return None;
        }
        // From 3.12 on, a name that nobody has asked for is the number in it.
        let number = || self.find_in(object, |heap, word| heap.int(word).ok().map(|number| format!("Task-{number}")));
        self.find_in(object, |heap, word| heap.text(word).ok()).or_else(number)
    }

    fn find_in<T>(&self, object: u64, wanted: impl Fn(&Self, u64) -> Option<T>) -> Option<T> {
        let words = || -> Read<Vec<u64>> {
            let size = self.type_of(object)?.basicsize.clamp(OBJECT_SIZE, 512);
            self.words(object.wrapping_add(OBJECT_SIZE), (size - OBJECT_SIZE) / 8)
        };
        let words = words().unwrap_or_default();
        // What is asked for stands behind what all futures have.
        words
            .into_iter()
            .rev()
            .filter(|word| *word > 4096 && word.is_multiple_of(8))
            .find_map(|word| wanted(self, word))
    }
}

enum Awaited {
    Coroutine(u64),
    Future(u64),
}
