//! The vault of the day, and the worker that asks it. Everything is as in production but the clock and the way in: there
//! is no HTTP before the vault.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use oauth::client_authentication::{PresentedClient, Via};
use oauth::grant;
use oauth::opaque::Opaque;
use oauth::token_request::{
    Dialect, RequestedTokenType, SubjectTokenType, TokenRequest, VaultExchange,
};
use oauth::token_response::TokenResponse;
use provider::{Catalogue, ConnectionOptions, OutboundPolicy, ProviderClient, RefreshClass};
use seal::{LocalMasterKey, SecretString, SigningKey, SystemEntropy};
use serde_json::json;
use store::{Db, Options, params};
use vault::{
    AppType, Caller, Client, Clock as _, Issuer, KeyPurpose, MovableClock, NewClient,
    NewConnection, Parts, PrivilegedAccess, PrivilegedGrant, Settings, Vault,
};

use super::provider::{Given, Provider, first_tokens};
use super::workload::{self, Call, PLACES};
use crate::database::{Database, Engine};
use crate::seed::{ISSUER, told, words};
use crate::stock::{self, Places, Sample};
use crate::target::WORKER_ALGORITHM;

/// What is granted everywhere.
const SCOPES: [&str; 1] = ["files.read"];
const WORKER_KID: &str = "worker-key-1";
/// A token with less life than this is old: the vault refreshes it behind the answer, or has tried to before it.
const OLD: i64 = 120;

pub(crate) struct World {
    pub(crate) vault: Vault,
    pub(crate) clock: Arc<MovableClock>,
    pub(crate) provider: Arc<Provider>,
    /// The vault's database.
    pub(crate) db: Db,
    worker: Client,
    worker_secret: String,
    worker_key: SigningKey,
    requests: AtomicU64,
    places: Vec<String>,
}

/// How an exchange ended.
pub(crate) enum Ended {
    /// With a token that was given before and has life left.
    Fresh,
    /// With one that was given before and has little life left.
    Old,
    /// With one that was given at this moment.
    Waited,
    /// With this code; when it is worth asking again.
    Refused(&'static str, Option<Duration>),
    /// As it must not.
    Wrong(String),
}

impl World {
    /// Opens a vault on an empty database, with its connections and its worker and without accounts.
    pub(crate) async fn open(database: &Database, start: Timestamp, accounts: u64) -> Result<Self> {
        let clock = Arc::new(MovableClock::new(start));
        let (provider, origin) = Provider::serve(Arc::clone(&clock), accounts).await?;
        let db = Db::open(&database.url, Options::default()).await?;
        let vault = open_vault(&db, &database.folder, &origin, Arc::clone(&clock)).await?;
        let mut places = Vec::new();
        for place in &PLACES {
            let made = vault
                .create_connection(NewConnection {
                    name: place.name.to_owned(),
                    strategy: "oauth2".to_owned(),
                    display_name: String::new(),
                    client_id: place.name.to_owned(),
                    client_secret: Some(SecretString::new("secret".to_owned())),
                    options: ConnectionOptions {
                        authorization_endpoint: Some(format!("{origin}/{}/authorize", place.name)),
                        token_endpoint: Some(format!("{origin}/{}/token", place.name)),
                        refresh_class: Some(if place.rotates {
                            RefreshClass::Rotating
                        } else {
                            RefreshClass::Stable
                        }),
                        ..ConnectionOptions::default()
                    },
                    scopes: words(&SCOPES),
                })
                .await
                .map_err(told("a connection"))?;
            places.push(made.id);
        }
        let grants = PLACES.iter().map(|place| PrivilegedGrant {
            connection: place.name.to_owned(),
            scopes: words(&SCOPES),
        });
        let (worker, secret) = vault
            .create_client(NewClient {
                name: "Worker".to_owned(),
                app_type: AppType::NonInteractive,
                grant_types: words(&[grant::TOKEN_VAULT]),
                privileged_access: Some(PrivilegedAccess {
                    ip_allowlist: words(&["127.0.0.0/8"]),
                    grants: grants.collect(),
                }),
                ..NewClient::default()
            })
            .await
            .map_err(told("the worker"))?;
        for place in &places {
            vault
                .enable_connection(place, &worker.client_id)
                .await
                .map_err(told("a connection for the worker"))?;
        }
        let key = SigningKey::generate(WORKER_ALGORITHM).map_err(|error| anyhow!("{error}"))?;
        vault
            .create_client_key(
                &worker.client_id,
                KeyPurpose::PrivilegedAccess,
                WORKER_ALGORITHM,
                &key.public_jwk(WORKER_KID),
                None,
            )
            .await
            .map_err(told("the worker's key"))?;
        let secret = secret.context("a worker without a secret")?;
        Ok(Self {
            vault,
            clock,
            provider,
            db,
            worker,
            worker_secret: secret.reveal().to_owned(),
            worker_key: key,
            requests: AtomicU64::new(0),
            places,
        })
    }

    /// Makes the accounts as they are when the day begins; how long that took.
    pub(crate) async fn connect_accounts(&self, engine: Engine, accounts: u64) -> Result<Duration> {
        let begun = Instant::now();
        let start = self.clock.now();
        let places = Places {
            connections: self.places.clone(),
            scopes: words(&SCOPES),
            connected_at: start.checked_sub(Duration::from_secs(90 * 24 * 3600))?,
        };
        let sample = move |account| {
            let standing = workload::standing(account, start)?;
            Ok(Sample {
                place: workload::place_of(account).0,
                tokens: first_tokens(account, standing.issued_at),
                ends: standing.ends,
            })
        };
        stock::make(&self.vault, &self.db, engine, places, 0..accounts, sample).await?;
        Ok(begun.elapsed())
    }

    /// The worker asks for the account's token.
    pub(crate) async fn exchange(&self, call: Call) -> Ended {
        self.provider.callers.fetch_add(1, Ordering::SeqCst);
        let answer = self.ask(call).await;
        self.provider.callers.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Ok(Ok(answer)) => self.judge(call, &answer),
            Ok(Err(vault::Error::Refused(refusal))) => {
                Ended::Refused(refusal.reason().as_str(), refusal.retry_after())
            }
            // Too many at once for its connections to the database.
            Ok(Err(vault::Error::Fault(vault::Fault::Unavailable(_)))) => {
                Ended::Refused("unavailable", Some(Duration::from_secs(1)))
            }
            Ok(Err(vault::Error::Fault(fault))) => {
                Ended::Wrong(format!("account {}: a fault: {fault}", call.account))
            }
            Err(error) => Ended::Wrong(format!("account {}: {error:#}", call.account)),
        }
    }

    async fn ask(&self, call: Call) -> Result<Result<TokenResponse, vault::Error>> {
        let now = self.clock.now().as_second();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let claims = json!({
            "iss": self.worker.client_id,
            "sub": stock::user_id(call.account),
            "aud": ISSUER,
            "iat": now,
            "exp": now + 60,
            "jti": format!("request-{number}"),
            "audit_context": "a day in accelerated time",
        });
        let signed = self
            .worker_key
            .sign(Some(WORKER_KID), "token-vault-req+jwt", &claims)
            .map_err(|error| anyhow!("signing a worker's request: {error}"))?;
        let (_, place) = workload::place_of(call.account);
        let request = TokenRequest::VaultExchange(VaultExchange {
            dialect: Dialect::Auth0,
            subject_token: Opaque::new(signed),
            subject_token_type: SubjectTokenType::WorkerJwt,
            requested_token_type: RequestedTokenType::TokenVault,
            connection: place.name.to_owned(),
            login_hint: None,
            scope: None,
            min_ttl: None,
        });
        let presented = PresentedClient::Secret {
            client_id: self.worker.client_id.clone(),
            secret: Opaque::new(self.worker_secret.clone()),
            via: Via::Post,
        };
        let caller = Caller {
            address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            request_id: format!("req_{number}").into(),
        };
        let vault = &self.vault;
        let authenticated = vault
            .authenticate_client(presented, Some(&request), &caller)
            .await;
        Ok(match authenticated {
            Ok(client) => vault.token(client, request, &caller).await,
            Err(error) => Err(error),
        })
    }

    /// What the provider says of the token that it gave.
    fn judge(&self, call: Call, answer: &TokenResponse) -> Ended {
        let now = self.clock.now().as_second();
        let Some(given) = Given::read(&answer.access_token) else {
            return Ended::Wrong(format!("account {}: a token of nobody", call.account));
        };
        let left = given.expires_at - now;
        if given.account != call.account {
            let (asked, got) = (call.account, given.account);
            return Ended::Wrong(format!("account {asked} got the token of account {got}"));
        }
        if left <= 0 {
            return Ended::Wrong(format!(
                "account {}: a token that ended {} s before",
                call.account, -left
            ));
        }
        if answer.expires_in.cast_signed() != left {
            return Ended::Wrong(format!(
                "account {}: said to live {} s and lives {left} s",
                call.account, answer.expires_in
            ));
        }
        match (given.issued_at == now, left < OLD) {
            (true, _) => Ended::Waited,
            (false, true) => Ended::Old,
            (false, false) => Ended::Fresh,
        }
    }

    /// Accounts whose authorization ended because nobody used it.
    pub(crate) async fn ended(&self) -> Result<i64> {
        self.count("select count(*) from accounts where refresh_expires_at <= $1")
            .await
    }

    /// Accounts that their users would have to connect again.
    pub(crate) async fn lost(&self) -> Result<i64> {
        let sql = "select count(*) from accounts where status <> 'active' and connected_at <= $1";
        self.count(sql).await
    }

    /// How many rows there are; `$1` is the present instant.
    async fn count(&self, sql: &'static str) -> Result<i64> {
        let row = self.db.read_one(sql, params![self.clock.now()]).await?;
        Ok(row.context("no count")?.int(0)?)
    }
}

async fn open_vault(
    db: &Db,
    folder: &Path,
    origin: &str,
    clock: Arc<MovableClock>,
) -> Result<Vault> {
    let mut settings = Settings::new(Issuer::parse(ISSUER)?, "day");
    settings.rescue_directory = Some(folder.to_owned());
    let policy = OutboundPolicy {
        allowed_origins: vec![origin.to_owned()],
        ..OutboundPolicy::default()
    };
    let provider = ProviderClient::new(policy, Catalogue::built_in()?, Arc::new(SystemEntropy))
        .context("the outbound settings")?;
    let (master_key, _) = LocalMasterKey::generate(&SystemEntropy);
    Ok(Vault::open(Parts {
        db: db.clone(),
        master_key: Arc::new(master_key),
        clock,
        entropy: Arc::new(SystemEntropy),
        provider,
        settings,
    })
    .await?)
}
