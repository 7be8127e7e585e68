//! Tests of addresses and emphasis in texts of many scripts.

use crate::domain::markdown::render_html;
use crate::domain::markdown::tests::link;

#[track_caller]
fn assert_linked(before: &str, url: &str, after: &str) {
    let text = format!("{before}{url}{after}");
    let html = render_html(&text);
    let escape = |text: &str| text.replace('<', "&lt;").replace('>', "&gt;").replace('\u{a0}', "&nbsp;");
    assert_eq!(html, format!("<p>{}{}{}</p>", escape(before), link(url, url), escape(after)), "{text:?}");
}

#[test]
fn link_ends_before_closing_punctuation_of_any_script() {
    for (before, after) in [
        ("“see ", "”"),
        ("‘", "’"),
        ("‘", "’s"),
        ("«", "»"),
        ("„", "“"),
        ("‹", "›,"),
        ("(", ") a"),
        ("(see (", "))."),
        ("[", "]"),
        ("{", "}"),
        ("'", "'"),
        ("\"", "\"a"),
        ("see ", "."),
        ("see ", "?!"),
        ("see ", "…"),
        ("see ", "— and"),
        ("see ", "™"),
        ("see ", "👍"),
        ("see ", "\u{a0}and"),
        ("see ", "\u{200b}and"),
        // Chinese and Japanese
        ("请看", "。然后"),
        ("请看", "，然后"),
        ("请看（", "）然后"),
        ("《", "》的"),
        ("「", "」と"),
        ("『", "』"),
        ("【", "】"),
        ("これ", "、それ"),
        ("これ", "！それ"),
        ("これ", "？"),
        ("これ", "：それ"),
        ("これ", "・それ"),
        ("これ", "～それ"),
        ("これ", "｡"),
        // Korean
        ("여기(", ")를"),
        ("여기〈", "〉를"),
        // Arabic, Persian and Urdu
        ("انظر ", "، ثم"),
        ("انظر ", "؛"),
        ("هل ", "؟"),
        ("دیکھیں ", "۔"),
        // Hebrew
        ("ראה ", "׃"),
        // Devanagari, Bengali and others
        ("देखें ", "। फिर"),
        ("দেখুন ", "॥"),
        // Thai, Khmer, Burmese and Tibetan
        ("ดู ", "๚"),
        ("មើល", "។បន្ទាប់"),
        ("ကြည့်ပါ ", "။"),
        ("གཟིགས", "།"),
        // Armenian, Georgian, Greek, Cyrillic, Ethiopic, Mongolian
        ("տես ", "։"),
        ("იხილე „", "“."),
        ("δες ", "\u{387}"),
        ("см. «", "»."),
        ("ይመልከቱ ", "።"),
        ("ᠦᠵᠡ ", "᠃"),
    ] {
        assert_linked(before, "https://example.com/x", after);
        assert_linked(before, "https://example.com", after);
        assert_linked(before, "https://example.com/a_(b)", after);
    }
}

#[test]
fn letters_of_all_scripts_are_part_of_a_path() {
    for url in [
        "https://ja.wikipedia.org/wiki/日本",
        "https://ru.wikipedia.org/wiki/Россия",
        "https://ar.wikipedia.org/wiki/مصر",
        "https://hi.wikipedia.org/wiki/भारत",
        "https://th.wikipedia.org/wiki/ประเทศไทย",
        "https://fr.wikipedia.org/wiki/L’Équipe",
        "https://ca.wikipedia.org/wiki/Col·lecció",
        "https://例え.テスト/道",
        "https://пример.рф",
        "https://bücher.example/ü",
    ] {
        assert_linked("a ", url, " b");
        assert_linked("“", url, "”。");
    }
}

#[test]
fn link_ends_with_the_top_level_domain_if_text_follows() {
    for after in ["を見て", "然后", "에서", "ครับ", "и", "👍"] {
        assert_linked("見", "https://example.com", after);
        assert_linked("見", "https://example.com:8080", after);
    }
    assert_eq!(
        render_html("联系a@example.com谢谢"),
        format!("<p>联系{}谢谢</p>", link("mailto:a@example.com", "a@example.com"))
    );
    assert_eq!(
        render_html("看www.example.com吧。**https://example.com/x**吧"),
        format!(
            "<p>看{}吧。<strong>{}</strong>吧</p>",
            link("https://www.example.com", "www.example.com"),
            link("https://example.com/x", "https://example.com/x")
        )
    );
}

#[test]
fn emphasis_works_in_scripts_without_spaces() {
    for (before, marked, after) in [
        // Chinese, Japanese, Korean, Bopomofo, Yi
        ("这是", "我想做的事。", "所以继续。"),
        ("他说", "“你好”", "然后走了"),
        ("使用", "（括号）", "时"),
        ("これは", "「強調」", "です"),
        ("カタカナ", "（テスト）", "ノ"),
        ("ﾊﾝｶｸ", "｢ﾃｽﾄ｣", "ﾃﾞｽ"),
        ("漢字", "《本》", "葛\u{E0100}"),
        ("葛\u{E0100}", "“本”", "字"),
        ("", "마크다운(Markdown)", "은"),
        ("그는", "'안녕'", "이라고"),
        ("ㄅㄆ", "（ㄇ）", "ㄈ"),
        ("ꆈꌠ", "(ꁱꂷ)", "ꉙ"),
        // Thai, Lao, Khmer, Burmese, Tibetan, Javanese, Balinese, Tai Le, Tai Tham
        ("นี่คือ", "ข้อความ!", "ต่อไป"),
        ("ໃນ", "“ລາວ”", "ແລ້ວ"),
        ("នេះ", "ប្រយោគ។", "បន្ទាប់"),
        ("ဒါက", "စာကြောင်း။", "နောက်"),
        ("བོད", "ཡིག།", "གཞན"),
        ("ꦲꦏ꧀ꦱꦫ", "(ꦗꦮ)", "ꦲ"),
        ("ᬅᬓ᭄ᬱᬭ", "(ᬩᬮᬶ)", "ᬅ"),
        ("ᥖᥭᥰ", "(ᥖᥬᥳ)", "ᥘᥫᥴ"),
        ("ᨲᩫ᩠ᩅ", "(ᨾᩮᩬᩥᨦ)", "ᨲ"),
    ] {
        for (delimiter, tag) in [("**", "strong"), ("*", "em"), ("~~", "del")] {
            let text = format!("{before}{delimiter}{marked}{delimiter}{after}");
            assert_eq!(render_html(&text), format!("<p>{before}<{tag}>{marked}</{tag}>{after}</p>"), "{text}");
        }
    }
    assert_eq!(render_html("실행: **`npm publish`**를"), "<p>실행: <strong><code>npm publish</code></strong>를</p>");
}

#[test]
fn emphasis_works_between_spaces_in_all_scripts() {
    for word in [
        "“важно”",
        "„σημαντικό“",
        "(مهم)",
        "\u{5d0}\u{5d1}!",
        "महत्वपूर्ण।",
        "গুরুত্বপূর্ণ।",
        "முக்கியம்!",
        "კარგი!",
        "կարևոր։",
        "አስፈላጊ።",
        "ᠴᠢᠬᠤᠯᠠ᠃",
        "重要。",
        "중요!",
        "สำคัญ!",
        "🎉",
    ] {
        for delimiter in ["**", "__"] {
            let text = format!("a {delimiter}{word}{delimiter} b");
            assert_eq!(render_html(&text), format!("<p>a <strong>{word}</strong> b</p>"), "{text}");
        }
    }
}
