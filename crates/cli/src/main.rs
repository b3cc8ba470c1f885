//! `tokenvault`: the command line.

mod config;
mod demo;
mod dev;
mod dev_file;
mod dev_token;
mod guide;
mod journey;
mod material;
mod providers;
mod seed;
mod serve;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

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
    /// Print a subject token for trying an exchange against a running `tokenvault dev`
    DevToken(dev_token::DevTokenArgs),
    /// Make and look after keys
    #[command(subcommand)]
    Key(KeyCommand),
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
        /// Check the configuration and stop.
        #[arg(long)]
        check: bool,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a master key
    ///
    /// The master key wraps every other key. Losing it loses every provider token; keep a copy away from the backups
    /// of the database.
    Generate {
        /// Where to write it; the file must not exist yet. Readable by its owner only.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Let the next signing key sign
    ///
    /// The one that signed until now goes on verifying for 30 days. Keys rotate by themselves every 90 days; this is
    /// for when somebody asks for it sooner. Nodes that run take it up at their next signature.
    Rotate {
        /// The configuration file of the deployment, as for `serve`.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The algorithm: RS256, ES256 or EdDSA.
        #[arg(long, value_name = "ALG", default_value = "RS256")]
        alg: String,
    },
    /// Take a signing key out of use at once: every token that it signed is refused from now on, on every node
    Revoke {
        /// The configuration file of the deployment, as for `serve`.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
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
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    // reqwest and tokio-rustls ask for the process's provider where none is passed in.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command {
        Command::Demo => {
            start::start_logging("warn", false)?;
            demo::run().await
        }
        Command::Dev(args) => {
            start::start_logging(&args.log, false)?;
            dev::run(args).await
        }
        Command::DevToken(args) => dev_token::run(args).await,
        Command::Key(command) => key(command).await,
        Command::Providers(args) => providers::run(args),
        Command::Serve { config, check } => {
            let config = load(config.as_deref())?;
            if check {
                println!("the configuration is good");
                return Ok(());
            }
            start::start_logging(&config.log_level, config.log_json)?;
            serve::run(config).await
        }
    }
}

async fn key(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Generate { out } => {
            let (_, text) = seal::LocalMasterKey::generate(&seal::SystemEntropy);
            material::write_secret(&out, text.reveal())?;
            eprintln!("wrote a new master key to {}", out.display());
        }
        KeyCommand::Rotate { config, alg } => {
            let algorithm = seal::Algorithm::from_str(&alg)
                .with_context(|| format!("--alg: '{alg}' is not RS256, ES256 or EdDSA"))?;
            let vault = serve::open(&load(config.as_deref())?).await?;
            vault
                .rotate_signing_key(
                    &vault::Administrator::local(),
                    algorithm,
                    &vault::Caller::default(),
                )
                .await
                .map_err(said)?;
            eprintln!("the next {algorithm} key signs now");
        }
        KeyCommand::Revoke { config, kid } => {
            let vault = serve::open(&load(config.as_deref())?).await?;
            vault
                .revoke_signing_key(
                    &vault::Administrator::local(),
                    &kid,
                    &vault::Caller::default(),
                )
                .await
                .map_err(said)?;
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
