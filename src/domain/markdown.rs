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

const TAGS: [&str; 12] = ["a", "blockquote", "br", "code", "del", "em", "li", "ol", "p", "pre", "strong", "ul"];

/// How long an address may be that a link goes to, in bytes.
const MAX_ADDRESS: usize = 2_048;

/// What divides a long text, every so many characters. It is a comment, and the second net takes it out. What writes
/// HTML there looks at the rest of a text anew for each character that it escapes, and a rest shouldn't be long.
const SEAM: &str = "<!---->";
const SEAM_EVERY: usize = 256;

/// With what is behind the scheme, since a browser reads `https:evil` as an address within the page's own site.
const ADDRESSES: [&str; 3] = ["http://", "https://", "mailto:"];

/// The characters of Markdown's marks that addresses have too, and what each is behind while Markdown is read.
/// No text may have these substitutes: Unicode keeps them for a program's own use.
const SHIELDS: [(char, char); 3] = [('*', '\u{fdd0}'), ('_', '\u{fdd1}'), ('~', '\u{fdd2}')];

/// The second net.
static ALLOWED: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut allowed = Builder::empty();
    allowed
        .tags(TAGS.into())
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
pub fn html(text: &str) -> String {
    let shielded = shielded(text);
    let mut page = Page::default();
    for event in TextMergeStream::new(Parser::new_ext(&shielded, Options::ENABLE_STRIKETHROUGH)) {
        page.take(event);
    }
    if !page.shows {
        page = Page::plain(text);
    }
    ALLOWED.clean(&page.html).to_string()
}

/// Appends a text so that it is nothing but text, within an element and within a quoted attribute.
pub(super) fn escape(html: &mut String, text: &str) {
    for character in text.chars() {
        push(html, character);
    }
}

fn push(html: &mut String, character: char) {
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
    Quote,
    Bullets,
    Numbers,
    Item,
    Emphasis,
    Strong,
    Strike,
    Link,
}

impl Element {
    fn end(self) -> &'static str {
        match self {
            Self::Paragraph => "</p>",
            Self::Heading => "</strong></p>",
            Self::CodeBlock => "</code></pre>",
            Self::Quote => "</blockquote>",
            Self::Bullets => "</ul>",
            Self::Numbers => "</ol>",
            Self::Item => "</li>",
            Self::Emphasis => "</em>",
            Self::Strong => "</strong>",
            Self::Strike => "</del>",
            Self::Link => "</a>",
        }
    }

    fn nests(self) -> bool {
        matches!(self, Self::Quote | Self::Bullets | Self::Numbers)
    }
}

/// The HTML as far as it is written.
#[derive(Default)]
struct Page {
    html: String,
    /// Something of the text is to be seen.
    shows: bool,
    /// What Markdown has open, from the outside: whether it was written, or left out.
    open: Vec<bool>,
    /// What is written and open. It is short, however deep the text is.
    elements: Vec<Element>,
    /// Where the open link goes, and where its text begins.
    link: Option<(String, usize)>,
    /// Characters of text since the last seam.
    run: usize,
}

impl Page {
    fn plain(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.trim().lines() {
            page.html.push_str(if page.html.is_empty() { "<p>" } else { "<br>" });
            page.prose(line);
        }
        page
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(_) => self.end(),
            Event::Text(text) if self.elements.last() == Some(&Element::CodeBlock) => self.text(&unshielded(&text)),
            Event::Text(text) => self.prose(&unshielded(&text)),
            Event::Code(code) => self.code(&unshielded(&code)),
            Event::Html(tag) | Event::InlineHtml(tag) => self.lines(&unshielded(&tag)),
            Event::SoftBreak | Event::HardBreak => self.html.push_str("<br>"),
            // A rule says nothing, and the others are of extensions that are off.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag) {
        let written = match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.write(Element::Paragraph, "<p>"),
            Tag::Heading { .. } => self.write(Element::Heading, "<p><strong>"),
            Tag::CodeBlock(_) => self.write(Element::CodeBlock, "<pre><code>"),
            Tag::BlockQuote(_) => self.nest(Element::Quote, "<blockquote>"),
            Tag::List(None) => self.nest(Element::Bullets, "<ul>"),
            Tag::List(Some(1)) => self.nest(Element::Numbers, "<ol>"),
            Tag::List(Some(first)) => self.nest(Element::Numbers, &format!("<ol start=\"{first}\">")),
            Tag::Item => self.item(),
            Tag::Emphasis => self.mark(Element::Emphasis, "<em>"),
            Tag::Strong => self.mark(Element::Strong, "<strong>"),
            Tag::Strikethrough => self.mark(Element::Strike, "<del>"),
            Tag::Link { link_type: LinkType::Email, dest_url, .. } => {
                self.link(&format!("mailto:{}", unshielded(&dest_url)))
            }
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => self.link(&unshielded(&dest_url)),
            _ => false,
        };
        self.open.push(written);
    }

    fn end(&mut self) {
        if self.open.pop() != Some(true) {
            return;
        }
        self.name_link();
        self.trim_breaks();
        if let Some(element) = self.elements.pop() {
            self.html.push_str(element.end());
        }
    }

    /// Each of these says whether it wrote the element.
    fn write(&mut self, element: Element, start: &str) -> bool {
        self.html.push_str(start);
        self.elements.push(element);
        true
    }

    fn nest(&mut self, element: Element, start: &str) -> bool {
        self.elements.iter().filter(|element| element.nests()).count() < MAX_DEPTH && self.write(element, start)
    }

    /// An item is as its list; those of a list that was left out are lines.
    fn item(&mut self) -> bool {
        if self.open.last() == Some(&true) {
            return self.write(Element::Item, "<li>");
        }
        if !["<li>", "<br>", "</p>"].iter().any(|end| self.html.ends_with(end)) {
            self.html.push_str("<br>");
        }
        false
    }

    /// A mark within the same mark says nothing new.
    fn mark(&mut self, element: Element, start: &str) -> bool {
        !self.elements.contains(&element) && self.write(element, start)
    }

    /// There are no links within links, and none to where no link may go.
    fn link(&mut self, address: &str) -> bool {
        if self.link.is_some() || !is_safe(address) {
            return false;
        }
        self.html.push_str("<a href=\"");
        escape(&mut self.html, address);
        self.link = Some((address.to_owned(), self.html.len() + "\">".len()));
        self.write(Element::Link, "\">")
    }

    /// At the end of a link: one without a text, as an image without a description, shows where it goes.
    fn name_link(&mut self) {
        if self.elements.last() == Some(&Element::Link)
            && let Some((address, start)) = self.link.take()
            && self.html.len() == start
        {
            self.text(&address);
        }
    }

    /// A block of HTML ends with a new line that is none of a paragraph.
    fn trim_breaks(&mut self) {
        while self.elements.last() == Some(&Element::Paragraph) && self.html.ends_with("<br>") {
            self.html.truncate(self.html.len() - "<br>".len());
        }
    }

    fn code(&mut self, code: &str) {
        self.html.push_str("<code>");
        self.text(code);
        self.html.push_str("</code>");
    }

    fn lines(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.html.push_str("<br>");
            }
            self.prose(line);
        }
    }

    /// Text in which addresses are links, unless it is within one.
    fn prose(&mut self, text: &str) {
        let mut at = 0;
        for address in addresses(text) {
            self.text(&text[at..address.start]);
            at = address.end;
            let address = &text[address];
            let written = self.link(address);
            self.open.push(written);
            self.text(address);
            self.end();
        }
        self.text(&text[at..]);
    }

    fn text(&mut self, text: &str) {
        self.shows |= text.contains(|character: char| !character.is_whitespace());
        for character in text.chars() {
            if self.run == SEAM_EVERY {
                self.html.push_str(SEAM);
                self.run = 0;
            }
            push(&mut self.html, character);
            self.run += 1;
        }
    }
}

/// Whether a link may go there.
fn is_safe(address: &str) -> bool {
    let begins = |with: &str| address.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    address.len() <= MAX_ADDRESS
        && ADDRESSES.into_iter().any(begins)
        && !address.contains(char::is_control)
        && Url::parse(address).is_ok()
}

/// The bare addresses within a text, without the marks around them (`**https://example.com**`).
fn addresses(text: &str) -> Vec<Range<usize>> {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]);
    finder
        .links(text)
        .map(|link| link.start()..link.start() + link.as_str().trim_end_matches(['*', '_', '~']).len())
        .filter(|range| is_safe(&text[range.clone()]))
        .collect()
}

/// The text with its bare addresses shielded from Markdown, which would take `__init__` in one for a mark.
/// What is escaped is left so: a substitute would turn the backslash into a character of the address.
fn shielded(text: &str) -> String {
    let mut shielded = String::with_capacity(text.len());
    let mut at = 0;
    for address in addresses(text) {
        shielded.extend(text[at..address.start].chars().map(unforged));
        at = address.end;
        let mut before = None;
        for character in text[address].chars() {
            shielded.push(if before == Some('\\') { unforged(character) } else { shield(character) });
            before = Some(character);
        }
    }
    shielded.extend(text[at..].chars().map(unforged));
    shielded
}

fn shield(character: char) -> char {
    SHIELDS.iter().find(|(mark, _)| *mark == character).map_or(unforged(character), |(_, substitute)| *substitute)
}

/// A substitute that was in the text from the start isn't one.
fn unforged(character: char) -> char {
    let forged = SHIELDS.iter().any(|(_, substitute)| *substitute == character);
    if forged { char::REPLACEMENT_CHARACTER } else { character }
}

fn unshielded(text: &str) -> Cow<'_, str> {
    if !text.contains(SHIELDS.map(|(_, substitute)| substitute)) {
        return Cow::Borrowed(text);
    }
    let mark = |character| SHIELDS.iter().find(|(_, substitute)| *substitute == character).map(|(mark, _)| *mark);
    text.chars().map(|character| mark(character).unwrap_or(character)).collect()
}

#[cfg(test)]
mod tests;
