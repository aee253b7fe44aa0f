//! How sessions and reports are written down.

mod html;
mod json;
mod perfetto;
mod sarif;
mod text;
mod words;

/// So many bytes of a long file are passed on at once.
const PIECE: usize = 256 << 10;

pub use html::{html, write_html};
pub use json::{ReadError, json, read_json, write_json};
pub use perfetto::{perfetto, write_perfetto};
pub use sarif::sarif;
pub use text::{Style, text};
