//! The claims of a token, with an error for each that has a wrong type.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{Error, Result};

/// The claims that Parlor reads (RFC 7519, section 4.1, and `org` and `permissions`).
///
/// jsonwebtoken verifies `iss` and `aud`. A claim that occurs twice makes the token malformed. A missing claim is
/// `None` and null is `Some`, because null is a mistake of the host application rather than the wish for a default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(deserialize_with = "present")]
    org: Option<Value>,
    #[serde(deserialize_with = "present")]
    name: Option<Value>,
    #[serde(deserialize_with = "present")]
    picture: Option<Value>,
    #[serde(deserialize_with = "present")]
    permissions: Option<Value>,
    #[serde(deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(deserialize_with = "present")]
    iat: Option<Value>,
}

/// Reads a claim that is present, which null is too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Claims {
    /// Returns the claim `sub`, the id of the user.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is missing or not a text.
    pub fn subject(&self) -> Result<&str> {
        text("sub", self.sub.as_ref())?.ok_or_else(|| malformed("sub", "be present"))
    }

    /// Returns the claim `org`, the id of the organisation.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is missing or not a text.
    pub fn organization(&self) -> Result<&str> {
        text("org", self.org.as_ref())?.ok_or_else(|| malformed("org", "be present"))
    }

    /// Returns the claim `name`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is present and not a text.
    pub fn name(&self) -> Result<Option<&str>> {
        text("name", self.name.as_ref())
    }

    /// Returns the claim `picture`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is present and not a text.
    pub fn picture(&self) -> Result<Option<&str>> {
        text("picture", self.picture.as_ref())
    }

    /// Returns the claim `permissions`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is present and not a list of texts.
    pub fn permissions(&self) -> Result<Option<Vec<&str>>> {
        let Some(claim) = &self.permissions else { return Ok(None) };
        let names = claim.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
        names.map(Some).ok_or_else(|| malformed("permissions", "be a list of texts"))
    }

    /// Returns the time of the claim `exp`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is missing or not a NumericDate.
    pub fn expires_at(&self) -> Result<DateTime<Utc>> {
        date("exp", self.exp.as_ref())?.ok_or_else(|| malformed("exp", "be present"))
    }

    /// Returns the time of the claim `nbf`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is present and not a NumericDate.
    pub fn not_before(&self) -> Result<Option<DateTime<Utc>>> {
        date("nbf", self.nbf.as_ref())
    }

    /// Returns the time of the claim `iat`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if it is present and not a NumericDate.
    pub fn issued_at(&self) -> Result<Option<DateTime<Utc>>> {
        date("iat", self.iat.as_ref())
    }
}

fn malformed(claim: &str, rule: &str) -> Error {
    Error::unauthenticated(format!("the token is malformed: {claim} must {rule}"))
}

fn text<'a>(name: &str, claim: Option<&'a Value>) -> Result<Option<&'a str>> {
    claim.map(|claim| claim.as_str().ok_or_else(|| malformed(name, "be a text"))).transpose()
}

/// Converts a NumericDate (RFC 7519, section 2), which may have a fraction.
///
/// A later date than the year 9999 becomes the end of that year.
fn date(name: &str, claim: Option<&Value>) -> Result<Option<DateTime<Utc>>> {
    const YEAR_9999: f64 = 253_402_300_799.0;
    let Some(claim) = claim else { return Ok(None) };
    let seconds = claim.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let date = seconds.and_then(|seconds| DateTime::from_timestamp_millis((seconds.min(YEAR_9999) * 1000.0) as i64));
    date.map(Some).ok_or_else(|| malformed(name, "be a NumericDate (RFC 7519, section 2)"))
}
