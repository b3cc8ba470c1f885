//! Who is calling the token endpoint, PAR or revocation.
//!
//! 1. Find the client that the request names: by `client_id`, by the assertion's `iss`, or by the refresh token that it
//!    presents (one SDK sends its secret without its name).
//! 2. One row: the client with the secret or the keys that the request speaks of. What an exchange will ask comes along
//!    in the same round trip.
//! 3. Compare. An unknown client, a wrong secret and a disabled client get one answer, after the same work.
//!
//! A refusal is audited; a success shows in the row of what the client then does.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use oauth::client_authentication::PresentedClient;
use oauth::token_request::{SubjectTokenType, TokenRequest};
use seal::{Algorithm, Claims, TokenKind, UnverifiedJws, VerifyingKey};
use store::{Batch, WriteError};

use crate::client::{self, Client, TokenEndpointAuthMethod};
use crate::flow::exchange::ReadAhead;
use crate::token_set::after;
use crate::{Caller, Error, Event, EventKind, Reason, Vault, client_key, refresh_token, replay};

/// The longest life of an assertion, in seconds: libraries make them for up to five minutes.
const LONGEST_LIFE: i64 = 300;
/// How far a client's clock may be ahead, in seconds (FAPI 2.0: 10 accepted, more than 60 refused).
const SKEW: i64 = 60;
/// The header's `typ` where a client says one (draft updates of RFC 7523); plain `JWT` and none are as old as the RFC.
const TYPS: [&str; 2] = ["JWT", "client-authentication+jwt"];
/// What a client may sign with.
pub(crate) const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::EdDsa,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Rs256,
    Algorithm::Rs384,
];

/// A client that has shown who it is. A public one has only said so.
#[derive(Debug)]
pub struct AuthenticatedClient {
    pub(crate) client: Arc<Client>,
    /// What was read of the database together with the client, in one round trip.
    pub(crate) read_ahead: Option<Box<ReadAhead>>,
}

impl AuthenticatedClient {
    /// Who it is.
    pub fn client_id(&self) -> &str {
        &self.client.client_id
    }
}

impl Vault {
    /// Believes or refuses what a request presents as its client.
    ///
    /// # Errors
    /// [`Reason::ClientAuthenticationFailed`], the same for everything that can be wrong.
    pub async fn authenticate_client(
        &self,
        presented: PresentedClient,
        request: Option<&TokenRequest>,
        caller: &Caller,
    ) -> Result<AuthenticatedClient, Error> {
        let mut event = Event::succeeded(EventKind::ClientAuthentication);
        let identified = self.identify_client(presented, request, &mut event).await;
        self.settle(event, identified, caller).await
    }

    async fn identify_client(
        &self,
        presented: PresentedClient,
        request: Option<&TokenRequest>,
        event: &mut Event,
    ) -> Result<AuthenticatedClient, Error> {
        match presented {
            PresentedClient::None { client_id } => {
                event.client_id = Some(client_id.clone());
                let client = self
                    .find_client(&client_id)
                    .await?
                    .filter(|client| client.disabled_at.is_none() && !client.is_confidential())
                    .ok_or(Reason::ClientAuthenticationFailed)?;
                Ok(AuthenticatedClient {
                    client: Arc::new(client),
                    read_ahead: None,
                })
            }
            PresentedClient::Secret {
                client_id, secret, ..
            } => {
                event.client_id = Some(client_id.clone());
                self.client_by_secret(&client_id, secret.reveal(), request)
                    .await
            }
            PresentedClient::SecretWithoutId { secret } => {
                let client_id = self.client_of_request(request).await?;
                let client_id = client_id.ok_or(Reason::ClientAuthenticationFailed)?;
                event.client_id = Some(client_id.clone());
                self.client_by_secret(&client_id, secret.reveal(), request)
                    .await
            }
            PresentedClient::Assertion {
                assertion,
                client_id,
            } => {
                self.client_by_assertion(assertion.reveal(), client_id, request, event)
                    .await
            }
        }
    }

    async fn client_by_secret(
        &self,
        client_id: &str,
        secret: &str,
        request: Option<&TokenRequest>,
    ) -> Result<AuthenticatedClient, Error> {
        let presented = seal::present(TokenKind::ClientSecret, secret);
        let secret_id = presented
            .as_ref()
            .map_or("", |presented| presented.id.as_str());
        let found = self
            .client_with_secret(client_id, secret_id, request)
            .await?;
        let stored = found
            .secret
            .as_ref()
            .and_then(|secret| secret.hash(self.now()));
        // The comparison runs against a hash that nothing matches when there is none (threats 5.13, bad input).
        let hash = stored.unwrap_or(&[0; 32]);
        let matches = presented.is_some_and(|presented| presented.matches(&self.ring, hash))
            && stored.is_some();
        let read_ahead = found.read_ahead;
        found
            .client
            .filter(|client| {
                matches
                    && client.disabled_at.is_none()
                    && matches!(
                        client.token_endpoint_auth_method,
                        TokenEndpointAuthMethod::ClientSecretBasic
                            | TokenEndpointAuthMethod::ClientSecretPost
                    )
            })
            .map(|client| AuthenticatedClient { client, read_ahead })
            .ok_or_else(|| Reason::ClientAuthenticationFailed.into())
    }

    /// The client of the refresh token that a request presents (contract 3.9). Only a name: the secret decides.
    async fn client_of_request(
        &self,
        request: Option<&TokenRequest>,
    ) -> Result<Option<String>, Error> {
        let text = match request {
            Some(TokenRequest::RefreshToken { refresh_token, .. }) => refresh_token.reveal(),
            Some(TokenRequest::VaultExchange(exchange))
                if exchange.subject_token_type == SubjectTokenType::RefreshToken =>
            {
                exchange.subject_token.reveal()
            }
            _ => return Ok(None),
        };
        let Some(presented) = seal::present(TokenKind::RefreshToken, text) else {
            return Ok(None);
        };
        let row = self
            .first(refresh_token::lookup_statement(&presented.id))
            .await?;
        let stored = row.as_ref().map(refresh_token::from_row).transpose()?;
        Ok(stored.map(|stored| stored.authorization.client_id))
    }

    async fn client_by_assertion(
        &self,
        text: &str,
        named: Option<String>,
        request: Option<&TokenRequest>,
        event: &mut Event,
    ) -> Result<AuthenticatedClient, Error> {
        let refused = || Error::from(Reason::ClientAuthenticationFailed);
        let jws = UnverifiedJws::parse(text).map_err(|_| refused())?;
        let client_id = jws
            .unverified_claims()
            .get("sub")
            .and_then(serde_json::Value::as_str)
            .filter(|sub| !sub.is_empty() && sub.len() <= 255)
            .ok_or_else(refused)?
            .to_owned();
        event.client_id = Some(client_id.clone());
        if named.is_some_and(|named| named != client_id) {
            return Err(refused());
        }
        let now = self.now();
        let asked = vec![
            client::by_id_statement(&client_id),
            client_key::assertion_keys_statement(&client_id, now),
        ];
        let (rows, read_ahead) = self.read_ahead(&client_id, asked, request).await?;
        let mut rows = rows.into_iter();
        let client = rows
            .next()
            .and_then(|rows| rows.into_iter().next())
            .map(|row| self.clients.of(row, client::from_row))
            .transpose()?
            .filter(|client| {
                client.disabled_at.is_none()
                    && client.token_endpoint_auth_method == TokenEndpointAuthMethod::PrivateKeyJwt
            })
            .ok_or_else(refused)?;
        let mut keys = Vec::new();
        for row in rows.next().unwrap_or_default() {
            // The algorithm is the registration's to say, not the header's (threats JW-05).
            if row.text(1)? == jws.algorithm().as_str() {
                let jwk = serde_json::from_str(row.text(2)?)?;
                let key = VerifyingKey::from_jwk(&jwk).map_err(|_| refused())?;
                keys.push(key.with_kid(row.text(0)?));
            }
        }
        let keys: Vec<&VerifyingKey> = keys.iter().collect();
        let claims = jws.verify(&keys, &ALGORITHMS).map_err(|_| refused())?;
        let audiences = [
            self.settings.issuer.as_str().to_owned(),
            self.settings.issuer.url("oauth/token"),
        ];
        let (jti, expires_at) =
            read_assertion(&claims, &client_id, &audiences, now).ok_or_else(refused)?;
        let once = replay::statement(&format!("client:{client_id}"), &jti, after(expires_at, 1));
        match self.db.write(Batch::new().with(once)).await {
            Ok(_) => Ok(AuthenticatedClient { client, read_ahead }),
            Err(WriteError::UniqueViolation { .. }) => Err(refused()),
            Err(error) => Err(error.into()),
        }
    }
}

/// RFC 7523 §3, narrowed: one audience as a single text (CVE-2025-27370), a short life, an id. Returns the id and the
/// end.
fn read_assertion(
    claims: &Claims,
    client_id: &str,
    audiences: &[String],
    now: Timestamp,
) -> Option<(String, Timestamp)> {
    let typ_fits = claims.typ().is_none() || TYPS.iter().any(|typ| claims.is_typ(typ));
    let text = |name: &str| claims.str(name).ok().flatten();
    let is_own = text("iss")? == client_id && text("sub")? == client_id;
    let audience = claims.audience().ok()?;
    let is_for_us = claims.audience_is_single_string()
        && audience
            .iter()
            .all(|named| audiences.iter().any(|ours| ours == named));
    let expires_at = claims.timestamp("exp").ok()??;
    let life = expires_at.duration_since(now);
    let ahead = SignedDuration::from_secs(SKEW);
    let in_time =
        life > SignedDuration::ZERO && life <= SignedDuration::from_secs(LONGEST_LIFE + SKEW);
    let not_ahead = ["iat", "nbf"].iter().all(|name| {
        matches!(claims.timestamp(name), Ok(at) if at.is_none_or(|at| at.duration_since(now) <= ahead))
    });
    let jti = text("jti").filter(|jti| (1..=255).contains(&jti.len()))?;
    (typ_fits && is_own && is_for_us && in_time && not_ahead).then(|| (jti.to_owned(), expires_at))
}

#[cfg(test)]
mod tests {
    use seal::SigningKey;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn read(typ: &str, claims: &Value) -> bool {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let text = key.sign(None, typ, claims).unwrap();
        let verifying = key.verifying_key(None).unwrap();
        let claims = UnverifiedJws::parse(&text)
            .unwrap()
            .verify(&[&verifying], &ALGORITHMS);
        let audiences = [
            "https://v.example/".to_owned(),
            "https://v.example/oauth/token".to_owned(),
        ];
        let now = Timestamp::from_second(NOW).unwrap();
        claims.is_ok_and(|claims| read_assertion(&claims, "c", &audiences, now).is_some())
    }

    fn claims() -> Value {
        json!({"iss": "c", "sub": "c", "aud": "https://v.example/", "exp": NOW + 60, "iat": NOW, "jti": "j"})
    }

    #[test]
    fn tk_26_28_29_31_every_claim_of_an_assertion_has_its_rule() {
        assert!(read("JWT", &claims()));
        assert!(read("client-authentication+jwt", &claims()));
        for (name, value, expected) in [
            ("aud", json!("https://v.example/oauth/token"), true),
            ("aud", json!(["https://v.example/"]), false),
            (
                "aud",
                json!(["https://v.example/", "https://v.example/oauth/token"]),
                false,
            ),
            ("aud", json!("https://v.example"), false),
            ("aud", json!("https://V.example/"), false),
            ("aud", json!("https://v.example/oauth/par"), false),
            ("iss", json!("other"), false),
            ("sub", json!("other"), false),
            ("exp", json!(NOW - 300), false),
            ("exp", json!(NOW), false),
            ("exp", json!(NOW + 180), true),
            ("exp", json!(NOW + 7200), false),
            ("exp", Value::Null, false),
            ("exp", json!("1999999999"), false),
            ("iat", json!(NOW + 8), true),
            ("iat", json!(NOW + 61), false),
            ("nbf", json!(NOW + 61), false),
            ("nbf", json!(true), false),
            ("jti", Value::Null, false),
            ("jti", json!(""), false),
        ] {
            let mut changed = claims();
            if value.is_null() {
                changed.as_object_mut().unwrap().remove(name);
            } else {
                changed[name] = value.clone();
            }
            assert_eq!(read("JWT", &changed), expected, "{name} {value}");
        }
    }

    #[test]
    fn jw_22_wk_26_other_kinds_of_token_are_no_assertion() {
        for typ in ["at+jwt", "token-vault-req+jwt", "logout+jwt", "dpop+jwt"] {
            assert!(!read(typ, &claims()), "{typ}");
        }
    }
}
