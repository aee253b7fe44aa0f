//! The terminal: how it is entered, written to, and left as it was.
//!
//! # Rules
//!
//! 1. Whatever happens, an error or a panic too, the terminal is left as it was found: that is done when the screen is dropped.
//! 2. Only what has changed is written.
//! 3. Nothing is ever asked of the terminal by writing to it: what it answers would have to be waited for.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::Rect;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode that shows our screen instead of what it has shown.
pub(crate) struct Screen {
    input: OwnedFd,
    before: Termios,
    backend: CrosstermBackend<BufWriter<File>>,
    /// What the terminal shows.
    shown: Buffer,
    is_entered: bool,
}

impl Screen {
    /// Enters the terminal that these two are of.
    pub(crate) fn enter(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Self> {
        let input = input.try_clone_to_owned()?;
        let before = tcgetattr(&input)?;
        let backend = CrosstermBackend::new(BufWriter::new(File::from(output.try_clone_to_owned()?)));
        let mut screen = Self { input, before, backend, shown: Buffer::empty(Rect::ZERO), is_entered: false };
        screen.come()?;
        Ok(screen)
    }

    /// Where keys come from.
    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// Enters it again after [`leave`](Self::leave).
    pub(crate) fn come(&mut self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        self.is_entered = true;
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        execute!(self.backend, EnterAlternateScreen, Hide)?;
        self.shown = Buffer::empty(Rect::ZERO);
        Ok(())
    }

    /// Leaves it as it was found.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_entered) {
            return Ok(());
        }
        let shown = execute!(self.backend, Show, LeaveAlternateScreen);
        tcsetattr(&self.input, OptionalActions::Now, &self.before)?;
        shown
    }

    /// Shows what `draw` puts into a buffer as large as the terminal.
    pub(crate) fn show(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        let area = self.area();
        let mut next = Buffer::empty(area);
        draw(area, &mut next);
        if self.shown.area != area {
            self.backend.clear_region(ClearType::All)?;
            self.shown = Buffer::empty(area);
        }
        self.backend.draw(self.shown.diff(&next).into_iter())?;
        self.shown = next;
        Backend::flush(&mut self.backend)
    }

    /// A terminal that does not know its size has the usual one.
    fn area(&self) -> Rect {
        match tcgetwinsize(&self.input) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Rect::new(0, 0, size.ws_col, size.ws_row),
            _ => Rect::new(0, 0, 80, 24),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = self.leave();
        let _ = Write::flush(&mut self.backend);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, Winsize, tcsetwinsize};

    use super::*;

    /// The side of a person, and that of a program.
    fn terminal() -> (File, OwnedFd) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
        grantpt(&ours).expect("it is ours");
        unlockpt(&ours).expect("it is ours");
        let name = ptsname(&ours, vec![]).expect("it has a name");
        let theirs = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it is there");
        (File::from(ours), theirs)
    }

    fn is_raw(terminal: &OwnedFd) -> bool {
        !tcgetattr(terminal).expect("it is a terminal").local_modes.contains(LocalModes::ICANON)
    }

    /// What was written, up to and with these words.
    fn written(ours: &mut File, until: &str) -> String {
        let (mut said, mut bytes) = (String::new(), [0; 65536]);
        while !said.contains(until) {
            let length = ours.read(&mut bytes).expect("the other side is open");
            said.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        said
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        let (mut ours, theirs) = terminal();
        let shown = catch_unwind(AssertUnwindSafe(|| {
            let mut screen = Screen::enter(theirs.as_fd(), theirs.as_fd()).expect("it is a terminal");
            assert!(is_raw(&theirs));
            screen.show(|_, _| panic!("while drawing")).expect("it does not come so far");
        }));
        assert!(shown.is_err() && !is_raw(&theirs));
        let said = written(&mut ours, "\x1b[?1049l");
        assert!(said.contains("\x1b[?1049h") && said.ends_with("\x1b[?25h\x1b[?1049l"), "{said:?}");
    }

    #[test]
    fn only_what_has_changed_is_written_and_all_of_it_when_the_size_has() {
        let (mut ours, theirs) = terminal();
        let size = |ws_col, ws_row| Winsize { ws_col, ws_row, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size(20, 3)).expect("it is a terminal");
        let mut screen = Screen::enter(theirs.as_fd(), theirs.as_fd()).expect("it is a terminal");
        let mut draw = |text: &str, until: &str| {
            let put = |_: Rect, buffer: &mut Buffer| {
                buffer.set_string(0, 0, text, ratatui::style::Style::new());
            };
            screen.show(put).expect("it is a terminal");
            written(&mut ours, until)
        };
        draw("one-two", "one-two");
        let second = draw("one-six", "six");
        assert!(!second.contains("one"), "{second:?}");
        tcsetwinsize(&theirs, size(30, 5)).expect("it is a terminal");
        draw("one-six", "one-six");
    }

    #[test]
    fn a_terminal_without_a_size_has_the_usual_one() {
        let (_ours, theirs) = terminal();
        let mut screen = Screen::enter(theirs.as_fd(), theirs.as_fd()).expect("it is a terminal");
        let mut seen = None;
        screen.show(|area, _| seen = Some(area)).expect("it is a terminal");
        assert_eq!(seen, Some(Rect::new(0, 0, 80, 24)));
    }

    #[test]
    fn it_can_be_left_and_entered_again() {
        let (_ours, theirs) = terminal();
        let mut screen = Screen::enter(theirs.as_fd(), theirs.as_fd()).expect("it is a terminal");
        screen.leave().expect("it is a terminal");
        assert!(!is_raw(&theirs));
        screen.come().expect("it is a terminal");
        assert!(is_raw(&theirs));
        drop(screen);
        assert!(!is_raw(&theirs));
    }
}
