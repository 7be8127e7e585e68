//! Signals between the participants of a call, the end of its feed, and the servers by which devices connect.

use async_graphql::{Enum, ID, SimpleObject};

use crate::domain::{call_signaling, calls};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::call::CallParticipant;
use crate::realtime::feeds;
use crate::service::calls::ice_servers;

/// The kind of a signal, which determines the form of its payload.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "call_signaling::SignalKind")]
pub enum SignalKind {
    /// An offer: an `RTCSessionDescriptionInit` of type `offer` with its SDP (RFC 8866).
    Offer,
    /// The answer to an offer: an `RTCSessionDescriptionInit` of type `answer` with its SDP.
    Answer,
    /// A list of 1 to 50 `RTCIceCandidateInit`, at most 16,384 bytes of JSON.
    /// An empty or null candidate marks the end of the candidates.
    IceCandidates,
    /// A request for a new offer, for example after a lost connection: an object, which may be empty.
    Renegotiate,
}

/// The reason why the feed of a call ended.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "feeds::call::CallFeedEnd")]
pub enum CallFeedEnd {
    /// The call has ended.
    CallEnded,
    /// The participant left the call.
    Left,
    /// The participant was without a feed for too long.
    /// The client should join the call again.
    Lost,
    /// The user joined the call again, on the same or another device.
    /// The client should not join the call again unless the user asks for it.
    Replaced,
    /// The participant was removed from the call or lost access to its chat.
    Removed,
}

/// The roles of the feed's own participant in the negotiation of a connection with another participant.
/// They follow the "perfect negotiation" pattern of the W3C's WebRTC 1.0.
#[derive(SimpleObject)]
pub struct Negotiation {
    /// True if the own participant makes the first offer, because it joined later.
    offers: bool,
    /// True if the own participant is the polite peer, which withdraws its offer when two offers collide.
    polite: bool,
}

impl From<calls::Negotiation> for Negotiation {
    fn from(calls::Negotiation { makes_offer, is_polite }: calls::Negotiation) -> Self {
        Self { offers: makes_offer, polite: is_polite }
    }
}

/// A signal from one participant to another, which establishes a connection between their devices.
#[derive(SimpleObject)]
pub struct Signal {
    /// The participant who sent the signal.
    from: CallParticipant,
    /// The id of the connection that sent the signal, to which an answer is sent.
    from_connection_id: ID,
    /// The kind of the signal.
    kind: SignalKind,
    /// The payload, unchanged.
    payload: async_graphql::Json<serde_json::Value>,
}

impl Signal {
    /// Returns a signal that the participant `from` sent in a call.
    pub fn from_signal(call: &calls::Call, from: &calls::Participant, signal: call_signaling::Signal) -> Self {
        let payload = async_graphql::Json(signal.payload);
        Self {
            from: CallParticipant::from_call(call, from),
            from_connection_id: call.connection_id(from).to_string().into(),
            kind: signal.kind.into(),
            payload,
        }
    }
}

/// A STUN or TURN server, in the form of an `RTCIceServer` of the W3C's WebRTC 1.0.
#[derive(SimpleObject)]
pub struct IceServer {
    /// The URLs of the server (RFC 7064, RFC 7065).
    urls: Vec<String>,
    /// The user name for a TURN server.
    /// Null for a STUN server.
    username: Option<String>,
    /// The password for a TURN server.
    /// Null for a STUN server.
    credential: Option<String>,
    /// The time until which the credentials are valid.
    /// Request new ones for a later connection. Null for a STUN server.
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
