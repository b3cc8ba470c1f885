//! A deployment with everything that stories need: clients of every kind, an API, a user, a sandbox provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headless::Agent;
use jiff::Timestamp;
use oauth::grant;
use provider::{Catalogue, ConnectionOptions, OutboundPolicy, ProviderClient};
use sandbox::Fixture;
use sandbox::{Behaviour, Sandbox, SandboxAccount, SandboxClient, SandboxConfig};
use seal::{Algorithm, KeyEncryption, LocalMasterKey, SecretString, SigningKey, SystemEntropy};
use store::Db;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use vault::{
    AppType, Client, Clock as _, Connection, Issuer, KeyPurpose, MovableClock, NewApi, NewClient,
    NewConnection, NewUser, Parts, PrivilegedAccess, PrivilegedGrant, RefreshTokenPolicy,
    ResourcePolicy, Rotation, Settings, SubjectType, TokenEndpointAuthMethod, User, Vault,
};
use web::WebOptions;

use crate::database::{self, Database, Engine};
use crate::leaks::{self, Leaks};
use crate::proxy::Proxy;
use crate::rogue::Rogue;

/// The issuer of every story.
const ISSUER: &str = "https://vault.test/";
/// The API that the demo clients know.
pub const DEMO_API: &str = "https://api.test/";
/// The web client's redirect URI.
pub const WEB_CALLBACK: &str = "https://app.test/callback";
/// The single-page client's redirect URI.
pub const SPA_CALLBACK: &str = "https://spa.test/";
/// The user's name.
pub const USERNAME: &str = "dana@example.com";
/// The user's password.
pub const PASSWORD: &str = "correct horse battery";

const MY_ACCOUNT_SCOPES: [&str; 3] = [
    "create:me:connected_accounts",
    "read:me:connected_accounts",
    "delete:me:connected_accounts",
];
const SANDBOX_SCOPES: [&str; 5] = ["openid", "profile", "email", "offline_access", "files.read"];

/// What a story wants otherwise.
pub struct Setup {
    /// Changes the vault's settings before it opens.
    pub settings: fn(&mut Settings),
    /// How the sandbox behaves at first.
    pub behaviour: Behaviour,
    /// How the web side is set up.
    pub web: WebOptions,
    /// When the story begins.
    pub start: Timestamp,
    /// How long the vault waits for one answer of the provider.
    pub deadline: Duration,
    /// Whether everything that goes to the sandbox goes through [`World::proxy`].
    pub proxied: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            settings: |_| {},
            behaviour: Behaviour::default(),
            web: WebOptions::default(),
            start: Timestamp::from_second(1_800_000_000).unwrap(),
            deadline: Duration::from_secs(5),
            proxied: false,
        }
    }
}

/// A client with its secret.
pub struct Registered {
    /// The client.
    pub client: Client,
    /// Its secret; empty for a public one.
    pub secret: String,
}

/// The clients of every story.
pub struct Clients {
    /// A web application: confidential, non-rotating refresh tokens, every grant.
    pub web: Registered,
    /// A single-page application: public, rotating refresh tokens.
    pub spa: Registered,
    /// The client of the demo API.
    pub api: Registered,
    /// A worker that may act for absent users from loopback, by [`World::worker_key`].
    pub worker: Registered,
}

/// One deployment. Everything in it is real but the clock and the distance.
pub struct World {
    /// The vault, for what has no endpoint yet.
    pub vault: Vault,
    /// Its clock, and the sandbox's.
    pub clock: Arc<MovableClock>,
    /// The provider.
    pub sandbox: Sandbox,
    /// Another provider, which the vault may call too, and which has nothing to say until the story tells it.
    pub rogue: Rogue,
    /// A browser of the user's. Stories that need two make another with [`World::browser`].
    pub agent: Agent,
    /// The clients.
    pub clients: Clients,
    /// The user.
    pub user: User,
    /// The worker's private key, `kid` `worker-key-1`.
    pub worker_key: SigningKey,
    /// The database, for attackers and administrators.
    pub db: Db,
    /// Where the database is.
    pub database: Database,
    proxy: Option<Proxy>,
    pub(crate) leaks: Leaks,
    origins: BTreeMap<String, String>,
    /// What `tokenvault serve` reads as its master key.
    pub master_key_text: SecretString,
    master_key: Arc<LocalMasterKey>,
    settings: Settings,
    provider: ProviderClient,
    /// Our client id and secret at the sandbox.
    sandbox_client: (&'static str, String),
    servers: Vec<JoinHandle<()>>,
}

impl World {
    /// Runs a story and looks for its secrets afterwards.
    pub async fn tell(
        engine: Engine,
        setup: Setup,
        story: impl AsyncFnOnce(&mut World) -> anyhow::Result<()>,
    ) {
        let mut world = Self::new(engine, setup).await;
        let outcome = story(&mut world).await;
        if let Err(error) = outcome {
            panic!("{error:#}\nthe end of the log:\n{}", leaks::last_of_log());
        }
        world.check_leaks().await;
    }

    /// Makes a deployment.
    pub async fn new(engine: Engine, setup: Setup) -> Self {
        leaks::catch_log();
        let database = Database::new(engine).await;
        let clock = Arc::new(MovableClock::new(setup.start));
        let vault_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sandbox_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let vault_origin = origin(&vault_listener);
        let (proxy, sandbox_origin) = if setup.proxied {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let public = origin(&listener);
            let upstream = sandbox_listener.local_addr().unwrap().to_string();
            (Some(Proxy::start(listener, upstream)), public)
        } else {
            (None, origin(&sandbox_listener))
        };

        let mut settings = Settings::new(Issuer::parse(ISSUER).unwrap(), "node-1");
        settings.sign_up = true;
        settings.rescue_directory = Some(database.folder().to_owned());
        (setup.settings)(&mut settings);
        let rogue = Rogue::start().await;
        let provider = ProviderClient::new(
            OutboundPolicy {
                allowed_origins: vec![sandbox_origin.clone(), rogue.origin.clone()],
                deadline: setup.deadline,
                ..OutboundPolicy::default()
            },
            Catalogue::built_in().unwrap(),
            Arc::new(SystemEntropy),
        )
        .unwrap();
        let (master_key, master_key_text) = LocalMasterKey::generate(&SystemEntropy);
        let master_key = Arc::new(master_key);
        let vault = open(&database, &master_key, &clock, &provider, settings.clone()).await;
        let sandbox_client = (
            "sandbox-client-id",
            seal::random_id(&SystemEntropy, "sbx_secret_"),
        );
        let seeded = seed(
            &vault,
            &sandbox_origin,
            (sandbox_client.0, &sandbox_client.1),
        )
        .await;
        let sandbox = Sandbox::new(SandboxConfig {
            base_url: sandbox_origin.clone(),
            clients: vec![SandboxClient {
                client_id: sandbox_client.0.to_owned(),
                client_secret: Some(sandbox_client.1.clone()),
                redirect_uris: vec![seeded.callback.clone()],
            }],
            accounts: ["alice", "bob"].map(person).to_vec(),
            behaviour: setup.behaviour,
            entropy: Arc::new(SystemEntropy),
            clock: {
                let clock = Arc::clone(&clock);
                Arc::new(move || clock.now())
            },
            state_file: None,
        });
        let mut servers = Vec::new();
        for (listener, router) in [
            (vault_listener, web::router(vault.clone(), setup.web)),
            (sandbox_listener, sandbox.router()),
        ] {
            servers.push(tokio::spawn(async move {
                web::serve(vec![listener], None, router, std::future::pending())
                    .await
                    .unwrap();
            }));
        }
        let origins = BTreeMap::from([(ISSUER.trim_end_matches('/').to_owned(), vault_origin)]);
        let mut leaks = Leaks::default();
        for secret in [PASSWORD, &sandbox_client.1] {
            leaks.secret(secret);
        }
        for registered in [
            &seeded.clients.web,
            &seeded.clients.api,
            &seeded.clients.worker,
        ] {
            leaks.secret(&registered.secret);
        }
        Self {
            db: database.open().await,
            agent: browser(&origins),
            vault,
            clock,
            sandbox,
            rogue,
            clients: seeded.clients,
            user: seeded.user,
            worker_key: seeded.worker_key,
            database,
            proxy,
            leaks,
            origins,
            master_key_text,
            master_key,
            settings,
            provider,
            sandbox_client,
            servers,
        }
    }

    /// A browser that has been nowhere yet.
    pub fn browser(&self) -> Agent {
        browser(&self.origins)
    }

    /// An absolute URL of the vault.
    pub fn url(&self, path: &str) -> String {
        format!("{ISSUER}{path}")
    }

    /// Where the first node really is.
    pub fn origin(&self) -> String {
        self.origins.values().next().unwrap().clone()
    }

    /// What stands between the vault and the sandbox, where [`Setup::proxied`] says so.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().unwrap()
    }

    /// How many token sets wait in the rescue journal.
    pub fn journal_files(&self) -> usize {
        std::fs::read_dir(self.database.folder())
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().ends_with(".json")
            })
            .count()
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Another vault over the same database, as a second node is one, with its own web side. Returns its origin, to be
    /// given to [`World::agent_at`].
    pub async fn second_node(&mut self, name: &str) -> (Vault, String) {
        let mut settings = self.settings.clone();
        settings.node = name.to_owned();
        let vault = open(
            &self.database,
            &self.master_key,
            &self.clock,
            &self.provider,
            settings,
        )
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let router = web::router(vault.clone(), WebOptions::default());
        self.servers.push(tokio::spawn(async move {
            web::serve(vec![listener], None, router, std::future::pending())
                .await
                .unwrap();
        }));
        (vault, origin)
    }

    /// A browser that reaches the vault at another node.
    pub fn agent_at(&self, origin: &str) -> Agent {
        browser(&BTreeMap::from([(
            ISSUER.trim_end_matches('/').to_owned(),
            origin.to_owned(),
        )]))
    }

    /// Changes the database behind the vault's back; returns the rows touched.
    pub async fn execute(&self, sql: &'static str, params: store::Params) -> u64 {
        database::execute(&self.db, sql, params).await
    }

    /// One number from the database.
    pub async fn count(&self, sql: &'static str, params: store::Params) -> i64 {
        let row = self.db.read_one(sql, params).await.unwrap().unwrap();
        row.int(0).unwrap()
    }

    /// The audit rows of an event, oldest first: outcome and reason.
    pub async fn audited(&self, event: &'static str) -> Vec<(String, Option<String>)> {
        let rows = self
            .db
            .read(
                "select outcome, reason from audit where event = $1 order by id",
                store::params![event],
            )
            .await
            .unwrap();
        rows.iter()
            .map(|row| {
                (
                    row.text(0).unwrap().to_owned(),
                    row.opt_text(1).unwrap().map(str::to_owned),
                )
            })
            .collect()
    }

    /// Registers one more client, enabled for the sandbox, with user grants for the My Account API.
    pub async fn register(&mut self, new: NewClient) -> Registered {
        let connection = self
            .vault
            .find_connection("sandbox")
            .await
            .unwrap()
            .unwrap();
        let registered = register(&self.vault, new).await;
        grant_my_account(&self.vault, &registered.client).await;
        self.vault
            .enable_connection(&connection.id, &registered.client.client_id)
            .await
            .unwrap();
        self.leaks.secret(&registered.secret);
        registered
    }

    /// Makes one more connection to the sandbox, enabled for the web client.
    pub async fn another_connection(&mut self, name: &str) -> Connection {
        let (client_id, secret) = &self.sandbox_client;
        let new = sandbox_connection(name, self.sandbox.base_url(), (client_id, secret));
        let connection = self.enabled(new).await;
        self.sandbox
            .allow_redirect_uri(client_id, &connection.callback_uri(&self.vault));
        connection
    }

    /// Makes a connection that the web client may use.
    async fn enabled(&self, new: NewConnection) -> Connection {
        let connection = self.vault.create_connection(new).await.unwrap();
        let web = &self.clients.web.client.client_id;
        self.vault
            .enable_connection(&connection.id, web)
            .await
            .unwrap();
        connection
    }

    /// Makes a connection to the simulated provider of a fixture, under the fixture's name, enabled for the web client.
    pub async fn simulated(&mut self, fixture: &str) -> Connection {
        let fixture = Fixture::find(fixture).unwrap_or_else(|| panic!("no fixture {fixture}"));
        let facts = &fixture.connection;
        let mut options: ConnectionOptions =
            serde_json::from_value(serde_json::Value::Object(facts.options.clone())).unwrap();
        options.variables = facts.variables.clone();
        options.simulator = Some(self.sandbox.simulator_url(&fixture.name));
        let new = NewConnection {
            name: fixture.name.clone(),
            strategy: fixture.strategy.clone(),
            display_name: fixture.title.clone(),
            client_id: sandbox::CLIENT_ID.to_owned(),
            client_secret: Some(SecretString::new(sandbox::CLIENT_SECRET.to_owned())),
            options,
            scopes: facts.scopes.clone(),
        };
        self.enabled(new).await
    }

    /// Remembers a secret of the story, to be looked for at its end.
    pub fn secret(&mut self, text: &str) {
        self.leaks.secret(text);
    }

    async fn check_leaks(&mut self) {
        for token in self.sandbox.issued_tokens() {
            self.leaks.secret(&token);
        }
        let cookies: Vec<String> = self.agent.cookie_values().map(str::to_owned).collect();
        for cookie in cookies.iter().filter(|cookie| cookie.len() > 40) {
            self.leaks.secret(cookie);
        }
        let dump = self.database.dump(&self.db).await;
        self.leaks.check(&dump);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

struct Seeded {
    clients: Clients,
    user: User,
    worker_key: SigningKey,
    callback: String,
}

async fn open(
    database: &Database,
    master_key: &Arc<LocalMasterKey>,
    clock: &Arc<MovableClock>,
    provider: &ProviderClient,
    settings: Settings,
) -> Vault {
    let master_key: Arc<dyn KeyEncryption> = Arc::clone(master_key) as _;
    Vault::open(Parts {
        db: database.open().await,
        master_key,
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SystemEntropy),
        provider: provider.clone(),
        settings,
    })
    .await
    .unwrap()
}

async fn seed(vault: &Vault, sandbox_url: &str, sandbox_client: (&str, &str)) -> Seeded {
    let me = vault.settings().issuer.me_audience();
    let api_scopes = words(&["read:reports", "write:reports"]);
    vault
        .create_api(NewApi {
            identifier: DEMO_API.to_owned(),
            name: "Reports".to_owned(),
            scopes: api_scopes
                .iter()
                .map(|scope| scope.as_str().into())
                .collect(),
            ..NewApi::default()
        })
        .await
        .unwrap();
    let policies = vec![
        ResourcePolicy {
            audience: me,
            scope: words(&MY_ACCOUNT_SCOPES),
        },
        ResourcePolicy {
            audience: DEMO_API.to_owned(),
            scope: api_scopes.clone(),
        },
    ];
    let web = register(
        vault,
        NewClient {
            name: "Web".to_owned(),
            grant_types: words(&[
                grant::AUTHORIZATION_CODE,
                grant::CLIENT_CREDENTIALS,
                grant::REFRESH_TOKEN,
                grant::TOKEN_EXCHANGE,
                grant::TOKEN_VAULT,
            ]),
            callbacks: words(&[WEB_CALLBACK]),
            allowed_logout_urls: words(&["https://app.test/"]),
            allowed_origins: words(&["https://app.test"]),
            refresh_token: RefreshTokenPolicy {
                policies: policies.clone(),
                ..RefreshTokenPolicy::default()
            },
            ..NewClient::default()
        },
    )
    .await;
    let spa = register(
        vault,
        NewClient {
            name: "Single page".to_owned(),
            app_type: AppType::Spa,
            token_endpoint_auth_method: TokenEndpointAuthMethod::None,
            grant_types: words(&[grant::AUTHORIZATION_CODE, grant::REFRESH_TOKEN]),
            callbacks: words(&[SPA_CALLBACK]),
            refresh_token: RefreshTokenPolicy {
                rotation_type: Rotation::Rotating,
                policies,
                ..RefreshTokenPolicy::default()
            },
            ..NewClient::default()
        },
    )
    .await;
    let api = register(
        vault,
        NewClient {
            name: "Reports API".to_owned(),
            app_type: AppType::ResourceServer,
            grant_types: words(&[grant::TOKEN_VAULT]),
            resource_server_identifier: Some(DEMO_API.to_owned()),
            ..NewClient::default()
        },
    )
    .await;
    let worker = register(
        vault,
        NewClient {
            name: "Worker".to_owned(),
            app_type: AppType::NonInteractive,
            grant_types: words(&[grant::TOKEN_VAULT]),
            privileged_access: Some(PrivilegedAccess {
                ip_allowlist: words(&["127.0.0.0/8", "::1"]),
                grants: vec![PrivilegedGrant {
                    connection: "sandbox".to_owned(),
                    scopes: words(&SANDBOX_SCOPES),
                }],
            }),
            ..NewClient::default()
        },
    )
    .await;
    grant_my_account(vault, &web.client).await;
    grant_my_account(vault, &spa.client).await;
    vault
        .create_client_grant(
            &web.client.client_id,
            DEMO_API,
            SubjectType::Client,
            api_scopes,
        )
        .await
        .unwrap();
    let worker_key = SigningKey::generate(Algorithm::Es256).unwrap();
    vault
        .create_client_key(
            &worker.client.client_id,
            KeyPurpose::PrivilegedAccess,
            Algorithm::Es256,
            &worker_key.public_jwk("worker-key-1"),
            None,
        )
        .await
        .unwrap();
    let connection = vault
        .create_connection(sandbox_connection("sandbox", sandbox_url, sandbox_client))
        .await
        .unwrap();
    for registered in [&web, &spa, &api, &worker] {
        vault
            .enable_connection(&connection.id, &registered.client.client_id)
            .await
            .unwrap();
    }
    let user = vault
        .create_user(NewUser {
            username: USERNAME.to_owned(),
            password: SecretString::new(PASSWORD.to_owned()),
            email: Some(USERNAME.to_owned()),
            name: Some("Dana".to_owned()),
        })
        .await
        .unwrap();
    Seeded {
        callback: connection.callback_uri(vault),
        clients: Clients {
            web,
            spa,
            api,
            worker,
        },
        user,
        worker_key,
    }
}

fn sandbox_connection(name: &str, issuer: &str, client: (&str, &str)) -> NewConnection {
    NewConnection {
        name: name.to_owned(),
        strategy: "sandbox".to_owned(),
        display_name: "Sandbox".to_owned(),
        client_id: client.0.to_owned(),
        client_secret: Some(SecretString::new(client.1.to_owned())),
        options: ConnectionOptions {
            issuer: Some(issuer.to_owned()),
            ..ConnectionOptions::default()
        },
        scopes: words(&SANDBOX_SCOPES),
    }
}

async fn register(vault: &Vault, new: NewClient) -> Registered {
    let (client, secret) = vault.create_client(new).await.unwrap();
    Registered {
        client,
        secret: secret
            .map(|secret| secret.reveal().to_owned())
            .unwrap_or_default(),
    }
}

async fn grant_my_account(vault: &Vault, client: &Client) {
    let me = vault.settings().issuer.me_audience();
    vault
        .create_client_grant(
            &client.client_id,
            &me,
            SubjectType::User,
            words(&MY_ACCOUNT_SCOPES),
        )
        .await
        .unwrap();
}

fn browser(origins: &BTreeMap<String, String>) -> Agent {
    let detours: Vec<(&str, &str)> = origins.iter().map(|(from, to)| (&**from, &**to)).collect();
    Agent::with_detours(&detours).unwrap()
}

fn person(name: &str) -> SandboxAccount {
    SandboxAccount {
        username: format!("{name}@sandbox.example"),
        password: "sandbox password".to_owned(),
        subject: format!("sandbox-{name}"),
        email: format!("{name}@sandbox.example"),
        name: name.to_owned(),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
