//! Why nothing could be seen.

use std::fmt;
use std::fs;

/// Why a process cannot be looked into. [`Display`](fmt::Display) says it in one sentence; [`hint`](Self::hint) says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// There is no process with this number.
    NoSuchProcess {
        /// The number.
        pid: u32,
    },
    /// It has ended before or while it was looked at.
    Ended {
        /// Its number.
        pid: u32,
    },
    /// It does not run CPython.
    NotPython {
        /// Its number.
        pid: u32,
        /// Its command.
        command: String,
    },
    /// The kernel does not let us read its memory.
    NoPermission {
        /// Its number.
        pid: u32,
        /// The value of `kernel.yama.ptrace_scope`, where the kernel has it.
        ptrace_scope: Option<u32>,
    },
    /// It runs a version of Python whose memory is not known.
    UnknownVersion {
        /// Its number.
        pid: u32,
        /// The version.
        version: String,
    },
    /// Python is being started or has ended in it.
    NotReady {
        /// Its number.
        pid: u32,
    },
    /// What was read is not what it should be.
    Unreadable {
        /// Its number.
        pid: u32,
        /// Its version.
        version: String,
        /// What made no sense.
        what: &'static str,
    },
}

impl Trouble {
    /// A word that does not change, for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoSuchProcess { .. } => "no-such-process",
            Self::Ended { .. } => "ended",
            Self::NotPython { .. } => "not-python",
            Self::NoPermission { .. } => "no-permission",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::NotReady { .. } => "not-ready",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoSuchProcess { .. } => {
                "pgrep -a python lists Python's processes; inside a container they have other numbers than outside"
                    .into()
            }
            Self::Ended { .. } => "start it again, and look while it runs".into(),
            Self::NotPython { .. } => {
                "if it has started Python as a child, give that process' number; PyPy and others are not CPython".into()
            }
            Self::NoPermission { pid, ptrace_scope, .. } => match ptrace_scope {
                Some(1) => format!(
                    "kernel.yama.ptrace_scope is 1: only parents may look into a process; \
                     sudo raddle dump {pid}, or sudo sysctl kernel.yama.ptrace_scope=0"
                ),
                Some(2) => format!("kernel.yama.ptrace_scope is 2: only root may look; sudo raddle dump {pid}"),
                Some(3) => "kernel.yama.ptrace_scope is 3: nobody may look until the machine is started again".into(),
                Some(scope) => format!(
                    "kernel.yama.ptrace_scope is {scope}, so the reason is another: it runs as another user or with more rights; \
                     sudo raddle dump {pid}"
                ),
                None => format!(
                    "it runs as another user or with more rights, or a container forbids it (CAP_SYS_PTRACE); sudo raddle dump {pid}"
                ),
            },
            Self::UnknownVersion { .. } => "CPython 3.11 to 3.14 with a GIL are known".into(),
            Self::NotReady { .. } => "try again in a moment".into(),
            Self::Unreadable { .. } => "try again; if it stays so, please report it with the version above".into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess { pid } => write!(f, "there is no process {pid}"),
            Self::Ended { pid } => write!(f, "process {pid} has ended"),
            Self::NotPython { pid, command } => write!(f, "process {pid} ({command}) does not run CPython"),
            Self::NoPermission { pid, .. } => write!(f, "not permitted to read the memory of process {pid}"),
            Self::UnknownVersion { pid, version } => write!(f, "process {pid} runs {version}, which is not known"),
            Self::NotReady { pid } => write!(f, "in process {pid} Python is just starting or ending"),
            Self::Unreadable { pid, version, what } => write!(f, "process {pid} runs {version}, but {what}"),
        }
    }
}

impl std::error::Error for Trouble {}

/// The value of `kernel.yama.ptrace_scope`.
pub(crate) fn ptrace_scope() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}
