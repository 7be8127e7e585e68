//! Points in time as clients write and read them.

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Timelike, Utc};

use crate::error::{Error, Result};

/// Parses an RFC 3339 date and time with any offset, and rounds it down to milliseconds.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text has another form, names no existing time or a leap second, or if it is
/// outside the years 1 to 9999 in UTC: later and earlier times have no form in RFC 3339.
pub fn parse_date_time(field: &'static str, text: &str) -> Result<DateTime<Utc>> {
    let malformed = || Error::bad_input(field, "must be an RFC 3339 date and time such as 2026-11-21T09:30:00Z");
    // The parser also takes a minus sign that is no ASCII character.
    let parsed = Some(text).filter(|text| text.is_ascii()).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let instant = parsed.ok_or_else(malformed)?.to_utc();
    // The parser represents a leap second by the second before, and no clock of the server shows one.
    if instant.timestamp_subsec_nanos() >= 1_000_000_000 {
        return Err(Error::bad_input(field, "must not be a leap second: seconds are 00 to 59"));
    }
    if !(1..=9_999).contains(&instant.year()) {
        return Err(Error::bad_input(field, "must be in the years 1 to 9999 in UTC"));
    }
    instant.with_nanosecond(instant.nanosecond() / 1_000_000 * 1_000_000).ok_or_else(malformed)
}

/// Returns the first whole millisecond that is not before a time.
///
/// The API shows milliseconds. Rounded down, the time at which an action becomes legal would be too early.
pub fn ceil_to_millis(at: DateTime<Utc>) -> DateTime<Utc> {
    let excess = at.timestamp_subsec_nanos() % 1_000_000;
    let missing = if excess == 0 { 0 } else { 1_000_000 - excess };
    at + TimeDelta::nanoseconds(missing.into())
}

/// Returns a time as the API writes it, rounded up to milliseconds.
pub fn to_api_text(at: DateTime<Utc>) -> String {
    ceil_to_millis(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let instant = parse_date_time("at", text).map_err(|error| error.to_string())?;
        Ok(instant.to_rfc3339_opts(SecondsFormat::Nanos, true))
    }

    #[test]
    fn date_time_is_normalised_to_milliseconds_in_utc() {
        for (text, expected) in [
            ("2030-01-01T12:30:00Z", "2030-01-01T12:30:00.000000000Z"),
            ("2030-01-01t12:30:00z", "2030-01-01T12:30:00.000000000Z"),
            ("2030-01-01T12:30:59.9Z", "2030-01-01T12:30:59.900000000Z"),
            ("2030-01-01T12:30:00.123999999Z", "2030-01-01T12:30:00.123000000Z"),
            ("2030-01-01T12:30:00.123456789012345Z", "2030-01-01T12:30:00.123000000Z"),
            ("1950-01-01T12:30:00.123999999Z", "1950-01-01T12:30:00.123000000Z"),
            ("2030-01-01T12:30:00.123456789+23:59", "2029-12-31T12:31:00.123000000Z"),
            ("2030-01-01T12:30:00-23:59", "2030-01-02T12:29:00.000000000Z"),
            ("2030-01-01T12:30:00-00:00", "2030-01-01T12:30:00.000000000Z"),
            ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00.000000000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z"),
            ("0001-01-01T01:00:00+01:00", "0001-01-01T00:00:00.000000000Z"),
            ("0000-12-31T23:00:00-01:00", "0001-01-01T00:00:00.000000000Z"),
            ("9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59.999000000Z"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn leap_second_and_time_outside_four_digit_years_are_refused() {
        for text in
            ["2030-01-01T12:30:60Z", "2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "2017-01-01T00:59:60+01:00"]
        {
            assert_eq!(parse(text), Err("at must not be a leap second: seconds are 00 to 59".into()), "{text}");
        }
        for text in [
            "0000-06-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+23:59",
        ] {
            assert_eq!(parse(text), Err("at must be in the years 1 to 9999 in UTC".into()), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_rfc_3339_date_and_time_is_refused() {
        for text in [
            "",
            "soon",
            "2030-01-01",
            "2030-01-01T12:30Z",
            "2030-01-01T12:30:00",
            "2030-01-01T12:30:00.Z",
            "2030-01-01T12:30:00,5Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T12:60:00Z",
            "2030-01-01T12:30:61Z",
            "2030-02-29T00:00:00Z",
            "2030-13-01T00:00:00Z",
            "2030-00-01T00:00:00Z",
            "2030-01-00T00:00:00Z",
            "2030-01-01T12:30:00+24:00",
            "2030-01-01T12:30:00-24:00",
            "2030-01-01T12:30:00+01:60",
            "2030-01-01T12:30:00+0100",
            "2030-01-01T12:30:00+01",
            "2030-01-01T12:30:00+1:00",
            "2030-01-01T12:30:00\u{2212}01:00",
            "2030-01-01T12:30:00Z ",
            " 2030-01-01T12:30:00Z",
            "+2030-01-01T12:30:00Z",
            "-0001-01-01T12:30:00Z",
            "12030-01-01T12:30:00Z",
            "30-01-01T12:30:00Z",
            "20300101T123000Z",
            "2030-W01-1T12:30:00Z",
            "1900000000",
        ] {
            let message = "at must be an RFC 3339 date and time such as 2026-11-21T09:30:00Z";
            assert_eq!(parse(text), Err(message.into()), "{text}");
        }
    }
}
