//! A message's text as HTML that is safe to put into a page: the part of Markdown that a chat needs, and nothing that
//! loads, runs or styles.
//!
//! Two nets hold. The renderer knows no element but its own, and escapes all that comes from the text. What it wrote
//! then goes through an allow-list that knows HTML and nothing of Markdown.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use ammonia::url::Url;
use ammonia::{Builder, UrlRelative};
use linkify::{LinkFinder, LinkKind};
use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TextMergeStream};

/// How deep quotes and lists may be within each other. Those deeper are left out and what is in them is kept, so that
/// nobody who walks the tree, here or in a browser, is led to the end of their stack.
const MAX_DEPTH: usize = 16;

const ALLOWED_TAGS: [&str; 12] = ["a", "blockquote", "br", "code", "del", "em", "li", "ol", "p", "pre", "strong", "ul"];

/// How long an address may be that a link goes to, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// What divides a long text, every so many characters. It is a comment, and the second net takes it out. What writes
/// HTML there looks at the rest of a text anew for each character that it escapes, and a rest shouldn't be long.
const SENTINEL: &str = "<!---->";
const SENTINEL_INTERVAL_CHARS: usize = 256;

/// With what is behind the scheme, since a browser reads `https:evil` as an address within the page's own site.
const URL_PREFIXES: [&str; 3] = ["http://", "https://", "mailto:"];

/// The characters of Markdown's marks that addresses have too, and what each is behind while Markdown is read.
/// No text may have these substitutes: Unicode keeps them for a program's own use.
const LINK_PLACEHOLDERS: [(char, char); 3] = [('*', '\u{fdd0}'), ('_', '\u{fdd1}'), ('~', '\u{fdd2}')];

/// The second net.
static SANITIZER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut allowed = Builder::empty();
    allowed
        .tags(ALLOWED_TAGS.into())
        .tag_attributes([("a", ["href"].into()), ("ol", ["start"].into())].into())
        .generic_attributes([].into())
        .url_schemes(["http", "https", "mailto"].into())
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("nofollow noopener noreferrer"));
    allowed
});

/// A text as safe HTML.
///
/// Emphasis, strong, strikethrough, code, links, lists, quotes and paragraphs are what they are in Markdown, and a new
/// line is a new line. A heading is a strong paragraph, an image a link to it, HTML the text that it is, and a bare
/// address a link. A text in which Markdown sees nothing to show (`---`, `1.`) is shown as it was written.
pub fn render_html(text: &str) -> String {
    let shielded = mask_links(text);
    let mut page = HtmlWriter::default();
    for event in TextMergeStream::new(Parser::new_ext(&shielded, Options::ENABLE_STRIKETHROUGH)) {
        page.on_event(event);
    }
    if !page.has_visible_text {
        page = HtmlWriter::from_plain_text(text);
    }
    SANITIZER.clean(&page.html).to_string()
}

/// Appends a text so that it is nothing but text, within an element and within a quoted attribute.
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

/// The HTML as far as it is written.
#[derive(Default)]
struct HtmlWriter {
    html: String,
    /// Something of the text is to be seen.
    has_visible_text: bool,
    /// What Markdown has open, from the outside: whether it was written, or left out.
    open_tags_written: Vec<bool>,
    /// What is written and open. It is short, however deep the text is.
    open_elements: Vec<Element>,
    /// Where the open link goes, and where its text begins.
    current_link: Option<(String, usize)>,
    /// Characters of text since the last seam.
    chars_since_sentinel: usize,
}

impl HtmlWriter {
    fn from_plain_text(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.trim().lines() {
            page.html.push_str(if page.html.is_empty() { "<p>" } else { "<br>" });
            page.append_linkified(line);
        }
        page
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
            // A rule says nothing, and the others are of extensions that are off.
            _ => {}
        }
    }

    fn on_start(&mut self, tag: Tag) {
        let written = match tag {
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
        self.open_tags_written.push(written);
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

    /// Each of these says whether it wrote the element.
    fn open_element(&mut self, element: Element, start: &str) -> bool {
        self.html.push_str(start);
        self.open_elements.push(element);
        true
    }

    fn open_nested_element(&mut self, element: Element, start: &str) -> bool {
        self.open_elements.iter().filter(|element| element.is_nestable()).count() < MAX_DEPTH
            && self.open_element(element, start)
    }

    /// An item is as its list; those of a list that was left out are lines.
    fn open_list_item(&mut self) -> bool {
        if self.open_tags_written.last() == Some(&true) {
            return self.open_element(Element::ListItem, "<li>");
        }
        if !["<li>", "<br>", "</p>"].iter().any(|end| self.html.ends_with(end)) {
            self.html.push_str("<br>");
        }
        false
    }

    /// A mark within the same mark says nothing new.
    fn open_mark(&mut self, element: Element, start: &str) -> bool {
        !self.open_elements.contains(&element) && self.open_element(element, start)
    }

    /// There are no links within links, and none to where no link may go.
    fn open_link(&mut self, address: &str) -> bool {
        if self.current_link.is_some() || !is_safe_url(address) {
            return false;
        }
        self.html.push_str("<a href=\"");
        escape(&mut self.html, address);
        self.current_link = Some((address.to_owned(), self.html.len() + "\">".len()));
        self.open_element(Element::Link, "\">")
    }

    /// At the end of a link: one without a text, as an image without a description, shows where it goes.
    fn fill_empty_link(&mut self) {
        if self.open_elements.last() == Some(&Element::Link)
            && let Some((address, start)) = self.current_link.take()
            && self.html.len() == start
        {
            self.append_text(&address);
        }
    }

    /// A block of HTML ends with a new line that is none of a paragraph.
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

    /// Text in which addresses are links, unless it is within one.
    fn append_linkified(&mut self, text: &str) {
        let mut at = 0;
        for address in find_urls(text) {
            self.append_text(&text[at..address.start]);
            at = address.end;
            let address = &text[address];
            let written = self.open_link(address);
            self.open_tags_written.push(written);
            self.append_text(address);
            self.on_end();
        }
        self.append_text(&text[at..]);
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

/// Whether a link may go there.
fn is_safe_url(address: &str) -> bool {
    let begins = |with: &str| address.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    address.len() <= MAX_URL_BYTES
        && URL_PREFIXES.into_iter().any(begins)
        && !address.contains(char::is_control)
        && Url::parse(address).is_ok()
}

/// The bare addresses within a text, without the marks around them (`**https://example.com**`).
fn find_urls(text: &str) -> Vec<Range<usize>> {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]);
    finder
        .links(text)
        .map(|link| link.start()..link.start() + link.as_str().trim_end_matches(['*', '_', '~']).len())
        .filter(|range| is_safe_url(&text[range.clone()]))
        .collect()
}

/// The text with its bare addresses shielded from Markdown, which would take `__init__` in one for a mark.
/// What is escaped is left so: a substitute would turn the backslash into a character of the address.
fn mask_links(text: &str) -> String {
    let mut shielded = String::with_capacity(text.len());
    let mut at = 0;
    for address in find_urls(text) {
        shielded.extend(text[at..address.start].chars().map(replace_forged));
        at = address.end;
        let mut before = None;
        for character in text[address].chars() {
            shielded.push(if before == Some('\\') { replace_forged(character) } else { mask_char(character) });
            before = Some(character);
        }
    }
    shielded.extend(text[at..].chars().map(replace_forged));
    shielded
}

fn mask_char(character: char) -> char {
    LINK_PLACEHOLDERS
        .iter()
        .find(|(mark, _)| *mark == character)
        .map_or(replace_forged(character), |(_, substitute)| *substitute)
}

/// A substitute that was in the text from the start isn't one.
fn replace_forged(character: char) -> char {
    let forged = LINK_PLACEHOLDERS.iter().any(|(_, substitute)| *substitute == character);
    if forged { char::REPLACEMENT_CHARACTER } else { character }
}

fn restore_links(text: &str) -> Cow<'_, str> {
    if !text.contains(LINK_PLACEHOLDERS.map(|(_, substitute)| substitute)) {
        return Cow::Borrowed(text);
    }
    let mark =
        |character| LINK_PLACEHOLDERS.iter().find(|(_, substitute)| *substitute == character).map(|(mark, _)| *mark);
    text.chars().map(|character| mark(character).unwrap_or(character)).collect()
}

#[cfg(test)]
mod tests;
