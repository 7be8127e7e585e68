//! The invisible characters of Unicode, and the places where they are part of visible text.
//!
//! Two texts that look the same have to be the same: a name, a title or an option with an invisible character in it
//! could pass for another one. A few invisible characters change how their neighbours look, and are allowed exactly
//! there: joiners inside words of cursive and Indic scripts and inside emoji, and variation selectors and tags after
//! the characters that they apply to.

use std::iter::Peekable;
use std::str::Chars;

use icu_properties::props::{
    BidiControl, CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic,
    GeneralCategory, GeneralCategoryGroup, JoiningType, Script, UnifiedIdeograph,
};
use icu_properties::{CodePointMapData, CodePointSetData};

const ZERO_WIDTH_NON_JOINER: char = '\u{200C}';
const ZERO_WIDTH_JOINER: char = '\u{200D}';
/// The emoji on which tag sequences, the flags of regions, are based (UTS #51, section 1.4.6).
const BLACK_FLAG: char = '\u{1F3F4}';
const CANCEL_TAG: char = '\u{E007F}';
/// The mark that makes a digit a keycap, which is an emoji.
pub const ENCLOSING_KEYCAP: char = '\u{20E3}';

/// The scripts whose words may contain joiners (Unicode Standard Annex #31, section 2.3).
const SCRIPTS_WITH_JOINERS: [Script; 26] = [
    Script::Arabic,
    Script::Syriac,
    Script::Mandaic,
    Script::Nko,
    Script::Adlam,
    Script::HanifiRohingya,
    Script::Mongolian,
    Script::PhagsPa,
    Script::Devanagari,
    Script::Bengali,
    Script::Gurmukhi,
    Script::Gujarati,
    Script::Oriya,
    Script::Tamil,
    Script::Telugu,
    Script::Kannada,
    Script::Malayalam,
    Script::Sinhala,
    Script::Khmer,
    Script::Myanmar,
    Script::Tibetan,
    Script::Balinese,
    Script::Javanese,
    Script::MeeteiMayek,
    Script::Newa,
    Script::Chakma,
];

/// A character that one-line text must not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A control character, or a separator of lines or paragraphs.
    Control,
    /// A character that changes the direction of the text around it.
    Direction(char),
    /// A character that is not visible at its place.
    Invisible(char),
}

/// Returns whether a text shows nothing, because all its characters are white space or invisible.
pub fn is_blank(text: &str) -> bool {
    !text.chars().any(is_visible)
}

/// Returns the characters of a line, each with the rule that it breaks, if any.
pub fn inspect(line: &str) -> impl Iterator<Item = (char, Option<Violation>)> {
    let mut rest = line.chars().peekable();
    let mut before = Preceding::default();
    std::iter::from_fn(move || {
        let character = rest.next()?;
        let violation = violation(&before, character, &mut rest);
        before.push(character, violation);
        Some((character, violation))
    })
}

fn is_visible(character: char) -> bool {
    // A cheap answer for most texts.
    if character.is_ascii_graphic() {
        return true;
    }
    let is_hidden = character.is_whitespace()
        || character.is_control()
        || is_default_ignorable(character)
        || is_hidden_without_property(character);
    !is_hidden
}

/// Returns whether a character shows nothing of its own (Unicode Standard, section 5.21).
pub fn is_default_ignorable(character: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// Returns whether a character only selects a variant of the character before it.
pub fn is_variation_selector(character: char) -> bool {
    matches!(character, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

/// Returns whether a character shows nothing, although Unicode does not call it ignorable.
///
/// These are the empty Braille pattern, the marks of interlinear annotations, and codes that are no characters.
fn is_hidden_without_property(character: char) -> bool {
    matches!(character, '\u{2800}' | '\u{FFF9}'..='\u{FFFB}' | '\u{FDD0}'..='\u{FDEF}')
        || u32::from(character) & 0xFFFE == 0xFFFE
}

/// The characters before the one that is inspected, as far as its rule needs them.
#[derive(Default)]
struct Preceding {
    /// The last character.
    last: Option<char>,
    /// The last character that marks, joiners, variation selectors and modifiers extend.
    base: Option<char>,
}

impl Preceding {
    fn push(&mut self, character: char, violation: Option<Violation>) {
        if violation.is_some() {
            return;
        }
        self.last = Some(character);
        let extends_base = is_mark(character)
            || is_default_ignorable(character)
            || CodePointSetData::new::<EmojiModifier>().contains(character);
        if !extends_base {
            self.base = Some(character);
        }
    }
}

/// Returns the rule that a character breaks between those before it and the rest of the line.
fn violation(before: &Preceding, character: char, rest: &mut Peekable<Chars<'_>>) -> Option<Violation> {
    if character.is_ascii() {
        return character.is_ascii_control().then_some(Violation::Control);
    }
    if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
        return Some(Violation::Control);
    }
    if CodePointSetData::new::<BidiControl>().contains(character) {
        return Some(Violation::Direction(character));
    }
    let is_hidden = is_default_ignorable(character) || is_hidden_without_property(character);
    (is_hidden && !changes_neighbours(before, character, rest.peek().copied()))
        .then_some(Violation::Invisible(character))
}

/// Returns whether an invisible character changes how the characters around it look.
fn changes_neighbours(before: &Preceding, character: char, next: Option<char>) -> bool {
    let (Some(last), Some(base)) = (before.last, before.base) else { return false };
    let is_pictographic = |character| CodePointSetData::new::<ExtendedPictographic>().contains(character);
    match character {
        ZERO_WIDTH_JOINER if is_pictographic(base) => last != ZERO_WIDTH_JOINER && next.is_some_and(is_pictographic),
        ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER => {
            let joins_a_form = character == ZERO_WIDTH_JOINER && keeps_its_form(last, base);
            is_joinable(base) && !is_joiner(last) && (joins_a_form || next.is_some_and(continues_word))
        }
        '\u{FE0E}' | '\u{FE0F}' if base.is_ascii() => next == Some(ENCLOSING_KEYCAP) && last == base,
        '\u{FE0E}' | '\u{FE0F}' => CodePointSetData::new::<Emoji>().contains(last),
        '\u{FE00}'..='\u{FE02}' => {
            let is_symbol = CodePointMapData::<GeneralCategory>::new().get(last) == GeneralCategory::MathSymbol;
            is_symbol || is_ideograph(last) || matches!(script(last), Script::Myanmar | Script::PhagsPa)
        }
        '\u{E0100}'..='\u{E01EF}' => is_ideograph(last),
        '\u{180B}'..='\u{180F}' => script(last) == Script::Mongolian,
        // The empty Braille pattern is the space of its script.
        '\u{2800}' => is_braille(last) && next.is_some_and(is_braille),
        CANCEL_TAG => base == BLACK_FLAG && last != BLACK_FLAG,
        '\u{E0020}'..='\u{E007E}' => {
            let follows_tag = last == BLACK_FLAG || ('\u{E0020}'..='\u{E007E}').contains(&last);
            base == BLACK_FLAG && follows_tag && next.is_some_and(|next| ('\u{E0020}'..=CANCEL_TAG).contains(&next))
        }
        _ => false,
    }
}

fn script(character: char) -> Script {
    CodePointMapData::<Script>::new().get(character)
}

fn is_ideograph(character: char) -> bool {
    CodePointSetData::new::<UnifiedIdeograph>().contains(character)
}

fn is_braille(character: char) -> bool {
    script(character) == Script::Braille
}

fn is_joiner(character: char) -> bool {
    matches!(character, ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER)
}

fn is_mark(character: char) -> bool {
    GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(character))
}

/// Returns whether a character is of a script whose words may contain joiners.
fn is_joinable(character: char) -> bool {
    SCRIPTS_WITH_JOINERS.contains(&script(character))
}

/// Returns whether a character continues a word of a script that may contain joiners.
fn continues_word(character: char) -> bool {
    is_joinable(character) || (is_mark(character) && script(character) == Script::Inherited)
}

/// Returns whether a joiner at the end of a word shows the last letter in its joined form.
fn keeps_its_form(last: char, base: char) -> bool {
    let is_dual_joining = CodePointMapData::<JoiningType>::new().get(base) == JoiningType::DualJoining;
    let is_virama = CodePointMapData::<CanonicalCombiningClass>::new().get(last) == CanonicalCombiningClass::Virama;
    is_dual_joining || is_virama
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(text: &str) -> Vec<Violation> {
        inspect(text).filter_map(|(_, violation)| violation).collect()
    }

    #[test]
    fn text_is_blank_if_nothing_of_it_is_visible() {
        let invisible = [
            "",
            " ",
            "\u{200B}",
            "\u{3164}",
            "\u{115F}\u{1160}",
            "\u{FFA0}",
            "\u{2800}",
            "\u{FEFF}",
            "\u{00AD}",
            "\u{2060}",
            "\u{202E}",
            "\u{200D}",
            "\u{FE0F}",
            "\u{E0020}",
            "\u{3000}",
            "\u{A0}",
            "\n\u{2028}",
            "\0",
            "\u{FFFE}",
            "\u{17B4}",
            "\u{034F}",
        ];
        for text in invisible {
            assert!(is_blank(text), "{text:?}");
        }
        for text in ["a", "\u{200B}a", "é", "王", "👍", "\u{10FFFD}", "-", "\u{0301}"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    #[test]
    fn invisible_character_breaks_a_rule_outside_its_place() {
        for (text, expected) in [
            ("a\u{200B}b", Violation::Invisible('\u{200B}')),
            ("a\u{200D}b", Violation::Invisible('\u{200D}')),
            ("a\u{200C}b", Violation::Invisible('\u{200C}')),
            ("می\u{200C}", Violation::Invisible('\u{200C}')),
            ("می\u{200C} خ", Violation::Invisible('\u{200C}')),
            ("\u{200C}می", Violation::Invisible('\u{200C}')),
            ("م\u{200C}\u{200C}ی", Violation::Invisible('\u{200C}')),
            ("👩\u{200D}", Violation::Invisible('\u{200D}')),
            ("👩\u{200D}x", Violation::Invisible('\u{200D}')),
            ("\u{200D}👩", Violation::Invisible('\u{200D}')),
            ("1\u{FE0F}", Violation::Invisible('\u{FE0F}')),
            ("a\u{FE0F}", Violation::Invisible('\u{FE0F}')),
            ("a\u{E0100}", Violation::Invisible('\u{E0100}')),
            ("a\u{E0041}", Violation::Invisible('\u{E0041}')),
            ("🏴\u{E0067}", Violation::Invisible('\u{E0067}')),
            ("a\u{00AD}b", Violation::Invisible('\u{00AD}')),
            ("a\u{2060}b", Violation::Invisible('\u{2060}')),
            ("\u{FEFF}a", Violation::Invisible('\u{FEFF}')),
            ("a\u{3164}", Violation::Invisible('\u{3164}')),
            ("a\u{034F}b", Violation::Invisible('\u{034F}')),
            ("a\u{2800}", Violation::Invisible('\u{2800}')),
            ("a\u{FFF9}b", Violation::Invisible('\u{FFF9}')),
            ("a\u{FFFF}b", Violation::Invisible('\u{FFFF}')),
            ("a\u{202E}b", Violation::Direction('\u{202E}')),
            ("a\u{200F}b", Violation::Direction('\u{200F}')),
            ("a\u{061C}b", Violation::Direction('\u{061C}')),
            ("a\u{2066}b", Violation::Direction('\u{2066}')),
            ("a\u{2028}b", Violation::Control),
            ("a\u{2029}b", Violation::Control),
            ("a\nb", Violation::Control),
            ("a\u{85}b", Violation::Control),
            ("a\u{7f}b", Violation::Control),
        ] {
            assert_eq!(violations(text), [expected], "{text:?}");
        }
    }

    #[test]
    fn invisible_character_is_allowed_where_it_is_part_of_visible_text() {
        for text in [
            "👩\u{200D}👩\u{200D}👧\u{200D}👦",
            "👩🏽\u{200D}🚀",
            "🏳\u{FE0F}\u{200D}🌈",
            "🏳\u{200D}🌈",
            "❤\u{FE0F}\u{200D}🔥",
            "🧑\u{200D}🧑\u{200D}🧒",
            "🏃🏽\u{200D}♀\u{FE0F}\u{200D}➡\u{FE0F}",
            "❤\u{FE0F}",
            "1\u{FE0F}\u{20E3}",
            "©\u{FE0F}",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            "می\u{200C}خواهم",
            "نامه\u{200C}ای",
            "۱۳۹۸ ه\u{200D}.ش",
            "क्\u{200D}ष",
            "क्\u{200C}ष",
            "क्\u{200D}",
            "ශ්\u{200D}රී ලංකා",
            "র\u{200D}\u{09CD}য",
            "ന്\u{200D}",
            "葛\u{E0100}城",
            "ᠠ\u{180B}",
            "⠓\u{2800}⠓",
            "Zoë 王小明 Ågot O’Neill الفارسية",
        ] {
            assert_eq!(violations(text), [], "{text:?}");
        }
    }
}
