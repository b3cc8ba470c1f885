//! `DIR/dev.json`: what a person or a test needs to use a development deployment. Holds secrets; readable by its owner.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DevFile {
    pub(crate) issuer: String,
    /// Host, and port where it is not 443: what Auth0's SDKs call the domain.
    pub(crate) domain: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) management: Management,
    pub(crate) clients: Clients,
    pub(crate) user: DemoUser,
    pub(crate) sandbox: SandboxInfo,
}

/// The client of the Management API.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Management {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) audience: String,
}

/// One client of each kind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Clients {
    /// A web application: confidential, logs people in, exchanges its refresh tokens.
    pub(crate) web: DemoClient,
    /// A single-page application: public, logs people in, connects accounts.
    pub(crate) spa: DemoClient,
    /// An API: exchanges the access tokens it is called with.
    pub(crate) api: DemoClient,
    /// A background worker: signs its own requests.
    pub(crate) worker: DemoClient,
}

/// What a client has of these.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct DemoClient {
    pub(crate) client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redirect_uri: Option<String>,
    /// The API that its access tokens are for, or that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) private_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
}

/// The user to log in as.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DemoUser {
    pub(crate) user_id: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// The provider beside the vault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxInfo {
    pub(crate) base_url: String,
    /// The name of the vault's connection to it.
    pub(crate) connection: String,
    /// Our client at the sandbox.
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) accounts: Vec<SandboxLogin>,
}

/// A person at the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxLogin {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl DevFile {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("dev.json")
    }

    /// None where there is none yet.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = Self::path(directory);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is damaged; remove the folder to start anew",
                    path.display()
                )
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Written last, so that a file that is there describes a deployment that is whole.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        crate::material::write_secret(&Self::path(directory), &serde_json::to_string_pretty(self)?)
    }
}
