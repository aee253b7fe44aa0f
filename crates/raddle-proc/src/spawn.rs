//! Starting a process that inherits some file descriptors.
//!
//! Plain fork+exec in the C library's hands (`posix_spawn` where it can): the child never runs our code between fork
//! and exec, so it does not matter how many threads the parent has or what they hold.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::watch::Process;

/// What to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program, and its arguments. `{0}`, `{1}` … in an argument stand for the number under which the child finds
    /// the descriptor of that index in `fds`.
    pub argv: Vec<OsString>,
    /// Variables to set on top of the parent's environment.
    pub env: Vec<(OsString, OsString)>,
    /// Descriptors that the child inherits.
    pub fds: Vec<BorrowedFd<'a>>,
    /// Whether the child leads a process group of its own, so that a Ctrl-C in the terminal does not reach it.
    pub own_group: bool,
}

/// Starts a process. Its standard input is `/dev/null`.
///
/// # Errors
///
/// When the program cannot be found or run, or a descriptor cannot be duplicated.
pub fn spawn(what: &Spawn<'_>) -> io::Result<Process> {
    // Duplicates without close-on-exec exist only between here and the end of this function. A process that another
    // thread starts in between inherits them too; it then holds memory that it never looks at, and no pipe end whose
    // closing anybody waits for.
    let mut passed = Vec::with_capacity(what.fds.len());
    for fd in &what.fds {
        let copy = fcntl_dupfd_cloexec(fd, 3)?;
        fcntl_setfd(&copy, FdFlags::empty())?;
        passed.push(copy);
    }
    let (program, arguments) =
        what.argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program given"))?;
    let mut command = Command::new(program);
    for argument in arguments {
        command.arg(fill_in(argument, &passed.iter().map(|fd| fd.as_fd().as_raw_fd()).collect::<Vec<_>>()));
    }
    command.envs(what.env.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
    if what.own_group {
        command.process_group(0);
    }
    let mut child = command.spawn()?;
    let before = peak_of_this_process();
    let opened = Process::open(child.id(), true).map(|process| match what.own_group {
        true => process.started_by_one_with(before).leads_a_group(),
        false => process.started_by_one_with(before),
    });
    opened.inspect_err(|_| {
        // Nobody could watch over it. It is ours and not collected, so neither call can miss it.
        let _ = child.kill();
        let _ = child.wait();
    })
}

/// Bytes that this process has had in memory, at most.
fn peak_of_this_process() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peak.unwrap_or(0) << 10
}

/// Puts descriptor numbers in the place of `{0}`, `{1}` …
fn fill_in(argument: &OsString, numbers: &[i32]) -> OsString {
    let Some(text) = argument.to_str() else { return argument.clone() };
    let mut text = text.to_owned();
    for (index, number) in numbers.iter().enumerate() {
        text = text.replace(&format!("{{{index}}}"), &number.to_string());
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;
    use crate::{Ending, Watch};

    fn shell(script: &str) -> Spawn<'static> {
        Spawn { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], env: vec![], fds: vec![], own_group: true }
    }

    #[test]
    fn the_exit_code_of_a_child_arrives() {
        let mut process = spawn(&shell("exit 7")).unwrap();
        assert_eq!(process.wait().unwrap(), Ending::Exited(7));
    }

    #[test]
    fn the_peak_memory_of_a_child_is_its_own() {
        let grow = "import mmap, sys; m = mmap.mmap(-1, int(sys.argv[1]) << 20); m.write(bytes(len(m))); m.close()";
        let grown = |megabytes: u64| {
            let argv = ["python3", "-c", grow, &megabytes.to_string()].map(OsString::from).to_vec();
            let mut process = spawn(&Spawn { argv, env: vec![], fds: vec![], own_group: true }).unwrap();
            assert_eq!(process.peak_memory(), None, "it runs");
            assert_eq!(process.wait().unwrap(), Ending::Exited(0));
            process.peak_memory()
        };
        let ours = peak_of_this_process() >> 20;
        let wanted = ours + ours / 4 + 60;
        let peak = grown(wanted).unwrap() >> 20;
        assert!((wanted..2 * wanted + 40).contains(&peak), "{peak} MiB of {wanted}, and ours is {ours} MiB");
        let large = vec![1_u8; 300 << 20];
        assert!(peak_of_this_process() >= large.len() as u64);
        assert_eq!(grown(20), None, "what this process had is not what the child had");
    }

    #[test]
    fn a_signal_to_the_group_reaches_what_the_child_has_started_also_after_its_end() {
        for leader_ends in [false, true] {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let mut what = shell(if leader_ends { "sleep 60 & exit 0" } else { "sleep 60 & wait" });
            what.fds = vec![writer.as_fd()];
            let mut process = spawn(&what).unwrap();
            drop(what);
            drop(writer);
            if leader_ends {
                let watch = Watch::new().unwrap();
                assert!(watch.add(&process, 7).unwrap());
                watch.wait(&mut Vec::new());
            }
            process.kill_group(Signal::KILL);
            let expected = if leader_ends { Ending::Exited(0) } else { Ending::Signalled(9) };
            assert_eq!(process.wait().unwrap(), expected);
            let end = rustix::io::read(&reader, &mut [0; 1]).unwrap();
            assert_eq!(end, 0, "nobody holds the other end");
        }
    }

    #[test]
    fn what_ignores_the_signal_to_the_group_ends_with_its_leader() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut what = shell("(trap '' TERM; echo >/proc/self/fd/{0}; exec sleep 60) & wait");
        what.fds = vec![writer.as_fd()];
        let mut process = spawn(&what).unwrap();
        drop(what);
        drop(writer);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 1, "it ignores the signal now");
        process.kill_group(Signal::TERM);
        assert_eq!(process.wait().unwrap(), Ending::Signalled(15));
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 0, "nobody holds the other end");
    }

    #[test]
    fn what_a_child_has_started_lives_on_if_nobody_wanted_the_child_to_end() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut what = shell("(sleep 0.2; echo >/proc/self/fd/{0}) & exit 0");
        what.fds = vec![writer.as_fd()];
        let mut process = spawn(&what).unwrap();
        drop(what);
        drop(writer);
        assert_eq!(process.wait().unwrap(), Ending::Exited(0));
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 1);
    }

    #[test]
    fn a_missing_program_is_an_error_of_the_caller() {
        let what = Spawn { argv: vec!["/no/such/program".into()], env: vec![], fds: vec![], own_group: false };
        assert_eq!(spawn(&what).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_child_finds_its_descriptor_under_the_number_it_was_told() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        // Not `>&{0}`: a shell need not know numbers of two digits.
        let mut what = shell("echo hello >/proc/self/fd/{0}");
        what.fds = vec![writer.as_fd()];
        let mut process = spawn(&what).unwrap();
        assert_eq!(process.wait().unwrap(), Ending::Exited(0));
        let mut buffer = [0; 16];
        let n = rustix::io::read(&reader, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"hello\n");
    }
}
