//! Where in the program a thread is: its frames, and the numbers that places and stacks have in the file.
//!
//! Frames are followed in the interpreter's own memory. Asking for frame objects would make some, and the program could see that.
//!
//! # Rules
//!
//! 1. Whoever is in here holds the GIL, so frames stand still. Frames of another thread are followed only after its state was found in the
//!    interpreter's list.
//! 2. No reference is taken and none is kept. A place is known by the addresses of the code and of its file's name, by its first line and by the
//!    instruction; should another code ever have all four, it is taken for the old one.
//! 3. The tables have a fixed size. What has no room there gets the number 0, *unknown*.
//! 4. At the start it is compared with what the interpreter itself says; if that differs, nothing is followed at all.

use std::ffi::c_int;

use pyo3::ffi;
use raddle_core::prim::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use raddle_trace::events::format::{STACK_DEPTH, TEXT_LENGTH, record};

use super::guarded::Guarded;
use super::here::Here;
use super::permit;

/// The minor version that this is built for; the recorder starts in no other one.
pub(super) const MINOR: u32 = 11 + cfg!(Py_3_12) as u32 + cfg!(Py_3_13) as u32 + cfg!(Py_3_14) as u32;

/// Where fields lie. Known when this is built, so that nothing of it has to be read when a lock is taken.
mod offsets {
    use raddle_probe::offset;

    use super::MINOR;

    pub(super) const TSTATE_INTERP: usize = offset(MINOR, "tstate_interp");
    pub(super) const TSTATE_FRAME: usize = offset(MINOR, "tstate_frame");
    pub(super) const CFRAME_CURRENT_FRAME: usize = offset(MINOR, "cframe_current_frame");
    pub(super) const FRAME_CODE: usize = offset(MINOR, "frame_code");
    pub(super) const FRAME_INSTR: usize = offset(MINOR, "frame_instr");
    pub(super) const FRAME_PREVIOUS: usize = offset(MINOR, "frame_previous");
    pub(super) const FRAME_OWNER: usize = offset(MINOR, "frame_owner");
    pub(super) const FRAME_LOCALSPLUS: usize = offset(MINOR, "frame_localsplus");
    pub(super) const CODE_LOCALSPLUSNAMES: usize = offset(MINOR, "code_localsplusnames");
    pub(super) const CODE_FILENAME: usize = offset(MINOR, "code_filename");
    pub(super) const CODE_QUALNAME: usize = offset(MINOR, "code_qualname");
    pub(super) const CODE_FIRSTLINENO: usize = offset(MINOR, "code_firstlineno");
    pub(super) const CODE_CODE: usize = offset(MINOR, "code_code");
}

/// Whether there is something between a thread and its frame.
const IS_BEHIND_CFRAME: bool = MINOR < 13;
/// Whether frames may stand for calls from C.
const MAY_BE_OF_C: bool = MINOR >= 12;

#[unsafe(link_section = "raddle_recorder")] // as said in `mod.rs`
static FOLLOWS: AtomicBool = AtomicBool::new(false);

/// From this owner on, a frame stands for a call from C.
const OF_THE_C_STACK: u8 = 3;

/// The numbers of texts, places and stacks.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

const PLACES: usize = 1 << 14;
const STACKS: usize = 1 << 15;

/// A place that has a number.
#[derive(Clone, Copy)]
struct Known {
    code: usize,
    file: usize,
    line: c_int,
    instruction: u32,
    id: u32,
    /// It is in `Condition.wait` of the standard library.
    is_wait: bool,
    whose: Whose,
}

/// Whose a place is, as far as locks are made there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Whose {
    /// The program's.
    #[default]
    Own,
    /// `Event.__init__` of the standard library.
    Event,
    /// Where it makes other things by which threads meet: conditions, queues, futures.
    Meeting,
    /// `Semaphore.__init__`, which does so, too.
    Semaphore,
    /// A function of `Condition`.
    Condition,
    /// `Condition.__exit__`.
    ConditionExit,
    /// `Semaphore.acquire`.
    PermitTaken,
    /// `Semaphore.release`.
    PermitGiven,
    /// That of `BoundedSemaphore`.
    BoundedPermitGiven,
    /// `Thread.__init__`: its event is its own.
    Thread,
    /// All else that is installed: it makes locks for itself.
    Library,
    /// `RLock`, a function that makes one for whoever calls it.
    Maker,
    /// Nobody's: from 3.12 on the interpreter puts a frame of its own between a class that is called and its `__init__`.
    Between,
}

static KNOWN_PLACES: Guarded<[Known; PLACES]> = Guarded::new(
    [Known { code: 0, file: 0, line: 0, instruction: 0, id: 0, is_wait: false, whose: Whose::Own }; PLACES],
);

/// Stacks by their hashes.
static KNOWN_STACKS: Guarded<[(u64, u32); STACKS]> = Guarded::new([(0, 0); STACKS]);
static KNOWN_TEXTS: Guarded<[(u64, u32); 1 << 12]> = Guarded::new([(0, 0); 1 << 12]);

/// The directory of the standard library, with a slash behind it.
static LIBRARY: Guarded<([u8; 512], usize)> = Guarded::new(([0; 512], 0));

/// One frame of a function: its code and the address of its instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) code: usize,
    pub(super) instruction: usize,
    at: usize,
    previous: usize,
}

/// A number, and what is known of the place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) id: u32,
    pub(super) is_wait: bool,
    pub(super) whose: Whose,
}

/// # Safety
///
/// A field of this type lies there.
#[inline]
unsafe fn field<T: Copy>(at: usize, offset: usize) -> T {
    // SAFETY: the caller says so.
    unsafe { ((at + offset) as *const T).read_unaligned() }
}

/// Compares with what the interpreter says, and learns where the standard library is. To be called once, attached, from a function of Python.
pub(super) fn learn(library: &[u8]) -> Result<(), &'static str> {
    // SAFETY: attached, at the start: nobody else is in here.
    unsafe {
        let (kept, length) = &mut *LIBRARY.get();
        if library.len() < kept.len() {
            kept[..library.len()].copy_from_slice(library);
            *length = library.len();
        }
    }
    // Rule 4.
    // SAFETY: attached; a borrowed frame object that lives while its function runs, and a new reference to its code, given back below.
    let is_right = unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return Err("there is no frame to compare with");
        }
        let code = ffi::PyFrame_GetCode(frame);
        let name = ffi::PyObject_GetAttrString(code.cast(), c"co_qualname".as_ptr());
        let file = ffi::PyObject_GetAttrString(code.cast(), c"co_filename".as_ptr());
        let line = ffi::PyFrame_GetLineNumber(frame);
        let at = code as usize;
        let is_code = field::<usize>(at, offsets::CODE_QUALNAME) == name as usize
            && field::<usize>(at, offsets::CODE_FILENAME) == file as usize;
        let is_right = is_code && {
            let first = first(ffi::PyThreadState_Get());
            first.is_some_and(|first| {
                first.code == at && ffi::PyCode_Addr2Line(code, instruction_of(first) as c_int) == line
            })
        };
        ffi::Py_XDECREF(name);
        ffi::Py_XDECREF(file);
        ffi::Py_DECREF(code.cast());
        ffi::PyErr_Clear();
        is_right
    };
    FOLLOWS.store(is_right, Relaxed);
    if is_right { Ok(()) } else { Err("the interpreter's frames do not lie where they were expected") }
}

fn instruction_of(frame: Frame) -> u32 {
    frame.instruction.wrapping_sub(frame.code + offsets::CODE_CODE) as u32
}

/// The interpreter of a thread: [`ffi::PyInterpreterState_Get`] without a call, for who has the thread already.
#[inline]
pub(super) fn interpreter(tstate: *mut ffi::PyThreadState) -> *mut ffi::PyInterpreterState {
    // SAFETY: a thread state that lives; who calls this has compared the field once.
    unsafe { field(tstate as usize, offsets::TSTATE_INTERP) }
}

/// The innermost frame of a thread: this one, or, by rule 1, another one.
#[inline]
pub(super) fn first(tstate: *mut ffi::PyThreadState) -> Option<Frame> {
    // SAFETY: rules 1 and 4: a thread state that lives, and fields that lie where they were found.
    unsafe {
        let mut at = field::<usize>(tstate as usize, offsets::TSTATE_FRAME);
        if IS_BEHIND_CFRAME {
            at = field::<usize>(at, offsets::CFRAME_CURRENT_FRAME);
        }
        frame(at)
    }
}

/// The frame that called this one.
#[inline]
pub(super) fn next(of: Frame) -> Option<Frame> {
    // SAFETY: as above.
    unsafe { frame(of.previous) }
}

/// # Safety
///
/// It is 0 or a frame.
#[inline]
unsafe fn frame(mut at: usize) -> Option<Frame> {
    while at != 0 {
        // SAFETY: the caller says so; and so is what a frame names as the one before.
        unsafe {
            let previous = field::<usize>(at, offsets::FRAME_PREVIOUS);
            if !(MAY_BE_OF_C && field::<u8>(at, offsets::FRAME_OWNER) >= OF_THE_C_STACK) {
                // From 3.14 on the lowest bit says whether the frame owns it; before, it is never set.
                let code = field::<usize>(at, offsets::FRAME_CODE) & !1;
                if code != 0 {
                    let instruction = field::<usize>(at, offsets::FRAME_INSTR);
                    return Some(Frame { code, instruction, at, previous });
                }
            }
            at = previous;
        }
    }
    None
}

/// A variable of the function that this frame is of, by its position: borrowed, or null.
pub(super) fn variable(frame: Frame, position: usize) -> *mut ffi::PyObject {
    // SAFETY: rules 1 and 4: whoever asks has found a variable of that function there (`calls_it`). From 3.14 on low bits say whether the frame owns it.
    let object: usize = unsafe { field(frame.at, offsets::FRAME_LOCALSPLUS + position * size_of::<usize>()) };
    (object & !3) as *mut ffi::PyObject
}

/// Whether a function calls the variable at this position so.
fn calls_it(code: usize, position: usize, name: &[u8]) -> bool {
    // SAFETY: rules 1 and 4: the tuple lives as long as the code.
    let is_there = unsafe {
        let names = field::<*mut ffi::PyObject>(code, offsets::CODE_LOCALSPLUSNAMES);
        let is_there = ffi::PyTuple_CheckExact(names) != 0 && ffi::PyTuple_GET_SIZE(names) > position as isize;
        is_there.then(|| ffi::PyTuple_GET_ITEM(names, position as isize))
    };
    let mut room = [0; TEXT_LENGTH];
    is_there.is_some_and(|word| {
        let length = bytes_of(word, &mut room);
        &room[..length] == name
    })
}

/// The innermost frame of this thread, if frames are followed.
#[inline]
pub(super) fn innermost(here: &Here) -> Option<Frame> {
    if FOLLOWS.load(Relaxed) { first(here.tstate) } else { None }
}

/// The number of a place.
#[inline]
pub(super) fn place(here: &mut Here, frame: Frame) -> Place {
    // SAFETY: rules 1 and 4: the frame's code lives, since the frame does.
    let (file, line) = unsafe {
        (field::<usize>(frame.code, offsets::CODE_FILENAME), field::<c_int>(frame.code, offsets::CODE_FIRSTLINENO))
    };
    place_of(here, frame.code, file, line, instruction_of(frame))
}

/// The number of the place of an instruction of a code that lives.
pub(super) fn at(here: &mut Here, code: usize, instruction: c_int) -> u32 {
    if !FOLLOWS.load(Relaxed) || code == 0 {
        return 0;
    }
    // SAFETY: rules 1 and 4.
    let (file, line) =
        unsafe { (field::<usize>(code, offsets::CODE_FILENAME), field::<c_int>(code, offsets::CODE_FIRSTLINENO)) };
    place_of(here, code, file, line, instruction as u32).id
}

/// The number of the place where a code that lives begins.
pub(super) fn beginning(here: &mut Here, code: usize) -> u32 {
    at(here, code, -1)
}

fn place_of(here: &mut Here, code: usize, file: usize, line: c_int, instruction: u32) -> Place {
    let mut at = mix(code as u64 ^ u64::from(instruction) << 40) as usize;
    for _ in 0..16 {
        // SAFETY: rule 1; the index is within the table, and the copy ends before anything else is done.
        let known = unsafe { &mut (*KNOWN_PLACES.get())[at % PLACES] };
        if known.code == code && known.instruction == instruction && known.file == file && known.line == line {
            return Place { id: known.id, is_wait: known.is_wait, whose: known.whose };
        }
        if known.code == 0 {
            let new = new_place(here, code, instruction);
            // SAFETY: as above.
            unsafe {
                (*KNOWN_PLACES.get())[at % PLACES] =
                    Known { code, file, line, instruction, id: new.id, is_wait: new.is_wait, whose: new.whose };
            }
            return new;
        }
        at = at.wrapping_add(1);
    }
    Place::default()
}

#[cold]
fn new_place(here: &mut Here, code: usize, instruction: u32) -> Place {
    // SAFETY: rules 1 and 4; the strings live as long as the code.
    let (file, function, line) = unsafe {
        let file = field::<*mut ffi::PyObject>(code, offsets::CODE_FILENAME);
        let function = field::<*mut ffi::PyObject>(code, offsets::CODE_QUALNAME);
        (file, function, ffi::PyCode_Addr2Line(code as *mut ffi::PyCodeObject, instruction as c_int))
    };
    let mut room = [0; TEXT_LENGTH];
    let length = bytes_of(file, &mut room);
    let bytes = &room[..length];
    // SAFETY: rule 1.
    let library = unsafe {
        let (path, length) = &*LIBRARY.get();
        &path[..*length]
    };
    let inner = bytes.strip_prefix(library).filter(|_| !library.is_empty());
    let is_installed = bytes.starts_with(b"<frozen ")
        || inner.is_some()
        || bytes.windows(15).any(|part| part == b"/site-packages/" || part == b"/dist-packages/");
    let is_threading = inner == Some(b"threading.py");
    let is_means =
        is_threading || inner.is_some_and(|inner| inner == b"queue.py" || inner.starts_with(b"concurrent/futures/"));
    let is_between = bytes == b"__init__";
    let file_id = text(here, bytes);
    let length = bytes_of(function, &mut room);
    let is_wait = is_threading && &room[..length] == b"Condition.wait";
    let whose = match &room[..length] {
        b"Event.__init__" if is_threading => Whose::Event,
        b"Thread.__init__" if is_threading => Whose::Thread,
        b"RLock" if is_threading => Whose::Maker,
        b"Semaphore.__init__" if is_threading && calls_it(code, permit::VALUE, b"value") => Whose::Semaphore,
        b"Condition.__exit__" if is_threading && calls_it(code, permit::ARGS, b"args") => Whose::ConditionExit,
        b"Semaphore.acquire"
            if is_threading && calls_it(code, permit::BLOCKING, b"blocking") && calls_it(code, permit::RC, b"rc") =>
        {
            Whose::PermitTaken
        }
        b"Semaphore.release" if is_threading && calls_it(code, permit::N, b"n") => Whose::PermitGiven,
        b"BoundedSemaphore.release" if is_threading && calls_it(code, permit::N, b"n") => Whose::BoundedPermitGiven,
        b"__init__" if is_between => Whose::Between,
        function if is_means && function.ends_with(b".__init__") => Whose::Meeting,
        function if is_threading && function.starts_with(b"Condition.") => Whose::Condition,
        _ if is_installed => Whose::Library,
        _ => Whose::Own,
    };
    let function_id = text(here, &room[..length]);
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let words = [u64::from(file_id) | u64::from(function_id) << 32, u64::from(line.max(0) as u32)];
    here.write(record::PLACE, 0, id, &words);
    Place { id, is_wait, whose }
}

/// What stands in a string, as far as it fits, if that can be read without making anything.
pub(super) fn bytes_of(string: *mut ffi::PyObject, room: &mut [u8; TEXT_LENGTH]) -> usize {
    // SAFETY: rule 1: a string that lives; one of plain ASCII has its bytes in itself, any other is only read character by character.
    unsafe {
        if string.is_null() || ffi::PyUnicode_Check(string) == 0 {
            return 0;
        }
        let length = ffi::PyUnicode_GET_LENGTH(string).max(0) as usize;
        let (kind, data) = (ffi::PyUnicode_KIND(string), ffi::PyUnicode_DATA(string));
        let mut at = 0;
        for index in 0..length {
            let code = match kind {
                ffi::PyUnicode_1BYTE_KIND => u32::from(data.cast::<u8>().add(index).read()),
                ffi::PyUnicode_2BYTE_KIND => u32::from(data.cast::<u16>().add(index).read()),
                _ => data.cast::<u32>().add(index).read(),
            };
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            if at + 4 > room.len() {
                break;
            }
            at += character.encode_utf8(&mut room[at..]).len();
        }
        at
    }
}

/// The number of a string.
pub(super) fn string(here: &mut Here, string: *mut ffi::PyObject) -> u32 {
    let mut room = [0; TEXT_LENGTH];
    let length = bytes_of(string, &mut room);
    text(here, &room[..length])
}

/// The number of a text.
pub(super) fn text(here: &mut Here, bytes: &[u8]) -> u32 {
    if bytes.is_empty() {
        return 0;
    }
    let bytes = &bytes[..bytes.len().min(TEXT_LENGTH)];
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        | 1;
    // SAFETY: rule 1; the table is looked at while nothing else is done.
    let known = unsafe { &mut *KNOWN_TEXTS.get() };
    let slot = &mut known[mix(hash) as usize % (1 << 12)];
    if slot.0 == hash {
        return slot.1;
    }
    let id = NEXT_ID.fetch_add(1, Relaxed);
    *slot = (hash, id);
    let mut words = [0_u64; 1 + TEXT_LENGTH / 8];
    words[0] = bytes.len() as u64;
    for (word, chunk) in words[1..].iter_mut().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(padded);
    }
    here.write(record::TEXT, 0, id, &words[..1 + bytes.len().div_ceil(8)]);
    id
}

/// The number of the stack that begins with this frame, of at most so many places.
pub(super) fn stack(here: &mut Here, first: Option<Frame>, depth: usize) -> u32 {
    let mut places = [0; STACK_DEPTH];
    let mut count = 0;
    let mut frame = first;
    while let Some(this) = frame.filter(|_| count < depth.min(STACK_DEPTH)) {
        count += push(here, &mut places, count, this);
        frame = next(this);
    }
    stack_of(here, &places[..count])
}

/// Notes the place of a frame. Returns how many were noted: none where it is nobody's.
fn push(here: &mut Here, places: &mut [u32; STACK_DEPTH], at: usize, frame: Frame) -> usize {
    let place = place(here, frame);
    match places.get_mut(at).filter(|_| place.whose != Whose::Between) {
        Some(room) => {
            *room = place.id;
            1
        }
        None => 0,
    }
}

/// Whether a lock that is made here is made for threads of the program to meet, by the program or as a part of what is there for that; and whether that is an event.
pub(super) fn is_for_program(here: &mut Here, first: Option<Frame>, depth: usize) -> (bool, bool) {
    let (mut frame, mut is_event, mut is_meeting) = (first, false, false);
    for _ in 0..depth {
        let Some(this) = frame else { break };
        match place(here, this).whose {
            Whose::Own => return (true, is_event),
            Whose::Event => (is_event, is_meeting) = (true, true),
            Whose::Meeting | Whose::Semaphore => is_meeting = true,
            Whose::Maker | Whose::Between => {}
            Whose::Thread => return (false, false),
            Whose::Library | Whose::Condition | Whose::ConditionExit => break,
            Whose::PermitTaken | Whose::PermitGiven | Whose::BoundedPermitGiven => break,
        }
        frame = next(this);
    }
    (is_meeting, is_event)
}

/// The number of a stack of these places.
pub(super) fn stack_of(here: &mut Here, places: &[u32]) -> u32 {
    if places.is_empty() {
        return 0;
    }
    let hash = places.iter().fold(places.len() as u64, |hash, place| mix(hash ^ u64::from(*place))) | 1;
    let mut at = hash as usize >> 1;
    for _ in 0..16 {
        // SAFETY: rule 1.
        let known = unsafe { &mut (*KNOWN_STACKS.get())[at % STACKS] };
        if known.0 == hash {
            return known.1;
        }
        if known.0 == 0 {
            let id = NEXT_ID.fetch_add(1, Relaxed);
            *known = (hash, id);
            let mut words = [0_u64; STACK_DEPTH / 2];
            for (index, place) in places.iter().take(STACK_DEPTH).enumerate() {
                words[index / 2] |= u64::from(*place) << (index % 2 * 32);
            }
            here.write(record::STACK, places.len() as u8, id, &words[..places.len().div_ceil(2)]);
            return id;
        }
        at = at.wrapping_add(1);
    }
    0
}

/// The stack by which another thread took a lock: from the frame in which it did, outwards, if that still runs.
pub(super) fn stack_of_other(here: &mut Here, other: *mut ffi::PyThreadState, code: usize, taken_at: u32) -> u32 {
    let mut frame = if FOLLOWS.load(Relaxed) && is_listed(other) { first(other) } else { None };
    for _ in 0..64 {
        let Some(this) = frame else { break };
        if this.code == code {
            let mut places = [0; STACK_DEPTH];
            places[0] = taken_at;
            let mut count = 1;
            frame = next(this);
            while let Some(this) = frame.filter(|_| count < STACK_DEPTH) {
                count += push(here, &mut places, count, this);
                frame = next(this);
            }
            return stack_of(here, &places[..count]);
        }
        frame = next(this);
    }
    if taken_at == 0 { 0 } else { stack_of(here, &[taken_at]) }
}

/// Whether the thread state is one of this interpreter's. Looks at a few hundred.
fn is_listed(wanted: *mut ffi::PyThreadState) -> bool {
    if wanted.is_null() {
        return false;
    }
    // SAFETY: attached. The list changes only under the GIL, but for states that a thread of C puts in front.
    unsafe {
        let mut at = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        for _ in 0..256 {
            if at.is_null() || at == wanted {
                break;
            }
            at = ffi::PyThreadState_Next(at);
        }
        at == wanted
    }
}

/// The number that comes next.
pub(super) fn next_id() -> u32 {
    NEXT_ID.load(Relaxed)
}

/// Mixes bits, so that their low ones can be an index (the last step of MurmurHash3).
#[inline]
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^ value >> 33
}
