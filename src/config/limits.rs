//! The settings that limit sizes and rates, which belong to several layers.

use crate::config::reader::Reader;
use crate::graphql::settings::GraphqlSettings;
use crate::realtime::settings::{ClusterSettings, RealtimeSettings};
use crate::service::settings::{LimitSettings, QuotaLimits, QuotaSettings, RateLimitSettings};

pub(super) fn read_operations(reader: &mut Reader, is_introspection_public: bool) -> GraphqlSettings {
    reader.section("Limits");
    GraphqlSettings {
        max_depth: reader.number("PARLOR_MAX_DEPTH", "Maximum nesting of fields in an operation", "levels", 12, 3..=24),
        max_complexity: reader.number(
            "PARLOR_MAX_COMPLEXITY",
            "Maximum cost of an operation: its fields, multiplied along lists",
            "fields",
            150_000,
            100..=10_000_000,
        ),
        max_response_bytes: reader.number(
            "PARLOR_RESPONSE_BYTES",
            "Maximum size of a response or of an event of a subscription",
            "bytes",
            4 * 1024 * 1024,
            64 * 1024..=15 * 1024 * 1024,
        ),
        max_read_bytes: reader.number(
            "PARLOR_READ_BYTES",
            "Maximum size of the texts that an operation reads",
            "bytes",
            8 * 1024 * 1024,
            64 * 1024..=1024 * 1024 * 1024,
        ),
        query_timeout: reader.seconds("PARLOR_QUERY_SECONDS", "Seconds after which a query is given up", 10, 1..=3600),
        mutation_timeout: reader.seconds(
            "PARLOR_MUTATION_SECONDS",
            "Seconds after which a mutation is answered, although it continues",
            30,
            1..=3600,
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

/// Reads the limits of what users and organisations hold; an organisation may use the whole send queue.
pub(super) fn read_quotas(reader: &mut Reader, send_queue_capacity: usize) -> QuotaSettings {
    reader.section("Quotas per user and organization, on each node");
    let mut limit = |name, meaning, unit, default| reader.number(name, meaning, unit, default, 1..=10_000_000);
    QuotaSettings {
        websockets: QuotaLimits {
            per_user: limit("PARLOR_USER_WEBSOCKETS", "Maximum open WebSockets of a user", "WebSockets", 100),
            per_organization: limit(
                "PARLOR_ORGANIZATION_WEBSOCKETS",
                "Maximum open WebSockets of an organization",
                "WebSockets",
                100_000,
            ),
        },
        event_streams: QuotaLimits {
            per_user: limit("PARLOR_USER_EVENT_STREAMS", "Maximum open event streams of a user", "streams", 100),
            per_organization: limit(
                "PARLOR_ORGANIZATION_EVENT_STREAMS",
                "Maximum open event streams of an organization",
                "streams",
                100_000,
            ),
        },
        subscriptions: QuotaLimits {
            per_user: limit(
                "PARLOR_USER_SUBSCRIPTIONS",
                "Maximum open subscriptions of a user",
                "subscriptions",
                1_000,
            ),
            per_organization: limit(
                "PARLOR_ORGANIZATION_SUBSCRIPTIONS",
                "Maximum open subscriptions of an organization",
                "subscriptions",
                1_000_000,
            ),
        },
        operations: QuotaLimits {
            per_user: limit("PARLOR_USER_OPERATIONS", "Maximum running operations of a user", "operations", 100),
            per_organization: limit(
                "PARLOR_ORGANIZATION_OPERATIONS",
                "Maximum running operations of an organization",
                "operations",
                5_000,
            ),
        },
        queued_sends: QuotaLimits {
            per_user: limit("PARLOR_USER_QUEUED_SENDS", "Maximum waiting sends of a user", "sends", 64),
            // In each send lane, one organization leaves room for the others.
            per_organization: send_queue_capacity,
        },
        operation_memory: QuotaLimits {
            per_user: limit(
                "PARLOR_USER_OPERATION_MEMORY",
                "Maximum size of the texts in the running operations of a user",
                "MiB",
                64,
            ),
            per_organization: limit(
                "PARLOR_ORGANIZATION_OPERATION_MEMORY",
                "Maximum size of texts in an organization's running operations",
                "MiB",
                512,
            ),
        },
    }
}

pub(super) fn read_rates(reader: &mut Reader) -> RateLimitSettings {
    reader.section("Rate limits per user");
    RateLimitSettings {
        sends_per_minute: reader.rate("PARLOR_SENDS_PER_MINUTE", "Messages sent and edited", 3_000),
        reactions_per_minute: reader.rate("PARLOR_REACTIONS_PER_MINUTE", "Reactions, votes and reports", 3_000),
        writes_per_minute: reader.rate(
            "PARLOR_WRITES_PER_MINUTE",
            "Other changes: of chats, members, pins, read positions, drafts and so on",
            1_200,
        ),
        chats_per_minute: reader.rate("PARLOR_CHATS_PER_MINUTE", "Chats created", 600),
        signals_per_minute: reader.rate("PARLOR_SIGNALS_PER_MINUTE", "Calls of setTyping and setPresence", 1_200),
        calls_per_minute: reader.rate("PARLOR_CALLS_PER_MINUTE", "Calls started or joined", 60),
        call_signals_per_minute: reader.rate(
            "PARLOR_CALL_SIGNALS_PER_MINUTE",
            "Signals and quality reports in calls",
            1_200,
        ),
        call_signal_kib_per_minute: reader.rate(
            "PARLOR_CALL_SIGNAL_KIB_PER_MINUTE",
            "Size of the signals in calls, in KiB",
            8_192,
        ),
    }
}
