//! How a process ended.

use std::fmt;

/// How a process ended, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It called `exit`, or returned from `main`, with this code.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
    /// Its zygote has ended, and it with it.
    Orphaned,
    /// Somebody else collected the exit code first (the process is not our child).
    Unknown,
}

impl Ending {
    /// The exit code as Python's `Process.exitcode` has it: negative for a signal.
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signalled(signal) => Some(-signal),
            Self::Orphaned | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Signalled(signal) => match signal_name(signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
            Self::Orphaned => f.write_str("ended with the zygote that had forked it"),
            Self::Unknown => f.write_str("ended; its exit code is not known here"),
        }
    }
}

/// The names of the signals that have one everywhere on Linux.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_reads_as_a_sentence() {
        assert_eq!(Ending::Signalled(libc::SIGKILL).to_string(), "was killed by SIGKILL");
        assert_eq!(Ending::Signalled(40).to_string(), "was killed by signal 40");
        assert_eq!(Ending::Exited(3).to_string(), "ended with exit code 3");
    }

    #[test]
    fn the_code_of_a_signal_is_negative() {
        assert_eq!(Ending::Signalled(9).code(), Some(-9));
        assert_eq!(Ending::Exited(0).code(), Some(0));
        assert_eq!(Ending::Unknown.code(), None);
    }
}
