use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use chrono::TimeDelta;

use crate::domain::ids::{CallId, ParticipantId};
use crate::domain::{call_signaling, calls};
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::user::User;
use crate::service::calls::ice_servers;

/// What a call is of.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallKind")]
pub enum CallKind {
    /// Voices.
    Audio,
    /// Voices and pictures.
    Video,
}

/// How far a call is.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallStatus")]
pub enum CallStatus {
    /// Nobody has answered yet.
    Ringing,
    /// Somebody answered.
    Active,
    /// It is over.
    Ended,
}

/// Why a call is over.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallEndReason")]
pub enum CallEndReason {
    /// It was answered, and then ended.
    Completed,
    /// Nobody answered while it rang.
    Missed,
    /// Everyone for whom it rang declined.
    Declined,
    /// Its caller took it back before an answer.
    Cancelled,
    /// Its caller's connection was lost before an answer.
    Failed,
}

/// Where a person stands in a call.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::ParticipantStatus")]
pub enum CallParticipantStatus {
    /// It rings for them.
    Ringing,
    /// They are in.
    Joined,
    /// They were in.
    Left,
    /// They did not want to come in.
    Declined,
    /// It rang for them until it was over.
    Missed,
}

/// Which way a call went for the viewer.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallDirection")]
pub enum CallDirection {
    /// Somebody else started it.
    Incoming,
    /// The viewer started it.
    Outgoing,
}

/// What a signal is.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "call_signaling::SignalKind")]
pub enum SignalKind {
    /// An offer: an `RTCSessionDescriptionInit` with its SDP (RFC 8866).
    Offer,
    /// The answer to an offer, of the same shape.
    Answer,
    /// A list of 1 to 50 `RTCIceCandidateInit`; an empty candidate is the end of them.
    IceCandidates,
    /// A request for a new offer, as after a loss of the connection: an object, `{}` will do.
    Renegotiate,
}

/// What a participant sends of themselves.
#[derive(SimpleObject)]
pub struct MediaState {
    /// Their voice.
    audio: bool,
    /// Their camera's picture.
    video: bool,
    /// Their screen.
    screen: bool,
}

/// What a participant is to send of themselves.
#[derive(InputObject)]
pub struct MediaStateInput {
    /// Their voice.
    audio: bool,
    /// Their camera's picture.
    video: bool,
    /// Their screen.
    screen: bool,
}

impl From<MediaStateInput> for calls::Media {
    fn from(MediaStateInput { audio, video, screen }: MediaStateInput) -> Self {
        Self { audio, video, screen }
    }
}

/// How good the connections of a call were, by what its participants reported.
#[derive(SimpleObject)]
struct CallQuality {
    /// Mean time to the other side and back, in milliseconds.
    average_round_trip_ms: Option<f64>,
    /// Mean share of packets that were lost, in per cent.
    average_packet_loss_percent: Option<f64>,
    /// Mean rate received, in kilobits a second.
    average_bitrate_kbps: Option<f64>,
    /// How many reports these are the means of.
    reports: i32,
}

pub struct Call(pub Arc<calls::Call>);

impl Call {
    /// A call that the viewer may know of.
    pub async fn participant_index(ctx: &Context<'_>, id: CallId) -> Result<Option<Self>> {
        Ok(ctx.loaders().load_one(id).await?.map(Self))
    }
}

/// An audio or video call in a chat. Its media go from device to device (WebRTC); the server says who is in,
/// and carries their signals.
#[Object]
impl Call {
    /// Opaque; the call's for ever.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The chat that it is in.
    async fn chat(&self, ctx: &Context<'_>) -> Result<Chat> {
        Chat::load(ctx, self.0.id.chat).await
    }

    /// What it was started as.
    async fn kind(&self) -> CallKind {
        self.0.kind.into()
    }

    /// How far it is.
    async fn status(&self) -> CallStatus {
        self.0.status().into()
    }

    /// Why it is over; null until it is.
    async fn end_reason(&self) -> Option<CallEndReason> {
        self.0.end.map(|(_, reason)| reason.into())
    }

    /// Who started it.
    async fn started_by(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.started_by).await
    }

    /// When it began to ring.
    async fn started_at(&self) -> DateTime {
        DateTime(self.0.started_at)
    }

    /// When somebody first answered.
    async fn answered_at(&self) -> Option<DateTime> {
        self.0.answered_at.map(DateTime)
    }

    /// When it ended.
    async fn ended_at(&self) -> Option<DateTime> {
        self.0.end.map(|(at, _)| DateTime(at))
    }

    /// Whole seconds from the answer to the end; null until it has ended, and where nobody answered.
    async fn duration_seconds(&self) -> Option<i32> {
        self.0.duration().map(|talked| i32::try_from(talked.num_seconds()).unwrap_or(i32::MAX))
    }

    /// Until when it rings, for anybody; null where it doesn't any more.
    async fn pending_ring_timeout(&self) -> Option<DateTime> {
        self.0.pending_ring_timeout().map(DateTime)
    }

    /// Everyone for whom it rang and who came in, in that order.
    #[graphql(complexity = "1 + 10 * child_complexity")]
    async fn participants(&self) -> Vec<CallParticipant> {
        let of = |participant: &calls::Participant| CallParticipant::from_call(&self.0, participant);
        self.0.participants.iter().map(of).collect()
    }

    /// Which way it went for the viewer; null where they had no part in it.
    async fn viewer_direction(&self, ctx: &Context<'_>) -> Option<Result<CallDirection>> {
        match ctx.viewer() {
            Ok(viewer) => self.0.direction(viewer.id()).map(|direction| Ok(direction.into())),
            Err(error) => Some(Err(error)),
        }
    }

    /// How good its connections were; null before the first report.
    async fn quality(&self) -> Option<CallQuality> {
        let sums = self.0.quality();
        (sums.reports > 0).then(|| CallQuality {
            average_round_trip_ms: sums.mean(sums.round_trip_ms),
            average_packet_loss_percent: sums.mean(sums.packet_loss_percent),
            average_bitrate_kbps: sums.mean(sums.bitrate_kbps),
            reports: sums.reports,
        })
    }
}

pub struct CallParticipant {
    id: ParticipantId,
    participant: calls::Participant,
}

impl CallParticipant {
    pub fn from_call(call: &calls::Call, participant: &calls::Participant) -> Self {
        Self { id: call.participant_id(participant), participant: participant.clone() }
    }

    /// The viewer as they are in a call.
    pub fn for_viewer(call: &calls::Call, ctx: &Context<'_>) -> Result<Self> {
        let joined = call.require_joined(ctx.viewer()?.id());
        joined.map(|participant| Self::from_call(call, participant)).map_err(Error::from)
    }

    /// Somebody in a call that the viewer may know of.
    pub async fn find(ctx: &Context<'_>, id: &ParticipantId) -> Result<Option<Self>> {
        let call = Call::participant_index(ctx, id.call).await?;
        Ok(call.and_then(|call| call.0.participant(&id.user).map(|participant| Self::from_call(&call.0, participant))))
    }
}

/// A person in a call, on the device by which they are in: on one at a time.
#[Object]
impl CallParticipant {
    /// Opaque; the same however often the person joins this call.
    pub async fn id(&self) -> ID {
        self.id.to_string().into()
    }

    /// Who it is.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.participant.user).await
    }

    /// What the client calls the device by which they are or last were in; empty until they answer.
    async fn device_id(&self) -> &str {
        &self.participant.device
    }

    /// Where they stand.
    async fn status(&self) -> CallParticipantStatus {
        self.participant.status.into()
    }

    /// When they last joined. Another moment than before is another connection: the others close theirs to
    /// this participant and begin anew.
    async fn joined_at(&self) -> Option<DateTime> {
        self.participant.joined_at.map(DateTime)
    }

    /// When they last left.
    async fn left_at(&self) -> Option<DateTime> {
        self.participant.left_at.map(DateTime)
    }

    /// What they send of themselves.
    async fn media(&self) -> MediaState {
        let calls::Media { audio, video, screen } = self.participant.media;
        MediaState { audio, video, screen }
    }
}

/// How the feed's own participant negotiates with another ("perfect negotiation" of the W3C's WebRTC 1.0),
/// so that two offers never collide for good.
#[derive(SimpleObject)]
pub struct Negotiation {
    /// The own side makes the first offer: it joined later.
    offers: bool,
    /// The own side is the polite one: where offers collide, it takes its own back.
    polite: bool,
}

impl From<calls::Negotiation> for Negotiation {
    fn from(calls::Negotiation { makes_offer: offers, is_polite }: calls::Negotiation) -> Self {
        Self { offers, polite: is_polite }
    }
}

/// What one participant's device tells another's.
#[derive(SimpleObject)]
pub struct Signal {
    /// Who sent it.
    from: CallParticipant,
    /// What it is.
    kind: SignalKind,
    /// As it was sent.
    payload: async_graphql::Json<serde_json::Value>,
}

impl Signal {
    pub fn from_signal(call: &calls::Call, from: &calls::Participant, signal: call_signaling::Signal) -> Self {
        let payload = async_graphql::Json(signal.payload);
        Self { from: CallParticipant::from_call(call, from), kind: signal.kind.into(), payload }
    }
}

/// A STUN or TURN server, as `RTCPeerConnection` takes it (`RTCIceServer` of the W3C's WebRTC 1.0).
#[derive(SimpleObject)]
pub struct IceServer {
    /// Its addresses (RFC 7064, RFC 7065).
    urls: Vec<String>,
    /// For TURN: the name to give.
    username: Option<String>,
    /// For TURN: the password to give.
    credential: Option<String>,
    /// Until when these hold: ask again before a connection that is made later.
    expires_at: Option<DateTime>,
}

impl From<ice_servers::IceServer> for IceServer {
    fn from(ice_servers::IceServer { urls, credentials }: ice_servers::IceServer) -> Self {
        let Some(ice_servers::TurnCredentials { username, password, expires_at }) = credentials else {
            return Self { urls, username: None, credential: None, expires_at: None };
        };
        let (username, credential) = (Some(username), Some(password));
        Self { urls, username, credential, expires_at: Some(DateTime(expires_at)) }
    }
}

/// Which calls to list.
#[derive(InputObject, Default)]
pub struct CallFilter {
    /// Only those of this chat.
    chat_id: Option<ID>,
    /// Only those of these kinds.
    kinds: Option<Vec<CallKind>>,
    /// True lists only those that rang for the viewer until they were over.
    missed_only: Option<bool>,
    /// Only those that began at this moment or later.
    since: Option<DateTime>,
    /// Only those that began before this moment.
    until: Option<DateTime>,
}

impl CallFilter {
    /// None where there can be no such call.
    pub fn validate(self) -> Option<calls::CallFilter> {
        Some(calls::CallFilter {
            chat: self.chat_id.map(|id| id.parse()).transpose().ok()?,
            kinds: self.kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            missed_only: self.missed_only.unwrap_or_default(),
            since: self.since.map(|at| at.0),
            until: self.until.map(|at| at.0),
        })
    }
}

/// Spans of time by which something is added up.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticsPeriod {
    /// 24 hours.
    Day,
    /// Seven days.
    Week,
    /// All at once.
    Whole,
}

impl StatisticsPeriod {
    pub fn length(self) -> TimeDelta {
        match self {
            Self::Day => TimeDelta::days(1),
            Self::Week => TimeDelta::weeks(1),
            Self::Whole => TimeDelta::MAX,
        }
    }
}

/// What the organisation's calls came to that began within a span of time and have ended.
#[derive(SimpleObject)]
pub struct CallStatistics {
    /// From this moment on.
    since: DateTime,
    /// Before this moment.
    until: DateTime,
    /// How many there were.
    calls: i64,
    /// Those that somebody answered.
    answered: i64,
    /// Those that nobody answered, and not everyone declined.
    missed: i64,
    /// Those that everyone declined for whom they rang.
    declined: i64,
    /// Minutes from the answer to the end, over all of them.
    minutes: f64,
}

impl From<(calls::TimeRange, calls::CallStatistics)> for CallStatistics {
    fn from(((since, until), totals): (calls::TimeRange, calls::CallStatistics)) -> Self {
        Self {
            since: DateTime(since),
            until: DateTime(until),
            calls: totals.calls,
            answered: totals.answered,
            missed: totals.missed,
            declined: totals.declined,
            minutes: totals.talk_seconds / 60.0,
        }
    }
}
