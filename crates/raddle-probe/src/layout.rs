//! Where the fields of CPython's structures lie: one column for each minor version.
//!
//! The numbers are `offsetof` of CPython's own headers for a 64-bit build with a GIL; `tests/layout.rs` compiles a small C program against
//! the headers of every interpreter that it finds and compares. They are the same on x86-64 and aarch64, but for the size of
//! what holds pthread's locks. What a version does not have is 0.
//!
//! From 3.13 on, an interpreter says itself where its central structures lie (`_Py_DebugOffsets`, at the start of `_PyRuntime`): what it says is
//! taken, and the column stands in for what it leaves out.

use crate::memory::{Fault, Memory, Piece, Read};

macro_rules! layout {
    ($($field:ident: $v11:literal, $v12:literal, $v13:literal, $v14:literal;)*) => {
        /// Offsets in bytes, named `structure_field`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct Layout {
            /// The minor version: 11, 12, 13, 14.
            pub(crate) minor: u32,
            $(pub(crate) $field: u64,)*
        }

        const V11: Layout = Layout { minor: 11, $($field: $v11,)* };
        const V12: Layout = Layout { minor: 12, $($field: $v12,)* };
        const V13: Layout = Layout { minor: 13, $($field: $v13,)* };
        const V14: Layout = Layout { minor: 14, $($field: $v14,)* };

        /// Every offset of a minor version by name, for comparing with an interpreter's headers.
        #[doc(hidden)]
        pub fn offsets(minor: u32) -> Option<Vec<(&'static str, u64)>> {
            let layout = Layout::of(minor)?;
            Some(vec![$((stringify!($field), layout.$field),)*])
        }

        /// One offset of a minor version by its name, for who is built for one version; there must be such a one.
        #[doc(hidden)]
        pub const fn offset(minor: u32, name: &str) -> usize {
            let layout = match minor {
                11 => V11,
                12 => V12,
                13 => V13,
                _ => V14,
            };
            $(if is_same(name, stringify!($field)) {
                return layout.$field as usize;
            })*
            panic!("no such field");
        }
    };
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

layout! {
    runtime_interpreters_head: 40, 40, 632, 808;
    runtime_gil: 360, 0, 0, 0;
    interp_gil: 0, 384, 16, 16;
    interp_next: 0, 0, 7264, 7272;
    interp_id: 48, 8, 7272, 7280;
    interp_threads_head: 16, 72, 7344, 7344;
    interp_modules: 888, 944, 7656, 7688;
    interp_tasks_head: 0, 0, 0, 10880;
    tstate_next: 8, 8, 8, 8;
    tstate_interp: 16, 16, 16, 16;
    tstate_thread_id: 152, 136, 152, 152;
    tstate_native_thread_id: 160, 144, 160, 160;
    tstate_frame: 56, 56, 72, 72;
    tstate_tasks_head: 0, 0, 0, 880;
    cframe_current_frame: 8, 0, 0, 0;
    frame_code: 32, 0, 0, 0;
    frame_instr: 56, 56, 56, 56;
    frame_previous: 48, 8, 8, 8;
    frame_globals: 8, 24, 24, 24;
    frame_owner: 69, 70, 70, 74;
    frame_stacktop: 64, 64, 64, 64;
    frame_localsplus: 72, 72, 72, 80;
    code_filename: 112, 112, 112, 112;
    code_qualname: 128, 128, 128, 128;
    code_linetable: 136, 136, 136, 136;
    code_exceptiontable: 40, 40, 40, 40;
    code_firstlineno: 72, 68, 68, 68;
    code_nlocalsplus: 76, 72, 72, 72;
    code_stacksize: 68, 64, 64, 64;
    code_localsplusnames: 96, 96, 96, 96;
    code_code: 184, 192, 200, 208;
    type_name: 24, 24, 24, 24;
    type_basicsize: 32, 32, 32, 32;
    type_flags: 168, 168, 168, 168;
    type_dictoffset: 288, 288, 288, 288;
    type_base: 256, 256, 256, 256;
    type_cached_keys: 872, 880, 880, 880;
    str_length: 16, 16, 16, 16;
    str_state: 32, 32, 32, 32;
    str_ascii_size: 48, 40, 40, 40;
    str_compact_size: 72, 56, 56, 56;
    bytes_data: 32, 32, 32, 32;
    tuple_items: 24, 24, 24, 32;
    long_digits: 24, 24, 24, 24;
    dict_keys: 32, 32, 32, 32;
    dict_values: 40, 40, 40, 40;
    keys_log2_index_bytes: 9, 9, 9, 9;
    keys_kind: 10, 10, 10, 10;
    keys_nentries: 24, 24, 24, 24;
    keys_indices: 32, 32, 32, 32;
    set_mask: 32, 32, 32, 32;
    set_table: 40, 40, 40, 40;
    weakref_object: 16, 16, 16, 16;
    function_name: 32, 32, 32, 32;
    gen_frame_state: 75, 67, 67, 67;
    gen_iframe: 80, 72, 72, 72;
    cfunction_ml: 16, 16, 16, 16;
    cfunction_self: 24, 24, 24, 24;
    method_self: 24, 24, 24, 24;
    gil_last_holder: 8, 8, 8, 8;
    gil_locked: 16, 16, 16, 16;
    gil_size: 208, 208, 208, 208;
    values_values: 0, 0, 8, 8;
}

/// The offset of `ob_type` in every object.
pub(crate) const OBJECT_TYPE: u64 = 8;
/// The offset of `ob_size` in every object of variable size.
pub(crate) const OBJECT_SIZE: u64 = 16;
/// The offset of the name in every descriptor: behind the head is the type, and then the name.
pub(crate) const DESCRIPTOR_NAME: u64 = 24;

impl Layout {
    /// The layout of CPython 3.`minor`, if it is known.
    pub(crate) fn of(minor: u32) -> Option<Self> {
        let mut layout = match minor {
            11 => V11,
            12 => V12,
            13 => V13,
            14 => V14,
            _ => return None,
        };
        if cfg!(target_arch = "aarch64") {
            // Two mutexes of 48 bytes instead of 40.
            layout.gil_size += 16;
        }
        Some(layout)
    }

    /// The object that a slot of a frame stands for: 0 if for none.
    ///
    /// From 3.14 on the lowest bit of a slot says that the object is merely borrowed, and the two lowest that it is a number and no object.
    pub(crate) fn object_in(&self, slot: u64) -> u64 {
        match slot & 3 {
            _ if self.minor < 14 => slot,
            3 => 0,
            _ => slot & !1,
        }
    }

    /// Takes over what the interpreter itself says (from 3.13 on).
    pub(crate) fn told_by(mut self, memory: &impl Memory, runtime: u64) -> Read<Self> {
        if self.minor < 13 {
            return Ok(self);
        }
        let words = Piece::of(memory, runtime, 49 * 8)?;
        if words.u64(0)? != u64::from_ne_bytes(*b"xdebugpy") {
            return Err(Fault);
        }
        // Where each is said: in 3.13, and in 3.14, which says more.
        for (in_13, in_14, field) in [
            (5, 5, &mut self.runtime_interpreters_head),
            (7, 7, &mut self.interp_id),
            (8, 8, &mut self.interp_next),
            (9, 9, &mut self.interp_threads_head),
            (11, 12, &mut self.interp_modules),
            (14, 15, &mut self.interp_gil),
            (21, 24, &mut self.tstate_next),
            (22, 25, &mut self.tstate_interp),
            (23, 26, &mut self.tstate_frame),
            (24, 27, &mut self.tstate_thread_id),
            (25, 28, &mut self.tstate_native_thread_id),
            (29, 32, &mut self.frame_previous),
            (30, 33, &mut self.frame_code),
            (31, 34, &mut self.frame_instr),
            (32, 35, &mut self.frame_localsplus),
            (33, 36, &mut self.frame_owner),
            (35, 40, &mut self.code_filename),
            (37, 42, &mut self.code_qualname),
            (38, 43, &mut self.code_linetable),
            (39, 44, &mut self.code_firstlineno),
            (41, 46, &mut self.code_localsplusnames),
            (43, 48, &mut self.code_code),
        ] {
            let offset = words.u64(if self.minor < 14 { in_13 } else { in_14 } * 8)?;
            // No structure of an interpreter is larger.
            if offset > 1 << 20 {
                return Err(Fault);
            }
            *field = offset;
        }
        Ok(self)
    }

    /// Whether an interpreter's own words (from 3.13 on) say that it has no GIL.
    pub(crate) fn is_free_threaded(memory: &impl Memory, runtime: u64) -> Read<bool> {
        Ok(memory.u64(runtime)? == u64::from_ne_bytes(*b"xdebugpy") && memory.u64(runtime.wrapping_add(16))? == 1)
    }
}
