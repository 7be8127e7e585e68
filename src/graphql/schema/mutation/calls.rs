use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Json, Object, SimpleObject};

use crate::domain::calls;
use crate::domain::calls::Quality;
use crate::domain::ids::{CallId, ParticipantId};
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::call::{Call, CallKind, CallParticipant, IceServer, MediaStateInput, SignalKind};
use crate::service;
use crate::service::calls::CallDevice;

/// A call to start.
#[derive(InputObject)]
struct StartCallInput {
    /// The chat, for whose members it rings.
    chat_id: ID,
    /// What it is to be of.
    kind: CallKind,
    /// What the client calls the device by which the viewer is in: 1 to 128 characters.
    device_id: String,
    /// What the viewer sends of themselves; nothing where left out.
    media: Option<MediaStateInput>,
}

/// A call to come into.
#[derive(InputObject)]
struct JoinCallInput {
    /// The call.
    call_id: ID,
    /// What the client calls the device by which the viewer comes in: 1 to 128 characters.
    device_id: String,
    /// What the viewer sends of themselves; nothing where left out.
    media: Option<MediaStateInput>,
}

/// A call that is not to ring any more.
#[derive(InputObject)]
struct DeclineCallInput {
    /// The call.
    call_id: ID,
}

/// A call to go out of.
#[derive(InputObject)]
struct LeaveCallInput {
    /// The call.
    call_id: ID,
    /// The viewer's own.
    participant_id: ID,
}

/// A call to end for all.
#[derive(InputObject)]
struct EndCallInput {
    /// The call.
    call_id: ID,
}

/// What the viewer sends of themselves in a call.
#[derive(InputObject)]
struct UpdateCallMediaInput {
    /// The call.
    call_id: ID,
    /// The viewer's own.
    participant_id: ID,
    /// What they send from now on.
    media: MediaStateInput,
}

/// A signal to send.
#[derive(InputObject)]
struct SendSignalInput {
    /// The call.
    call_id: ID,
    /// The viewer's own, who is in.
    from_participant_id: ID,
    /// Who is to get it, and is in too. Nobody else ever does.
    to_participant_id: ID,
    /// What it is.
    kind: SignalKind,
    /// Of the shape that its kind says; at most 65,536 bytes of JSON.
    payload: Json<serde_json::Value>,
}

/// How good the connections of the viewer's device are, over all of them.
#[derive(InputObject)]
struct ReportCallQualityInput {
    /// The call.
    call_id: ID,
    /// The viewer's own.
    participant_id: ID,
    /// Mean time to the other side and back: 0 to 60,000 milliseconds.
    round_trip_ms: f64,
    /// Share of packets that were lost: 0 to 100 per cent.
    packet_loss_percent: f64,
    /// Rate received: 0 to 10,000,000 kilobits a second.
    bitrate_kbps: f64,
}

/// The call as it is now.
#[derive(SimpleObject)]
struct CallPayload {
    /// The call.
    call: Call,
}

/// The call, and the viewer in it.
#[derive(SimpleObject)]
struct JoinCallPayload {
    /// The call as it is now.
    call: Call,
    /// The viewer's own: follow `callFeed` with it, for a participant whose feed is gone for 15 seconds, as the
    /// server is set if not otherwise, has left.
    participant: CallParticipant,
    /// By which servers devices find a way to each other.
    ice_servers: Vec<IceServer>,
}

/// What became of a signal.
#[derive(SimpleObject)]
struct SendSignalPayload {
    /// True where the other side's feed is open now; otherwise the signal is kept for when it is again.
    delivered: bool,
}

#[derive(Default)]
pub struct CallMutation;

#[Object]
impl CallMutation {
    /// Starts a call, which rings for the other members for 45 seconds, as the server is set if not otherwise;
    /// in a chat of more than 32 it is told in the chat and rings for nobody. Needs the permission
    /// CHAT_INITIATE_CALL, and a role that may START_CALL. Where a call is on in the chat already, the viewer
    /// joins that one, whatever its kind.
    async fn start_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: StartCallInput,
    ) -> Option<Result<JoinCallPayload>> {
        Some(start(ctx, input).await)
    }

    /// Answers a call, or comes into one that is on. The first of a person's devices wins; another is refused
    /// with CONFLICT while that one is in. The same device may join again: it begins anew.
    async fn join_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which call, and how.")] input: JoinCallInput,
    ) -> Option<Result<JoinCallPayload>> {
        Some(join(ctx, input).await)
    }

    /// Lets a call ring no more on any of the viewer's devices. Where everyone declines, it is over.
    async fn decline_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which call.")] input: DeclineCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(decline(ctx, input).await)
    }

    /// Goes out of a call. It ends where nobody is left, and where one is alone for a minute; the one who leaves
    /// an unanswered call takes it back.
    async fn leave_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which call.")] input: LeaveCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(leave(ctx, input).await)
    }

    /// Ends a call for all. In a direct chat either of the two may, elsewhere who started it and moderators.
    async fn end_call(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which call.")] input: EndCallInput,
    ) -> Option<Result<CallPayload>> {
        Some(end(ctx, input).await)
    }

    /// Tells the others what the viewer sends: that they are muted, or show their screen.
    async fn update_call_media(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is sent.")] input: UpdateCallMediaInput,
    ) -> Option<Result<CallPayload>> {
        Some(update_media(ctx, input).await)
    }

    /// Sends a signal from the viewer's device to another participant, who gets them in their order.
    async fn send_signal(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The signal.")] input: SendSignalInput,
    ) -> Option<Result<SendSignalPayload>> {
        Some(send_signal(ctx, input).await)
    }

    /// Notes how good the connections of the viewer's device are: now and then during a call, and up to a minute
    /// after it.
    async fn report_call_quality(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What was measured.")] input: ReportCallQualityInput,
    ) -> Option<Result<CallPayload>> {
        Some(report_quality(ctx, input).await)
    }
}

async fn start(ctx: &Context<'_>, input: StartCallInput) -> Result<JoinCallPayload> {
    let viewer = ctx.viewer()?;
    let device = CallDevice::new(&input.device_id, input.media.map(Into::into).unwrap_or_default())?;
    let chat = parse_id(&input.chat_id, "chat")?;
    join_payload(ctx, service::calls::start(ctx.app(), viewer, chat, input.kind.into(), device).await?)
}

async fn join(ctx: &Context<'_>, input: JoinCallInput) -> Result<JoinCallPayload> {
    let viewer = ctx.viewer()?;
    let device = CallDevice::new(&input.device_id, input.media.map(Into::into).unwrap_or_default())?;
    join_payload(ctx, service::calls::join(ctx.app(), viewer, parse_id(&input.call_id, "call")?, device).await?)
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
    let call = service::calls::decline(ctx.app(), viewer, parse_id(&input.call_id, "call")?).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn leave(ctx: &Context<'_>, input: LeaveCallInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let own = parse_participant_id(&input.call_id, &input.participant_id)?;
    let call = service::calls::leave(ctx.app(), viewer, &own).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn end(ctx: &Context<'_>, input: EndCallInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let call = service::calls::end(ctx.app(), viewer, parse_id(&input.call_id, "call")?).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn update_media(ctx: &Context<'_>, input: UpdateCallMediaInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let own = parse_participant_id(&input.call_id, &input.participant_id)?;
    let call = service::calls::set_media(ctx.app(), viewer, &own, input.media.into()).await?;
    Ok(CallPayload { call: Call(call) })
}

async fn send_signal(ctx: &Context<'_>, input: SendSignalInput) -> Result<SendSignalPayload> {
    let viewer = ctx.viewer()?;
    let from = parse_participant_id(&input.call_id, &input.from_participant_id)?;
    let to = parse_participant_id(&input.call_id, &input.to_participant_id)?;
    let Json(payload) = input.payload;
    let delivered = service::calls::signaling::send(ctx.app(), viewer, &from, &to, input.kind.into(), payload).await?;
    Ok(SendSignalPayload { delivered })
}

async fn report_quality(ctx: &Context<'_>, input: ReportCallQualityInput) -> Result<CallPayload> {
    let viewer = ctx.viewer()?;
    let own = parse_participant_id(&input.call_id, &input.participant_id)?;
    let quality = Quality {
        reports: 1,
        round_trip_ms: input.round_trip_ms,
        packet_loss_percent: input.packet_loss_percent,
        bitrate_kbps: input.bitrate_kbps,
    };
    let call = service::calls::report_quality(ctx.app(), viewer, &own, quality).await?;
    Ok(CallPayload { call: Call(call) })
}

/// A participant of just this call.
fn parse_participant_id(call: &ID, id: &ID) -> Result<ParticipantId> {
    let call: CallId = parse_id(call, "call")?;
    let id: ParticipantId = parse_id(id, "participant")?;
    if id.call == call { Ok(id) } else { Err(Error::NotFound("participant")) }
}
