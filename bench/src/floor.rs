//! The floor: a server on the same HTTP stack, crypto and store that does what an exchange must and nothing else.
//!
//! 1. Parse the form.
//! 2. Verify the subject: a refresh token's form; an access token's (RS256) or worker's (ES256) signature, issuer,
//!    audience and times.
//! 3. One database read: one row by its key, with both hashes and the sealed token set.
//! 4. Compare the client secret's MAC, and the refresh token's.
//! 5. Open the record.
//! 6. With audit: one durable insert, committed together with those of the requests beside it.
//! 7. Answer as JSON.
//!
//! What it leaves out: policies, revocations, replays, limits, logs. It must not be slower than it has to be; it is
//! what the vault is compared with.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use oauth::grant;
use oauth::params::Params;
use oauth::token_response::TokenResponse;
use seal::{
    Algorithm, KeyRing, PooledEntropy, Purpose, RecordContext, SecretString, SigningKey,
    SystemEntropy, TokenKind, UnverifiedJws, VerifyingKey,
};
use serde::Deserialize;
use serde_json::json;
use store::{Batch, Db, Migration, Options, Statement, params};
use tokio::net::TcpListener;
use vault::{Clock as _, SystemClock};

use crate::target::{Ready, Subject, Target, WORKER_ALGORITHM, WorkerKey};
use crate::vault_server::{end_of_input, say, traffic_of};
use crate::{ServerArgs, tls};

/// The floor without audit.
pub(crate) const PATH: &str = "/exchange";
/// The floor with one durable insert a request.
pub(crate) const AUDITED_PATH: &str = "/audited-exchange";

const ISSUER: &str = "https://floor.test/";
const API: &str = "https://api.test/";
const CLIENT_ID: &str = "client_of_the_floor";
const USER_ID: &str = "usr_3kQ9xZ0AbC1dE2fG3hI4j";
const CONNECTION: &str = "sandbox";
const SCOPE: &str = "openid profile email offline_access files.read";

const TABLES: &[Migration] = &[Migration::new(
    1,
    "floor",
    "create table subjects (
              subject      text   primary key,
              account_id   text   not null,
              client_hash  blob   not null,
              subject_hash blob   not null,
              token_set    blob   not null,
              expires_at   bigint not null
          );
          create table audit (
              id         text   primary key,
              at         bigint not null,
              client_id  text   not null,
              account_id text   not null
          );",
)];

struct Floor {
    db: Db,
    ring: KeyRing,
    /// What audit rows are named from.
    row_ids: PooledEntropy,
    access_key: VerifyingKey,
    worker_key: VerifyingKey,
}

/// Why there is no answer. Nobody reads more of it than that.
struct Refused;

#[derive(Deserialize)]
struct TokenSet {
    access_token: SecretString,
}

impl Floor {
    async fn exchange(&self, body: &[u8], audit: Audit) -> Result<TokenResponse, Refused> {
        // Step 1.
        let params = Params::from_form(body).map_err(|_| Refused)?;
        let text = |name| params.require(name).map_err(|_| Refused);
        if text("grant_type")? != grant::TOKEN_VAULT || text("connection")? != CONNECTION {
            return Err(Refused);
        }
        let secret =
            seal::present(TokenKind::ClientSecret, text("client_secret")?).ok_or(Refused)?;
        // Step 2.
        let now = SystemClock.now();
        let subject_token = text("subject_token")?;
        let mut refresh_token = None;
        let subject = match text("subject_token_type")? {
            grant::TOKEN_TYPE_REFRESH_TOKEN => {
                let presented =
                    seal::present(TokenKind::RefreshToken, subject_token).ok_or(Refused)?;
                refresh_token.insert(presented).id.clone()
            }
            grant::TOKEN_TYPE_ACCESS_TOKEN => {
                verify(subject_token, &self.access_key, "at+jwt", API, now)?
            }
            _ => verify(
                subject_token,
                &self.worker_key,
                "token-vault-req+jwt",
                ISSUER,
                now,
            )?,
        };
        // Step 3.
        let row = self
            .db
            .look_up(Statement::new(
                "select account_id, client_hash, subject_hash, token_set, expires_at
                   from subjects where subject = $1",
                params![subject.as_str()],
            ))
            .await?
            .into_iter()
            .next()
            .ok_or(Refused)?;
        // Step 4.
        let is_right = secret.matches(&self.ring, row.blob(1)?)
            && match &refresh_token {
                Some(presented) => presented.matches(&self.ring, row.blob(2)?),
                None => true,
            };
        if !is_right {
            return Err(Refused);
        }
        // Step 5.
        let account_id = row.text(0)?;
        let plain = self
            .ring
            .open(Purpose::Record, &context(account_id), row.blob(3)?)
            .map_err(|_| Refused)?;
        let tokens: TokenSet = serde_json::from_slice(plain.reveal()).map_err(|_| Refused)?;
        // Step 6.
        if audit == Audit::Durable {
            let row = audit_statement(&self.row_ids, account_id, now);
            self.db.append(Batch::new().with(row)).await?;
        }
        // Step 7.
        let left = row.timestamp(4)?.duration_since(now).as_secs();
        Ok(TokenResponse {
            access_token: tokens.access_token.reveal().to_owned(),
            token_type: "Bearer",
            expires_in: u64::try_from(left).map_err(|_| Refused)?,
            scope: SCOPE.to_owned(),
            issued_token_type: Some(grant::TOKEN_TYPE_FEDERATED_CONNECTION),
            id_token: None,
            refresh_token: None,
            variables: std::collections::BTreeMap::new(),
        })
    }
}

/// Whether a request leaves a row behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audit {
    Durable,
    Left,
}

impl From<store::ReadError> for Refused {
    fn from(_: store::ReadError) -> Self {
        Self
    }
}

impl From<store::WriteError> for Refused {
    fn from(_: store::WriteError) -> Self {
        Self
    }
}

/// The subject of a token that this key signed for this audience and that has not ended.
fn verify(
    text: &str,
    key: &VerifyingKey,
    typ: &str,
    audience: &str,
    now: Timestamp,
) -> Result<String, Refused> {
    let jws = UnverifiedJws::parse(text).map_err(|_| Refused)?;
    let claims = jws
        .verify(&[key], &[Algorithm::Rs256, Algorithm::Es256])
        .map_err(|_| Refused)?;
    let end = claims.timestamp("exp").ok().flatten().ok_or(Refused)?;
    let issuer = claims.str("iss").ok().flatten().ok_or(Refused)?;
    let is_right = claims.is_typ(typ)
        && matches!(issuer, ISSUER | CLIENT_ID)
        && claims.audience().is_ok_and(|named| named == [audience])
        && end > now;
    let subject = claims.str("sub").ok().flatten().ok_or(Refused)?;
    is_right.then(|| subject.to_owned()).ok_or(Refused)
}

fn context(account_id: &str) -> RecordContext<'_> {
    RecordContext {
        table: "connected_accounts",
        row_id: account_id,
        field: "token_set",
        generation: 1,
    }
}

fn audit_statement(row_ids: &PooledEntropy, account_id: &str, now: Timestamp) -> Statement {
    let id = format!(
        "{:016x}{}",
        now.as_microsecond(),
        seal::random_id(row_ids, "_")
    );
    Statement::new(
        "insert into audit (id, at, client_id, account_id) values ($1, $2, $3, $4)",
        params![id, now, CLIENT_ID, account_id],
    )
}

/// Serves until standard input ends.
pub(crate) async fn run(args: &ServerArgs) -> Result<()> {
    let db = Db::open(&args.database, Options::default()).await?;
    db.migrate(TABLES).await?;
    let mut ring = KeyRing::new("floor");
    for purpose in [Purpose::Record, Purpose::TokenPepper] {
        ring.insert(purpose, 1, seal::generate_data_key(&SystemEntropy));
    }
    let generate =
        |algorithm| SigningKey::generate(algorithm).map_err(|error| anyhow!("a key: {error}"));
    let access_key = generate(Algorithm::Rs256)?;
    let worker_key = generate(WORKER_ALGORITHM)?;
    let [refresh, access, worker] = seed(&db, &ring, &access_key, &worker_key).await?;

    let verifying = |key: &SigningKey| {
        key.verifying_key(None)
            .map_err(|error| anyhow!("a key: {error}"))
    };
    let traffic = traffic_of(db.clone());
    let floor = Arc::new(Floor {
        access_key: verifying(&access_key)?,
        worker_key: verifying(&worker_key)?,
        db,
        ring,
        row_ids: PooledEntropy::new(Arc::new(SystemEntropy)),
    });
    let router = Router::new()
        .route(
            PATH,
            post(async |floor, body| answer(floor, body, Audit::Left).await),
        )
        .route(
            AUDITED_PATH,
            post(async |floor, body| answer(floor, body, Audit::Durable).await),
        )
        .with_state(floor)
        .merge(traffic);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (tls, certificate) = args.tls.then(tls::server).transpose()?.unzip();
    say(&Ready {
        address: listener.local_addr()?,
        certificate,
        refresh,
        access,
        worker,
        errands: Vec::new(),
    })?;
    web::serve(vec![listener], tls, router, end_of_input()).await?;
    Ok(())
}

async fn answer(
    State(floor): State<Arc<Floor>>,
    body: Bytes,
    audit: Audit,
) -> Result<Json<TokenResponse>, StatusCode> {
    match floor.exchange(&body, audit).await {
        Ok(answer) => Ok(Json(answer)),
        Err(Refused) => Err(StatusCode::BAD_REQUEST),
    }
}

/// One account, found by the refresh token's id and by the user's; what to ask for each exchange.
async fn seed(
    db: &Db,
    ring: &KeyRing,
    access_key: &SigningKey,
    worker_key: &SigningKey,
) -> Result<[Target; 3]> {
    let now = SystemClock.now();
    let (issued_at, expires_at) = (now.as_second(), now.as_second() + 24 * 3600);
    let client_secret = seal::mint(TokenKind::ClientSecret, &SystemEntropy, ring);
    let refresh_token = seal::mint(TokenKind::RefreshToken, &SystemEntropy, ring);
    let account_id = seal::random_id(&SystemEntropy, "cac_");
    let token_set = json!({
        "access_token": seal::random_id(&SystemEntropy, "sandbox_at_") + &seal::random_id(&SystemEntropy, ""),
        "refresh_token": seal::random_id(&SystemEntropy, "sandbox_rt_") + &seal::random_id(&SystemEntropy, ""),
        "issued_at": now.as_microsecond(),
        "expires_at": expires_at * 1_000_000,
    });
    let sealed = ring
        .seal(
            &SystemEntropy,
            Purpose::Record,
            &context(&account_id),
            token_set.to_string().as_bytes(),
        )
        .map_err(|error| anyhow!("sealing: {error}"))?;
    let mut batch = Batch::new();
    for subject in [refresh_token.id.as_str(), USER_ID] {
        batch.push(Statement::new(
            "insert into subjects (subject, account_id, client_hash, subject_hash, token_set, expires_at)
             values ($1, $2, $3, $4, $5, $6)",
            params![
                subject,
                account_id.as_str(),
                client_secret.hash,
                refresh_token.hash,
                sealed.as_slice(),
                expires_at * 1_000_000,
            ],
        ));
    }
    db.write(batch).await.context("writing the account")?;

    // As long as one of the vault's.
    let access_token = access_key
        .sign(
            Some("floor-1"),
            "at+jwt",
            &json!({
                "iss": ISSUER, "aud": API, "iat": issued_at, "exp": expires_at,
                "jti": seal::random_id(&SystemEntropy, ""), "scope": "openid profile offline_access read:reports",
                "sub": USER_ID, "client_id": CLIENT_ID, "azp": CLIENT_ID, "auth_time": issued_at,
                "authorization_id": seal::random_id(&SystemEntropy, "aut_"),
                "sid": seal::random_id(&SystemEntropy, "ses_"),
            }),
        )
        .map_err(|error| anyhow!("signing: {error}"))?;
    let pem = worker_key
        .to_pem()
        .map_err(|error| anyhow!("a key: {error}"))?;
    Ok([
        Subject::RefreshToken(refresh_token.token.reveal().to_owned()),
        Subject::AccessToken(access_token),
        Subject::Worker(WorkerKey {
            pem: pem.reveal().to_owned(),
            kid: "worker-key-1".to_owned(),
            issuer: ISSUER.to_owned(),
            user_id: USER_ID.to_owned(),
            among: None,
        }),
    ]
    .map(|subject| Target {
        client_id: CLIENT_ID.to_owned(),
        client_secret: client_secret.token.reveal().to_owned(),
        connection: CONNECTION.to_owned(),
        subject,
    }))
}
