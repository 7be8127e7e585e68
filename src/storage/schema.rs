//! The tables of both engines, by hand; a test holds them to the migrated databases.

use diesel::{allow_tables_to_appear_in_same_query, table};

table! {
    use diesel::sql_types::Text;
    use crate::storage::types::Instant;

    organizations (id) {
        id -> Text,
        created_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{Nullable, Text};
    use crate::storage::types::Instant;

    users (organization_id, id) {
        organization_id -> Text,
        id -> Text,
        name -> Text,
        name_folded -> Text,
        avatar_url -> Nullable<Text>,
        created_at -> Instant,
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Integer, Jsonb, Nullable, Text};
    use crate::storage::types::{Id, Instant};

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
    }
}

table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::storage::types::{Id, Instant};

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
    }
}

table! {
    use diesel::sql_types::{BigInt, Binary, Nullable, Text};
    use crate::storage::types::{Id, Instant};

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
    }
}

table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::storage::types::{Id, Instant};

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
    use crate::storage::types::{Id, Instant};

    reactions (chat_id, seq, emoji, user_id) {
        chat_id -> Id,
        seq -> BigInt,
        emoji -> Text,
        user_id -> Text,
        created_at -> Instant,
    }
}

allow_tables_to_appear_in_same_query!(organizations, users, chats, members, messages, revisions, reactions);
