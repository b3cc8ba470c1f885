//! Opening a vault: the same for `serve` and `dev`, from the master key to the recovered rescue journal.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use logging::Form;
use provider::{Catalogue, OutboundPolicy, ProviderClient};
use seal::{KeyEncryption, LocalMasterKey, SystemEntropy};
use store::{Db, Options};
use vault::{Parts, Settings, SystemClock, Vault};

/// What the outside world may be, as the configuration says.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) allowed_networks: Vec<IpNet>,
    pub(crate) extra_root_certificates_pem: Vec<String>,
    pub(crate) deadline: Duration,
    /// The deployment's own provider profiles.
    pub(crate) providers_folder: Option<PathBuf>,
}

/// The way out to the providers. Reads the profiles, and asks nobody yet.
pub(crate) fn provider(outbound: Outbound) -> Result<ProviderClient> {
    let catalogue = match &outbound.providers_folder {
        Some(folder) => Catalogue::with_folder(folder),
        None => Catalogue::built_in(),
    }
    .context("the provider profiles")?;
    let policy = OutboundPolicy {
        allowed_origins: outbound.allowed_origins,
        allowed_networks: outbound.allowed_networks,
        extra_root_certificates_pem: outbound.extra_root_certificates_pem,
        deadline: outbound.deadline,
        ..OutboundPolicy::default()
    };
    ProviderClient::new(policy, catalogue, Arc::new(SystemEntropy)).context("the outbound settings")
}

/// Opens the database and the keys, and commits what an earlier process left behind.
pub(crate) async fn open_vault(
    settings: Settings,
    database_url: &str,
    pool_size: u32,
    master_key: LocalMasterKey,
    provider: ProviderClient,
) -> Result<Vault> {
    let entropy = Arc::new(SystemEntropy);
    seal::check_entropy(entropy.as_ref()).context("the system's source of randomness")?;
    let db = Db::open(
        database_url,
        Options {
            pool_size: usize::try_from(pool_size).unwrap_or(16),
            ..Options::default()
        },
    )
    .await
    .context("opening the database")?;
    let master_key: Arc<dyn KeyEncryption> = Arc::new(master_key);
    let vault = Vault::open(Parts {
        db,
        master_key,
        clock: Arc::new(SystemClock),
        entropy,
        provider,
        settings,
    })
    .await?;
    let recovered = vault
        .recover_rescued()
        .await
        .map_err(crate::said)
        .context("committing the rescue journal")?;
    if recovered > 0 {
        tracing::warn!(
            recovered,
            "token sets of an earlier process were committed from the rescue journal"
        );
    }
    Ok(vault)
}

/// Regular upkeep; ends when dropped.
pub(crate) struct Upkeep(tokio::task::JoinHandle<()>);

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does what is due: the upkeep now and every ten minutes, and every second what providers wait for. None of the three
/// holds up another.
pub(crate) fn keep_up(vault: Vault) -> Upkeep {
    Upkeep(tokio::spawn(async move {
        let upkeep = regularly(Duration::from_secs(600), "the upkeep", || vault.upkeep());
        let revocations = regularly(Duration::from_secs(1), "giving grants back", || {
            vault.revoke_due()
        });
        // A round that waits for a slow provider must not hold up the next one, which begins with the others.
        let keeping_alive = async {
            let mut due = tokio::time::interval(Duration::from_secs(1));
            let mut rounds = tokio::task::JoinSet::new();
            loop {
                due.tick().await;
                while rounds.try_join_next().is_some() {}
                let vault = vault.clone();
                rounds.spawn(async move {
                    if let Err(error) = vault.keep_alive().await {
                        tracing::warn!(error = ?error, "keeping accounts alive failed; trying again");
                    }
                });
            }
        };
        tokio::join!(upkeep, revocations, keeping_alive);
    }))
}

/// Does something now and after every pause, whether it succeeds or not.
async fn regularly<F>(pause: Duration, what: &'static str, work: impl Fn() -> F) -> Infallible
where
    F: Future<Output = Result<(), vault::Error>>,
{
    let mut due = tokio::time::interval(pause);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        if let Err(error) = work().await {
            tracing::warn!(error = ?error, "{what} failed; trying again");
        }
    }
}

/// Waits for the refreshes that are in the air: a provider may have ended the old token already.
pub(crate) async fn land(vault: &Vault) {
    if tokio::time::timeout(Duration::from_secs(30), vault.land())
        .await
        .is_err()
    {
        tracing::error!(
            "refreshes were still under way when the process ended; their leases end by themselves"
        );
    }
}

/// Log lines go to standard error, so that standard output stays for data. The last ones are written when what is returned
/// goes away.
pub(crate) fn start_logging(level: &str, json: bool) -> Result<impl Sized + use<>> {
    let form = if json { Form::Json } else { Form::Text };
    Ok(logging::start_on_stderr(level, form)?)
}

/// Ends when the process is asked to: SIGTERM or Ctrl-C.
pub(crate) async fn asked_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
