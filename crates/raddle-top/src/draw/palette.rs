//! Colours, or what stands for them where there are none.

use raddle_probe::State;
use ratatui::style::{Color, Modifier, Style};

use crate::pages::Tone;

/// Which styles there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    has_colour: bool,
}

impl Palette {
    pub(super) fn new(has_colour: bool) -> Self {
        Self { has_colour }
    }

    fn colour(self, colour: Color, otherwise: Modifier) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new().add_modifier(otherwise) }
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The selected row, the open tab.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Somebody is stuck for good.
    pub(super) fn alarm(self) -> Style {
        if self.has_colour {
            Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED)
        }
    }

    /// Somebody is stuck for a time; looks are far apart.
    pub(super) fn warning(self) -> Style {
        self.colour(Color::Yellow, Modifier::BOLD)
    }

    pub(super) fn stuck(self) -> Style {
        self.colour(Color::Red, Modifier::BOLD).add_modifier(Modifier::BOLD)
    }

    pub(super) fn state(self, state: State) -> Style {
        match state {
            State::Running => self.colour(Color::Green, Modifier::BOLD),
            State::Native => self.colour(Color::Cyan, Modifier::BOLD),
            State::Gil => self.colour(Color::Yellow, Modifier::BOLD),
            State::Blocked | State::Stopped => self.colour(Color::Red, Modifier::BOLD),
            State::Waiting => self.colour(Color::Blue, Modifier::empty()),
            State::Io => self.colour(Color::Magenta, Modifier::empty()),
            State::Sleeping | State::Unknown => self.dim(),
        }
    }

    pub(super) fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Strong => self.strong(),
            Tone::Dim => self.dim(),
        }
    }
}
