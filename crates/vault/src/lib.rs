//! The product: its nouns, its rules and its flows. The only crate that decides.
//!
//! A noun is a file: its type, its states, its pure rules, and its SQL at the bottom. A flow is a file under
//! [`flow`]: one operation from start to end, told as numbered steps in its header. Nothing here knows HTTP; `web`
//! calls the methods of [`Vault`], and so does the command line.

mod account;
mod audit;
mod body;
mod caller;
mod clock;
mod connect_flow;
mod connection;
mod deployment;
mod error;
pub mod flow;
mod rescue;
mod settings;
mod token_set;

use std::sync::Arc;

use jiff::Timestamp;
use provider::ProviderClient;
use seal::{Entropy, KeyEncryption, KeyRing};
use store::Db;

pub use account::{AccountStatus, AccountView};
pub use audit::{Event, EventKind, Outcome};
pub use caller::Caller;
pub use clock::{Clock, MovableClock, SystemClock};
pub use connection::{Connection, ConnectionView, NewConnection};
pub use deployment::{MIGRATIONS, OpenDeploymentError};
pub use error::{Error, Fault, Reason, Refusal};
pub use flow::accounts::{MOST_FILTERS, Page};
pub use flow::complete::CompleteRequest;
pub use flow::connect::{ConnectDecision, ConnectRequest, ConnectStep, ConnectTicket};
pub use settings::{InvalidIssuer, Issuer, Settings};

/// What a vault is made of. Clock, randomness and network are passed in.
pub struct Parts {
    /// The database, migrated by [`Vault::open`].
    pub db: Db,
    /// The source of the master key.
    pub master_key: Arc<dyn KeyEncryption>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The guarded way to the providers.
    pub provider: ProviderClient,
    /// Lifetimes, limits and switches.
    pub settings: Settings,
}

/// One deployment, open. Cheap to clone: everything in it is shared.
#[derive(Clone)]
pub struct Vault {
    pub(crate) db: Db,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) provider: ProviderClient,
    pub(crate) settings: Arc<Settings>,
    pub(crate) flights: flow::refresh::Flights,
}

impl Vault {
    /// Migrates the database, opens the deployment's keys and makes the ones that are missing.
    pub async fn open(parts: Parts) -> Result<Self, OpenDeploymentError> {
        parts
            .db
            .migrate(MIGRATIONS)
            .await
            .map_err(|error| OpenDeploymentError::Database(error.into()))?;
        let ring = deployment::open(
            &parts.db,
            parts.master_key.as_ref(),
            parts.entropy.as_ref(),
            parts.settings.issuer.as_str(),
            parts.clock.now(),
        )
        .await?;
        let vault = Self {
            db: parts.db,
            ring: Arc::new(ring),
            entropy: parts.entropy,
            clock: parts.clock,
            provider: parts.provider,
            settings: Arc::new(parts.settings),
            flights: flow::refresh::Flights::default(),
        };
        Ok(vault)
    }

    /// The present instant by the vault's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lifetimes, limits and switches.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
