//! The frames of a thread, from the innermost outwards.

use std::rc::Rc;

use crate::code::Code;
use crate::memory::{Memory, Piece, Read};
use crate::object::Heap;

/// One activation of a Python function.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) at: u64,
    pub(crate) code: Rc<Code>,
    /// The instruction it is at; `None` before the first.
    pub(crate) instruction: Option<u32>,
    pub(crate) globals: u64,
}

/// What was found by following the frames of a thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) frames: Vec<Frame>,
    /// Whether the end was reached: no frame is missing.
    pub(crate) is_whole: bool,
}

/// No chain is followed further: rule 2 of `memory`. Python's own limit of recursion is 1000 unless a program raises it.
const MOST_FRAMES: usize = 20_000;

/// From this owner on, a frame stands for a call from C into the interpreter, and has no function.
const OF_THE_C_STACK: u8 = 3;

impl<M: Memory> Heap<M> {
    /// The frames of the thread whose state lies at `tstate`.
    pub(crate) fn chain(&self, tstate: u64) -> Chain {
        let mut chain = Chain::default();
        let Ok(mut at) = self.first_frame(tstate) else { return chain };
        while at != 0 {
            if chain.frames.len() >= MOST_FRAMES {
                return chain;
            }
            match self.frame(at) {
                Ok((frame, previous)) => {
                    chain.frames.extend(frame);
                    // A circle would be followed until the limit; this one is the most likely.
                    if previous == at {
                        return chain;
                    }
                    at = previous;
                }
                Err(_) => return chain,
            }
        }
        chain.is_whole = true;
        chain
    }

    fn first_frame(&self, tstate: u64) -> Read<u64> {
        let layout = &self.layout;
        let first = self.memory.u64(tstate.wrapping_add(layout.tstate_frame))?;
        if layout.minor < 13 { self.memory.u64(first.wrapping_add(layout.cframe_current_frame)) } else { Ok(first) }
    }

    /// One frame, if it is a function's, and the address of the next.
    pub(crate) fn frame(&self, at: u64) -> Read<(Option<Frame>, u64)> {
        let layout = &self.layout;
        let piece = Piece::of(&self.memory, at, layout.frame_localsplus as usize)?;
        let previous = piece.u64(layout.frame_previous)?;
        if layout.minor >= 12 && piece.u8(layout.frame_owner)? >= OF_THE_C_STACK {
            return Ok((None, previous));
        }
        let code = self.code(layout.object_in(piece.u64(layout.frame_code)?))?;
        let offset = piece.u64(layout.frame_instr)?.wrapping_sub(code.instructions) as i64;
        let instruction = u32::try_from(offset / 2).ok().filter(|_| offset >= 0);
        let globals = piece.u64(layout.frame_globals)?;
        Ok((Some(Frame { at: piece.at(), code, instruction, globals }), previous))
    }

    /// Every slot of a frame: local variables, then the value stack, of which the upper part may be stale.
    pub(crate) fn slots(&self, frame: &Frame) -> Vec<u64> {
        let at = frame.at.wrapping_add(self.layout.frame_localsplus);
        // At the end of a piece of stack the value stack may be cut short.
        let (locals, all) = (frame.code.locals, frame.code.locals + frame.code.stack_size);
        self.objects(at, all).or_else(|_| self.objects(at, locals)).unwrap_or_default()
    }

    /// What slots of a frame that lie side by side stand for.
    pub(crate) fn objects(&self, at: u64, count: u64) -> Read<Vec<u64>> {
        Ok(self.words(at, count)?.into_iter().map(|slot| self.layout.object_in(slot)).collect())
    }

    /// A local variable by name. A variable that is shared with an inner function lies in a cell.
    pub(crate) fn local(&self, frame: &Frame, name: &str) -> Option<u64> {
        let index = self.local_names(&frame.code).iter().position(|local| local == name)? as u64;
        let slot = frame.at.wrapping_add(self.layout.frame_localsplus + index * 8);
        let object = self.layout.object_in(self.memory.u64(slot).ok()?);
        (object != 0).then(|| self.in_cell(object))
    }

    /// What lies in a cell, or the object itself if it is none.
    pub(crate) fn in_cell(&self, object: u64) -> u64 {
        let is_cell = self.type_of(object).is_ok_and(|kind| kind.name == "cell");
        is_cell.then(|| self.memory.u64(object.wrapping_add(16)).ok()).flatten().unwrap_or(object)
    }
}

impl Frame {
    pub(crate) fn line(&self) -> u32 {
        self.code.line(self.instruction)
    }

    /// Whether it is the same activation at the same instruction.
    pub(crate) fn is_where(&self, other: &Self) -> bool {
        self.at == other.at && Rc::ptr_eq(&self.code, &other.code) && self.instruction == other.instruction
    }
}

impl Chain {
    /// Whether two looks have seen the same calls. The innermost function may have gone on a little.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.is_whole
            && other.is_whole
            && self.frames.len() == other.frames.len()
            && self.frames.iter().zip(&other.frames).enumerate().all(|(index, (one, two))| {
                one.is_where(two) || (index == 0 && one.at == two.at && Rc::ptr_eq(&one.code, &two.code))
            })
    }
}
