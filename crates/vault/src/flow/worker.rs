//! The signed request of a background worker: a JWT that names a user who is not there (contract 2.1).
//!
//! 1. Parse: compact JWS, `typ` exactly `token-vault-req+jwt`.
//! 2. The registered keys and the user's state are read.
//! 3. Verify signature, `iss`, `aud`, `sub`, times and `audit_context` (threats R-44).
//! 4. The client's own lists: address, connection, scopes.
//! 5. The `jti` is used up, over all nodes and restarts, in the transaction that records what is handed out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use oauth::scope::Scope;
use seal::{Algorithm, UnverifiedJws, VerifyingKey};
use store::{Row, Statement};

use crate::client::Client;
use crate::token_set::after;
use crate::{Caller, Error, Reason, Refusal, replay};

/// The header `typ`.
const TYP: &str = "token-vault-req+jwt";
/// The oldest `iat`, in seconds.
const LONGEST_AGE: i64 = 60;
/// How far ahead the worker's clock may be, in seconds.
const SKEW: i64 = 10;
/// What a worker may sign with (contract 2.1), and the two that are better.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Ps256,
    Algorithm::Es256,
    Algorithm::EdDsa,
];

/// A worker's request whose signature nobody has checked yet.
pub(crate) struct WorkerRequest {
    jws: UnverifiedJws<'static>,
    unverified_sub: String,
}

/// A worker's request that holds.
pub(crate) struct VerifiedWorker {
    pub(crate) user_id: String,
    pub(crate) audit_context: String,
    jti: String,
    issued_at: Timestamp,
}

/// A registered key.
pub(crate) struct WorkerKey {
    kid: String,
    alg: String,
    /// None where nothing can be verified with it.
    key: Option<VerifyingKey>,
    expires_at: Option<Timestamp>,
}

fn refused(why: &'static str) -> Error {
    Refusal::new(Reason::WorkerRequestInvalid)
        .describe(why)
        .into()
}

impl WorkerRequest {
    /// Step 1.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let jws = UnverifiedJws::parse(text)
            .map_err(|_| refused("The worker request is not a signed JWT in compact form."))?;
        if jws.typ() != Some(TYP) {
            return Err(refused(
                "The worker request needs the header typ token-vault-req+jwt.",
            ));
        }
        let unverified_sub = jws
            .unverified_claims()
            .get("sub")
            .and_then(serde_json::Value::as_str)
            .filter(|sub| !sub.is_empty() && sub.len() <= 255)
            .ok_or_else(|| refused("The worker request needs sub, the id of a user."))?
            .to_owned();
        Ok(Self {
            jws: jws.into_owned(),
            unverified_sub,
        })
    }

    /// Whom the request claims to be about. Good for a look-up, not for an answer.
    pub(crate) fn unverified_user_id(&self) -> &str {
        &self.unverified_sub
    }
}

// Whether there is a user of the id `$user` that is not blocked.
macro_rules! user_columns {
    ($user:literal) => {
        concat!(
            "case when exists (select 1 from users u where u.id = ",
            $user,
            " and u.blocked_at is null) then 1 else 0 end"
        )
    };
}
pub(crate) use user_columns;

/// How many columns `user_columns` names.
pub(crate) const USER_COLUMNS: usize = 1;

// A client's key for workers, in the order that `WorkerKey::from_row` reads it.
macro_rules! key_columns {
    () => {
        "k.kid, k.alg, k.public_jwk, k.expires_at"
    };
}
pub(crate) use key_columns;

/// How many columns `key_columns` names.
pub(crate) const WORKER_KEY_COLUMNS: usize = 4;

impl WorkerKey {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            kid: row.text(0)?.to_owned(),
            alg: row.text(1)?.to_owned(),
            key: VerifyingKey::from_jwk(&serde_json::from_str(row.text(2)?)?).ok(),
            expires_at: row.opt_timestamp(3)?,
        })
    }
}

impl VerifiedWorker {
    /// Step 5. Conflicts where the request was used before, on any node.
    pub(crate) fn once_statement(&self, client: &Client) -> Statement {
        let scope = format!("worker:{}", client.client_id);
        let keep = after(self.issued_at, (LONGEST_AGE + SKEW + 1).unsigned_abs());
        replay::statement(&scope, &self.jti, keep)
    }
}

/// What a request is told that comes a second time.
pub(crate) fn used_before() -> Error {
    refused("The worker request was used before (jti).")
}

/// Step 3.
pub(crate) fn verify(
    request: &WorkerRequest,
    client_id: &str,
    issuer: &str,
    keys: &[WorkerKey],
    user_live: bool,
    now: Timestamp,
) -> Result<VerifiedWorker, Error> {
    let jws = &request.jws;
    let mut usable = Vec::new();
    for key in keys {
        let named = jws.unverified_kid().is_none_or(|kid| kid == key.kid);
        let live = key.expires_at.is_none_or(|end| end > now);
        // The algorithm is the credential's, not the header's to choose (threats JW-05).
        let same_alg = key.alg == jws.algorithm().as_str();
        if named && live && same_alg {
            usable.push(
                key.key
                    .as_ref()
                    .ok_or_else(|| refused("A registered key of the client cannot be used."))?,
            );
        }
    }
    let claims = jws.clone().verify(&usable, ALGORITHMS).map_err(|_| {
        refused("The worker request is not signed by a key that is registered for this client.")
    })?;
    let malformed = || refused("A claim of the worker request has the wrong type.");

    if claims.str("iss").map_err(|_| malformed())? != Some(client_id) {
        return Err(refused(
            "iss of the worker request has to be the client id.",
        ));
    }
    let audience = claims.audience().map_err(|_| malformed())?;
    if audience != [issuer] {
        return Err(refused(
            "aud of the worker request has to be this issuer, with its slash.",
        ));
    }
    let issued_at = claims
        .timestamp("iat")
        .map_err(|_| malformed())?
        .ok_or_else(|| refused("The worker request needs iat."))?;
    let age = now.duration_since(issued_at);
    if age > SignedDuration::from_secs(LONGEST_AGE) {
        return Err(refused("The worker request is older than 60 seconds."));
    }
    if age < SignedDuration::from_secs(-SKEW) {
        return Err(refused("iat of the worker request lies in the future."));
    }
    if claims
        .timestamp("exp")
        .map_err(|_| malformed())?
        .is_some_and(|exp| exp <= now)
    {
        return Err(refused("The worker request has expired."));
    }
    let ahead = SignedDuration::from_secs(SKEW);
    if claims
        .timestamp("nbf")
        .map_err(|_| malformed())?
        .is_some_and(|nbf| nbf.duration_since(now) > ahead)
    {
        return Err(refused("The worker request is not valid yet (nbf)."));
    }
    let jti = claims
        .str("jti")
        .map_err(|_| malformed())?
        .filter(|jti| (1..=255).contains(&jti.len()))
        .ok_or_else(|| refused("The worker request needs jti, 1 to 255 characters."))?
        .to_owned();
    let audit_context = claims
        .str("audit_context")
        .map_err(|_| malformed())?
        .filter(|context| (1..=256).contains(&context.chars().count()))
        .ok_or_else(|| refused("The worker request needs audit_context, 1 to 256 characters."))?
        .to_owned();
    let user_id = claims
        .str("sub")
        .map_err(|_| malformed())?
        .unwrap_or_default()
        .to_owned();
    // Said last and like a missing account: who may sign learns nothing about who exists (threats WK-04).
    if !user_live {
        return Err(Reason::AccountNotConnected.into());
    }
    Ok(VerifiedWorker {
        user_id,
        audit_context,
        jti,
        issued_at,
    })
}

/// Step 4: the scopes that the client may see at this connection.
pub(crate) fn check_access(
    client: &Client,
    connection: &str,
    scope: Option<&Scope>,
    caller: &Caller,
) -> Result<BTreeSet<String>, Error> {
    let access = client
        .privileged_access
        .as_ref()
        .ok_or(Reason::PrivilegedAccessNotGranted)?;
    let address = caller
        .canonical_address()
        .ok_or(Reason::AddressNotAllowed)?;
    if !access
        .ip_allowlist
        .iter()
        .any(|entry| covers(entry, address))
    {
        return Err(Reason::AddressNotAllowed.into());
    }
    let granted: BTreeSet<String> = access
        .grants
        .iter()
        .filter(|grant| grant.connection == connection)
        .flat_map(|grant| grant.scopes.iter().cloned())
        .collect();
    // An empty list may be saved but not used (contract 4.1).
    if granted.is_empty() {
        return Err(Reason::PrivilegedAccessNotGranted.into());
    }
    if let Some(scope) = scope
        && !scope.iter().all(|asked| granted.contains(asked))
    {
        return Err(Reason::PrivilegedAccessNotGranted.into());
    }
    Ok(granted)
}

/// An address or a CIDR range; IPv4 written as mapped IPv6 is the same host (threats WK-16).
fn covers(entry: &str, address: IpAddr) -> bool {
    if let Ok(single) = entry.parse::<IpAddr>() {
        return single.to_canonical() == address;
    }
    entry
        .parse::<IpNet>()
        .is_ok_and(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use seal::SigningKey;
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://vault.example/";

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn claims() -> Value {
        json!({
            "iss": "worker", "aud": ISSUER, "sub": "usr_1", "jti": "j1",
            "iat": now().as_second(), "audit_context": "nightly report",
        })
    }

    fn run(
        typ: &str,
        claims: &Value,
        user_live: bool,
        change: impl Fn(&mut WorkerKey),
    ) -> Result<VerifiedWorker, String> {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let text = key.sign(Some("k1"), typ, claims).unwrap();
        let mut registered = WorkerKey {
            kid: "k1".to_owned(),
            alg: "ES256".to_owned(),
            key: VerifyingKey::from_jwk(&key.public_jwk("k1")).ok(),
            expires_at: None,
        };
        change(&mut registered);
        let said = |error: Error| match error {
            Error::Refused(refusal) => refusal.description().to_owned(),
            Error::Fault(fault) => fault.to_string(),
        };
        let request = WorkerRequest::parse(&text).map_err(said)?;
        let keys = [registered];
        verify(&request, "worker", ISSUER, &keys, user_live, now()).map_err(said)
    }

    #[test]
    fn a_request_that_holds() {
        let verified = run(TYP, &claims(), true, |_| {}).ok().unwrap();
        assert_eq!(verified.user_id, "usr_1");
        assert_eq!(verified.audit_context, "nightly report");
    }

    #[test]
    fn wk_01_only_its_own_typ() {
        for typ in ["JWT", "at+jwt", "token-vault-req", "Token-Vault-Req+JWT"] {
            assert!(run(typ, &claims(), true, |_| {}).is_err(), "{typ}");
        }
    }

    #[test]
    fn every_claim_has_its_rule() {
        let at = |seconds: i64| now().as_second() + seconds;
        for (case, name, value) in [
            ("wk_02_other_issuer", "iss", json!("other")),
            ("wk_02_no_issuer", "iss", Value::Null),
            ("wk_04_empty_user", "sub", json!("")),
            ("wk_04_list_of_users", "sub", json!(["usr_1"])),
            ("wk_05_61_seconds_old", "iat", json!(at(-61))),
            ("iat_ahead", "iat", json!(at(11))),
            ("iat_missing", "iat", Value::Null),
            ("jw_14_iat_as_text", "iat", json!("1800000000")),
            ("wk_07_expired", "exp", json!(at(0))),
            ("nbf_ahead", "nbf", json!(at(11))),
            ("other_audience", "aud", json!("https://vault.example")),
            (
                "two_audiences",
                "aud",
                json!([ISSUER, "https://other.example/"]),
            ),
            ("jti_missing", "jti", Value::Null),
            ("jti_empty", "jti", json!("")),
            ("context_missing", "audit_context", Value::Null),
            ("context_empty", "audit_context", json!("")),
            ("context_long", "audit_context", json!("x".repeat(257))),
        ] {
            let mut claims = claims();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value;
            }
            assert!(run(TYP, &claims, true, |_| {}).is_err(), "{case}");
        }
        let mut oldest = claims();
        oldest["iat"] = json!(at(-60));
        assert!(run(TYP, &oldest, true, |_| {}).is_ok(), "60 seconds old");
    }

    #[test]
    fn wk_22_an_expired_key_and_a_key_of_another_name_do_not_sign() {
        assert!(run(TYP, &claims(), true, |key| key.expires_at = Some(now())).is_err());
        assert!(run(TYP, &claims(), true, |key| key.kid = "k2".to_owned()).is_err());
        assert!(run(TYP, &claims(), true, |key| key.alg = "RS256".to_owned()).is_err());
    }

    #[test]
    fn a_registered_key_that_nothing_can_be_verified_with_is_named() {
        let said = run(TYP, &claims(), true, |key| key.key = None)
            .err()
            .unwrap();
        assert_eq!(said, "A registered key of the client cannot be used.");
    }

    #[test]
    fn wk_04_an_unknown_user_is_told_like_a_missing_account() {
        let said = run(TYP, &claims(), false, |_| {}).err().unwrap();
        assert_eq!(
            said,
            Refusal::new(Reason::AccountNotConnected).description()
        );
    }

    #[test]
    fn wk_13_wk_16_addresses() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap().to_canonical();
        for (entry, from, expected) in [
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.8", false),
            ("203.0.113.0/24", "203.0.113.8", true),
            ("203.0.113.7", "::ffff:203.0.113.7", true),
            ("2001:db8::/64", "2001:db8::1", true),
            ("2001:db8::/64", "2001:db8:0:1::1", false),
            ("not an address", "203.0.113.7", false),
            ("fe80::1%eth0", "fe80::1", false),
        ] {
            assert_eq!(covers(entry, address(from)), expected, "{entry} {from}");
        }
    }
}
