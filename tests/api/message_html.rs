//! `Message.html`: the dialect of Markdown for chats, which loses no text.

use testkit::{TestApp, User, engine_test};

const REL: &str = " rel=\"nofollow noopener noreferrer\"";

fn link(url: &str, text: &str) -> String {
    format!("<a href=\"{url}\"{REL}>{text}</a>")
}

async fn assert_renders(alice: &User, chat: &str, cases: &[(&str, String)]) {
    for (text, html) in cases {
        let id = alice.send(chat, text).await;
        let message = alice.fetch_message(&id, "text html").await;
        assert_eq!(message["html"], **html, "{text:?}");
        assert_eq!(message["text"], *text);
    }
}

#[engine_test]
async fn message_html_loses_no_text_that_is_no_markup(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let example = link("https://example.com", "https://example.com");
    let cases = [
        ("[alice]: hi\nok", "<p>[alice]: hi<br>ok</p>".to_owned()),
        ("see[^1]\n\n[^1]: a note", "<p>see[^1]</p><p>[^1]: a note</p>".to_owned()),
        ("[a](https://example.com \"title\")", format!("<p>[a]({example} \"title\")</p>")),
        ("[a](javascript:alert(1)) &copy;", "<p>[a](javascript:alert(1)) &amp;copy;</p>".to_owned()),
        ("5. a\n5. b", "<ol start=\"5\"><li>a</li><li value=\"5\">b</li></ol>".to_owned()),
        ("C:\\temp \\\\server", "<p>C:\\temp \\\\server</p>".to_owned()),
    ];
    assert_renders(&alice, &chat, &cases).await;
}

#[engine_test]
async fn message_link_ends_before_closing_punctuation(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let linked = link("https://a.com/x", "https://a.com/x");
    let cases = [
        ("“see https://a.com/x”", format!("<p>“see {linked}”</p>")),
        ("请看https://a.com/x。然后", format!("<p>请看{linked}。然后</p>")),
        ("（https://a.com/x）或「https://a.com/x」", format!("<p>（{linked}）或「{linked}」</p>")),
        ("انظر https://a.com/x، ثم", format!("<p>انظر {linked}، ثم</p>")),
        ("देखें https://a.com/x।", format!("<p>देखें {linked}।</p>")),
        ("https://a.com/x_(y).", format!("<p>{}.</p>", link("https://a.com/x_(y)", "https://a.com/x_(y)"))),
    ];
    assert_renders(&alice, &chat, &cases).await;
}

#[engine_test]
async fn message_emphasis_works_in_scripts_without_spaces(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let strong = |before: &str, text: &str, after: &str| format!("<p>{before}<strong>{text}</strong>{after}</p>");
    let cases = [
        ("这是**我想做的事。**所以继续。", strong("这是", "我想做的事。", "所以继续。")),
        ("これは**「強調」**です", strong("これは", "「強調」", "です")),
        ("**마크다운(Markdown)**은", strong("", "마크다운(Markdown)", "은")),
        ("นี่คือ**ข้อความ!**ต่อไป", strong("นี่คือ", "ข้อความ!", "ต่อไป")),
        ("3~5명, 6~8명 2*3*4", "<p>3~5명, 6~8명 2*3*4</p>".to_owned()),
    ];
    assert_renders(&alice, &chat, &cases).await;
}

#[engine_test]
async fn message_quote_needs_a_blank_after_its_marker(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let cases = [
        (">_<", "<p>&gt;_&lt;</p>".to_owned()),
        ("ok\n>:(", "<p>ok<br>&gt;:(</p>".to_owned()),
        ("> a\n>\n>> b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>".to_owned()),
    ];
    assert_renders(&alice, &chat, &cases).await;
}

#[engine_test]
async fn message_lines_are_shown_as_written(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let cases = [
        ("def f():\n    return 1", "<p>def f():<br>&nbsp;&nbsp;&nbsp;&nbsp;return 1</p>".to_owned()),
        ("Signature\n---", "<p>Signature<br>---</p>".to_owned()),
        ("Title\n===\n\n***\n\na  b", "<p>Title<br>===</p><p>***</p><p>a&nbsp; b</p>".to_owned()),
        ("- a\n\n      b", "<ul><li><p>a</p><p>&nbsp;&nbsp;&nbsp;&nbsp;b</p></li></ul>".to_owned()),
    ];
    assert_renders(&alice, &chat, &cases).await;
}

#[engine_test]
async fn message_code_has_its_language_and_addresses_are_linked(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let (www, mail) = (link("https://www.example.com", "www.example.com"), link("mailto:a@b.com", "a@b.com"));
    let [good, evil] = ["https://good.com", "https://evil.com"].map(|url| link(url, url));
    let cases = [
        ("```rust\nlet a = 1;\n```", "<pre><code class=\"language-rust\">let a = 1;\n</code></pre>".to_owned()),
        ("```\" onclick=a\nb\n```", "<pre><code>\" onclick=a\nb\n</code></pre>".to_owned()),
        ("see www.example.com, a@b.com.", format!("<p>see {www}, {mail}.</p>")),
        ("[https://good.com](https://evil.com)", format!("<p>[{good}]({evil})</p>")),
        ("[good.com](https://evil.com)", format!("<p>[good.com]({evil})</p>")),
        ("[good](https://evil.com)", format!("<p>{}</p>", link("https://evil.com", "good"))),
    ];
    assert_renders(&alice, &chat, &cases).await;
}
