//! `tokenvault`: the command line.

mod admin;
mod config;
mod configuration_files;
mod demo;
mod dev;
mod dev_file;
mod dev_token;
mod guide;
mod import;
mod journey;
mod material;
mod providers;
mod seed;
mod serve;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use reqwest::Method;

use crate::admin::target::TargetArgs;
use crate::admin::{configuration, connect, doctor, exchange, logs, profile, resource, transport};

/// A request allocates a few hundred times, and futures of a few kilobytes are the slow case of the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted token vault: people connect their accounts at external providers once, and applications, APIs and
/// background workers get those providers' access tokens by token exchange.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole main job, step by step, in a temporary folder
    ///
    /// Starts a vault and a sandbox provider, logs a user in, connects an account, exchanges three kinds of subject
    /// tokens, refreshes and disconnects. Prints each request and answer with tokens shortened. Exits 0 when every
    /// step worked, 1 with the name of the step that did not.
    Demo,
    /// Start a vault for development, with a sandbox provider beside it and nothing to set up
    ///
    /// The first start makes keys, certificates, clients, a user and a connection in the data folder; later starts use
    /// them again. DIR/dev.json says everything a program needs to use it. Listens on loopback only.
    ///
    /// Packages that refuse a domain with a port (@auth0/ai, @auth0/nextjs-auth0) need port 443 and a name of the
    /// hosts file: tokenvault dev --domain vault.test --port 443
    Dev(dev::DevArgs),
    /// Print a token for trying out a running `tokenvault dev`: a subject token, or one for the Management API
    DevToken(dev_token::DevTokenArgs),
    /// Look after clients, their keys and their grants
    Client(Admin<resource::ClientCommand>),
    /// Look after connections
    Connection(Admin<resource::ConnectionCommand>),
    /// Look after APIs
    Api(Admin<resource::ApiCommand>),
    /// Look after users
    User(Admin<resource::UserCommand>),
    /// Look after users' connected accounts
    Account(Admin<resource::AccountCommand>),
    /// Make and look after keys
    #[command(alias = "key")]
    Keys(Admin<KeysCommand>),
    /// Read or follow the log
    Logs(Admin<logs::LogsCommand>),
    /// Write what is configured into a folder, one file an object
    Export(AdminArgs<configuration::ExportArgs>),
    /// Make what is configured like a folder: shows what differs, asks, and does all of it or nothing
    Apply(AdminArgs<configuration::ApplyArgs>),
    /// Bring accounts along that were connected elsewhere, with their tokens, from a file of JSON lines
    ///
    /// Works on the vault's own database, beside its master key; the vault may be running. Running the same command again
    /// goes on where an earlier one ended. docs/import.md describes the lines.
    Import(import::ImportArgs),
    /// Connect an account with a browser, as an application would, and keep the refresh token
    Connect(AdminArgs<connect::ConnectArgs>),
    /// Get a provider's token as a client would, for debugging
    Exchange(AdminArgs<exchange::ExchangeArgs>),
    /// Look at everything that has to be right, and say what to do where it is not
    Doctor(AdminArgs<NoArgs>),
    /// Remember vaults that are administered from this machine
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Print a script that completes this command in a shell
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// List the providers that connections can be made to, and show or check their profiles
    Providers(providers::ProvidersArgs),
    /// Start the vault for production
    ///
    /// Settings come from the file and from environment variables, which win: the setting `address` of the section
    /// [listen] is TOKENVAULT_LISTEN_ADDRESS, lists are written with commas. A wrong or unknown setting is an error
    /// that names it, before anything listens. tokenvault.example.toml documents every setting.
    Serve {
        /// The configuration file; without it everything comes from the environment.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Read the configuration and every file it names, say what is wrong, and stop. Changes nothing.
        #[arg(long)]
        check: bool,
    },
}

/// A group of commands about a vault.
#[derive(Debug, Args)]
struct Admin<C: Subcommand> {
    #[command(flatten)]
    target: TargetArgs,
    /// Prints what the Management API answers, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: C,
}

/// One command about a vault.
#[derive(Debug, Args)]
struct AdminArgs<A: Args> {
    #[command(flatten)]
    target: TargetArgs,
    /// Prints what the Management API answers, for programs.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    args: A,
}

/// Nothing more to say.
#[derive(Debug, Args)]
struct NoArgs {}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a master key
    ///
    /// The master key wraps every other key. Losing it loses every provider token; keep a copy away from the backups
    /// of the database.
    Generate {
        /// Where to write it; the file must not exist yet. Readable by its owner only.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List signing keys
    List,
    /// Let the next signing key sign
    ///
    /// The one that signed until now goes on verifying for 30 days. Keys rotate by themselves every 90 days; this is
    /// for when somebody asks for it sooner. Nodes that run take it up at their next signature.
    Rotate {
        /// The algorithm: RS256, ES256 or EdDSA.
        #[arg(long, value_name = "ALG", default_value = "RS256")]
        alg: String,
    },
    /// Take a signing key out of use at once: every token that it signed is refused from now on, on every node
    Revoke {
        /// The key's id, as the JWKS says it.
        kid: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // docs/cli.md lists them.
            if let Some(failure) = error.downcast_ref::<transport::Failure>() {
                ExitCode::from(failure.exit_code())
            } else if error.is::<import::InPart>() {
                ExitCode::from(import::InPart::EXIT_CODE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    // reqwest and tokio-rustls ask for the process's provider where none is passed in.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command {
        Command::Demo => {
            let _log = start::start_logging("warn", false)?;
            demo::run().await
        }
        Command::Dev(args) => {
            let _log = start::start_logging(&args.log, false)?;
            dev::run(args).await
        }
        Command::DevToken(args) => dev_token::run(args).await,
        Command::Client(admin) => {
            resource::client(&admin.target.open().await?, admin.command, admin.json).await
        }
        Command::Connection(admin) => {
            resource::connection(&admin.target.open().await?, admin.command, admin.json).await
        }
        Command::Api(admin) => {
            resource::api(&admin.target.open().await?, admin.command, admin.json).await
        }
        Command::User(admin) => {
            resource::user(&admin.target.open().await?, admin.command, admin.json).await
        }
        Command::Account(admin) => {
            resource::account(&admin.target.open().await?, admin.command, admin.json).await
        }
        Command::Keys(admin) => keys(admin).await,
        Command::Logs(admin) => {
            logs::run(&admin.target.open().await?, admin.command, admin.json).await
        }
        Command::Export(admin) => {
            configuration::export(&admin.target.open().await?, admin.args).await
        }
        Command::Apply(admin) => {
            configuration::apply(&admin.target.open().await?, admin.args, admin.json).await
        }
        Command::Import(args) => {
            let _log = start::start_logging("warn", false)?;
            import::run(args).await
        }
        Command::Connect(admin) => connect::run(&admin.target.open().await?, admin.args).await,
        Command::Exchange(admin) => {
            exchange::run(&admin.target.open().await?, admin.args, admin.json).await
        }
        Command::Doctor(admin) => doctor::run(&admin.target.open().await?, admin.json).await,
        Command::Profile(command) => profile::run(command),
        Command::Completion { shell } => {
            let name = "tokenvault";
            clap_complete::generate(shell, &mut Cli::command(), name, &mut std::io::stdout());
            Ok(())
        }
        Command::Providers(args) => providers::run(args),
        Command::Serve { config, check } => {
            let config = load(config.as_deref())?;
            let _log = start::start_logging(&config.log_level, config.log_json)?;
            if check {
                serve::check(&config)?;
                println!("the configuration is good");
                return Ok(());
            }
            serve::run(config).await
        }
    }
}

async fn keys(admin: Admin<KeysCommand>) -> Result<()> {
    match admin.command {
        KeysCommand::Generate { out } => {
            let (_, text) = seal::LocalMasterKey::generate(&seal::SystemEntropy);
            material::write_secret(&out, text.reveal())?;
            eprintln!("wrote a new master key to {}", out.display());
        }
        KeysCommand::List => {
            resource::signing_keys(&admin.target.open().await?, admin.json).await?;
        }
        KeysCommand::Rotate { alg } => {
            let target = admin.target.open().await?;
            let path = format!("keys/signing/rotate?alg={}", transport::encoded(&alg));
            let key = target.transport.call(Method::POST, &path, None).await?;
            resource::show(&key, admin.json)?;
        }
        KeysCommand::Revoke { kid } => {
            let target = admin.target.open().await?;
            let path = format!("keys/signing/{}/revoke", transport::encoded(&kid));
            target.transport.call(Method::PUT, &path, None).await?;
            eprintln!("the key {kid} is revoked");
        }
    }
    Ok(())
}

pub(crate) fn load(file: Option<&std::path::Path>) -> Result<config::Config> {
    config::Config::load(file, std::env::vars()).context("the configuration is wrong")
}

/// What the vault said, as an error of the command line.
pub(crate) fn said(error: vault::Error) -> anyhow::Error {
    match error {
        vault::Error::Refused(refusal) => anyhow::anyhow!("{}", refusal.description()),
        vault::Error::Fault(fault) => anyhow::anyhow!("{fault}"),
    }
}
