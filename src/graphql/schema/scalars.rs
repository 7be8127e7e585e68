//! The custom scalars `DateTime` and `URL`, and texts that count towards the response's budget.

use std::borrow::Cow;
use std::future::pending;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{
    ContextSelectionSet, InputValueError, InputValueResult, OutputType, Positioned, Scalar, ScalarType, ServerResult,
    Value,
};
use chrono::{SecondsFormat, TimeDelta, Utc};

use crate::domain::text;
use crate::graphql::execution::budgets::ResponseBudget;

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

/// A `String` that a user or the host application chose.
///
/// Its bytes count towards the response's budget before it is copied into the response.
pub struct Text<T>(pub T);

impl<T: AsRef<str> + Send + Sync> OutputType for Text<T> {
    fn type_name() -> Cow<'static, str> {
        <String as OutputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <String as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(counted_text(ctx, self.0.as_ref()).await)
    }
}

/// A `URL` that a user or the host application chose; it is counted as a [`Text`] is.
pub struct CountedUrl<T>(pub T);

impl<T: AsRef<str> + Send + Sync> OutputType for CountedUrl<T> {
    fn type_name() -> Cow<'static, str> {
        <Url as OutputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Url as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(counted_text(ctx, self.0.as_ref()).await)
    }
}

/// Counts and copies a text. Beyond the budget it never returns: the executor ends the execution instead.
async fn counted_text(ctx: &ContextSelectionSet<'_>, text: &str) -> Value {
    if !ctx.data_unchecked::<ResponseBudget>().0.charge(text.len()) {
        return pending().await;
    }
    Value::String(text.to_owned())
}
