//! Scalars of our own.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{SecondsFormat, TimeDelta, Utc};

pub struct DateTime(pub chrono::DateTime<Utc>);

impl DateTime {
    /// The first millisecond that is not before a moment: what is legal from the moment on is legal then.
    pub fn ceil_to_millis(moment: chrono::DateTime<Utc>) -> Self {
        let cut = moment.timestamp_subsec_nanos() % 1_000_000;
        let up = if cut == 0 { 0 } else { 1_000_000 - cut };
        Self(moment + TimeDelta::nanoseconds(up.into()))
    }
}

/// A moment as RFC 3339 writes it, in UTC and to the millisecond: `2026-11-21T09:30:00.000Z`. Read
/// with any offset.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(moment) => Ok(Self(moment.to_utc())),
                Err(error) => Err(InputValueError::custom(format!("is no RFC 3339 moment: {error}"))),
            },
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

pub struct Url(pub String);

/// An absolute `http` or `https` address (RFC 3986) of at most 2,048 characters.
#[Scalar(name = "URL", specified_by_url = "https://www.rfc-editor.org/rfc/rfc3986")]
impl ScalarType for Url {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => crate::domain::text::validate_url("URL", &text)
                .map(Self)
                .map_err(|error| InputValueError::custom(error.to_string())),
            value => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}
