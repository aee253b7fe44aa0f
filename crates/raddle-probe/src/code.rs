//! Code objects: names, lines, and how much of the value stack is sure to be in use.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::memory::{Fault, Memory, Piece, Read};
use crate::object::Heap;

/// A code object. It does not change while it lives.
#[derive(Debug)]
pub(crate) struct Code {
    at: u64,
    /// Where its instructions begin.
    pub(crate) instructions: u64,
    pub(crate) qualname: String,
    pub(crate) filename: String,
    pub(crate) first_line: u32,
    pub(crate) locals: u64,
    pub(crate) stack_size: u64,
    lines: Vec<u8>,
    exceptions: OnceCell<Vec<Handler>>,
    names: OnceCell<Vec<String>>,
}

impl<M: Memory> Heap<M> {
    /// The code object at an address, if there is one.
    pub(crate) fn code(&self, at: u64) -> Read<Rc<Code>> {
        if let Some(known) = self.codes.borrow().get(&at) {
            return Ok(Rc::clone(known));
        }
        if self.type_of(at)?.name != "code" {
            return Err(Fault);
        }
        let layout = &self.layout;
        let piece = Piece::of(&self.memory, at, layout.code_code as usize)?;
        let (locals, stack_size) = (piece.u32(layout.code_nlocalsplus)?, piece.u32(layout.code_stacksize)?);
        if locals > 1 << 15 || stack_size > 1 << 15 {
            return Err(Fault);
        }
        let new = Rc::new(Code {
            at,
            instructions: at.wrapping_add(layout.code_code),
            qualname: self.text(piece.u64(layout.code_qualname)?)?,
            filename: self.text(piece.u64(layout.code_filename)?)?,
            first_line: piece.u32(layout.code_firstlineno)?,
            locals: u64::from(locals),
            stack_size: u64::from(stack_size),
            lines: self.bytes(piece.u64(layout.code_linetable)?)?,
            exceptions: OnceCell::new(),
            names: OnceCell::new(),
        });
        self.codes.borrow_mut().insert(at, Rc::clone(&new));
        Ok(new)
    }

    /// The names of the local variables, in the order of their slots.
    pub(crate) fn local_names<'code>(&self, code: &'code Code) -> &'code [String] {
        code.names.get_or_init(|| {
            let tuple = self.memory.u64(code.at.wrapping_add(self.layout.code_localsplusnames));
            let names = tuple.and_then(|tuple| self.tuple(tuple)).unwrap_or_default();
            names.into_iter().map(|name| self.text(name).unwrap_or_default()).collect()
        })
    }

    /// How many slots of the value stack are sure to be in use at an instruction: what is unwound to if it raises.
    ///
    /// The interpreter does not write down how high the stack of a running frame is. The exception table says it for every
    /// instruction inside a `with` or a `try`.
    pub(crate) fn sure_depth(&self, code: &Code, instruction: u32) -> u64 {
        depth_in(self.exceptions(code), instruction).min(code.stack_size)
    }

    /// The instruction that has put what lies in a slot of the value stack there, if that was a `with` in which the instruction is.
    pub(crate) fn entered_at(&self, code: &Code, instruction: u32, slot: u64) -> Option<u32> {
        // From 3.14 on a `with` keeps two slots: `__exit__`, and whose it is.
        let depth = slot.checked_add(if self.layout.minor < 14 { 1 } else { 2 })?;
        entered_in(self.exceptions(code), instruction, depth)
    }

    fn exceptions<'code>(&self, code: &'code Code) -> &'code [Handler] {
        code.exceptions.get_or_init(|| {
            let bytes = self.memory.u64(code.at.wrapping_add(self.layout.code_exceptiontable));
            handlers_in(&bytes.and_then(|bytes| self.bytes(bytes)).unwrap_or_default())
        })
    }
}

impl Code {
    /// The line of an instruction, counted in units of two bytes. `None` is before the first.
    pub(crate) fn line(&self, instruction: Option<u32>) -> u32 {
        instruction
            .and_then(|instruction| line_in(&self.lines, self.first_line, instruction))
            .unwrap_or(self.first_line)
    }
}

/// Reads CPython's location table (`Objects/locations.md` in its sources): each entry covers some instructions, and moves the line.
fn line_in(table: &[u8], first: u32, instruction: u32) -> Option<u32> {
    let mut bytes = table.iter().copied();
    let (mut line, mut until) = (i64::from(first), 0u32);
    while let Some(head) = bytes.next() {
        let kind = (head >> 3) & 15;
        let (delta, skip) = match kind {
            15 => (0, 0),
            14 => (signed(&mut bytes)?, 0),
            13 => (signed(&mut bytes)?, 0),
            10..=12 => (i64::from(kind) - 10, 2),
            _ => (0, 1),
        };
        if kind == 14 {
            for _ in 0..3 {
                unsigned(&mut bytes)?;
            }
        }
        for _ in 0..skip {
            bytes.next()?;
        }
        line = line.saturating_add(delta);
        until = until.saturating_add(u32::from(head & 7) + 1);
        if instruction < until {
            return if kind == 15 { None } else { u32::try_from(line).ok() };
        }
    }
    None
}

/// A number in pieces of six bits, the lowest first; bit 6 says that there is more.
fn unsigned(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes.next()?;
        value |= u64::from(byte & 63).checked_shl(shift)?;
        shift += 6;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
}

/// Such a number with its sign in bit 0.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = unsigned(bytes)?;
    let size = i64::try_from(value >> 1).ok()?;
    Some(if value & 1 == 1 { -size } else { size })
}

/// What is unwound to if one of some instructions raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handler {
    start: u64,
    length: u64,
    target: u64,
    /// How many slots of the value stack are kept.
    depth: u64,
    /// Whether where it was is kept too, as a `with` does; a `try` does not.
    keeps_place: bool,
}

/// Reads CPython's exception table (`Objects/exception_handling_notes.txt` in its sources): start, length, target, depth, each in pieces of
/// six bits, the highest first.
fn handlers_in(table: &[u8]) -> Vec<Handler> {
    let mut bytes = table.iter().copied();
    let mut number = || {
        let mut value = 0u64;
        loop {
            let byte = bytes.next()?;
            value = value.wrapping_shl(6) | u64::from(byte & 63);
            if byte & 64 == 0 {
                return Some(value);
            }
        }
    };
    let mut found = Vec::new();
    while let (Some(start), Some(length), Some(target), Some(depth)) = (number(), number(), number(), number()) {
        found.push(Handler { start, length, target, depth: depth >> 1, keeps_place: depth & 1 != 0 });
    }
    found
}

fn depth_in(handlers: &[Handler], instruction: u32) -> u64 {
    let at = u64::from(instruction);
    let covers = |handler: &&Handler| at >= handler.start && at - handler.start < handler.length;
    handlers.iter().filter(covers).map(|handler| handler.depth).max().unwrap_or(0)
}

/// A `with` keeps what it has to leave on top of what is kept at this depth, and everything inside it has that and what is below. What is inside
/// of further blocks is cut out of its range, so that several entries of one target belong to it; the first of them begins behind the instruction
/// that has entered. A `try` inside of it keeps as many slots.
fn entered_in(handlers: &[Handler], instruction: u32, depth: u64) -> Option<u32> {
    let begun =
        |handler: &&Handler| handler.depth == depth && handler.keeps_place && handler.start <= u64::from(instruction);
    let target = handlers.iter().filter(begun).max_by_key(|handler| handler.start)?.target;
    let first = handlers.iter().filter(|handler| handler.target == target).map(|handler| handler.start).min()?;
    u32::try_from(first.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_found() {
        // def f():      line 10, RESUME: one unit, no columns
        //     x = 1     line + 1, two units, short columns in two bytes
        //     y = 2     line + 2, one unit
        let table = [0x80 | 13 << 3, 0, 0x80 | 11 << 3 | 1, 4, 5, 0x80 | 12 << 3, 4, 5];
        let lines: Vec<_> = (0..5).map(|at| line_in(&table, 10, at)).collect();
        assert_eq!(lines, [Some(10), Some(11), Some(11), Some(13), None]);
    }

    #[test]
    fn a_depth_is_that_of_the_innermost_handler() {
        // 2..10 depth 1, 4..6 depth 3.
        let table = [0x80 | 2, 8, 20, 1 << 1, 0x80 | 4, 2, 30, 3 << 1];
        let handlers = handlers_in(&table);
        assert_eq!([1, 2, 4, 5, 6, 10].map(|at| depth_in(&handlers, at)), [0, 1, 3, 3, 1, 0]);
    }

    #[test]
    fn a_with_was_entered_before_the_first_of_its_ranges() {
        let handler = |start, length, target, depth| Handler { start, length, target, depth, keeps_place: true };
        // A `with` from 2 on, another one inside it from 5 on, the rest of the first from 9 on.
        let handlers = [handler(2, 2, 40, 1), handler(5, 3, 50, 2), handler(9, 4, 40, 1), handler(20, 4, 60, 1)];
        assert_eq!(entered_in(&handlers, 6, 1), Some(1));
        assert_eq!(entered_in(&handlers, 6, 2), Some(4));
        assert_eq!(entered_in(&handlers, 10, 1), Some(1));
        assert_eq!(entered_in(&handlers, 1, 1), None);
        // A `try` within the first.
        let tries = Handler { keeps_place: false, ..handler(3, 1, 70, 1) };
        assert_eq!(entered_in(&[handlers[0], tries], 3, 1), Some(1));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(table in proptest::collection::vec(any::<u8>(), 0..200), at in any::<u32>()) {
            line_in(&table, u32::MAX, at);
            let handlers = handlers_in(&table);
            depth_in(&handlers, at);
            entered_in(&handlers, at, u64::from(at));
        }
    }
}
