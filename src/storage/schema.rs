//! The tables of both engines, by hand; a test holds them to the migrated databases.

use diesel::{allow_tables_to_appear_in_same_query, table};

table! {
    use diesel::sql_types::Text;
    use crate::storage::column_types::Instant;

    organizations (id) {
        id -> Text,
        created_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{Nullable, Text};
    use crate::storage::column_types::Instant;

    users (organization_id, id) {
        organization_id -> Text,
        id -> Text,
        name -> Text,
        name_folded -> Text,
        avatar_url -> Nullable<Text>,
        created_at -> Instant,
        last_seen_at -> Nullable<Instant>,
        revoked_before -> Nullable<Instant>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Integer, Jsonb, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    chats (id) {
        id -> Id,
        organization_id -> Text,
        kind -> Text,
        category -> Nullable<Text>,
        title -> Nullable<Text>,
        title_folded -> Nullable<Text>,
        description -> Nullable<Text>,
        avatar_url -> Nullable<Text>,
        policy -> Jsonb,
        slow_mode_seconds -> Integer,
        created_by -> Nullable<Text>,
        created_at -> Instant,
        last_activity_at -> Instant,
        version -> BigInt,
        details_version -> BigInt,
        last_seq -> BigInt,
        member_count -> Integer,
        direct_key -> Nullable<Text>,
        nonce -> Nullable<Text>,
        fingerprint -> Nullable<Binary>,
        archived_at -> Nullable<Instant>,
        resource_type -> Nullable<Text>,
        resource_id -> Nullable<Text>,
        changed_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    members (chat_id, user_id) {
        chat_id -> Id,
        user_id -> Text,
        organization_id -> Text,
        role -> Text,
        joined_at -> Instant,
        added_by -> Nullable<Text>,
        left_at -> Nullable<Instant>,
        version -> BigInt,
        last_read_seq -> BigInt,
        last_read_at -> Nullable<Instant>,
        last_posted_at -> Nullable<Instant>,
        silenced_until -> Nullable<Instant>,
        last_delivered_seq -> BigInt,
        read_privately -> Bool,
        muted_until -> Nullable<Instant>,
        notification_level -> Text,
        pinned -> Bool,
        marked_unread -> Bool,
        draft -> Nullable<Text>,
        moved_at -> Nullable<Instant>,
        shown_at -> Nullable<Instant>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    messages (chat_id, seq) {
        chat_id -> Id,
        seq -> BigInt,
        version -> BigInt,
        kind -> Text,
        sender_id -> Nullable<Text>,
        nonce -> Nullable<Text>,
        fingerprint -> Nullable<Binary>,
        text -> Nullable<Text>,
        reply_to_seq -> Nullable<BigInt>,
        created_at -> Instant,
        edited_at -> Nullable<Instant>,
        deleted_at -> Nullable<Instant>,
        thread_root_seq -> Nullable<BigInt>,
        in_timeline -> Bool,
        reply_count -> Integer,
        mentions_everyone -> Bool,
        content -> Nullable<Jsonb>,
        pinned_at -> Nullable<Instant>,
        pinned_by -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    revisions (chat_id, seq, version) {
        chat_id -> Id,
        seq -> BigInt,
        version -> BigInt,
        text -> Text,
        edited_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    reactions (chat_id, seq, emoji, user_id) {
        chat_id -> Id,
        seq -> BigInt,
        emoji -> Text,
        user_id -> Text,
        created_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::storage::column_types::Id;

    mentions (chat_id, user_id, seq) {
        chat_id -> Id,
        user_id -> Text,
        seq -> BigInt,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    votes (chat_id, seq, option, user_id) {
        chat_id -> Id,
        seq -> BigInt,
        option -> Integer,
        user_id -> Text,
        created_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    notifications (id) {
        id -> Id,
        organization_id -> Text,
        user_id -> Text,
        kind -> Text,
        chat_id -> Id,
        seq -> Nullable<BigInt>,
        actor_id -> Nullable<Text>,
        created_at -> Instant,
        read_at -> Nullable<Instant>,
        call_id -> Nullable<Id>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    reports (id) {
        id -> Id,
        organization_id -> Text,
        chat_id -> Id,
        seq -> BigInt,
        reporter_id -> Text,
        reason -> Text,
        text -> Nullable<Text>,
        created_at -> Instant,
        resolved_at -> Nullable<Instant>,
        resolved_by -> Nullable<Text>,
        resolution -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::Text;

    blocked_words (organization_id, word) {
        organization_id -> Text,
        word -> Text,
        action -> Text,
    }
}

table! {
    use diesel::sql_types::Text;
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    removals (organization_id, user_id, removed_at, chat_id) {
        organization_id -> Text,
        user_id -> Text,
        removed_at -> Instant,
        chat_id -> Id,
    }
}

table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    calls (id) {
        id -> Id,
        organization_id -> Text,
        chat_id -> Id,
        kind -> Text,
        started_by -> Text,
        started_at -> Instant,
        rings_until -> Instant,
        answered_at -> Nullable<Instant>,
        alone_since -> Nullable<Instant>,
        ended_at -> Nullable<Instant>,
        end_reason -> Nullable<Text>,
        talked -> BigInt,
        due_at -> Nullable<Instant>,
        version -> BigInt,
        own_version -> BigInt,
        changed_at -> Instant,
        forgotten -> BigInt,
    }
}

table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text};
    use crate::storage::column_types::Id;
    use crate::storage::column_types::Instant;

    call_participants (call_id, user_id) {
        call_id -> Id,
        user_id -> Text,
        organization_id -> Text,
        place -> Integer,
        device_id -> Text,
        status -> Text,
        joined_at -> Nullable<Instant>,
        left_at -> Nullable<Instant>,
        audio -> Bool,
        video -> Bool,
        screen -> Bool,
        version -> BigInt,
        joined_version -> BigInt,
        forgotten -> BigInt,
        expires_at -> Nullable<Instant>,
        listening -> Bool,
        reports -> Integer,
        round_trip_ms -> Double,
        packet_loss_percent -> Double,
        bitrate_kbps -> Double,
    }
}

table! {
    use diesel::sql_types::{BigInt, Jsonb, Text};
    use crate::storage::column_types::Id;

    call_signals (call_id, version) {
        call_id -> Id,
        version -> BigInt,
        from_id -> Text,
        to_id -> Text,
        kind -> Text,
        payload -> Jsonb,
    }
}

allow_tables_to_appear_in_same_query!(
    organizations,
    users,
    chats,
    members,
    messages,
    revisions,
    reactions,
    mentions,
    votes,
    notifications,
    reports,
    blocked_words,
    removals,
    calls,
    call_participants,
    call_signals,
);
