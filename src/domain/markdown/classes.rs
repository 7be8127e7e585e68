//! The classes of characters that decide where markup and addresses begin and end.

use icu_properties::props::{EastAsianWidth, EmojiPresentation, GeneralCategory, GeneralCategoryGroup, Script};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Scripts whose words or particles follow each other without spaces, besides those with wide letters.
const SCRIPTS_WITHOUT_SPACES: [Script; 13] = [
    Script::Hangul,
    Script::Thai,
    Script::Lao,
    Script::Khmer,
    Script::Myanmar,
    Script::Tibetan,
    Script::Javanese,
    Script::Balinese,
    Script::TaiLe,
    Script::NewTaiLue,
    Script::TaiTham,
    Script::TaiViet,
    Script::Sundanese,
];

/// Returns whether a character belongs to a script that separates no words by spaces.
///
/// For East Asian characters this is the "CJK character" of the CommonMark CJK-friendly amendments, section 2.1.
pub fn is_of_script_without_spaces(character: char) -> bool {
    if character.is_ascii() {
        return false;
    }
    let width = CodePointMapData::<EastAsianWidth>::new().get(character);
    let is_wide = matches!(width, EastAsianWidth::Wide | EastAsianWidth::Fullwidth | EastAsianWidth::Halfwidth);
    (is_wide && !CodePointSetData::new::<EmojiPresentation>().contains(character))
        || SCRIPTS_WITHOUT_SPACES.contains(&CodePointMapData::<Script>::new().get(character))
}

/// Returns whether a character is punctuation.
///
/// Symbols are punctuation in ASCII only, so that `**🎉**` is emphasis wherever it stands.
pub fn is_punctuation(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_punctuation();
    }
    GeneralCategoryGroup::Punctuation.contains(category(character))
}

/// Returns whether a character is punctuation or a symbol, as an emoji is.
pub fn is_punctuation_or_symbol(character: char) -> bool {
    is_punctuation(character) || GeneralCategoryGroup::Symbol.contains(category(character))
}

fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}
