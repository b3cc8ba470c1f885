//! A connection: a configured external provider, with the client id and secret that it gave this deployment.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use provider::{
    ConnectionOptions, ConnectionSettings, Failure, FailureKind, Profile, RefreshClass,
};
use seal::{Purpose, RecordContext, SecretString};
use serde::Serialize;
use store::{Batch, Row, Statement, WriteError, params};

use crate::account::column;
use crate::document::wrong;
use crate::token_set::{Target, TokenSet};
use crate::{Caller, Error, Event, EventKind, Fault, Reason, Refusal, Vault};

/// A connection as it stands in the database, its secret still sealed.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `con_…`.
    pub id: String,
    /// The name that clients use; unique.
    pub name: String,
    /// The strategy: which provider profile describes it.
    pub strategy: String,
    /// What people read.
    pub display_name: String,
    /// Our client id at the provider.
    pub client_id: String,
    /// The scopes asked for when a connect request names none.
    pub scopes: Vec<String>,
    /// The last part of this connection's own callback URI.
    pub callback_context: String,
    /// Whether accounts may be connected and exchanged.
    pub connected_accounts_active: bool,
    /// When the provider ends the client secret, where that is known.
    pub client_secret_expires_at: Option<Timestamp>,
    /// Kept for tools that set it.
    pub(crate) authentication_active: bool,
    /// Free to use.
    pub(crate) metadata: BTreeMap<String, String>,
    client_secret: Option<Vec<u8>>,
    /// Tried where the provider refuses the first.
    next_client_secret: Option<Vec<u8>>,
    options: String,
    /// Counts what is sealed anew.
    generation: u64,
    /// Counts an administrator's changes.
    revision: u64,
}

/// A connection's client secrets, as an administrator sets them while one replaces the other at the provider.
#[derive(Debug, Default)]
pub struct ClientSecrets {
    /// The one that is used.
    pub current: Option<SecretString>,
    /// The one that is tried where the provider refuses the first; whichever works is remembered.
    pub next: Option<SecretString>,
    /// When the provider ends the current one, where that is known: it is warned of.
    pub current_expires_at: Option<Timestamp>,
}

/// What it takes to make a connection.
#[derive(Debug)]
pub struct NewConnection {
    /// The name that clients use: 1 to 128 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The strategy, for example `oidc` or `oauth2`.
    pub strategy: String,
    /// What people read; the name where empty.
    pub display_name: String,
    /// Our client id at the provider.
    pub client_id: String,
    /// Our client secret at the provider, where it gave one.
    pub client_secret: Option<SecretString>,
    /// The strategy's options.
    pub options: ConnectionOptions,
    /// The scopes asked for when a connect request names none.
    pub scopes: Vec<String>,
}

/// A connection as the My Account API shows it (contract 2.9).
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct ConnectionView {
    /// The name to connect with.
    pub name: String,
    /// The strategy.
    pub strategy: String,
    /// The scopes asked for by default.
    pub scopes: Vec<String>,
    /// What people read.
    pub display_name: String,
}

impl Connection {
    /// The callback URI to register at the provider. One per connection: an answer for one can not be
    /// delivered to another (threats R-31).
    pub fn callback_uri(&self, vault: &Vault) -> String {
        vault
            .settings
            .issuer
            .url(&format!("connect/callback/{}", self.callback_context))
    }

    /// The options.
    pub(crate) fn options(&self) -> Result<ConnectionOptions, Error> {
        Ok(serde_json::from_str(&self.options)?)
    }

    /// Whether it has a secret at the provider.
    pub(crate) fn has_secret(&self) -> bool {
        self.client_secret.is_some()
    }

    /// Opens the secret and joins it with the options, for one call to the provider.
    pub(crate) fn provider_settings(&self, vault: &Vault) -> Result<ConnectionSettings, Error> {
        self.settings_with(vault, CURRENT, self.client_secret.as_deref())
    }

    fn settings_with(
        &self,
        vault: &Vault,
        field: &'static str,
        sealed: Option<&[u8]>,
    ) -> Result<ConnectionSettings, Error> {
        let context = secret_context(&self.id, field, self.generation);
        let client_secret = sealed
            .map(|sealed| open_text(vault, &context, sealed))
            .transpose()?;
        let mut options = self.options()?;
        if options.simulator.is_none() {
            options.simulator = vault.settings.simulators.get(&self.strategy).cloned();
        }
        Ok(ConnectionSettings {
            strategy: self.strategy.clone(),
            client_id: self.client_id.clone(),
            client_secret,
            options,
        })
    }

    /// What is known of its provider; None where the strategy is not in this node's catalogue.
    pub(crate) fn profile<'a>(&self, vault: &'a Vault) -> Option<&'a Profile> {
        vault
            .provider
            .catalogue()
            .get(&self.strategy)
            .map(AsRef::as_ref)
    }

    /// Whether there is a way to the next token of a target.
    pub(crate) fn can_renew(
        &self,
        vault: &Vault,
        profile: &Profile,
        tokens: &TokenSet,
        target: &Target,
    ) -> Result<bool, Error> {
        if tokens.refresh_token(target).is_some() {
            return Ok(true);
        }
        if *target != Target::Whole || !tokens.whole.is_alive(vault.now()) {
            return Ok(false);
        }
        Ok(self.refresh_class(profile)? == RefreshClass::Renewal)
    }

    /// What refreshing does to a refresh token of this connection.
    pub(crate) fn refresh_class(&self, profile: &Profile) -> Result<RefreshClass, Error> {
        Ok(self
            .options()?
            .refresh_class
            .unwrap_or(profile.refresh.class))
    }

    /// What providers count requests by.
    pub(crate) fn gate(&self) -> String {
        format!("{} {}", self.strategy, self.client_id)
    }

    pub(crate) fn view(&self) -> ConnectionView {
        ConnectionView {
            name: self.name.clone(),
            strategy: self.strategy.clone(),
            scopes: self.scopes.clone(),
            display_name: self.display_name.clone(),
        }
    }
}

/// What one client may do at one connection, as one row says it.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionForClient {
    pub(crate) connection: Arc<Connection>,
    pub(crate) enabled_for_client: bool,
}

impl ConnectionForClient {
    /// The connection, where the client may exchange and connect at it.
    pub(crate) fn usable(self) -> Result<Arc<Connection>, Reason> {
        if self.enabled_for_client && self.connection.connected_accounts_active {
            Ok(self.connection)
        } else {
            Err(Reason::ConnectionNotAllowed)
        }
    }
}

impl Vault {
    /// Makes a connection.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] for a bad name, an unknown strategy, options that do not fit it or an address that may not
    /// be called; [`Reason::AlreadyExists`].
    pub async fn create_connection(&self, new: NewConnection) -> Result<Connection, Error> {
        let connection = self.decide_registration_of_connection(new)?;
        let insert = insert(&connection, self.now())?;
        self.db
            .write(Batch::new().with(insert))
            .await
            .map_err(name_taken)?;
        Ok(connection)
    }

    /// Decides a new connection.
    pub(crate) fn decide_registration_of_connection(
        &self,
        new: NewConnection,
    ) -> Result<Connection, Error> {
        let name_fits = (1..=128).contains(&new.name.len())
            && new
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !name_fits {
            return Err(wrong(
                "name",
                "1 to 128 letters, digits, hyphens, underscores and dots",
            )
            .into());
        }
        let id = seal::random_id(self.entropy.as_ref(), "con_");
        let settings = ConnectionSettings {
            strategy: new.strategy,
            client_id: new.client_id,
            client_secret: new.client_secret,
            options: new.options,
        };
        self.check_connection(&settings)?;
        let generation = 1;
        let client_secret =
            self.seal_secret(&id, CURRENT, generation, settings.client_secret.as_ref())?;
        Ok(Connection {
            name: new.name.clone(),
            strategy: settings.strategy,
            display_name: if new.display_name.is_empty() {
                new.name
            } else {
                new.display_name
            },
            client_id: settings.client_id,
            scopes: new.scopes,
            callback_context: seal::random_id(self.entropy.as_ref(), ""),
            connected_accounts_active: true,
            client_secret_expires_at: None,
            authentication_active: false,
            metadata: BTreeMap::new(),
            client_secret,
            next_client_secret: None,
            options: serde_json::to_string(&settings.options)?,
            generation,
            revision: 1,
            id,
        })
    }

    /// Checks what can be checked of a connection without asking its provider.
    fn check_connection(&self, settings: &ConnectionSettings) -> Result<(), Refusal> {
        settings.check(self.provider.catalogue()).map_err(|error| {
            let (field, text) = (error.field(), error.to_string());
            let rule = text.strip_prefix(&field).unwrap_or(&text).trim_start();
            wrong(&field, rule)
        })?;
        // Refused again with every call, because names change their minds; here, somebody is looking (threats F-47).
        self.provider
            .check_addresses(settings)
            .map_err(|(option, failure)| wrong(&format!("options.{option}"), failure.to_string()))
    }

    /// Decides a change of a connection. The statement holds only where nobody has changed it since it was read.
    pub(crate) fn decide_connection_update(
        &self,
        before: &Connection,
        change: ConnectionChange,
    ) -> Result<(Connection, Statement), Error> {
        let open = |field, sealed: &Option<Vec<u8>>| {
            let context = secret_context(&before.id, field, before.generation);
            sealed
                .as_deref()
                .map(|sealed| open_text(self, &context, sealed))
                .transpose()
        };
        let known = (
            open(CURRENT, &before.client_secret)?,
            open(NEXT, &before.next_client_secret)?,
        );
        let is_other = |new: &Option<SecretString>, old: &Option<SecretString>| {
            new.as_ref().is_some_and(|new| {
                old.as_ref().is_none_or(|old| {
                    !seal::constant_time_eq(new.reveal().as_bytes(), old.reveal().as_bytes())
                })
            })
        };
        // Nobody who may not read the secret may have it sent to an address of their own.
        let moves = addresses(&before.options()?) != addresses(&change.options);
        if moves && known.0.is_some() && change.secret.is_none() {
            return Err(wrong(
                "options.client_secret",
                "given again where an address of the provider changes: the one that is kept does not go elsewhere",
            )
            .into());
        }
        let kept_next = known.1.as_ref().filter(|_| !moves);
        let changes_secret = is_other(&change.secret, &known.0)
            || is_other(&change.next_secret, &known.1)
            || (known.1.is_some() && kept_next.is_none());
        let settings = ConnectionSettings {
            strategy: before.strategy.clone(),
            client_id: change.client_id,
            client_secret: change.secret.or(known.0),
            options: change.options,
        };
        self.check_connection(&settings)?;
        let mut after = Connection {
            display_name: change.display_name,
            client_id: settings.client_id,
            scopes: change.scopes,
            connected_accounts_active: change.connected_accounts_active,
            authentication_active: change.authentication_active,
            metadata: change.metadata,
            options: serde_json::to_string(&settings.options)?,
            ..before.clone()
        };
        if changes_secret {
            after.generation += 1;
            let seal = |field, secret: Option<&SecretString>| {
                self.seal_secret(&before.id, field, after.generation, secret)
            };
            let sealed = (
                seal(CURRENT, settings.client_secret.as_ref())?,
                seal(NEXT, change.next_secret.as_ref().or(kept_next))?,
            );
            (after.client_secret, after.next_client_secret) = sealed;
            // It was the end of the secret before.
            after.client_secret_expires_at = None;
        }
        let statement = update(before, &after, self.now())?;
        Ok((after, statement))
    }

    /// Whether a secret is another one than the connection has.
    pub(crate) fn is_other_secret(
        &self,
        connection: &Connection,
        secret: &SecretString,
    ) -> Result<bool, Error> {
        let known = connection.provider_settings(self)?.client_secret;
        Ok(known.is_none_or(|known| {
            !seal::constant_time_eq(known.reveal().as_bytes(), secret.reveal().as_bytes())
        }))
    }

    /// Replaces a connection's client secrets.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where somebody else changes the connection at the same time.
    pub async fn set_client_secrets(
        &self,
        connection: &Connection,
        secrets: &ClientSecrets,
        caller: &Caller,
    ) -> Result<(), Error> {
        if !self.write_secrets(connection, secrets, caller).await? {
            return Err(
                Fault::Unavailable("the connection has just been changed".to_owned()).into(),
            );
        }
        Ok(())
    }

    /// False where the connection is no longer the one that was read.
    async fn write_secrets(
        &self,
        connection: &Connection,
        secrets: &ClientSecrets,
        caller: &Caller,
    ) -> Result<bool, Error> {
        let generation = connection.generation + 1;
        let seal = |field, secret| self.seal_secret(&connection.id, field, generation, secret);
        let now = self.now();
        let update = Statement::new(
            "update connections
                set client_secret = $3, next_client_secret = $4, client_secret_expires_at = $5, generation = $6,
                    updated_at = $7
              where id = $1 and generation = $2",
            params![
                connection.id.as_str(),
                column(connection.generation),
                seal(CURRENT, secrets.current.as_ref())?,
                seal(NEXT, secrets.next.as_ref())?,
                secrets.current_expires_at,
                column(generation),
                now,
            ],
        )
        .exactly(1);
        let event =
            Event::succeeded(EventKind::ConnectionSecretChanged).connection(&*connection.name);
        let batch = Batch::new()
            .with(update)
            .with(self.audit_statement(&event, caller, now));
        match self.db.write(batch).await {
            Ok(_) => Ok(true),
            Err(WriteError::Expectation { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn seal_secret(
        &self,
        connection_id: &str,
        field: &'static str,
        generation: u64,
        secret: Option<&SecretString>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(secret) = secret else {
            return Ok(None);
        };
        let sealed = self.ring.seal(
            self.entropy.as_ref(),
            Purpose::Record,
            &secret_context(connection_id, field, generation),
            secret.reveal().as_bytes(),
        )?;
        Ok(Some(sealed))
    }

    /// Asks a provider as the connection's client. Where it refuses the client secret and there is a next one, asks once
    /// more with that, and remembers it if it works.
    ///
    /// # Errors
    /// Faults of ours; what the provider says is inside.
    pub(crate) async fn ask_as_client<T, F>(
        &self,
        connection: &Connection,
        ask: impl Fn(ConnectionSettings) -> F,
    ) -> Result<Result<T, Failure>, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let answer = ask(connection.provider_settings(self)?).await;
        let (Err(refused), Some(next)) = (&answer, &connection.next_client_secret) else {
            return Ok(answer);
        };
        if refused.kind != FailureKind::ClientMisconfigured {
            return Ok(answer);
        }
        let with_next = || connection.settings_with(self, NEXT, Some(next));
        let again = ask(with_next()?).await;
        // Anything but the same refusal is an answer to a client that the provider knows.
        let works =
            !matches!(&again, Err(failure) if failure.kind == FailureKind::ClientMisconfigured);
        if works {
            let swapped = ClientSecrets {
                current: with_next()?.client_secret,
                next: connection.provider_settings(self)?.client_secret,
                current_expires_at: None,
            };
            // Another node may have done it; a token set in hand matters more than either.
            if let Err(error) = self
                .write_secrets(connection, &swapped, &Caller::default())
                .await
            {
                tracing::warn!(connection.name = %connection.name, error = ?error, "the client secret that works could not be remembered");
            }
        }
        Ok(again)
    }

    /// Lets a client use a connection. Enabling it twice changes nothing.
    pub async fn enable_connection(
        &self,
        connection_id: &str,
        client_id: &str,
    ) -> Result<(), Error> {
        self.db
            .write(Batch::new().with(enable_statement(connection_id, client_id)))
            .await?;
        Ok(())
    }

    /// Takes a connection away from a client; its next exchange there is refused.
    pub async fn disable_connection(
        &self,
        connection_id: &str,
        client_id: &str,
    ) -> Result<(), Error> {
        self.db
            .write(Batch::new().with(disable_statement(connection_id, client_id)))
            .await?;
        Ok(())
    }

    /// The connection of a name.
    pub async fn find_connection(&self, name: &str) -> Result<Option<Connection>, Error> {
        let row = self.first(by_name_statement(name)).await?;
        row.as_ref().map(from_row).transpose()
    }
}

/// Opens a sealed text.
pub(crate) fn open_text(
    vault: &Vault,
    context: &RecordContext<'_>,
    sealed: &[u8],
) -> Result<SecretString, Error> {
    let opened = vault.ring.open(Purpose::Record, context, sealed)?;
    let text = std::str::from_utf8(opened.reveal())
        .map_err(|_| Fault::Internal("a sealed text is not UTF-8".to_owned()))?;
    Ok(SecretString::new(text.to_owned()))
}

const CURRENT: &str = "client_secret";
const NEXT: &str = "next_client_secret";

fn secret_context<'a>(id: &'a str, field: &'static str, generation: u64) -> RecordContext<'a> {
    RecordContext {
        table: "connections",
        row_id: id,
        field,
        generation,
    }
}

// The columns of `connections`, in the order that `from_row_at` reads them.
macro_rules! connection_columns {
    () => {
        "c.id, c.name, c.strategy, c.display_name, c.client_id, c.client_secret, c.options, c.scopes,
         c.callback_context, c.connected_accounts_active, c.generation, c.next_client_secret,
         c.client_secret_expires_at, c.authentication_active, c.metadata, c.revision"
    };
}
pub(crate) use connection_columns;

/// How many columns `connection_columns` names.
pub(crate) const CONNECTION_COLUMNS: usize = 16;

/// Reads the connection of a name.
pub(crate) fn by_name_statement(name: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connection_columns!(),
            " from connections c where c.name = $1"
        ),
        params![name],
    )
}

/// Reads the connection of an id.
pub(crate) fn by_id_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connection_columns!(),
            " from connections c where c.id = $1"
        ),
        params![id],
    )
}

/// Reads the connection of an account.
pub(crate) fn of_account_statement(account_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connection_columns!(),
            " from accounts a join connections c on c.id = a.connection_id where a.id = $1"
        ),
        params![account_id],
    )
}

/// Reads the connection of a name and whether `client_id` may use it.
pub(crate) fn for_client_statement(name: &str, client_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connection_columns!(),
            ", exists (select 1 from connection_clients e where e.connection_id = c.id and e.client_id = $2)
             from connections c where c.name = $1"
        ),
        params![name, client_id],
    )
}

/// Reads the connection of an id and whether `client_id` may use it.
pub(crate) fn for_client_statement_by_id(id: &str, client_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connection_columns!(),
            ", exists (select 1 from connection_clients e where e.connection_id = c.id and e.client_id = $2)
             from connections c where c.id = $1"
        ),
        params![id, client_id],
    )
}

/// Reads the connections that `client_id` may use, by name from `after` on.
pub(crate) fn list_for_client_statement(client_id: &str, after: &str, take: u32) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connection_columns!(),
            " from connections c
               join connection_clients e on e.connection_id = c.id and e.client_id = $1
              where c.connected_accounts_active = 1 and c.name > $2
              order by c.name
              limit $3"
        ),
        params![client_id, after, i64::from(take)],
    )
}

impl Vault {
    pub(crate) fn connection_for_client(&self, mut row: Row) -> Result<ConnectionForClient, Error> {
        let enabled = row.split_off(CONNECTION_COLUMNS);
        Ok(ConnectionForClient {
            connection: self.connections.of(row, from_row)?,
            enabled_for_client: enabled.bool(0)?,
        })
    }
}

pub(crate) fn from_row(row: &Row) -> Result<Connection, Error> {
    let generation = u64::try_from(row.int(10)?)
        .map_err(|_| Fault::Internal("connections.generation".to_owned()))?;
    Ok(Connection {
        id: row.text(0)?.to_owned(),
        name: row.text(1)?.to_owned(),
        strategy: row.text(2)?.to_owned(),
        display_name: row.text(3)?.to_owned(),
        client_id: row.text(4)?.to_owned(),
        client_secret: row.opt_blob(5)?.map(<[u8]>::to_vec),
        next_client_secret: row.opt_blob(11)?.map(<[u8]>::to_vec),
        client_secret_expires_at: row.opt_timestamp(12)?,
        options: row.text(6)?.to_owned(),
        scopes: serde_json::from_str(row.text(7)?)?,
        callback_context: row.text(8)?.to_owned(),
        connected_accounts_active: row.bool(9)?,
        generation,
        authentication_active: row.bool(13)?,
        metadata: serde_json::from_str(row.text(14)?)?,
        revision: u64::try_from(row.int(15)?)
            .map_err(|_| Fault::Internal("connections.revision".to_owned()))?,
    })
}

/// Everything that says where the provider is.
fn addresses(options: &ConnectionOptions) -> impl PartialEq + '_ {
    (
        &options.variables,
        [
            &options.issuer,
            &options.authorization_endpoint,
            &options.token_endpoint,
            &options.userinfo_endpoint,
            &options.revocation_endpoint,
            &options.jwks_uri,
        ],
    )
}

/// What an administrator changes of a connection; a secret that is None stays.
pub(crate) struct ConnectionChange {
    pub(crate) display_name: String,
    pub(crate) client_id: String,
    pub(crate) secret: Option<SecretString>,
    pub(crate) next_secret: Option<SecretString>,
    pub(crate) scopes: Vec<String>,
    pub(crate) options: ConnectionOptions,
    pub(crate) connected_accounts_active: bool,
    pub(crate) authentication_active: bool,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// What a unique index refused.
pub(crate) fn name_taken(error: WriteError) -> Error {
    match error {
        WriteError::UniqueViolation { .. } => Refusal::new(Reason::AlreadyExists)
            .describe("name: there is a connection of that name already.")
            .into(),
        error => error.into(),
    }
}

/// Connections by id, one window; filters: name and up to five strategies, empty where they do not matter.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            connection_columns!(),
            " from connections c
              where c.id > $1 and ($4 = '' or c.name = $4) and ($5 = '' or c.strategy in ($5, $6, $7, $8, $9))
              order by c.id limit $2 offset $3"
        ),
        "select count(*) from connections c
          where ($1 = '' or c.name = $1) and ($2 = '' or c.strategy in ($2, $3, $4, $5, $6))",
    )
}

/// Connections that a client may use, by id, one window; filter: the client.
pub(crate) fn list_of_client_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            connection_columns!(),
            " from connections c join connection_clients e on e.connection_id = c.id and e.client_id = $4
              where c.id > $1 order by c.id limit $2 offset $3"
        ),
        "select count(*) from connection_clients e where e.client_id = $1",
    )
}

/// All connections.
pub(crate) fn all_statement() -> Statement {
    Statement::new(
        concat!("select ", connection_columns!(), " from connections c"),
        params![],
    )
}

/// Which clients may use the connections from one id to another, both included.
pub(crate) fn clients_statement(first: &str, last: &str) -> Statement {
    Statement::new(
        "select connection_id, client_id from connection_clients
          where connection_id >= $1 and connection_id <= $2
          order by connection_id, client_id",
        params![first, last],
    )
}

/// Which clients may use which connections, all of them.
pub(crate) fn all_clients_statement() -> Statement {
    Statement::new(
        "select connection_id, client_id from connection_clients",
        params![],
    )
}

/// The clients that may use a connection, by id, one window; filter: the connection.
pub(crate) fn list_clients_statements() -> (&'static str, &'static str) {
    (
        "select e.client_id from connection_clients e
          where e.client_id > $1 and e.connection_id = $4
          order by e.client_id limit $2 offset $3",
        "select count(*) from connection_clients e where e.connection_id = $1",
    )
}

/// Lets a client use a connection.
pub(crate) fn enable_statement(connection_id: &str, client_id: &str) -> Statement {
    Statement::new(
        "insert into connection_clients (connection_id, client_id)
         values ($1, $2)
         on conflict do nothing",
        params![connection_id, client_id],
    )
}

/// Takes a connection away from a client.
pub(crate) fn disable_statement(connection_id: &str, client_id: &str) -> Statement {
    Statement::new(
        "delete from connection_clients where connection_id = $1 and client_id = $2",
        params![connection_id, client_id],
    )
}

/// How many accounts are connected at a connection.
pub(crate) fn count_accounts_statement(connection_id: &str) -> Statement {
    Statement::new(
        "select count(*) from accounts where connection_id = $1",
        params![connection_id],
    )
}

/// Deletes a connection; with its accounts, or only where there are none.
pub(crate) fn delete_statement(connection_id: &str, with_accounts: bool) -> Statement {
    Statement::new(
        "delete from connections
          where id = $1
            and ($2 = 1 or not exists (select 1 from accounts a where a.connection_id = $1))",
        params![connection_id, with_accounts],
    )
    .exactly(1)
}

/// Writes what changed, where nobody else has changed the connection since it was read.
fn update(before: &Connection, after: &Connection, now: Timestamp) -> Result<Statement, Error> {
    Ok(Statement::new(
        "update connections
            set display_name = $4, client_id = $5, client_secret = $6, next_client_secret = $7, options = $8,
                scopes = $9, connected_accounts_active = $10, authentication_active = $11, metadata = $12,
                client_secret_expires_at = $13, generation = $14, updated_at = $15, revision = revision + 1
          where id = $1 and revision = $2 and generation = $3",
        params![
            before.id.as_str(),
            column(before.revision),
            column(before.generation),
            after.display_name.as_str(),
            after.client_id.as_str(),
            after.client_secret.clone(),
            after.next_client_secret.clone(),
            after.options.as_str(),
            serde_json::to_string(&after.scopes)?,
            after.connected_accounts_active,
            after.authentication_active,
            serde_json::to_string(&after.metadata)?,
            after.client_secret_expires_at,
            column(after.generation),
            now,
        ],
    )
    .exactly(1))
}

/// The row of a new connection; refused where there is one of the name.
pub(crate) fn insert(connection: &Connection, now: Timestamp) -> Result<Statement, Error> {
    Ok(Statement::new(
        "insert into connections (id, name, strategy, display_name, client_id, client_secret, options, scopes,
                                  callback_context, connected_accounts_active, generation, next_client_secret,
                                  authentication_active, metadata, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)",
        params![
            connection.id.as_str(),
            connection.name.as_str(),
            connection.strategy.as_str(),
            connection.display_name.as_str(),
            connection.client_id.as_str(),
            connection.client_secret.clone(),
            connection.options.as_str(),
            serde_json::to_string(&connection.scopes)?,
            connection.callback_context.as_str(),
            connection.connected_accounts_active,
            column(connection.generation),
            connection.next_client_secret.clone(),
            connection.authentication_active,
            serde_json::to_string(&connection.metadata)?,
            now,
        ],
    )
    .exactly(1))
}
