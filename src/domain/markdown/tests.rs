//! Tests of the rendered HTML, of hostile texts, and of the sanitizer on its own.

use proptest::prelude::*;

use crate::domain::markdown::*;

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
            "ol" if !attributes.is_empty() => {
                let start = attributes.strip_prefix("start=\"").and_then(|start| start.strip_suffix('"'));
                assert!(start.is_some_and(|start| start.parse::<u64>().is_ok()), "<{tag}>: {html}");
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
}

#[test]
fn markup_within_same_markup_is_left_out() {
    assert_renders("*a **b *c* d** e*", "<p><em>a <strong>b c d</strong> e</em></p>");
}

#[test]
fn line_breaks_are_kept_and_empty_lines_start_paragraphs() {
    assert_renders("a\nb  \nc\\\nd", "<p>a<br>b<br>c<br>d</p>");
    assert_renders("a\r\nb\r\n\r\nc", "<p>a<br>b</p><p>c</p>");
}

#[test]
fn code_blocks_keep_their_text_and_have_no_class() {
    assert_renders(
        "```rust\nlet *a* = \"<b>\";\n\n  b\n```",
        "<pre><code>let *a* = \"&lt;b&gt;\";\n\n  b\n</code></pre>",
    );
    assert_renders("~~~\na\n~~~", "<pre><code>a\n</code></pre>");
    assert_renders("    a\n    b", "<pre><code>a\nb</code></pre>");
    assert_renders("```\n\n  https://example.com\n", "<pre><code>\n  https://example.com\n</code></pre>");
}

#[test]
fn lists_are_tight_or_loose_and_nested() {
    assert_renders("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>");
    assert_renders("* a\n\n* b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>");
    assert_renders("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>");
    assert_renders("3. a\n1. b", "<ol start=\"3\"><li>a</li><li>b</li></ol>");
    assert_renders("a\n- b", "<p>a</p><ul><li>b</li></ul>");
}

#[test]
fn quotes_are_nested() {
    assert_renders("> a\n> b\n>> c", "<blockquote><p>a<br>b</p><blockquote><p>c</p></blockquote></blockquote>");
}

#[test]
fn links_have_allowed_schemes_only() {
    assert_renders(
        "[a *b*](https://example.com/x?y=1&z=2 \"title\")",
        format!("<p>{}</p>", link("https://example.com/x?y=1&amp;z=2", "a <em>b</em>")),
    );
    assert_renders("[a](HTTP://example.com)", format!("<p>{}</p>", link("HTTP://example.com", "a")));
    assert_renders("[a](mailto:a@example.com)", format!("<p>{}</p>", link("mailto:a@example.com", "a")));
    assert_renders("<a@example.com>", format!("<p>{}</p>", link("mailto:a@example.com", "a@example.com")));
    assert_renders("<https://example.com>", format!("<p>{}</p>", link("https://example.com", "https://example.com")));
    assert_renders(
        "[a][b] [b]\n\n[b]: https://example.com",
        format!("<p>{} {}</p>", link("https://example.com", "a"), link("https://example.com", "b")),
    );
    for url in ["/a", "//example.com", "a.html", "#a", "ftp://example.com", "https:a", "https://", "tel:1", ""] {
        assert_renders(&format!("[*a*]({url})"), "<p><em>a</em></p>");
    }
    assert_renders(&format!("[a](https://example.com/{})", "b".repeat(MAX_URL_BYTES)), "<p>a</p>");
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
        format!("<p>{}</p>", link("https://example.org", "a")),
    );
    assert_renders(
        "![a [b](https://example.org)](https://example.com)",
        format!("<p>{}</p>", link("https://example.com", "a b")),
    );
    assert_renders("![a](data:image/png;base64,AAAA)", "<p>a</p>");
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
    assert_renders(
        "[https://example.org](https://example.com/a)",
        format!("<p>{}</p>", link("https://example.com/a", "https://example.org")),
    );
    assert_renders("[https://example.com/a](javascript:b)", format!("<p>{example}</p>"));
    assert_renders("example.com a@example.com ftp://example.com", "<p>example.com a@example.com ftp://example.com</p>");
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
fn placeholders_in_text_are_replaced() {
    assert_renders("\u{fdd0}a\u{fdd0} https://example.com/\u{fdd1}b", {
        let url = "https://example.com/\u{fffd}b";
        format!("<p>\u{fffd}a\u{fffd} {}</p>", link(url, url))
    });
}

#[test]
fn headings_become_strong_paragraphs() {
    assert_renders("# a *b*\nc", "<p><strong>a <em>b</em></strong></p><p>c</p>");
    assert_renders("a\n===", "<p><strong>a</strong></p>");
    assert_renders("#a", "<p>#a</p>");
}

#[test]
fn html_is_shown_as_text() {
    assert_renders("<b>a</b> &lt;i&gt; &amp;", "<p>&lt;b&gt;a&lt;/b&gt; &lt;i&gt; &amp;</p>");
    assert_renders("<div>\n*a*\n</div>\n\n*b*", "<p>&lt;div&gt;<br>*a*<br>&lt;/div&gt;</p><p><em>b</em></p>");
    assert_renders("<!-- a -->", "<p>&lt;!-- a --&gt;</p>");
    assert_renders("<!---->", "<p>&lt;!----&gt;</p>");
}

#[test]
fn rules_tables_and_footnotes_are_not_rendered() {
    assert_renders("a\n\n---\n\nb", "<p>a</p><p>b</p>");
    assert_renders("|a|b|\n|-|-|\n|c|d|", "<p>|a|b|<br>|-|-|<br>|c|d|</p>");
    assert_renders("a[^1]\n\n[^1]: b c", "<p>a[^1]</p><p>[^1]: b c</p>");
    assert_renders("- [ ] a", "<ul><li>[ ] a</li></ul>");
}

#[test]
fn text_without_rendered_content_is_shown_as_written() {
    for text in ["---", "1.", "-", "+", "#", "***", "```", "[a]: /b"] {
        assert_renders(text, format!("<p>{text}</p>"));
    }
    assert_renders(">\n\n>", "<p>&gt;<br><br>&gt;</p>");
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
        ("<code class=\"language-rust\">a</code>", "<code>a</code>"),
        ("<h1>a</h1><hr><table><tr><td>b</table>", "ab"),
    ] {
        assert_eq!(SANITIZER.clean(html).to_string(), clean, "{html}");
    }
}

#[test]
fn hostile_text_renders_as_safe_html() {
    let vectors = [
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](&#106;avascript:alert(1))",
        "[a](&#x6A;&#x61;vascript:alert(1))",
        "[a](javascript&colon;alert(1))",
        "[a](java&Tab;script:alert(1))",
        "[a](java&NewLine;script:alert(1))",
        "[a](<java\tscript:alert(1)>)",
        "[a](\u{1}javascript:alert(1))",
        "[a](<\u{a0}javascript:alert(1)>)",
        "[a](javascript\0:alert(1))",
        "[a](\u{200b}javascript:alert(1))",
        "[a](javascript://example.com/%0aalert(1))",
        "[a](https://example.com\njavascript:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
        "[a](DATA:text/html,<script>alert(1)</script>)",
        "[a](vbscript:msgbox(1))",
        "[a](file:///etc/passwd)",
        "[a](blob:https://example.com/1)",
        "[a](view-source:https://example.com)",
        "[a](//example.com)",
        "[a](\\\\example.com)",
        "[a](https:\\\\example.com)",
        "[a]\n\n[a]: javascript:alert(1)",
        "[a][b]\n\n[b]: <javascript:alert(1)> 'c'",
        "![a](javascript:alert(1))",
        "![a\" onerror=\"alert(1)](https://example.com/x)",
        "![a](https://example.com/x\"onerror=\"alert(1))",
        "[a](https://example.com \"b\\\" onclick=\\\"alert(1)\")",
        "[a](https://example.com '\" onclick=\"alert(1)')",
        "[a](https://example.com/\"><script>alert(1)</script>)",
        "[a](<https://example.com/'onmouseover='alert(1)>)",
        "[<img src=x onerror=alert(1)>](https://example.com)",
        "[a<script>alert(1)</script>](https://example.com)",
        "<javascript:alert(1)>",
        "<JAVASCRIPT:alert(1)>",
        "<data:text/html,alert(1)>",
        "<https://example.com/\"onclick=\"alert(1)>",
        "https://example.com/\"onclick=\"alert(1)",
        "https://example.com/'onclick='alert(1)",
        "https://example.com/<script>alert(1)</script>",
        "https://example.com/`a`<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//example.com/a.js></SCRIPT>",
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        "<svg/onload=alert(1)>",
        "<svg><animate xlink:href=#a attributeName=href values=javascript:alert(1) /><a id=a>b</a></svg>",
        "<img src=x onerror=alert(1)>",
        "<img src=\"x` `<script>alert(1)</script>\"` `>",
        "<style>*{background:url(//example.com)}</style>",
        "<iframe src=\"javascript:alert(1)\"></iframe>",
        "<iframe srcdoc=\"<script>alert(1)</script>\">",
        "<object data=javascript:alert(1)><embed src=javascript:alert(1)>",
        "<form action=javascript:alert(1)><button>a</button></form>",
        "<base href=\"javascript:alert(1)//\">",
        "<meta http-equiv=refresh content=\"0;url=javascript:alert(1)\">",
        "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
        "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
        "<a href=\"https://example.com\" target=_blank onclick=alert(1)>a</a>",
        "<p style=\"background:url(javascript:alert(1))\">a",
        "<!--><script>alert(1)</script>-->",
        "<!-- --!><img src=x onerror=alert(1)> -->",
        "<?php alert(1) ?><![CDATA[<script>alert(1)</script>]]>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#60;script&#62;alert(1)&#60;/script&#62;",
        "`<script>alert(1)</script>`",
        "```\"><script>alert(1)</script>\na\n```",
        "```\n</code></pre><script>alert(1)</script>\n```",
        "    </code></pre><script>alert(1)</script>",
        "> <script>\n> alert(1)",
        "- <div onclick=alert(1)>\n  a",
        "# <script>alert(1)</script> {onclick=alert(1)}",
        "a\u{fdd0}<script>\u{fdd1}alert(1)</script>",
        "</p></blockquote></body><script>alert(1)</script>",
        "<plaintext><textarea></textarea><img src=x onerror=alert(1)>",
    ];
    for vector in vectors {
        for text in [vector.to_owned(), format!("> - a {vector}"), format!("*b **{vector}** c*")] {
            let html = render_html(&text);
            assert_strict_html(&html);
            assert_eq!(SANITIZER.clean(&html).to_string(), html, "sanitizing again changes nothing: {text:?}");
        }
    }
}

#[test]
fn hostile_nesting_has_limited_depth() {
    let units = [
        ">",
        "> ",
        "*",
        "_",
        "~",
        "`",
        "[",
        "![",
        "![[",
        "- ",
        "+ ",
        "1. ",
        "> - ",
        "*a ",
        "**a *",
        "*a **b ~~c ",
        "[a](",
        "![a](",
        "[a]: ",
        "[a](<",
        "<",
        "<a ",
        "<a href=\"",
        "<!--",
        "<?",
        "<![CDATA[",
        "&",
        "½",
        "\\",
        "\"",
        "https://",
        "https://a",
        "https://a_b/_*~",
        "http://a.b/(",
        "](",
        "[][",
        "`a``b```c",
        "``` ",
        "~~~\n",
        "# ",
        "-\n",
        "a\n=\n",
        "|-|\n",
        "<b>",
        "<b>\n",
        "[a]: b\n",
        "\t",
        "\n",
        "a\r",
        "\0",
        "\u{fdd0}",
        "\u{301}",
    ];
    let repeat_to = |unit: &str, size| unit.chars().cycle().take(size).collect::<String>();
    let mut texts: Vec<String> = units.iter().map(|unit| repeat_to(unit, 8_000)).collect();
    texts.extend([">", "*", "[", "`", "- ", "![["].map(|unit| repeat_to(unit, 100_000)));
    texts.push((0..120).map(|depth| format!("{}- a\n", "  ".repeat(depth))).collect());
    texts.push((0..120).map(|depth| format!("{} a\n", ">".repeat(depth))).collect());
    texts.push(format!("{}a{}", "[".repeat(2_000), "](https://a.b)".repeat(400)));
    texts.push(format!("{}{}", "*a **a ".repeat(500), "a* a** ".repeat(500)));
    texts.push(format!("[a]: https://b.c/{}\n\n{}", "d".repeat(2_000), "[a]".repeat(2_000)));
    for text in texts {
        let depth = assert_strict_html(&render_html(&text));
        assert!(depth <= 2 * MAX_DEPTH + 6, "{depth} levels: {}", text.chars().take(40).collect::<String>());
    }
}

#[test]
fn elements_that_are_too_deep_keep_their_text() {
    let quotes = render_html(&format!("{}a", "> ".repeat(MAX_DEPTH + 5)));
    assert_eq!(quotes.matches("<blockquote>").count(), MAX_DEPTH);
    assert!(quotes.contains("<p>a</p>"), "{quotes}");
    let list: String = (0..MAX_DEPTH + 3).map(|depth| format!("{}- {depth}\n", "  ".repeat(depth))).collect();
    let list = render_html(&list);
    assert_eq!(list.matches("<ul>").count(), MAX_DEPTH);
    assert!(list.contains("<li>15<br>16<br>17<br>18</li>"), "{list}");
}

const SYNTAX_AND_TEXT: &str = "([-*_~`<>\\[\\]()!#&:/\"'\\\\.a1 \n\t]|https?://|javascript:|<script>|\\PC){0,80}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_renders_as_safe_html(text in SYNTAX_AND_TEXT) {
        assert_strict_html(&render_html(&text));
    }
}
