//! The configuration of `tokenvault serve`: one file, every setting also from the environment, checked before anything
//! listens.
//!
//! `[listen] address` is also `TOKENVAULT_LISTEN_ADDRESS`. The environment wins. Lists are written with commas there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;
use seal::Algorithm;
use serde::Deserialize;
use toml::{Table, Value};
use vault::{AccountSelection, Issuer, Settings};

const PREFIX: &str = "TOKENVAULT_";

/// What the commands of an administrator read, who may use the same shell.
const NOT_OURS: &str = "TOKENVAULT_ADMIN_";

/// The sections of the file; what is in none of them stands at the top.
const SECTIONS: &[&str] = &[
    "database",
    "exchange",
    "listen",
    "log",
    "login",
    "master_key",
    "outbound",
    "refresh",
    "tokens",
];

/// The file, as it is written. Every field is optional here, because the environment may bring it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Who we are: `https://HOST[:PORT]/`. Tokens name it, so it cannot be changed later.
    issuer: Option<String>,
    /// This process among its siblings, for leases and logs. Default: the process id.
    node: Option<String>,
    #[serde(default)]
    database: Database,
    #[serde(default)]
    listen: Listen,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    login: Login,
    #[serde(default)]
    master_key: MasterKey,
    #[serde(default)]
    outbound: Outbound,
    #[serde(default)]
    refresh: Refresh,
    #[serde(default)]
    exchange: Exchange,
    #[serde(default)]
    tokens: Tokens,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    /// `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`.
    url: Option<String>,
    /// PostgreSQL connections of this node; two more are for refreshes, and as many as it has cores (two at least) for
    /// look-ups. Default: 16.
    pool_size: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    /// Addresses with ports. Default: `127.0.0.1:8443`.
    address: Option<Vec<SocketAddr>>,
    /// PEM file with the certificate and its chain.
    certificate_file: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    private_key_file: Option<PathBuf>,
    /// Speak plain HTTP, because a proxy in front ends TLS. Default: false.
    behind_proxy: Option<bool>,
    /// Networks whose `X-Forwarded-For` is believed. Default: none.
    trusted_proxies: Option<Vec<IpNet>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,vault=debug`. Default: `info`.
    level: Option<String>,
    /// `text` or `json`. Default: `json`.
    format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    /// Whether people may make their own users. Default: false.
    sign_up: Option<bool>,
    /// How long a session lives at most, in hours. Default: 168.
    session_hours: Option<u32>,
    /// How long a session lives unused, in hours. Default: 72.
    idle_hours: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterKey {
    /// A key file made by `tokenvault keys generate`, readable by its owner only.
    file: Option<PathBuf>,
    /// The name of an environment variable that holds what the file would.
    environment: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outbound {
    /// Origins of providers at private addresses or without TLS that may be reached all the same. Default: none.
    allowed_origins: Option<Vec<String>>,
    /// Private networks that providers may live in. Default: none.
    allowed_networks: Option<Vec<IpNet>>,
    /// A folder of provider profiles of your own (docs/providers.md). Default: none.
    providers_folder: Option<PathBuf>,
    /// PEM file with further certificate authorities for providers.
    ca_file: Option<PathBuf>,
    /// How long a provider may take to answer, in seconds. Default: 10.
    deadline_seconds: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    /// Which account is meant where a user has several and the caller does not say: `latest` (the most recently
    /// connected, as Auth0 does it) or `required` (a refusal with the candidates). Default: latest.
    account_selection: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// How long a node may hold an account for a refresh, in seconds; more than twice the provider's deadline.
    /// Default: 30.
    lease_seconds: Option<u32>,
    /// How long a caller waits for a refresh, in seconds. Default: 15.
    wait_seconds: Option<u32>,
    /// A token with less life is refreshed before it is handed out, in seconds. Default: 30.
    margin_seconds: Option<u32>,
    /// A token with less life is refreshed behind the answer, in seconds. Default: 120.
    ahead_seconds: Option<u32>,
    /// How long a caller waits while a token that could be handed out still lives, in milliseconds. Default: 500.
    patience_milliseconds: Option<u32>,
    /// The most refreshes a second and client id at a provider that states no limit of its own. Default: 100.
    per_second: Option<u32>,
    /// A folder of this node for sealed token sets that the database does not take at once. Default: none.
    rescue_directory: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    /// What signs access tokens whose API names nothing else: RS256, ES256 or EdDSA. Default: RS256.
    access_token_alg: Option<String>,
}

/// The configuration after every check.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) database_url: String,
    pub(crate) pool_size: u32,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) master_key: MasterKeySource,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) allowed_networks: Vec<IpNet>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) providers_folder: Option<PathBuf>,
    pub(crate) provider_deadline: Duration,
    pub(crate) log_level: String,
    pub(crate) log_json: bool,
}

/// Where the certificate is.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
}

/// Where the master key is. The environment's value is taken out at once and never printed.
pub(crate) enum MasterKeySource {
    Environment {
        name: String,
        value: seal::SecretString,
    },
    File(PathBuf),
}

impl std::fmt::Debug for MasterKeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment { name, .. } => write!(f, "Environment({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Config {
    /// Reads the file, if there is one, and the environment, and checks every setting.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self> {
        let environment: Vec<(String, String)> = environment
            .filter(|(name, _)| name.starts_with(PREFIX) && !name.starts_with(NOT_OURS))
            .collect();
        let (mut table, place) = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("cannot read the configuration file {}", path.display())
                })?;
                // Parsed as its types first: only this error knows the line.
                toml::from_str::<File>(&text).map_err(|error| {
                    anyhow!("{}: {}", path.display(), error.to_string().trim_end())
                })?;
                (text.parse::<Table>()?, path.display().to_string())
            }
            None => (Table::new(), "the environment".to_owned()),
        };
        let key_variable = table
            .get("master_key")
            .and_then(|section| section.get("environment"))
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or_else(|| {
                environment
                    .iter()
                    .find(|(name, _)| name == "TOKENVAULT_MASTER_KEY_ENVIRONMENT")
                    .map(|(_, value)| value.clone())
            });
        for (name, value) in &environment {
            if Some(name) != key_variable.as_ref() {
                set_from_environment(&mut table, name, value)?;
            }
        }
        let file: File = table
            .try_into()
            .map_err(|error: toml::de::Error| anyhow!("{place}: {}", error.message()))?;
        file.check(&place)
    }
}

/// Puts one variable into the table, as the type that its setting has.
fn set_from_environment(table: &mut Table, name: &str, value: &str) -> Result<()> {
    let path = name
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let (section, key) = SECTIONS
        .iter()
        .find_map(|section| {
            path.strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('_'))
                .map(|key| (Some(*section), key.to_owned()))
        })
        .unwrap_or((None, path.clone()));
    let list = Value::Array(
        value
            .split(',')
            .map(|item| Value::String(item.trim().to_owned()))
            .filter(|item| item.as_str() != Some(""))
            .collect(),
    );
    let mut readings = vec![Value::String(value.to_owned())];
    readings.extend(value.parse::<i64>().ok().map(Value::Integer));
    readings.extend(value.parse::<bool>().ok().map(Value::Boolean));
    readings.push(list);

    let mut reason = String::new();
    for reading in readings {
        let mut alone = Table::new();
        insert(&mut alone, section, &key, reading.clone());
        match alone.try_into::<File>() {
            Ok(_) => {
                insert(table, section, &key, reading);
                return Ok(());
            }
            Err(error) => reason = error.message().to_owned(),
        }
    }
    if reason.contains("unknown field") {
        bail!("the environment variable {name} is not a setting; see 'tokenvault serve --help'");
    }
    bail!("the environment variable {name}: {reason}")
}

fn insert(table: &mut Table, section: Option<&str>, key: &str, value: Value) {
    let target = match section {
        None => table,
        Some(section) => {
            let entry = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            match entry {
                Value::Table(target) => target,
                _ => return,
            }
        }
    };
    target.insert(key.to_owned(), value);
}

impl File {
    fn check(self, place: &str) -> Result<Config> {
        let missing = |setting: &str| {
            let variable = format!("{PREFIX}{}", setting.replace('.', "_").to_ascii_uppercase());
            anyhow!("{place}: the setting '{setting}' is missing (or set {variable})")
        };
        let wrong =
            |setting: &str, why: &dyn std::fmt::Display| anyhow!("{place}: '{setting}': {why}");

        let issuer = self.issuer.ok_or_else(|| missing("issuer"))?;
        let issuer = Issuer::parse(&issuer).map_err(|error| wrong("issuer", &error))?;
        let node = self
            .node
            .unwrap_or_else(|| format!("node-{}", std::process::id()));
        let mut settings = Settings::new(issuer, node);

        let database_url = self.database.url.ok_or_else(|| missing("database.url"))?;
        if !["sqlite:", "postgres:", "postgresql:"]
            .iter()
            .any(|scheme| database_url.starts_with(scheme))
        {
            return Err(wrong(
                "database.url",
                &"it has to begin with 'sqlite:' or 'postgres:'",
            ));
        }

        let behind_proxy = self.listen.behind_proxy.unwrap_or(false);
        let tls = match (self.listen.certificate_file, self.listen.private_key_file) {
            (Some(certificate), Some(private_key)) => Some(TlsFiles {
                certificate,
                private_key,
            }),
            (None, None) if behind_proxy => None,
            (None, None) => {
                return Err(wrong(
                    "listen.certificate_file",
                    &"give a certificate and its private key, or set listen.behind_proxy = true where a proxy ends TLS",
                ));
            }
            (Some(_), None) => return Err(missing("listen.private_key_file")),
            (None, Some(_)) => return Err(missing("listen.certificate_file")),
        };
        if behind_proxy && tls.is_some() {
            return Err(wrong(
                "listen.behind_proxy",
                &"either a certificate or a proxy ends TLS, not both",
            ));
        }

        let master_key = match (self.master_key.file, self.master_key.environment) {
            (Some(path), None) => MasterKeySource::File(path),
            (None, Some(name)) => {
                let value = environment_value(&name).ok_or_else(|| {
                    wrong(
                        "master_key.environment",
                        &format!("the environment variable {name} is not set"),
                    )
                })?;
                MasterKeySource::Environment { name, value }
            }
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "master_key",
                    &"give a file or an environment variable, not both",
                ));
            }
            (None, None) => return Err(missing("master_key.file")),
        };

        settings.sign_up = self.login.sign_up.unwrap_or(settings.sign_up);
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3600);
        settings.session_lifetime = self
            .login
            .session_hours
            .map_or(settings.session_lifetime, hours);
        settings.session_idle_lifetime = self
            .login
            .idle_hours
            .map_or(settings.session_idle_lifetime, hours);

        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let refresh = self.refresh;
        settings.refresh_lease = refresh
            .lease_seconds
            .map_or(settings.refresh_lease, seconds);
        settings.refresh_wait = refresh.wait_seconds.map_or(settings.refresh_wait, seconds);
        settings.refresh_margin = refresh
            .margin_seconds
            .map_or(settings.refresh_margin, seconds);
        settings.refresh_ahead = refresh
            .ahead_seconds
            .map_or(settings.refresh_ahead, seconds);
        settings.refresh_patience = refresh
            .patience_milliseconds
            .map_or(settings.refresh_patience, |milliseconds| {
                Duration::from_millis(u64::from(milliseconds))
            });
        settings.refreshes_per_second = refresh.per_second.unwrap_or(settings.refreshes_per_second);
        if settings.refreshes_per_second == 0 {
            return Err(wrong("refresh.per_second", &"it has to be at least 1"));
        }
        settings.rescue_directory = refresh.rescue_directory;
        settings.account_selection = match self.exchange.account_selection.as_deref() {
            None | Some("latest") => AccountSelection::Latest,
            Some("required") => AccountSelection::Required,
            Some(_) => {
                return Err(wrong(
                    "exchange.account_selection",
                    &"it has to be latest or required",
                ));
            }
        };
        let provider_deadline = self
            .outbound
            .deadline_seconds
            .map_or(Duration::from_secs(10), seconds);
        if provider_deadline * 2 >= settings.refresh_lease {
            return Err(wrong(
                "refresh.lease_seconds",
                &"it has to be more than twice outbound.deadline_seconds",
            ));
        }

        if let Some(name) = self.tokens.access_token_alg {
            settings.access_token_alg = Algorithm::from_str(&name)
                .filter(|alg| matches!(alg, Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa))
                .ok_or_else(|| wrong("tokens.access_token_alg", &"RS256, ES256 or EdDSA"))?;
        }

        let log_json = match self.log.format.as_deref() {
            None | Some("json") => true,
            Some("text") => false,
            Some(_) => return Err(wrong("log.format", &"text or json")),
        };

        Ok(Config {
            settings,
            database_url,
            pool_size: self.database.pool_size.unwrap_or(16).clamp(1, 1000),
            listen: self
                .listen
                .address
                .unwrap_or_else(|| vec![SocketAddr::from(([127, 0, 0, 1], 8443))]),
            tls,
            trusted_proxies: self.listen.trusted_proxies.unwrap_or_default(),
            master_key,
            allowed_origins: self.outbound.allowed_origins.unwrap_or_default(),
            allowed_networks: self.outbound.allowed_networks.unwrap_or_default(),
            ca_file: self.outbound.ca_file,
            providers_folder: self.outbound.providers_folder,
            provider_deadline,
            log_level: self.log.level.unwrap_or_else(|| "info".to_owned()),
            log_json,
        })
    }
}

/// The value of an environment variable, which may be a secret; none where it is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn environment_value(name: &str) -> Option<seal::SecretString> {
    std::env::var(name).ok().map(seal::SecretString::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        issuer = "https://vault.example/"
        [database]
        url = "sqlite:vault.db"
        [listen]
        behind_proxy = true
        [master_key]
        file = "master.key"
    "#;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenvault.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(&path), environment).map_err(|error| {
            format!("{error:#}").replace(&path.display().to_string(), "tokenvault.toml")
        })
    }

    #[test]
    fn the_least_that_is_needed() {
        let config = load(GOOD, &[]).unwrap();
        assert_eq!(config.settings.issuer.as_str(), "https://vault.example/");
        assert_eq!(config.listen, [SocketAddr::from(([127, 0, 0, 1], 8443))]);
    }

    #[test]
    fn the_environment_wins_and_every_type_can_be_written_there() {
        let config = load(
            GOOD,
            &[
                ("TOKENVAULT_DATABASE_URL", "postgres://db/vault"),
                ("TOKENVAULT_DATABASE_POOL_SIZE", "5"),
                ("TOKENVAULT_LOGIN_SIGN_UP", "true"),
                ("TOKENVAULT_LISTEN_ADDRESS", "0.0.0.0:80, [::]:80"),
                ("TOKENVAULT_LISTEN_TRUSTED_PROXIES", "10.0.0.0/8"),
                ("OTHER_VARIABLE", "is not ours"),
            ],
        )
        .unwrap();
        assert_eq!(config.database_url, "postgres://db/vault");
        assert_eq!(config.pool_size, 5);
        assert!(config.settings.sign_up);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.trusted_proxies.len(), 1);
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_place() {
        for (change, environment, expected) in [
            (
                GOOD.replace("issuer", "isuer"),
                vec![],
                "unknown field `isuer`",
            ),
            (
                GOOD.replace("[master_key]", "[master]"),
                vec![],
                "unknown field `master`",
            ),
            (
                GOOD.replace("https://vault", "http://vault"),
                vec![],
                "'issuer': 'http://vault.example/' is not an issuer",
            ),
            (
                GOOD.replace("sqlite:", "mysql:"),
                vec![],
                "'database.url': it has to begin with",
            ),
            (
                GOOD.replace("file =", "#"),
                vec![],
                "'master_key.file' is missing (or set TOKENVAULT_MASTER_KEY_FILE)",
            ),
            (
                GOOD.replace("behind_proxy = true", "behind_proxy = 1"),
                vec![],
                "invalid type: integer `1`, expected a boolean",
            ),
            (
                GOOD.replace("behind_proxy = true", ""),
                vec![],
                "listen.certificate_file",
            ),
            (
                GOOD.to_owned(),
                vec![("TOKENVAULT_LOGIN_SIGNUP", "true")],
                "TOKENVAULT_LOGIN_SIGNUP is not a setting",
            ),
            (
                GOOD.to_owned(),
                vec![("TOKENVAULT_DATABASE_POOL_SIZE", "many")],
                "TOKENVAULT_DATABASE_POOL_SIZE",
            ),
            (
                GOOD.to_owned(),
                vec![("TOKENVAULT_TOKENS_ACCESS_TOKEN_ALG", "HS256")],
                "RS256, ES256 or EdDSA",
            ),
            (
                GOOD.to_owned(),
                vec![("TOKENVAULT_REFRESH_LEASE_SECONDS", "20")],
                "more than twice",
            ),
            (
                GOOD.replace("file = \"master.key\"", "environment = \"TV_NO_SUCH\""),
                vec![],
                "TV_NO_SUCH is not set",
            ),
        ] {
            let error = load(&change, &environment).unwrap_err();
            assert!(error.contains(expected), "{error}\n  lacks: {expected}");
            if environment.is_empty() {
                assert!(error.contains("tokenvault.toml"), "{error}");
            }
        }
    }

    #[test]
    fn the_shipped_example_is_a_good_file() {
        let text = include_str!("../../../tokenvault.example.toml");
        load(text, &[]).unwrap();
    }
}
