//! Whether the kernel has ended a process for want of memory.
//!
//! It counts such ends: per control group where there is one, for the machine else. A worker that was killed while the count has
//! grown was most likely one of them; nothing that the kernel says names the process.

use std::fs;
use std::path::PathBuf;

/// The count as it was last seen.
#[derive(Debug)]
pub(crate) struct OomWatch {
    file: Option<PathBuf>,
    seen: u64,
}

impl OomWatch {
    /// Finds the file that counts for this process.
    pub(crate) fn new() -> Self {
        let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|list| events_file(&list));
        let files = [group, Some(PathBuf::from("/proc/vmstat"))].into_iter().flatten();
        let mut found = files.filter_map(|file| Some((count(&file)?, file)));
        match found.next() {
            Some((seen, file)) => Self { file: Some(file), seen },
            None => Self { file: None, seen: 0 },
        }
    }

    /// Whether the count has grown since it was last asked. None: the kernel does not say.
    pub(crate) fn has_killed(&mut self) -> Option<bool> {
        let now = count(self.file.as_ref()?)?;
        Some(now > std::mem::replace(&mut self.seen, now))
    }
}

/// The file of the control group that `/proc/self/cgroup` names; version 2 only.
fn events_file(list: &str) -> Option<PathBuf> {
    let group = list.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(PathBuf::from(format!("/sys/fs/cgroup{}/memory.events", group.trim_end_matches('/'))))
}

fn count(file: &PathBuf) -> Option<u64> {
    parse(&fs::read_to_string(file).ok()?)
}

/// The number behind `oom_kill`.
fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_either_file() {
        assert_eq!(parse("low 0\nhigh 0\nmax 3\noom 2\noom_kill 7\noom_group_kill 1\n"), Some(7));
        assert_eq!(parse("nr_free_pages 5\noom_kill 12\n"), Some(12));
        assert_eq!(parse("oom_kill many\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_group_is_that_of_version_2() {
        let path = |list| events_file(list).map(|path| path.display().to_string());
        assert_eq!(path("0::/user/one\n").as_deref(), Some("/sys/fs/cgroup/user/one/memory.events"));
        assert_eq!(path("0::/\n").as_deref(), Some("/sys/fs/cgroup/memory.events"));
        assert_eq!(path("3:memory:/old\n"), None);
    }

    #[test]
    fn nobody_was_killed_just_now() {
        let mut watch = OomWatch::new();
        watch.has_killed();
        assert_eq!(OomWatch { file: None, seen: 0 }.has_killed(), None);
    }
}
