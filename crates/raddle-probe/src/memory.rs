//! Memory that is not ours: every read may fail, nothing that was read is believed.
//!
//! The memory of a process is its `/proc/PID/mem`. A read there is an ordinary `pread`: an address that is not mapped is an error and
//! never a fault of ours, so this crate needs no unsafe code. The open file belongs to the address space that was there when it was
//! opened: when the process ends or executes another program, reads come back empty, and a process that has got the same number in the meantime
//! is never read by mistake.
//!
//! # Rules
//!
//! 1. Lengths and counts come from the other side, so each is bounded before anything is allocated or looped over.
//! 2. A chain of pointers is followed for a bounded number of steps: memory that changes while it is read may hold a circle.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault;

/// What a read gives.
pub(crate) type Read<T> = Result<T, Fault>;

/// No string, table or frame that is read at once is longer (rule 1).
pub(crate) const LONGEST: usize = 1 << 20;

/// Something with addresses.
pub(crate) trait Memory {
    /// Fills `into` from `address` on, or fails.
    fn fill(&self, address: u64, into: &mut [u8]) -> Read<()>;

    fn bytes(&self, address: u64, length: usize) -> Read<Vec<u8>> {
        if length > LONGEST {
            return Err(Fault);
        }
        let mut bytes = vec![0; length];
        self.fill(address, &mut bytes)?;
        Ok(bytes)
    }

    fn u64(&self, address: u64) -> Read<u64> {
        let mut bytes = [0; 8];
        self.fill(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn u32(&self, address: u64) -> Read<u32> {
        let mut bytes = [0; 4];
        self.fill(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn u8(&self, address: u64) -> Read<u8> {
        let mut bytes = [0; 1];
        self.fill(address, &mut bytes)?;
        Ok(bytes[0])
    }

    /// A string of C, of at most 256 bytes. It may end close to the end of what is mapped, so it is read in small pieces.
    fn c_string(&self, address: u64) -> Read<String> {
        let mut text = Vec::new();
        let mut at = address;
        while text.len() < 256 {
            let mut piece = [0; 16];
            let length = 16 - (at % 16) as usize;
            self.fill(at, &mut piece[..length])?;
            if let Some(end) = piece[..length].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            text.extend_from_slice(&piece[..length]);
            at = at.checked_add(length as u64).ok_or(Fault)?;
        }
        Err(Fault)
    }
}

impl Memory for File {
    fn fill(&self, address: u64, into: &mut [u8]) -> Read<()> {
        self.read_exact_at(into, address).map_err(|_| Fault)
    }
}

/// Opens the memory of a process for reading.
pub(crate) fn of_process(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/mem"))
}

/// A copied piece of memory: fields are taken out of it without another read.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    pub(crate) fn of(memory: &impl Memory, at: u64, length: usize) -> Read<Self> {
        Ok(Self { at, bytes: memory.bytes(at, length)? })
    }

    /// The address that it was copied from.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    fn field<const N: usize>(&self, offset: u64) -> Read<[u8; N]> {
        let start = usize::try_from(offset).map_err(|_| Fault)?;
        let end = start.checked_add(N).ok_or(Fault)?;
        self.bytes.get(start..end).and_then(|bytes| bytes.try_into().ok()).ok_or(Fault)
    }

    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Read<&[u8]> {
        let start = usize::try_from(offset).map_err(|_| Fault)?;
        self.bytes.get(start..start.checked_add(length).ok_or(Fault)?).ok_or(Fault)
    }

    pub(crate) fn u64(&self, offset: u64) -> Read<u64> {
        self.field(offset).map(u64::from_ne_bytes)
    }

    pub(crate) fn u32(&self, offset: u64) -> Read<u32> {
        self.field(offset).map(u32::from_ne_bytes)
    }

    pub(crate) fn u16(&self, offset: u64) -> Read<u16> {
        self.field(offset).map(u16::from_ne_bytes)
    }

    pub(crate) fn u8(&self, offset: u64) -> Read<u8> {
        self.field::<1>(offset).map(|byte| byte[0])
    }
}
