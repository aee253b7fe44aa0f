//! Standing in front of functions of the C library that the interpreter calls: the dynamic linker's table of addresses is changed.
//!
//! A program or library calls a function of another library through a word in its own global offset table, into which the dynamic linker has written the
//! address. Only the tables of the interpreter (the program itself, and `libpython`) are changed.
//!
//! # Rules
//!
//! 1. Only words that a relocation names for a symbol of exactly this name are written.
//! 2. What is written is a function of the same type, which calls the one of the C library.
//! 3. A page that was made read-only after relocation is so again afterwards.

use std::ffi::{CStr, c_int, c_void};

use rustix::mm::{MprotectFlags, mprotect};

/// A function that is to stand in front of another.
pub(super) struct Front {
    pub(super) name: &'static CStr,
    pub(super) function: *const c_void,
}

/// A word that was changed, and what it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    word: *mut usize,
    was: usize,
    is_protected: bool,
}

struct Search<'a> {
    fronts: &'a [Front],
    changed: Vec<Changed>,
}

#[cfg(target_arch = "x86_64")]
const KINDS: [u32; 2] = [6, 7]; // R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT
#[cfg(target_arch = "aarch64")]
const KINDS: [u32; 2] = [1025, 1026]; // R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const KINDS: [u32; 2] = [u32::MAX, u32::MAX];

const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;

/// Puts functions in front. Returns what was changed.
pub(super) fn stand_before(fronts: &[Front]) -> Vec<Changed> {
    let mut search = Search { fronts, changed: Vec::new() };
    // SAFETY: `visit` is called for each loaded object while the linker holds its lock, with the pointer that is given here.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.changed
}

/// Puts everything back.
pub(super) fn stand_aside(changed: &[Changed]) {
    for one in changed {
        // SAFETY: rule 1 found it.
        unsafe { write(one.word, one.was, one.is_protected) };
    }
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the linker's description of a loaded object, and the search that `stand_before` has given.
    unsafe {
        let (info, search) = (&*info, &mut *data.cast::<Search<'_>>());
        let name = if info.dlpi_name.is_null() { &[][..] } else { CStr::from_ptr(info.dlpi_name).to_bytes() };
        let is_python = name.is_empty() || name.windows(9).any(|part| part == b"libpython");
        if is_python {
            look_through(info, search);
        }
    }
    0
}

/// # Safety
///
/// It is the linker's description of an object that is loaded.
unsafe fn look_through(info: &libc::dl_phdr_info, search: &mut Search<'_>) {
    // SAFETY: the caller says so: headers, the dynamic section and its tables are those of a loaded object, which the linker has relocated.
    unsafe {
        let base = info.dlpi_addr as usize;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        let Some(dynamic) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else { return };
        let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
        let relro = relro
            .map_or(0..0, |header| base + header.p_vaddr as usize..base + (header.p_vaddr + header.p_memsz) as usize);
        let mut entry = (base + dynamic.p_vaddr as usize) as *const [i64; 2];
        let (mut strings, mut symbols, mut tables) = (0_usize, 0_usize, [(0_usize, 0_usize); 2]);
        while (*entry)[0] != 0 {
            let [tag, value] = *entry;
            // glibc has made addresses of them; the kernel's own objects have offsets, and are not looked at.
            match tag {
                DT_STRTAB => strings = value as usize,
                DT_SYMTAB => symbols = value as usize,
                DT_JMPREL => tables[0].0 = value as usize,
                DT_PLTRELSZ => tables[0].1 = value as usize,
                DT_RELA => tables[1].0 = value as usize,
                DT_RELASZ => tables[1].1 = value as usize,
                _ => {}
            }
            entry = entry.add(1);
        }
        if strings < base || symbols < base {
            return;
        }
        for (table, size) in tables.into_iter().filter(|(table, _)| *table >= base && *table != 0) {
            for index in 0..size / 24 {
                let [offset, what, _] = *((table + index * 24) as *const [u64; 3]);
                if !KINDS.contains(&(what as u32)) {
                    continue;
                }
                let symbol = (symbols + (what >> 32) as usize * 24) as *const u32;
                let name = CStr::from_ptr((strings + *symbol as usize) as *const libc::c_char);
                let Some(front) = search.fronts.iter().find(|front| front.name == name) else { continue };
                let word = (base + offset as usize) as *mut usize;
                let is_protected = relro.contains(&(word as usize));
                let was = *word;
                if write(word, front.function as usize, is_protected) {
                    search.changed.push(Changed { word, was, is_protected });
                }
            }
        }
    }
}

/// # Safety
///
/// A word of a global offset table.
unsafe fn write(word: *mut usize, value: usize, is_protected: bool) -> bool {
    let page = (word as usize & !4095) as *mut c_void;
    // SAFETY: the caller says so; its page is only made writable, and read-only again where it was.
    unsafe {
        if is_protected && mprotect(page, 4096, MprotectFlags::READ | MprotectFlags::WRITE).is_err() {
            return false;
        }
        // Other threads may call through the word at the same moment: they see the old address or the new one.
        word.write_volatile(value);
        if is_protected {
            _ = mprotect(page, 4096, MprotectFlags::READ);
        }
    }
    true
}
