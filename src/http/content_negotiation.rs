//! Content negotiation of GraphQL over HTTP (the specification's "Media Types", and RFC 9110,
//! section 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use mime::Mime;

/// What a response may be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/graphql-response+json`: the status tells whether the request was right.
    GraphqlResponse,
    /// `application/json`: what is at least well-formed is answered with 200.
    Json,
}

impl MediaType {
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

/// Whether a client takes Server-Sent Events, by name.
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    parse_ranges(headers).iter().any(|(name, q)| name == "text/event-stream" && *q > 0.0)
}

fn parse_ranges(headers: &HeaderMap) -> Vec<(String, f32)> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(parse_range).collect()
}

/// The media type that a client likes best; none where it takes neither. A client that says nothing,
/// or takes anything, gets JSON.
pub fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    let ranges = parse_ranges(headers);
    if !headers.contains_key(ACCEPT) {
        return Some(MediaType::Json);
    }
    let liking = |media: MediaType| {
        let exact = format!("application/{}", media.subtype());
        // The most specific range that fits decides.
        [exact.as_str(), "application/*", "*/*"].into_iter().zip([2, 1, 0]).find_map(|(range, precision)| {
            let best = ranges.iter().filter(|(name, _)| name == range).map(|(_, q)| *q).reduce(f32::max)?;
            (best > 0.0).then_some((best, precision)).or(Some((0.0, precision)))
        })
    };
    let wanted = |media| liking(media).filter(|(q, _)| *q > 0.0);
    match (wanted(MediaType::GraphqlResponse), wanted(MediaType::Json)) {
        (None, None) => None,
        (Some(_), None) => Some(MediaType::GraphqlResponse),
        (None, Some(_)) => Some(MediaType::Json),
        // Where both are named alike, the one whose status says more; where neither is, JSON.
        (Some(one), Some(other)) if one.0 == other.0 => {
            Some(if one.1 == 2 { MediaType::GraphqlResponse } else { MediaType::Json })
        }
        (Some(one), Some(other)) => Some(if one.0 > other.0 { MediaType::GraphqlResponse } else { MediaType::Json }),
    }
}

/// A media range and its weight.
fn parse_range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)))?;
    Some((name, weight))
}

/// Whether a body is what GraphQL over HTTP takes: JSON in UTF-8.
pub fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.parse::<Mime>().ok());
    media.is_some_and(|media| {
        let utf8 = media.get_param(mime::CHARSET).is_none_or(|charset| charset == mime::UTF_8);
        media.essence_str() == mime::APPLICATION_JSON.essence_str() && utf8
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_best_liked_media_type_is_chosen() {
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
    fn only_json_in_utf_8_is_taken() {
        for (content_type, taken) in [
            ("application/json", true),
            ("application/json; charset=UTF-8", true),
            ("application/json; charset=utf-16", false),
            ("application/graphql", false),
            ("text/plain", false),
            ("", false),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect();
            assert_eq!(is_json(&headers), taken, "{content_type}");
        }
    }
}
