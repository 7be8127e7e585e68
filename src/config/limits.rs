//! The settings that limit sizes and rates, which belong to several layers.

use crate::config::reader::Reader;
use crate::graphql::settings::GraphqlSettings;
use crate::realtime::settings::{ClusterSettings, RealtimeSettings};
use crate::service::settings::{LimitSettings, RateLimitSettings};

pub(super) fn read_operations(reader: &mut Reader, is_introspection_public: bool) -> GraphqlSettings {
    reader.section("Limits");
    GraphqlSettings {
        max_depth: reader.number("PARLOR_MAX_DEPTH", "Maximum nesting of fields in an operation", "levels", 12, 3..=24),
        max_complexity: reader.number(
            "PARLOR_MAX_COMPLEXITY",
            "Maximum fields that an operation resolves, multiplied by page sizes",
            "fields",
            50_000,
            100..=10_000_000,
        ),
        is_introspection_public,
    }
}

pub(super) fn read_sizes(reader: &mut Reader) -> LimitSettings {
    LimitSettings {
        max_message_characters: reader.number(
            "PARLOR_MESSAGE_CHARACTERS",
            "Maximum length of a message's text",
            "characters",
            8_000,
            1..=100_000,
        ),
        max_receipt_members: reader.number(
            "PARLOR_RECEIPT_MEMBERS",
            "Size of the largest chat whose members see each other's receipts",
            "members",
            256,
            0..=10_000,
        ),
        max_typing_members: reader.number(
            "PARLOR_TYPING_MEMBERS",
            "Size of the largest chat with typing indicators; 0 disables them",
            "members",
            256,
            0..=10_000,
        ),
        send_queue_capacity: reader.number(
            "PARLOR_SEND_QUEUE",
            "Waiting sends before further ones are rejected",
            "sends",
            4_096,
            1..=1_000_000,
        ),
    }
}

pub(super) fn read_feeds(reader: &mut Reader, cluster: ClusterSettings) -> RealtimeSettings {
    RealtimeSettings {
        cluster,
        max_catch_up_changes: reader.number(
            "PARLOR_CATCH_UP_CHANGES",
            "Changes up to which a resuming feed sends each; beyond, it is reset",
            "changes",
            1_000,
            1..=1_000_000,
        ),
        max_concurrent_catch_ups: reader.number(
            "PARLOR_CATCH_UPS",
            "Maximum feeds that read the database at once",
            "feeds",
            64,
            1..=10_000,
        ),
        presence_grace_period: reader.seconds(
            "PARLOR_PRESENCE_GRACE_SECONDS",
            "Seconds for which a user without a connection counts as online",
            5,
            0..=300,
        ),
    }
}

pub(super) fn read_rates(reader: &mut Reader) -> RateLimitSettings {
    reader.section("Rate limits per user");
    RateLimitSettings {
        sends_per_minute: reader.rate("PARLOR_SENDS_PER_MINUTE", "Messages sent", 3_000),
        reactions_per_minute: reader.rate("PARLOR_REACTIONS_PER_MINUTE", "Reactions, votes and reports", 3_000),
        chats_per_minute: reader.rate("PARLOR_CHATS_PER_MINUTE", "Chats created", 600),
        signals_per_minute: reader.rate("PARLOR_SIGNALS_PER_MINUTE", "Calls of setTyping and setPresence", 1_200),
        calls_per_minute: reader.rate("PARLOR_CALLS_PER_MINUTE", "Calls started or joined", 60),
        call_signals_per_minute: reader.rate(
            "PARLOR_CALL_SIGNALS_PER_MINUTE",
            "Signals and quality reports in calls",
            1_200,
        ),
    }
}
