//! Tests of word splitting, queries and snippets.

use proptest::prelude::*;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::domain::search::folding::fold;
use crate::domain::search::*;

/// Returns the words of a text in the form in which they are compared.
fn words(text: &str) -> Vec<String> {
    tokens(text).into_iter().map(|token| token.word).collect()
}

/// Returns whether a text has all words of a query, as the index does.
fn finds(query: &str, text: &str) -> bool {
    SearchQuery::parse(query).unwrap().snippet(text).contains("<mark>")
}

fn query(query: &str) -> SearchQuery {
    SearchQuery::parse(query).unwrap()
}

#[track_caller]
fn assert_words(text: &str, expected: &[&str]) {
    assert_eq!(words(text), expected, "{text:?}");
}

/// Returns the text of a snippet without marks and escapes, if the text was one short line.
fn strip_marks(snippet: &str) -> String {
    let text = snippet.replace("<mark>", "").replace("</mark>", "");
    assert!(!text.contains(['<', '>', '"', '\'']), "{snippet}");
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    assert!(text.matches('&').count() == text.matches("&amp;").count(), "{snippet}");
    text.replace("&amp;", "&")
}

#[test]
fn words_lose_case_marks_and_strokes() {
    assert_words("Hello, WORLD!", &["hello", "world"]);
    assert_words("Ärger A\u{308}RGER arger", &["arger", "arger", "arger"]);
    assert_words("Łódź crème brûlée Ñandú İstanbul", &["lodz", "creme", "brulee", "nandu", "istanbul"]);
    assert_words("ΟΔΟΣ οδός", &["οδοσ", "οδοσ"]);
    assert_words("Ёлка", &["елка"]);
    assert_words(
        "Straße STRAẞE Øre Đặng Ængland Þór ısı",
        &["strasse", "strasse", "ore", "dang", "aengland", "thor", "isi"],
    );
}

#[test]
fn words_with_compatible_forms_are_equal() {
    assert_words("ﬁne Ｗｉｄｅ ２０２４ ℌ ①", &["fine", "wide", "2024", "h", "1"]);
    assert_eq!(words(&"한국어".nfd().collect::<String>()), words(&"한국어".nfc().collect::<String>()));
    assert_eq!(words("ｶﾞｷﾞ"), words("ガギ"));
    assert_words("❤\u{fe0f}a\u{fe0f}b 葛\u{e0100}", &["❤", "ab", "葛"]);
}

#[test]
fn token_ranges_are_positions_in_the_original_text() {
    let found: Vec<_> = tokens("Ein A\u{308}rger-½").into_iter().map(|token| (token.range, token.word)).collect();
    let half = 12..14;
    let expected = [(0..3, "ein"), (4..11, "arger"), (half.clone(), "1"), (half, "2")];
    assert_eq!(found, expected.map(|(range, word)| (range, word.to_owned())));
}

#[test]
fn vowel_signs_and_voicing_marks_stay_with_their_letters() {
    assert_words("दिन दान", &["दिन", "दान"]);
    assert_words("กิน", &["กิ", "น"]);
    assert_ne!(words("か"), words("が"));
    assert!(!finds("か", "がっこう") && finds("か", "ばか"));
}

/// Texts of many scripts, and queries that find them.
const FOUND: [(&str, &[&str]); 26] = [
    ("Straße nach Łódź, Øresund", &["STRASSE", "strasse", "lodz", "ORESUND", "stra"]),
    ("cooper\u{ad}ation Zoë façade", &["cooperation", "zoe", "FACADE"]),
    ("Türkiye'de IŞIK ısı İzmir", &["isik", "ışık", "ısı", "izmir"]),
    ("Ｗｉｄｅ ﬁne ２０２４", &["wide", "fine", "2024"]),
    ("Ελλάδα, ο ΟΔΟΣ, ᾳδης", &["ελλαδα", "οδος", "ΟΔΌΣ", "οδ", "αδης"]),
    ("Ёлка и за\u{301}мок", &["елка", "замок", "ЗАМОК"]),
    ("שָׁלוֹם עֲלֵיכֶם", &["שלום", "עליכם", "שלומ"]),
    ("مُحَمَّدٌ أحمد آمنة ســلام إلى", &["محمد", "احمد", "امنه", "سلام", "الي"]),
    ("فارسی کتاب ۱۲۳", &["فارسي", "كتاب", "123"]),
    ("क़लम हिन्दी में ज़रा ४२", &["कलम", "हिन्दी", "जरा", "42"]),
    ("বাংলা ভাষা র\u{9bc}", &["বাংলা", "ভাষা"]),
    ("தமிழ் மொழி", &["தமிழ்", "தமிழ", "மொழி"]),
    ("ภาษาไทยง่ายมาก", &["ไทย", "ภาษา", "งาย", "มาก", "ย"]),
    ("ພາສາລາວງ່າຍ", &["ລາວ", "ງາຍ"]),
    ("ភាសាខ្មែរល្អ", &["ខ្មែរ", "ភាសា"]),
    ("မြန်မာဘာသာစကား", &["ဘာသာ", "မြန်မာ", "စကား"]),
    ("メールサーバーが落ちた", &["サーバー", "ｻｰﾊﾞｰ", "メール", "さーばー", "落ち", "落", "た", "が"]),
    ("キヤノンのカメラ", &["キャノン", "きゃのん", "ｶﾒﾗ"]),
    ("我们在东京塔见面", &["东京", "东京塔", "见面", "京", "面"]),
    ("메일서버가 죽었다", &["서버", "메일", "서버가", "죽었", "서ㅂ", "ㅈ", "다"]),
    ("თბილისი ᲥᲐᲠᲗᲣᲚᲘ", &["ᲗᲑᲘᲚᲘᲡᲘ", "ქართული"]),
    ("Երևան և ԵՐԵՒԱՆ", &["երևան", "ԵՐԵՎԱՆ"]),
    ("አዲስ አበባ", &["አዲስ", "አበ"]),
    ("ᏣᎳᎩ ꮳꮃꭹ", &["ꮳꮃꭹ", "ᏣᎳᎩ"]),
    (
        "done 👍🏽 👩\u{200d}👩\u{200d}👧 🇩🇪 ❤\u{fe0f} 3\u{fe0f}\u{20e3}",
        &["👍", "👍🏿", "👩\u{200d}👩\u{200d}👧", "👧", "🇩🇪", "❤", "3\u{fe0f}\u{20e3}"],
    ),
    ("ݣ ދިވެހި ትግርኛ ᠮᠣᠩᠭᠣᠯ བོད་ཡིག", &["ދިވެހި", "ትግ", "ᠮᠣᠩ", "ཡིག"]),
];

#[test]
fn text_of_any_script_is_found_by_its_plain_form() {
    for (text, queries) in FOUND {
        for query in queries {
            assert!(finds(query, text), "{query} in {text}");
            assert!(finds(&query.to_uppercase(), text), "{query} in upper case in {text}");
            assert!(finds(query, &text.nfd().collect::<String>()), "{query} in decomposed {text}");
            assert!(fold(text).contains(&fold(query)), "{query} in the name {text}");
        }
    }
}

#[test]
fn other_words_are_not_found() {
    for (query, text) in [
        ("サーラ", "メールサーバー"),
        ("京東", "東京"),
        ("バー", "バ ー"),
        ("東京", "東。京"),
        ("\"한구\"", "한국어"),
        ("국한", "한국"),
        ("tree", "street"),
        ("🇪🇷", "🇩🇪🇷🇺"),
        ("👍", "👎"),
        ("o", "0"),
    ] {
        assert!(!finds(query, text), "{query} in {text}");
    }
    assert!(finds("한구", "한국어"), "a syllable is found while it is typed");
}

#[test]
fn words_consist_of_letters_and_digits() {
    assert_words(
        "well-known can't O’Neill 3.14 snake_case a.b.c",
        &["well", "known", "can", "t", "o", "neill", "3", "14", "snake", "case", "a", "b", "c"],
    );
    assert_words(
        "https://example.com/a?b=1#c me@example.com",
        &["https", "example", "com", "a", "b", "1", "c", "me", "example", "com"],
    );
    assert_words("a\0b\u{1}c\td\ne\u{200b}f\u{ad}g", &["a", "b", "c", "d", "efg"]);
    assert_words("½", &["1", "2"]);
}

#[test]
fn each_letter_of_a_script_without_spaces_is_a_word() {
    assert_words("東京タワーへ go", &["東", "京", "た", "わ", "ー", "へ", "go"]);
}

#[test]
fn text_without_letters_digits_and_emoji_has_no_words() {
    for text in ["", " ", "!?…", "\u{301}\u{20dd}", "\0\u{7f}", "\u{93e}", "\"", "__"] {
        assert_words(text, &[]);
    }
}

#[test]
fn long_word_is_cut_between_characters() {
    assert_eq!(words(&"a".repeat(1_000)), ["a".repeat(64)]);
    assert_eq!(words(&"ж".repeat(1_000)), ["ж".repeat(32)]);
    assert_eq!(words(&"ᎠᎠ".repeat(100)), ["ꭰ".repeat(21)]);
    assert_eq!(query(&"a".repeat(200)).fts5(&TermPrefix::empty()), format!("\"{}\" *", "a".repeat(64)));
}

#[test]
fn folding_is_idempotent() {
    let is_word = |character: char| character.is_alphanumeric() || is_combining_mark(character);
    for character in (char::MIN..=char::MAX).filter(|character| is_word(*character)) {
        let once = fold(&character.to_string());
        assert_eq!(fold(&once), once, "{character:?} {:x}", character as u32);
    }
}

#[test]
fn query_consists_of_prefixes_and_exact_phrases() {
    assert_eq!(query("hello wor").fts5(&TermPrefix::empty()), r#""hello" * AND "wor" *"#);
    assert_eq!(query("hello wor").tsquery(&TermPrefix::empty()), "'hello':* & 'wor':*");
    assert_eq!(
        query(r#""Hello World" wi-f x"#).fts5(&TermPrefix::empty()),
        r#""hello" + "world" AND "wi" + "f" * AND "x" *"#
    );
    assert_eq!(
        query(r#""Hello World" wi-f x"#).tsquery(&TermPrefix::empty()),
        "('hello' <-> 'world') & ('wi' <-> 'f':*) & 'x':*"
    );
    assert_eq!(query(r#""x""#).fts5(&TermPrefix::empty()), r#""x""#);
    assert_eq!(query(r#""x""#).tsquery(&TermPrefix::empty()), "'x'");
}

#[test]
fn quoted_phrase_needs_no_spaces_and_no_closing_quote() {
    assert_eq!(query(r#"a"b c"d"#).tsquery(&TermPrefix::empty()), "'a':* & ('b' <-> 'c') & 'd':*");
    assert_eq!(query(r#"a "b c"#).tsquery(&TermPrefix::empty()), "'a':* & ('b' <-> 'c')");
    assert_eq!(query(r#""" a """#).tsquery(&TermPrefix::empty()), "'a':*");
    assert_eq!(query("“a b” „c d“").tsquery(&TermPrefix::empty()), "('a' <-> 'b') & ('c' <-> 'd')");
}

#[test]
fn control_characters_separate_words() {
    assert_eq!(query("a\0b\u{7f}c\nd").tsquery(&TermPrefix::empty()), "'a':* & 'b':* & 'c':* & 'd':*");
    assert_eq!(query("\"a\0b\"").tsquery(&TermPrefix::empty()), "('a' <-> 'b')");
}

#[test]
fn engine_syntax_in_query_is_text() {
    assert_eq!(
        query("NOT a* OR (b) NEAR/2 ^c -d col:e {f}").fts5(&TermPrefix::empty()),
        concat!(
            r#""not" * AND "a" * AND "or" * AND "b" * AND "near" + "2" * AND "#,
            r#""c" * AND "d" * AND "col" + "e" * AND "f" *"#
        )
    );
    assert_eq!(
        query(r"a' \b !c & d | e <-> f:*").tsquery(&TermPrefix::empty()),
        "'a':* & 'b':* & 'c':* & 'd':* & 'e':* & 'f':*"
    );
}

#[test]
fn query_is_rejected_without_words_and_above_limits() {
    for empty in ["", "  ", "\"\"", "\"", "-- '' ()", "\0"] {
        assert!(SearchQuery::parse(empty).is_err(), "{empty:?}");
    }
    assert!(SearchQuery::parse(&"é".repeat(200)).is_ok());
    assert!(SearchQuery::parse(&"é".repeat(201)).is_err());
    assert!(SearchQuery::parse(&"a ".repeat(16)).is_ok());
    assert!(SearchQuery::parse(&"a ".repeat(17)).is_err());
    assert!(SearchQuery::parse(&"日".repeat(200)).is_ok(), "text without spaces is one word");
    assert!(SearchQuery::parse(&"日 ".repeat(17)).is_err());
    assert!(SearchQuery::parse(&"👍".repeat(17)).is_err());
}

#[test]
fn snippet_marks_matches() {
    assert_eq!(query("wor").snippet("Hello World, word!"), "Hello <mark>World</mark>, <mark>word</mark>!");
    assert_eq!(query("\"wor\"").snippet("Hello World"), "Hello World");
    assert_eq!(query("arger").snippet("Kein Ärger!"), "Kein <mark>Ärger</mark>!");
    assert_eq!(query("arger").snippet("A\u{308}rger"), "<mark>A\u{308}rger</mark>");
    assert_eq!(query("Ärg").snippet("arger"), "<mark>arger</mark>");
    assert_eq!(query("caf").snippet("cafe\u{301}s"), "<mark>cafe\u{301}s</mark>");
    assert_eq!(query("京").snippet("東京タワー"), "東<mark>京</mark>タワー");
    assert_eq!(query("京タワ").snippet("東京タワー"), "東<mark>京タワ</mark>ー");
    assert_eq!(query("👩").snippet("👩\u{200d}👩\u{200d}👧!"), "<mark>👩\u{200d}👩\u{200d}👧</mark>!");
    assert_eq!(query("1 2").snippet("½ l"), "<mark>½</mark> l");
}

#[test]
fn snippet_marks_words_of_phrase_only_in_sequence() {
    let phrase = query("\"b c\"");
    assert_eq!(phrase.snippet("c b, b c b"), "c b, <mark>b</mark> <mark>c</mark> b");
    assert_eq!(phrase.snippet("B-C"), "<mark>B</mark>-<mark>C</mark>");
    assert_eq!(query("wi-f").snippet("wi-fi, fi, wi"), "<mark>wi</mark>-<mark>fi</mark>, fi, wi");
    assert_eq!(query("can't").snippet("Can't"), "<mark>Can</mark>&#39;<mark>t</mark>");
    assert_eq!(query("\"a a\"").snippet("a a a"), "<mark>a</mark> <mark>a</mark> <mark>a</mark>");
    assert_eq!(query("\"a b c d\"").snippet("a b"), "a b");
}

#[test]
fn snippet_is_one_line_of_escaped_text() {
    assert_eq!(
        query("mark").snippet("<mark>a</mark> & \"b\" 'c'"),
        "&lt;<mark>mark</mark>&gt;a&lt;/<mark>mark</mark>&gt; &amp; &quot;b&quot; &#39;c&#39;"
    );
    assert_eq!(query("amp").snippet("&amp; & amp"), "&amp;<mark>amp</mark>; &amp; <mark>amp</mark>");
    assert_eq!(query("b").snippet(" a\nb\r\n\tc\0d\u{2028} "), "a <mark>b</mark>   c d");
    assert_eq!(query("b").snippet(""), "");
    assert_eq!(query("b").snippet("👍"), "👍");
}

#[test]
fn snippet_of_long_text_surrounds_the_first_match() {
    let before = "before ".repeat(100);
    let after = "after ".repeat(100);
    let cut_twice = query("needle").snippet(&format!("{before}needle {after}needle"));
    assert!(cut_twice.starts_with("…before before "), "{cut_twice}");
    assert!(cut_twice.contains(" before <mark>needle</mark> after "), "{cut_twice}");
    assert!(cut_twice.ends_with(" after…"), "{cut_twice}");
    assert!((180..=202).contains(&strip_marks(&cut_twice).chars().count()), "{cut_twice}");

    let at_start = query("needle").snippet(&format!("needle {after}"));
    assert!(at_start.starts_with("<mark>needle</mark> after ") && at_start.ends_with(" after…"), "{at_start}");
    let at_end = query("needle").snippet(&format!("{before}needle"));
    assert!(at_end.starts_with("…before ") && at_end.ends_with(" before <mark>needle</mark>"), "{at_end}");
    assert!(strip_marks(&at_end).chars().count() > 180, "{at_end}");
    let no_match = query("other").snippet(&after);
    assert!(no_match.starts_with("after ") && no_match.ends_with(" after…"), "{no_match}");
}

#[test]
fn snippet_is_cut_between_words_or_grapheme_clusters() {
    let word = query("a").snippet(&"a".repeat(1_000));
    assert_eq!(word, format!("<mark>{}</mark>…", "a".repeat(200)));
    let accents = query("e").snippet(&"e\u{301}".repeat(1_001));
    assert_eq!(accents, format!("<mark>{}</mark>…", "e\u{301}".repeat(100)));
    let escapes = query("z").snippet(&format!("{}z{}", "&".repeat(300), "<".repeat(300)));
    assert_eq!(escapes, format!("…{}<mark>z</mark>{}…", "&amp;".repeat(60), "&lt;".repeat(139)));
    let families = query("z").snippet(&format!("{}z", "👩‍👩‍👧".repeat(100)));
    assert_eq!(families.replace("👩‍👩‍👧", ""), "…<mark>z</mark>");
    let exactly = format!("{} b", "a".repeat(198));
    assert_eq!(query("b").snippet(&exactly), exactly.replace('b', "<mark>b</mark>"));
    let unbroken = format!("{}é{}", "é".repeat(500), " x".repeat(200));
    assert_eq!(strip_marks(&query("x").snippet(&unbroken)).matches('x').count(), 70);
}

/// Printable characters, and more of those that normalization changes.
const ANY_SCRIPT: &str = "(\\PC|[a-z'. \u{300}-\u{36f}\u{64b}-\u{652}\u{900}-\u{97f}ｱ-ﾟが-ん가-힣]){0,40}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn splitting_words_is_idempotent(text in ANY_SCRIPT) {
        let split = words(&text);
        prop_assert_eq!(words(&split.join(" ")), split.clone());
        for word in &split {
            prop_assert!(!word.is_empty() && word.len() <= 64);
            prop_assert!(!word.contains(|character: char| character.is_whitespace() || character.is_ascii_uppercase()));
        }
    }

    #[test]
    fn each_word_of_a_text_is_marked_in_its_snippet(text in "(\\PC|[a-c \n&<>\"']){0,40}") {
        for word in words(&text) {
            let snippet = query(&format!("\"{word}\"")).snippet(&text);
            prop_assert!(snippet.contains("<mark>"), "{word} in {snippet}");
        }
    }

    #[test]
    fn snippet_of_short_text_is_the_text(text in "(\\PC|[a-c &<>\"']){0,100}") {
        let spaced = text.trim().replace(char::is_whitespace, " ");
        prop_assert_eq!(strip_marks(&query("a b").snippet(&text)), spaced);
    }

    #[test]
    fn snippet_contains_the_first_match(before in "(\\PC|[a-c &]){0,400}", after in "(\\PC|[a-c &]){0,400}") {
        let snippet = query("\"zyxwv\"").snippet(&format!("{before} zyxwv {after}"));
        prop_assert!(snippet.contains("<mark>zyxwv</mark>"), "{}", snippet);
        prop_assert!(strip_marks(&snippet).chars().count() <= 202);
    }
}
