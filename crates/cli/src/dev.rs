//! `tokenvault dev`: a whole deployment on this machine, with a provider beside it, and nothing to set up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use provider::ConnectionOptions;
use sandbox::{Fixture, Sandbox, SandboxAccount, SandboxClient, SandboxConfig};
use seal::{SecretString, SystemEntropy};
use serde::Deserialize;
use tokio::net::TcpListener;
use vault::{Clock, Issuer, NewConnection, Settings, SystemClock, Vault};
use web::WebOptions;

use crate::dev_file::DevFile;
use crate::material;
use crate::seed;
use crate::start::{self, Outbound};

/// What `dev` can be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DevArgs {
    /// The folder that holds everything this deployment keeps.
    #[arg(long, value_name = "DIR", default_value = "./.tokenvault")]
    pub(crate) data: PathBuf,
    /// The vault's port; the sandbox provider takes the next one.
    #[arg(long, value_name = "N", default_value_t = 8443)]
    pub(crate) port: u16,
    /// The name the vault is reached by; it has to lead to this machine (localhost, or a line in the hosts file).
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub(crate) domain: String,
    /// Makes further connections from a TOML file at the first start ([[connection]] name, strategy, client_id, ...).
    #[arg(long, value_name = "FILE")]
    pub(crate) connections: Option<PathBuf>,
    /// A folder of provider profiles of your own.
    #[arg(long, value_name = "DIR")]
    pub(crate) providers: Option<PathBuf>,
    /// Makes a connection to a simulation of a provider, such as github-expiring or slack-rotating (repeatable;
    /// `tokenvault providers simulated` lists them all). Other connections of its strategy ask the simulation, too.
    #[arg(long, value_name = "FIXTURE")]
    pub(crate) simulate: Vec<String>,
    /// Lets the vault reach a provider at this origin although its address is private (repeatable).
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Trusts the certificate authority in this PEM file when asking providers (repeatable).
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_ca: Vec<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log: String,
}

/// A file of further connections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionsFile {
    #[serde(default)]
    connection: Vec<ConnectionEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionEntry {
    name: String,
    strategy: String,
    #[serde(default)]
    display_name: String,
    client_id: String,
    client_secret: Option<SecretString>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    options: ConnectionOptions,
}

/// A deployment that runs in this process.
pub(crate) struct Running {
    pub(crate) dev: DevFile,
    pub(crate) first_start: bool,
    vault: Vault,
    _upkeep: start::Upkeep,
    servers: tokio::task::JoinSet<Result<()>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Running {
    /// Ends the servers and waits for what is in flight.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let _ = self.stop.send(true);
        while let Some(ended) = self.servers.join_next().await {
            ended??;
        }
        start::land(&self.vault).await;
        Ok(())
    }

    /// Ends with the first server that fails, which none should.
    async fn failed(&mut self) -> Result<()> {
        match self.servers.join_next().await {
            Some(ended) => ended?,
            None => Ok(()),
        }
    }
}

/// Runs until it is asked to stop.
pub(crate) async fn run(args: DevArgs) -> Result<()> {
    let mut running = start(&args).await?;
    crate::guide::print(&running.dev, &args, running.first_start)?;
    tokio::select! {
        failed = running.failed() => failed.context("a server ended")?,
        () = start::asked_to_stop() => {}
    }
    eprintln!("stopping");
    running.stop().await
}

/// Makes what is missing in the folder, opens the vault and listens.
pub(crate) async fn start(args: &DevArgs) -> Result<Running> {
    let sandbox_port = args
        .port
        .checked_add(1)
        .context("--port: the sandbox needs the next port, so 65535 is too high")?;
    // Found first: nothing is made for a simulation that does not exist.
    let simulations = args
        .simulate
        .iter()
        .map(|name| simulation(name))
        .collect::<Result<Vec<_>>>()?;
    material::private_folder(&args.data)?;
    let directory = std::fs::canonicalize(&args.data)?;

    // Bound first: nothing is made for a port that is taken.
    let vault_listeners = listen(args.port).await?;
    let sandbox_listeners = listen(sandbox_port).await?;

    let origin = |port: u16| match port {
        443 => format!("https://{}", args.domain),
        port => format!("https://{}:{port}", args.domain),
    };
    let issuer = Issuer::parse(&origin(args.port)).context("--domain")?;
    let sandbox_url = origin(sandbox_port);
    let now = SystemClock.now();
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if args.domain != "localhost" {
        names.push(args.domain.clone());
    }
    let tls = material::local_tls(&directory, &names, now)?;

    let existing = DevFile::read(&directory)?;
    if let Some(dev) = &existing
        && dev.issuer != issuer.as_str()
    {
        bail!(
            "{} was made for {}; give another folder with --data, or the same --domain and --port",
            directory.display(),
            dev.issuer
        );
    }
    if existing.is_none() && database_file(&directory).exists() {
        bail!(
            "{} was left half made by a first start that failed; remove it and start again",
            directory.display()
        );
    }
    let master_key_file = master_key_file(&directory);
    if !master_key_file.exists() {
        let (_, text) = seal::LocalMasterKey::generate(&SystemEntropy);
        material::write_secret(&master_key_file, text.reveal())?;
    }

    let vault = open(
        Folder {
            directory: &directory,
            ca_file: &tls.ca,
            issuer,
            sandbox_url: &sandbox_url,
        },
        Beside {
            simulations: &simulations,
            trust_ca: &args.trust_ca,
            allow_origin: &args.allow_origin,
            providers: args.providers.as_deref(),
        },
    )
    .await?;
    let first_start = existing.is_none();
    let dev = match existing {
        Some(dev) => dev,
        None => {
            let client_id = seal::random_id(&SystemEntropy, "tokenvault_");
            let client_secret = seal::random_id(&SystemEntropy, "sandbox_secret_");
            let dev = seed::seed(
                &vault,
                &directory,
                &tls.ca,
                &sandbox_url,
                (&client_id, &client_secret),
            )
            .await?;
            if let Some(file) = &args.connections {
                add_connections(&vault, &dev, file).await?;
            }
            dev.write(&directory)?;
            dev
        }
    };

    for fixture in simulations {
        simulate(&vault, &dev, fixture).await?;
    }

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    let tls_config = material::tls_config(&tls.certificate, &tls.private_key)?;
    let callback = match vault.find_connection(seed::CONNECTION).await {
        Ok(Some(connection)) => connection.callback_uri(&vault),
        Ok(None) => bail!("the connection '{}' is missing", seed::CONNECTION),
        Err(error) => bail!("reading the connection '{}': {error:?}", seed::CONNECTION),
    };
    let sandbox = sandbox(&dev, callback, directory.join("sandbox.json"));
    let upkeep = start::keep_up(vault.clone());
    let router = web::router(vault.clone(), WebOptions::default());
    for (listeners, router) in [
        (vault_listeners, router),
        (sandbox_listeners, sandbox.router()),
    ] {
        let mut stopped = stopped.clone();
        let tls_config = Arc::clone(&tls_config);
        servers.spawn(async move {
            let stop = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            web::serve(listeners, Some(tls_config), router, stop).await?;
            Ok(())
        });
    }
    Ok(Running {
        dev,
        first_start,
        vault,
        servers,
        stop,
        _upkeep: upkeep,
    })
}

fn database_file(directory: &Path) -> PathBuf {
    directory.join("vault.db")
}

fn master_key_file(directory: &Path) -> PathBuf {
    directory.join("master.key")
}

/// Where a deployment of a folder is, and what its issuer and its provider are called.
struct Folder<'a> {
    directory: &'a Path,
    ca_file: &'a Path,
    issuer: Issuer,
    sandbox_url: &'a str,
}

/// What `dev` is told beside.
#[derive(Default)]
struct Beside<'a> {
    simulations: &'a [&'a Fixture],
    trust_ca: &'a [PathBuf],
    allow_origin: &'a [String],
    providers: Option<&'a Path>,
}

/// Opens the vault of a folder that a `dev` made, for work beside its database. It may be running.
pub(crate) async fn open_beside(directory: &Path, dev: &DevFile) -> Result<Vault> {
    let folder = Folder {
        directory,
        ca_file: &dev.ca_file,
        issuer: Issuer::parse(&dev.issuer).context("the issuer in dev.json")?,
        sandbox_url: &dev.sandbox.base_url,
    };
    open(folder, Beside::default()).await
}

async fn open(folder: Folder<'_>, beside: Beside<'_>) -> Result<Vault> {
    let Folder {
        directory,
        ca_file,
        issuer,
        sandbox_url,
    } = folder;
    let mut settings = Settings::new(issuer, "dev");
    settings.sign_up = true;
    let rescue = directory.join("rescue");
    material::private_folder(&rescue)?;
    settings.rescue_directory = Some(rescue);
    settings.simulators = beside
        .simulations
        .iter()
        .map(|fixture| (fixture.strategy.clone(), fixture.simulator(sandbox_url)))
        .collect();
    let mut authorities = vec![
        std::fs::read_to_string(ca_file)
            .with_context(|| format!("cannot read {}", ca_file.display()))?,
    ];
    for file in beside.trust_ca {
        authorities.push(
            std::fs::read_to_string(file)
                .with_context(|| format!("--trust-ca: cannot read {}", file.display()))?,
        );
    }
    let mut allowed_origins = vec![sandbox_url.to_owned()];
    allowed_origins.extend(beside.allow_origin.iter().cloned());
    start::open_vault(
        settings,
        &format!("sqlite:{}", database_file(directory).display()),
        1,
        material::read_master_key(&master_key_file(directory))?,
        start::provider(Outbound {
            allowed_origins,
            allowed_networks: Vec::<IpNet>::new(),
            extra_root_certificates_pem: authorities,
            deadline: Duration::from_secs(10),
            providers_folder: beside.providers.map(Path::to_owned),
        })?,
    )
    .await
}

/// Both loopback addresses: what `localhost` means differs between programs. IPv6 may be missing.
async fn listen(port: u16) -> Result<Vec<TcpListener>> {
    let first = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let mut listeners =
        vec![TcpListener::bind(first).await.with_context(|| {
            format!("cannot listen at {first}; choose another port with --port")
        })?];
    let second = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    match TcpListener::bind(second).await {
        Ok(listener) => listeners.push(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return Err(error).with_context(|| {
                format!("cannot listen at {second}; choose another port with --port")
            });
        }
        Err(_no_ipv6) => {}
    }
    Ok(listeners)
}

fn sandbox(dev: &DevFile, callback: String, state_file: PathBuf) -> Sandbox {
    let accounts = dev
        .sandbox
        .accounts
        .iter()
        .map(|login| {
            let name = login.username.split('@').next().unwrap_or_default();
            SandboxAccount {
                username: login.username.clone(),
                password: login.password.clone(),
                subject: format!("sandbox-{name}"),
                email: login.username.clone(),
                name: name.to_owned(),
            }
        })
        .collect();
    Sandbox::new(SandboxConfig {
        base_url: dev.sandbox.base_url.clone(),
        clients: vec![SandboxClient {
            client_id: dev.sandbox.client_id.clone(),
            client_secret: Some(dev.sandbox.client_secret.clone()),
            redirect_uris: vec![callback],
        }],
        accounts,
        behaviour: sandbox::Behaviour::default(),
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(|| SystemClock.now()),
        state_file: Some(state_file),
    })
}

fn simulation(name: &str) -> Result<&'static Fixture> {
    Fixture::find(name).with_context(|| {
        format!(
            "--simulate: there is no simulation '{name}'; tokenvault providers simulated lists them"
        )
    })
}

/// Makes a connection to a simulated provider, under the fixture's name, where there is none yet.
async fn simulate(vault: &Vault, dev: &DevFile, fixture: &Fixture) -> Result<()> {
    let facts = &fixture.connection;
    let options = serde_json::Value::Object(facts.options.clone());
    let mut options: ConnectionOptions = serde_json::from_value(options)
        .with_context(|| format!("the simulation '{}'", fixture.name))?;
    options.variables.clone_from(&facts.variables);
    options.simulator = Some(fixture.simulator(&dev.sandbox.base_url));
    let client_secret = if fixture.token.proof_is_assertion() {
        seal::SigningKey::generate(seal::Algorithm::Rs256).and_then(|key| key.to_pem())?
    } else {
        SecretString::new(sandbox::CLIENT_SECRET.to_owned())
    };
    let entry = ConnectionEntry {
        name: fixture.name.clone(),
        strategy: fixture.strategy.clone(),
        display_name: fixture.title.clone(),
        client_id: sandbox::CLIENT_ID.to_owned(),
        client_secret: Some(client_secret),
        scopes: facts.scopes.clone(),
        options,
    };
    let existing = vault
        .find_connection(&entry.name)
        .await
        .map_err(crate::said)?;
    match existing {
        Some(_) => Ok(()),
        None => add_connection(vault, dev, entry).await,
    }
}

/// Makes the connections of a file and enables them for every demo client.
async fn add_connections(vault: &Vault, dev: &DevFile, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--connections: cannot read {}", file.display()))?;
    let parsed: ConnectionsFile =
        toml::from_str(&text).with_context(|| format!("--connections: {}", file.display()))?;
    for entry in parsed.connection {
        add_connection(vault, dev, entry).await?;
    }
    Ok(())
}

async fn add_connection(vault: &Vault, dev: &DevFile, entry: ConnectionEntry) -> Result<()> {
    let name = entry.name.clone();
    let connection = vault
        .create_connection(NewConnection {
            name: entry.name,
            strategy: entry.strategy,
            display_name: entry.display_name,
            client_id: entry.client_id,
            client_secret: entry.client_secret,
            options: entry.options,
            scopes: entry.scopes,
        })
        .await
        .map_err(crate::said)
        .with_context(|| format!("the connection '{name}'"))?;
    println!(
        "connection {name}: callback {}",
        connection.callback_uri(vault)
    );
    let clients = &dev.clients;
    for client in [&clients.web, &clients.spa, &clients.api, &clients.worker] {
        vault
            .enable_connection(&connection.id, &client.client_id)
            .await
            .map_err(crate::said)
            .with_context(|| format!("the connection '{name}'"))?;
    }
    Ok(())
}
