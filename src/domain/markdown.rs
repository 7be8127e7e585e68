//! Rendering of a message's Markdown as HTML that is safe to insert into a page.
//!
//! Two independent layers make it safe. The renderer writes a fixed set of elements and escapes everything from the
//! text. Its output then passes a sanitizer with an allow-list, which knows HTML and nothing of Markdown. The result
//! loads, runs and styles nothing.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use ammonia::url::Url;
use ammonia::{Builder, UrlRelative};
use linkify::{LinkFinder, LinkKind};
use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TextMergeStream};

/// The maximum nesting depth of quotes and lists.
///
/// Deeper ones are left out and their content is kept, so that recursion over the tree, here or in a browser, can't
/// overflow the stack.
const MAX_DEPTH: usize = 16;

const ALLOWED_TAGS: [&str; 12] = ["a", "blockquote", "br", "code", "del", "em", "li", "ol", "p", "pre", "strong", "ul"];

/// The maximum length of a link's URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// An HTML comment that divides long texts.
///
/// The sanitizer removes it.
///
/// For each character that it escapes, the sanitizer's serializer scans the rest of the text, which takes quadratic
/// time unless the text is short.
const SENTINEL: &str = "<!---->";
/// The number of characters of text between two sentinels.
const SENTINEL_INTERVAL_CHARS: usize = 256;

/// The allowed beginnings of a URL.
///
/// They include `//`, because browsers take `https:evil` as a path of the current site.
const URL_PREFIXES: [&str; 3] = ["http://", "https://", "mailto:"];

/// Characters of Markdown syntax that occur in URLs, with their placeholders while Markdown is parsed.
///
/// The placeholders are Unicode noncharacters, which are reserved for internal use and replaced in original texts.
const LINK_PLACEHOLDERS: [(char, char); 3] = [('*', '\u{fdd0}'), ('_', '\u{fdd1}'), ('~', '\u{fdd2}')];

/// The allow-list for the renderer's output.
static SANITIZER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut sanitizer = Builder::empty();
    sanitizer
        .tags(ALLOWED_TAGS.into())
        .tag_attributes([("a", ["href"].into()), ("ol", ["start"].into())].into())
        .generic_attributes([].into())
        .url_schemes(["http", "https", "mailto"].into())
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("nofollow noopener noreferrer"));
    sanitizer
});

/// Renders a text as safe HTML.
///
/// Emphasis, strong, strikethrough, code, links, lists, quotes and paragraphs are rendered as in Markdown. Line breaks
/// are kept. A heading becomes a strong paragraph, an image a link, a bare URL a link, and HTML is shown as text. A
/// text for which Markdown renders nothing, such as `---` or `1.`, is shown as it was written.
pub fn render_html(text: &str) -> String {
    let masked = mask_links(text);
    let mut writer = HtmlWriter::default();
    for event in TextMergeStream::new(Parser::new_ext(&masked, Options::ENABLE_STRIKETHROUGH)) {
        writer.on_event(event);
    }
    if !writer.has_visible_text {
        writer = HtmlWriter::from_plain_text(text);
    }
    SANITIZER.clean(&writer.html).to_string()
}

/// Appends a text to HTML, escaped for elements and for quoted attributes.
pub(super) fn escape(html: &mut String, text: &str) {
    for character in text.chars() {
        append_escaped(html, character);
    }
}

fn append_escaped(html: &mut String, character: char) {
    match character {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        _ => html.push(character),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Paragraph,
    Heading,
    CodeBlock,
    BlockQuote,
    BulletList,
    NumberedList,
    ListItem,
    Emphasis,
    Strong,
    Strikethrough,
    Link,
}

impl Element {
    fn closing_tag(self) -> &'static str {
        match self {
            Self::Paragraph => "</p>",
            Self::Heading => "</strong></p>",
            Self::CodeBlock => "</code></pre>",
            Self::BlockQuote => "</blockquote>",
            Self::BulletList => "</ul>",
            Self::NumberedList => "</ol>",
            Self::ListItem => "</li>",
            Self::Emphasis => "</em>",
            Self::Strong => "</strong>",
            Self::Strikethrough => "</del>",
            Self::Link => "</a>",
        }
    }

    fn is_nestable(self) -> bool {
        matches!(self, Self::BlockQuote | Self::BulletList | Self::NumberedList)
    }
}

/// Writes the HTML of a Markdown document from its events.
#[derive(Default)]
struct HtmlWriter {
    html: String,
    /// Whether the HTML has any text to show.
    has_visible_text: bool,
    /// For each open element of the document, from the outermost: whether it was written.
    open_tags_written: Vec<bool>,
    /// The open elements that were written.
    ///
    /// Their number is limited, however deep the document is.
    open_elements: Vec<Element>,
    /// The URL of the open link, and the position of its text in the HTML.
    current_link: Option<(String, usize)>,
    /// The number of characters of text since the last sentinel.
    chars_since_sentinel: usize,
}

impl HtmlWriter {
    fn from_plain_text(text: &str) -> Self {
        let mut writer = Self::default();
        for line in text.trim().lines() {
            writer.html.push_str(if writer.html.is_empty() { "<p>" } else { "<br>" });
            writer.append_linkified(line);
        }
        writer
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Start(tag) => self.on_start(tag),
            Event::End(_) => self.on_end(),
            Event::Text(text) if self.open_elements.last() == Some(&Element::CodeBlock) => {
                self.append_text(&restore_links(&text))
            }
            Event::Text(text) => self.append_linkified(&restore_links(&text)),
            Event::Code(code) => self.append_code(&restore_links(&code)),
            Event::Html(tag) | Event::InlineHtml(tag) => self.append_lines(&restore_links(&tag)),
            Event::SoftBreak | Event::HardBreak => self.html.push_str("<br>"),
            // A thematic break has no text, and the other events belong to extensions that are not enabled.
            _ => {}
        }
    }

    fn on_start(&mut self, tag: Tag) {
        let is_written = match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.open_element(Element::Paragraph, "<p>"),
            Tag::Heading { .. } => self.open_element(Element::Heading, "<p><strong>"),
            Tag::CodeBlock(_) => self.open_element(Element::CodeBlock, "<pre><code>"),
            Tag::BlockQuote(_) => self.open_nested_element(Element::BlockQuote, "<blockquote>"),
            Tag::List(None) => self.open_nested_element(Element::BulletList, "<ul>"),
            Tag::List(Some(1)) => self.open_nested_element(Element::NumberedList, "<ol>"),
            Tag::List(Some(first)) => {
                self.open_nested_element(Element::NumberedList, &format!("<ol start=\"{first}\">"))
            }
            Tag::Item => self.open_list_item(),
            Tag::Emphasis => self.open_mark(Element::Emphasis, "<em>"),
            Tag::Strong => self.open_mark(Element::Strong, "<strong>"),
            Tag::Strikethrough => self.open_mark(Element::Strikethrough, "<del>"),
            Tag::Link { link_type: LinkType::Email, dest_url, .. } => {
                self.open_link(&format!("mailto:{}", restore_links(&dest_url)))
            }
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.open_link(&restore_links(&dest_url)),
            _ => false,
        };
        self.open_tags_written.push(is_written);
    }

    fn on_end(&mut self) {
        if self.open_tags_written.pop() != Some(true) {
            return;
        }
        self.fill_empty_link();
        self.trim_breaks();
        if let Some(element) = self.open_elements.pop() {
            self.html.push_str(element.closing_tag());
        }
    }

    /// Opens an element.
    ///
    /// Like the other functions that open one, it returns whether it wrote the element.
    fn open_element(&mut self, element: Element, start: &str) -> bool {
        self.html.push_str(start);
        self.open_elements.push(element);
        true
    }

    fn open_nested_element(&mut self, element: Element, start: &str) -> bool {
        self.open_elements.iter().filter(|element| element.is_nestable()).count() < MAX_DEPTH
            && self.open_element(element, start)
    }

    /// Opens a list item, or starts a line if the list was left out.
    fn open_list_item(&mut self) -> bool {
        if self.open_tags_written.last() == Some(&true) {
            return self.open_element(Element::ListItem, "<li>");
        }
        if !["<li>", "<br>", "</p>"].iter().any(|end| self.html.ends_with(end)) {
            self.html.push_str("<br>");
        }
        false
    }

    /// Opens inline markup, unless the same markup is open.
    fn open_mark(&mut self, element: Element, start: &str) -> bool {
        !self.open_elements.contains(&element) && self.open_element(element, start)
    }

    /// Opens a link, unless one is open or the URL is not allowed.
    fn open_link(&mut self, url: &str) -> bool {
        if self.current_link.is_some() || !is_safe_url(url) {
            return false;
        }
        self.html.push_str("<a href=\"");
        escape(&mut self.html, url);
        self.current_link = Some((url.to_owned(), self.html.len() + "\">".len()));
        self.open_element(Element::Link, "\">")
    }

    /// Writes the URL as the text of a link that ends without one, such as an image without a description.
    fn fill_empty_link(&mut self) {
        if self.open_elements.last() == Some(&Element::Link)
            && let Some((url, text_start)) = self.current_link.take()
            && self.html.len() == text_start
        {
            self.append_text(&url);
        }
    }

    /// Removes line breaks at the end of a paragraph, with which a block of HTML ends.
    fn trim_breaks(&mut self) {
        while self.open_elements.last() == Some(&Element::Paragraph) && self.html.ends_with("<br>") {
            self.html.truncate(self.html.len() - "<br>".len());
        }
    }

    fn append_code(&mut self, code: &str) {
        self.html.push_str("<code>");
        self.append_text(code);
        self.html.push_str("</code>");
    }

    fn append_lines(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.html.push_str("<br>");
            }
            self.append_linkified(line);
        }
    }

    /// Appends a text with its URLs as links, unless a link is open.
    fn append_linkified(&mut self, text: &str) {
        let mut appended_to = 0;
        for range in find_urls(text) {
            self.append_text(&text[appended_to..range.start]);
            appended_to = range.end;
            let url = &text[range];
            let is_written = self.open_link(url);
            self.open_tags_written.push(is_written);
            self.append_text(url);
            self.on_end();
        }
        self.append_text(&text[appended_to..]);
    }

    fn append_text(&mut self, text: &str) {
        self.has_visible_text |= text.contains(|character: char| !character.is_whitespace());
        for character in text.chars() {
            if self.chars_since_sentinel == SENTINEL_INTERVAL_CHARS {
                self.html.push_str(SENTINEL);
                self.chars_since_sentinel = 0;
            }
            append_escaped(&mut self.html, character);
            self.chars_since_sentinel += 1;
        }
    }
}

/// Returns whether a link may have this URL.
fn is_safe_url(url: &str) -> bool {
    let has_prefix = |prefix: &str| url.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    url.len() <= MAX_URL_BYTES
        && URL_PREFIXES.into_iter().any(has_prefix)
        && !url.contains(char::is_control)
        && Url::parse(url).is_ok()
}

/// Returns the ranges of the bare URLs in a text.
///
/// They exclude markup at the end, as in `**https://example.com**`.
fn find_urls(text: &str) -> Vec<Range<usize>> {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]);
    finder
        .links(text)
        .map(|link| link.start()..link.start() + link.as_str().trim_end_matches(['*', '_', '~']).len())
        .filter(|range| is_safe_url(&text[range.clone()]))
        .collect()
}

/// Returns a text with placeholders for the characters of Markdown syntax in its bare URLs.
///
/// Markdown would take `__init__` in a URL for markup.
///
/// A character after a backslash stays: with a placeholder the backslash would become a character of the URL.
fn mask_links(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut masked_to = 0;
    for range in find_urls(text) {
        masked.extend(text[masked_to..range.start].chars().map(replace_forged));
        masked_to = range.end;
        let mut previous = None;
        for character in text[range].chars() {
            masked.push(if previous == Some('\\') { replace_forged(character) } else { mask_char(character) });
            previous = Some(character);
        }
    }
    masked.extend(text[masked_to..].chars().map(replace_forged));
    masked
}

fn mask_char(character: char) -> char {
    LINK_PLACEHOLDERS
        .iter()
        .find(|(syntax, _)| *syntax == character)
        .map_or(replace_forged(character), |(_, placeholder)| *placeholder)
}

/// Replaces a placeholder that was in the original text.
fn replace_forged(character: char) -> char {
    let is_placeholder = LINK_PLACEHOLDERS.iter().any(|(_, placeholder)| *placeholder == character);
    if is_placeholder { char::REPLACEMENT_CHARACTER } else { character }
}

/// Returns a part of a masked text without placeholders.
fn restore_links(text: &str) -> Cow<'_, str> {
    if !text.contains(LINK_PLACEHOLDERS.map(|(_, placeholder)| placeholder)) {
        return Cow::Borrowed(text);
    }
    let restore = |character| {
        LINK_PLACEHOLDERS
            .iter()
            .find(|(_, placeholder)| *placeholder == character)
            .map_or(character, |(syntax, _)| *syntax)
    };
    text.chars().map(restore).collect()
}

#[cfg(test)]
mod tests;
