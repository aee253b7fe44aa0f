//! Where a symbol of a loaded ELF file lies.
//!
//! First the dynamic symbols are asked, in the memory of the process itself: they are there in stripped files, in files that were
//! deleted or replaced since, and inside containers. Then the file: its section `.PyRuntime`, which CPython has from 3.13 on, and its
//! table of all symbols.

use std::fs::File;

use crate::memory::{Fault, LONGEST, Memory, Piece, Read};

/// A loaded file: the address at which its beginning is mapped.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    base: u64,
    /// What is added to the addresses in the file.
    bias: u64,
    dynamic: Option<(u64, u64)>,
}

const DYNAMIC: u32 = 2;
const LOAD: u32 = 1;
const SHARED: u16 = 3;

impl Image {
    pub(crate) fn at(memory: &impl Memory, base: u64) -> Read<Self> {
        let head = Piece::of(memory, base, 64)?;
        if head.u32(0)? != u32::from_ne_bytes(*b"\x7fELF") || head.u8(4)? != 2 {
            return Err(Fault);
        }
        let (offset, size, count) = (head.u64(32)?, u64::from(head.u16(54)?), u64::from(head.u16(56)?.min(64)));
        let table = Piece::of(memory, base.wrapping_add(offset), (size * count) as usize)?;
        let mut image = Self { base, bias: 0, dynamic: None };
        for at in (0..count).map(|index| index * size) {
            let (kind, file_offset, address) = (table.u32(at)?, table.u64(at + 8)?, table.u64(at + 16)?);
            if kind == LOAD && file_offset == 0 && head.u16(16)? == SHARED {
                image.bias = base.wrapping_sub(address);
            }
            if kind == DYNAMIC {
                image.dynamic = Some((address, table.u64(at + 40)?));
            }
        }
        Ok(image)
    }

    /// The address of an exported symbol.
    pub(crate) fn dynamic_symbol(&self, memory: &impl Memory, name: &str) -> Option<u64> {
        self.look_up(memory, name).ok().flatten()
    }

    fn look_up(&self, memory: &impl Memory, name: &str) -> Read<Option<u64>> {
        let Some((address, size)) = self.dynamic else { return Ok(None) };
        let table = Piece::of(memory, self.bias.wrapping_add(address), size.min(4096) as usize)?;
        let (mut strings, mut symbols, mut hashes) = (0, 0, 0);
        for at in (0..size.min(4096) / 16).map(|index| index * 16) {
            match table.u64(at)? {
                0 => break,
                5 => strings = self.moved(table.u64(at + 8)?),
                6 => symbols = self.moved(table.u64(at + 8)?),
                0x6fff_fef5 => hashes = self.moved(table.u64(at + 8)?),
                _ => {}
            }
        }
        if strings == 0 || symbols == 0 || hashes == 0 {
            return Ok(None);
        }
        // The GNU hash table: four numbers, a Bloom filter, the buckets, then one hash for each symbol from the first hashed one on; the
        // last of a bucket has bit 0 set.
        let head = Piece::of(memory, hashes, 16)?;
        let (buckets, first, blooms) = (head.u32(0)?, head.u32(4)?, head.u32(8)?);
        if buckets == 0 {
            return Ok(None);
        }
        let wanted = gnu_hash(name);
        let bucket_table = hashes.wrapping_add(16 + u64::from(blooms) * 8);
        let mut index = memory.u32(bucket_table.wrapping_add(u64::from(wanted % buckets) * 4))?;
        let chain = bucket_table.wrapping_add(u64::from(buckets) * 4);
        for _ in 0..4096 {
            if index < first {
                return Ok(None);
            }
            let hash = memory.u32(chain.wrapping_add(u64::from(index - first) * 4))?;
            if hash | 1 == wanted | 1 {
                let symbol = Piece::of(memory, symbols.wrapping_add(u64::from(index) * 24), 24)?;
                let called = memory.c_string(strings.wrapping_add(u64::from(symbol.u32(0)?)));
                if called.as_deref() == Ok(name) && symbol.u16(6)? != 0 {
                    return Ok(Some(self.bias.wrapping_add(symbol.u64(8)?)));
                }
            }
            if hash & 1 == 1 {
                return Ok(None);
            }
            index = index.wrapping_add(1);
        }
        Ok(None)
    }

    /// glibc has made the addresses in the dynamic table absolute; other loaders leave them as they are in the file.
    fn moved(&self, address: u64) -> u64 {
        if address < self.base { self.bias.wrapping_add(address) } else { address }
    }

    /// The address of what the file says: the section `.PyRuntime`, if that is asked for, or any symbol.
    pub(crate) fn symbol_of_file(&self, file: &File, name: &str) -> Option<u64> {
        Sections::of(file)
            .and_then(|sections| sections.find(file, name))
            .ok()
            .flatten()
            .map(|at| self.bias.wrapping_add(at))
    }
}

/// The section headers of a file.
struct Sections {
    table: Piece,
    size: u64,
    count: u64,
    names: u64,
}

impl Sections {
    fn of(file: &File) -> Read<Self> {
        let head = Piece::of(file, 0, 64)?;
        let (offset, size, count) = (head.u64(40)?, u64::from(head.u16(58)?), u64::from(head.u16(60)?));
        let table = Piece::of(file, offset, (size * count) as usize)?;
        let names = table.u64(u64::from(head.u16(62)?) * size + 24)?;
        Ok(Self { table, size, count, names })
    }

    fn find(&self, file: &File, name: &str) -> Read<Option<u64>> {
        let mut symbols = None;
        for at in (0..self.count).map(|index| index * self.size) {
            let title = file.c_string(self.names.wrapping_add(u64::from(self.table.u32(at)?)));
            if name == "_PyRuntime" && title.as_deref() == Ok(".PyRuntime") {
                return Ok(Some(self.table.u64(at + 16)?));
            }
            if self.table.u32(at + 4)? == 2 {
                symbols = Some(at);
            }
        }
        let Some(at) = symbols else { return Ok(None) };
        let strings = u64::from(self.table.u32(at + 40)?) * self.size;
        let names = self.table.u64(strings + 24)?;
        let (mut from, length) = (self.table.u64(at + 24)?, self.table.u64(at + 32)?.min(1 << 26));
        let end = from.wrapping_add(length);
        while from < end {
            let piece = Piece::of(file, from, ((end - from) as usize).min(LONGEST / 24 * 24))?;
            let here = (end - from).min((LONGEST / 24 * 24) as u64);
            for entry in (0..here / 24).map(|index| index * 24) {
                let title = u64::from(piece.u32(entry)?);
                if piece.u64(entry + 8)? != 0 && is_called(file, names.wrapping_add(title), name) {
                    return Ok(Some(piece.u64(entry + 8)?));
                }
            }
            from += here.max(24);
        }
        Ok(None)
    }
}

fn is_called(file: &File, at: u64, name: &str) -> bool {
    let mut bytes = vec![0; name.len() + 1];
    file.fill(at, &mut bytes).is_ok() && bytes[..name.len()] == *name.as_bytes() && bytes[name.len()] == 0
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_gnu() {
        assert_eq!(gnu_hash("printf"), 0x156b_2bb8);
        assert_eq!(gnu_hash(""), 5381);
    }
}
