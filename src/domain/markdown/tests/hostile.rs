//! Tests of texts that try to break out of the HTML, or to make rendering slow or deep.

use crate::domain::markdown::blocks::MAX_DEPTH;
use crate::domain::markdown::html::sanitize;
use crate::domain::markdown::render_html;
use crate::domain::markdown::tests::assert_strict_html;

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
            assert_eq!(sanitize(&html), html, "sanitizing again changes nothing: {text:?}");
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
        "[a](https://a.b) ",
        "[good.com](https://a.b)",
        "[[https://a.b](https://c.d)",
        "[](<",
        "](https://a",
        "a@b.cd",
        "a@",
        "www.",
        "www.a.b",
        "https://a.b/)",
        "https://a.b/](",
        "'https://a.b/'x",
        "https://a.bこ",
        "www.a.bこ/",
        "\\_",
        "\\.",
        "*a _b ",
        "a* b_ ",
        "*\u{fe00}",
        "~a",
        "`a\n",
        "```a\n",
        "```\n\n",
        "- a\n\n",
        "1. a\n\n",
        "> a\nb\n",
        "  ",
        "\u{200b}",
    ];
    let repeat_to = |unit: &str, size| unit.chars().cycle().take(size).collect::<String>();
    let mut texts: Vec<String> = units.iter().map(|unit| repeat_to(unit, 8_000)).collect();
    texts.extend(
        [">", "*", "[", "`", "- ", "![[", "*a **a ", "[a](", "https://", "'https://a.b/'x"]
            .map(|unit| repeat_to(unit, 100_000)),
    );
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
fn elements_that_are_too_deep_are_text() {
    let quotes = render_html(&format!("{}a", "> ".repeat(MAX_DEPTH + 2)));
    assert_eq!(quotes.matches("<blockquote>").count(), MAX_DEPTH);
    assert!(quotes.contains("<p>&gt; &gt; a</p>"), "{quotes}");
    let list: String = (0..MAX_DEPTH + 3).map(|depth| format!("{}- {depth}\n", "  ".repeat(depth))).collect();
    let list = render_html(&list);
    assert_eq!(list.matches("<ul>").count(), MAX_DEPTH);
    assert!(list.contains("<li>15<br>- 16<br>&nbsp;&nbsp;- 17<br>&nbsp;&nbsp;&nbsp;&nbsp;- 18</li>"), "{list}");
}
