//! The numbers of the envelopes that this node sends, counted for each channel.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::realtime::cluster::channels::Channel;
use crate::realtime::cluster::message::ChannelTail;

/// The numbers of the envelopes that this node has sent, by channel.
///
/// Nodes that subscribe to a channel see all its numbers from then on. Heartbeats say up to which number a channel was
/// used, so that the loss of its last envelope is noticed too.
#[derive(Debug, Default)]
pub struct SentNumbers {
    last: HashMap<Channel, (u64, DateTime<Utc>)>,
    /// The channels used since the last heartbeat.
    used: BTreeSet<Channel>,
}

impl SentNumbers {
    /// Returns the next number of a channel, and the time of the envelope before it.
    pub fn next(&mut self, channel: Channel, now: DateTime<Utc>) -> (u64, Option<DateTime<Utc>>) {
        self.used.insert(channel);
        let previous = self.last.get(&channel).copied();
        let number = previous.map_or(1, |(number, _)| number + 1);
        self.last.insert(channel, (number, now));
        (number, previous.map(|(_, sent_at)| sent_at))
    }

    /// Returns the last envelope of each channel used since the last call, but not of the common one.
    pub fn take_tails(&mut self) -> Vec<ChannelTail> {
        let tail = |channel: Channel| {
            let (number, sent_at) = self.last.get(&channel).copied()?;
            Some(ChannelTail { channel: channel.code()?, number, sent_at_micros: sent_at.timestamp_micros() })
        };
        std::mem::take(&mut self.used).into_iter().filter_map(tail).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn each_channel_counts_separately_and_names_its_last_envelope_once() {
        let (start, mut numbers) = (DateTime::UNIX_EPOCH, SentNumbers::default());
        let later = start + TimeDelta::seconds(2);
        assert_eq!(numbers.next(Channel::Common, start), (1, None));
        assert_eq!(numbers.next(Channel::Chats(3), start), (1, None));
        assert_eq!(numbers.next(Channel::Users(3), start), (1, None));
        assert_eq!(numbers.next(Channel::Chats(3), later), (2, Some(start)));
        let tail = |channel, number, sent_at_micros| ChannelTail { channel, number, sent_at_micros };
        assert_eq!(numbers.take_tails(), [tail(6, 2, 2_000_000), tail(7, 1, 0)]);
        assert_eq!(numbers.take_tails(), []);
    }
}
