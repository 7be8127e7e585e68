//! The text of blocks without markup.

use crate::domain::markdown::blocks::Block;
use crate::domain::markdown::inlines::{Inline, parse_inlines};

/// Appends the text of blocks, each line with a line feed after it.
pub fn append_plain_text(plain: &mut String, blocks: &[Block]) {
    for block in blocks {
        match block {
            Block::Paragraph(lines) => append_line(plain, &lines.join("\n")),
            Block::Heading(text) => append_line(plain, text),
            Block::Code { lines, .. } => lines.iter().for_each(|line| {
                plain.push_str(line);
                plain.push('\n');
            }),
            Block::Quote(blocks) => append_plain_text(plain, blocks),
            Block::List(list) => list.items.iter().for_each(|item| append_plain_text(plain, &item.blocks)),
        }
    }
}

fn append_line(plain: &mut String, text: &str) {
    for inline in parse_inlines(text) {
        match inline {
            Inline::Text(text) => plain.push_str(&text),
            Inline::Code(code) => plain.push_str(code),
            Inline::LineBreak => plain.push('\n'),
            Inline::Open(_) | Inline::Close(_) | Inline::OpenLink(_) | Inline::CloseLink => {}
        }
    }
    plain.push('\n');
}
