//! The custom scalars `DateTime` and `URL`, and texts that count towards the response's budget.

use std::borrow::Cow;
use std::future::pending;
use std::marker::PhantomData;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{
    ContextSelectionSet, InputType, InputValueError, InputValueResult, OutputType, Positioned, Scalar, ScalarType,
    ServerResult, Value,
};
use chrono::{SecondsFormat, Utc};

use crate::domain::date_time::{ceil_to_millis, parse_date_time};
use crate::domain::text;
use crate::error::{Error, Result};
use crate::graphql::execution::budgets::ResponseBudget;

/// The value of the scalar `DateTime`.
pub struct DateTime(pub chrono::DateTime<Utc>);

impl DateTime {
    /// Returns the first whole millisecond that is not before `instant`.
    pub fn ceil_to_millis(instant: chrono::DateTime<Utc>) -> Self {
        Self(ceil_to_millis(instant))
    }
}

/// A date and time in UTC with milliseconds in RFC 3339 format, such as `2026-11-21T09:30:00.000Z`.
/// Input may have any offset, and is rounded down to milliseconds.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Self::check("DateTime", text).map(Self).map_err(input_error),
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
            Value::String(url) => Self::check("URL", &url).map(Self).map_err(input_error),
            value => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

fn input_error<S: InputType>(error: Error) -> InputValueError<S> {
    InputValueError::custom(error.to_string())
}

/// A scalar whose values are texts that a rule of the domain checks.
pub trait CheckedScalar: InputType {
    type Checked;

    /// Checks the text of a field.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the text breaks the rule.
    fn check(field: &'static str, text: &str) -> Result<Self::Checked>;
}

impl CheckedScalar for DateTime {
    type Checked = chrono::DateTime<Utc>;

    fn check(field: &'static str, text: &str) -> Result<Self::Checked> {
        parse_date_time(field, text)
    }
}

impl CheckedScalar for Url {
    type Checked = String;

    fn check(field: &'static str, text: &str) -> Result<String> {
        text::validate_url(field, text)
    }
}

/// A value of a scalar in an input, which the resolver checks.
///
/// A scalar that parses its values itself does not know the name of the field, which the error of a wrong value has.
pub struct Unchecked<S> {
    value: Value,
    scalar: PhantomData<fn() -> S>,
}

impl<S: CheckedScalar> Unchecked<S> {
    /// Checks the value of a field.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the value is no text or breaks the rule of the scalar.
    pub fn check(self, field: &'static str) -> Result<S::Checked> {
        match &self.value {
            Value::String(text) => S::check(field, text),
            _ => Err(Error::bad_input(field, "must be a string")),
        }
    }
}

impl<S: CheckedScalar> InputType for Unchecked<S> {
    type RawValueType = Value;

    fn type_name() -> Cow<'static, str> {
        S::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        S::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        Ok(Self { value: value.unwrap_or_default(), scalar: PhantomData })
    }

    fn to_value(&self) -> Value {
        self.value.clone()
    }

    fn as_raw_value(&self) -> Option<&Value> {
        Some(&self.value)
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
