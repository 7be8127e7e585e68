//! Writing of HTML that is safe to insert into a page.

use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

use crate::domain::characters::is_blank;
use crate::domain::markdown::blocks::{Block, Item, List};
use crate::domain::markdown::emphasis::Mark;
use crate::domain::markdown::inlines::{Inline, parse_inlines};

pub const ALLOWED_TAGS: [&str; 12] =
    ["a", "blockquote", "br", "code", "del", "em", "li", "ol", "p", "pre", "strong", "ul"];

/// The beginning of the class of code in a language, which libraries that highlight code expect.
const LANGUAGE_CLASS: &str = "language-";

/// The number of no-break spaces that show a tab.
const TAB_SPACES: usize = 4;

/// An HTML comment that divides long texts.
///
/// The sanitizer removes it.
///
/// For each character that it escapes, the sanitizer's serializer scans the rest of the text, which takes quadratic
/// time unless the text is short.
const SENTINEL: &str = "<!---->";
/// The number of characters of text between two sentinels.
const SENTINEL_INTERVAL_CHARS: usize = 256;

/// The allow-list for the writer's output.
static SANITIZER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut sanitizer = Builder::empty();
    sanitizer
        .tags(ALLOWED_TAGS.into())
        .tag_attributes(
            [("a", ["href"].into()), ("code", ["class"].into()), ("li", ["value"].into()), ("ol", ["start"].into())]
                .into(),
        )
        .generic_attributes([].into())
        .attribute_filter(|_, attribute, value| {
            (attribute != "class" || is_language_class(value)).then(|| value.into())
        })
        .url_schemes(["http", "https", "mailto"].into())
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("nofollow noopener noreferrer"));
    sanitizer
});

fn is_language_class(class: &str) -> bool {
    class.starts_with(LANGUAGE_CLASS) && class.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Removes everything that the allow-list does not have.
pub fn sanitize(html: &str) -> String {
    SANITIZER.clean(html).to_string()
}

/// Writes the HTML of blocks.
#[derive(Default)]
pub struct HtmlWriter {
    html: String,
    /// True if the HTML has any text to show.
    has_visible_text: bool,
    /// The number of open marks of each kind, of which the outermost is written.
    open_marks: [usize; 3],
    /// The number of open links, of which the outermost is written.
    open_links: usize,
    /// The blanks since the last other character of the line.
    blanks: usize,
    is_line_start: bool,
    /// The number of characters of text since the last sentinel.
    chars_since_sentinel: usize,
}

impl HtmlWriter {
    /// Returns the HTML, unless it shows nothing.
    pub fn finish(self) -> Option<String> {
        self.has_visible_text.then_some(self.html)
    }

    pub fn write_blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.write_block(block);
        }
    }

    /// Writes a text as a paragraph without markup.
    pub fn write_as_written(&mut self, text: &str) {
        self.write_element("<p>", "</p>", |writer| {
            writer.start_line();
            writer.write_code(text.trim());
        });
    }

    fn write_block(&mut self, block: &Block) {
        match block {
            Block::Paragraph(lines) => self.write_element("<p>", "</p>", |writer| writer.write_lines(lines)),
            Block::Heading(text) => {
                self.write_element("<p><strong>", "</strong></p>", |writer| writer.write_lines(&[text]));
            }
            Block::Code { language, lines } => self.write_code_block(*language, lines),
            Block::Quote(blocks) => {
                self.write_element("<blockquote>", "</blockquote>", |writer| writer.write_blocks(blocks));
            }
            Block::List(list) => self.write_list(list),
        }
    }

    fn write_element(&mut self, start: &str, end: &str, write: impl FnOnce(&mut Self)) {
        self.html.push_str(start);
        write(self);
        self.html.push_str(end);
    }

    fn write_code_block(&mut self, language: Option<&str>, lines: &[&str]) {
        let class = language.map(|language| format!(" class=\"{LANGUAGE_CLASS}{language}\""));
        let start = format!("<pre><code{}>", class.unwrap_or_default());
        self.write_element(&start, "</code></pre>", |writer| {
            for character in lines.iter().flat_map(|line| line.chars().chain(['\n'])) {
                writer.write_char(character);
            }
            writer.has_visible_text |= lines.iter().any(|line| !is_blank(line));
        });
    }

    fn write_list(&mut self, list: &List) {
        let first = list.items.first().map_or(0, |item| item.number);
        let (start, end) = match (list.is_numbered, first) {
            (false, _) => ("<ul>", "</ul>"),
            (true, 1) => ("<ol>", "</ol>"),
            (true, first) => (&*format!("<ol start=\"{first}\">"), "</ol>"),
        };
        self.write_element(start, end, |writer| {
            let mut next_number = first;
            for item in &list.items {
                let start = match list.is_numbered && item.number != next_number {
                    true => &format!("<li value=\"{}\">", item.number),
                    false => "<li>",
                };
                writer.write_element(start, "</li>", |writer| writer.write_item(item, list.is_loose));
                next_number = item.number + 1;
            }
        });
    }

    fn write_item(&mut self, item: &Item, is_loose: bool) {
        for block in &item.blocks {
            match block {
                Block::Paragraph(lines) if !is_loose => self.write_lines(lines),
                block => self.write_block(block),
            }
        }
    }

    fn write_lines(&mut self, lines: &[&str]) {
        self.start_line();
        let text = lines.join("\n");
        for inline in parse_inlines(&text) {
            match inline {
                Inline::Text(text) => self.write_text(&text),
                Inline::Code(code) => {
                    self.write_tag("<code>");
                    self.write_code(code);
                    self.write_tag("</code>");
                }
                Inline::LineBreak => self.break_line(),
                Inline::Open(mark) => self.open_mark(mark),
                Inline::Close(mark) => self.close_mark(mark),
                Inline::OpenLink(url) => self.open_link(&url),
                Inline::CloseLink => self.close_link(),
            }
        }
        // Blanks at the end show nothing.
        self.blanks = 0;
    }

    fn write_code(&mut self, code: &str) {
        for (index, line) in code.split('\n').enumerate() {
            if index > 0 {
                self.break_line();
            }
            self.write_text(line);
        }
    }

    fn start_line(&mut self) {
        self.blanks = 0;
        self.is_line_start = true;
    }

    fn break_line(&mut self) {
        self.html.push_str("<br>");
        self.start_line();
    }

    /// Opens a mark, unless the same mark is open.
    fn open_mark(&mut self, mark: Mark) {
        self.open_marks[mark as usize] += 1;
        if self.open_marks[mark as usize] == 1 {
            self.write_tag(match mark {
                Mark::Emphasis => "<em>",
                Mark::Strong => "<strong>",
                Mark::Strikethrough => "<del>",
            });
        }
    }

    fn close_mark(&mut self, mark: Mark) {
        self.open_marks[mark as usize] -= 1;
        if self.open_marks[mark as usize] == 0 {
            self.write_tag(match mark {
                Mark::Emphasis => "</em>",
                Mark::Strong => "</strong>",
                Mark::Strikethrough => "</del>",
            });
        }
    }

    fn open_link(&mut self, url: &str) {
        self.open_links += 1;
        if self.open_links == 1 {
            self.write_tag("<a href=\"");
            escape(&mut self.html, url);
            self.html.push_str("\">");
        }
    }

    fn close_link(&mut self) {
        self.open_links -= 1;
        if self.open_links == 0 {
            self.write_tag("</a>");
        }
    }

    fn write_tag(&mut self, tag: &str) {
        self.write_blanks();
        self.html.push_str(tag);
    }

    /// Writes text in which all blanks are shown, although HTML shows several blanks as one.
    fn write_text(&mut self, text: &str) {
        self.has_visible_text |= !is_blank(text);
        for character in text.chars() {
            match character {
                ' ' => self.blanks += 1,
                '\t' => self.blanks += TAB_SPACES,
                _ => {
                    self.write_blanks();
                    self.is_line_start = false;
                    self.write_char(character);
                }
            }
        }
    }

    /// Writes the blanks before other text as no-break spaces, except one at which a line may end.
    fn write_blanks(&mut self) {
        let ordinary = usize::from(self.blanks > 0 && !self.is_line_start);
        for _ in ordinary..std::mem::take(&mut self.blanks) {
            self.write_char('\u{a0}');
        }
        if ordinary > 0 {
            self.write_char(' ');
        }
    }

    fn write_char(&mut self, character: char) {
        if self.chars_since_sentinel == SENTINEL_INTERVAL_CHARS {
            self.html.push_str(SENTINEL);
            self.chars_since_sentinel = 0;
        }
        escape_character(&mut self.html, character);
        self.chars_since_sentinel += 1;
    }
}

/// Appends a text to HTML, escaped for elements and for quoted attributes.
pub fn escape(html: &mut String, text: &str) {
    for character in text.chars() {
        escape_character(html, character);
    }
}

fn escape_character(html: &mut String, character: char) {
    match character {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        _ => html.push(character),
    }
}
