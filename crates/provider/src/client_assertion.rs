//! `private_key_jwt`: the client proves itself with a JWT that it signs (RFC 7523 §2.2 and §3).
//!
//! The audience is the provider and nothing else, as one text, and the key is the connection's own: an assertion that one
//! provider gets is worth nothing at another (threats R-33).

use jiff::Timestamp;
use seal::{Algorithm, KeyError, SigningKey};
use serde_json::json;

use crate::failure::{Failure, FailureKind};
use crate::profile::Profile;
use crate::settings::ConnectionSettings;
use crate::template::{self, Values};

/// Seconds that an assertion lives.
const LIFE: i64 = 60;

/// The connection's private key.
pub(crate) fn signing_key(
    settings: &ConnectionSettings,
    profile: &Profile,
) -> Result<SigningKey, KeyError> {
    let algorithm = profile
        .client_assertion
        .as_ref()
        .and_then(|assertion| assertion.algorithm.as_deref())
        .map_or(Some(Algorithm::Rs256), Algorithm::from_str)
        .ok_or(KeyError::Malformed)?;
    let pem = settings.client_secret.as_ref().ok_or(KeyError::Malformed)?;
    SigningKey::from_pem(algorithm, pem.reveal())
}

/// A signed assertion. `audience` is the provider's issuer, or its token endpoint where it has none.
pub(crate) fn sign(
    settings: &ConnectionSettings,
    profile: &Profile,
    audience: &str,
    values: &Values<'_>,
    jti: &str,
    now: Timestamp,
) -> Result<String, Failure> {
    let misconfigured = |detail| Failure::new(FailureKind::ClientMisconfigured, detail);
    let key = signing_key(settings, profile)
        .map_err(|_| misconfigured("the connection has no private key that can sign"))?;
    let own = profile.client_assertion.clone().unwrap_or_default();
    let filled = |text: &Option<String>, otherwise: &str| match text {
        None => Ok(otherwise.to_owned()),
        Some(text) => template::fill(text, values)
            .ok_or_else(|| misconfigured("a variable of the client assertion is not known")),
    };
    let claims = json!({
        "iss": filled(&own.issuer, &settings.client_id)?,
        "sub": settings.client_id,
        "aud": filled(&own.audience, audience)?,
        "iat": now.as_second(),
        "nbf": now.as_second(),
        "exp": now.as_second() + LIFE,
        "jti": jti,
    });
    let kid = settings.options.signing_key_id.as_deref();
    let thumbprint = settings.options.certificate_thumbprint.as_deref();
    key.sign_with(
        kid,
        "JWT",
        thumbprint.map(|value| ("x5t#S256", value)),
        &claims,
    )
    .map_err(|_| misconfigured("the client assertion could not be signed"))
}
