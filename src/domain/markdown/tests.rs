//! Tests of the rendered HTML and of the sanitizer on its own.

use crate::domain::markdown::addresses::{MAX_URL_BYTES, URL_PREFIXES};
use crate::domain::markdown::html::{ALLOWED_TAGS, sanitize};
use crate::domain::markdown::{plain_text, render_html};

mod hostile;
mod preservation;
mod scripts;

const REL: &str = " rel=\"nofollow noopener noreferrer\"";

/// Asserts that HTML has only allowed tags, attributes, URLs and nestings, and returns its depth.
fn assert_strict_html(html: &str) -> usize {
    let mut open: Vec<&str> = Vec::new();
    let mut max_depth = 0;
    for (index, part) in html.split('<').enumerate() {
        if index == 0 {
            assert!(!part.contains('>'), "{html}");
            continue;
        }
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {html}"));
        assert!(!text.contains('>'), "{html}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{html}");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(ALLOWED_TAGS.contains(&name), "<{tag}>: {html}");
        match name {
            "a" => assert_safe_href(tag, html),
            "ol" if !attributes.is_empty() => assert_number(attributes, "start", html),
            "li" if !attributes.is_empty() => assert_number(attributes, "value", html),
            "code" if !attributes.is_empty() => {
                let language = attribute(attributes, "class").and_then(|class| class.strip_prefix("language-"));
                assert!(language.is_some_and(|language| !language.contains(['"', ' ', '<', '&'])), "<{tag}>: {html}");
            }
            _ => assert_eq!(attributes, "", "<{tag}>: {html}"),
        }
        if name != "br" {
            assert!(name != "a" || !open.contains(&"a"), "a link in a link: {html}");
            open.push(name);
            max_depth = max_depth.max(open.len());
        }
    }
    assert!(open.is_empty(), "{open:?} left open: {html}");
    max_depth
}

fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    attributes.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')
}

fn assert_number(attributes: &str, name: &str, html: &str) {
    let number = attribute(attributes, name);
    assert!(number.is_some_and(|number| number.parse::<u32>().is_ok()), "{attributes}: {html}");
}

fn assert_safe_href(tag: &str, html: &str) {
    let url = tag.strip_prefix("a href=\"").and_then(|rest| rest.strip_suffix(REL)?.strip_suffix('"'));
    let url = url.unwrap_or_else(|| panic!("<{tag}>: {html}"));
    assert!(!url.contains(['"', '\n', '\t', '\0']), "{html}");
    let url = url.replace("&amp;", "&").to_ascii_lowercase();
    assert!(URL_PREFIXES.iter().any(|prefix| url.starts_with(prefix)), "{url}: {html}");
}

fn link(url: &str, text: &str) -> String {
    format!("<a href=\"{url}\"{REL}>{text}</a>")
}

#[track_caller]
fn assert_renders(text: &str, expected: impl AsRef<str>) {
    let html = render_html(text);
    assert_strict_html(&html);
    assert_eq!(html, expected.as_ref(), "{text:?}");
}

#[test]
fn inline_markup_becomes_elements() {
    assert_renders("*a* _b_", "<p><em>a</em> <em>b</em></p>");
    assert_renders("**a** __b__", "<p><strong>a</strong> <strong>b</strong></p>");
    assert_renders("~~a~~ ~b~", "<p><del>a</del> <del>b</del></p>");
    assert_renders("***a* b**", "<p><strong><em>a</em> b</strong></p>");
    assert_renders("`a *b* <c>`", "<p><code>a *b* &lt;c&gt;</code></p>");
    assert_renders("``a`b``", "<p><code>a`b</code></p>");
    assert_renders(r"\*a\* 2 * 3 * 4, snake_case_name", "<p>*a* 2 * 3 * 4, snake_case_name</p>");
    assert_renders("a*b*c **🎉**d", "<p>a<em>b</em>c <strong>🎉</strong>d</p>");
}

#[test]
fn markup_within_same_markup_is_left_out() {
    assert_renders("*a **b *c* d** e*", "<p><em>a <strong>b c d</strong> e</em></p>");
}

#[test]
fn line_breaks_are_kept_and_empty_lines_start_paragraphs() {
    assert_renders("a\nb  \nc\\\nd", "<p>a<br>b<br>c\\<br>d</p>");
    assert_renders("a\rb\r\rc", "<p>a<br>b</p><p>c</p>");
    assert_renders("a\r\nb\r\n\r\nc", "<p>a<br>b</p><p>c</p>");
}

#[test]
fn code_blocks_keep_their_text_and_name_their_language() {
    assert_renders(
        "```rust\nlet *a* = \"<b>\";\n\n  b\n```",
        "<pre><code class=\"language-rust\">let *a* = \"&lt;b&gt;\";\n\n  b\n</code></pre>",
    );
    assert_renders("```C++\na\n```", "<pre><code class=\"language-C++\">a\n</code></pre>");
    assert_renders("~~~\na\n~~~", "<pre><code>a\n</code></pre>");
    assert_renders("```\n\n  https://example.com\n", "<pre><code>\n  https://example.com\n</code></pre>");
    assert_renders("a\n```\n\tb\n```\nc", "<p>a</p><pre><code>\tb\n</code></pre><p>c</p>");
}

#[test]
fn text_after_a_fence_that_names_no_language_is_code() {
    for text in ["\"><script>", "let a = 1;", "日本語", &"a".repeat(33)] {
        let shown = text.replace('<', "&lt;").replace('>', "&gt;");
        assert_renders(&format!("```{text}\nb\n```"), format!("<pre><code>{shown}\nb\n</code></pre>"));
    }
    assert_renders("```a b\nc```\nd", "<pre><code>a b\nc\n</code></pre><p>d</p>");
}

#[test]
fn indented_lines_are_text_with_their_blanks() {
    assert_renders("def f():\n    return 1", "<p>def f():<br>&nbsp;&nbsp;&nbsp;&nbsp;return 1</p>");
    assert_renders("    # a\n    - b\n\tc", {
        let indented = |text| format!("&nbsp;&nbsp;&nbsp;&nbsp;{text}");
        format!("<p>{}<br>{}<br>{}</p>", indented("# a"), indented("- b"), indented("c"))
    });
    assert_renders("a  b   *c*  `d  e`  ", "<p>a&nbsp; b&nbsp;&nbsp; <em>c</em>&nbsp; <code>d&nbsp; e</code></p>");
    assert_renders("- a\n    b\n- c", "<ul><li>a<br>&nbsp;&nbsp;b</li><li>c</li></ul>");
    assert_renders("1. a\n   b", "<ol><li>a<br>b</li></ol>");
}

#[test]
fn lists_are_tight_or_loose_and_nested() {
    assert_renders("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>");
    assert_renders("* a\n\n* b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>");
    assert_renders("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>");
    assert_renders("a\n- b", "<p>a</p><ul><li>b</li></ul>");
    assert_renders("- a\n- b\nc", "<ul><li>a</li><li>b</li></ul><p>c</p>");
    assert_renders("1. a\n  - b", "<ol><li>a<ul><li>b</li></ul></li></ol>");
    assert_renders("- a\n* b", "<ul><li>a</li></ul><ul><li>b</li></ul>");
}

#[test]
fn list_shows_the_numbers_as_written() {
    assert_renders("3. a\n4. b", "<ol start=\"3\"><li>a</li><li>b</li></ol>");
    assert_renders("3. a\n1. b\n2. c", "<ol start=\"3\"><li>a</li><li value=\"1\">b</li><li>c</li></ol>");
    assert_renders("1. a\n1. b", "<ol><li>a</li><li value=\"1\">b</li></ol>");
    assert_renders("0) a", "<ol start=\"0\"><li>a</li></ol>");
    for text in ["01. a", "1234567890. a", "-1. a", "1.a", "a\n2. b", "+1 a"] {
        assert_renders(text, format!("<p>{}</p>", text.replace('\n', "<br>")));
    }
}

#[test]
fn quotes_are_nested() {
    assert_renders("> a\n> b\n>> c", "<blockquote><p>a<br>b</p><blockquote><p>c</p></blockquote></blockquote>");
    assert_renders("> a\n>\n> b\n\nc", "<blockquote><p>a</p><p>b</p></blockquote><p>c</p>");
    assert_renders("> a\nb\n- c", "<blockquote><p>a<br>b</p></blockquote><ul><li>c</li></ul>");
    assert_renders("> - a\nb", "<blockquote><ul><li>a</li></ul></blockquote><p>b</p>");
}

#[test]
fn quote_needs_a_blank_after_its_marker() {
    for text in [">_<", ">:(", ">>= 1", ">a", ">>a", ">", "> ", ">>", ">.<\n>_>", "a >b"] {
        let shown = text.trim_end().replace('>', "&gt;").replace('<', "&lt;").replace('\n', "<br>");
        assert_renders(text, format!("<p>{shown}</p>"));
    }
    for text in [">\ta", ">\u{3000}a", "> a", "  > a"] {
        assert_renders(text, "<blockquote><p>a</p></blockquote>");
    }
}

#[test]
fn links_have_allowed_schemes_only() {
    assert_renders(
        "[a *b*](https://example.com/x?y=1&z=2)",
        format!("<p>{}</p>", link("https://example.com/x?y=1&amp;z=2", "a <em>b</em>")),
    );
    assert_renders("[a](HTTP://example.com)", format!("<p>{}</p>", link("HTTP://example.com", "a")));
    assert_renders("[a](mailto:a@example.com)", format!("<p>{}</p>", link("mailto:a@example.com", "a")));
    assert_renders("<a@example.com>", format!("<p>{}</p>", link("mailto:a@example.com", "a@example.com")));
    assert_renders("<https://example.com>", format!("<p>{}</p>", link("https://example.com", "https://example.com")));
    assert_renders("[a]( <https://example.com/(b> )", format!("<p>{}</p>", link("https://example.com/(b", "a")));
    let escaped = format!("<p>{}</p>", link("https://example.com/)_b", "a"));
    assert_renders(r"[a](https://example.com/\)\_b)", escaped);
    // Links that are not valid are shown as they were written.
    for url in ["/a", "//example.com", "a.html", "#a", "ftp://example.com", "https:a", "https://", "tel:1", ""] {
        assert_renders(&format!("[*a*]({url})"), format!("<p>[<em>a</em>]({url})</p>"));
    }
    let long = format!("[a](https://example.com/{})", "b".repeat(MAX_URL_BYTES));
    assert_renders(&long, format!("<p>{long}</p>"));
    assert_renders("[a]: /b\n[a] [a][a]", "<p>[a]: /b<br>[a] [a][a]</p>");
    assert_renders("[a](https://example.com \"b\")", {
        format!("<p>[a]({} \"b\")</p>", link("https://example.com", "https://example.com"))
    });
}

#[test]
fn link_whose_text_is_another_address_is_shown_as_written() {
    let evil = link("https://evil.com", "https://evil.com");
    let good = link("https://good.com", "https://good.com");
    assert_renders("[https://good.com](https://evil.com)", format!("<p>[{good}]({evil})</p>"));
    assert_renders("[*good*.com](https://evil.com)", format!("<p>[<em>good</em>.com]({evil})</p>"));
    for text in [
        "good.com",
        "GOOD.com/login",
        "pay at good.com now",
        "good\u{200b}.com",
        "ｇｏｏｄ．ｃｏｍ",
        "good․com",
        "пример.рф",
        "10.0.0.1",
        "\u{202e}moc.live",
        "evil.com good.com",
        "`good.com`",
    ] {
        let html = render_html(&format!("[{text}](https://evil.com)"));
        assert!(html.ends_with(&format!("]({evil})</p>")), "{html}");
    }
    for (text, url) in [
        ("https://evil.com", "https://evil.com/"),
        ("evil.com", "https://www.evil.com/a/b.html"),
        ("www.evil.com", "http://evil.com"),
        ("a@evil.com", "mailto:a@evil.com"),
        ("good", "https://evil.com"),
        ("a.b, e.g. c", "https://evil.com"),
        ("пример.рф", "https://пример.рф/a"),
    ] {
        assert_renders(&format!("[{text}]({url})"), format!("<p>{}</p>", link(url, text)));
    }
    let mail = link("mailto:a@good.com", "a@good.com");
    assert_renders("[a@good.com](mailto:b@evil.com)", {
        format!("<p>[{mail}](mailto:{})</p>", link("mailto:b@evil.com", "b@evil.com"))
    });
}

#[test]
fn link_without_text_shows_its_url() {
    let url = "https://example.com/?a&amp;b";
    assert_renders("[](https://example.com/?a&b)", format!("<p>{}</p>", link(url, url)));
    assert_renders("![](https://example.com/?a&b)", format!("<p>{}</p>", link(url, url)));
}

#[test]
fn image_becomes_a_link() {
    assert_renders(
        "![a *b*](https://example.com/c.png)",
        format!("<p>{}</p>", link("https://example.com/c.png", "a <em>b</em>")),
    );
    assert_renders(
        "[![a](https://example.com/b.png)](https://example.org)",
        format!(
            "<p>[{}]({})</p>",
            link("https://example.com/b.png", "a"),
            link("https://example.org", "https://example.org")
        ),
    );
    assert_renders(
        "![a [b](https://example.org)](https://example.com)",
        format!(
            "<p>![a {}]({})</p>",
            link("https://example.org", "b"),
            link("https://example.com", "https://example.com")
        ),
    );
    assert_renders("![a](data:image/png;base64,AAAA)", "<p>![a](data:image/png;base64,AAAA)</p>");
}

#[test]
fn bare_urls_become_links_except_in_code_and_links() {
    let example = link("https://example.com/a", "https://example.com/a");
    assert_renders("see https://example.com/a.", format!("<p>see {example}.</p>"));
    assert_renders("(https://example.com/a)", format!("<p>({example})</p>"));
    assert_renders("- https://example.com/a", format!("<ul><li>{example}</li></ul>"));
    assert_renders(
        "**https://example.com/a**, _https://example.com/a_",
        format!("<p><strong>{example}</strong>, <em>{example}</em></p>"),
    );
    assert_renders("`https://example.com/a`", "<p><code>https://example.com/a</code></p>");
    assert_renders("[https://example.com/a](javascript:b)", format!("<p>[{example}](javascript:b)</p>"));
    assert_renders("<https://example.com/a>", format!("<p>{example}</p>"));
    assert_renders(
        "\\<https://example.com/a> <https://example.com/a b>",
        format!("<p>&lt;{example}&gt; &lt;{example} b&gt;</p>"),
    );
    for text in ["example.com", "ftp://example.com", "ahttps://example.com", "https://", "www.a", "awww.example.com"] {
        assert_renders(text, format!("<p>{text}</p>"));
    }
}

#[test]
fn hosts_and_mail_addresses_become_links() {
    let www = link("https://www.example.com/a", "www.example.com/a");
    let mail = link("mailto:first_last+b@example.co.uk", "first_last+b@example.co.uk");
    assert_renders("(www.example.com/a), **www.example.com/a**", format!("<p>({www}), <strong>{www}</strong></p>"));
    assert_renders("first_last+b@example.co.uk.", format!("<p>{mail}.</p>"));
    assert_renders("mail:first_last+b@example.co.uk, `a@b.com`", format!("<p>mail:{mail}, <code>a@b.com</code></p>"));
    for text in ["a@b", "@a.com", "a@b.c", "a@b..com", "@user@example.com", "josé@example.com", "joséf@example.com"] {
        assert_renders(text, format!("<p>{text}</p>"));
    }
    let long = format!("{}@example.com", "a".repeat(65));
    assert_renders(&long, format!("<p>{long}</p>"));
}

#[test]
fn url_keeps_characters_of_markdown_syntax() {
    for url in [
        "https://example.com/a/__init__.py",
        "https://example.com/~a/b~c",
        "https://example.com/_a_/*b*/c",
        "https://example.com/Foo_(bar)_baz",
    ] {
        assert_renders(url, format!("<p>{}</p>", link(url, url)));
        assert_renders(&format!("*a* {url} _b_"), format!("<p><em>a</em> {} <em>b</em></p>", link(url, url)));
        assert_renders(&format!("[a]({url})"), format!("<p>{}</p>", link(url, "a")));
        assert_renders(&format!("`{url}`"), format!("<p><code>{url}</code></p>"));
        assert_renders(&format!("<{url}>"), format!("<p>{}</p>", link(url, url)));
    }
    let plain = "https://example.com/_a";
    assert_renders(r"https://example.com/\_a", format!("<p>{}</p>", link(plain, plain)));
}

#[test]
fn headings_become_strong_paragraphs() {
    assert_renders("# a *b*\nc", "<p><strong>a <em>b</em></strong></p><p>c</p>");
    for text in ["a\n===", "a\n---", "a\n-", "#a", "####### a", "# ", r"C\# a"] {
        assert_renders(text, format!("<p>{}</p>", text.trim_end().replace('\n', "<br>")));
    }
    assert_renders("# C #", "<p><strong>C #</strong></p>");
}

#[test]
fn html_is_shown_as_text() {
    assert_renders("<b>a</b> &lt;i&gt; &amp;", "<p>&lt;b&gt;a&lt;/b&gt; &amp;lt;i&amp;gt; &amp;amp;</p>");
    assert_renders("<div>\n*a*\n</div>", "<p>&lt;div&gt;<br><em>a</em><br>&lt;/div&gt;</p>");
    assert_renders("<!-- a -->", "<p>&lt;!-- a --&gt;</p>");
    assert_renders("<!---->", "<p>&lt;!----&gt;</p>");
}

#[test]
fn rules_tables_and_footnotes_are_not_rendered() {
    assert_renders("a\n\n---\n\nb", "<p>a</p><p>---</p><p>b</p>");
    assert_renders("***\n- - -\n_ _ _", "<p>***</p><ul><li><ul><li>-</li></ul></li></ul><p>_ _ _</p>");
    assert_renders("|a|b|\n|-|-|\n|c|d|", "<p>|a|b|<br>|-|-|<br>|c|d|</p>");
    assert_renders("a[^1]\n\n[^1]: b c", "<p>a[^1]</p><p>[^1]: b c</p>");
    assert_renders("- [ ] a", "<ul><li>[ ] a</li></ul>");
}

#[test]
fn text_without_rendered_content_is_shown_as_written() {
    for text in ["---", "1.", "-", "+", "#", "***", "```", "[a]: /b", "**", "` `", "```rust", "**\u{200b}**", "[]()"] {
        assert_renders(text, format!("<p>{text}</p>"));
    }
    assert_renders(">\n\n>", "<p>&gt;</p><p>&gt;</p>");
    assert_renders("", "");
    assert_renders(" \n ", "");
}

#[test]
fn other_characters_are_unchanged() {
    assert_renders("© ½ « · é 日本 👩‍👩‍👧 \"'", "<p>© ½ « · é 日本 👩‍👩‍👧 \"'</p>");
    assert_renders("a\u{a0}b", "<p>a&nbsp;b</p>");
}

#[test]
fn long_text_has_no_sentinels_left() {
    let text = "½ & ".repeat(1_000);
    assert_renders(&text, format!("<p>{}</p>", text.trim_end().replace('&', "&amp;")));
    let code = "½".repeat(1_000);
    assert_renders(&format!("```\n{code}\n```"), format!("<pre><code>{code}\n</code></pre>"));
}

#[test]
fn sanitizer_alone_removes_unsafe_html() {
    for (html, clean) in [
        ("<script>alert(1)</script>a", "a"),
        ("<style>a{}</style><svg onload=alert(1)>a</svg>", "a"),
        ("<p onclick=\"alert(1)\" style=\"a\" class=\"b\" id=\"c\">a</p>", "<p>a</p>"),
        ("<img src=x onerror=alert(1)>", ""),
        ("<a href=\"javascript:alert(1)\">a</a>", &format!("<a{REL}>a</a>")),
        ("<a href=\"/a\" target=\"_blank\" title=\"b\">a</a>", &format!("<a{REL}>a</a>")),
        ("<a href=\"https://example.com\" rel=\"opener\">a</a>", &link("https://example.com", "a")),
        ("<code class=\"language-rust\">a</code>", "<code class=\"language-rust\">a</code>"),
        ("<code class=\"language-a b\">a</code><code class=\"b\">a</code>", "<code>a</code><code>a</code>"),
        ("<h1>a</h1><hr><table><tr><td>b</table>", "ab"),
    ] {
        assert_eq!(sanitize(html), clean, "{html}");
    }
}

#[test]
fn backslash_keeps_a_character_from_being_markup_and_is_shown_otherwise() {
    assert_renders(r"\_a\_ \~b\~ \`c\` \[d](e)", "<p>_a_ ~b~ `c` [d](e)</p>");
    assert_renders("\\# a\n\\> b\n\\- c\n1\\. d", "<p># a<br>&gt; b<br>- c<br>1. d</p>");
    for text in [r"C:\temp\new", r"\\server\share", r"a\.b\-c\(d\)", r"a\"] {
        assert_renders(text, format!("<p>{text}</p>"));
    }
}

#[test]
fn signs_between_digits_and_within_words_are_text() {
    for text in
        ["2*3*4", "2**10 + 3**4", "10~20 and 30~40", "3~5명, 6~8명", "_a_b", "a/__init__.py", "__init__.py", "a/_b_/c"]
    {
        assert_renders(text, format!("<p>{text}</p>"));
    }
}

#[test]
fn plain_text_is_what_the_html_shows() {
    for (text, plain) in [
        ("da**m**n `co*de` ~~x~~", "damn co*de x"),
        ("# a\n> b\n> - c\n```rust\nd\n\n  e\n```\nf", "a\nb\nc\nd\n\n  e\nf"),
        ("[a *b*](https://example.com) ![](https://example.org)", "a b https://example.org"),
        (r"\*a\* &amp; <b>", "*a* &amp; <b>"),
        ("a\r\n\r\n  b", "a\n  b"),
        ("**\u{200b}**", "**\u{200b}**"),
        ("", ""),
    ] {
        assert_eq!(plain_text(text), plain, "{text:?}");
    }
}
