//! Calls, their participants and signals, and the statistics of an organisation's calls.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use chrono::TimeDelta;

use crate::domain::calls;
use crate::domain::ids::{CallId, ConnectionId, ParticipantId};
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::{DateTime, Unchecked};
use crate::graphql::schema::types::objects::{Call, Chat, User};

/// The kind of a call.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallKind")]
pub enum CallKind {
    /// A call with audio only.
    Audio,
    /// A call with audio and video.
    Video,
}

/// The state of a call.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallStatus")]
pub enum CallStatus {
    /// The call rings, and nobody has answered yet.
    Ringing,
    /// The call was answered and has not ended.
    Active,
    /// The call has ended.
    Ended,
}

/// The reason why a call ended.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallEndReason")]
pub enum CallEndReason {
    /// The call was answered and then ended.
    Completed,
    /// Nobody answered while the call rang.
    Missed,
    /// Everyone for whom the call rang declined it.
    Declined,
    /// The caller left or ended the call before an answer.
    Cancelled,
    /// The caller's connection was lost before an answer.
    Failed,
    /// Everyone for whom the call rang declined it because they were busy.
    Busy,
    /// The chat of the call was deleted.
    ChatGone,
}

/// The state of a participant in a call.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::ParticipantStatus")]
pub enum CallParticipantStatus {
    /// The call rings for the participant.
    Ringing,
    /// The participant is in the call.
    Joined,
    /// The participant was in the call and left.
    Left,
    /// The participant declined the call.
    Declined,
    /// The call rang for the participant until it stopped ringing.
    Missed,
    /// A moderator removed the participant from the call.
    Removed,
}

/// The reason that a participant gave for declining a call.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::DeclineReason")]
pub enum DeclineReason {
    /// The participant did not want to answer.
    Declined,
    /// The participant was busy, for example in another call.
    Busy,
    /// The participant did not want to be disturbed.
    DoNotDisturb,
}

/// The state of the connection between a participant and the server.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::connection::CallConnectionState")]
pub enum CallConnectionState {
    /// The participant is connected, or has just joined.
    Connected,
    /// The connection of the participant was lost.
    /// The participant leaves the call unless their feed is opened again in time.
    Reconnecting,
}

/// The direction of a call from the viewer's point of view.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "calls::CallDirection")]
pub enum CallDirection {
    /// Another user started the call.
    Incoming,
    /// The viewer started the call.
    Outgoing,
}

/// The media that a participant sends.
#[derive(SimpleObject)]
pub struct MediaState {
    /// True if the microphone is on.
    audio: bool,
    /// True if the camera is on.
    video: bool,
    /// True if the screen is shared.
    screen: bool,
}

/// The media that the viewer sends.
#[derive(InputObject)]
pub struct MediaStateInput {
    /// True if the microphone is on.
    audio: bool,
    /// True if the camera is on.
    video: bool,
    /// True if the screen is shared.
    screen: bool,
}

impl From<MediaStateInput> for calls::Media {
    fn from(MediaStateInput { audio, video, screen }: MediaStateInput) -> Self {
        Self { audio, video, screen }
    }
}

/// The quality of the connections of a call, averaged over the reports of its participants.
#[derive(SimpleObject)]
struct CallQuality {
    /// The mean round-trip time in milliseconds.
    average_round_trip_ms: Option<f64>,
    /// The mean share of lost packets in per cent, 0 to 100.
    average_packet_loss_percent: Option<f64>,
    /// The mean received bit rate in kilobits per second.
    average_bitrate_kbps: Option<f64>,
    /// The number of reports.
    reports: i32,
}

impl Call {
    /// Returns the call with the given id if the viewer is a member of its chat.
    ///
    /// # Errors
    ///
    /// Returns the errors of the loader.
    pub async fn find(ctx: &Context<'_>, id: CallId) -> Result<Option<Self>> {
        Ok(ctx.loaders().load_one(id).await?.map(Self))
    }
}

/// An audio or video call in a chat.
/// Media flow directly between the devices (WebRTC). The server keeps the participants and transports their signals.
#[Object]
impl Call {
    /// The id of the call.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The chat of the call.
    async fn chat(&self, ctx: &Context<'_>) -> Result<Chat> {
        Chat::load(ctx, self.0.id.chat).await
    }

    /// The version of the call, which increases with each change of the call and its participants, and each signal.
    /// Of two states of a call, the one with the greater version is newer.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// The kind that the call was started with.
    async fn kind(&self) -> CallKind {
        self.0.kind.into()
    }

    /// The state of the call.
    async fn status(&self) -> CallStatus {
        self.0.status().into()
    }

    /// The reason why the call ended.
    /// Null until it has ended.
    async fn end_reason(&self) -> Option<CallEndReason> {
        self.0.end.map(|(_, reason)| reason.into())
    }

    /// The user who started the call.
    async fn started_by(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.started_by).await
    }

    /// The user who may end the call for everyone, besides moderators.
    /// The caller is the host first. When the host leaves, whoever has been in the call for longest becomes the host.
    async fn host(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.host).await
    }

    /// The time at which the call was started.
    async fn started_at(&self) -> DateTime {
        DateTime(self.0.started_at)
    }

    /// The time of the first answer.
    /// Null if nobody has answered.
    async fn answered_at(&self) -> Option<DateTime> {
        self.0.answered_at.map(DateTime)
    }

    /// The time at which the call ended.
    /// Null until it has ended.
    async fn ended_at(&self) -> Option<DateTime> {
        self.0.end.map(|(at, _)| DateTime(at))
    }

    /// The number of whole seconds from the first answer to the end.
    /// Null until the call has ended, and if nobody answered.
    async fn duration_seconds(&self) -> Option<i32> {
        self.0.duration().map(|duration| i32::try_from(duration.num_seconds()).unwrap_or(i32::MAX))
    }

    /// The time at which the call stops ringing.
    /// Null if it no longer rings for anybody.
    async fn rings_until(&self) -> Option<DateTime> {
        self.0.pending_ring_timeout().map(DateTime)
    }

    /// The participants of the call.
    /// The caller is first, then users for whom the call rang, then users who joined later.
    async fn participants(&self) -> Vec<CallParticipant> {
        let participants = self.0.participants.iter();
        participants.map(|participant| CallParticipant::from_call(&self.0, participant)).collect()
    }

    /// The direction of the call from the viewer's point of view.
    /// Null if the viewer is not a participant.
    async fn viewer_direction(&self, ctx: &Context<'_>) -> Option<Result<CallDirection>> {
        match ctx.viewer() {
            Ok(viewer) => self.0.direction(viewer.id()).map(|direction| Ok(direction.into())),
            Err(error) => Some(Err(error)),
        }
    }

    /// The quality of the connections of the call.
    /// Null before the first report.
    async fn quality(&self) -> Option<CallQuality> {
        let total = self.0.quality();
        (total.reports > 0).then(|| CallQuality {
            average_round_trip_ms: total.mean(total.round_trip_ms),
            average_packet_loss_percent: total.mean(total.packet_loss_percent),
            average_bitrate_kbps: total.mean(total.bitrate_kbps),
            reports: total.reports,
        })
    }
}

/// The type `CallParticipant`.
pub struct CallParticipant {
    id: ParticipantId,
    participant: calls::Participant,
}

impl CallParticipant {
    /// Returns a participant of a call.
    pub fn from_call(call: &calls::Call, participant: &calls::Participant) -> Self {
        Self { id: call.participant_id(participant), participant: participant.clone() }
    }

    /// Returns the viewer's participant in a call.
    ///
    /// # Errors
    ///
    /// Returns [`Error::CallConflict`](crate::error::Error::CallConflict) if the viewer is not in the call, and
    /// [`Error::Unauthenticated`](crate::error::Error::Unauthenticated) without a viewer.
    pub fn for_viewer(call: &calls::Call, ctx: &Context<'_>) -> Result<Self> {
        let participant = call.require_joined(ctx.viewer()?.id())?;
        Ok(Self::from_call(call, participant))
    }

    /// Returns the participant with the given id if the viewer is a member of the call's chat.
    ///
    /// # Errors
    ///
    /// Returns the errors of the loader.
    pub async fn find(ctx: &Context<'_>, id: &ParticipantId) -> Result<Option<Self>> {
        let call = Call::find(ctx, id.call).await?;
        Ok(call.and_then(|call| call.0.participant(&id.user).map(|participant| Self::from_call(&call.0, participant))))
    }
}

/// A user in a call, on one device at a time.
#[Object]
impl CallParticipant {
    /// The id of the participant.
    /// A user who leaves the call and joins it again keeps it.
    pub async fn id(&self) -> ID {
        self.id.to_string().into()
    }

    /// The user.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.participant.user).await
    }

    /// The client's name of the device on which the user last joined.
    /// Empty for other users than the viewer, and until the user joins.
    async fn device_id(&self, ctx: &Context<'_>) -> Result<&str> {
        let is_own = *ctx.viewer()?.id() == self.participant.user;
        Ok(if is_own { &self.participant.device } else { "" })
    }

    /// The id of the connection by which the participant is in the call.
    /// A participant who joins again, on the same or another device, has another one: the other participants must
    /// replace their connection to this participant. Null while the participant is not in the call.
    async fn connection_id(&self) -> Option<ID> {
        self.participant
            .is_joined()
            .then(|| ConnectionId { participant: self.id.clone(), join: self.participant.joins }.to_string().into())
    }

    /// The state of the participant.
    async fn status(&self) -> CallParticipantStatus {
        self.participant.status.into()
    }

    /// The state of the participant's connection to the server.
    /// Null if the participant is not in the call.
    async fn connection(&self) -> Option<CallConnectionState> {
        self.participant.connection().map(Into::into)
    }

    /// The reason that the participant gave for declining the call.
    /// Null if they did not decline it.
    async fn decline_reason(&self) -> Option<DeclineReason> {
        self.participant.decline_reason.map(Into::into)
    }

    /// The time at which the participant last joined.
    /// Null if they never joined.
    async fn joined_at(&self) -> Option<DateTime> {
        self.participant.joined_at.map(DateTime)
    }

    /// The time at which the participant last left.
    /// Null if they never left.
    async fn left_at(&self) -> Option<DateTime> {
        self.participant.left_at.map(DateTime)
    }

    /// The media that the participant sends.
    async fn media(&self) -> MediaState {
        let calls::Media { audio, video, screen } = self.participant.media;
        MediaState { audio, video, screen }
    }
}

/// The conditions that listed calls must meet.
/// All conditions that are set apply.
#[derive(InputObject, Default)]
pub struct CallFilter {
    /// Returns only calls of this chat.
    chat_id: Option<ID>,
    /// Returns only calls of these kinds.
    kinds: Option<Vec<CallKind>>,
    /// True returns only calls that rang for the viewer until they stopped ringing.
    /// Defaults to false.
    missed_only: Option<bool>,
    /// Returns only calls that were started at or after this time.
    since: Option<Unchecked<DateTime>>,
    /// Returns only calls that were started before this time.
    until: Option<Unchecked<DateTime>>,
}

impl CallFilter {
    /// Returns the filter of the domain layer, or `None` if no call can meet it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`](crate::error::Error::BadUserInput) if a time is wrong.
    pub fn validate(self) -> Result<Option<calls::CallFilter>> {
        let since = self.since.map(|since| since.check("filter.since")).transpose()?;
        let until = self.until.map(|until| until.check("filter.until")).transpose()?;
        let Ok(chat) = self.chat_id.map(|id| id.parse()).transpose() else { return Ok(None) };
        Ok(Some(calls::CallFilter {
            chat,
            kinds: self.kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            missed_only: self.missed_only.unwrap_or_default(),
            since,
            until,
        }))
    }
}

/// The length of a period of statistics.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticsPeriod {
    /// 24 hours.
    Day,
    /// Seven days.
    Week,
    /// The whole requested time.
    Whole,
}

impl StatisticsPeriod {
    /// Returns the length of the period.
    pub fn length(self) -> TimeDelta {
        match self {
            Self::Day => TimeDelta::days(1),
            Self::Week => TimeDelta::weeks(1),
            Self::Whole => TimeDelta::MAX,
        }
    }
}

/// Statistics of the organisation's calls that were started within a period and have ended.
#[derive(SimpleObject)]
pub struct CallStatistics {
    /// The start of the period, inclusive.
    since: DateTime,
    /// The end of the period, exclusive.
    until: DateTime,
    /// The number of calls.
    calls: i64,
    /// The number of calls that were answered.
    answered: i64,
    /// The number of calls that nobody answered, without the declined ones.
    missed: i64,
    /// The number of calls that were declined by everyone for whom they rang.
    declined: i64,
    /// The total duration of the calls in minutes, from the first answer to the end.
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
