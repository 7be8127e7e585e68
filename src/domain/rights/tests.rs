//! Tests of the rights for every action, role and permission.

use strum::IntoEnumIterator;

use crate::domain::buckets::Bucket;
use crate::domain::chats::{ChatDetails, Policy, Resource};
use crate::domain::ids::{ChatId, MessageId};
use crate::domain::messages::{SystemMessage, SystemMessageKind};
use crate::domain::rights::*;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
}

fn chat(kind: ChatKind) -> Chat {
    Chat {
        id: ChatId::new(Bucket::new(7).unwrap()),
        organization: "demo".parse().unwrap(),
        kind,
        details: ChatDetails::default(),
        created_by: None,
        created_at: at(0),
        last_activity_at: at(0),
        changed_at: at(0),
        version: 0,
        details_version: 0,
        last_seq: 0,
        last_message_seq: 0,
        member_count: 2,
        archived_at: None,
        resource: None,
    }
}

fn member(chat: &Chat, role: Role) -> Member {
    Member::new_member(chat.id, "alice".parse().unwrap(), role, 0, at(0))
}

/// Returns a message that Alice sent.
fn message(chat: &Chat) -> Message {
    let system_message = SystemMessage::new(SystemMessageKind::Welcome);
    Message {
        kind: MessageKind::Text,
        sender: Some("alice".parse().unwrap()),
        text: Some("hello".into()),
        ..Message::system(MessageId { chat: chat.id, seq: 1 }, system_message, at(0))
    }
}

/// Returns all permissions except that of an organisation's moderator, which raises the role.
fn without_moderate() -> Permissions {
    Permission::iter().filter(|permission| *permission != Permission::ChatModerate).collect()
}

/// Checks the default minimum role for each action in a group, a channel and a direct chat.
#[test]
fn action_requires_default_role_of_chat_kind() {
    use ChatAction::*;
    use Role::*;
    let table = [
        (Post, Some(Member), Some(Moderator), Some(Member)),
        (MentionEveryone, Some(Moderator), Some(Moderator), Some(Member)),
        (EditDetails, Some(Admin), Some(Admin), None),
        (AddMembers, Some(Admin), Some(Admin), None),
        (RemoveMembers, Some(Admin), Some(Admin), None),
        (SilenceMembers, Some(Moderator), Some(Moderator), None),
        (ChangeRoles, Some(Owner), Some(Owner), None),
        (DeleteOthersMessages, Some(Moderator), Some(Moderator), None),
        (Pin, Some(Moderator), Some(Moderator), Some(Member)),
        (StartCall, Some(Member), Some(Moderator), Some(Member)),
        (DeleteChat, Some(Owner), Some(Owner), None),
    ];
    assert_eq!(table.len(), ChatAction::iter().count());
    let permissions = without_moderate();
    for (action, group, channel, direct) in table {
        for (kind, min_role) in [(ChatKind::Group, group), (ChatKind::Channel, channel), (ChatKind::Direct, direct)] {
            for role in Role::iter() {
                let chat = chat(kind);
                let member = member(&chat, role);
                let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(9) };
                let expected = min_role.is_some_and(|min_role| role >= min_role);
                assert_eq!(rights.can(action).is_ok(), expected, "{kind:?} {role:?} {action:?}");
            }
        }
    }
}

#[test]
fn action_is_denied_without_its_permission() {
    let chat = chat(ChatKind::Group);
    let owner = member(&chat, Role::Owner);
    for action in ChatAction::iter() {
        for missing in Permission::iter() {
            let permissions: Permissions =
                without_moderate().into_iter().filter(|permission| *permission != missing).collect();
            let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&owner), now: at(9) };
            let is_required = missing == Permission::ChatView || required_permission(action) == Some(missing);
            assert_eq!(
                rights.can(action),
                if is_required { Err(DenialReason::MissingPermission(missing)) } else { Ok(()) }
            );
        }
    }
}

#[test]
fn non_member_sees_channels_only_and_may_do_nothing() {
    let permissions = without_moderate();
    for kind in ChatKind::iter() {
        let chat = chat(kind);
        let rights = ChatRights { permissions: &permissions, chat: &chat, member: None, now: at(9) };
        assert_eq!(can_see(&chat, None), kind == ChatKind::Channel);
        for action in ChatAction::iter() {
            assert_eq!(rights.can(action), Err(DenialReason::NotAMember));
        }
    }
}

#[test]
fn policy_replaces_default_role_of_chat_kind() {
    let permissions = without_moderate();
    let mut chat = chat(ChatKind::Channel);
    chat.details.policy = Policy([(ChatAction::Post, Role::Member)].into());
    let member = member(&chat, Role::Member);
    let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(9) };
    assert_eq!(rights.can(ChatAction::Post), Ok(()));
    assert_eq!(rights.can(ChatAction::Pin), Err(DenialReason::RoleTooLow { min_role: Role::Moderator }));
}

#[test]
fn mentioning_everyone_requires_the_role_for_posting() {
    let permissions = without_moderate();
    let mut chat = chat(ChatKind::Group);
    chat.details.policy = Policy([(ChatAction::Post, Role::Owner)].into());
    let admin = member(&chat, Role::Admin);
    let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&admin), now: at(9) };
    assert_eq!(rights.can(ChatAction::MentionEveryone), Err(DenialReason::RoleTooLow { min_role: Role::Owner }));
}

#[test]
fn denial_lasts_until_the_later_of_silencing_and_slow_mode() {
    let permissions = without_moderate();
    let mut chat = chat(ChatKind::Group);
    chat.details.slow_mode_seconds = 10;
    let mut member = member(&chat, Role::Member);
    member.last_posted_at = Some(at(0));
    for (silenced_until, retry_at) in [(5, 10), (15, 15)] {
        member.silenced_until = Some(at(silenced_until));
        let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(1) };
        assert_eq!(rights.can(ChatAction::Post).unwrap_err().retry_at(), Some(at(retry_at)));
    }
}

#[test]
fn slow_mode_ends_exactly_on_time_and_exempts_moderators() {
    let mut chat = chat(ChatKind::Group);
    chat.details.slow_mode_seconds = 10;
    let can = |role, second: i64, permissions: &Permissions| {
        let mut member = member(&chat, role);
        member.last_posted_at = Some(at(0));
        ChatRights { permissions, chat: &chat, member: Some(&member), now: at(second) }.can(ChatAction::Post)
    };
    assert_eq!(can(Role::Member, 9, &without_moderate()), Err(DenialReason::SlowMode { until: at(10), now: at(9) }));
    assert_eq!(can(Role::Member, 10, &without_moderate()), Ok(()));
    assert_eq!(can(Role::Moderator, 1, &without_moderate()), Ok(()));
    assert_eq!(can(Role::Member, 1, &Permission::iter().collect()), Ok(()));
}

#[test]
fn slow_mode_applies_to_edits_other_than_the_first_of_the_last_message() {
    let permissions = without_moderate();
    let mut chat = chat(ChatKind::Group);
    chat.details.slow_mode_seconds = 10;
    let can_edit = |role, message: &Message, second: i64| {
        let mut member = member(&chat, role);
        member.last_posted_at = Some(at(20));
        let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(second) };
        rights.can_edit(message)
    };
    let older = Message { created_at: at(5), ..message(&chat) };
    let last = Message { created_at: at(20), ..message(&chat) };
    let corrected = Message { edited_at: Some(at(21)), ..last.clone() };
    for message in [&older, &corrected] {
        let too_early = Err(DenialReason::SlowMode { until: at(30), now: at(29) });
        assert_eq!(can_edit(Role::Member, message, 29), too_early);
        assert_eq!(can_edit(Role::Member, message, 30), Ok(()));
        assert_eq!(can_edit(Role::Moderator, message, 21), Ok(()));
    }
    assert_eq!(can_edit(Role::Member, &last, 21), Ok(()));
}

#[test]
fn message_is_edited_by_its_sender_and_deleted_by_moderators_too() {
    let permissions = without_moderate();
    let chat = chat(ChatKind::Group);
    let mut message = message(&chat);
    let rights = |member| ChatRights { permissions: &permissions, chat: &chat, member, now: at(9) };
    let alice = member(&chat, Role::Member);
    let bob = Member { user: "bob".parse().unwrap(), ..alice.clone() };
    assert_eq!(rights(Some(&alice)).can_edit(&message), Ok(()));
    assert_eq!(rights(Some(&alice)).can_delete(&message), Ok(()));
    assert_eq!(rights(Some(&bob)).can_edit(&message), Err(DenialReason::NotTheSender));
    assert_eq!(rights(Some(&bob)).can_delete(&message), Err(DenialReason::RoleTooLow { min_role: Role::Moderator }));
    let moderator = Member { role: Role::Moderator, ..bob.clone() };
    assert_eq!(rights(Some(&moderator)).can_edit(&message), Err(DenialReason::NotTheSender));
    assert_eq!(rights(Some(&moderator)).can_delete(&message), Ok(()));
    assert_eq!(rights(None).can_delete(&message), Err(DenialReason::NotAMember));
    message.deleted_at = Some(at(1));
    assert_eq!(rights(Some(&alice)).can_edit(&message), Err(DenialReason::Deleted));
}

#[test]
fn silenced_member_cannot_post_nor_start_calls_until_exactly_the_end() {
    let permissions = without_moderate();
    let chat = chat(ChatKind::Group);
    let mut owner = member(&chat, Role::Owner);
    owner.silenced_until = Some(at(10));
    let at_second =
        |second| ChatRights { permissions: &permissions, chat: &chat, member: Some(&owner), now: at(second) };
    let silenced = Err(DenialReason::Silenced { until: at(10) });
    for action in ChatAction::iter() {
        let is_denied = matches!(action, ChatAction::Post | ChatAction::MentionEveryone | ChatAction::StartCall);
        assert_eq!(at_second(9).can(action), if is_denied { silenced } else { Ok(()) }, "{action:?}");
        assert_eq!(at_second(10).can(action), Ok(()), "{action:?}");
    }
    let message = message(&chat);
    for check in [ChatRights::can_react, ChatRights::can_edit, ChatRights::can_close_poll] {
        assert_eq!(check(&at_second(9), &message), silenced);
        assert_eq!(check(&at_second(10), &message), Ok(()));
    }
    assert_eq!(at_second(9).can_delete(&message), Ok(()));
    assert_eq!((at_second(9).can_send_media(), at_second(10).can_send_media()), (silenced, Ok(())));
}

#[test]
fn archived_chat_is_moderated_but_not_written() {
    let permissions = without_moderate();
    let mut chat = chat(ChatKind::Group);
    chat.archived_at = Some(at(1));
    let owner = member(&chat, Role::Owner);
    let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&owner), now: at(9) };
    for action in ChatAction::iter() {
        let expected = if is_allowed_in_archived(action) { Ok(()) } else { Err(DenialReason::Archived) };
        assert_eq!(rights.can(action), expected, "{action:?}");
    }
    let message = message(&chat);
    for check in [ChatRights::can_react, ChatRights::can_edit, ChatRights::can_close_poll, ChatRights::can_pin] {
        assert_eq!(check(&rights, &message), Err(DenialReason::Archived));
    }
    assert_eq!(rights.can_delete(&message), Ok(()));
    assert_eq!(rights.can_join_call(), Err(DenialReason::Archived));
}

#[test]
fn call_is_joined_by_members_whatever_their_role() {
    let permissions = [Permission::ChatView].into();
    for kind in ChatKind::iter() {
        let chat = chat(kind);
        let outsider = ChatRights { permissions: &permissions, chat: &chat, member: None, now: at(9) };
        for role in Role::iter() {
            let member = member(&chat, role);
            assert_eq!(ChatRights { member: Some(&member), ..outsider }.can_join_call(), Ok(()));
        }
        assert_eq!(outsider.can_join_call(), Err(DenialReason::NotAMember));
    }
}

#[test]
fn notes_of_one_user_have_no_calls() {
    let permissions = without_moderate();
    let notes = Chat { member_count: 1, ..chat(ChatKind::Direct) };
    let member = member(&notes, Role::Member);
    let rights = ChatRights { permissions: &permissions, chat: &notes, member: Some(&member), now: at(9) };
    for action in ChatAction::iter() {
        let expected = match action {
            ChatAction::StartCall => Err(DenialReason::Notes),
            _ if is_allowed_in_direct(action) => Ok(()),
            _ => Err(DenialReason::DirectChat),
        };
        assert_eq!(rights.can(action), expected, "{action:?}");
    }
}

#[test]
fn role_change_is_limited_to_lower_members_and_own_role() {
    let permissions = without_moderate();
    let mut chat = chat(ChatKind::Group);
    chat.details.policy = Policy([(ChatAction::ChangeRoles, Role::Moderator)].into());
    for own_role in Role::iter() {
        let member = member(&chat, own_role);
        let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&member), now: at(9) };
        for from in Role::iter() {
            for to in Role::iter() {
                let expected =
                    own_role >= Role::Moderator && (own_role > from || own_role == Role::Owner) && to <= own_role;
                assert_eq!(rights.can_change_role(from, to).is_ok(), expected, "{own_role:?}: {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn system_message_cannot_be_changed_by_anyone() {
    let permissions = without_moderate();
    let chat = chat(ChatKind::Group);
    let owner = member(&chat, Role::Owner);
    let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&owner), now: at(9) };
    let message = Message { kind: MessageKind::System, sender: None, ..message(&chat) };
    assert_eq!(rights.can_edit(&message), Err(DenialReason::NotTheSender));
    assert_eq!(rights.can_delete(&message), Err(DenialReason::SystemMessage));
    assert_eq!(rights.can_react(&message), Err(DenialReason::SystemMessage));
    assert_eq!(rights.can_pin(&message), Err(DenialReason::SystemMessage));
}

/// Checks who may remove members of each role, in a chat of a resource and in another one.
#[test]
fn host_outranks_everyone_in_chats_of_resources_only() {
    let host: Permissions = [Permission::ChatView, Permission::OrganizationAdmin].into();
    let mut chat = chat(ChatKind::Group);
    for role in Role::iter() {
        let rights = ChatRights { permissions: &host, chat: &chat, member: None, now: at(9) };
        assert_eq!(rights.can_remove(role), Err(DenialReason::NotAMember));
    }
    chat.resource = Some(Resource { kind: "ticket".into(), id: "7".into() });
    for role in Role::iter() {
        let rights = ChatRights { permissions: &host, chat: &chat, member: None, now: at(9) };
        assert_eq!((rights.can_ban(), rights.can_remove(role)), (Ok(()), Ok(())));
        for missing in &host {
            let permissions: Permissions = host.iter().copied().filter(|permission| permission != missing).collect();
            let rights = ChatRights { permissions: &permissions, chat: &chat, member: None, now: at(9) };
            assert!(rights.can_ban().is_err(), "{missing:?}");
        }
        // A member removes those below their own role, and an owner everyone.
        let permissions: Permissions = [Permission::ChatView, Permission::ChatManageGroup].into();
        let admin = member(&chat, Role::Admin);
        let rights = ChatRights { permissions: &permissions, chat: &chat, member: Some(&admin), now: at(9) };
        assert_eq!(rights.can_remove(role).is_ok(), role < Role::Admin, "{role:?}");
    }
}
