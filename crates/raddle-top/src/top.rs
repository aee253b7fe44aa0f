//! `raddle top`: looks, draws, waits for a key, a signal or the next look.
//!
//! # Rules
//!
//! 1. The more looking and drawing cost, the longer it is until the next look (`pace`).
//! 2. While the display is frozen, nobody looks.
//! 3. What was seen last stays when nothing is left to look at.
//! 4. A signal ends the wait, and whoever called us is asked what it means; an error ends us.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use raddle_probe::{Look, Style, Trouble, Watch, look, text};
use rustix::process::{Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};

use crate::history::History;
use crate::keys::Key;
use crate::pace::Pace;
use crate::scene::{About, Scene};
use crate::screen::Screen;
use crate::verdict::Across;
use crate::view::{Order, View};
use crate::wait::{Woken, wait};

/// How it is looked and drawn.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// From one look to the next.
    pub interval: Duration,
    /// Processors that there are to use.
    pub cores: u32,
    /// Whether colours are used.
    pub has_colour: bool,
    /// Whether to leave as soon as the process has ended.
    pub until_end: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The user has had enough.
    Quit,
    /// The user has pressed Ctrl-C.
    Interrupted,
    /// The process has ended, and that was what was waited for.
    Ended,
    /// The terminal is gone.
    HungUp,
}

/// Why it could not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The process cannot be looked into.
    Trouble(Trouble),
    /// The terminal does not do what it should.
    Terminal(io::Error),
    /// Whoever was asked about a signal said so.
    Told(E),
}

impl<E> From<io::Error> for Failure<E> {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}

/// Shows what a process and all that it starts do, until the user has had enough.
///
/// `input` and `output` are of one terminal, which is left as it was found. `told` is a pipe into which each signal writes a byte; `heed` is then asked.
///
/// # Errors
///
/// When the process cannot be looked into, before anything is shown; when the terminal fails; what `heed` returns.
pub fn top<E>(
    pid: u32,
    settings: Settings,
    [input, output, told]: [BorrowedFd<'_>; 3],
    mut heed: impl FnMut() -> Result<(), E>,
) -> Result<Ending, Failure<E>> {
    let mut top = Top::new(pid, settings).map_err(Failure::Trouble)?;
    let mut screen = Screen::enter(input, output)?;
    loop {
        if settings.until_end && top.about.has_ended {
            return Ok(Ending::Ended);
        }
        let before = own_time();
        screen.show(|area, buffer| crate::draw::draw(&top.scene(), area, buffer))?;
        top.has_drawn(own_time() - before);
        match wait(screen.input(), told, top.due())? {
            Woken::Due => top.look(),
            Woken::Signal => heed().map_err(Failure::Told)?,
            Woken::HungUp => return Ok(Ending::HungUp),
            Woken::Keys(keys) => {
                for key in keys {
                    match top.press(key) {
                        Order::Nothing => {}
                        Order::Quit => return Ok(Ending::Quit),
                        Order::Interrupt => return Ok(Ending::Interrupted),
                        Order::Dump => top.dump(),
                        Order::Suspend => {
                            screen.leave()?;
                            // Whoever started us sees that we have stopped, and lets us go on.
                            kill_process(getpid(), Signal::TSTP).map_err(io::Error::from)?;
                            screen.come()?;
                        }
                    }
                }
            }
        }
    }
}

struct Top {
    watch: Watch,
    began: Instant,
    pace: Pace,
    about: About,
    view: View,
    look: Look,
    history: History,
    across: Across,
    parents: HashMap<u32, u32>,
    /// When the last look began.
    looked: Instant,
    /// What the last look has cost, in seconds of a processor, until it is drawn.
    look_cost: Option<f64>,
}

impl fmt::Debug for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Top").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Top {
    fn new(pid: u32, settings: Settings) -> Result<Self, Trouble> {
        let about = About {
            pid,
            cores: settings.cores,
            has_colour: settings.has_colour,
            pace: settings.interval.as_secs_f64(),
            is_slowed: false,
            has_ended: false,
            is_over: false,
        };
        let now = Instant::now();
        let mut top = Self {
            watch: Watch::new(pid),
            began: now,
            pace: Pace::new(settings.interval.as_secs_f64()),
            about,
            view: View::default(),
            look: Look::default(),
            history: History::default(),
            across: Across::default(),
            parents: HashMap::new(),
            looked: now,
            look_cost: None,
        };
        top.look();
        let has_python = top.look.processes.iter().any(|process| process.version.is_some());
        match look(pid) {
            // What it has started is worth to be seen; what is not ready will be.
            Err(Trouble::NotPython { .. }) if has_python => {}
            Err(Trouble::NotReady { .. }) | Ok(_) => {}
            Err(trouble) => return Err(trouble),
        }
        Ok(top)
    }

    fn scene(&self) -> Scene<'_> {
        Scene::new(&self.about, &self.view, &self.look, &self.parents, &self.history, &self.across)
    }

    fn look(&mut self) {
        let before = own_time();
        self.looked = Instant::now();
        let look = self.watch.look();
        self.about.has_ended = !look.processes.iter().any(|process| process.pid == self.about.pid);
        self.about.is_over = look.processes.is_empty();
        if !self.about.is_over {
            self.parents = self.watch.members().map(|one| (one.pid, one.parent)).collect();
            self.history.take((self.looked - self.began).as_secs_f64(), &look);
            self.across.take(&look);
            self.look = look;
            let subjects = self.scene().subjects();
            self.view.settle(&subjects);
        }
        self.look_cost = Some(own_time() - before);
    }

    /// Rule 1. What is drawn for a key is not counted.
    fn has_drawn(&mut self, drawing: f64) {
        if let Some(looking) = self.look_cost.take() {
            self.pace.spent(looking + drawing);
            (self.about.pace, self.about.is_slowed) = (self.pace.seconds(), self.pace.is_slowed());
        }
    }

    /// When to look again.
    fn due(&self) -> Option<Instant> {
        let rests = self.view.is_frozen || self.about.is_over;
        if rests { None } else { self.looked.checked_add(Duration::from_secs_f64(self.about.pace)) }
    }

    fn press(&mut self, key: Key) -> Order {
        let scene = self.scene();
        let (subjects, lines) = (scene.subjects(), scene.page.as_ref().map_or(0, |page| page.lines.len()));
        self.view.press(key, &subjects, lines)
    }

    /// Writes what is shown to a file that is not there yet.
    fn dump(&mut self) {
        let said = text(&self.look, Style::default());
        self.view.said = Some(match write_new(self.about.pid, &said) {
            Ok(name) => format!("written to {name}"),
            Err(error) => format!("the dump could not be written here: {error}"),
        });
    }
}

fn write_new(pid: u32, said: &str) -> io::Result<String> {
    for number in 1_u32.. {
        let name = format!("raddle-{pid}-{number}.txt");
        match File::create_new(&name) {
            Ok(mut file) => return file.write_all(said.as_bytes()).map(|()| name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// How long this thread has been on a processor, in seconds.
fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
