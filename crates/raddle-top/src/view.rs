//! What the user has chosen to see, and what a key does about it.
//!
//! # States
//!
//! A key goes to the first of these that is there: the filter that is being typed, the page that is open, the table.
//!
//! # Rules
//!
//! 1. What is selected stays so when rows move. When it is gone, the row that stands in its place is.
//! 2. A key never fails. What makes no sense is passed over.

use crate::keys::Key;
use crate::row::Subject;
use crate::units::{Choice, Sort};

/// What the table has rows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tab {
    #[default]
    Units,
    Locks,
    Tasks,
}

impl Tab {
    pub(crate) const ALL: [Self; 3] = [Self::Units, Self::Locks, Self::Tasks];

    fn next(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

/// A page that is open over the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Help,
    About(Subject),
}

/// What is to be done about a key besides showing things differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Nothing,
    Quit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Write a dump.
    Dump,
}

/// What the user has chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) tab: Tab,
    pub(crate) choice: Choice,
    pub(crate) is_frozen: bool,
    /// Whether the filter is being typed.
    pub(crate) is_typing: bool,
    pub(crate) open: Option<Open>,
    /// How many lines of the open page are above what is seen.
    pub(crate) scroll: usize,
    /// What was said last, until the next key.
    pub(crate) said: Option<String>,
    selected: [Selected; 3],
}

#[derive(Clone, Debug, Default)]
struct Selected {
    subject: Option<Subject>,
    at: usize,
}

const LEAP: usize = 10;

impl View {
    /// The selected row of the table (rule 1).
    pub(crate) fn selected(&self, rows: &[Subject]) -> Option<usize> {
        let selected = &self.selected[self.tab as usize];
        let same = selected.subject.as_ref().and_then(|subject| rows.iter().position(|row| row == subject));
        same.or_else(|| rows.len().checked_sub(1).map(|last| selected.at.min(last)))
    }

    /// Takes a key. `rows`: those of the table; `lines`: how many the open page has.
    pub(crate) fn press(&mut self, key: Key, rows: &[Subject], lines: usize) -> Order {
        self.said = None;
        match key {
            Key::Control('c') => return Order::Interrupt,
            Key::Control('z') => return Order::Suspend,
            _ if self.is_typing => self.type_filter(key),
            _ if self.open.is_some() => return self.read(key, lines),
            _ => return self.choose(key, rows),
        }
        Order::Nothing
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(character) => self.choice.filter.push(character),
            Key::Backspace => {
                self.choice.filter.pop();
            }
            Key::Enter => self.is_typing = false,
            Key::Escape => (self.is_typing, self.choice.filter) = (false, String::new()),
            _ => {}
        }
    }

    fn read(&mut self, key: Key, lines: usize) -> Order {
        match key {
            Key::Char('q') => return Order::Quit,
            Key::Char('d') => return Order::Dump,
            Key::Char(' ') => self.is_frozen = !self.is_frozen,
            Key::Escape | Key::Enter | Key::Char('?') => self.open = None,
            _ => self.scroll = moved(key, self.scroll, lines).unwrap_or(self.scroll),
        }
        Order::Nothing
    }

    fn choose(&mut self, key: Key, rows: &[Subject]) -> Order {
        match key {
            Key::Escape if !self.choice.filter.is_empty() => self.choice.filter.clear(),
            Key::Escape | Key::Char('q') => return Order::Quit,
            Key::Char('d') => return Order::Dump,
            Key::Char('c') => self.sort(Sort::Cpu),
            Key::Char('s') => self.sort(Sort::State),
            Key::Char('n') => self.sort(Sort::Name),
            Key::Char('w') => self.sort(Sort::Wait),
            Key::Char('t') => self.choice.is_flat = !self.choice.is_flat,
            Key::Char(' ') => self.is_frozen = !self.is_frozen,
            Key::Char('/') => self.is_typing = true,
            Key::Char('?' | 'h') => self.show(Open::Help),
            Key::Tab => self.tab = self.tab.next(1),
            Key::BackTab => self.tab = self.tab.next(2),
            Key::Enter => {
                if let Some(at) = self.selected(rows) {
                    self.select(at, rows);
                    self.show(Open::About(rows[at].clone()));
                }
            }
            _ => {
                let at = self.selected(rows).unwrap_or(0);
                if let Some(at) = moved(key, at, rows.len()) {
                    self.select(at, rows);
                }
            }
        }
        Order::Nothing
    }

    fn sort(&mut self, by: Sort) {
        self.choice.sort = if self.choice.sort == by { Sort::Begin } else { by };
    }

    fn show(&mut self, page: Open) {
        (self.open, self.scroll) = (Some(page), 0);
    }

    fn select(&mut self, at: usize, rows: &[Subject]) {
        self.selected[self.tab as usize] = Selected { subject: rows.get(at).cloned(), at };
    }

    /// Remembers where the selected row is now, for when it is gone (rule 1).
    pub(crate) fn settle(&mut self, rows: &[Subject]) {
        if let Some(at) = self.selected(rows)
            && self.selected[self.tab as usize].subject.is_some()
        {
            self.select(at, rows);
        }
    }
}

/// Where one of so many is after a key that moves.
fn moved(key: Key, at: usize, count: usize) -> Option<usize> {
    let last = count.saturating_sub(1);
    let to = match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at + 1,
        Key::PageUp => at.saturating_sub(LEAP),
        Key::PageDown => at + LEAP,
        Key::Home => 0,
        Key::End => last,
        _ => return None,
    };
    Some(to.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: &[u32]) -> Vec<Subject> {
        numbers.iter().map(|number| Subject::Thread((1, *number))).collect()
    }

    fn press(view: &mut View, keys: &[Key], rows: &[Subject]) -> Order {
        keys.iter().map(|key| view.press(*key, rows, 30)).last().unwrap_or(Order::Nothing)
    }

    #[test]
    fn what_is_selected_stays_so_when_rows_move_and_its_place_when_it_is_gone() {
        let mut view = View::default();
        let all = rows(&[1, 2, 3, 4]);
        press(&mut view, &[Key::Down, Key::Down], &all);
        assert_eq!(view.selected(&all), Some(2));
        let moved = rows(&[3, 1, 2, 4]);
        view.settle(&moved);
        assert_eq!(view.selected(&moved), Some(0));
        assert_eq!(view.selected(&rows(&[1, 2, 4])), Some(0));
        assert_eq!(view.selected(&[]), None);
    }

    #[test]
    fn moving_ends_at_the_first_and_the_last_row() {
        let mut view = View::default();
        let all = rows(&[1, 2, 3]);
        press(&mut view, &[Key::Up], &all);
        assert_eq!(view.selected(&all), Some(0));
        press(&mut view, &[Key::PageDown], &all);
        assert_eq!(view.selected(&all), Some(2));
        press(&mut view, &[Key::Home, Key::End, Key::Down], &all);
        assert_eq!(view.selected(&all), Some(2));
        assert_eq!(press(&mut view, &[Key::Down, Key::Enter, Key::End], &[]), Order::Nothing);
    }

    #[test]
    fn a_page_opens_scrolls_and_closes_before_escape_quits() {
        let mut view = View::default();
        let all = rows(&[1, 2]);
        press(&mut view, &[Key::Down, Key::Enter, Key::Down], &all);
        assert_eq!((view.open.clone(), view.scroll), (Some(Open::About(all[1].clone())), 1));
        assert_eq!(press(&mut view, &[Key::Escape], &all), Order::Nothing);
        assert_eq!(press(&mut view, &[Key::Escape], &all), Order::Quit);
        assert_eq!(press(&mut view, &[Key::Char('?')], &all), Order::Nothing);
        assert_eq!(press(&mut view, &[Key::Char('q')], &all), Order::Quit);
    }

    #[test]
    fn a_filter_takes_the_keys_that_mean_something_elsewhere() {
        let mut view = View::default();
        assert_eq!(
            press(&mut view, &[Key::Char('/'), Key::Char('q'), Key::Char(' '), Key::Backspace], &[]),
            Order::Nothing
        );
        assert_eq!((view.choice.filter.as_str(), view.is_typing), ("q", true));
        press(&mut view, &[Key::Enter], &[]);
        assert_eq!((view.choice.filter.as_str(), view.is_typing), ("q", false));
        assert_eq!(press(&mut view, &[Key::Escape], &[]), Order::Nothing);
        assert_eq!(view.choice.filter, "");
        assert_eq!(press(&mut view, &[Key::Char('/'), Key::Control('c')], &[]), Order::Interrupt);
    }

    #[test]
    fn the_same_sort_again_goes_back_to_the_order_of_the_beginning() {
        let mut view = View::default();
        press(&mut view, &[Key::Char('c')], &[]);
        assert_eq!(view.choice.sort, Sort::Cpu);
        press(&mut view, &[Key::Char('w')], &[]);
        assert_eq!(view.choice.sort, Sort::Wait);
        press(&mut view, &[Key::Char('w'), Key::Char('t'), Key::Char(' ')], &[]);
        assert_eq!((view.choice.sort, view.choice.is_flat, view.is_frozen), (Sort::Begin, true, true));
    }

    #[test]
    fn tabs_go_round_and_each_keeps_its_row() {
        let mut view = View::default();
        let all = rows(&[1, 2, 3]);
        press(&mut view, &[Key::Down, Key::Tab, Key::Down, Key::Down], &all);
        assert_eq!((view.tab, view.selected(&all)), (Tab::Locks, Some(2)));
        press(&mut view, &[Key::Tab, Key::Tab], &all);
        assert_eq!((view.tab, view.selected(&all)), (Tab::Units, Some(1)));
        press(&mut view, &[Key::BackTab], &all);
        assert_eq!(view.tab, Tab::Tasks);
    }
}
