//! What a thread does in the kernel, from `/proc/PID/task/TID/syscall`: the number of the system call and its arguments.

/// The system call that a thread is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// None: it is on a processor, or would be if one were free.
    Running,
    /// A futex: the floor of every lock.
    Futex {
        /// The word that it waits on.
        address: u64,
        /// Whether it gives up after a time.
        is_timed: bool,
    },
    /// `read`, `recv` and the like, of a descriptor.
    Read(i32),
    /// `write`, `send` and the like.
    Write(i32),
    /// `accept`.
    Accept(i32),
    /// `connect`.
    Connect(i32),
    /// `flock`, `fcntl`: a lock on a file.
    FileLock(i32),
    /// `fsync`, `open`.
    File(&'static str),
    /// Waits for any of several descriptors.
    Poll(&'static str),
    /// Sleeps for a time.
    Sleep,
    /// Waits for a child process: which one, if it is one.
    Child(Option<u32>),
    /// Waits for a signal.
    Signal,
    /// Another one, by its number.
    Other(u64),
}

/// Reads one line of `/proc/PID/task/TID/syscall`.
pub(crate) fn parse(line: &str) -> Option<Call> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    if first == "running" {
        return Some(Call::Running);
    }
    let number: i64 = first.parse().ok()?;
    let arguments: Vec<u64> = words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // In a fault of memory, not in a call.
    let Ok(number) = u64::try_from(number) else { return Some(Call::Running) };
    Some(call(number, &argument))
}

fn call(number: u64, argument: &dyn Fn(usize) -> u64) -> Call {
    let descriptor = || argument(0) as i32;
    match name_of(number) {
        "futex" => Call::Futex { address: argument(0), is_timed: argument(3) != 0 },
        "read" => Call::Read(descriptor()),
        "write" => Call::Write(descriptor()),
        "accept" => Call::Accept(descriptor()),
        "connect" => Call::Connect(descriptor()),
        "flock" => Call::FileLock(descriptor()),
        // F_SETLKW and F_OFD_SETLKW.
        "fcntl" if matches!(argument(1), 7 | 38) => Call::FileLock(descriptor()),
        name @ ("fsync" | "open") => Call::File(name),
        name @ ("poll" | "select" | "epoll_wait") => Call::Poll(name),
        "sleep" => Call::Sleep,
        // -1 and other negative numbers, as 32 bits, stand for several children; P_PID is 1.
        "wait4" => Call::Child(u32::try_from(argument(0) as i32).ok().filter(|pid| *pid != 0)),
        "waitid" => Call::Child((argument(0) == 1).then(|| argument(1) as u32)),
        "signal" => Call::Signal,
        _ => Call::Other(number),
    }
}

/// The numbers of x86-64, with calls of one kind under one name.
#[cfg(target_arch = "x86_64")]
fn name_of(number: u64) -> &'static str {
    match number {
        202 => "futex",
        0 | 17 | 19 | 45 | 47 | 295 | 299 | 327 => "read",
        1 | 18 | 20 | 40 | 44 | 46 | 275 | 296 | 307 | 328 => "write",
        43 | 288 => "accept",
        42 => "connect",
        73 => "flock",
        72 => "fcntl",
        74 | 75 => "fsync",
        2 | 257 => "open",
        7 | 271 => "poll",
        23 | 270 => "select",
        232 | 281 | 441 => "epoll_wait",
        35 | 230 => "sleep",
        61 => "wait4",
        247 => "waitid",
        34 | 128 | 130 => "signal",
        _ => "",
    }
}

/// The numbers of aarch64, which are those of most newer architectures.
#[cfg(not(target_arch = "x86_64"))]
fn name_of(number: u64) -> &'static str {
    match number {
        98 => "futex",
        63 | 65 | 67 | 69 | 207 | 212 | 243 | 286 => "read",
        64 | 66 | 68 | 70 | 71 | 76 | 206 | 211 | 269 | 287 => "write",
        202 | 242 => "accept",
        203 => "connect",
        32 => "flock",
        25 => "fcntl",
        82 | 83 => "fsync",
        56 => "open",
        73 => "poll",
        72 => "select",
        22 | 441 => "epoll_wait",
        101 | 115 => "sleep",
        260 => "wait4",
        95 => "waitid",
        133 | 137 => "signal",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn lines_of_the_kernel_are_read() {
        assert_eq!(parse("running\n"), Some(Call::Running));
        assert_eq!(
            parse("202 0x7f0000001230 0x189 0x0 0x0 0x0 0xffffffff 0x7ffc0 0x7f00"),
            Some(Call::Futex { address: 0x7f00_0000_1230, is_timed: false })
        );
        assert_eq!(parse("61 0xffffffff 0x0 0x0 0x0 0x0 0x0 0x0 0x0"), Some(Call::Child(None)));
        assert_eq!(parse("61 0x1267 0x0 0x0 0x0 0x0 0x0 0x0 0x0"), Some(Call::Child(Some(0x1267))));
        assert_eq!(parse("-1 0x7ffc0 0x7f00"), Some(Call::Running));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC*") {
            parse(&line);
        }
    }
}
