//! The table of threads, of locks, or of tasks.

use std::collections::HashSet;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, StatefulWidget, Table, TableState, Widget};

use super::palette::Palette;
use crate::history::KEPT;
use crate::row::{Subject, glyph, percent, span, word};
use crate::scene::Scene;
use crate::units::Unit;
use crate::view::Tab;

pub(super) fn table(scene: &Scene<'_>, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let (titles, widths, rows) = match scene.view.tab {
        Tab::Units => of_units(scene, palette, area.width),
        Tab::Locks => of_things(scene, palette),
        Tab::Tasks => of_tasks(scene, palette),
    };
    if rows.is_empty() {
        let nothing = match scene.view.tab {
            _ if !scene.view.choice.filter.is_empty() => "nothing contains what the filter asks for",
            Tab::Units => "no thread is seen",
            Tab::Locks => "nothing that is seen is held or waited for",
            Tab::Tasks => "no task of asyncio is seen",
        };
        return Paragraph::new(Line::styled(nothing, palette.dim())).render(area, buffer);
    }
    let header = Row::new(titles).style(palette.dim());
    let table = Table::new(rows, widths).header(header).column_spacing(1).row_highlight_style(palette.chosen());
    let mut state = TableState::default().with_selected(scene.view.selected(&scene.subjects()));
    StatefulWidget::render(table, area, buffer, &mut state);
}

type Columns = (Vec<&'static str>, Vec<Constraint>, Vec<Row<'static>>);

/// From this width on, where a thread is has a column of its own.
const WIDE: u16 = 120;

fn of_units(scene: &Scene<'_>, palette: Palette, width: u16) -> Columns {
    let stuck: HashSet<_> = scene.verdicts.iter().flat_map(|verdict| verdict.threads.iter().copied()).collect();
    let marks = usize::from(width.saturating_sub(62) / 2).clamp(8, KEPT);
    let indented = |unit: &Unit| unit.name.chars().count() + 2 * unit.depth + 1;
    let name = scene.units.iter().map(indented).max().unwrap_or(0).clamp(14, usize::from(width / 4).max(14));
    let is_wide = width >= WIDE;
    let rows = scene.units.iter().map(|unit| {
        let is_stuck = matches!(&unit.subject, Subject::Thread(id) if stuck.contains(id));
        let sign = if is_stuck { "!" } else { " " };
        let title = format!("{}{sign}{}", "  ".repeat(unit.depth), unit.name);
        let since = Text::from(unit.since.map_or(String::new(), span)).right_aligned();
        let cpu = Text::from(percent(unit.cpu)).right_aligned();
        let Some(state) = unit.state else {
            // The command takes what room there is.
            let gil = Text::from(unit.gil.map_or(String::new(), |gil| percent(gil.held))).right_aligned();
            let cells = [Cell::from(title), Cell::from(""), Cell::from(since), Cell::from(cpu), Cell::from(gil)];
            return Row::new(cells.into_iter().chain([Cell::from(""), Cell::from(about(unit))]))
                .style(palette.strong());
        };
        let style = if is_stuck { palette.stuck() } else { ratatui::style::Style::new() };
        let gil = Text::from(unit.gil_wait.map_or(String::new(), percent)).right_aligned();
        let mut cells = vec![
            Cell::from(Span::styled(title, style)),
            Cell::from(Span::styled(word(state), palette.state(state))),
            Cell::from(since),
            Cell::from(cpu),
            Cell::from(gil),
            Cell::from(past(unit, marks, palette)),
        ];
        if is_wide {
            cells.extend([Cell::from(unit.wait.clone()), Cell::from(unit.place.clone())]);
        } else {
            let said = if unit.wait.is_empty() { &unit.place } else { &unit.wait };
            cells.push(Cell::from(said.clone()));
        }
        Row::new(cells)
    });
    let rows = rows.collect();
    let mut titles = vec!["NAME", "STATE", "SINCE", "CPU", "GIL", "LAST LOOKS", "WAITS FOR / PLACE"];
    let mut widths = vec![
        Constraint::Length(name as u16),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Length(marks as u16),
        Constraint::Min(8),
    ];
    if is_wide {
        titles.pop();
        titles.extend(["WAITS FOR", "PLACE"]);
        widths.push(Constraint::Fill(1));
        widths[6] = Constraint::Fill(1);
    }
    (titles, widths, rows)
}

fn about(unit: &Unit) -> String {
    let gil = unit.gil.map_or(String::new(), |gil| format!(", GIL waited for {}", percent(gil.wanted)));
    format!("{}, {}{gil}", unit.place, unit.wait)
}

/// What the thread did at the last looks, the newest on the right.
fn past(unit: &Unit, marks: usize, palette: Palette) -> Line<'static> {
    let kept = &unit.states[unit.states.len().saturating_sub(marks)..];
    let mut spans = vec![Span::raw(" ".repeat(marks - kept.len()))];
    spans.extend(
        kept.chunk_by(|one, other| one == other)
            .map(|alike| Span::styled(glyph(alike[0]).to_string().repeat(alike.len()), palette.state(alike[0]))),
    );
    Line::from(spans)
}

fn of_things(scene: &Scene<'_>, palette: Palette) -> Columns {
    let rows = scene.things.iter().map(|thing| {
        let is_waited = !thing.waiters.is_empty();
        let longest = if is_waited { span(thing.longest) } else { String::new() };
        let cells = [
            Cell::from(Text::from(thing.waiters.len().to_string()).right_aligned()),
            Cell::from(Text::from(longest).right_aligned()),
            Cell::from(thing.what.clone()),
            Cell::from(thing.holder.clone()),
            Cell::from(thing.taken.clone()),
        ];
        Row::new(cells).style(if is_waited { ratatui::style::Style::new() } else { palette.dim() })
    });
    let rows = rows.collect();
    let widths = vec![
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Fill(2),
    ];
    (vec!["WAIT", "SINCE", "WHAT", "HELD BY", "TAKEN"], widths, rows)
}

fn of_tasks(scene: &Scene<'_>, palette: Palette) -> Columns {
    let rows = scene.tasks.iter().map(|task| {
        let sign = if task.is_stuck { "!" } else { " " };
        let style = if task.is_stuck { palette.stuck() } else { ratatui::style::Style::new() };
        Row::new([
            Cell::from(Span::styled(format!("{sign}{}", task.name), style)),
            Cell::from(task.state),
            Cell::from(task.awaits.clone()),
            Cell::from(task.place.clone()),
        ])
    });
    let rows = rows.collect();
    let widths = vec![Constraint::Fill(2), Constraint::Length(8), Constraint::Fill(2), Constraint::Fill(3)];
    (vec![" TASK", "STATE", "AWAITS", "PLACE"], widths, rows)
}
