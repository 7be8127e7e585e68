//! The settings of authentication.

use std::time::Duration;

use crate::auth::keys::{Algorithm, KeySource, MIN_SECRET_BYTES, SecretUrl};
use crate::auth::settings::AuthSettings;
use crate::config::reader::Reader;
use crate::domain::users::Permission;

const DEFAULT_PERMISSIONS: &str = "chat.view,chat.create_group,chat.manage_group,chat.delete,chat.initiate_call";

/// A hundred years: whoever writes milliseconds for seconds is far beyond it.
const MAX_LIFETIME_DAYS: usize = 36_525;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(reader: &mut Reader) -> AuthSettings {
    reader.section("Authentication");
    let key_source = read_key_source(reader);
    let uses_secret = matches!(key_source, None | Some(KeySource::Secret { .. }));
    let algorithm = reader.value_with(
        "PARLOR_JWT_ALGORITHM",
        "Algorithm by which tokens are signed",
        "HS256 with a secret; RS256, ES256 or EdDSA with a key set",
        if uses_secret { "HS256" } else { "RS256" },
        |name| match name.parse() {
            Ok(algorithm) if (algorithm == Algorithm::HS256) == uses_secret => Ok(algorithm),
            _ if uses_secret => Err("must be HS256 with a secret"),
            _ => Err("must be RS256, ES256 or EdDSA with a key set"),
        },
    );
    reader.describe_default("HS256 with a secret, RS256 with a key set");
    let max_lifetime_days = reader.number(
        "PARLOR_JWT_MAX_DAYS",
        "Days from now after which no token may expire",
        "days",
        MAX_LIFETIME_DAYS,
        1..=MAX_LIFETIME_DAYS,
    );
    AuthSettings {
        key_source,
        algorithm,
        issuer: reader.text("PARLOR_JWT_ISSUER", "The iss that tokens must have", "text", "not checked"),
        audience: reader.text("PARLOR_JWT_AUDIENCE", "The aud that tokens must have", "text", "not checked"),
        leeway: reader.seconds(
            "PARLOR_JWT_LEEWAY_SECONDS",
            "Seconds by which clocks may differ for exp, nbf and iat",
            30,
            0..=300,
        ),
        max_lifetime: DAY * max_lifetime_days as u32,
        default_permissions: reader
            .list(
                "PARLOR_DEFAULT_PERMISSIONS",
                "Permissions of a token without the claim permissions",
                "a permission of those in OPERATIONS.md",
                DEFAULT_PERMISSIONS,
                |name| name.parse::<Permission>().map_err(|_| "is not a permission; see docs/OPERATIONS.md"),
            )
            .into_iter()
            .collect(),
        data_dir: reader.value(
            "PARLOR_DATA",
            "Directory in which a development server keeps its secret",
            "a path",
            "./data",
        ),
    }
}

fn read_key_source(reader: &mut Reader) -> Option<KeySource> {
    let secret = reader.text(
        "PARLOR_JWT_SECRET",
        "Secret of HS256 tokens",
        &format!("at least {MIN_SECRET_BYTES} bytes"),
        "none: a development server",
    );
    let previous = reader.text(
        "PARLOR_JWT_SECRET_PREVIOUS",
        "Secret before the last rotation, which verifies tokens and signs none",
        &format!("at least {MIN_SECRET_BYTES} bytes; only with PARLOR_JWT_SECRET"),
        "none",
    );
    let key_set = reader.text(
        "PARLOR_JWKS",
        "JSON Web Key Set with the public keys of tokens",
        "a file or an http(s) address; not with PARLOR_JWT_SECRET",
        "none: a development server",
    );
    for (name, secret) in [("PARLOR_JWT_SECRET", &secret), ("PARLOR_JWT_SECRET_PREVIOUS", &previous)] {
        if secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES) {
            reader.reject(name, format!("must have at least {MIN_SECRET_BYTES} bytes (RFC 7518, section 3.2)"));
        }
    }
    if previous.is_some() && (secret.is_none() || previous == secret) {
        reader.reject("PARLOR_JWT_SECRET_PREVIOUS", "must be set together with PARLOR_JWT_SECRET, and differ from it");
    }
    match (secret, key_set) {
        (Some(secret), key_set) => {
            if key_set.is_some() {
                reader.reject("PARLOR_JWKS", "must not be set together with PARLOR_JWT_SECRET");
            }
            Some(KeySource::Secret { current: secret.into(), previous: previous.map(Into::into) })
        }
        (None, Some(url)) if url.starts_with("https://") || url.starts_with("http://") => {
            let parsed = SecretUrl::parse(&url);
            parsed.map_err(|rule| reader.reject("PARLOR_JWKS", rule)).ok().map(KeySource::Url)
        }
        (None, Some(file)) => Some(KeySource::File(file.into())),
        (None, None) => None,
    }
}
