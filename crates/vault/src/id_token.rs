//! ID tokens (OpenID Connect Core §2) and what a client may show us of one later.

use seal::UnverifiedJws;
use serde_json::{Map, Value, json};

use crate::authorization::Authorization;
use crate::client::Client;
use crate::signing_key::ALGORITHMS;
use crate::user::User;
use crate::{Error, Vault};

/// Seconds that an ID token is good for where the client says nothing else; clients read it at once.
pub(crate) const LIFETIME: u64 = 10 * 3600;

/// What an ID token says that comes back as a hint. Its end does not matter.
pub(crate) struct IdTokenHint {
    pub(crate) user_id: String,
    pub(crate) audience: Vec<String>,
    pub(crate) session_id: Option<String>,
}

impl Vault {
    /// Signs an ID token for the user of an authorization.
    pub(crate) async fn issue_id_token(
        &self,
        client: &Client,
        user: &User,
        authorization: &Authorization,
        nonce: Option<&str>,
    ) -> Result<String, Error> {
        // Rounded down: some libraries refuse an `iat` that is ahead of them by a fraction.
        let now = self.now().as_second();
        let mut claims = user_claims(user, authorization);
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", json!(self.settings.issuer.as_str()));
        put("aud", json!(client.client_id));
        put("iat", json!(now));
        let lifetime = client.profile.id_token_lifetime.unwrap_or(LIFETIME);
        put("exp", json!(now.saturating_add_unsigned(lifetime)));
        put("auth_time", json!(authorization.auth_time.as_second()));
        if let Some(session_id) = &authorization.session_id {
            put("sid", json!(session_id));
        }
        if let Some(nonce) = nonce {
            put("nonce", json!(nonce));
        }
        self.sign(client.id_token_alg, "JWT", &Value::Object(claims))
            .await
    }

    /// Reads an ID token of ours, ended or not; None when it is not one.
    pub(crate) async fn read_id_token_hint(
        &self,
        text: &str,
    ) -> Result<Option<IdTokenHint>, Error> {
        let Ok(jws) = UnverifiedJws::parse(text) else {
            return Ok(None);
        };
        let Some(kid) = jws
            .unverified_kid()
            .filter(|_| jws.is_typ("JWT"))
            .map(str::to_owned)
        else {
            return Ok(None);
        };
        let Some(key) = self.signing_key(&kid).await? else {
            return Ok(None);
        };
        let Ok(claims) = jws.verify(&[&key.verifying], &ALGORITHMS) else {
            return Ok(None);
        };
        let text = |name: &str| claims.str(name).ok().flatten().map(str::to_owned);
        if text("iss").as_deref() != Some(self.settings.issuer.as_str()) {
            return Ok(None);
        }
        let audience = claims
            .audience()
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned);
        Ok(text("sub").map(|user_id| IdTokenHint {
            user_id,
            audience: audience.collect(),
            session_id: text("sid"),
        }))
    }
}

/// What the granted scopes let a client know (OpenID Connect Core §5.4).
pub(crate) fn user_claims(user: &User, authorization: &Authorization) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(user.id));
    if authorization.scope.contains("profile") {
        claims.insert("preferred_username".to_owned(), json!(user.username));
        claims.insert("updated_at".to_owned(), json!(user.updated_at.as_second()));
        if let Some(name) = &user.name {
            claims.insert("name".to_owned(), json!(name));
        }
    }
    if authorization.scope.contains("email")
        && let Some(email) = &user.email
    {
        claims.insert("email".to_owned(), json!(email));
        // Nobody sends a mail to find out yet.
        claims.insert("email_verified".to_owned(), json!(false));
    }
    claims
}
