//! The form in which texts are compared: without case, marks and forms that a search ignores.
//!
//! It is the same for messages, names, titles and blocked words. Case is folded in full (ß is ss), compatible forms are
//! equal (width, ligatures, Kana), and characters that show nothing are left out. The marks that modify a letter are
//! left out, such as accents, Hebrew points, Arabic vowel signs, nuktas, viramas and tone marks, as in the collation of
//! Unicode. Vowel signs of Indic scripts and the voicing marks of Kana are letters to a reader, and stay.

use std::ops::Range;

use icu_properties::props::{Diacritic, EmojiModifier, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical, is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::characters::{ENCLOSING_KEYCAP, is_default_ignorable};
use crate::domain::search::letters::base_letters;

/// The character that only makes Arabic words longer.
const TATWEEL: char = '\u{640}';

/// Returns the form of a name or a title by which it is found.
///
/// A text of which nothing would remain has its lower-case form.
pub fn fold(text: &str) -> String {
    let folded = FoldedText::new(text).text;
    if folded.trim().is_empty() { text.to_lowercase() } else { folded }
}

/// A text in the form in which it is compared, and the origin of its characters.
pub struct FoldedText {
    pub text: String,
    /// For each grapheme cluster: the start in the folded text, and the range in the original.
    original_ranges: Vec<(usize, Range<usize>)>,
}

impl FoldedText {
    pub fn new(text: &str) -> Self {
        let mut folded = Self { text: String::with_capacity(text.len()), original_ranges: Vec::new() };
        for (start, cluster) in text.grapheme_indices(true) {
            folded.original_ranges.push((folded.text.len(), start..start + cluster.len()));
            if !fold_common(&mut folded.text, cluster) {
                fold_cluster(&mut folded.text, cluster);
            }
        }
        folded
    }

    /// Returns the range in the original text from which a range of the folded text comes.
    pub fn original_range(&self, range: Range<usize>) -> Range<usize> {
        let origin = |position: usize| {
            let count = self.original_ranges.partition_point(|(start, _)| *start <= position);
            self.original_ranges[..count].last().map_or(0..0, |(_, origin)| origin.clone())
        };
        origin(range.start).start..origin(range.end - 1).end
    }
}

/// Appends the same as [`fold_cluster`] for the characters of most texts, or returns false.
///
/// It takes a fraction of the time.
fn fold_common(folded: &mut String, cluster: &str) -> bool {
    let mut characters = cluster.chars();
    let (Some(character), None) = (characters.next(), characters.next()) else { return false };
    match character {
        '\0'..='\u{7f}' => folded.push(character.to_ascii_lowercase()),
        '一'..='\u{9fff}' => folded.push(character),
        'ぁ'..='ゖ' | 'ァ'..='ヶ' => folded.extend(base_letters(character).chars()),
        '가'..='힣' => decompose_canonical(character, |letter| folded.push(letter)),
        _ => return false,
    }
    true
}

/// Appends the folded form of one grapheme cluster.
fn fold_cluster(folded: &mut String, cluster: &str) {
    let kept = cluster.nfkd().filter(|character| !is_ignored(*character));
    let letters = kept.flat_map(fold_case).flat_map(|letter| base_letters(letter).chars());
    for character in letters.nfc() {
        // The letters of a Hangul syllable stay apart, so that a syllable is found while it is being typed.
        match character {
            '가'..='힣' => decompose_canonical(character, |letter| folded.push(letter)),
            // The ligature և has this decomposition, and the upper case ԵՎ in the orthography of today.
            'ւ' if folded.ends_with('ե') => folded.push('վ'),
            _ => folded.push(character),
        }
    }
}

/// Returns the full case folding of a character.
///
/// It is the lower case of the upper case, which makes `ß` and `ẞ` equal to `ss`, and `ı` to `i`.
fn fold_case(character: char) -> impl Iterator<Item = char> {
    character.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase).filter(|it| !is_ignored(*it))
}

/// Returns whether a search ignores a character.
fn is_ignored(character: char) -> bool {
    !character.is_ascii()
        && (character == TATWEEL
            || is_default_ignorable(character)
            || CodePointSetData::new::<EmojiModifier>().contains(character)
            || is_ignored_mark(character))
}

/// Returns whether a character is a mark that modifies a letter and does not belong to its spelling.
///
/// The combining classes from 84 to 132 are vowel signs, 8 is the voicing of Kana, and 0 has no fixed place.
fn is_ignored_mark(character: char) -> bool {
    if !is_combining_mark(character) || matches!(character, '\u{3099}' | '\u{309a}' | ENCLOSING_KEYCAP) {
        return false;
    }
    CodePointSetData::new::<Diacritic>().contains(character)
        || CodePointMapData::<GeneralCategory>::new().get(character) == GeneralCategory::EnclosingMark
        || !matches!(canonical_combining_class(character), 0 | 8 | 84..=132)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_characters_are_folded_like_all_others() {
        for character in char::MIN..='\u{ffff}' {
            let (mut common, mut general) = (String::new(), String::new());
            if fold_common(&mut common, &character.to_string()) {
                fold_cluster(&mut general, &character.to_string());
                assert_eq!(common, general, "{character:?}");
            }
        }
    }
}
