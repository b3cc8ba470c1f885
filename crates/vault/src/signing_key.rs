//! Signing keys: what this issuer signs its JWTs with, published in the JWKS before they sign and after.
//!
//! Each algorithm has one `current` key, and a `next` one that is published already, so that verifiers know it when it
//! begins to sign. Rotation makes `next` current and `current` previous; a previous key verifies until the last token
//! it signed has ended. A revoked key is nothing any more, at once and on every node: whoever verifies asks the
//! database for the key's state.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use seal::{Algorithm, Purpose, RecordContext, SigningKey, VerifyingKey};
use serde::Serialize;
use serde_json::{Value, json};
use store::{Batch, Row, Statement, WriteError, params};

use crate::{Administrator, Caller, Error, Event, EventKind, Fault, Reason, Vault};

/// What tokens of this issuer are signed with.
pub(crate) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// How long a previous key stays published: as long as the longest-lived token it can have signed.
const OVERLAP: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A key as this process holds it.
pub(crate) struct LoadedKey {
    pub(crate) kid: String,
    pub(crate) signing: SigningKey,
    pub(crate) verifying: VerifyingKey,
}

/// A key as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SigningKey")]
pub struct SigningKeyView {
    /// The header's `kid` of what it signs: its thumbprint (RFC 7638).
    pub kid: String,
    /// What it signs with.
    pub alg: String,
    /// The public key in PEM. Keys here have no certificates; tools look for the key in this place.
    pub cert: String,
    /// The same as `kid`.
    pub fingerprint: String,
    /// The same as `kid`.
    pub thumbprint: String,
    /// Whether it signs.
    pub current: bool,
    /// Whether it signs next; it is published already.
    pub next: bool,
    /// Whether it signed before, and verifies still.
    pub previous: bool,
    /// Since when it signs, or signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_since: Option<Timestamp>,
    /// Until when it signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_until: Option<Timestamp>,
    /// Whether everything that it signed is refused.
    pub revoked: bool,
}

// The columns of a key that people see, in the order that `view_from_row` reads them.
macro_rules! key_views {
    () => {
        "select kid, alg, state, public_jwk, current_at, previous_at from signing_keys "
    };
}

fn view_from_row(row: &Row) -> Result<SigningKeyView, Error> {
    let kid = row.text(0)?.to_owned();
    let state = row.text(2)?;
    let jwk: Value = serde_json::from_str(row.text(3)?)?;
    let key = VerifyingKey::from_jwk(&jwk)
        .map_err(|error| Fault::Internal(format!("signing_keys.public_jwk: {error}")))?;
    let pem = key
        .to_public_pem()
        .map_err(|error| Fault::Internal(format!("a signing key as PEM: {error}")))?;
    Ok(SigningKeyView {
        alg: row.text(1)?.to_owned(),
        cert: pem,
        fingerprint: kid.clone(),
        thumbprint: kid.clone(),
        current: state == "current",
        next: state == "next",
        previous: state == "previous",
        revoked: state == "revoked",
        current_since: row.opt_timestamp(4)?,
        current_until: row.opt_timestamp(5)?,
        kid,
    })
}

/// The keys of this process by id. Only the key material is remembered; whether a key may be used is asked every time.
#[derive(Clone, Default)]
pub(crate) struct SigningKeys {
    loaded: Arc<RwLock<HashMap<String, Arc<LoadedKey>>>>,
}

impl SigningKeys {
    fn get(&self, kid: &str) -> Option<Arc<LoadedKey>> {
        self.loaded
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(kid)
            .cloned()
    }

    fn put(&self, key: LoadedKey) -> Arc<LoadedKey> {
        let key = Arc::new(key);
        self.loaded
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.kid.clone(), Arc::clone(&key));
        key
    }
}

impl Vault {
    /// Makes the keys that are missing. Several nodes may do it at once: one current key an algorithm wins.
    pub(crate) async fn ensure_signing_keys(&self) -> Result<(), Error> {
        for algorithm in ALGORITHMS {
            for state in ["current", "next"] {
                let known = self
                    .db
                    .read_one(
                        "select kid from signing_keys where alg = $1 and state = $2 limit 1",
                        params![algorithm.as_str(), state],
                    )
                    .await?;
                if known.is_none() {
                    let insert = self.new_key_statement(algorithm, state).await?;
                    match self.db.write(Batch::new().with(insert)).await {
                        // Another node was faster; its key is as good.
                        Ok(_) | Err(WriteError::UniqueViolation { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the next key of an algorithm sign, keeps the current one for verifying, and publishes a new next one.
    pub async fn rotate_signing_key(
        &self,
        administrator: &Administrator,
        algorithm: Algorithm,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.rotate_older_than(Some(administrator), algorithm, self.now(), caller)
            .await?;
        Ok(())
    }

    /// The same for an algorithm by its name; returns the key that signs now.
    ///
    /// # Errors
    /// [`Reason::SigningKeyUnknown`] where nothing is signed with it.
    pub async fn rotate_named_signing_key(
        &self,
        administrator: &Administrator,
        alg: &str,
        caller: &Caller,
    ) -> Result<SigningKeyView, Error> {
        let algorithm = ALGORITHMS
            .into_iter()
            .find(|algorithm| algorithm.as_str() == alg)
            .ok_or(Reason::SigningKeyUnknown)?;
        self.rotate_signing_key(administrator, algorithm, caller)
            .await?;
        let keys = self.list_signing_keys().await?;
        keys.into_iter()
            .find(|key| key.current && key.alg == alg)
            .ok_or_else(|| Reason::SigningKeyUnknown.into())
    }

    /// Rotates the keys that have signed for longer than their lifetime. Several nodes may do it at once: each key is
    /// rotated once.
    pub(crate) async fn rotate_aged_signing_keys(&self) -> Result<(), Error> {
        let Ok(born) = self.now().checked_sub(self.settings.signing_key_lifetime) else {
            return Ok(());
        };
        for algorithm in ALGORITHMS {
            let aged = self
                .db
                .read_one(
                    "select kid from signing_keys where alg = $1 and state = 'current' and current_at <= $2",
                    params![algorithm.as_str(), born],
                )
                .await?;
            if aged.is_some() {
                self.rotate_older_than(None, algorithm, born, &Caller::default())
                    .await?;
            }
        }
        Ok(())
    }

    /// Rotates a key that became current at `born` or before. False where there is none.
    async fn rotate_older_than(
        &self,
        administrator: Option<&Administrator>,
        algorithm: Algorithm,
        born: Timestamp,
        caller: &Caller,
    ) -> Result<bool, Error> {
        let now = self.now();
        let retire = Statement::new(
            "update signing_keys set state = 'previous', previous_at = $2
              where alg = $1 and state = 'current' and current_at <= $3",
            params![algorithm.as_str(), now, born],
        )
        .exactly(1);
        let promote = Statement::new(
            "update signing_keys set state = 'current', current_at = $2
              where kid = (select kid from signing_keys where alg = $1 and state = 'next'
                            order by created_at, kid limit 1)",
            params![algorithm.as_str(), now],
        )
        .exactly(1);
        let event = match administrator {
            Some(administrator) => {
                administrator.event(EventKind::SigningKey, "rotated", algorithm.as_str())
            }
            None => Event::succeeded(EventKind::SigningKey)
                .detail("change", "rotated")
                .detail("object", algorithm.as_str()),
        };
        let batch = Batch::new()
            .with(retire)
            .with(promote)
            .with(self.new_key_statement(algorithm, "next").await?)
            .with(self.audit_statement(&event, caller, now));
        match self.db.write(batch).await {
            Ok(_) => Ok(true),
            // Another node was faster.
            Err(WriteError::Expectation { statement: 0, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a key out of use at once: every token that it signed is refused. A current one is replaced first.
    ///
    /// # Errors
    /// [`Reason::SigningKeyUnknown`].
    pub async fn revoke_signing_key(
        &self,
        administrator: &Administrator,
        kid: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let row = self
            .db
            .read_one(
                "select alg, state from signing_keys where kid = $1",
                params![kid],
            )
            .await?
            .ok_or(Reason::SigningKeyUnknown)?;
        let algorithm = algorithm_of(row.text(0)?)?;
        if row.text(1)? == "current" {
            self.rotate_signing_key(administrator, algorithm, caller)
                .await?;
        }
        let event = administrator.event(EventKind::SigningKey, "revoked", kid);
        let batch = Batch::new()
            .with(Statement::new(
                "update signing_keys set state = 'revoked' where kid = $1",
                params![kid],
            ))
            .with(self.audit_statement(&event, caller, self.now()));
        self.db.write(batch).await?;
        self.ensure_signing_keys().await
    }

    /// Every key there is or was, the newest of an algorithm first. The private half has no way out.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKeyView>, Error> {
        let rows = self
            .db
            .read(
                concat!(key_views!(), "order by alg, created_at desc, kid"),
                params![],
            )
            .await?;
        rows.iter().map(view_from_row).collect()
    }

    /// One key.
    ///
    /// # Errors
    /// [`Reason::SigningKeyUnknown`].
    pub async fn view_signing_key(&self, kid: &str) -> Result<SigningKeyView, Error> {
        let row = self
            .db
            .read_one(concat!(key_views!(), "where kid = $1"), params![kid])
            .await?
            .ok_or(Reason::SigningKeyUnknown)?;
        view_from_row(&row)
    }

    /// The published keys (RFC 7517): next, current, and previous ones that may still have live tokens.
    pub async fn jwks(&self) -> Result<Value, Error> {
        let since = self.now().checked_sub(OVERLAP).unwrap_or(Timestamp::MIN);
        let rows = self
            .db
            .read(
                "select public_jwk from signing_keys
                  where state in ('next', 'current') or (state = 'previous' and previous_at > $1)
                  order by alg, created_at, kid",
                params![since],
            )
            .await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            keys.push(serde_json::from_str::<Value>(row.text(0)?)?);
        }
        Ok(json!({ "keys": keys }))
    }

    /// Signs claims with the current key of an algorithm.
    pub(crate) async fn sign(
        &self,
        algorithm: Algorithm,
        typ: &str,
        claims: &Value,
    ) -> Result<String, Error> {
        let row = self
            .db
            .read_one(
                "select kid from signing_keys where alg = $1 and state = 'current'",
                params![algorithm.as_str()],
            )
            .await?
            .ok_or_else(|| {
                Fault::Internal(format!("there is no current signing key for {algorithm}"))
            })?;
        let key = self
            .signing_key(row.text(0)?)
            .await?
            .ok_or_else(|| Fault::Internal("the current signing key is gone".to_owned()))?;
        key.signing
            .sign(Some(&key.kid), typ, claims)
            .map_err(|error| Fault::Internal(format!("signing: {error}")).into())
    }

    /// The material of a key, from memory or from the database. Says nothing about its state.
    pub(crate) async fn signing_key(&self, kid: &str) -> Result<Option<Arc<LoadedKey>>, Error> {
        if let Some(key) = self.signing_keys.get(kid) {
            return Ok(Some(key));
        }
        if kid.len() > 64 {
            return Ok(None);
        }
        let Some(row) = self
            .db
            .read_one(
                "select kid, alg, private_key from signing_keys where kid = $1 and state <> 'revoked'",
                params![kid],
            )
            .await?
        else {
            return Ok(None);
        };
        Ok(Some(self.signing_keys.put(self.open_key(&row)?)))
    }

    fn open_key(&self, row: &Row) -> Result<LoadedKey, Error> {
        let kid = row.text(0)?.to_owned();
        let algorithm = algorithm_of(row.text(1)?)?;
        let der = self
            .ring
            .open(Purpose::SigningKeys, &context(&kid), row.blob(2)?)?;
        let broken = |error: seal::KeyError| Fault::Internal(format!("a signing key: {error}"));
        let signing = SigningKey::from_pkcs8(algorithm, der.reveal()).map_err(broken)?;
        let verifying = signing.verifying_key(Some(&kid)).map_err(broken)?;
        Ok(LoadedKey {
            kid,
            signing,
            verifying,
        })
    }

    async fn new_key_statement(
        &self,
        algorithm: Algorithm,
        state: &'static str,
    ) -> Result<Statement, Error> {
        // An RSA key takes up to a second to find.
        let key = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm))
            .await
            .map_err(|_| Fault::Internal("the key thread is gone".to_owned()))?
            .map_err(|error| Fault::Internal(format!("making a signing key: {error}")))?;
        let kid = key.thumbprint();
        let der = key
            .to_pkcs8()
            .map_err(|error| Fault::Internal(format!("writing a signing key: {error}")))?;
        let sealed = self.ring.seal(
            self.entropy.as_ref(),
            Purpose::SigningKeys,
            &context(&kid),
            der.reveal(),
        )?;
        let now = self.now();
        Ok(Statement::new(
            "insert into signing_keys (kid, alg, state, public_jwk, private_key, created_at, current_at)
             values ($1, $2, $3, $4, $5, $6, $7)",
            params![
                kid.as_str(),
                algorithm.as_str(),
                state,
                key.public_jwk(&kid).to_string(),
                sealed,
                now,
                (state == "current").then_some(now),
            ],
        )
        .exactly(1))
    }
}

fn algorithm_of(text: &str) -> Result<Algorithm, Fault> {
    Algorithm::from_str(text).ok_or_else(|| Fault::Internal(format!("signing_keys.alg '{text}'")))
}

fn context(kid: &str) -> RecordContext<'_> {
    RecordContext {
        table: "signing_keys",
        row_id: kid,
        field: "private_key",
        generation: 1,
    }
}
