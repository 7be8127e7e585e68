//! Checks of texts from clients.

use serde_json::Value;

use crate::error::{Error, Result};

/// Returns a text of one line without the whitespace around it.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is blank, has control characters or more than `max` characters.
pub fn validate_line(field: &'static str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    if text.contains(char::is_control) {
        return Err(Error::bad_input(field, "must be one line without control characters"));
    }
    validate_length(field, text, max)
}

/// Returns a text of any number of lines unchanged.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is blank, has the NUL character, which PostgreSQL can't store, or more
/// than `max` characters.
pub fn validate_block(field: &'static str, text: &str, max: usize) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::bad_input(field, "must not contain the NUL character"));
    }
    validate_length(field, text, max)
}

/// The maximum length of a URL, in characters.
const MAX_URL_CHARS: usize = 2_048;

/// Returns an absolute `http` or `https` URL.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not such a URL or has more than 2,048 characters.
pub fn validate_url(field: &'static str, text: &str) -> Result<String> {
    let url = validate_line(field, text, MAX_URL_CHARS)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !url.contains(' ') => Ok(url),
        _ => Err(Error::bad_input(field, "must be an absolute http or https URL")),
    }
}

/// Returns the form in which titles and names are compared, which is the same on both engines.
pub fn fold_case(text: &str) -> String {
    text.to_lowercase()
}

fn validate_length(field: &'static str, text: &str, max: usize) -> Result<String> {
    if text.trim().is_empty() {
        return Err(Error::bad_input(field, "must not be blank"));
    }
    if text.chars().nth(max).is_some() {
        return Err(Error::bad_input(field, format!("must have 1 to {max} characters")));
    }
    Ok(text.to_owned())
}

/// Returns whether a JSON value has the NUL character anywhere, which PostgreSQL can't store.
pub fn has_nul(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(parts) => parts.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
