//! The settings of calls.

use crate::auth::keys::Secret;
use crate::config::reader::Reader;
use crate::service::settings::{CallSettings, IceUrl};

pub(super) fn read(reader: &mut Reader) -> CallSettings {
    reader.section("Calls");
    let settings = CallSettings {
        ring_timeout: reader.seconds(
            "PARLOR_CALL_RING_SECONDS",
            "Seconds before an unanswered call is missed",
            45,
            5..=600,
        ),
        alone_timeout: reader.seconds(
            "PARLOR_CALL_ALONE_SECONDS",
            "Seconds before a call with one participant ends",
            60,
            5..=3600,
        ),
        disconnect_timeout: reader.seconds(
            "PARLOR_CALL_LOST_SECONDS",
            "Seconds before a participant without a call feed leaves",
            15,
            5..=600,
        ),
        max_participants: reader.number(
            "PARLOR_CALL_PARTICIPANTS",
            "Maximum participants in a call at once",
            "participants",
            8,
            2..=50,
        ),
        max_ring_members: reader.number(
            "PARLOR_CALL_RING_MEMBERS",
            "Size of the largest chat in which a call rings for all members",
            "members",
            32,
            2..=256,
        ),
        max_signal_bytes: reader.number(
            "PARLOR_CALL_SIGNAL_BYTES",
            "Maximum size of a signal, within PARLOR_MAX_BODY_BYTES",
            "bytes",
            256 * 1024,
            4_096..=1024 * 1024,
        ),
        max_kept_signal_bytes: reader.number(
            "PARLOR_CALL_KEPT_SIGNAL_BYTES",
            "Maximum size of a call's signals that are kept; the oldest are deleted",
            "bytes",
            16 * 1024 * 1024,
            4 * 1024 * 1024..=1024 * 1024 * 1024,
        ),
        stun_urls: reader.list("PARLOR_STUN_URLS", "STUN servers (RFC 7064)", "stun:HOST:PORT", "", |url| {
            IceUrl::parse(url, IceUrl::STUN_SCHEMES)
        }),
        turn_urls: reader.list(
            "PARLOR_TURN_URLS",
            "TURN servers (RFC 7065)",
            "turn:HOST:PORT?transport=udp or turns:HOST:PORT?transport=tcp",
            "",
            |url| IceUrl::parse(url, IceUrl::TURN_SCHEMES),
        ),
        turn_secret: reader
            .text(
                "PARLOR_TURN_SECRET",
                "Secret shared with the TURN servers (static-auth-secret of coturn)",
                "text; together with PARLOR_TURN_URLS",
                "none",
            )
            .map(Secret::from),
        turn_credential_ttl: reader.seconds(
            "PARLOR_TURN_SECONDS",
            "Seconds for which TURN credentials are valid, within those of the token",
            3_600,
            60..=604_800,
        ),
    };
    if settings.turn_urls.is_empty() != settings.turn_secret.is_none() {
        reader.reject("PARLOR_TURN_SECRET", "must be set together with PARLOR_TURN_URLS");
    }
    settings
}
