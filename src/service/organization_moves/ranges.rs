//! The division of a table's rows into ranges of their keys, which are exported and imported one by one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::storage::organization_rows::{KeyRange, Values};

/// The versions of an organisation's chats, by the ids of the chats in hexadecimal digits.
pub type ChatVersions = BTreeMap<String, i64>;

/// The rows with keys after one key and not after another one, as they were last exported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExportedRange {
    pub after: Option<Values>,
    pub until: Option<Values>,
    /// The number of the pass that read the rows; none before the first one.
    pub pass: Option<u64>,
    /// The file with the rows, if there are any.
    pub file: Option<String>,
    pub rows: usize,
    /// The checksum of the rows, in hexadecimal digits.
    pub checksum: String,
}

impl ExportedRange {
    /// Returns the bounds of the keys.
    pub fn keys(&self) -> KeyRange<'_> {
        KeyRange { after: self.after.as_ref(), until: self.until.as_ref() }
    }

    /// Returns whether other rows, at the same place, are the same.
    pub fn equals(&self, after: Option<&Values>, until: Option<&Values>, checksum: &str) -> bool {
        self.pass.is_some() && (self.after.as_ref(), self.until.as_ref()) == (after, until) && self.checksum == checksum
    }

    /// Returns whether the chats of a range, whose keys begin with a chat, have the same versions.
    pub fn has_same_versions(&self, before: &ChatVersions, now: &ChatVersions) -> bool {
        let chat = |key: &Option<Values>| key.as_ref().and_then(|key| key.first()?.as_str()).map(str::to_owned);
        let from = chat(&self.after).unwrap_or_default();
        match chat(&self.until) {
            Some(until) => before.range(from.clone()..=until.clone()).eq(now.range(from..=until)),
            None => before.range(from.clone()..).eq(now.range(from..)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn versions(chats: &[(&str, i64)]) -> ChatVersions {
        chats.iter().map(|(chat, version)| ((*chat).to_owned(), *version)).collect()
    }

    #[test]
    fn range_is_read_again_if_a_chat_in_it_changed_appeared_or_went_away() {
        let range = |after: Option<&str>, until: Option<&str>| ExportedRange {
            after: after.map(|chat| vec![json!(chat), json!(7)]),
            until: until.map(|chat| vec![json!(chat), json!(9)]),
            ..ExportedRange::default()
        };
        let before = versions(&[("b", 1), ("d", 1), ("f", 1)]);
        type Case = (&'static [(&'static str, i64)], [bool; 4]);
        let cases: [Case; 5] = [
            (&[("b", 1), ("d", 1), ("f", 1)], [true; 4]),
            (&[("b", 1), ("d", 2), ("f", 1)], [false, false, true, false]),
            (&[("b", 1), ("c", 1), ("d", 1), ("f", 1)], [false, false, true, false]),
            (&[("b", 1), ("f", 1)], [false, false, true, false]),
            (&[("b", 1), ("d", 1), ("f", 2)], [true, true, false, false]),
        ];
        for (now, expected) in cases {
            let now = versions(now);
            let ranges =
                [range(None, Some("d")), range(Some("b"), Some("d")), range(Some("e"), None), range(None, None)];
            assert_eq!(ranges.map(|range| range.has_same_versions(&before, &now)), expected, "{now:?}");
        }
    }
}
