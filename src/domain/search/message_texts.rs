//! The texts of a message that a search finds.

use crate::domain::ids::OrganizationId;
use crate::domain::messages::Message;
use crate::domain::search::terms::TermPrefix;
use crate::domain::search::tokens::{indexed_words, tokens};

/// Returns the text, the question and options of the poll, and the name and address of the location.
pub fn message_texts(message: &Message) -> impl Iterator<Item = &str> {
    let text = message.text.iter();
    let poll = message.content.poll.iter().flat_map(|poll| std::iter::once(&poll.question).chain(&poll.options));
    let location =
        message.content.location.iter().flat_map(|location| location.name.iter().chain(location.address.iter()));
    text.chain(poll).chain(location).map(String::as_str)
}

/// Returns the words that the index has of a message.
///
/// An empty word separates the texts, so that no phrase is found across two of them.
pub fn message_words(message: &Message) -> Vec<String> {
    let mut all = Vec::new();
    for text in message_texts(message) {
        let tokens = tokens(text);
        if !all.is_empty() && !tokens.is_empty() {
            all.push(String::new());
        }
        all.extend(indexed_words(&tokens).map(|word| word.text()));
    }
    all
}

/// Returns the words of a message as PostgreSQL's index has them, or `None` if it has none.
pub fn message_tsvector(organization: &OrganizationId, message: &Message) -> Option<String> {
    let words = message_words(message);
    (!words.is_empty()).then(|| TermPrefix::new(organization).tsvector(&words))
}

/// Returns the texts of a message, one on each line, from which a snippet is taken.
pub fn snippet_source(message: &Message) -> String {
    message_texts(message).collect::<Vec<_>>().join("\n")
}
