//! Access tokens: JWTs of this issuer (RFC 9068), good as long as what they hang on.
//!
//! Verifying has two halves. The signature, the issuer and the times need no database; whether key, authorization,
//! session, user and client still stand does, every time (threats R-42).

use jiff::Timestamp;
use oauth::scope::Scope;
use seal::{Algorithm, Claims, UnverifiedJws};
use serde_json::{Map, Value, json};
use store::{Row, Statement, params};

use crate::authorization::Authorization;
use crate::signing_key::ALGORITHMS;
use crate::{Caller, Error, Event, EventKind, Reason, Refusal, Vault};

/// The header's `typ` (RFC 9068 §2.1).
const TYP: &str = "at+jwt";

/// A live access token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The user; None where the client acts for itself.
    pub user_id: Option<String>,
    /// The client it was issued to.
    pub client_id: String,
    /// The APIs that it is for.
    pub audience: Vec<String>,
    /// What was granted.
    pub scope: Scope,
    /// The authorization that it hangs on.
    pub authorization_id: Option<String>,
    /// Its own id.
    pub jti: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An access token whose signature, issuer and times are right. Whether it lives is the database's to say.
pub(crate) struct VerifiedAccessToken {
    token: AccessToken,
    kid: String,
}

/// Not an access token of ours, or not any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAccepted;

/// Whom a new access token is for.
pub(crate) enum Subject<'a> {
    /// A client for itself.
    Client(&'a str),
    /// The user of an authorization.
    User(&'a Authorization),
}

/// What a new access token says.
pub(crate) struct NewAccessToken<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) audience: Option<&'a str>,
    pub(crate) scope: &'a Scope,
    pub(crate) algorithm: Algorithm,
    /// Seconds.
    pub(crate) lifetime: u64,
}

impl VerifiedAccessToken {
    pub(crate) fn has_audience(&self, audience: &str) -> bool {
        self.token.audience.iter().any(|known| known == audience)
    }

    /// The second half, with the row of [`liveness_statement`].
    pub(crate) fn check_live(&self, row: &Row) -> Result<Result<AccessToken, NotAccepted>, Error> {
        let issuer_stands = issuer_stands(row)?;
        let is_revoked = row.bool(1)?;
        let is_live = match (&self.token.authorization_id, row.opt_text(FIRST)?) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(client_id)) => {
                row.bool(FIRST + 2)?
                    && row.opt_text(FIRST + 1)? == self.token.user_id.as_deref()
                    && client_id == self.token.client_id
            }
        };
        if issuer_stands && is_live && !is_revoked {
            Ok(Ok(self.token.clone()))
        } else {
            Ok(Err(NotAccepted))
        }
    }
}

impl Vault {
    /// Signs an access token and returns it with its lifetime.
    pub(crate) async fn issue_access_token(
        &self,
        new: NewAccessToken<'_>,
    ) -> Result<String, Error> {
        let now = self.now();
        let issued_at = now.as_second();
        let lifetime = i64::try_from(new.lifetime).unwrap_or(i64::MAX / 2);
        let userinfo = self.settings.issuer.userinfo_audience();
        let audience = match new.audience {
            None => json!(userinfo),
            Some(api) if new.scope.contains("openid") => json!([api, userinfo]),
            Some(api) => json!(api),
        };
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", json!(self.settings.issuer.as_str()));
        put("aud", audience);
        put("iat", json!(issued_at));
        put("exp", json!(issued_at.saturating_add(lifetime)));
        put("jti", json!(seal::random_id(self.entropy.as_ref(), "")));
        put("scope", json!(new.scope.to_string()));
        match new.subject {
            Subject::Client(client_id) => {
                put("sub", json!(format!("{client_id}@clients")));
                put("client_id", json!(client_id));
                put("azp", json!(client_id));
                put("gty", json!("client-credentials"));
            }
            Subject::User(authorization) => {
                put("sub", json!(authorization.user_id));
                put("client_id", json!(authorization.client_id));
                put("azp", json!(authorization.client_id));
                put("auth_time", json!(authorization.auth_time.as_second()));
                put("authorization_id", json!(authorization.id));
                if let Some(session_id) = &authorization.session_id {
                    put("sid", json!(session_id));
                }
            }
        }
        self.sign(new.algorithm, TYP, &Value::Object(claims)).await
    }

    /// The first half of verifying. No database is asked, except once for a key that this process has not seen yet.
    pub(crate) async fn verify_access_token(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Result<VerifiedAccessToken, NotAccepted>, Error> {
        let Ok(jws) = UnverifiedJws::parse(text) else {
            return Ok(Err(NotAccepted));
        };
        // Before the signature: an ID token is signed by the same keys (threats EX-07).
        let Some(kid) = jws
            .unverified_kid()
            .filter(|_| jws.is_typ(TYP))
            .map(str::to_owned)
        else {
            return Ok(Err(NotAccepted));
        };
        let Some(key) = self.signing_key(&kid).await? else {
            return Ok(Err(NotAccepted));
        };
        let Ok(claims) = jws.verify(&[&key.verifying], &ALGORITHMS) else {
            return Ok(Err(NotAccepted));
        };
        Ok(read(&claims, self.settings.issuer.as_str(), now)
            .map(|token| VerifiedAccessToken { token, kid })
            .ok_or(NotAccepted))
    }

    /// The token of a request to one of our own APIs, where it is live, for that API and has the scope.
    ///
    /// # Errors
    /// [`Reason::AccessTokenInvalid`], [`Reason::InsufficientScope`].
    pub async fn authenticate_bearer(
        &self,
        text: &str,
        audience: &str,
        scope: Option<&str>,
        caller: &Caller,
    ) -> Result<AccessToken, Error> {
        let mut event = Event::succeeded(EventKind::BearerRefused).detail("audience", audience);
        let ended = self.check_bearer(text, audience, scope, &mut event).await;
        self.settle(event, ended, caller).await
    }

    /// [`Vault::authenticate_bearer`], recorded by whoever asks.
    pub(crate) async fn check_bearer(
        &self,
        text: &str,
        audience: &str,
        scope: Option<&str>,
        event: &mut Event,
    ) -> Result<AccessToken, Error> {
        let verified = self
            .verify_access_token(text, self.now())
            .await?
            .ok()
            .filter(|token| token.has_audience(audience))
            .ok_or(Reason::AccessTokenInvalid)?;
        event.client_id = Some(verified.token.client_id.clone());
        event.user_id = verified.token.user_id.clone();
        let row = self
            .first(liveness_statement(&verified))
            .await?
            .ok_or(Reason::AccessTokenInvalid)?;
        let token = verified
            .check_live(&row)?
            .map_err(|NotAccepted| Reason::AccessTokenInvalid)?;
        match scope {
            Some(scope) if !token.scope.contains(scope) => {
                Err(Refusal::new(Reason::InsufficientScope)
                    .describe(format!("The access token lacks the scope {scope}."))
                    .into())
            }
            _ => Ok(token),
        }
    }
}

/// What a verified token has to say: every claim there and of its type.
fn read(claims: &Claims, issuer: &str, now: Timestamp) -> Option<AccessToken> {
    let text = |name: &str| claims.str(name).ok().flatten();
    let expires_at = claims.timestamp("exp").ok()??;
    if text("iss")? != issuer || expires_at <= now {
        return None;
    }
    let client_id = text("client_id")?.to_owned();
    let authorization_id = text("authorization_id").map(str::to_owned);
    let sub = text("sub")?.to_owned();
    Some(AccessToken {
        user_id: authorization_id.is_some().then_some(sub),
        client_id,
        audience: claims
            .audience()
            .ok()?
            .into_iter()
            .map(str::to_owned)
            .collect(),
        scope: Scope::from_stored(text("scope")?),
        authorization_id,
        jti: text("jti")?.to_owned(),
        expires_at,
    })
}

/// The first column of the authorization in the row of [`liveness_statement`].
const FIRST: usize = 3;

// Whether everything still stands that a token hangs on, in the order that `check_live` reads it, and where it stands:
// of the key `$1`, the authorization `$2`, the client `$3` and the token's own id `$4`.
macro_rules! liveness_columns {
    () => {
        concat!(
            "k.state,
             case when exists (select 1 from revoked_access_tokens t where t.jti = $4) then 1 else 0 end,
             case when exists (select 1 from clients x where x.client_id = $3 and x.disabled_at is null)
                  then 1 else 0 end, z.client_id, z.user_id, ",
            $crate::authorization::is_live!()
        )
    };
}
pub(crate) use liveness_columns;

/// How many columns `liveness_columns` names.
pub(crate) const LIVENESS_COLUMNS: usize = FIRST + 3;

// The same where it is known that the key stands and that the client is not disabled: of the authorization `$1` and the
// token's own id `$2`.
macro_rules! known_liveness_columns {
    () => {
        concat!(
            "'current',
             case when exists (select 1 from revoked_access_tokens t where t.jti = $2) then 1 else 0 end,
             1, z.client_id, z.user_id, ",
            $crate::authorization::is_live!(known client)
        )
    };
}
pub(crate) use known_liveness_columns;

macro_rules! known_liveness_tables {
    () => {
        "left join authorizations z on z.id = $1 "
    };
}
pub(crate) use known_liveness_tables;

macro_rules! liveness_tables {
    () => {
        "signing_keys k left join authorizations z on z.id = $2 "
    };
}
pub(crate) use liveness_tables;

/// Whether the key that signed it and the client that it was issued to still stand.
pub(crate) fn issuer_stands(row: &Row) -> Result<bool, Error> {
    Ok(matches!(row.text(0)?, "current" | "previous") && row.bool(2)?)
}

impl VerifiedAccessToken {
    /// What `known_liveness_columns` and `known_liveness_tables` are about.
    pub(crate) fn known_liveness_params(&self) -> store::Params {
        params![
            self.token.authorization_id.as_deref(),
            self.token.jti.as_str(),
        ]
    }

    /// The key that signed it and the client that it was issued to.
    pub(crate) fn issuer(&self) -> (&str, &str) {
        (&self.kid, &self.token.client_id)
    }

    /// What `liveness_columns` and `liveness_tables` are about.
    pub(crate) fn liveness_params(&self) -> store::Params {
        params![
            self.kid.as_str(),
            self.token.authorization_id.as_deref(),
            self.token.client_id.as_str(),
            self.token.jti.as_str(),
        ]
    }
}

/// One row that says whether everything still stands that a token hangs on; no row: its key is gone.
pub(crate) fn liveness_statement(verified: &VerifiedAccessToken) -> Statement {
    Statement::new(
        concat!(
            "select ",
            liveness_columns!(),
            " from ",
            liveness_tables!(),
            "where k.kid = $1"
        ),
        verified.liveness_params(),
    )
}

/// Ends one access token.
pub(crate) fn revoke_statement(token: &AccessToken) -> Statement {
    Statement::new(
        "insert into revoked_access_tokens (jti, expires_at) values ($1, $2) on conflict do nothing",
        params![token.jti.as_str(), token.expires_at],
    )
}

/// Forgets revoked tokens that have ended anyway.
pub(crate) fn sweep_statement(now: Timestamp) -> Statement {
    Statement::new(
        "delete from revoked_access_tokens where expires_at < $1",
        params![now],
    )
}
