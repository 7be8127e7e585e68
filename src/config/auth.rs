//! The settings of authentication.

use crate::auth::keys::{Algorithm, KeySource, MIN_SECRET_BYTES};
use crate::auth::settings::AuthSettings;
use crate::config::reader::Reader;
use crate::domain::users::Permission;

const DEFAULT_PERMISSIONS: &str = "chat.view,chat.create_group,chat.manage_group,chat.delete,chat.initiate_call";

pub(super) fn read(reader: &mut Reader) -> AuthSettings {
    reader.section("Authentication");
    let key_source = read_key_source(reader);
    let uses_secret = matches!(key_source, None | Some(KeySource::Secret(_)));
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
    AuthSettings {
        key_source,
        algorithm,
        issuer: reader.text("PARLOR_JWT_ISSUER", "The iss that tokens must have", "text", "not checked"),
        audience: reader.text("PARLOR_JWT_AUDIENCE", "The aud that tokens must have", "text", "not checked"),
        leeway: reader.seconds(
            "PARLOR_JWT_LEEWAY_SECONDS",
            "Seconds by which clocks may differ for exp and nbf",
            30,
            0..=300,
        ),
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
    let key_set = reader.text(
        "PARLOR_JWKS",
        "JSON Web Key Set with the public keys of tokens",
        "a file or an http(s) address; not with PARLOR_JWT_SECRET",
        "none: a development server",
    );
    match (secret, key_set) {
        (Some(secret), key_set) => {
            if key_set.is_some() {
                reader.reject("PARLOR_JWKS", "must not be set together with PARLOR_JWT_SECRET");
            }
            if secret.len() < MIN_SECRET_BYTES {
                let rule = format!("must have at least {MIN_SECRET_BYTES} bytes (RFC 7518, section 3.2)");
                reader.reject("PARLOR_JWT_SECRET", rule);
            }
            Some(KeySource::Secret(secret.into()))
        }
        (None, Some(url)) if url.starts_with("https://") || url.starts_with("http://") => Some(KeySource::Url(url)),
        (None, Some(file)) => Some(KeySource::File(file.into())),
        (None, None) => None,
    }
}
