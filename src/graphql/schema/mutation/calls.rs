//! Mutations of calls.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Json, Object, SimpleObject};

use crate::domain::call_signaling::SignalDraft;
use crate::domain::calls;
use crate::domain::calls::{OwnConnection, Quality};
use crate::domain::ids::{CallId, ConnectionId, Nonce, ParticipantId};
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::call::{CallKind, CallParticipant, DeclineReason, MediaStateInput};
use crate::graphql::schema::types::call_signaling::{IceServer, SignalKind};
use crate::graphql::schema::types::objects::Call;
use crate::service;
use crate::service::calls::joining::CallDevice;

/// The input of `startCall`.
#[derive(InputObject)]
struct StartCallInput {
    /// The id of the chat.
    chat_id: ID,
    /// The kind of the call.
    /// Ignored if the viewer joins a call that is already active.
    kind: CallKind,
    /// The client's name of the viewer's device: 1 to 128 characters on one line.
    device_id: String,
    /// The media that the viewer sends.
    /// Defaults to none.
    media: Option<MediaStateInput>,
}

/// The input of `joinCall`.
#[derive(InputObject)]
struct JoinCallInput {
    /// The id of the call.
    call_id: ID,
    /// The client's name of the viewer's device: 1 to 128 characters on one line.
    device_id: String,
    /// The media that the viewer sends.
    /// Defaults to none.
    media: Option<MediaStateInput>,
    /// True moves the viewer to this device if they are in the call on another one.
    /// It also lets the device leave other calls.
    /// Defaults to false.
    take_over: Option<bool>,
}

/// The input of `declineCall`.
#[derive(InputObject)]
struct DeclineCallInput {
    /// The id of the call.
    call_id: ID,
    /// The reason that the other participants see.
    /// Defaults to `DECLINED`.
    reason: Option<DeclineReason>,
}

/// The input of `leaveCall`.
#[derive(InputObject)]
struct LeaveCallInput {
    /// The id of the call.
    call_id: ID,
    /// The id of the viewer's own participant.
    participant_id: ID,
    /// The id of the connection by which the viewer is in the call.
    /// Required once the participant has joined the call more than once, because only it tells which join is meant.
    connection_id: Option<ID>,
}

/// The input of `endCall`.
#[derive(InputObject)]
struct EndCallInput {
    /// The id of the call.
    call_id: ID,
}

/// The input of `removeFromCall`.
#[derive(InputObject)]
struct RemoveFromCallInput {
    /// The id of the call.
    call_id: ID,
    /// The id of the participant to remove, who is in the call or for whom it rings.
    participant_id: ID,
    /// True keeps the user from joining this call again.
    /// Defaults to false.
    for_this_call: Option<bool>,
}

/// The input of `updateCallMedia`.
#[derive(InputObject)]
struct UpdateCallMediaInput {
    /// The id of the call.
    call_id: ID,
    /// The id of the viewer's own participant.
    participant_id: ID,
    /// The id of the connection by which the viewer is in the call.
    /// Required once the participant has joined the call more than once, because only it tells which join is meant.
    connection_id: Option<ID>,
    /// The media that the viewer sends from now on.
    media: MediaStateInput,
}

/// The input of `sendSignal`.
#[derive(InputObject)]
struct SendSignalInput {
    /// The id of the call.
    call_id: ID,
    /// The id of the connection by which the viewer is in the call.
    from_connection_id: ID,
    /// The id of the connection that receives the signal.
    /// Nobody else receives it.
    to_connection_id: ID,
    /// The id of the viewer's own participant, if the client names it too.
    from_participant_id: Option<ID>,
    /// The id of the receiving participant, if the client names it too.
    to_participant_id: Option<ID>,
    /// The kind of the signal.
    kind: SignalKind,
    /// The payload in the form that the kind requires, at most 262,144 bytes of JSON by default.
    payload: Json<serde_json::Value>,
    /// The client's name for the signal: 1 to 128 characters on one line.
    /// It is unique among the signals of the connection. A signal that is sent again with the same nonce is delivered
    /// once.
    nonce: Option<String>,
}

/// The input of `reportCallQuality`: averages over all connections of the viewer's device.
#[derive(InputObject)]
struct ReportCallQualityInput {
    /// The id of the call.
    call_id: ID,
    /// The id of the viewer's own participant.
    participant_id: ID,
    /// The id of the connection by which the viewer is in the call.
    /// Required once the participant has joined the call more than once, because only it tells which join is meant.
    connection_id: Option<ID>,
    /// The mean round-trip time in milliseconds, 0 to 60,000.
    round_trip_ms: f64,
    /// The share of lost packets in per cent, 0 to 100.
    packet_loss_percent: f64,
    /// The received bit rate in kilobits per second, 0 to 10,000,000.
    bitrate_kbps: f64,
}

/// The call after a mutation.
#[derive(SimpleObject)]
struct CallPayload {
    /// The call.
    call: Call,
}

/// The result of `startCall` and `joinCall`.
#[derive(SimpleObject)]
struct JoinCallPayload {
    /// The call.
    call: Call,
    /// The viewer's own participant.
    /// Subscribe to `callFeed` with its id: a participant whose feed is closed leaves after 15 seconds by default.
    participant: CallParticipant,
    /// The STUN and TURN servers for the connections to other participants.
    ice_servers: Vec<IceServer>,
}

/// The result of `sendSignal`.
#[derive(SimpleObject)]
struct SendSignalPayload {
    /// True if the receiver's feed is open now.
    /// Otherwise the signal is delivered when the feed opens again.
    delivered: bool,
}

/// The mutations of this module.
#[derive(Default)]
pub struct CallMutation;

#[Object]
impl CallMutation {
    /// Starts a call in a chat, or joins the call that is already active there.
    /// A new call rings for the other members for 45 seconds by default. In a chat of more than 32 members by default,
    /// it rings for nobody and is `ACTIVE` at once. Fails with `FORBIDDEN` if the viewer may not do `START_CALL`, and
    /// with `CONFLICT` if the active call is full, the viewer is in it on another device, or the device is in another
    /// call.
    async fn start_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `startCall`.")] input: StartCallInput,
    ) -> Option<Result<JoinCallPayload>> {
        Some(start(ctx, input).await)
    }

    /// Answers a ringing call or joins an active one, on one of the viewer's devices.
    /// Joining again on the same device starts a new connection. Fails with `CONFLICT` if the call has ended or is
    /// full, or if the viewer is in it on another device or on this device in another call, unless `takeOver` is true.
    async fn join_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `joinCall`.")] input: JoinCallInput,
    ) -> Option<Result<JoinCallPayload>> {
        Some(join(ctx, input).await)
    }

    /// Declines a call on all of the viewer's devices.
    /// The call ends if everyone for whom it rings declines. Fails with `CONFLICT` if the call does not ring for the
    /// viewer.
    async fn decline_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `declineCall`.")] input: DeclineCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(decline(ctx, input).await)
    }

    /// Leaves a call.
    /// A caller who leaves before an answer cancels the call. In a direct chat the call ends. In other chats it ends when
    /// its last participant leaves, or by default after a minute with only one participant. Fails with `CONFLICT` if the
    /// viewer never joined the call.
    async fn leave_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `leaveCall`.")] input: LeaveCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(leave(ctx, input).await)
    }

    /// Ends a call for all participants.
    /// Ending it again changes nothing. Fails with `FORBIDDEN` if the chat is not a direct chat and the viewer is
    /// neither a moderator nor the host of the call.
    async fn end_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `endCall`.")] input: EndCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(end(ctx, input).await)
    }

    /// Removes a participant from a call, or stops it ringing for them.
    /// Fails with `FORBIDDEN` if the chat is a direct chat or the viewer is not a moderator who outranks the participant,
    /// and with `CONFLICT` if the participant is not in the call and it does not ring for them.
    async fn remove_from_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `removeFromCall`.")] input: RemoveFromCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(remove(ctx, input).await)
    }

    /// Announces which media the viewer sends, for example after muting the microphone.
    /// Fails with `CONFLICT` if the viewer is not in the call, and with `FORBIDDEN` if the viewer is silenced in the chat
    /// and would send media.
    async fn update_call_media(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `updateCallMedia`.")] input: UpdateCallMediaInput,
    ) -> Option<Result<CallPayload>> {
        Some(update_media(ctx, input).await)
    }

    /// Sends a signal to the connection of another participant.
    /// Signals arrive in the order in which they were sent. Fails with `CONFLICT` if one of the connections is not in
    /// the call, for the reason `STALE_CONNECTION` if its participant has joined again since, and with
    /// `PAYLOAD_TOO_LARGE` if the payload is too large.
    async fn send_signal(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `sendSignal`.")] input: SendSignalInput,
    ) -> Option<Result<SendSignalPayload>> {
        Some(send_signal(ctx, input).await)
    }

    /// Reports the quality of the connections of the viewer's device.
    /// Use this mutation periodically during a call, or just after it. Fails with `CONFLICT` if the viewer never joined
    /// the call or it ended more than a minute ago.
    async fn report_call_quality(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `reportCallQuality`.")] input: ReportCallQualityInput,
    ) -> Option<Result<CallPayload>> {
        Some(report_quality(ctx, input).await)
    }
}

async fn start(ctx: &Context<'_>, input: StartCallInput) -> Result<JoinCallPayload> {
    let viewer = ctx.viewer()?;
    let device = CallDevice::new(&input.device_id, input.media.map(Into::into).unwrap_or_default())?;
    let chat = parse_id(&input.chat_id, "chat")?;
    join_payload(ctx, service::calls::joining::start(ctx.app(), viewer, chat, input.kind.into(), device).await?)
}

async fn join(ctx: &Context<'_>, input: JoinCallInput) -> Result<JoinCallPayload> {
    let viewer = ctx.viewer()?;
    let device = CallDevice::new(&input.device_id, input.media.map(Into::into).unwrap_or_default())?
        .taking_over(input.take_over.unwrap_or_default());
    join_payload(
        ctx,
        service::calls::joining::join(ctx.app(), viewer, parse_id(&input.call_id, "call")?, device).await?,
    )
}

fn join_payload(ctx: &Context<'_>, call: Arc<calls::Call>) -> Result<JoinCallPayload> {
    let servers = service::calls::ice_servers::servers(ctx.app(), ctx.viewer()?);
    Ok(JoinCallPayload {
        participant: CallParticipant::for_viewer(&call, ctx)?,
        call: Call(call),
        ice_servers: servers.into_iter().map(Into::into).collect(),
    })
}

async fn decline(ctx: &Context<'_>, input: DeclineCallInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let reason = input.reason.unwrap_or(DeclineReason::Declined).into();
    let call = service::calls::decline(ctx.app(), viewer, parse_id(&input.call_id, "call")?, reason).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn leave(ctx: &Context<'_>, input: LeaveCallInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let own = parse_own(&input.call_id, &input.participant_id, input.connection_id.as_ref())?;
    let call = service::calls::leave(ctx.app(), viewer, &own).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn end(ctx: &Context<'_>, input: EndCallInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let call = service::calls::moderation::end(ctx.app(), viewer, parse_id(&input.call_id, "call")?).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn remove(ctx: &Context<'_>, input: RemoveFromCallInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let participant = parse_participant_id(&input.call_id, &input.participant_id)?;
    let is_barred = input.for_this_call.unwrap_or_default();
    let call = service::calls::moderation::remove(ctx.app(), viewer, &participant, is_barred).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn update_media(ctx: &Context<'_>, input: UpdateCallMediaInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let own = parse_own(&input.call_id, &input.participant_id, input.connection_id.as_ref())?;
    let call = service::calls::set_media(ctx.app(), viewer, &own, input.media.into()).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn send_signal(ctx: &Context<'_>, input: SendSignalInput) -> Result<SendSignalPayload> {
    let viewer = ctx.viewer()?;
    let Json(payload) = input.payload;
    let draft = SignalDraft {
        from: parse_connection(&input.call_id, input.from_participant_id.as_ref(), &input.from_connection_id)?,
        to: parse_connection(&input.call_id, input.to_participant_id.as_ref(), &input.to_connection_id)?,
        kind: input.kind.into(),
        payload,
        nonce: input.nonce.as_deref().map(Nonce::parse).transpose()?,
    };
    let delivered = service::calls::signaling::send(ctx.app(), viewer, draft).await?;
    Ok(SendSignalPayload { delivered })
}

async fn report_quality(ctx: &Context<'_>, input: ReportCallQualityInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let own = parse_own(&input.call_id, &input.participant_id, input.connection_id.as_ref())?;
    let quality = Quality {
        reports: 1,
        round_trip_ms: input.round_trip_ms,
        packet_loss_percent: input.packet_loss_percent,
        bitrate_kbps: input.bitrate_kbps,
    };
    let call = service::calls::report_quality(ctx.app(), viewer, &own, quality).await?;
    Ok(CallPayload { call: Call(call) })
}

/// Parses the id of a participant, which must belong to the given call.
fn parse_participant_id(call: &ID, participant: &ID) -> Result<ParticipantId> {
    let call: CallId = parse_id(call, "call")?;
    let participant: ParticipantId = parse_id(participant, "participant")?;
    if participant.call == call { Ok(participant) } else { Err(Error::NotFound("participant")) }
}

/// Parses the id of the viewer's own participant, and of the connection that the request names.
fn parse_own(call: &ID, participant: &ID, connection: Option<&ID>) -> Result<OwnConnection> {
    let id = parse_participant_id(call, participant)?;
    let connection = connection.map(|connection| parse_connection(call, Some(participant), connection)).transpose()?;
    Ok(OwnConnection { participant: id, join: connection.map(|connection| connection.join) })
}

/// Parses the id of a connection, which must belong to the given call and participant.
fn parse_connection(call: &ID, participant: Option<&ID>, connection: &ID) -> Result<ConnectionId> {
    let call: CallId = parse_id(call, "call")?;
    let connection: ConnectionId = parse_id(connection, "connection")?;
    let participant = participant.map(|id| parse_id::<ParticipantId>(id, "participant")).transpose()?;
    let is_consistent = participant.is_none_or(|participant| participant == connection.participant);
    if connection.participant.call == call && is_consistent {
        Ok(connection)
    } else {
        Err(Error::NotFound("connection"))
    }
}
