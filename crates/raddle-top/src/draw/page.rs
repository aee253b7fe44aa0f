//! A page over the table.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Widget};

use super::palette::Palette;
use crate::pages::Page;

pub(super) fn page(page: &Page, scroll: usize, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let lines = page.lines.len() as u16;
    let longest = page.lines.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
    let longest = longest.max(page.title.chars().count() + 2).max(30) as u16;
    let width = longest.saturating_add(4).min(area.width);
    let height = lines.saturating_add(2).min(area.height);
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let frame = Rect { x, y, width, height };
    Clear.render(frame, buffer);
    let block = Block::bordered().title(Line::styled(format!(" {} ", page.title), palette.strong()));
    let inner = block.inner(frame);
    block.render(frame, buffer);
    let seen = usize::from(inner.height);
    let scroll = scroll.min(page.lines.len().saturating_sub(seen));
    let shown = page.lines.iter().skip(scroll).take(seen);
    let shown = shown.map(|(tone, text)| Line::styled(format!(" {text}"), palette.tone(*tone)));
    Paragraph::new(shown.collect::<Vec<_>>()).render(inner, buffer);
    if scroll + seen < page.lines.len() && inner.height > 0 {
        let corner =
            Rect { x: frame.x + 2.min(frame.width), y: frame.bottom() - 1, width: width.saturating_sub(4), height: 1 };
        Paragraph::new(Line::styled(" ↓ more ", palette.dim())).render(corner, buffer);
    }
}
