//! What stands above the table.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::palette::Palette;
use crate::row::word;
use crate::scene::Scene;
use crate::units::Sort;
use crate::view::Tab;

/// The process, its CPU and its GIL, and how many threads do what.
pub(super) fn head(scene: &Scene<'_>, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let about = scene.about;
    let cores = f64::from(about.cores.max(1));
    let share = (scene.cpu / cores).clamp(0.0, 1.0);
    let full = (share * BAR as f64).round() as usize;
    let mut use_ = vec![
        Span::raw(format!("CPU {:.2} of {} ", scene.cpu, crate::row::plural(about.cores as usize, "core"))),
        Span::styled("█".repeat(full), palette.state(raddle_probe::State::Running)),
        Span::styled("·".repeat(BAR - full), palette.dim()),
    ];
    use_.extend(scene.gil.iter().map(|gil| Span::raw(format!("   {gil}"))));
    let mut states = vec![Span::raw(format!("{}:", scene.counts))];
    for (state, count) in &scene.states {
        states.push(Span::raw(format!(" {count} ")));
        states.push(Span::styled(word(*state), palette.state(*state)));
    }
    let lines = vec![Line::styled(scene.title.clone(), palette.strong()), Line::from(use_), Line::from(states)];
    Paragraph::new(lines).render(area, buffer);
    let (pace, style) = if scene.view.is_frozen {
        (" frozen".into(), palette.warning())
    } else if about.is_slowed {
        (format!(" every {:.1} s, not to cost more", about.pace), palette.warning())
    } else {
        (format!(" every {} s", about.pace), palette.dim())
    };
    let width = (pace.chars().count() as u16).min(area.width);
    let corner = Rect { x: area.right() - width, width, height: area.height.min(1), ..area };
    Paragraph::new(Line::styled(pace, style)).alignment(Alignment::Right).render(corner, buffer);
}

const BAR: usize = 16;

/// Who is stuck, and whether it is over.
pub(super) fn verdicts(scene: &Scene<'_>, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let mut lines = Vec::new();
    if scene.about.has_ended {
        let rest =
            if scene.about.is_over { "this is what was seen last. q quits" } else { "what it has started goes on" };
        let said = format!("process {} has ended: {rest}", scene.about.pid);
        lines.push(Line::styled(said, palette.warning()));
    }
    for (index, verdict) in scene.verdicts.iter().take(3).enumerate() {
        let more = scene.verdicts.len() - 3.min(scene.verdicts.len());
        let more = if index == 2 && more > 0 { format!("(and {more} more) ") } else { String::new() };
        let style = if verdict.is_timed { palette.warning() } else { palette.alarm() };
        lines.push(Line::styled(format!("{more}{}", verdict.text), style));
    }
    Paragraph::new(lines).render(area, buffer);
}

/// The tabs, and on the right how the table is sorted and filtered.
pub(super) fn tabs(scene: &Scene<'_>, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let count = |count: usize| if count > 0 { format!(" {count}") } else { String::new() };
    let waited = scene.things.iter().filter(|thing| !thing.waiters.is_empty()).count();
    let spans = Tab::ALL.map(|tab| {
        let title = match tab {
            Tab::Units => " Threads ".into(),
            Tab::Locks => format!(" Locks{} ", count(waited)),
            Tab::Tasks => format!(" Tasks{} ", count(scene.tasks.len())),
        };
        Span::styled(title, if tab == scene.view.tab { palette.chosen() } else { palette.dim() })
    });
    let choice = &scene.view.choice;
    let sort = match choice.sort {
        Sort::Begin => "",
        Sort::Cpu => "by CPU",
        Sort::State => "by state",
        Sort::Name => "by name",
        Sort::Wait => "by wait",
    };
    let filter = if choice.filter.is_empty() { String::new() } else { format!("/{}", choice.filter) };
    let right = [sort, &filter].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("  ");
    Paragraph::new(Line::from(spans.to_vec())).render(area, buffer);
    Paragraph::new(Line::styled(right, palette.strong()))
        .alignment(Alignment::Right)
        .render(Rect { x: area.x + area.width.min(34), width: area.width.saturating_sub(34), ..area }, buffer);
}
