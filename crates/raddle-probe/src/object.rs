//! Python objects as they lie in memory: types, strings, numbers, tuples, and the attributes of instances.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::code::Code;
use crate::layout::{Layout, OBJECT_SIZE, OBJECT_TYPE};
use crate::memory::{Fault, LONGEST, Memory, Piece, Read};

/// An interpreter's memory, and how it is laid out. What does not change while it is there is read once.
#[derive(Debug)]
pub(crate) struct Heap<M> {
    pub(crate) memory: M,
    pub(crate) layout: Layout,
    types: RefCell<HashMap<u64, Rc<Type>>>,
    pub(crate) codes: RefCell<HashMap<u64, Rc<Code>>>,
    /// Keys of dictionaries: the same few names again and again.
    keys: RefCell<HashMap<u64, Option<Rc<str>>>>,
    /// The globals of `__main__`, once they are known: the last place where a name is looked for.
    pub(crate) script: OnceCell<u64>,
}

/// What is needed of a type object.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) name: String,
    pub(crate) basicsize: u64,
    flags: u64,
    dictoffset: u64,
    cached_keys: u64,
    base: u64,
}

const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_DICT: u64 = 1 << 4;
const HEAP_TYPE: u64 = 1 << 9;

/// No dictionary or set is read further.
const MOST_ENTRIES: u64 = 1 << 16;

impl<M: Memory> Heap<M> {
    pub(crate) fn new(memory: M, layout: Layout) -> Self {
        Self {
            memory,
            layout,
            types: RefCell::default(),
            codes: RefCell::default(),
            keys: RefCell::default(),
            script: OnceCell::new(),
        }
    }

    /// Forgets what was read once: the memory may hold something else by now.
    pub(crate) fn forget(&mut self) {
        self.types.get_mut().clear();
        self.codes.get_mut().clear();
        self.keys.get_mut().clear();
        self.script = OnceCell::new();
    }

    pub(crate) fn type_of(&self, object: u64) -> Read<Rc<Type>> {
        if object == 0 || !object.is_multiple_of(8) {
            return Err(Fault);
        }
        self.type_at(self.memory.u64(object.wrapping_add(OBJECT_TYPE))?)
    }

    fn type_at(&self, at: u64) -> Read<Rc<Type>> {
        if let Some(known) = self.types.borrow().get(&at) {
            return Ok(Rc::clone(known));
        }
        let layout = &self.layout;
        let piece = Piece::of(&self.memory, at, layout.type_dictoffset as usize + 8)?;
        let flags = piece.u64(layout.type_flags)?;
        let on_heap = flags & HEAP_TYPE != 0;
        let new = Rc::new(Type {
            name: self.memory.c_string(piece.u64(layout.type_name)?)?,
            basicsize: piece.u64(layout.type_basicsize)?,
            flags,
            dictoffset: piece.u64(layout.type_dictoffset)?,
            cached_keys: if on_heap { self.memory.u64(at.wrapping_add(layout.type_cached_keys))? } else { 0 },
            base: piece.u64(layout.type_base)?,
        });
        self.types.borrow_mut().insert(at, Rc::clone(&new));
        Ok(new)
    }

    /// The size of the instances of a type.
    pub(crate) fn basicsize(&self, type_object: u64) -> Read<u64> {
        Ok(self.type_at(type_object)?.basicsize)
    }

    /// Whether the object's type, or one of those it inherits from along the first bases, has this name.
    pub(crate) fn is_a(&self, object: u64, name: &str) -> bool {
        let mut kind = self.type_of(object);
        for _ in 0..64 {
            match kind {
                Ok(found) if found.name == name => return true,
                Ok(found) if found.base != 0 => kind = self.type_at(found.base),
                _ => return false,
            }
        }
        false
    }

    /// The text of a `str`.
    pub(crate) fn text(&self, object: u64) -> Read<String> {
        let layout = &self.layout;
        // Most are short: their text is read with the head. One at the end of what is mapped is read in two pieces.
        let most = layout.str_compact_size as usize + 48;
        let head = Piece::of(&self.memory, object, most)
            .or_else(|_| Piece::of(&self.memory, object, layout.str_ascii_size as usize))?;
        if self.type_at(head.u64(OBJECT_TYPE)?)?.name != "str" {
            return Err(Fault);
        }
        let length = head.u64(layout.str_length)?;
        let state = head.u32(layout.str_state)?;
        let (width, is_compact, is_ascii) = ((state >> 2) & 7, state & 32 != 0, state & 64 != 0);
        if length > LONGEST as u64 / 4 || !is_compact || !matches!(width, 1 | 2 | 4) {
            return Err(Fault);
        }
        let offset = if is_ascii { layout.str_ascii_size } else { layout.str_compact_size };
        let size = length as usize * width as usize;
        let read;
        let bytes = match head.bytes(offset, size) {
            Ok(bytes) => bytes,
            Err(Fault) => {
                read = self.memory.bytes(object.wrapping_add(offset), size)?;
                &read
            }
        };
        let text = match width {
            1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            2 => bytes.chunks_exact(2).map(|two| char_of(u32::from(u16::from_ne_bytes([two[0], two[1]])))).collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|four| char_of(u32::from_ne_bytes([four[0], four[1], four[2], four[3]])))
                .collect(),
        };
        Ok(text)
    }

    /// The value of an `int` of at most three digits (90 bits are cut to 64).
    pub(crate) fn int(&self, object: u64) -> Read<u64> {
        let layout = &self.layout;
        if !self.is_a(object, "int") {
            return Err(Fault);
        }
        let size = self.memory.u64(object.wrapping_add(OBJECT_SIZE))?;
        // 3.11 has a signed size there, later versions a tag: sign in the two low bits, then the number of digits.
        let (count, is_positive) = if layout.minor < 12 { (size, size as i64 >= 0) } else { (size >> 3, size & 3 < 2) };
        if !is_positive || count > 3 {
            return Err(Fault);
        }
        let mut value: u64 = 0;
        for index in (0..count).rev() {
            let digit = self.memory.u32(object.wrapping_add(layout.long_digits + index * 4))?;
            value = value.wrapping_shl(30) | u64::from(digit & 0x3fff_ffff);
        }
        Ok(value)
    }

    /// The value of a `bool`.
    pub(crate) fn truth(&self, object: u64) -> Option<bool> {
        // A bool is an int, and its one digit lies where an int has it.
        let is_bool = self.type_of(object).is_ok_and(|kind| kind.name == "bool");
        is_bool
            .then(|| self.memory.u32(object.wrapping_add(self.layout.long_digits)).ok())
            .flatten()
            .map(|digit| digit != 0)
    }

    /// The content of a `bytes`.
    pub(crate) fn bytes(&self, object: u64) -> Read<Vec<u8>> {
        let length = self.memory.u64(object.wrapping_add(OBJECT_SIZE))?;
        self.memory.bytes(object.wrapping_add(self.layout.bytes_data), usize::try_from(length).map_err(|_| Fault)?)
    }

    /// The items of a `tuple`.
    pub(crate) fn tuple(&self, object: u64) -> Read<Vec<u64>> {
        let length = self.memory.u64(object.wrapping_add(OBJECT_SIZE))?;
        self.words(object.wrapping_add(self.layout.tuple_items), length)
    }

    /// Words that lie side by side.
    pub(crate) fn words(&self, at: u64, count: u64) -> Read<Vec<u64>> {
        if count > LONGEST as u64 / 8 {
            return Err(Fault);
        }
        let bytes = self.memory.bytes(at, count as usize * 8)?;
        Ok(bytes.chunks_exact(8).filter_map(|eight| eight.try_into().ok().map(u64::from_ne_bytes)).collect())
    }

    /// The keys and values of a `dict`.
    pub(crate) fn entries(&self, dict: u64) -> Read<Vec<(u64, u64)>> {
        let layout = &self.layout;
        let keys = self.memory.u64(dict.wrapping_add(layout.dict_keys))?;
        let values = self.memory.u64(dict.wrapping_add(layout.dict_values))?;
        self.entries_of(keys, (values != 0).then(|| values.wrapping_add(layout.values_values)))
    }

    /// The entries of a table of keys. Where `values` is given, the values lie there.
    fn entries_of(&self, keys: u64, values: Option<u64>) -> Read<Vec<(u64, u64)>> {
        let layout = &self.layout;
        let head = Piece::of(&self.memory, keys, layout.keys_indices as usize)?;
        let count = head.u64(layout.keys_nentries)?;
        let log2 = head.u8(layout.keys_log2_index_bytes)?;
        if count > MOST_ENTRIES || log2 > 24 {
            return Err(Fault);
        }
        let table = keys.wrapping_add(layout.keys_indices).wrapping_add(1 << log2);
        // A general entry is (hash, key, value), one of a table that has only strings is (key, value).
        let (width, skip) = if head.u8(layout.keys_kind)? == 0 { (3, 1) } else { (2, 0) };
        let mut found = Vec::new();
        let others = values.map(|values| self.words(values, count)).transpose()?;
        for (index, entry) in self.words_in_pieces(table, count * width)?.chunks_exact(width as usize).enumerate() {
            let value = others.as_ref().map_or(entry[skip + 1], |values| values.get(index).copied().unwrap_or(0));
            if entry[skip] != 0 && value != 0 {
                found.push((entry[skip], value));
            }
        }
        Ok(found)
    }

    fn words_in_pieces(&self, at: u64, count: u64) -> Read<Vec<u64>> {
        let step = LONGEST as u64 / 8;
        let mut all = Vec::new();
        let mut from = 0;
        while from < count {
            all.extend(self.words(at.wrapping_add(from * 8), (count - from).min(step))?);
            from += step;
        }
        Ok(all)
    }

    /// What a `dict` has for a string.
    pub(crate) fn item(&self, dict: u64, name: &str) -> Read<Option<u64>> {
        let entries = self.entries(dict)?;
        Ok(entries.into_iter().find(|(key, _)| self.is_key(*key, name)).map(|(_, value)| value))
    }

    /// The objects that a `set` has.
    pub(crate) fn members(&self, set: u64) -> Read<Vec<u64>> {
        let mask = self.memory.u64(set.wrapping_add(self.layout.set_mask))?;
        if mask >= MOST_ENTRIES {
            return Err(Fault);
        }
        let table = self.memory.u64(set.wrapping_add(self.layout.set_table))?;
        let words = self.words_in_pieces(table, (mask + 1) * 2)?;
        // A key and its hash. A place that was taken and is free again has a hash of -1.
        Ok(words.chunks_exact(2).filter(|entry| entry[0] != 0 && entry[1] != u64::MAX).map(|entry| entry[0]).collect())
    }

    /// Whether a key is this string.
    fn is_key(&self, object: u64, text: &str) -> bool {
        if let Some(known) = self.keys.borrow().get(&object) {
            return known.as_deref() == Some(text);
        }
        let key: Option<Rc<str>> = self.text(object).ok().map(Into::into);
        self.keys.borrow_mut().entry(object).or_insert(key).as_deref() == Some(text)
    }

    /// The attributes of an instance as keys and values: not those of its class.
    fn attribute_entries(&self, object: u64) -> Read<Vec<(u64, u64)>> {
        let kind = self.type_of(object)?;
        let word = |offset: u64| self.memory.u64(object.wrapping_sub(offset));
        if kind.flags & MANAGED_DICT == 0 {
            if kind.dictoffset == 0 || kind.dictoffset > 1 << 20 {
                return Ok(Vec::new());
            }
            let dict = self.memory.u64(object.wrapping_add(kind.dictoffset))?;
            return if dict == 0 { Ok(Vec::new()) } else { self.entries(dict) };
        }
        let (values, dict) = match self.layout.minor {
            11 => (word(32)?, word(24)?),
            // A pointer to the values has its lowest bit set: it is one less than the address.
            12 => match word(24)? {
                tagged if tagged & 1 == 1 => (tagged.wrapping_add(1), 0),
                dict => (0, dict),
            },
            _ => {
                let inline = object.wrapping_add(kind.basicsize);
                let is_valid = kind.flags & INLINE_VALUES != 0 && self.memory.u8(inline.wrapping_add(3))? != 0;
                (if is_valid { inline } else { 0 }, word(24)?)
            }
        };
        match (values, dict) {
            (0, 0) => Ok(Vec::new()),
            (0, dict) => self.entries(dict),
            (values, _) => self.entries_of(kind.cached_keys, Some(values.wrapping_add(self.layout.values_values))),
        }
    }

    /// An attribute of an instance.
    pub(crate) fn attribute(&self, object: u64, name: &str) -> Option<u64> {
        let entries = self.attribute_entries(object).ok()?;
        entries.into_iter().find(|(key, _)| self.is_key(*key, name)).map(|(_, value)| value)
    }

    /// The name of the attribute of an instance that is `value`.
    pub(crate) fn attribute_with(&self, object: u64, value: u64) -> Option<String> {
        self.attribute_entries(object).ok().and_then(|entries| self.key_of(&entries, value))
    }

    /// The key, a string, under which a `dict` has `value`.
    pub(crate) fn item_with(&self, dict: u64, value: u64) -> Option<String> {
        self.entries(dict).ok().and_then(|entries| self.key_of(&entries, value))
    }

    fn key_of(&self, entries: &[(u64, u64)], value: u64) -> Option<String> {
        entries.iter().find(|(_, held)| *held == value).and_then(|(key, _)| self.text(*key).ok())
    }
}

fn char_of(number: u32) -> char {
    char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
}
