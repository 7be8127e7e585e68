//! A reader of environment variables that records the description of each setting that it reads.
//!
//! The calls of its methods are the only place where a setting is written: name, meaning, unit, default and accepted
//! values. The help text and `docs/SETTINGS.md` come from the recorded descriptions.
//!
//! Libraries lack a part of that: clap's `env` reports the first error only and makes an argument of each setting, and
//! `conf` reports all errors but has no ranges, no units and no error for an unknown variable.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// The description of one setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The section that contains the setting.
    pub section: &'static str,
    /// The name of the environment variable.
    pub name: &'static str,
    /// A noun phrase.
    pub meaning: &'static str,
    /// The accepted values, with their range.
    pub accepted: String,
    /// The unit of a number, or an empty text.
    pub unit: &'static str,
    /// The value that an unset variable stands for.
    pub default: String,
}

/// A setting with a wrong value, or a name that is not a setting.
#[derive(Debug, Clone, thiserror::Error)]
pub struct SettingError {
    /// The name of the environment variable.
    pub name: String,
    /// The value; `None` if it may be secret.
    pub value: Option<String>,
    /// The rule that the value breaks.
    pub rule: String,
}

impl Display for SettingError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}: {}", self.name, self.rule),
            None => write!(f, "{}: {}", self.name, self.rule),
        }
    }
}

/// Environment variables that have not been read yet, and the findings so far.
///
/// Each method removes the variable that it reads, so the variables that remain at the end are unknown. A method
/// returns the default in place of a wrong value, so that one pass finds all errors.
pub struct Reader {
    vars: BTreeMap<String, String>,
    section: &'static str,
    settings: Vec<Setting>,
    errors: Vec<SettingError>,
}

impl Reader {
    /// Creates a reader of those variables that are named like settings.
    pub fn new(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_setting = |(name, value): &(String, String)| is_setting_name(name) && !is_service_link(name, value);
        let vars = vars.into_iter().filter(is_setting).collect();
        Self { vars, section: "", settings: Vec::new(), errors: Vec::new() }
    }

    /// Starts a section, to which the settings that are read next belong.
    pub fn section(&mut self, title: &'static str) {
        self.section = title;
    }

    /// Reads a value by its `FromStr`; a wrong value's error states what is accepted.
    pub fn value<T: FromStr>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        accepted: &'static str,
        default: &str,
    ) -> T {
        self.value_with(name, meaning, accepted, default, |text| {
            text.parse().map_err(|_| format!("must be {accepted}"))
        })
    }

    /// Reads a value by a function whose error states the rule. The function reads the default too.
    pub fn value_with<T, E: Display>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        accepted: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        self.describe(name, meaning, accepted, "", default);
        self.parse(name, default, parse)
    }

    /// Reads a text that may be absent; `unset` states what applies then.
    pub fn text(&mut self, name: &'static str, meaning: &'static str, accepted: &str, unset: &str) -> Option<String> {
        self.describe(name, meaning, accepted, "", unset);
        self.take(name)
    }

    /// Reads a value that may be absent; `unset` states what applies then.
    pub fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        accepted: &'static str,
        unset: &str,
    ) -> Option<T> {
        self.describe(name, meaning, accepted, "", unset);
        self.parse(name, "", |text| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("must be {accepted}")),
        })
    }

    /// Reads entries between commas. `accepted` describes one entry, and so does the error of `parse`.
    pub fn list<T, E: Display>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        accepted: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let shown_default = if default.is_empty() { "none" } else { default };
        self.describe(name, meaning, &format!("{accepted}; several separated by commas"), "", shown_default);
        self.parse(name, default, |list| {
            let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            let parsed = entries.map(|entry| {
                parse(entry).map_err(|rule| match is_confidential(name) {
                    true => format!("each entry {rule}"),
                    false => format!("{entry:?} {rule}"),
                })
            });
            parsed.collect::<Result<Vec<_>, _>>()
        })
    }

    /// Reads a whole number within a range.
    pub fn number(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        unit: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let (min, max) = (range.start(), range.end());
        let default = default.to_string();
        self.describe(name, meaning, &format!("{min} to {max}"), unit, &default);
        self.parse(name, &default, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("must be a whole number from {min} to {max}"))
        })
    }

    /// Reads a whole number of seconds within a range.
    pub fn seconds(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Duration {
        Duration::from_secs(self.number(name, meaning, "seconds", default, range) as u64)
    }

    /// Reads a number of actions per minute.
    pub fn rate(&mut self, name: &'static str, meaning: &'static str, default: usize) -> NonZeroU32 {
        let rate = self.number(name, meaning, "per minute", default, 1..=1_000_000);
        u32::try_from(rate).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    /// Describes the default of the setting that was read last in other words than its value.
    pub fn describe_default(&mut self, default: &str) {
        if let Some(setting) = self.settings.last_mut() {
            setting.default = default.to_owned();
        }
    }

    /// Records that a setting breaks a rule. The value is not shown.
    pub fn reject(&mut self, name: &str, rule: impl Into<String>) {
        self.errors.push(SettingError { name: name.to_owned(), value: None, rule: rule.into() });
    }

    /// Records that a setting breaks a rule, and shows its value.
    pub fn reject_value(&mut self, name: &str, value: impl Display, rule: impl Into<String>) {
        self.errors.push(SettingError { name: name.to_owned(), value: Some(value.to_string()), rule: rule.into() });
    }

    /// Returns all errors, among them the variables that are left.
    pub fn into_errors(mut self) -> Vec<SettingError> {
        for name in std::mem::take(&mut self.vars).into_keys() {
            self.reject(&name, "there is no such setting; see parlor --help");
        }
        self.errors
    }

    /// Returns the descriptions of the settings that have been read, in the order of reading.
    pub fn into_settings(self) -> Vec<Setting> {
        self.settings
    }

    fn describe(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        accepted: &str,
        unit: &'static str,
        default: &str,
    ) {
        self.settings.push(Setting {
            section: self.section,
            name,
            meaning,
            accepted: accepted.to_owned(),
            unit,
            default: default.to_owned(),
        });
    }

    /// Removes a variable. An empty one counts as unset.
    fn take(&mut self, name: &str) -> Option<String> {
        self.vars.remove(name).filter(|value| !value.is_empty())
    }

    fn parse<T, E: Display>(&mut self, name: &str, default: &str, parse: impl Fn(&str) -> Result<T, E>) -> T {
        let fallback = || parse(default).unwrap_or_else(|rule| panic!("the default of {name} is wrong: it {rule}"));
        let Some(value) = self.take(name) else {
            return fallback();
        };
        parse(&value).unwrap_or_else(|rule| {
            match is_confidential(name) {
                true => self.reject(name, rule.to_string()),
                false => self.reject_value(name, value, rule.to_string()),
            }
            fallback()
        })
    }
}

/// Returns true for names that belong to the server. Tests have variables of their own.
fn is_setting_name(name: &str) -> bool {
    matches!(name, "DATABASE_URL" | "DATABASE_READ_URL" | "REDIS_URL")
        || name.starts_with("PARLOR_") && !name.starts_with("PARLOR_TEST_")
}

/// Returns true for a variable by which Kubernetes announces a service whose name begins with "parlor".
///
/// For each service of a namespace, every container gets variables such as `PARLOR_SERVICE_HOST`,
/// `PARLOR_SERVICE_PORT_HTTP`, `PARLOR_PORT=tcp://10.0.0.1:80`, `PARLOR_PORT_80_TCP_ADDR` and `PARLOR_API_PORT`.
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(name) = name.strip_prefix("PARLOR_") else { return false };
    // The name of the service may be longer: PARLOR_API_SERVICE_HOST, PARLOR_API_PORT_80_TCP.
    let parts: Vec<&str> = name.split('_').collect();
    (0..parts.len()).any(|start| match parts[start..] {
        ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
        ["PORT"] => value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://"),
        ["PORT", port, "TCP" | "UDP" | "SCTP", ..] => port.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    })
}

/// Returns true if errors must not show the value: the address of a server may contain a password.
fn is_confidential(name: &str) -> bool {
    name.ends_with("_URL") || name.contains("_SECRET")
}

#[cfg(test)]
mod tests {
    use super::is_service_link;

    #[test]
    fn service_link_of_kubernetes_is_recognised_by_name_and_value() {
        for (name, value) in [
            ("PARLOR_SERVICE_HOST", "10.0.0.1"),
            ("PARLOR_SERVICE_PORT", "80"),
            ("PARLOR_SERVICE_PORT_HTTP_METRICS", "9464"),
            ("PARLOR_PORT", "tcp://10.0.0.1:80"),
            ("PARLOR_PORT", "udp://[fd00::1]:80"),
            ("PARLOR_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("PARLOR_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("PARLOR_PORT_80_TCP_PORT", "80"),
            ("PARLOR_PORT_80_TCP_PROTO", "tcp"),
            ("PARLOR_PORT_3478_UDP_ADDR", "10.0.0.1"),
            ("PARLOR_CHAT_API_SERVICE_HOST", "10.0.0.1"),
            ("PARLOR_CHAT_API_SERVICE_PORT_HTTP", "80"),
            ("PARLOR_CHAT_API_PORT", "tcp://10.0.0.1:80"),
            ("PARLOR_CHAT_API_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("PARLOR_POSTGRESQL_PORT_5432_TCP_PROTO", "tcp"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in [
            ("PARLOR_PORT", "8080"),
            ("PARLOR_PORT", ""),
            ("PARLOR_PORT_80", "tcp://10.0.0.1:80"),
            ("PARLOR_PORT_X_TCP", "tcp://10.0.0.1:80"),
            ("PARLOR_API_PORT", "80"),
            ("PARLOR_SERVICE", "x"),
            ("PARLOR_SERVICE_NAME", "x"),
            ("PARLOR_ADDR", "tcp://10.0.0.1:80"),
            ("PARLOR_SUPPORT", "tcp://10.0.0.1:80"),
            ("OTHER_PORT", "tcp://10.0.0.1:80"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
