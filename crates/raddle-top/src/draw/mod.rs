//! Puts a scene into a buffer of cells.
//!
//! # Rules
//!
//! 1. Colours never carry meaning alone: each state has a word and a mark, and what is stuck has a sign.
//! 2. Any size is drawn, down to nothing. What does not fit is left out: first the details, then the header.

mod header;
mod page;
mod palette;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use crate::scene::Scene;
use palette::Palette;

/// Draws all of it.
pub(crate) fn draw(scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let palette = Palette::new(scene.about.has_colour);
    let verdicts = scene.verdicts.len().min(3) as u16 + u16::from(scene.about.has_ended);
    let head = if area.height >= 10 { 3 } else { 1 };
    let details = if area.height >= 16 { 2 } else { 0 };
    let [top, stuck, tabs, table, selected, foot] = Layout::vertical([
        Constraint::Length(head),
        Constraint::Length(verdicts),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(details),
        Constraint::Length(1),
    ])
    .areas(area);
    header::head(scene, palette, top, buffer);
    header::verdicts(scene, palette, stuck, buffer);
    header::tabs(scene, palette, tabs, buffer);
    table::table(scene, palette, table, buffer);
    let [what, place] = scene.selected();
    Paragraph::new(vec![Line::from(what), Line::styled(place, palette.dim())]).render(selected, buffer);
    self::foot(scene, palette, foot, buffer);
    if let Some(shown) = &scene.page {
        page::page(shown, scene.view.scroll, palette, area, buffer);
    }
}

/// What was said last, the filter, or what keys there are.
fn foot(scene: &Scene<'_>, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let view = scene.view;
    let line = if view.is_typing {
        Line::from(vec![Span::styled("/", palette.strong()), Span::raw(format!("{}▏", view.choice.filter))])
    } else if let Some(said) = &view.said {
        Line::styled(said.clone(), palette.strong())
    } else {
        let keys = "q quit  Enter more  Tab locks  c s n w sort  t tree  / filter  space freeze  d dump  ? help";
        Line::styled(keys, palette.dim())
    };
    Paragraph::new(line).render(area, buffer);
}

#[cfg(test)]
mod tests;
