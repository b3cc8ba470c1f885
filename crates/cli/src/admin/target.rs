//! Which vault a command speaks to, and as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use seal::SecretString;
use url::Url;

use crate::admin::profile::Profiles;
use crate::admin::secret_input;
use crate::admin::transport::{HttpTransport, Transport, http_client};
use crate::dev_file::DevFile;

/// Which vault: `--local`, `--url`, a profile, or the development vault of this folder, in this order.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which vault")]
pub(crate) struct TargetArgs {
    /// A profile (`tokenvault profile add`).
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "TOKENVAULT_ADMIN_PROFILE"
    )]
    profile: Option<String>,
    /// The vault's address.
    #[arg(long, global = true, value_name = "URL", env = "TOKENVAULT_ADMIN_URL")]
    url: Option<String>,
    /// A client with a grant for the Management API.
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "TOKENVAULT_ADMIN_CLIENT_ID"
    )]
    client_id: Option<String>,
    /// A file with the client's secret, or - for standard input.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOKENVAULT_ADMIN_CLIENT_SECRET_FILE"
    )]
    client_secret_file: Option<PathBuf>,
    /// An authority to trust beside the system's.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOKENVAULT_ADMIN_CA_FILE"
    )]
    ca_file: Option<PathBuf>,
    /// The vault of this machine, beside its database and master key: the configuration file of `serve`. Nothing has to be
    /// running, and nobody's permission is needed.
    #[arg(long, global = true, value_name = "CONFIG", conflicts_with_all = ["url", "profile"])]
    local: Option<PathBuf>,
    /// The folder of a development vault (`tokenvault dev`).
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "./.tokenvault"
    )]
    data: PathBuf,
}

/// A vault that was found.
pub(crate) struct Target {
    pub(crate) transport: Transport,
    /// Its issuer, with a slash at its end.
    pub(crate) issuer: String,
    /// For requests that are no administrator's.
    pub(crate) client: reqwest::Client,
    /// Whether it is in this process.
    pub(crate) is_local: bool,
}

impl TargetArgs {
    /// Finds the vault. Nothing is asked of it yet.
    pub(crate) async fn open(&self) -> Result<Target> {
        if let Some(config) = &self.local {
            let config = crate::load(Some(config))?;
            let vault = crate::serve::open(&config).await?;
            let issuer = vault.settings().issuer.as_str().to_owned();
            let router = web::router(vault, web::WebOptions::default());
            return Ok(Target {
                transport: Transport::Local(router),
                issuer,
                client: http_client(self.ca_file.as_deref())?,
                is_local: true,
            });
        }
        if let Some(url) = &self.url {
            let client_id = self
                .client_id
                .clone()
                .context("--client-id is missing beside --url")?;
            let secret =
                secret_input::secret(self.client_secret_file.as_deref(), "The client's secret")?;
            return over_http(url, client_id, secret, self.ca_file.as_deref());
        }
        let profiles = Profiles::load()?;
        if let Some(profile) = profiles.find(self.profile.as_deref())? {
            let secret =
                secret_input::secret(Some(&profile.client_secret_file), "The client's secret")?;
            let ca_file = self.ca_file.as_deref().or(profile.ca_file.as_deref());
            return over_http(&profile.url, profile.client_id.clone(), secret, ca_file);
        }
        let Some(dev) = DevFile::read(&self.data)? else {
            bail!(
                "which vault? Name it with --url and --client-id, remember it with `tokenvault profile add`, or give the \
                 configuration file of the one on this machine with --local"
            );
        };
        over_http(
            &dev.issuer,
            dev.management.client_id,
            SecretString::new(dev.management.client_secret),
            Some(&dev.ca_file),
        )
    }
}

fn over_http(
    url: &str,
    client_id: String,
    secret: SecretString,
    ca_file: Option<&Path>,
) -> Result<Target> {
    let parsed = Url::parse(url).with_context(|| format!("'{url}' is no address"))?;
    let is_loopback = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if parsed.scheme() != "https" && !is_loopback {
        bail!("{url}: a client's secret is sent over https only");
    }
    let issuer = format!("{}/", url.trim_end_matches('/'));
    let client = http_client(ca_file)?;
    let http = HttpTransport::new(client.clone(), issuer.clone(), client_id, secret);
    Ok(Target {
        transport: Transport::Http(http),
        issuer,
        client,
        is_local: false,
    })
}
