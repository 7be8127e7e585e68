//! Characters that are equal in a search although Unicode gives them no decomposition to each other.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;

/// Returns what stands for a lower-case character in a search.
pub fn base_letters(character: char) -> Letters {
    match character {
        ..='\u{7f}' => Letters::One(character),
        '\u{80}'..='\u{2af}' | '\u{1d00}'..='\u{1dff}' | '\u{2c60}'..='\u{2c7f}' => latin(character),
        // The letter at the end of a word has the form of its end, which typing on changes.
        'ς' => Letters::One('σ'),
        'ך' => Letters::One('כ'),
        'ם' => Letters::One('מ'),
        'ן' => Letters::One('נ'),
        'ף' => Letters::One('פ'),
        'ץ' => Letters::One('צ'),
        // Arabic keyboards and those of its neighbours write the same letters with different characters.
        'ٱ' => Letters::One('ا'),
        'ى' | 'ی' => Letters::One('ي'),
        'ک' | 'ڪ' => Letters::One('ك'),
        'ة' | 'ہ' | 'ھ' | 'ە' | 'ۃ' => Letters::One('ه'),
        'ぁ'..='ヺ' => Letters::One(large_kana(hiragana(character))),
        _ => Letters::One(ascii_digit(character).unwrap_or(character)),
    }
}

/// The characters that stand for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    One(char),
    Several(&'static str),
}

impl Letters {
    /// Returns the characters.
    pub fn chars(self) -> impl Iterator<Item = char> {
        let (one, several) = match self {
            Self::One(character) => (Some(character), ""),
            Self::Several(text) => (None, text),
        };
        one.into_iter().chain(several.chars())
    }
}

/// Returns the letters without strokes, hooks and ligatures, as in the transform Latin-ASCII of CLDR.
fn latin(character: char) -> Letters {
    Letters::One(match character {
        'æ' => return Letters::Several("ae"),
        'œ' => return Letters::Several("oe"),
        'þ' => return Letters::Several("th"),
        'ƕ' => return Letters::Several("hv"),
        'ƣ' => return Letters::Several("oi"),
        'ȸ' => return Letters::Several("db"),
        'ȹ' => return Letters::Several("qp"),
        'ⱥ' => 'a',
        'ƀ' | 'ƃ' | 'ɓ' => 'b',
        'ƈ' | 'ȼ' => 'c',
        'ð' | 'đ' | 'ƌ' | 'ȡ' | 'ɖ' | 'ɗ' => 'd',
        'ə' | 'ɇ' | 'ɛ' => 'e',
        'ƒ' => 'f',
        'ǥ' | 'ɠ' => 'g',
        'ħ' | 'ⱨ' => 'h',
        'ı' | 'ɨ' | 'ɩ' => 'i',
        'ȷ' | 'ɉ' => 'j',
        'ƙ' | 'ⱪ' => 'k',
        'ł' | 'ƚ' | 'ȴ' | 'ⱡ' => 'l',
        'ŋ' | 'ƞ' | 'ȵ' | 'ɲ' => 'n',
        'ø' => 'o',
        'ƥ' | 'ᵽ' => 'p',
        'ĸ' | 'ɋ' => 'q',
        'ɍ' | 'ɽ' => 'r',
        'ȿ' => 's',
        'ŧ' | 'ƫ' | 'ƭ' | 'ȶ' | 'ʈ' | 'ⱦ' => 't',
        'ʉ' => 'u',
        'ʋ' => 'v',
        'ƴ' | 'ɏ' => 'y',
        'ƶ' | 'ȥ' | 'ɀ' | 'ⱬ' => 'z',
        _ => character,
    })
}

/// Returns the Hiragana letter of a Katakana letter; both scripts write the same syllables.
fn hiragana(character: char) -> char {
    match character {
        'ァ'..='ヶ' => char::from_u32(u32::from(character) - 0x60).unwrap_or(character),
        _ => character,
    }
}

/// Returns the ordinary form of a small Hiragana letter, which names write in its place.
fn large_kana(character: char) -> char {
    match character {
        'ぁ' => 'あ',
        'ぃ' => 'い',
        'ぅ' => 'う',
        'ぇ' => 'え',
        'ぉ' => 'お',
        'っ' => 'つ',
        'ゃ' => 'や',
        'ゅ' => 'ゆ',
        'ょ' => 'よ',
        'ゎ' => 'わ',
        'ゕ' => 'か',
        'ゖ' => 'け',
        _ => character,
    }
}

/// Returns the ASCII form of a decimal digit of any script.
///
/// Digits follow each other in tens, so the number of digits directly before a digit shows its value.
fn ascii_digit(character: char) -> Option<char> {
    if !is_decimal(character) {
        return None;
    }
    let before = ('\0'..character).rev().take_while(|before| is_decimal(*before)).count();
    u32::try_from(before % 10).ok().and_then(|value| char::from_digit(value, 10))
}

fn is_decimal(character: char) -> bool {
    CodePointMapData::<GeneralCategory>::new().get(character) == GeneralCategory::DecimalNumber
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_each_script_have_the_values_of_ascii_digits() {
        let digits: Vec<_> = (char::MIN..=char::MAX).filter(|character| is_decimal(*character)).collect();
        // NFKD has replaced the mathematical ones, which follow each other without a gap.
        let scripts: Vec<_> = digits.chunks(10).filter(|ten| !('\u{1d7ce}'..='\u{1d7ff}').contains(&ten[0])).collect();
        assert!(scripts.len() > 60, "{}", scripts.len());
        for ten in scripts {
            let values: String = ten.iter().filter_map(|digit| ascii_digit(*digit)).collect();
            assert_eq!(values, "0123456789", "{ten:?}");
        }
    }

    #[test]
    fn kana_have_one_form() {
        let fold = |text: &str| text.chars().flat_map(|kana| base_letters(kana).chars()).collect::<String>();
        assert_eq!(fold("キャノン"), "きやのん");
        assert_eq!(fold("キヤノン"), "きやのん");
        assert_eq!(fold("っヶヴー々"), "つけゔー々");
    }

    #[test]
    fn latin_letters_lose_strokes_and_ligatures() {
        let fold = |text: &str| text.chars().flat_map(|letter| base_letters(letter).chars()).collect::<String>();
        assert_eq!(fold("æœþðđøłħŧŋıə"), "aeoethddolhtnie");
        assert_eq!(fold("azß漢ж"), "azß漢ж");
    }
}
