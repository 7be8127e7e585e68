//! Signals: messages between two devices in a call that set up their connection.
//!
//! The server passes them on unchanged.

use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::{ConnectionId, Nonce, UserId, fingerprint};
use crate::domain::text::has_nul;
use crate::error::{Error, Result};

/// The type of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SignalKind {
    Offer,
    Answer,
    IceCandidates,
    Renegotiate,
}

/// A signal from one participant to another.
///
/// Its payload is private to the clients and never logged.
#[derive(Clone, PartialEq)]
pub struct Signal {
    /// The call's version that the signal took.
    pub version: i64,
    pub from: UserId,
    pub to: UserId,
    pub kind: SignalKind,
    pub payload: Value,
}

/// Omits the payload and the participants, so that no log has them.
impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal").field("version", &self.version).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A signal that a device wants to send.
pub struct SignalDraft {
    pub from: ConnectionId,
    pub to: ConnectionId,
    pub kind: SignalKind,
    pub payload: Value,
    /// The client's name for the signal, unique among those of the connection `from`.
    pub nonce: Option<Nonce>,
}

impl SignalDraft {
    /// Returns a hash of the signal's content, which identifies a repeated signal with the same nonce.
    pub fn fingerprint(&self) -> Vec<u8> {
        fingerprint(&(self.to.to_string(), <&str>::from(self.kind), &self.payload))
    }
}

/// The maximum size of a payload of candidates, in bytes of JSON.
const MAX_CANDIDATES_BYTES: usize = 16 * 1024;
/// The maximum number of JSON values in a payload, nested ones included.
///
/// A value takes more memory than its text.
const MAX_PAYLOAD_VALUES: usize = 1_000;
/// The maximum number of candidates in one signal.
const MAX_CANDIDATES: usize = 50;
/// The maximum length of a candidate, in bytes.
const MAX_CANDIDATE_BYTES: usize = 4_096;

/// Checks that a payload has the shape of its kind.
///
/// The shapes are `RTCSessionDescriptionInit` and `RTCIceCandidateInit` of the W3C's WebRTC 1.0. The content of an SDP
/// (RFC 8866) is not checked; that is left to the receiving device. Returns the size of the payload in bytes of JSON.
///
/// # Errors
///
/// Returns [`Error::PayloadTooLarge`] above `max_bytes` or the limit of candidates, [`Error::BadUserInput`] for a wrong
/// shape or too many values.
pub fn validate_payload(kind: SignalKind, payload: &Value, max_bytes: usize) -> Result<usize> {
    let bytes = payload.to_string().len();
    let (subject, max_bytes) = match kind {
        SignalKind::IceCandidates => ("payload of ICE_CANDIDATES", max_bytes.min(MAX_CANDIDATES_BYTES)),
        SignalKind::Offer | SignalKind::Answer | SignalKind::Renegotiate => ("payload", max_bytes),
    };
    if bytes > max_bytes {
        return Err(Error::PayloadTooLarge(format!("{subject} must have at most {max_bytes} bytes of JSON")));
    }
    validate_shape(kind, payload).map(|()| bytes)
}

fn validate_shape(kind: SignalKind, payload: &Value) -> Result<()> {
    let bad = |message: &str| Err(Error::bad_input("payload", message));
    if count_values(payload) > MAX_PAYLOAD_VALUES {
        return bad(&format!("must have at most {MAX_PAYLOAD_VALUES} JSON values"));
    }
    if has_nul(payload) {
        return bad("must not contain the NUL character");
    }
    let is_description = |kind: &str| {
        let sdp = payload.get("sdp").and_then(Value::as_str);
        let has_type = payload.get("type").is_none_or(|actual| actual == kind);
        has_type && sdp.is_some_and(|sdp| sdp.starts_with("v=0"))
    };
    match kind {
        SignalKind::Offer if !is_description("offer") => {
            bad("must be an RTCSessionDescriptionInit of the type \"offer\" with an sdp")
        }
        SignalKind::Answer if !is_description("answer") => {
            bad("must be an RTCSessionDescriptionInit of the type \"answer\" with an sdp")
        }
        SignalKind::IceCandidates => {
            let single = std::slice::from_ref(payload);
            let list = payload.get("candidates").unwrap_or(payload);
            let candidates = list.as_array().map_or(single, Vec::as_slice);
            // Older libraries mark the end of the candidates by null.
            let is_candidate = |candidate: &Value| match candidate.get("candidate") {
                Some(Value::String(text)) => text.len() <= MAX_CANDIDATE_BYTES,
                Some(Value::Null) => true,
                Some(_) => false,
                None => candidate.is_null(),
            };
            match (1..=MAX_CANDIDATES).contains(&candidates.len()) && candidates.iter().all(is_candidate) {
                true => Ok(()),
                false => bad(&format!(
                    "must be a list of 1 to {MAX_CANDIDATES} RTCIceCandidateInit objects, each with a candidate that \
                     is null or has at most {MAX_CANDIDATE_BYTES} bytes"
                )),
            }
        }
        SignalKind::Renegotiate if !payload.is_object() => bad("must be a JSON object, which may be empty"),
        _ => Ok(()),
    }
}

fn count_values(json: &Value) -> usize {
    match json {
        Value::Array(parts) => 1 + parts.iter().map(count_values).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(count_values).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAX_BYTES: usize = 256 * 1024;

    #[test]
    fn payload_is_rejected_unless_it_has_the_shape_of_its_kind() {
        let good = [
            (SignalKind::Offer, json!({ "type": "offer", "sdp": "v=0\r\n" })),
            (SignalKind::Answer, json!({ "sdp": "v=0\r\n" })),
            (SignalKind::IceCandidates, json!([{ "candidate": "" }])),
            (SignalKind::IceCandidates, json!({ "candidate": null })),
            (SignalKind::IceCandidates, json!([{ "candidate": "candidate:1" }, { "candidate": null, "sdpMid": "0" }])),
            (SignalKind::IceCandidates, json!([null])),
            (SignalKind::IceCandidates, json!({ "candidates": [{ "candidate": "candidate:1", "sdpMid": "0" }] })),
            (SignalKind::IceCandidates, json!({ "candidate": "candidate:1", "sdpMLineIndex": 0 })),
            (SignalKind::Renegotiate, json!({})),
        ];
        for (kind, payload) in good {
            let bytes = payload.to_string().len();
            assert_eq!(validate_payload(kind, &payload, MAX_BYTES).unwrap(), bytes, "{kind:?} {payload}");
        }
        let many = vec![json!({ "candidate": "candidate:1" }); MAX_CANDIDATES + 1];
        let bad = [
            (SignalKind::Offer, json!({ "type": "answer", "sdp": "v=0\r\n" })),
            (SignalKind::Offer, json!({ "type": "offer" })),
            (SignalKind::Offer, json!({ "type": "offer", "sdp": 7 })),
            (SignalKind::Offer, json!("v=0")),
            (SignalKind::Answer, json!({ "type": "answer", "sdp": "hello" })),
            (SignalKind::IceCandidates, json!([])),
            (SignalKind::Answer, json!({ "type": "pranswer", "sdp": "v=0\r\n" })),
            (SignalKind::Offer, json!({ "type": "rollback" })),
            (SignalKind::IceCandidates, json!(["candidate:1"])),
            (SignalKind::IceCandidates, json!({ "candidate": 7 })),
            (SignalKind::IceCandidates, json!({})),
            (SignalKind::IceCandidates, json!(many)),
            (SignalKind::IceCandidates, json!([{ "candidate": "x".repeat(MAX_CANDIDATE_BYTES + 1) }])),
            (SignalKind::Renegotiate, json!(null)),
            (SignalKind::Renegotiate, json!({ "many": vec![0; MAX_PAYLOAD_VALUES] })),
        ];
        for (kind, payload) in bad {
            let error = validate_payload(kind, &payload, MAX_BYTES).unwrap_err();
            assert_eq!(error.code(), "BAD_USER_INPUT", "{kind:?} {payload}");
        }
        let description = |bytes: usize| json!({ "sdp": format!("v=0{}", "x".repeat(bytes - 13)) });
        assert_eq!(validate_payload(SignalKind::Offer, &description(MAX_BYTES), MAX_BYTES).unwrap(), MAX_BYTES);
        let too_large = validate_payload(SignalKind::Offer, &description(MAX_BYTES + 1), MAX_BYTES).unwrap_err();
        assert_eq!(too_large.to_string(), "payload must have at most 262144 bytes of JSON");
        let candidates = json!(vec![json!({ "candidate": "x".repeat(4_000) }); 5]);
        let too_large = validate_payload(SignalKind::IceCandidates, &candidates, MAX_BYTES).unwrap_err();
        assert_eq!(too_large.code(), "PAYLOAD_TOO_LARGE");
    }
}
