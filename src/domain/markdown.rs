//! Rendering of a message's Markdown as HTML that is safe to insert into a page.
//!
//! The dialect is one for chats, which docs/API.md describes: it loses no text. Text without markup is shown as it was
//! written, and what only looks like markup, such as a link to a scheme that is not allowed, is text. CommonMark drops
//! or changes much of that: reference definitions, titles of links, thematic breaks, entities, indentation.
//!
//! Two independent layers make the HTML safe. The writer writes a fixed set of elements and escapes everything from the
//! text. Its output then passes a sanitizer with an allow-list, which knows HTML and nothing of Markdown. The result
//! loads, runs and styles nothing.

use crate::domain::characters::is_blank;
use crate::domain::markdown::blocks::parse_blocks;
use crate::domain::markdown::html::{HtmlWriter, sanitize};
use crate::domain::markdown::plain::append_plain_text;
use crate::domain::text::with_line_feeds;

mod addresses;
mod blocks;
mod classes;
mod code_spans;
mod emphasis;
pub(super) mod html;
mod inlines;
mod plain;

/// Renders a text as safe HTML.
///
/// Emphasis, strong, strikethrough, code, links, lists, quotes and paragraphs are rendered as in Markdown. Line breaks
/// and blanks are kept. A heading becomes a strong paragraph, an image a link, an address a link, and HTML is text.
pub fn render_html(text: &str) -> String {
    let text = with_line_feeds(text);
    let html = html_of(|writer| writer.write_blocks(&parse_blocks(&text)));
    // Marks around invisible characters show nothing.
    let html = html.or_else(|| html_of(|writer| writer.write_as_written(&text)));
    sanitize(&html.unwrap_or_default())
}

fn html_of(write: impl FnOnce(&mut HtmlWriter)) -> Option<String> {
    let mut writer = HtmlWriter::default();
    write(&mut writer);
    writer.finish()
}

/// Returns a text as it is shown: without markup, and with a line break where the HTML has one.
///
/// Targets of links that have a text of their own are not shown. Invisible characters are kept.
pub fn plain_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    append_plain_text(&mut plain, &parse_blocks(&with_line_feeds(text)));
    plain.truncate(plain.trim_end_matches('\n').len());
    if is_blank(&plain) { text.to_owned() } else { plain }
}

#[cfg(test)]
mod tests;
