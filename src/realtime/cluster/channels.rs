//! The channels over which messages are spread, so that a node receives those that it has listeners for.
//!
//! All nodes subscribe to the common channel. Messages about a chat use the chat's channel, and messages to a user the
//! user's channel. The hash is SHA-256, because all nodes of every release have to compute the same.

use sha2::{Digest, Sha256};

use crate::domain::ids::{ChatId, OrganizationId, UserId};

/// A channel of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The channel of all nodes.
    Common,
    /// A channel of chats, by its number.
    Chats(u32),
    /// A channel of users, by its number.
    Users(u32),
}

impl Channel {
    /// Returns the kind of the channel as metrics name it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Common => "nodes",
            Self::Chats(_) => "chats",
            Self::Users(_) => "users",
        }
    }

    /// Returns the number that stands for the channel in messages: even for chats and odd for users.
    ///
    /// The common channel has none.
    pub fn code(self) -> Option<u32> {
        match self {
            Self::Common => None,
            Self::Chats(number) => Some(number * 2),
            Self::Users(number) => Some(number * 2 + 1),
        }
    }

    /// Returns the channel for which a number stands in messages.
    pub fn from_code(code: u32) -> Self {
        if code.is_multiple_of(2) { Self::Chats(code / 2) } else { Self::Users(code / 2) }
    }
}

/// The number of channels of chats, which is also that of users, and the beginning of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channels {
    prefix: String,
    count: u32,
}

impl Channels {
    /// The largest number of channels of one kind.
    pub const MAX_COUNT: u32 = 65_536;

    /// Returns channels whose names begin with `prefix`. `count` must be a power of two.
    pub fn new(prefix: String, count: u32) -> Self {
        debug_assert!(
            count.is_power_of_two() && count <= Self::MAX_COUNT,
            "{count} is a power of two within the limit"
        );
        Self { prefix, count }
    }

    /// Returns the number of channels of one kind.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the channel of a chat.
    pub fn of_chat(&self, chat: ChatId) -> Channel {
        Channel::Chats(self.number_of(&[chat.0.as_bytes()]))
    }

    /// Returns the channel of a user.
    pub fn of_user(&self, organization: &OrganizationId, user: &UserId) -> Channel {
        // No id of an organization has the separator.
        Channel::Users(self.number_of(&[organization.as_str().as_bytes(), &[0], user.as_str().as_bytes()]))
    }

    /// Returns the name of a channel in Redis.
    ///
    /// It has the number of channels, so that nodes with different numbers do not take each other's channels for theirs.
    pub fn name(&self, channel: Channel) -> String {
        let Self { prefix, count } = self;
        match channel {
            Channel::Common => format!("{prefix}:nodes"),
            Channel::Chats(number) => format!("{prefix}:chats:{count}:{number}"),
            Channel::Users(number) => format!("{prefix}:users:{count}:{number}"),
        }
    }

    /// Returns the channel of this name, if it is one of these channels.
    pub fn parse(&self, name: &str) -> Option<Channel> {
        let name = name.strip_prefix(self.prefix.as_str())?.strip_prefix(':')?;
        if name == "nodes" {
            return Some(Channel::Common);
        }
        let (kind, rest) = name.split_once(':')?;
        let (count, number) = rest.split_once(':')?;
        let number = number.parse().ok().filter(|number| *number < self.count)?;
        if count.parse() != Ok(self.count) {
            return None;
        }
        match kind {
            "chats" => Some(Channel::Chats(number)),
            "users" => Some(Channel::Users(number)),
            _ => None,
        }
    }

    fn number_of(&self, parts: &[&[u8]]) -> u32 {
        let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
        let (head, _) = hash.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        u32::from_be_bytes(*head) & (self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;

    fn channels(count: u32) -> Channels {
        Channels::new("parlor".into(), count)
    }

    #[test]
    fn channel_of_a_chat_and_of_a_user_never_changes() {
        let (organization, user) = ("demo".parse().unwrap(), "bob".parse().unwrap());
        let chat = ChatId(Uuid::from_u128(0x0198_c0de_0000_8007_8000_0000_0000_0001));
        // printf 'demo\0bob' | sha256sum, and the same of the 16 bytes of the chat's id
        assert_eq!(channels(1_024).of_user(&organization, &user), Channel::Users(0x3ff & USER_HASH));
        assert_eq!(channels(65_536).of_user(&organization, &user), Channel::Users(0xffff & USER_HASH));
        assert_eq!(channels(1_024).of_chat(chat), Channel::Chats(0x3ff & CHAT_HASH));
        assert_eq!(channels(1).of_chat(chat), Channel::Chats(0));
    }

    const USER_HASH: u32 = 0x210c_89bf;
    const CHAT_HASH: u32 = 0x519e_08af;

    #[test]
    fn name_and_code_stand_for_one_channel() {
        let channels = channels(16);
        let all: Vec<Channel> = (0..16).flat_map(|number| [Channel::Chats(number), Channel::Users(number)]).collect();
        let names: HashSet<String> = all.iter().map(|channel| channels.name(*channel)).collect();
        assert_eq!(names.len(), 32);
        for channel in all {
            assert_eq!(channels.parse(&channels.name(channel)), Some(channel));
            assert_eq!(channel.code().map(Channel::from_code), Some(channel));
        }
        assert_eq!(channels.name(Channel::Chats(7)), "parlor:chats:16:7");
        assert_eq!(channels.name(Channel::Users(7)), "parlor:users:16:7");
        assert_eq!(channels.parse("parlor:nodes"), Some(Channel::Common));
        assert_eq!(Channel::Common.code(), None);
        for other in ["parlor:chats:16:16", "parlor:chats:32:1", "other:nodes", "parlornodes", "parlor:chats:16:-1", ""]
        {
            assert_eq!(channels.parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn chats_of_one_organization_are_spread_over_all_channels() {
        let channels = channels(16);
        let mut counts = [0; 16];
        for number in 0..16_000_u128 {
            // Ids of one organization and one millisecond differ in their last bits only.
            let chat = ChatId(Uuid::from_u128(0x0198_c0de_0000_8007_8000_0000_0000_0000 | number));
            let Channel::Chats(channel) = channels.of_chat(chat) else { panic!("a channel of chats") };
            counts[channel as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
