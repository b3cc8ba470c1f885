//! An outage with ten thousand accounts due: too many to connect one by one, so they are stored as a connect flow would
//! have stored them, and everything after that is as in production: real HTTP, a real database, a clock that is moved.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use provider::{Catalogue, ConnectionOptions, OutboundPolicy, ProviderClient};
use seal::{LocalMasterKey, SecretString, SystemEntropy};
use store::{Batch, Db, Options, Statement, params};

use crate::token_set::tests::grant;
use crate::{Issuer, MovableClock, NewConnection, NewUser, Parts, Settings, Vault};

const ACCOUNTS: usize = 10_000;
const OUTAGE: u64 = 60;
/// What the provider takes a second, by our settings.
const LIMIT: u64 = 100;

/// A token endpoint that can be away.
#[derive(Default)]
struct Endpoint {
    away: AtomicBool,
    calls: AtomicU64,
    refreshed: AtomicU64,
}

async fn token(State(endpoint): State<Arc<Endpoint>>) -> Response {
    endpoint.calls.fetch_add(1, Ordering::SeqCst);
    if endpoint.away.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let number = endpoint.refreshed.fetch_add(1, Ordering::SeqCst);
    Json(serde_json::json!({
        "access_token": format!("access-{number}"),
        "refresh_token": format!("refresh-{number}"),
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token_expires_in": 5_184_000,
    }))
    .into_response()
}

async fn serve(endpoint: Arc<Endpoint>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/token", post(token))
        .with_state(endpoint);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    origin
}

async fn open(url: &str, origins: &[&str], clock: Arc<MovableClock>) -> Vault {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (master_key, _) = LocalMasterKey::generate(&SystemEntropy);
    let provider = ProviderClient::new(
        OutboundPolicy {
            allowed_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            ..OutboundPolicy::default()
        },
        Catalogue::built_in().unwrap(),
        Arc::new(SystemEntropy),
    )
    .unwrap();
    let issuer = Issuer::parse("https://vault.test/").unwrap();
    let mut settings = Settings::new(issuer, "node-1");
    settings.refreshes_per_second = u32::try_from(LIMIT).unwrap();
    Vault::open(Parts {
        db: Db::open(url, Options::default()).await.unwrap(),
        master_key: Arc::new(master_key),
        clock,
        entropy: Arc::new(SystemEntropy),
        provider,
        settings,
    })
    .await
    .unwrap()
}

/// Stores accounts that are all due now, as a connect flow stores one.
async fn seed(vault: &Vault, connection_id: &str, user_id: &str, numbers: Range<usize>) {
    let now = vault.now();
    for chunk in numbers.collect::<Vec<_>>().chunks(500) {
        let mut batch = Batch::new();
        for number in chunk {
            let id = format!("cac_{number:05}");
            let tokens = grant(Some(&format!("first-{number}")), Some(3600));
            batch = batch.with(Statement::new(
                "insert into accounts (id, user_id, connection_id, subject, scopes, status, generation, token_set,
                                       keep_alive_at, attempt, failures, created_at, connected_at)
                 values ($1, $2, $3, $1, '[]', 'active', 1, $4, $5, 0, 0, $5, $5)",
                params![
                    id.as_str(),
                    user_id,
                    connection_id,
                    tokens.seal(vault, &id, 1).unwrap(),
                    now,
                ],
            ));
        }
        vault.db.write(batch).await.unwrap();
    }
}

async fn crm(vault: &Vault, name: &str, origin: &str) -> String {
    vault
        .create_connection(NewConnection {
            name: name.to_owned(),
            strategy: "oauth2".to_owned(),
            display_name: String::new(),
            client_id: name.to_owned(),
            client_secret: Some(SecretString::new("secret".to_owned())),
            options: ConnectionOptions {
                authorization_endpoint: Some(format!("{origin}/authorize")),
                token_endpoint: Some(format!("{origin}/token")),
                ..ConnectionOptions::default()
            },
            scopes: vec![],
        })
        .await
        .unwrap()
        .id
}

async fn dana(vault: &Vault) -> String {
    vault
        .create_user(NewUser {
            username: "dana@example.com".to_owned(),
            password: SecretString::new("correct horse".to_owned()),
            email: None,
            name: None,
        })
        .await
        .unwrap()
        .id
}

/// A provider with accounts that are all due now.
struct Crm {
    endpoint: Arc<Endpoint>,
    clock: Arc<MovableClock>,
    vault: Vault,
    /// The database's, as long as it is open.
    folder: tempfile::TempDir,
}

impl Crm {
    async fn with(accounts: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Arc::new(Endpoint::default());
        let origin = serve(Arc::clone(&endpoint)).await;
        let clock = Arc::new(MovableClock::new(
            Timestamp::from_second(1_800_000_000).unwrap(),
        ));
        let url = format!("sqlite:{}", folder.path().join("vault.db").display());
        let vault = open(&url, &[&origin], Arc::clone(&clock)).await;
        let connection_id = crm(&vault, "crm", &origin).await;
        let user_id = dana(&vault).await;
        seed(&vault, &connection_id, &user_id, 0..accounts).await;
        Self {
            endpoint,
            clock,
            vault,
            folder,
        }
    }
}

async fn count(vault: &Vault, sql: &'static str) -> u64 {
    let row = vault.db.read_one(sql, params![]).await.unwrap().unwrap();
    u64::try_from(row.int(0).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f_13_an_outage_with_ten_thousand_accounts_due() {
    let Crm {
        endpoint,
        clock,
        vault,
        folder: _folder,
    } = Crm::with(ACCOUNTS).await;

    // A minute without an answer: the gate closes, and one probe finds out every few seconds.
    endpoint.away.store(true, Ordering::SeqCst);
    for _ in 0..OUTAGE {
        vault.keep_alive().await.unwrap();
        vault.land().await;
        clock.advance(Duration::from_secs(1));
    }
    let during = endpoint.calls.load(Ordering::SeqCst);
    let active = count(
        &vault,
        "select count(*) from accounts where status = 'active'",
    )
    .await;

    // It is back.
    endpoint.away.store(false, Ordering::SeqCst);
    let (mut seconds, mut most) = (0, 0);
    while endpoint.refreshed.load(Ordering::SeqCst) < u64::try_from(ACCOUNTS).unwrap() {
        let before = endpoint.calls.load(Ordering::SeqCst);
        vault.keep_alive().await.unwrap();
        vault.land().await;
        most = most.max(endpoint.calls.load(Ordering::SeqCst) - before);
        clock.advance(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 1000, "the herd is not through after {seconds} s");
    }
    let refreshed = count(
        &vault,
        "select count(*) from accounts where status = 'active' and generation = 2 and failure is null",
    )
    .await;
    let double = count(
        &vault,
        "select count(*) from refresh_intents where outcome = 'refreshed' and attempt > 20",
    )
    .await;
    println!(
        "outage | accounts due | calls in {OUTAGE} s away | still active | limit a second | most a second after | seconds until all are refreshed | refreshed"
    );
    println!(
        "       | {ACCOUNTS:>12} | {during:>17} | {active:>12} | {LIMIT:>14} | {most:>19} | {seconds:>31} | {refreshed:>9}"
    );
    assert!(during <= 30, "{during} calls while it was away");
    assert_eq!(active, u64::try_from(ACCOUNTS).unwrap());
    assert!(most <= LIMIT, "{most} calls in one second");
    assert_eq!(refreshed, u64::try_from(ACCOUNTS).unwrap());
    assert_eq!(double, 0);
    // Nothing is due any more.
    let calls = endpoint.calls.load(Ordering::SeqCst);
    vault.keep_alive().await.unwrap();
    assert_eq!(endpoint.calls.load(Ordering::SeqCst), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_13_who_probed_through_a_long_outage_waits_no_longer_than_the_others() {
    const PROBES: usize = 6;
    let Crm {
        endpoint,
        clock,
        vault,
        folder: _folder,
    } = Crm::with(PROBES).await;
    let round = async || {
        vault.keep_alive().await.unwrap();
        vault.land().await;
        clock.advance(Duration::from_secs(1));
    };

    endpoint.away.store(true, Ordering::SeqCst);
    for _ in 0..30 * 60 {
        round().await;
    }
    let failures = "select max(failures) from accounts";
    assert!(count(&vault, failures).await > 5, "nobody probed for long");

    endpoint.away.store(false, Ordering::SeqCst);
    for _ in 0..10 {
        round().await;
    }
    let refreshed = "select count(*) from accounts where generation = 2 and failure is null";
    assert_eq!(count(&vault, refreshed).await, PROBES as u64);
}

/// A listener that takes connections and never says a word.
async fn silence() -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let open = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    (origin, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn f_07_a_silent_provider_holds_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Arc::new(Endpoint::default());
    let origin = serve(Arc::clone(&endpoint)).await;
    let (silent, _open) = silence().await;
    let clock = Arc::new(MovableClock::new(
        Timestamp::from_second(1_800_000_000).unwrap(),
    ));
    let url = format!("sqlite:{}", folder.path().join("vault.db").display());
    let vault = open(&url, &[&origin, &silent], Arc::clone(&clock)).await;
    let user_id = dana(&vault).await;
    seed(
        &vault,
        &crm(&vault, "silent", &silent).await,
        &user_id,
        0..50,
    )
    .await;
    let other = crm(&vault, "other", &origin).await;
    seed(&vault, &other, &user_id, 100..150).await;
    let refreshed = |expected: u64| endpoint.refreshed.load(Ordering::SeqCst) >= expected;
    // The round itself waits for the silent one; everything else goes on, also in the next round.
    let round = {
        let vault = vault.clone();
        tokio::spawn(async move { vault.keep_alive().await.unwrap() })
    };
    while !refreshed(50) {
        tokio::task::yield_now().await;
    }
    seed(&vault, &other, &user_id, 200..250).await;
    clock.advance(Duration::from_secs(1));
    while !refreshed(100) {
        vault.keep_alive().await.unwrap();
    }
    assert!(!round.is_finished(), "nobody has answered there yet");
    round.abort();
}
