//! The formats in which one HTTP response carries the results of an operation, one after the other.
//!
//! [`event_stream`](crate::http::event_stream) writes such a response. Each result is complete for its client as soon as
//! its bytes have arrived: a client need not wait for the next one.

use axum::body::Bytes;

/// A format of a stream of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// GraphQL over Server-Sent Events, in distinct connections mode.
    ///
    /// The protocol is <https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>.
    ServerSentEvents,
    /// Apollo's multipart HTTP protocol for subscriptions.
    ///
    /// The protocol is
    /// <https://www.apollographql.com/docs/graphos/routing/operations/subscriptions/multipart-protocol>.
    /// The boundary that ends a part is also the one that begins the next, so it is written with the part.
    Multipart,
}

impl EventFormat {
    /// Returns the value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::ServerSentEvents => "text/event-stream; charset=utf-8",
            Self::Multipart => "multipart/mixed;boundary=graphql;subscriptionSpec=1.0",
        }
    }

    /// Returns the label of the format in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ServerSentEvents => "sse",
            Self::Multipart => "multipart",
        }
    }

    /// Returns the beginning of a stream.
    pub fn opening(self) -> Option<Bytes> {
        match self {
            Self::ServerSentEvents => None,
            Self::Multipart => Some(Bytes::from_static(b"\r\n--graphql")),
        }
    }

    /// Returns a text that clients ignore; it keeps proxies from closing an idle connection.
    pub fn heartbeat(self) -> Bytes {
        match self {
            Self::ServerSentEvents => Bytes::from_static(b":\n\n"),
            Self::Multipart => encode_part(["{}"]),
        }
    }

    /// Encodes a response of the operation, which is a JSON object without line breaks.
    pub fn encode_response(self, body: &str) -> Bytes {
        match self {
            Self::ServerSentEvents => ["event: next\ndata: ", body, "\n\n"].concat().into(),
            Self::Multipart => encode_part(["{\"payload\":", body, "}"]),
        }
    }

    /// Encodes the error that ends a stream before its operation, given the response of a rejected request.
    ///
    /// In a multipart response it is an error of the transport: it is beside the payload, and ends the body.
    pub fn encode_last_error(self, body: &str) -> Bytes {
        match self {
            Self::ServerSentEvents => self.encode_response(body),
            Self::Multipart => {
                let members = body.strip_prefix('{').unwrap_or(body);
                [encode_part(["{\"payload\":null,", members]), self.completion()].concat().into()
            }
        }
    }

    /// Returns the end of a stream whose operation has ended.
    pub fn completion(self) -> Bytes {
        match self {
            Self::ServerSentEvents => Bytes::from_static(b"event: complete\ndata:\n\n"),
            Self::Multipart => Bytes::from_static(b"--\r\n"),
        }
    }
}

/// Encodes a part, from the end of the boundary before it to the name of the boundary after it.
fn encode_part<const N: usize>(json: [&str; N]) -> Bytes {
    const HEAD: &str = "\r\nContent-Type: application/json\r\n\r\n";
    const BOUNDARY: &str = "\r\n--graphql";
    let length = HEAD.len() + json.iter().map(|piece| piece.len()).sum::<usize>() + BOUNDARY.len();
    let mut part = String::with_capacity(length);
    part.push_str(HEAD);
    part.extend(json);
    part.push_str(BOUNDARY);
    part.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a stream of a heartbeat and two responses.
    fn encode(format: EventFormat, end: Bytes) -> String {
        let responses = [r#"{"data":{"a":1}}"#, r#"{"data":null}"#].map(|body| format.encode_response(body));
        let bytes = [format.opening().unwrap_or_default(), format.heartbeat(), responses.concat().into(), end].concat();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn multipart_body_ends_each_part_with_its_boundary() {
        let format = EventFormat::Multipart;
        let head = "Content-Type: application/json\r\n\r\n";
        let parts = format!(
            "\r\n--graphql\r\n{head}{{}}\r\n--graphql\r\n{head}{{\"payload\":{{\"data\":{{\"a\":1}}}}}}\
             \r\n--graphql\r\n{head}{{\"payload\":{{\"data\":null}}}}\r\n--graphql"
        );
        assert_eq!(encode(format, format.completion()), format!("{parts}--\r\n"));
        let error = format.encode_last_error(r#"{"errors":[{"message":"m"}]}"#);
        let last_part = format!("\r\n{head}{{\"payload\":null,\"errors\":[{{\"message\":\"m\"}}]}}\r\n--graphql--\r\n");
        assert_eq!(encode(format, error), format!("{parts}{last_part}"));
    }

    #[test]
    fn server_sent_events_name_responses_and_the_end() {
        let format = EventFormat::ServerSentEvents;
        let events = ":\n\nevent: next\ndata: {\"data\":{\"a\":1}}\n\nevent: next\ndata: {\"data\":null}\n\n";
        assert_eq!(encode(format, format.completion()), format!("{events}event: complete\ndata:\n\n"));
        assert_eq!(encode(format, format.encode_last_error("{}")), format!("{events}event: next\ndata: {{}}\n\n"));
    }
}
