//! The vault as `tokenvault serve` runs it, with one connected account whose provider token is fresh.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use logging::Form;
use provider::{Catalogue, OutboundPolicy, ProviderClient};
use sandbox::{Behaviour, Sandbox, SandboxAccount, SandboxClient, SandboxConfig};
use seal::{LocalMasterKey, SystemEntropy};
use store::{Db, Options, Traffic};
use tokio::net::TcpListener;
use vault::{Clock as _, Issuer, Parts, Settings, SystemClock, Vault};
use web::WebOptions;

use crate::seed::{self, ISSUER};
use crate::target::Ready;
use crate::{ServerArgs, tls};

/// Where exchanges are asked for.
pub(crate) const PATH: &str = "/oauth/token";

/// Where both servers tell their reads and commits until now, as a JSON array.
pub(crate) const TRAFFIC_PATH: &str = "/bench/traffic";

/// Sets how long the provider takes from now on: the milliseconds come after it.
pub(crate) const PROVIDER_TIME_PATH: &str = "/bench/provider-time/";

/// The only person of the sandbox.
pub(crate) const PERSON: &str = "alice@sandbox.example";
/// What they log in with.
pub(crate) const PERSONS_PASSWORD: &str = "sandbox";

/// Serves until standard input ends.
pub(crate) async fn run(args: &ServerArgs) -> Result<()> {
    let log = args.join.as_deref().unwrap_or("server");
    let _log = log_to(&args.folder.join(format!("{log}.log")), &args.log)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    if args.join.is_some() {
        let db = Db::open(&args.database, Options::default()).await?;
        // It calls no provider.
        let vault = open_on(db.clone(), &args.folder, "http://127.0.0.1:9").await?;
        println!("{address}");
        web::serve(vec![listener], None, router(vault, db), end_of_input()).await?;
        return Ok(());
    }
    let sandbox_listener = TcpListener::bind("127.0.0.1:0").await?;
    let sandbox_url = format!("http://{}", sandbox_listener.local_addr()?);

    let db = Db::open(&args.database, Options::default()).await?;
    let vault = open_on(db.clone(), &args.folder, &sandbox_url).await?;
    let seeded = seed::seed(&vault, &sandbox_url).await?;
    // It answers at once until it is told not to, and shares this process's CPU time, but not the requests' threads.
    let provider = provider_of(&seeded, &sandbox_url);
    serve_apart(sandbox_listener, provider.router())?;
    let router = router(vault, db).merge(time_of(provider));
    let plain = web::serve(vec![listener], None, router.clone(), end_of_input());
    let mut server = tokio::spawn(plain);
    let ([refresh, access, worker], errands) =
        seed::connect(&seeded, &format!("http://{address}")).await?;
    let (mut address, mut certificate) = (address, None);
    if args.tls {
        let (tls, shown) = tls::server()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        (address, certificate) = (listener.local_addr()?, Some(shown));
        server = tokio::spawn(web::serve(
            vec![listener],
            Some(tls),
            router,
            end_of_input(),
        ));
    }
    say(&Ready {
        address,
        certificate,
        refresh,
        access,
        worker,
        errands,
    })?;
    server.await??;
    Ok(())
}

/// Serves on a thread of its own until the process ends.
fn serve_apart(listener: TcpListener, router: Router) -> Result<()> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("provider".to_owned())
        .spawn(move || {
            let served = runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                web::serve(vec![listener], None, router, std::future::pending()).await
            });
            if let Err(error) = served {
                eprintln!("the provider does not serve: {error}");
            }
        })?;
    Ok(())
}

fn router(vault: Vault, db: Db) -> Router {
    // One user and one administrator ask as often as they can here.
    let options = WebOptions {
        me_requests_per_minute: 1_000_000_000,
        management_requests_per_minute: 1_000_000_000,
        ..WebOptions::default()
    };
    web::router(vault, options).merge(traffic_of(db))
}

/// Tells whoever measures how often the database was asked.
pub(crate) fn traffic_of(db: Db) -> Router {
    let tell = async move || {
        let Traffic { reads, commits } = db.traffic();
        Json([reads, commits])
    };
    Router::new().route(TRAFFIC_PATH, get(tell))
}

/// Lets whoever measures say how long the provider takes.
fn time_of(provider: Sandbox) -> Router {
    let set = async move |extract::Path(latency_ms): extract::Path<u64>| {
        provider.set_behaviour(Behaviour {
            latency_ms,
            ..provider.behaviour()
        });
    };
    Router::new().route(&format!("{PROVIDER_TIME_PATH}{{milliseconds}}"), get(set))
}

/// Opens the vault of a database, with the master key of a folder: a second process that does so is a second node.
pub(crate) async fn open(database: &str, folder: &Path, sandbox_url: &str) -> Result<Vault> {
    let db = Db::open(database, Options::default()).await?;
    open_on(db, folder, sandbox_url).await
}

async fn open_on(db: Db, folder: &Path, sandbox_url: &str) -> Result<Vault> {
    let mut settings = Settings::new(Issuer::parse(ISSUER)?, "bench");
    settings.rescue_directory = Some(folder.to_owned());
    // The provider can take it.
    settings.refreshes_per_second = 1_000_000;
    let policy = OutboundPolicy {
        allowed_origins: vec![sandbox_url.to_owned()],
        deadline: Duration::from_secs(10),
        ..OutboundPolicy::default()
    };
    let provider = ProviderClient::new(policy, Catalogue::built_in()?, Arc::new(SystemEntropy))
        .context("the outbound settings")?;
    Ok(Vault::open(Parts {
        db,
        master_key: Arc::new(master_key(folder)?),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        provider,
        settings,
    })
    .await?)
}

/// The key in the folder; a new one where there is none.
fn master_key(folder: &Path) -> Result<LocalMasterKey> {
    let file = folder.join("master.key");
    if file.exists() {
        let text = std::fs::read_to_string(&file)?;
        return LocalMasterKey::from_text(&text).context("the folder's master key");
    }
    let (key, text) = LocalMasterKey::generate(&SystemEntropy);
    std::fs::write(&file, text.reveal())?;
    Ok(key)
}

fn provider_of(seeded: &seed::Seeded, base_url: &str) -> Sandbox {
    Sandbox::new(SandboxConfig {
        base_url: base_url.to_owned(),
        clients: vec![SandboxClient {
            client_id: seeded.provider_client.0.clone(),
            client_secret: Some(seeded.provider_client.1.clone()),
            redirect_uris: vec![seeded.callback.clone()],
        }],
        accounts: vec![SandboxAccount {
            username: PERSON.to_owned(),
            password: PERSONS_PASSWORD.to_owned(),
            subject: "sandbox-alice".to_owned(),
            email: PERSON.to_owned(),
            name: "alice".to_owned(),
        }],
        behaviour: Behaviour {
            // Longer than any measurement: only who asks for more life gets another one.
            access_token_lifetime: 24 * 3600,
            ..Behaviour::default()
        },
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(|| SystemClock.now()),
        state_file: None,
    })
}

/// One line a request at the default level, as in production; a file, so that the reader costs nothing.
fn log_to(file: &Path, level: &str) -> Result<logging::Lines> {
    Ok(logging::start(level, Form::Text, File::create(file)?)?)
}

/// Tells the parent process that this server is ready.
pub(crate) fn say(ready: &Ready) -> Result<()> {
    println!("{}", serde_json::to_string(ready)?);
    Ok(())
}

/// Ready when the parent process closes our input, or is gone.
pub(crate) async fn end_of_input() {
    let until_it_ends = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let _ = tokio::task::spawn_blocking(until_it_ends).await;
}
