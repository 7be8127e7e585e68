//! The settings of the use cases. `config` reads them from the environment.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::TimeDelta;

use crate::auth::keys::Secret;
use crate::domain::calls::CallTimeouts;

/// The limits that use cases apply.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// The limits of sizes.
    pub limits: LimitSettings,
    /// The limits of rates.
    pub rate_limits: RateLimitSettings,
    /// The limits of what users and organisations hold at the same time.
    pub quotas: QuotaSettings,
    /// The limits, timeouts and servers of calls.
    pub calls: CallSettings,
}

/// The limits of sizes.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    /// The maximum length of a message's text, in characters.
    pub max_message_characters: usize,
    /// The number of members up to which the members of a chat receive each other's read markers.
    pub max_receipt_members: usize,
    /// The number of members up to which a chat has typing indicators.
    pub max_typing_members: usize,
    /// The number of sends that wait in all send lanes before further sends are rejected.
    pub send_queue_capacity: usize,
}

/// The limits of what users and organisations hold on a node at the same time.
#[derive(Debug, Clone)]
pub struct QuotaSettings {
    /// Open WebSockets.
    pub websockets: QuotaLimits,
    /// Open event streams.
    pub event_streams: QuotaLimits,
    /// Open subscriptions.
    pub subscriptions: QuotaLimits,
    /// Queries, mutations and starting subscriptions that are running.
    pub operations: QuotaLimits,
    /// Sends that wait in a send lane. Each lane limits the part of its room that one organization takes.
    pub queued_sends: QuotaLimits,
    /// Texts that running operations have read and return, in MiB.
    pub operation_memory: QuotaLimits,
}

/// The limits of one resource.
#[derive(Debug, Clone, Copy)]
pub struct QuotaLimits {
    /// The number that one user may hold.
    pub per_user: usize,
    /// The number that all users of one organization may hold together.
    pub per_organization: usize,
}

/// The number of actions that a user may take per minute, all at once or spread.
#[derive(Debug, Clone)]
pub struct RateLimitSettings {
    /// Messages sent and edited.
    pub sends_per_minute: NonZeroU32,
    /// Reactions, votes and reports.
    pub reactions_per_minute: NonZeroU32,
    /// All other changes that are stored or delivered to others.
    pub writes_per_minute: NonZeroU32,
    /// Chats created.
    pub chats_per_minute: NonZeroU32,
    /// Calls of `setTyping` and `setPresence`.
    pub signals_per_minute: NonZeroU32,
    /// Calls started or joined.
    pub calls_per_minute: NonZeroU32,
    /// Signals and quality reports in calls.
    pub call_signals_per_minute: NonZeroU32,
    /// The size of the signals in calls, in KiB.
    pub call_signal_kib_per_minute: NonZeroU32,
}

/// The limits, timeouts and servers of calls.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// The time after which a call that nobody answered is missed.
    pub ring_timeout: Duration,
    /// The time after which an answered call with one participant ends.
    pub alone_timeout: Duration,
    /// The time after which a participant without a call feed has left.
    pub disconnect_timeout: Duration,
    /// The maximum number of participants that are in a call at the same time. Each sends to all others.
    pub max_participants: usize,
    /// The number of members up to which a call rings for all members of a chat. In a larger chat it does not ring.
    pub max_ring_members: usize,
    /// The maximum size of a signal's payload, in bytes of JSON.
    pub max_signal_bytes: usize,
    /// The maximum size of the signals of a call that are kept.
    pub max_kept_signal_bytes: usize,
    /// The STUN servers.
    pub stun_urls: Vec<IceUrl>,
    /// The TURN servers.
    pub turn_urls: Vec<IceUrl>,
    /// The secret that is shared with the TURN servers, by which time-limited credentials are created.
    pub turn_secret: Option<Secret>,
    /// The time for which such credentials are valid.
    pub turn_credential_ttl: Duration,
}

impl CallSettings {
    /// Returns the timeouts and limits that the state machine of calls applies.
    pub fn timeouts(&self) -> CallTimeouts {
        let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        CallTimeouts {
            ring_timeout: delta(self.ring_timeout),
            alone_timeout: delta(self.alone_timeout),
            disconnect_timeout: delta(self.disconnect_timeout),
            max_participants: self.max_participants,
        }
    }
}

/// The address of a STUN server (RFC 7064) or TURN server (RFC 7065), as browsers accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceUrl(String);

/// The error for a text that is not the address of a STUN or TURN server.
#[derive(Debug, thiserror::Error)]
#[error("must begin with {}: and name a host", .0.join(": or "))]
pub struct ParseIceUrlError(&'static [&'static str]);

impl IceUrl {
    /// The schemes of STUN servers.
    pub const STUN_SCHEMES: &'static [&'static str] = &["stun", "stuns"];
    /// The schemes of TURN servers.
    pub const TURN_SCHEMES: &'static [&'static str] = &["turn", "turns"];

    /// Parses an address that has one of the schemes.
    ///
    /// # Errors
    ///
    /// Fails if the scheme is another one, or if the host is missing.
    pub fn parse(url: &str, schemes: &'static [&'static str]) -> Result<Self, ParseIceUrlError> {
        let host = url.split_once(':').filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, host)| host);
        let has_host = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'));
        match has_host && url.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(url.to_owned())),
            false => Err(ParseIceUrlError(schemes)),
        }
    }

    /// Returns the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
