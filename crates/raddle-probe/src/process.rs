//! A process as the kernel sees it: its command, its files, its children.

use std::fs;
use std::io::{self, Read};

/// Reads a file of `/proc`: its size is not known before, and what is asked for in small pieces is made anew for each.
pub(crate) fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(4096);
    fs::File::open(path)?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a file of `/proc` that is one short record: as [`read`], with a third of the calls.
pub(crate) fn read_record(path: &str) -> io::Result<String> {
    let mut room = [0; 4096];
    let length = fs::File::open(path)?.read(&mut room)?;
    Ok(String::from_utf8_lossy(&room[..length]).into_owned())
}

/// A file that is mapped into a process, at the address where its beginning lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) path: String,
}

/// Everything that is mapped from a file's beginning.
pub(crate) fn mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    Ok(parse_maps(&read(&format!("/proc/{pid}/maps"))?))
}

fn parse_maps(text: &str) -> Vec<Mapping> {
    let parse = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (start, _) = words.next()?.split_once('-')?;
        let offset = words.nth(1)?;
        let path = words.nth(2)?.trim_start();
        let is_start = u64::from_str_radix(offset, 16) == Ok(0) && path.starts_with('/');
        is_start.then_some(Mapping { start: u64::from_str_radix(start, 16).ok()?, path: path.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

/// The path of the program that a process runs, as it stands in `maps`.
pub(crate) fn executable(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.to_string_lossy().into_owned())
}

/// The words of its command line; of a thread of the kernel, none.
pub(crate) fn command(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split('\0')
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .split_last()
        .map(|(_, words)| words.to_vec())
        .unwrap_or_default()
}

/// What stands in `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) letter: char,
    pub(crate) parent: u32,
    /// When it was started, in hundredths of a second since the machine was.
    pub(crate) started: u64,
}

impl Stat {
    /// Whether nothing of it runs any more: a zombie, or one that is just being taken away.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.letter, 'Z' | 'X')
    }
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&read_record(&format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        letter: words.first()?.chars().next()?,
        parent: words.get(1)?.parse().ok()?,
        started: words.get(19)?.parse().ok()?,
    })
}

/// Whether it is there and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !stat.has_ended())
}

/// Whether it has ended, or has given its memory back because it ends.
pub(crate) fn is_ending(pid: u32) -> bool {
    !is_alive(pid) || mappings(pid).is_ok_and(|mappings| mappings.is_empty())
}

/// For how many seconds it has been there.
pub(crate) fn age(stat: Stat) -> Option<f64> {
    let text = read_record("/proc/uptime").ok()?;
    let up: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    // The kernel's clock for user space has 100 ticks a second on every architecture that CPython supports here.
    Some((up - stat.started as f64 / 100.0).max(0.0))
}

/// Whether a signal could make it do something other than end: it has a handler for one besides SIGINT, for which Python always has one, and faults.
/// `None` where that is not known.
#[must_use]
pub fn handles_signals(pid: u32) -> Option<bool> {
    let status = read(&format!("/proc/{pid}/status")).ok()?;
    let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok())?;
    // By their numbers: INT; ILL, ABRT, BUS, FPE, SEGV (faulthandler); and the two that the C library keeps for itself.
    let usual = [2, 4, 6, 7, 8, 11, 32, 33].iter().fold(0, |mask, signal| mask | 1u64 << (signal - 1));
    Some(caught & !usual != 0)
}

/// Its working directory.
pub(crate) fn directory(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok().map(|path| path.to_string_lossy().into_owned())
}

/// The numbers of all processes, in their order.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// The processes that this one has started and that are there, in the order of their numbers.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let is_child = |other: &u32| stat(*other).is_some_and(|stat| stat.parent == pid && !stat.has_ended());
    all().into_iter().filter(is_child).collect()
}

/// What a descriptor stands for: a path, `pipe:[7]`, `socket:[8]`.
pub(crate) fn descriptor(pid: u32, number: i32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/fd/{number}")).ok().map(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        let text = "00400000-00420000 r--p 00000000 08:01 42    /usr/bin/my python\n\
                    00420000-00500000 r-xp 00020000 08:01 42    /usr/bin/my python\n\
                    7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n\
                    7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0    [stack]\n\
                    nonsense\n";
        assert_eq!(parse_maps(text), [Mapping { start: 0x40_0000, path: "/usr/bin/my python".into() }]);
    }

    #[test]
    fn we_are_alive_and_have_a_parent() {
        let me = stat(std::process::id()).expect("we are here");
        assert!(me.parent > 0 && is_alive(std::process::id()));
        assert!(children(me.parent).contains(&std::process::id()));
    }
}
