//! Content negotiation of GraphQL over HTTP.
//!
//! It follows "Media Types" of the specification, and RFC 9110, section 12.5.1.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use mime::Mime;

use crate::http::event_format::EventFormat;

/// A media type of a single response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/graphql-response+json`: the status tells whether the request was valid.
    GraphqlResponse,
    /// `application/json`: every well-formed request has the status 200.
    Json,
}

impl MediaType {
    /// Returns the value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    /// Returns the media range that names this type only.
    fn name(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json",
            Self::Json => "application/json",
        }
    }
}

/// The formats of responses that a client accepts.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedFormats {
    /// The media type of a single response that the client prefers; `None` if it accepts none.
    pub media_type: Option<MediaType>,
    /// The format of events that the client prefers; `None` if it names none.
    pub event_format: Option<EventFormat>,
}

impl AcceptedFormats {
    /// Reads the header `Accept`. A client without a preference gets JSON.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT) {
            return Self { media_type: Some(MediaType::Json), event_format: None };
        }
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<_> = values.flat_map(|value| value.split(',')).filter_map(MediaRange::parse).collect();
        Self { media_type: preferred_media_type(&ranges), event_format: preferred_event_format(&ranges) }
    }
}

/// A media range of the header `Accept`.
struct MediaRange<'h> {
    /// The type and the subtype in any case, without parameters.
    name: &'h str,
    weight: f32,
    /// The parameter `subscriptionSpec`, by which a client asks for Apollo's multipart protocol.
    subscription_spec: Option<&'h str>,
}

impl<'h> MediaRange<'h> {
    /// Parses a media range and its weight, which is 1 by default.
    fn parse(text: &'h str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let mut range = Self { name, weight: 1.0, subscription_spec: None };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                range.weight = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
            } else if name.eq_ignore_ascii_case("subscriptionSpec") {
                range.subscription_spec = Some(value);
            }
        }
        Some(range)
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Returns the format of events that the range names; a wildcard names none.
    fn event_format(&self) -> Option<EventFormat> {
        if self.is("text/event-stream") {
            return Some(EventFormat::ServerSentEvents);
        }
        // Without the parameter, it is the format of `@defer` and `@stream`.
        let is_multipart = self.is("multipart/mixed") && self.subscription_spec == Some("1.0");
        is_multipart.then_some(EventFormat::Multipart)
    }
}

/// Returns the format of events that a client prefers, and of equal ones the one that it names first.
fn preferred_event_format(ranges: &[MediaRange<'_>]) -> Option<EventFormat> {
    let formats = ranges.iter().filter_map(|range| Some((range.weight, range.event_format()?)));
    let preferred = formats.filter(|(weight, _)| *weight > 0.0).reduce(|first, second| match second.0 > first.0 {
        true => second,
        false => first,
    });
    preferred.map(|(_, format)| format)
}

/// Returns the media type that a client prefers; `None` if it accepts neither.
fn preferred_media_type(ranges: &[MediaRange<'_>]) -> Option<MediaType> {
    // The weight of a media type, and the precision of the range that it comes from.
    let quality = |media_type: MediaType| {
        // The most specific matching range decides (RFC 9110, section 12.5.1).
        [media_type.name(), "application/*", "*/*"].into_iter().zip([2, 1, 0]).find_map(|(range, precision)| {
            let weights = ranges.iter().filter(|candidate| candidate.is(range)).map(|candidate| candidate.weight);
            let weight = weights.reduce(f32::max)?;
            Some((weight, precision))
        })
    };
    let acceptable = |media_type| quality(media_type).filter(|(q, _)| *q > 0.0);
    match (acceptable(MediaType::GraphqlResponse), acceptable(MediaType::Json)) {
        (None, None) => None,
        (Some(_), None) => Some(MediaType::GraphqlResponse),
        (None, Some(_)) => Some(MediaType::Json),
        // Named types with the same weight: the one whose status is more precise. Wildcards: JSON.
        (Some((graphql_q, precision)), Some((json_q, _))) if graphql_q == json_q => {
            Some(if precision == 2 { MediaType::GraphqlResponse } else { MediaType::Json })
        }
        (Some((graphql_q, _)), Some((json_q, _))) => {
            Some(if graphql_q > json_q { MediaType::GraphqlResponse } else { MediaType::Json })
        }
    }
}

/// Returns whether a body is JSON in UTF-8, which GraphQL over HTTP requires.
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.parse::<Mime>().ok());
    media_type.is_some_and(|media_type| {
        let is_utf8 = media_type.get_param(mime::CHARSET).is_none_or(|charset| charset == mime::UTF_8);
        media_type.essence_str() == mime::APPLICATION_JSON.essence_str() && is_utf8
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn negotiation_selects_the_media_type_with_the_highest_weight() {
        use MediaType::{GraphqlResponse, Json};
        let table = [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("application/graphql-response+json", Some(GraphqlResponse)),
            ("application/graphql-response+json,application/json;q=0.9", Some(GraphqlResponse)),
            ("application/json, application/graphql-response+json", Some(GraphqlResponse)),
            ("application/json, application/graphql-response+json;q=0.2", Some(Json)),
            ("application/graphql-response+json;q=0, */*", Some(Json)),
            ("APPLICATION/JSON; charset=utf-8", Some(Json)),
            ("text/html, */*;q=0.1", Some(Json)),
            ("application/json;q=0", None),
            ("text/html", None),
            ("application/json;q=7", None),
        ];
        for (accept, expected) in table {
            let headers = [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
            assert_eq!(AcceptedFormats::from_headers(&headers).media_type, expected, "{accept}");
        }
        assert_eq!(AcceptedFormats::from_headers(&HeaderMap::new()).media_type, Some(Json));
    }

    #[test]
    fn event_format_is_the_preferred_one_that_is_named() {
        use EventFormat::{Multipart, ServerSentEvents};
        let table = [
            ("text/event-stream", Some(ServerSentEvents)),
            ("multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json", Some(Multipart)),
            ("Multipart/Mixed; SubscriptionSpec=\"1.0\"; boundary=\"graphql\"", Some(Multipart)),
            ("multipart/mixed;subscriptionSpec=1.0, text/event-stream", Some(Multipart)),
            ("text/event-stream, multipart/mixed;subscriptionSpec=1.0", Some(ServerSentEvents)),
            ("text/event-stream;q=0.5, multipart/mixed;subscriptionSpec=1.0;q=0.6", Some(Multipart)),
            ("text/event-stream, multipart/mixed;subscriptionSpec=1.0;q=0", Some(ServerSentEvents)),
            ("multipart/mixed;deferSpec=20220824, application/json", None),
            ("multipart/mixed;subscriptionSpec=2.0", None),
            ("multipart/mixed", None),
            ("multipart/form-data;subscriptionSpec=1.0", None),
            ("text/event-stream;q=0", None),
            ("*/*, text/*, multipart/*;subscriptionSpec=1.0", None),
        ];
        for (accept, expected) in table {
            let headers = [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
            assert_eq!(AcceptedFormats::from_headers(&headers).event_format, expected, "{accept}");
        }
        assert_eq!(AcceptedFormats::from_headers(&HeaderMap::new()).event_format, None);
    }

    #[test]
    fn body_is_accepted_only_as_json_in_utf_8() {
        for (content_type, accepted) in [
            ("application/json", true),
            ("application/json; charset=UTF-8", true),
            ("application/json; charset=utf-16", false),
            ("application/graphql", false),
            ("text/plain", false),
            ("", false),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect();
            assert_eq!(is_json(&headers), accepted, "{content_type}");
        }
    }
}
