//! The custom scalars `DateTime` and `URL`.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{SecondsFormat, TimeDelta, Utc};

use crate::domain::text;

/// The value of the scalar `DateTime`.
pub struct DateTime(pub chrono::DateTime<Utc>);

impl DateTime {
    /// Returns the first whole millisecond that is not before `instant`.
    ///
    /// The API shows milliseconds. Rounded down, the time at which an action becomes legal would be too early.
    pub fn ceil_to_millis(instant: chrono::DateTime<Utc>) -> Self {
        let excess = instant.timestamp_subsec_nanos() % 1_000_000;
        let missing = if excess == 0 { 0 } else { 1_000_000 - excess };
        Self(instant + TimeDelta::nanoseconds(missing.into()))
    }
}

/// A date and time in UTC with milliseconds in RFC 3339 format, such as `2026-11-21T09:30:00.000Z`.
/// Input may have any offset.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(instant) => Ok(Self(instant.to_utc())),
                Err(error) => Err(InputValueError::custom(format!("must be an RFC 3339 date and time: {error}"))),
            },
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// The value of the scalar `URL`.
pub struct Url(pub String);

/// An absolute `http` or `https` URL (RFC 3986) of at most 2,048 characters.
#[Scalar(name = "URL", specified_by_url = "https://www.rfc-editor.org/rfc/rfc3986")]
impl ScalarType for Url {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(url) => {
                text::validate_url("URL", &url).map(Self).map_err(|error| InputValueError::custom(error.to_string()))
            }
            value => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}
