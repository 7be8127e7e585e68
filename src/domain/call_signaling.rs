//! Signals: messages between two devices in a call that set up their connection. The server passes them on unchanged.

use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::UserId;
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

/// The maximum size of a payload, in bytes of JSON.
const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
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
/// (RFC 8866) is not checked; that is left to the receiving device.
///
/// # Errors
///
/// Returns [`Error::PayloadTooLarge`] above 64 KiB, [`Error::BadUserInput`] for a wrong shape or too many values.
pub fn validate_payload(kind: SignalKind, payload: &Value) -> Result<()> {
    if payload.to_string().len() > MAX_PAYLOAD_BYTES {
        return Err(Error::PayloadTooLarge(format!("payload must have at most {MAX_PAYLOAD_BYTES} bytes of JSON")));
    }
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
            let is_candidate = |candidate: &Value| {
                let text = candidate.get("candidate").and_then(Value::as_str);
                text.is_some_and(|text| text.len() <= MAX_CANDIDATE_BYTES)
            };
            match (1..=MAX_CANDIDATES).contains(&candidates.len()) && candidates.iter().all(is_candidate) {
                true => Ok(()),
                false => bad(&format!(
                    "must be a list of 1 to {MAX_CANDIDATES} RTCIceCandidateInit objects, each with a candidate of at \
                     most {MAX_CANDIDATE_BYTES} bytes"
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

    #[test]
    fn payload_is_rejected_unless_it_has_the_shape_of_its_kind() {
        let good = [
            (SignalKind::Offer, json!({ "type": "offer", "sdp": "v=0\r\n" })),
            (SignalKind::Answer, json!({ "sdp": "v=0\r\n" })),
            (SignalKind::IceCandidates, json!([{ "candidate": "" }])),
            (SignalKind::IceCandidates, json!({ "candidates": [{ "candidate": "candidate:1", "sdpMid": "0" }] })),
            (SignalKind::IceCandidates, json!({ "candidate": "candidate:1", "sdpMLineIndex": 0 })),
            (SignalKind::Renegotiate, json!({})),
        ];
        for (kind, payload) in good {
            assert!(validate_payload(kind, &payload).is_ok(), "{kind:?} {payload}");
        }
        let many = vec![json!({ "candidate": "candidate:1" }); MAX_CANDIDATES + 1];
        let bad = [
            (SignalKind::Offer, json!({ "type": "answer", "sdp": "v=0\r\n" })),
            (SignalKind::Offer, json!({ "type": "offer" })),
            (SignalKind::Offer, json!({ "type": "offer", "sdp": 7 })),
            (SignalKind::Offer, json!("v=0")),
            (SignalKind::Answer, json!({ "type": "answer", "sdp": "hello" })),
            (SignalKind::IceCandidates, json!([])),
            (SignalKind::IceCandidates, json!(["candidate:1"])),
            (SignalKind::IceCandidates, json!(many)),
            (SignalKind::IceCandidates, json!([{ "candidate": "x".repeat(MAX_CANDIDATE_BYTES + 1) }])),
            (SignalKind::Renegotiate, json!(null)),
            (SignalKind::Renegotiate, json!({ "many": vec![0; MAX_PAYLOAD_VALUES] })),
        ];
        for (kind, payload) in bad {
            assert_eq!(validate_payload(kind, &payload).unwrap_err().code(), "BAD_USER_INPUT", "{kind:?} {payload}");
        }
        let large = json!({ "sdp": format!("v=0{}", "x".repeat(MAX_PAYLOAD_BYTES)) });
        assert_eq!(validate_payload(SignalKind::Offer, &large).unwrap_err().code(), "PAYLOAD_TOO_LARGE");
    }
}
