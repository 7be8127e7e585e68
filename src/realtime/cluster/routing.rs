//! The channels of each message.
//!
//! A change of a chat goes to the chat's channel. Users whom it concerns whether or not they follow the chat (new and
//! former members, and users who are notified or called) get a part of it on their own channels. All nodes
//! receive what they have to know about all users, and what concerns nodes:
//!
//! | message | channel |
//! |---|---|
//! | change and deletion of a chat, signal of a call | chat |
//! | hint about members, typing | chat |
//! | begin and end of a membership, change of a call | chat and users |
//! | notifications | users |
//! | presence, rate limits, revocations, messages about nodes | all nodes |

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::chat_events::{
    CallHint, Change, ChatEvent, ChatEventKind, LogSlice, NotificationBatch, NotificationRef,
};
use crate::domain::ids::UserId;
use crate::realtime::cluster::channels::{Channel, Channels};
use crate::realtime::cluster::message::ClusterMessage;

/// Distributes messages over the channels. Messages about one chat or to one user keep their order.
pub fn by_channel(
    channels: &Channels,
    messages: impl IntoIterator<Item = ClusterMessage>,
) -> BTreeMap<Channel, Vec<ClusterMessage>> {
    let mut by_channel: BTreeMap<Channel, Vec<ClusterMessage>> = BTreeMap::new();
    let mut push = |channel, message| by_channel.entry(channel).or_default().push(message);
    for message in messages {
        match &message {
            ClusterMessage::Chat(event) => {
                for (channel, event) in user_events(channels, event) {
                    push(channel, ClusterMessage::UserEvent(event));
                }
                // Nobody but their users receives notifications.
                if !matches!(event.kind, ChatEventKind::NotificationsChanged(_)) {
                    push(channels.of_chat(event.chat), message);
                }
            }
            ClusterMessage::MembersChanged(hints) => push(channels.of_chat(hints.chat), message),
            ClusterMessage::Typing(update) => push(channels.of_chat(update.chat), message),
            ClusterMessage::UserEvent(_)
            | ClusterMessage::Presence(_)
            | ClusterMessage::PresenceAnnounced(_)
            | ClusterMessage::PresenceDigest(_)
            | ClusterMessage::PresenceRequested(_)
            | ClusterMessage::RateLimitUsage(_)
            | ClusterMessage::TokensRevoked { .. }
            | ClusterMessage::NodeJoined
            | ClusterMessage::Heartbeat { .. }
            | ClusterMessage::NodeLeaving
            | ClusterMessage::ResyncRequired => push(Channel::Common, message),
        }
    }
    by_channel
}

/// Returns the parts of an event for the users whom it names, each with the channel of its users.
fn user_events(channels: &Channels, event: &ChatEvent) -> Vec<(Channel, ChatEvent)> {
    let of_user = |user: &UserId| channels.of_user(&event.organization, user);
    let part = |kind| ChatEvent::new(event.organization.clone(), event.chat, event.published_at, kind);
    match &event.kind {
        ChatEventKind::LogChanges(slice) => {
            let members = slice.changes.iter().filter_map(|change| match change {
                Change::Member(member) => Some((of_user(&member.user), change)),
                Change::Chat(_) | Change::Message(..) => None,
            });
            // Each is a slice of its own, so that none seems to have the versions in between.
            let slice = |change: &Change| ChatEventKind::LogChanges(LogSlice::from_commit(vec![change.clone()]));
            members.map(|(channel, change)| (channel, part(slice(change)))).collect()
        }
        ChatEventKind::NotificationsChanged(batch) => {
            let by_channel = group_by_channel(&batch.user_ids, of_user);
            let of = |users: Vec<UserId>| {
                let is_of_users = |notification: &&NotificationRef| users.contains(&notification.user);
                let notifications = batch.notifications.iter().filter(is_of_users).cloned().collect();
                part(ChatEventKind::NotificationsChanged(NotificationBatch { user_ids: users, notifications }))
            };
            by_channel.into_iter().map(|(channel, users)| (channel, of(users))).collect()
        }
        ChatEventKind::CallChanged(hint) => {
            let by_channel = group_by_channel(&hint.user_ids, of_user);
            let of = |user_ids| part(ChatEventKind::CallChanged(CallHint { user_ids, ..hint.clone() }));
            by_channel.into_iter().map(|(channel, users)| (channel, of(users))).collect()
        }
        ChatEventKind::MembersUpdated(_) | ChatEventKind::Deleted { .. } => Vec::new(),
    }
}

/// Returns each user once, by the channel of the users.
fn group_by_channel(users: &[UserId], of_user: impl Fn(&UserId) -> Channel) -> BTreeMap<Channel, Vec<UserId>> {
    let mut by_channel: BTreeMap<Channel, Vec<UserId>> = BTreeMap::new();
    for user in users.iter().collect::<BTreeSet<_>>() {
        by_channel.entry(of_user(user)).or_default().push(user.clone());
    }
    by_channel
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::{ChatId, OrganizationId};
    use crate::domain::members::Member;
    use crate::realtime::cluster::message::TypingUpdate;

    fn channels() -> Channels {
        Channels::new("parlor".into(), 1_024)
    }

    fn organization() -> OrganizationId {
        "demo".parse().unwrap()
    }

    fn user(id: &str) -> UserId {
        id.parse().unwrap()
    }

    fn chat() -> ChatId {
        serde_json::from_value(json!("0198c0de-0000-8007-8000-000000000001")).unwrap()
    }

    fn member(id: &str, version: i64) -> Change {
        let at = "2026-01-01T00:00:00Z";
        let member: Member = serde_json::from_value(json!({
            "chat": chat(), "user": id, "role": "Member", "joined_at": at, "added_by": null, "left_at": null,
            "version": version, "history_after_seq": 0, "silenced_until": null, "last_posted_at": null,
            "read": { "seq": 0, "at": null, "privately": false, "delivered_seq": 0 },
            "own": { "muted_until": null, "level": "All", "pinned": false, "marked_unread": false, "draft": null },
            "moved_at": null, "shown_at": null
        }))
        .unwrap();
        Change::Member(member.into())
    }

    fn event(kind: ChatEventKind) -> ClusterMessage {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        ClusterMessage::Chat(ChatEvent::new(organization(), chat(), at, kind))
    }

    /// Returns what a user's channel receives of a message.
    fn for_user(message: &ClusterMessage, id: &str) -> Vec<ChatEventKind> {
        let channel = channels().of_user(&organization(), &user(id));
        let mut routed = by_channel(&channels(), [message.clone()]);
        let messages = routed.remove(&channel).unwrap_or_default();
        let kind = |message| match message {
            ClusterMessage::UserEvent(event) => event.kind,
            other => panic!("{other:?} on the channel of a user"),
        };
        messages.into_iter().map(kind).collect()
    }

    fn reaches_chat(message: &ClusterMessage) -> bool {
        by_channel(&channels(), [message.clone()]).contains_key(&channels().of_chat(chat()))
    }

    #[test]
    fn messages_of_one_chat_keep_their_order() {
        let typing = |id| ClusterMessage::Typing(TypingUpdate { chat: chat(), user: user(id), span: None });
        let mut routed = by_channel(&channels(), [typing("one"), typing("two"), typing("three")]);
        let messages = routed.remove(&channels().of_chat(chat())).unwrap();
        assert!(routed.is_empty());
        let users = messages.into_iter().map(|message| match message {
            ClusterMessage::Typing(update) => update.user.to_string(),
            other => panic!("unexpected message {other:?}"),
        });
        assert_eq!(users.collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn messages_about_the_node_itself_reach_all_nodes() {
        let messages = [ClusterMessage::NodeJoined, ClusterMessage::NodeLeaving, ClusterMessage::ResyncRequired];
        let routed = by_channel(&channels(), messages);
        assert_eq!(routed.into_keys().collect::<Vec<_>>(), [Channel::Common]);
    }

    #[test]
    fn each_new_member_gets_a_slice_with_their_version_only() {
        let changes = vec![member("alice", 2), member("bob", 3)];
        let message = event(ChatEventKind::LogChanges(LogSlice::from_commit(changes)));
        assert!(reaches_chat(&message));
        for (id, version) in [("alice", 2), ("bob", 3)] {
            let kinds = for_user(&message, id);
            let [ChatEventKind::LogChanges(slice)] = kinds.as_slice() else { panic!("{kinds:?}") };
            assert_eq!((slice.after_version, slice.to_version, slice.changes.len()), (version - 1, version, 1));
        }
        assert!(for_user(&message, "carol").is_empty());
    }

    #[test]
    fn notifications_reach_their_users_only() {
        let notification = |id: &str| -> NotificationRef {
            serde_json::from_value(json!({ "id": "0198c0de-0000-8007-8000-000000000002", "user": id })).unwrap()
        };
        let users = vec![user("alice"), user("bob"), user("bob")];
        let notifications = vec![notification("alice"), notification("bob")];
        let message = event(ChatEventKind::NotificationsChanged(NotificationBatch { user_ids: users, notifications }));
        assert!(!reaches_chat(&message));
        for id in ["alice", "bob"] {
            let kinds = for_user(&message, id);
            let [ChatEventKind::NotificationsChanged(batch)] = kinds.as_slice() else { panic!("{kinds:?}") };
            assert_eq!(
                (batch.user_ids.as_slice(), batch.notifications.as_slice()),
                ([user(id)].as_slice(), [notification(id)].as_slice(),)
            );
        }
    }

    #[test]
    fn call_reaches_its_chat_and_its_participants_and_a_signal_its_chat() {
        let call = serde_json::from_value(json!({ "chat": chat(), "call": "0198c0de-0000-8007-8000-000000000003" }));
        let hint = CallHint { call: call.unwrap(), version: 3, user_ids: vec![user("bob")], signal_recipient: None };
        let signal = CallHint { user_ids: Vec::new(), signal_recipient: Some(user("bob")), ..hint.clone() };
        let ringing = event(ChatEventKind::CallChanged(hint));
        assert!(reaches_chat(&ringing));
        assert_eq!(for_user(&ringing, "bob").len(), 1);
        assert!(for_user(&ringing, "carol").is_empty());
        let signal = event(ChatEventKind::CallChanged(signal));
        assert!(reaches_chat(&signal));
        assert!(for_user(&signal, "bob").is_empty());
    }
}
