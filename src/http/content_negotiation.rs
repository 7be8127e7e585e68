//! Content negotiation of GraphQL over HTTP.
//!
//! It follows "Media Types" of the specification, and RFC 9110, section 12.5.1.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use mime::Mime;

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

    fn subtype(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "graphql-response+json",
            Self::Json => "json",
        }
    }
}

/// Returns whether a client names Server-Sent Events as acceptable; wildcards do not count.
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    parse_ranges(headers).iter().any(|(name, q)| name == "text/event-stream" && *q > 0.0)
}

/// Returns the media ranges of the header `Accept` with their weights.
fn parse_ranges(headers: &HeaderMap) -> Vec<(String, f32)> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(parse_range).collect()
}

/// Returns the media type that a client prefers; `None` if it accepts neither.
///
/// A client without a preference gets JSON.
pub fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    let ranges = parse_ranges(headers);
    if !headers.contains_key(ACCEPT) {
        return Some(MediaType::Json);
    }
    // The weight of a media type, and the precision of the range that it comes from.
    let quality = |media_type: MediaType| {
        let exact = format!("application/{}", media_type.subtype());
        // The most specific matching range decides (RFC 9110, section 12.5.1).
        [exact.as_str(), "application/*", "*/*"].into_iter().zip([2, 1, 0]).find_map(|(range, precision)| {
            let weight = ranges.iter().filter(|(name, _)| name == range).map(|(_, q)| *q).reduce(f32::max)?;
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

/// Parses a media range and its weight, which is 1 by default.
fn parse_range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)))?;
    Some((name, weight))
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
            assert_eq!(negotiate(&headers), expected, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Some(Json));
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
