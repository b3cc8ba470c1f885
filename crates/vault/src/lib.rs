//! The product: its nouns, its rules and its flows. The only crate that decides.
//!
//! A noun is a file: its type, its states, its pure rules, and its SQL at the bottom. A flow is a file under
//! [`flow`]: one operation from start to end, told as numbered steps in its header. Nothing here knows HTTP; `web`
//! calls the methods of [`Vault`], and so does the command line.

mod access_token;
mod account;
mod administrator;
mod api;
mod api_settings;
mod audit;
mod authorization;
mod caller;
mod candidate;
mod client;
mod client_grant;
mod client_key;
mod client_settings;
mod clock;
mod configuration;
mod connect_flow;
mod connection;
mod connection_settings;
mod deployment;
mod discovery;
mod document;
mod error;
mod failure;
mod flight;
mod flow;
mod form_token;
mod gate;
mod granted;
mod id_token;
mod import_line;
mod lifetime;
mod listing;
mod memo;
mod refresh_token;
mod replay;
mod reread;
mod rescue;
mod revocation;
mod sample;
mod session;
mod settings;
mod signing_key;
mod tenant_settings;
mod throttle;
mod token_set;
mod upkeep;
mod user;
mod user_settings;

use std::sync::Arc;

use jiff::Timestamp;
use provider::ProviderClient;
use seal::{Entropy, KeyEncryption, KeyRing};
use store::{Db, Row, Statement};

pub use access_token::AccessToken;
pub use account::{AccountStatus, AccountView};
pub use administrator::{Administrator, MANAGEMENT_SCOPES};
pub use api::{AccessPolicy, Api, ApiScope, NewApi};
pub use api_settings::{ApiSettings, ApiView};
pub use audit::{Event, EventKind, Outcome};
pub use caller::Caller;
pub use client::{
    AppType, Client, ClientProfile, Expiration, NewClient, PrivilegedAccess, PrivilegedGrant,
    RefreshTokenPolicy, ResourcePolicy, Rotation, TokenEndpointAuthMethod,
};
pub use client_grant::{ClientGrantSettings, ClientGrantView, SubjectType};
pub use client_key::{ClientKey, CredentialSettings, CredentialView, KeyPurpose, NewCredential};
pub use client_settings::{ClientSettings, ClientView};
pub use clock::{Clock, MovableClock, SystemClock};
pub use configuration::{Change, Configuration, ConfigurationView, ConfigureQuery, Configured};
pub use connection::{ClientSecrets, Connection, ConnectionView, NewConnection};
pub use connection_settings::{ConnectionSettings, ManagedConnectionView};
pub use deployment::{MIGRATIONS, OpenDeploymentError};
pub use document::{Document, Patch, Source, read_query};
pub use error::{Error, Fault, Reason, Refusal};
pub use flow::accounts::{LabelRequest, MOST_FILTERS};
pub use flow::authenticate_client::AuthenticatedClient;
pub use flow::authorize::{AuthorizationAnswer, AuthorizeStep, Consent, Interaction, Prompt};
pub use flow::complete::CompleteRequest;
pub use flow::connect::{ConnectDecision, ConnectRequest, ConnectStep, ConnectTicket};
pub use flow::import::{Import, ImportOptions, Imported, Proof};
pub use flow::logout::{LogoutRequest, LogoutStep};
pub use flow::manage_apis::MOST_IDENTIFIERS;
pub use flow::manage_client_grants::ClientGrantFilter;
pub use flow::manage_clients::ClientFilter;
pub use flow::manage_connections::{
    ConnectionCheck, ConnectionClients, ConnectionFilter, EnabledClient,
};
pub use flow::manage_consents::{ConsentFilter, ConsentView};
pub use flow::manage_users::{RevokeAccess, UserAccountView};
pub use flow::push_request::PushedRequest;
pub use flow::read_logs::LogEntry;
pub use flow::read_stats::DayStats;
pub use import_line::{ImportLine, ImportReason, ImportRefusal, MOST_LINE_BYTES};
pub use listing::{Listed, Page, Window};
pub use oauth::authorize_request::ResponseMode;
pub use refresh_token::{CoveredApi, RefreshTokenView};
pub use sample::SampleTokens;
pub use session::{Session, SessionView};
pub use settings::{AccountSelection, InvalidIssuer, Issuer, Settings};
pub use signing_key::SigningKeyView;
pub use tenant_settings::TenantSettings;
pub use user::{NewUser, User};
pub use user_settings::{IdentityView, UserSettings, UserView};

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
    pub(crate) flights: flight::Flights,
    pub(crate) gates: gate::Gates,
    pub(crate) keepers: flow::keep_alive::Keepers,
    pub(crate) signing_keys: signing_key::SigningKeys,
    pub(crate) known: flow::exchange::Knowledge,
    pub(crate) audit_ids: Arc<audit::AuditIds>,
    pub(crate) clients: memo::Memo<Client>,
    pub(crate) connections: memo::Memo<Connection>,
    pub(crate) password_permits: Arc<tokio::sync::Semaphore>,
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
            audit_ids: Arc::new(audit::AuditIds::new(parts.entropy.as_ref())),
            entropy: parts.entropy,
            clock: parts.clock,
            provider: parts.provider,
            settings: Arc::new(parts.settings),
            flights: flight::Flights::default(),
            gates: gate::Gates::default(),
            keepers: flow::keep_alive::Keepers::default(),
            signing_keys: signing_key::SigningKeys::default(),
            known: flow::exchange::Knowledge::default(),
            clients: memo::Memo::default(),
            connections: memo::Memo::default(),
            password_permits: Arc::new(tokio::sync::Semaphore::new(
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            )),
        };
        vault.ensure_own_apis().await?;
        vault.ensure_signing_keys().await?;
        Ok(vault)
    }

    /// The row that a query finds by its key.
    pub(crate) async fn first(&self, statement: Statement) -> Result<Option<Row>, Error> {
        Ok(self.db.look_up(statement).await?.into_iter().next())
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
