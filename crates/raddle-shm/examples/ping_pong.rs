//! Two processes pass a record back and forth, and sleep while they wait for it.
//!
//! ```text
//! cargo run --release -p raddle-shm --example ping_pong [ROUNDS [BYTES]]
//! ```
//!
//! One segment holds a page of words and two rings, one for each direction. The program starts itself a second time; the second
//! process opens the segment through `/proc`, and answers every record with the same bytes.

#[cfg(all(target_os = "linux", not(loom)))]
mod linux {
    use std::env;
    use std::error::Error;
    use std::fs::File;
    use std::os::fd::{AsFd, AsRawFd};
    use std::process::{Command, id};
    use std::time::{Duration, Instant};

    use raddle_shm::ring::{Consumer, Header, Lines, Producer};
    use raddle_shm::{Bell, Mapping, Segment, Shared};

    const PAGE: usize = 4096;
    const CAPACITY: usize = 64 << 10;

    /// The first page of the segment: for each direction the positions of its ring, and where its reader sleeps.
    #[repr(C)]
    struct Page {
        lines: [Lines; 2],
        bells: [Bell; 2],
    }

    // SAFETY: types that keep the rules, in a fixed order.
    unsafe impl Shared for Page {}

    /// One process's ends of the two rings. They point into the mappings, which are dropped after them.
    struct Side {
        sender: Producer,
        receiver: Consumer,
        /// The direction in which this side sends.
        way: usize,
        words: Mapping,
        _bytes: [Mapping; 2],
    }

    impl Side {
        fn open(segment: &Segment, way: usize) -> Result<Side, Box<dyn Error>> {
            let words = segment.map(0, PAGE)?;
            let bytes = [segment.map_mirrored(PAGE, CAPACITY)?, segment.map_mirrored(PAGE + CAPACITY, CAPACITY)?];
            let lines = &words.get::<Page>(0).lines;
            // SAFETY: each process opens its own side once, so this is the only producer of its way; the mappings outlive it.
            let sender = unsafe { Producer::new(&lines[way], bytes[way].as_ptr(), CAPACITY) };
            // SAFETY: as above, the only consumer of the other way.
            let receiver = unsafe { Consumer::new(&lines[1 - way], bytes[1 - way].as_ptr(), CAPACITY) };
            Ok(Side { sender, receiver, way, words, _bytes: bytes })
        }

        fn bells(&self) -> &[Bell; 2] {
            &self.words.get::<Page>(0).bells
        }

        fn send(&mut self, header: Header, payload: &[u8]) {
            self.sender.push(header, &[payload]).expect("one record at a time always fits");
            self.bells()[self.way].ring();
        }

        /// Sleeps until there is a record.
        fn wait(&self) {
            let bell = &self.bells()[1 - self.way];
            while self.receiver.is_empty() {
                let ticket = bell.prepare();
                if self.receiver.is_empty() {
                    bell.sleep(ticket, None);
                } else {
                    bell.cancel(ticket);
                }
            }
        }

        /// Takes the next record and copies its payload. Says which one it was.
        fn receive(&mut self, payload: &mut Vec<u8>) -> Result<u64, Box<dyn Error>> {
            self.wait();
            let record = self.receiver.peek()?.ok_or("a record was there")?;
            payload.clear();
            payload.extend_from_slice(record.payload);
            let id = record.header.id;
            self.receiver.advance();
            Ok(id)
        }
    }

    const STOP: u64 = u64::MAX;

    fn answer(path: &str) -> Result<(), Box<dyn Error>> {
        // Nobody would wake us if the first process ended without saying so.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let segment = Segment::from_fd(File::options().read(true).write(true).open(path)?.into())?;
        let (mut side, mut payload) = (Side::open(&segment, 1)?, Vec::new());
        loop {
            match side.receive(&mut payload)? {
                STOP => return Ok(()),
                id => side.send(Header { id, ..Header::default() }, &payload),
            }
        }
    }

    fn measure(rounds: u64, bytes: usize) -> Result<(), Box<dyn Error>> {
        let segment = Segment::create("ping-pong", PAGE + 2 * CAPACITY)?;
        let path = format!("/proc/{}/fd/{}", id(), segment.as_fd().as_raw_fd());
        let mut child = Command::new(env::current_exe()?).args(["answer", &path]).spawn()?;
        let mut side = Side::open(&segment, 0)?;
        if bytes > side.sender.max_payload() {
            child.kill()?;
            child.wait()?;
            return Err(format!("{bytes} bytes are more than the {} of one record", side.sender.max_payload()).into());
        }
        let (sent, mut payload) = (vec![7; bytes], Vec::new());
        let mut times = Vec::new();
        for id in 0..rounds {
            let start = Instant::now();
            side.send(Header { id, ..Header::default() }, &sent);
            if side.receive(&mut payload)? != id || payload != sent {
                return Err("the answer is not what was sent".into());
            }
            times.push(start.elapsed());
        }
        side.send(Header { id: STOP, ..Header::default() }, &[]);
        child.wait()?;
        report(times, bytes);
        Ok(())
    }

    fn report(mut times: Vec<Duration>, bytes: usize) {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
        #[expect(clippy::print_stdout, reason = "this is what the example is for")]
        {
            println!("{} round trips of {bytes} bytes between two processes", times.len());
            println!("median {:.1} µs, 99th percentile {:.1} µs, best {:.1} µs", at(0.5), at(0.99), at(0.0));
        }
    }

    pub(crate) fn main() -> Result<(), Box<dyn Error>> {
        let arguments: Vec<_> = env::args().skip(1).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["answer", path] => answer(path),
            [] => measure(100_000, 64),
            [rounds] => measure(rounds.parse::<u64>()?.max(1), 64),
            [rounds, bytes] => measure(rounds.parse::<u64>()?.max(1), bytes.parse()?),
            _ => Err("usage: ping_pong [ROUNDS [BYTES]]".into()),
        }
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(not(all(target_os = "linux", not(loom))))]
fn main() {}
