//! What a text from a client must be before anything is made of it.

use serde_json::Value;

use crate::error::{Error, Result};

/// A text of one line: not blank, no control characters, at most `max` characters. It is trimmed.
pub fn validate_line(field: &'static str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    if text.contains(char::is_control) {
        return Err(Error::bad_input(field, "must be one line without control characters"));
    }
    validate_length(field, text, max)
}

/// A text of any lines: not blank, no NUL (PostgreSQL can't keep one), at most `max` characters.
pub fn validate_block(field: &'static str, text: &str, max: usize) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::bad_input(field, "must not contain the NUL character"));
    }
    validate_length(field, text, max)
}

/// An absolute `http` or `https` address of at most 2,048 characters.
pub fn validate_url(field: &'static str, text: &str) -> Result<String> {
    let url = validate_line(field, text, 2_048)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !url.contains(' ') => Ok(url),
        _ => Err(Error::bad_input(field, "must be an absolute http or https address")),
    }
}

/// The form in which texts are compared by a search: the same on both engines.
pub fn fold_case(text: &str) -> String {
    text.to_lowercase()
}

fn validate_length(field: &'static str, text: &str, max: usize) -> Result<String> {
    if text.trim().is_empty() {
        return Err(Error::bad_input(field, "must not be blank"));
    }
    if text.chars().nth(max).is_some() {
        return Err(Error::bad_input(field, format!("must be at most {max} characters")));
    }
    Ok(text.to_owned())
}

/// Whether a JSON value has the character NUL anywhere: PostgreSQL can't keep it.
pub fn has_nul(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(parts) => parts.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
