//! Checks of texts from clients.

use std::borrow::Cow;

use serde_json::Value;
use url::{Position, Url};

use crate::domain::characters::{self, Violation, is_blank};
use crate::error::{Error, Result};

/// Returns a text of one line without the whitespace around it.
///
/// It is the rule for every text that is shown on one line or compared: names, titles, ids, options, reasons.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text shows nothing, has control characters, invisible characters or such that
/// change the direction of text, or more than `max` characters.
pub fn validate_line(field: &'static str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    validate_length(field, text, max)?;
    require_visible_characters(field, text)?;
    Ok(text.to_owned())
}

/// Returns a text by the rule of [`validate_line`], or `None` for a text that shows nothing.
///
/// # Errors
///
/// Returns the errors of [`validate_line`].
pub fn validate_optional_line(field: &'static str, text: Option<&str>, max: usize) -> Result<Option<String>> {
    text.filter(|text| !is_blank(text)).map(|text| validate_line(field, text, max)).transpose()
}

/// Returns a text of several lines, each of which follows the rule of [`validate_line`] or is blank.
///
/// The text is returned without the whitespace around it.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text shows nothing, has other control characters than line breaks and tabs,
/// invisible characters or such that change the direction of text, or more than `max` characters.
pub fn validate_lines(field: &'static str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    validate_length(field, text, max)?;
    text.split(['\n', '\r', '\t']).try_for_each(|line| require_visible_characters(field, line))?;
    Ok(text.to_owned())
}

/// Returns a text without the characters that [`validate_line`] does not allow.
///
/// Spaces replace control characters.
pub fn strip_line(text: &str) -> String {
    let kept = characters::inspect(text).filter_map(|(character, violation)| match violation {
        None => Some(character),
        Some(Violation::Control) => Some(' '),
        Some(Violation::Direction(_) | Violation::Invisible(_)) => None,
    });
    kept.collect()
}

/// Returns the form of a text from a token that [`validate_line`] allows, cut to `max` characters.
///
/// Returns `None` if nothing visible remains.
pub fn clean_line(text: &str, max: usize) -> Option<String> {
    let cut: String = strip_line(text.trim()).trim().chars().take(max).collect();
    // The cut may have separated a joiner from the character that it joins.
    let line = strip_line(&cut).trim().to_owned();
    (!is_blank(&line)).then_some(line)
}

/// Returns whether a text shows something, and all its characters are allowed on one line.
pub fn is_visible_line(text: &str) -> bool {
    !is_blank(text) && characters::inspect(text).all(|(_, violation)| violation.is_none())
}

fn require_visible_characters(field: &'static str, line: &str) -> Result<()> {
    let message = match characters::inspect(line).find_map(|(_, violation)| violation) {
        None => return Ok(()),
        Some(Violation::Control) => "must be one line without control characters".to_owned(),
        Some(Violation::Direction(character)) => {
            format!("must not contain U+{:04X}, which changes the direction of text", u32::from(character))
        }
        Some(Violation::Invisible(character)) => {
            format!("must not contain the invisible character U+{:04X}", u32::from(character))
        }
    };
    Err(Error::bad_input(field, message))
}

/// Returns a text of any number of lines without control characters other than tabs and line breaks.
///
/// The characters of a line break that is not `\n` become one.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text shows nothing, has the NUL character, which no client means, or more
/// than `max` characters.
pub fn validate_block(field: &'static str, text: &str, max: usize) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::bad_input(field, "must not contain the NUL character"));
    }
    let text = strip_control_characters(text);
    validate_length(field, &text, max)?;
    Ok(text)
}

fn strip_control_characters(text: &str) -> String {
    let is_kept = |character: &char| matches!(character, '\n' | '\t') || !character.is_control();
    with_line_feeds(text).chars().filter(is_kept).collect()
}

/// Returns a text with line feeds alone at the ends of lines.
pub fn with_line_feeds(text: &str) -> Cow<'_, str> {
    if !text.contains('\r') {
        return text.into();
    }
    text.replace("\r\n", "\n").replace('\r', "\n").into()
}

/// The maximum length of a URL, in characters.
const MAX_URL_CHARS: usize = 2_048;

/// Returns the normal form of an absolute `http` or `https` URL.
///
/// It has ASCII characters only, and neither quotes nor brackets, except those around an address of IPv6.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not such a URL, has user information, or has more than 2,048
/// characters.
pub fn validate_url(field: &'static str, text: &str) -> Result<String> {
    let text = validate_line(field, text, MAX_URL_CHARS)?;
    let not_a_url = || Error::bad_input(field, "must be an absolute http or https URL");
    // The parser accepts white space, any number of slashes and backslashes for them, which no client means.
    let (scheme, rest) = text.split_once("://").ok_or_else(not_a_url)?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let has_backslash = rest.split(['?', '#']).next().is_some_and(|path| path.contains('\\'));
    if !is_http || rest.starts_with('/') || has_backslash || text.contains(char::is_whitespace) {
        return Err(not_a_url());
    }
    let url = Url::parse(&text).map_err(|_| not_a_url())?;
    if has_user_information(&url, rest) {
        return Err(Error::bad_input(field, "must not contain a user name or password"));
    }
    let authority_end = url[..Position::BeforePath].len();
    let (authority, path) = url.as_str().split_at(authority_end);
    let url = authority.to_owned() + &escape_delimiters(path);
    match url.len() <= MAX_URL_CHARS {
        true => Ok(url),
        false => Err(Error::bad_input(field, format!("must have at most {MAX_URL_CHARS} characters in normal form"))),
    }
}

/// Returns whether a URL has user information, be it empty, of which the parsed form keeps no trace.
fn has_user_information(url: &Url, after_scheme: &str) -> bool {
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    !url.username().is_empty() || url.password().is_some() || authority.contains('@')
}

/// Escapes the characters that could end a quoted or bracketed URL in HTML, CSS, Markdown or a script.
fn escape_delimiters(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for character in path.chars() {
        match character {
            '\'' | '"' | '<' | '>' | '`' | '[' | ']' | '{' | '}' | '|' | '^' | '\\' => {
                escaped += &format!("%{:02X}", u32::from(character));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Returns an address without its credentials, for a log or an error.
///
/// Asterisks replace the user information, the query and the fragment: any of them may be a credential. A text that is
/// no address becomes asterisks as a whole.
pub fn redact_url(address: &str) -> String {
    let Ok(url) = Url::parse(address) else { return "***".to_owned() };
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "***@" };
    let query = if url.query().is_none() && url.fragment().is_none() { "" } else { "?***" };
    format!("{}://{user}{}{query}", url.scheme(), &url[Position::BeforeHost..Position::AfterPath])
}

/// Returns the form in which titles and names are compared, which is the same on both engines.
pub fn fold_case(text: &str) -> String {
    text.to_lowercase()
}

fn validate_length(field: &'static str, text: &str, max: usize) -> Result<()> {
    if is_blank(text) {
        return Err(Error::bad_input(field, "must not be blank"));
    }
    if text.chars().nth(max).is_some() {
        return Err(Error::bad_input(field, format!("must have 1 to {max} characters")));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_trimmed_and_shows_something() {
        assert_eq!(validate_line("title", "  Ada\u{3000}", 3).unwrap(), "Ada");
        for (text, message) in [
            ("\u{200B}", "title must not be blank"),
            ("\u{2800}\u{3164}", "title must not be blank"),
            ("Adam", "title must have 1 to 3 characters"),
            ("A\u{200B}a", "title must not contain the invisible character U+200B"),
            ("A\u{202E}a", "title must not contain U+202E, which changes the direction of text"),
            ("A\na", "title must be one line without control characters"),
            ("A\u{2028}a", "title must be one line without control characters"),
        ] {
            assert_eq!(validate_line("title", text, 3).unwrap_err().to_string(), message, "{text:?}");
        }
    }

    #[test]
    fn lines_may_have_line_breaks_and_tabs_only() {
        assert_eq!(validate_lines("reason", " a\r\n\n\tb ", 9).unwrap(), "a\r\n\n\tb");
        for text in ["a\u{0}", "a\u{1B}b", "a\n\u{202E}b", "a\n\u{200B}\nb", "\n\u{200B}\n"] {
            assert!(validate_lines("reason", text, 9).is_err(), "{text:?}");
        }
    }

    #[test]
    fn block_keeps_tabs_and_line_breaks_of_all_control_characters() {
        for (text, stripped) in [
            ("a\tb\nc", "a\tb\nc"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("a\u{1}\u{1B}[31mb\u{7F}\u{85}\u{9F}c", "a[31mbc"),
            ("  a \u{8}", "  a "),
        ] {
            assert_eq!(validate_block("text", text, 10).unwrap(), stripped, "{text:?}");
        }
        for text in ["\u{1}\u{7F}", "\n\u{8}\t", "a\0"] {
            assert!(validate_block("text", text, 10).is_err(), "{text:?}");
        }
        assert!(validate_block("text", &"\u{1}a".repeat(10), 10).is_ok(), "removed characters do not count");
    }

    #[test]
    fn line_of_a_token_is_cleaned() {
        for (text, max, cleaned) in [
            ("  A\0l\ni\u{85}ce  ", 8, Some("A l i ce")),
            ("\u{202E}Al\u{200B}ice\u{2066}", 5, Some("Alice")),
            ("\u{200B}\u{3164} ", 9, None),
            ("👩\u{200D}🚀", 3, Some("👩\u{200D}🚀")),
            ("👩\u{200D}🚀", 2, Some("👩")),
            ("Ada Lovelace", 4, Some("Ada")),
        ] {
            assert_eq!(clean_line(text, max).as_deref(), cleaned, "{text:?}");
        }
        assert_eq!(clean_line("می\u{200C}خواهم", 20).as_deref(), Some("می\u{200C}خواهم"));
    }

    #[test]
    fn address_is_shown_without_credentials() {
        for (address, shown) in [
            ("https://host/keys", "https://host/keys"),
            ("https://user:p%40ss@host:8443/keys?token=s3cret#s3cret", "https://***@host:8443/keys?***"),
            ("redis://:s3cret@host:6379/0", "redis://***@host:6379/0"),
            ("postgres://user@host/name?password=s3cret", "postgres://***@host/name?***"),
            ("s3cret", "***"),
        ] {
            assert_eq!(redact_url(address), shown);
        }
    }

    #[test]
    fn url_is_normalised() {
        for (text, normal) in [
            ("https://host/a.png", "https://host/a.png"),
            ("HTTPS://HOST:443/a?b=c#d", "https://host/a?b=c#d"),
            ("http://host", "http://host/"),
            (
                "https://host/\"><script>alert('x')</script>",
                "https://host/%22%3E%3Cscript%3Ealert(%27x%27)%3C/script%3E",
            ),
            ("https://host/a[0]?b={c}|d^`'#'<", "https://host/a%5B0%5D?b=%7Bc%7D%7Cd%5E%60%27#%27%3C"),
            ("https://[::1]:8080/x", "https://[::1]:8080/x"),
            ("https://münchen.example/straße", "https://xn--mnchen-3ya.example/stra%C3%9Fe"),
            ("https://host/a/../b", "https://host/b"),
            ("https://host/a@b", "https://host/a@b"),
        ] {
            assert_eq!(validate_url("avatarUrl", text).unwrap(), normal);
        }
        let too_long = format!("https://host/{}", "x".repeat(2_036));
        let too_long_in_normal_form = format!("https://host/{}", "ü".repeat(400));
        for text in [
            "",
            "host/a.png",
            "//host",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://host",
            "http://",
            "http:///a",
            "https:host",
            "https://user@host/",
            "https://user:password@host/",
            "https://:@host/",
            "https://@host/",
            "https://ho st/",
            "https://host/a b",
            "https://host\\@evil/",
            "https://ho<st/",
            "https://host:99999/",
            "https://ho\u{200B}st/",
            "https://host/\u{202E}gnp.a",
            "file:///etc/passwd",
            &too_long,
            &too_long_in_normal_form,
        ] {
            assert!(validate_url("avatarUrl", text).is_err(), "{text:?}");
        }
    }
}
