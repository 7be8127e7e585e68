//! What devices in a call tell each other, to connect. It goes through the server as it is.

use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::UserId;
use crate::domain::text::has_nul;
use crate::error::{Error, Result};

/// What one participant's device tells another's, to connect the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SignalKind {
    Offer,
    Answer,
    IceCandidates,
    Renegotiate,
}

/// A signal on its way. Its payload is the clients' business, and is in no log.
#[derive(Clone, PartialEq)]
pub struct Signal {
    /// Its place among all that happens in the call.
    pub version: i64,
    pub from: UserId,
    pub to: UserId,
    pub kind: SignalKind,
    pub payload: Value,
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal").field("version", &self.version).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Largest payload of a signal, in bytes of JSON.
const MAX_SIGNAL_BYTES: usize = 64 * 1024;
/// Most values in a payload, one within another counted too: each is larger in memory than it is written.
const MAX_PAYLOAD_VALUES: usize = 1_000;
/// Most candidates of one signal.
const MAX_CANDIDATES: usize = 50;
/// Longest candidate, in bytes.
const MAX_CANDIDATE_BYTES: usize = 4_096;

/// Whether a payload has the shape of its kind: `RTCSessionDescriptionInit` and `RTCIceCandidateInit` of
/// the W3C's WebRTC 1.0. Only the outside is looked at: what an SDP (RFC 8866) says is for the other side.
pub fn validate_payload(kind: SignalKind, payload: &Value) -> Result<()> {
    if payload.to_string().len() > MAX_SIGNAL_BYTES {
        return Err(Error::PayloadTooLarge(format!("a signal's payload has at most {MAX_SIGNAL_BYTES} bytes of JSON")));
    }
    let bad = |message: &str| Err(Error::bad_input("payload", message));
    if count_values(payload) > MAX_PAYLOAD_VALUES {
        return bad("has too many values");
    }
    if has_nul(payload) {
        return bad("can't have the character NUL");
    }
    let described = |kind: &str| {
        let sdp = payload.get("sdp").and_then(Value::as_str);
        let named = payload.get("type").is_none_or(|named| named == kind);
        named && sdp.is_some_and(|sdp| sdp.starts_with("v=0"))
    };
    match kind {
        SignalKind::Offer if !described("offer") => {
            bad("must be an RTCSessionDescriptionInit of type \"offer\", with its sdp")
        }
        SignalKind::Answer if !described("answer") => {
            bad("must be an RTCSessionDescriptionInit of type \"answer\", with its sdp")
        }
        SignalKind::IceCandidates => {
            let one = std::slice::from_ref(payload);
            let list = payload.get("candidates").unwrap_or(payload);
            let candidates = list.as_array().map_or(one, Vec::as_slice);
            let is_candidate = |candidate: &Value| {
                let text = candidate.get("candidate").and_then(Value::as_str);
                text.is_some_and(|text| text.len() <= MAX_CANDIDATE_BYTES)
            };
            match (1..=MAX_CANDIDATES).contains(&candidates.len()) && candidates.iter().all(is_candidate) {
                true => Ok(()),
                false => bad(&format!(
                    "must be a list of 1 to {MAX_CANDIDATES} RTCIceCandidateInit, each with its candidate"
                )),
            }
        }
        SignalKind::Renegotiate if !payload.is_object() => bad("must be an object; {} will do"),
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
    fn signals_have_the_shape_of_their_kind() {
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
        let large = json!({ "sdp": format!("v=0{}", "x".repeat(MAX_SIGNAL_BYTES)) });
        assert_eq!(validate_payload(SignalKind::Offer, &large).unwrap_err().code(), "PAYLOAD_TOO_LARGE");
    }
}
