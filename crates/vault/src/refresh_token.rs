//! A refresh token of ours: opaque, kept as a hash, one of a family when it rotates.
//!
//! A rotating token that was used stays in the table as long as its family: showing it again is how theft is noticed.
//! Within the client's leeway, and as long as its successor was not used, it brings that same successor again, so that
//! a client whose answer got lost is not logged out.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use seal::{
    KeyRing, MintedToken, PresentedToken, Purpose, RecordContext, SecretBytes, SecretString,
    TokenKind,
};
use serde::Serialize;
use store::{Row, Statement, params};

use crate::authorization::{self, AUTHORIZATION_COLUMNS, Authorization, authorization_columns};
use crate::client::Client;
use crate::token_set::after;
use crate::{Error, Vault};

/// A refresh token as its row says, with its authorization.
#[derive(Debug, Clone)]
pub(crate) struct StoredRefreshToken {
    pub(crate) authorization: Authorization,
    pub(crate) sequence: u64,
    pub(crate) successor_id: Option<String>,
    hash: Vec<u8>,
    mac: Vec<u8>,
    expires_at: Timestamp,
    idle_expires_at: Option<Timestamp>,
    rotated_at: Option<Timestamp>,
    successor: Option<Vec<u8>>,
    successor_used: bool,
}

/// When a new refresh token ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// With its family.
    pub(crate) family: Timestamp,
    /// Unless it is used before.
    pub(crate) idle: Option<Timestamp>,
}

/// How a presented refresh token stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not good, and nothing more to it: unknown, foreign, ended.
    Invalid,
    /// Used before, but its successor not yet: a retry.
    Retried,
    /// Used before, and the family went on without it: somebody else has it.
    Reused,
    /// Good.
    Usable,
}

/// A refresh token as the Management API shows it: what it is good for, never the token.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RefreshToken")]
pub struct RefreshTokenView {
    /// The token's lookup id.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// Which client has it.
    pub client_id: String,
    /// The session in which it was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it ends unless it is used before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_expires_at: Option<Timestamp>,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// The APIs and scopes that were asked for with it.
    pub resource_servers: Vec<CoveredApi>,
}

/// What a refresh token was issued for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CoveredApi {
    /// The API's identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The scopes, with spaces.
    pub scopes: String,
}

/// What a refresh token is judged by.
pub(crate) struct Judged<'a> {
    pub(crate) user_id: &'a str,
    authorization_id: &'a str,
    client_id: &'a str,
    /// Whether its authorization lives.
    is_live: bool,
    sequence: u64,
    hash: &'a [u8],
    mac: &'a [u8],
    expires_at: Timestamp,
    idle_expires_at: Option<Timestamp>,
    rotated_at: Option<Timestamp>,
    successor_used: bool,
}

impl<'a> Judged<'a> {
    /// From the columns of `judged_columns`.
    pub(crate) fn from_row(row: &'a Row) -> Result<Self, Error> {
        Ok(Self {
            authorization_id: row.text(0)?,
            client_id: row.text(1)?,
            user_id: row.text(2)?,
            sequence: sequence(row.int(3)?)?,
            hash: row.blob(4)?,
            mac: row.blob(5)?,
            expires_at: row.timestamp(6)?,
            idle_expires_at: row.opt_timestamp(7)?,
            rotated_at: row.opt_timestamp(8)?,
            successor_used: row.bool(9)?,
            is_live: row.bool(10)?,
        })
    }

    /// Judges a presented token. Nothing is believed before the secret half was compared.
    pub(crate) fn standing(
        &self,
        presented: &PresentedToken,
        client: &Client,
        now: Timestamp,
        ring: &KeyRing,
    ) -> Standing {
        let is_this_one = presented.matches(ring, self.hash)
            && ring.mac_matches(
                Purpose::RowMac,
                "refresh_tokens",
                &mac_parts(
                    &presented.id,
                    self.authorization_id,
                    &self.sequence.to_be_bytes(),
                    &self.expires_at.as_microsecond().to_be_bytes(),
                ),
                self.mac,
            );
        let is_good = is_this_one
            && self.client_id == client.client_id
            && self.is_live
            && self.expires_at > now
            && self.idle_expires_at.is_none_or(|end| end > now);
        match self.rotated_at {
            _ if !is_good => Standing::Invalid,
            None => Standing::Usable,
            Some(rotated_at)
                if !self.successor_used
                    && now <= after(rotated_at, client.refresh_token.leeway) =>
            {
                Standing::Retried
            }
            Some(_) => Standing::Reused,
        }
    }

    /// Whether a token holds that is shown in an exchange, which does not use it up.
    pub(crate) fn holds(
        &self,
        presented: &PresentedToken,
        client: &Client,
        now: Timestamp,
        ring: &KeyRing,
    ) -> bool {
        match self.standing(presented, client, now, ring) {
            Standing::Usable | Standing::Retried => true,
            Standing::Invalid | Standing::Reused => false,
        }
    }

    /// Puts the end of idleness off, where that is worth a write: by more than a tenth of the time.
    pub(crate) fn touch_statement(
        &self,
        id: &str,
        client: &Client,
        now: Timestamp,
    ) -> Option<Statement> {
        let end = client.refresh_token.idle_end(now)?;
        let worth = SignedDuration::from_secs(
            i64::try_from(client.refresh_token.idle_token_lifetime / 10).unwrap_or(i64::MAX),
        );
        let moves = self
            .idle_expires_at
            .is_none_or(|before| end.duration_since(before) > worth);
        moves.then(|| {
            Statement::new(
                "update refresh_tokens set idle_expires_at = $2 where id = $1",
                params![id, end],
            )
        })
    }
}

impl StoredRefreshToken {
    /// What it is judged by.
    pub(crate) fn judged(&self) -> Judged<'_> {
        Judged {
            user_id: &self.authorization.user_id,
            authorization_id: &self.authorization.id,
            client_id: &self.authorization.client_id,
            is_live: self.authorization.is_live,
            sequence: self.sequence,
            hash: &self.hash,
            mac: &self.mac,
            expires_at: self.expires_at,
            idle_expires_at: self.idle_expires_at,
            rotated_at: self.rotated_at,
            successor_used: self.successor_used,
        }
    }

    /// The successor, which only whoever shows this token can read.
    pub(crate) fn open_successor(
        &self,
        text: &str,
        id: &str,
        ring: &KeyRing,
    ) -> Result<Option<SecretString>, Error> {
        let Some(sealed) = &self.successor else {
            return Ok(None);
        };
        let opened =
            successor_ring(text, ring).open(Purpose::Record, &successor_context(id), sealed)?;
        let text = std::str::from_utf8(opened.reveal())
            .map_err(|_| crate::Fault::Internal("a successor is not UTF-8".to_owned()))?;
        Ok(Some(SecretString::new(text.to_owned())))
    }

    /// When the family ends; rotation does not put it off.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl Vault {
    /// A token of an authorization and the statement that stores it.
    pub(crate) fn new_refresh_token(
        &self,
        authorization_id: &str,
        sequence: u64,
        ends: Ends,
        now: Timestamp,
    ) -> (MintedToken, Statement) {
        let minted = seal::mint(TokenKind::RefreshToken, self.entropy.as_ref(), &self.ring);
        let mac = self.ring.mac(
            Purpose::RowMac,
            "refresh_tokens",
            &mac_parts(
                &minted.id,
                authorization_id,
                &sequence.to_be_bytes(),
                &ends.family.as_microsecond().to_be_bytes(),
            ),
        );
        let insert = Statement::new(
            "insert into refresh_tokens (id, hash, mac, authorization_id, sequence, created_at, expires_at,
                                         idle_expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            params![
                minted.id.as_str(),
                minted.hash,
                mac,
                authorization_id,
                i64::try_from(sequence).unwrap_or(i64::MAX),
                now,
                ends.family,
                ends.idle,
            ],
        )
        .exactly(1);
        (minted, insert)
    }

    /// Marks a token as used, with its successor sealed under it. Touches nothing where it was used meanwhile.
    pub(crate) fn rotate_statement(
        &self,
        presented: &PresentedToken,
        text: &str,
        successor: &MintedToken,
        now: Timestamp,
    ) -> Result<Statement, Error> {
        let sealed = successor_ring(text, &self.ring).seal(
            self.entropy.as_ref(),
            Purpose::Record,
            &successor_context(&presented.id),
            successor.token.reveal().as_bytes(),
        )?;
        Ok(Statement::new(
            "update refresh_tokens set rotated_at = $2, successor_id = $3, successor = $4
              where id = $1 and rotated_at is null",
            params![presented.id.as_str(), now, successor.id.as_str(), sealed],
        )
        .exactly(1))
    }
}

/// A ring with one key, made of the token itself (threats 6.5).
fn successor_ring(text: &str, ring: &KeyRing) -> KeyRing {
    let key = ring.mac(Purpose::TokenPepper, "successor", &[text.as_bytes()]);
    let mut own = KeyRing::new("successor");
    own.insert(Purpose::Record, 1, SecretBytes::new(key.to_vec()));
    own
}

fn successor_context(id: &str) -> RecordContext<'_> {
    RecordContext {
        table: "refresh_tokens",
        row_id: id,
        field: "successor",
        generation: 1,
    }
}

fn mac_parts<'a>(
    id: &'a str,
    authorization_id: &'a str,
    sequence: &'a [u8; 8],
    expires_at: &'a [u8; 8],
) -> [&'a [u8]; 4] {
    [
        id.as_bytes(),
        authorization_id.as_bytes(),
        sequence,
        expires_at,
    ]
}

// The columns of what a refresh token is judged by, in the order that `Judged::from_row` reads them.
macro_rules! judged_columns {
    ($($known:ident client)?) => {
        concat!(
            "z.id, z.client_id, z.user_id, r.sequence, r.hash, r.mac, r.expires_at, r.idle_expires_at, r.rotated_at, ",
            $crate::refresh_token::successor_used!(),
            ", ",
            $crate::authorization::is_live!($($known client)?)
        )
    };
}
pub(crate) use judged_columns;

/// How many columns `judged_columns` names.
pub(crate) const JUDGED_COLUMNS: usize = 11;

macro_rules! successor_used {
    () => {
        "case when r.successor_id is not null
                and exists (select 1 from refresh_tokens n where n.id = r.successor_id and n.rotated_at is not null)
              then 1 else 0 end"
    };
}
pub(crate) use successor_used;

macro_rules! stored_tables {
    () => {
        "refresh_tokens r join authorizations z on z.id = r.authorization_id "
    };
}
pub(crate) use stored_tables;

/// The token of a lookup id with its authorization and whether its successor was used.
pub(crate) fn lookup_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            authorization_columns!(),
            ", r.sequence, r.hash, r.mac, r.expires_at, r.rotated_at, r.successor_id, r.successor, ",
            successor_used!(),
            ", r.idle_expires_at from ",
            stored_tables!(),
            "where r.id = $1"
        ),
        params![id],
    )
}

fn sequence(stored: i64) -> Result<u64, Error> {
    u64::try_from(stored)
        .map_err(|_| crate::Fault::Internal("refresh_tokens.sequence".to_owned()).into())
}

pub(crate) fn from_row(row: &Row) -> Result<StoredRefreshToken, Error> {
    let at = AUTHORIZATION_COLUMNS;
    Ok(StoredRefreshToken {
        authorization: authorization::from_row_at(row, 0)?,
        sequence: sequence(row.int(at)?)?,
        hash: row.blob(at + 1)?.to_vec(),
        mac: row.blob(at + 2)?.to_vec(),
        expires_at: row.timestamp(at + 3)?,
        rotated_at: row.opt_timestamp(at + 4)?,
        successor_id: row.opt_text(at + 5)?.map(str::to_owned),
        successor: row.opt_blob(at + 6)?.map(<[u8]>::to_vec),
        successor_used: row.bool(at + 7)?,
        idle_expires_at: row.opt_timestamp(at + 8)?,
    })
}

// The columns of a refresh token that people see, in the order that `view_from_row` reads them, and what they come from.
macro_rules! view_of_live {
    () => {
        "select r.id, z.user_id, z.client_id, z.session_id, r.created_at, r.idle_expires_at, r.expires_at, z.audience,
                z.scope, z.id
           from refresh_tokens r join authorizations z on z.id = r.authorization_id
          where r.rotated_at is null and z.revoked_at is null "
    };
}

/// The live refresh tokens of a user, by id, one window; filters: the user and now.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            view_of_live!(),
            "and r.id > $1 and z.user_id = $4 and r.expires_at > $5
                and (r.idle_expires_at is null or r.idle_expires_at > $5)
              order by r.id limit $2 offset $3"
        ),
        "select count(*) from refresh_tokens r join authorizations z on z.id = r.authorization_id
          where r.rotated_at is null and z.revoked_at is null and z.user_id = $1 and r.expires_at > $2
            and (r.idle_expires_at is null or r.idle_expires_at > $2)",
    )
}

/// A live refresh token.
pub(crate) fn view_statement(id: &str, now: Timestamp) -> Statement {
    Statement::new(
        concat!(
            view_of_live!(),
            "and r.id = $1 and r.expires_at > $2 and (r.idle_expires_at is null or r.idle_expires_at > $2)"
        ),
        params![id, now],
    )
}

/// A refresh token as people see it, and the authorization that it hangs on.
pub(crate) fn view_from_row(row: &Row) -> Result<(RefreshTokenView, String), Error> {
    let view = RefreshTokenView {
        id: row.text(0)?.to_owned(),
        user_id: row.text(1)?.to_owned(),
        client_id: row.text(2)?.to_owned(),
        session_id: row.opt_text(3)?.map(str::to_owned),
        created_at: row.timestamp(4)?,
        idle_expires_at: row.opt_timestamp(5)?,
        expires_at: row.timestamp(6)?,
        resource_servers: vec![CoveredApi {
            audience: row.opt_text(7)?.map(str::to_owned),
            scopes: row.text(8)?.to_owned(),
        }],
    };
    Ok((view, row.text(9)?.to_owned()))
}
