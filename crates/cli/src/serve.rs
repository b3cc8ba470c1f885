//! `tokenvault serve`: the production start.

use std::sync::Arc;

use anyhow::{Context, Result};
use provider::ProviderClient;
use seal::LocalMasterKey;
use tokio::net::TcpListener;
use vault::Vault;
use web::WebOptions;

use crate::config::{Config, MasterKeySource};
use crate::material;
use crate::start::{self, Outbound};

/// Reads what a start would read, and says what is wrong with it. Changes nothing, opens no database and listens nowhere.
pub(crate) fn check(config: &Config) -> Result<()> {
    tls(config)?;
    read_master_key(config)?;
    provider(config)?;
    Ok(())
}

/// Opens everything that the configuration names, and only then listens.
pub(crate) async fn run(config: Config) -> Result<()> {
    let tls = tls(&config)?;
    let vault = open(&config).await?;
    let mut listeners = Vec::with_capacity(config.listen.len());
    for address in &config.listen {
        listeners.push(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen at {address}"))?,
        );
    }
    let issuer = vault.settings().issuer.as_str();
    tracing::info!(issuer, addresses = ?config.listen, "serving");
    let upkeep = start::keep_up(vault.clone());
    let router = web::router(
        vault.clone(),
        WebOptions {
            trusted_proxies: config.trusted_proxies,
            ..WebOptions::default()
        },
    );
    web::serve(listeners, tls, router, start::asked_to_stop()).await?;
    drop(upkeep);
    start::land(&vault).await;
    tracing::info!("stopped");
    Ok(())
}

/// Opens the vault of a configuration: master key, folders, database.
pub(crate) async fn open(config: &Config) -> Result<Vault> {
    let master_key = read_master_key(config)?;
    let provider = provider(config)?;
    if let Some(directory) = &config.settings.rescue_directory {
        material::private_folder(directory)?;
    }
    start::open_vault(
        config.settings.clone(),
        &config.database_url,
        config.pool_size,
        master_key,
        provider,
    )
    .await
}

/// What this server's own TLS needs; nothing where a proxy ends it.
fn tls(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>> {
    let files = config.tls.as_ref();
    files
        .map(|files| material::tls_config(&files.certificate, &files.private_key))
        .transpose()
}

fn read_master_key(config: &Config) -> Result<LocalMasterKey> {
    match &config.master_key {
        MasterKeySource::File(path) => material::read_master_key(path),
        MasterKeySource::Environment { name, value } => LocalMasterKey::from_text(value.reveal())
            .with_context(|| format!("the master key in the environment variable {name}")),
    }
}

/// The way out to the providers, with the deployment's own profiles and certificate authorities.
fn provider(config: &Config) -> Result<ProviderClient> {
    let extra_root_certificates_pem = match &config.ca_file {
        Some(path) => vec![
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        ],
        None => vec![],
    };
    start::provider(Outbound {
        allowed_origins: config.allowed_origins.clone(),
        allowed_networks: config.allowed_networks.clone(),
        extra_root_certificates_pem,
        deadline: config.provider_deadline,
        providers_folder: config.providers_folder.clone(),
    })
}
