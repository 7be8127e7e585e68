//! The tables of both engines, written by hand; a test compares them with the migrated databases.

use diesel::{allow_tables_to_appear_in_same_query, table};

table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::storage::column_types::SqlTimestamp;

    organizations (id) {
        id -> Text,
        created_at -> SqlTimestamp,
        move_state -> Nullable<Text>,
        move_revision -> Nullable<BigInt>,
        moved_to -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::{Nullable, Text};
    use crate::storage::column_types::SqlTimestamp;

    users (organization_id, id) {
        organization_id -> Text,
        id -> Text,
        name -> Text,
        name_folded -> Text,
        avatar_url -> Nullable<Text>,
        created_at -> SqlTimestamp,
        last_seen_at -> Nullable<SqlTimestamp>,
        revoked_before -> Nullable<SqlTimestamp>,
        token_issued_at -> Nullable<SqlTimestamp>,
        token_expires_at -> Nullable<SqlTimestamp>,
        name_search -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Integer, Jsonb, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    chats (bucket, id) {
        bucket -> Integer,
        id -> SqlUuid,
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
        created_at -> SqlTimestamp,
        last_activity_at -> SqlTimestamp,
        version -> BigInt,
        details_version -> BigInt,
        last_seq -> BigInt,
        member_count -> Integer,
        fingerprint -> Nullable<Binary>,
        archived_at -> Nullable<SqlTimestamp>,
        resource_type -> Nullable<Text>,
        resource_id -> Nullable<Text>,
        changed_at -> SqlTimestamp,
        last_message_seq -> BigInt,
        history_for_new_members -> Text,
        title_search -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    members (bucket, chat_id, user_id) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        user_id -> Text,
        organization_id -> Text,
        role -> Text,
        joined_at -> SqlTimestamp,
        added_by -> Nullable<Text>,
        left_at -> Nullable<SqlTimestamp>,
        version -> BigInt,
        last_read_seq -> BigInt,
        last_read_at -> Nullable<SqlTimestamp>,
        last_posted_at -> Nullable<SqlTimestamp>,
        silenced_until -> Nullable<SqlTimestamp>,
        last_delivered_seq -> BigInt,
        read_privately -> Bool,
        muted_until -> Nullable<SqlTimestamp>,
        notification_level -> Text,
        pinned -> Bool,
        marked_unread -> Bool,
        draft -> Nullable<Text>,
        moved_at -> Nullable<SqlTimestamp>,
        shown_at -> Nullable<SqlTimestamp>,
        history_after_seq -> BigInt,
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    messages (bucket, chat_id, seq) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        seq -> BigInt,
        version -> BigInt,
        kind -> Text,
        sender_id -> Nullable<Text>,
        nonce -> Nullable<Text>,
        nonce_hash -> Nullable<BigInt>,
        fingerprint -> Nullable<Binary>,
        text -> Nullable<Text>,
        reply_to_seq -> Nullable<BigInt>,
        created_at -> SqlTimestamp,
        edited_at -> Nullable<SqlTimestamp>,
        deleted_at -> Nullable<SqlTimestamp>,
        thread_root_seq -> Nullable<BigInt>,
        in_timeline -> Bool,
        reply_count -> Integer,
        mentions_everyone -> Bool,
        content -> Nullable<Jsonb>,
        pinned_at -> Nullable<SqlTimestamp>,
        pinned_by -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    revisions (bucket, chat_id, seq, version) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        seq -> BigInt,
        version -> BigInt,
        text -> Text,
        edited_at -> SqlTimestamp,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    reactions (bucket, chat_id, seq, emoji, user_id) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        seq -> BigInt,
        emoji -> Text,
        user_id -> Text,
        created_at -> SqlTimestamp,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;

    mentions (bucket, chat_id, user_id, seq) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        user_id -> Text,
        seq -> BigInt,
        thread_root_seq -> Nullable<BigInt>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    thread_members (bucket, chat_id, root_seq, user_id) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        root_seq -> BigInt,
        user_id -> Text,
        is_following -> Bool,
        last_read_seq -> BigInt,
        follows_after_seq -> BigInt,
        marked_read_at -> Nullable<SqlTimestamp>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    votes (bucket, chat_id, seq, option, user_id) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        seq -> BigInt,
        option -> Integer,
        user_id -> Text,
        created_at -> SqlTimestamp,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    notifications (bucket, id) {
        bucket -> Integer,
        id -> SqlUuid,
        organization_id -> Text,
        user_id -> Text,
        kind -> Text,
        chat_id -> SqlUuid,
        seq -> Nullable<BigInt>,
        actor_id -> Nullable<Text>,
        created_at -> SqlTimestamp,
        read_at -> Nullable<SqlTimestamp>,
        call_id -> Nullable<SqlUuid>,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    reports (bucket, id) {
        bucket -> Integer,
        id -> SqlUuid,
        organization_id -> Text,
        chat_id -> SqlUuid,
        seq -> BigInt,
        reporter_id -> Text,
        reason -> Text,
        text -> Nullable<Text>,
        created_at -> SqlTimestamp,
        resolved_at -> Nullable<SqlTimestamp>,
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
    use diesel::sql_types::{Integer, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    removals (bucket, organization_id, user_id, removed_at, chat_id) {
        bucket -> Integer,
        organization_id -> Text,
        user_id -> Text,
        removed_at -> SqlTimestamp,
        chat_id -> SqlUuid,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    deleted_chats (bucket, chat_id) {
        bucket -> Integer,
        chat_id -> SqlUuid,
        organization_id -> Text,
        version -> BigInt,
        deleted_at -> SqlTimestamp,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    calls (bucket, id) {
        bucket -> Integer,
        id -> SqlUuid,
        organization_id -> Text,
        chat_id -> SqlUuid,
        kind -> Text,
        started_by -> Text,
        started_at -> SqlTimestamp,
        rings_until -> SqlTimestamp,
        answered_at -> Nullable<SqlTimestamp>,
        alone_since -> Nullable<SqlTimestamp>,
        ended_at -> Nullable<SqlTimestamp>,
        end_reason -> Nullable<Text>,
        talked -> BigInt,
        due_at -> Nullable<SqlTimestamp>,
        version -> BigInt,
        own_version -> BigInt,
        changed_at -> SqlTimestamp,
        forgotten -> BigInt,
        signal_bytes -> BigInt,
        host_id -> Text,
    }
}

table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    call_participants (bucket, call_id, user_id) {
        bucket -> Integer,
        call_id -> SqlUuid,
        user_id -> Text,
        organization_id -> Text,
        place -> Integer,
        device_id -> Text,
        status -> Text,
        joined_at -> Nullable<SqlTimestamp>,
        left_at -> Nullable<SqlTimestamp>,
        audio -> Bool,
        video -> Bool,
        screen -> Bool,
        version -> BigInt,
        joined_version -> BigInt,
        forgotten -> BigInt,
        expires_at -> Nullable<SqlTimestamp>,
        listening -> Bool,
        reports -> Integer,
        round_trip_ms -> Double,
        packet_loss_percent -> Double,
        bitrate_kbps -> Double,
        joins -> Integer,
        departure -> Nullable<Text>,
        feed_id -> Nullable<SqlUuid>,
        decline_reason -> Nullable<Text>,
        barred -> Bool,
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Integer, Jsonb, Nullable, Text};
    use crate::storage::column_types::SqlUuid;

    call_signals (bucket, call_id, version) {
        bucket -> Integer,
        call_id -> SqlUuid,
        version -> BigInt,
        from_id -> Text,
        to_id -> Text,
        kind -> Text,
        payload -> Jsonb,
        bytes -> BigInt,
        nonce -> Nullable<Text>,
        fingerprint -> Nullable<Binary>,
    }
}

table! {
    schema_version (id) {
        id -> Integer,
        version -> BigInt,
        oldest_reader -> BigInt,
        oldest_writer -> BigInt,
    }
}

table! {
    database_epoch (id) {
        id -> Integer,
        epoch -> BigInt,
    }
}

table! {
    use diesel::sql_types::{BigInt, Integer};
    use crate::storage::column_types::SqlUuid;

    search_reindexing (id) {
        id -> Integer,
        bucket -> Integer,
        chat_id -> SqlUuid,
        seq -> BigInt,
    }
}

table! {
    use diesel::sql_types::{Integer, Nullable, Text};
    use crate::storage::column_types::SqlUuid;
    use crate::storage::column_types::SqlTimestamp;

    chat_bans (bucket, chat_id, user_id) {
        bucket -> Integer,
        organization_id -> Text,
        chat_id -> SqlUuid,
        user_id -> Text,
        banned_by -> Text,
        banned_at -> SqlTimestamp,
        reason -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::{Binary, Integer};
    use crate::storage::column_types::SqlTimestamp;

    cluster_state (id) {
        id -> Integer,
        message_key -> Binary,
        clock -> SqlTimestamp,
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
    thread_members,
    votes,
    notifications,
    reports,
    blocked_words,
    chat_bans,
    removals,
    deleted_chats,
    calls,
    call_participants,
    call_signals,
);
