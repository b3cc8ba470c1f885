//! Profiles: vaults that are administered from this machine, in a file that only its owner can read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::admin::output;
use crate::admin::secret_input;

/// Every profile, and which one is used where none is named.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, Profile>,
}

/// One vault.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// Its issuer.
    pub(crate) url: String,
    /// A client with a grant for its Management API.
    pub(crate) client_id: String,
    /// The file that holds the client's secret.
    pub(crate) client_secret_file: PathBuf,
    /// An authority to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Look after profiles.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProfileCommand {
    /// Remember a vault; asks for the client's secret
    Add {
        /// What to call it.
        name: String,
        /// The vault's address.
        #[arg(long, value_name = "URL")]
        url: String,
        /// A client with a grant for the Management API.
        #[arg(long, value_name = "ID")]
        client_id: String,
        /// A file with the client's secret, or - for standard input; without it you are asked.
        #[arg(long, value_name = "FILE")]
        client_secret_file: Option<PathBuf>,
        /// An authority to trust beside the system's.
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// List the profiles
    List,
    /// Say which profile is used where none is named
    Use {
        /// Its name.
        name: String,
    },
    /// Forget a profile and its secret
    Remove {
        /// Its name.
        name: String,
    },
}

/// The folder of profiles: `TOKENVAULT_ADMIN_HOME`, else `tokenvault` in the user's folder of configuration.
fn folder() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(home) = variable("TOKENVAULT_ADMIN_HOME") {
        return Ok(PathBuf::from(home));
    }
    let base = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))
        .context("there is no home folder; set TOKENVAULT_ADMIN_HOME")?;
    Ok(base.join("tokenvault"))
}

impl Profiles {
    /// The profiles of this user; none where there is no file.
    pub(crate) fn load() -> Result<Self> {
        let path = folder()?.join("profiles.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn store(&self) -> Result<()> {
        let folder = folder()?;
        crate::material::private_folder(&folder)?;
        let path = folder.join("profiles.toml");
        std::fs::write(&path, toml::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The profile of a name, or the default one.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Option<&Profile>> {
        match name.or(self.default.as_deref()) {
            None => Ok(None),
            Some(name) => {
                self.profile.get(name).map(Some).with_context(|| {
                    format!("there is no profile '{name}'; tokenvault profile list")
                })
            }
        }
    }
}

/// Runs a command.
pub(crate) fn run(command: ProfileCommand) -> Result<()> {
    let mut profiles = Profiles::load()?;
    match command {
        ProfileCommand::Add {
            name,
            url,
            client_id,
            client_secret_file,
            ca_file,
        } => {
            let fits = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !fits {
                bail!("a profile's name has letters, digits, - and _ only");
            }
            let secret =
                secret_input::secret(client_secret_file.as_deref(), "The client's secret")?;
            let folder = folder()?;
            crate::material::private_folder(&folder)?;
            let secret_file = folder.join(format!("{name}.secret"));
            if secret_file.exists() {
                std::fs::remove_file(&secret_file)?;
            }
            crate::material::write_secret(&secret_file, secret.reveal())?;
            let ca_file = match ca_file {
                Some(path) => Some(
                    std::fs::canonicalize(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?,
                ),
                None => None,
            };
            profiles.profile.insert(
                name.clone(),
                Profile {
                    url,
                    client_id,
                    client_secret_file: secret_file,
                    ca_file,
                },
            );
            if profiles.default.is_none() {
                profiles.default = Some(name);
            }
            profiles.store()
        }
        ProfileCommand::List => {
            let rows = profiles.profile.iter().map(|(name, profile)| {
                let mark = if profiles.default.as_ref() == Some(name) {
                    "*"
                } else {
                    ""
                };
                [
                    mark.to_owned(),
                    name.clone(),
                    profile.url.clone(),
                    profile.client_id.clone(),
                ]
            });
            print!("{}", output::table(["", "NAME", "URL", "CLIENT"], rows));
            Ok(())
        }
        ProfileCommand::Use { name } => {
            profiles.find(Some(&name))?;
            profiles.default = Some(name);
            profiles.store()
        }
        ProfileCommand::Remove { name } => {
            let removed = profiles
                .profile
                .remove(&name)
                .with_context(|| format!("there is no profile '{name}'"))?;
            if profiles.default.as_ref() == Some(&name) {
                profiles.default = None;
            }
            profiles.store()?;
            match std::fs::remove_file(&removed.client_secret_file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        }
    }
}
