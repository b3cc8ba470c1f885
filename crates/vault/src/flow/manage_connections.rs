//! Connections, as an administrator looks after them (contract 4.2). Changes are decided and written as those of clients.

use provider::FailureKind;
use schemars::JsonSchema;
use seal::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Batch, Statement, WriteError, params};

use crate::connection::{self, Connection, ConnectionChange, NewConnection};
use crate::connection_settings::{ConnectionSettings, ManagedConnectionView};
use crate::document::{object_of, wrong};
use crate::flow::manage_clients::ROUNDS;
use crate::listing::ListQuery;
use crate::{
    Administrator, Caller, Document, Error, EventKind, Listed, Patch, Reason, Refusal, Source,
    Vault, Window,
};

/// Which connections to list; what is absent does not matter.
#[derive(Debug, Default)]
pub struct ConnectionFilter {
    /// Only the one of this name.
    pub name: Option<String>,
    /// Only of these strategies, at most five.
    pub strategies: Vec<String>,
}

/// Whether a client may use a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionClient {
    /// The client.
    #[schemars(length(min = 1, max = 64))]
    pub client_id: String,
    /// Whether it may.
    pub status: bool,
}

/// What `PATCH /connections/{id}/clients` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct ConnectionClients(#[schemars(length(min = 1, max = 50))] pub Vec<ConnectionClient>);

/// A client that may use a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EnabledClient {
    /// `cl_…`.
    pub client_id: String,
}

/// What was found out about a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConnectionCheck {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The redirect URI to register at the provider.
    pub callback_url: String,
    /// What was looked at.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Finding {
    /// What: `discovery` or `client`.
    pub check: &'static str,
    /// Whether it is good.
    pub ok: bool,
    /// What was seen, and what to do where it is not good.
    pub message: String,
}

impl Vault {
    /// Connections by id.
    ///
    /// # Errors
    /// [`Reason::CursorInvalid`].
    pub async fn list_all_connections(
        &self,
        filter: &ConnectionFilter,
        window: &Window,
    ) -> Result<Listed<ManagedConnectionView>, Error> {
        let name = filter.name.clone().unwrap_or_default();
        let (select, count) = connection::list_statements();
        let mut filters = params![name.as_str()];
        for index in 0..5 {
            let strategy = filter.strategies.get(index).map_or("", String::as_str);
            filters.push(strategy);
        }
        let query = ListQuery {
            name: "connections",
            select,
            count,
            filtered_by: format!("{name} {}", filter.strategies.join(" ")),
            filters,
        };
        let listed = self
            .list(query, window, connection::from_row, |connection| {
                &connection.id
            })
            .await?;
        self.show_connections(listed).await
    }

    /// The connections that a client may use, by id.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`] where there is no such client, [`Reason::CursorInvalid`].
    pub async fn list_connections_of_client(
        &self,
        client_id: &str,
        window: &Window,
    ) -> Result<Listed<ManagedConnectionView>, Error> {
        self.find_client(client_id)
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        let (select, count) = connection::list_of_client_statements();
        let query = ListQuery {
            name: "client_connections",
            select,
            count,
            filtered_by: client_id.to_owned(),
            filters: params![client_id],
        };
        let listed = self
            .list(query, window, connection::from_row, |connection| {
                &connection.id
            })
            .await?;
        self.show_connections(listed).await
    }

    async fn show_connections(
        &self,
        listed: Listed<Connection>,
    ) -> Result<Listed<ManagedConnectionView>, Error> {
        let enabled = match (listed.items.first(), listed.items.last()) {
            (Some(first), Some(last)) => self.enabled_clients(&first.id, &last.id).await?,
            _ => Vec::new(),
        };
        listed.try_map(|connection| self.show_connection(&connection, &enabled))
    }

    fn show_connection(
        &self,
        connection: &Connection,
        enabled: &[(String, String)],
    ) -> Result<ManagedConnectionView, Error> {
        Ok(ManagedConnectionView {
            id: connection.id.clone(),
            callback_url: None,
            enabled_clients: enabled
                .iter()
                .filter(|(id, _)| *id == connection.id)
                .map(|(_, client_id)| client_id.clone())
                .collect(),
            settings: ConnectionSettings::of(connection)?,
        })
    }

    /// Which clients may use the connections from one id to another: ids of connection and client.
    pub(crate) async fn enabled_clients(
        &self,
        first: &str,
        last: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let rows = self
            .db
            .read_rows(connection::clients_statement(first, last))
            .await?;
        rows.iter()
            .map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned())))
            .collect()
    }

    /// One connection.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_connection(&self, id: &str) -> Result<ManagedConnectionView, Error> {
        let connection = self.connection_of_id(id).await?;
        let enabled = self.enabled_clients(id, id).await?;
        Ok(ManagedConnectionView {
            callback_url: Some(connection.callback_uri(self)),
            ..self.show_connection(&connection, &enabled)?
        })
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`], [`Reason::AlreadyExists`].
    pub async fn register_connection(
        &self,
        administrator: &Administrator,
        body: Value,
        caller: &Caller,
    ) -> Result<ManagedConnectionView, Error> {
        let mut body = object_of(body)?;
        let strategy = body
            .get("strategy")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        ConnectionSettings::complete(&mut body, &strategy);
        let settings = ConnectionSettings::read(Value::Object(body), Source::Body)?;
        let connection = self.decide_new_connection(&settings)?;
        let event = administrator
            .event(EventKind::ConnectionChanged, "created", &connection.id)
            .connection(&*connection.name);
        let mut batch = Batch::new().with(connection::insert(&connection, self.now())?);
        for client_id in settings.enabled_clients.iter().flatten() {
            self.require_client(client_id, "enabled_clients").await?;
            batch.push(connection::enable_statement(&connection.id, client_id));
        }
        batch.push(self.audit_statement(&event, caller, self.now()));
        self.db.write(batch).await.map_err(connection::name_taken)?;
        self.view_connection(&connection.id).await
    }

    /// Changes a connection. A secret that the options leave out stays.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`], [`Reason::ChangedMeanwhile`].
    pub async fn change_connection(
        &self,
        administrator: &Administrator,
        id: &str,
        body: Value,
        caller: &Caller,
    ) -> Result<ManagedConnectionView, Error> {
        let strategy = self.connection_of_id(id).await?.strategy;
        let mut body = object_of(body)?;
        if let Some(Value::Object(options)) = body.get("options") {
            let mut part = serde_json::Map::new();
            part.insert("options".to_owned(), Value::Object(options.clone()));
            ConnectionSettings::complete(&mut part, &strategy);
            body.append(&mut part);
        }
        let patch: Patch<ConnectionSettings> = Patch::read(Value::Object(body))?;
        for _ in 0..ROUNDS {
            let before = self.connection_of_id(id).await?;
            let settings = patch.apply(&ConnectionSettings::of(&before)?)?;
            let (_, update) = self.decide_connection_change(&before, &settings)?;
            let mut batch = Batch::new().with(update);
            if let Some(wanted) = &settings.enabled_clients {
                for (_, client_id) in self.enabled_clients(id, id).await? {
                    if !wanted.contains(&client_id) {
                        batch.push(connection::disable_statement(id, &client_id));
                    }
                }
                for client_id in wanted {
                    self.require_client(client_id, "enabled_clients").await?;
                    batch.push(connection::enable_statement(id, client_id));
                }
            }
            let event = administrator
                .event(EventKind::ConnectionChanged, "updated", id)
                .connection(&*before.name)
                .detail("fields", patch.names());
            batch.push(self.audit_statement(&event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => return self.view_connection(id).await,
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Deletes a connection. Where accounts are connected at it, they go only if that is said: with their tokens, which
    /// nobody can give back at the provider then.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`]; [`Reason::StillInUse`] says how many accounts there are.
    pub async fn delete_connection(
        &self,
        administrator: &Administrator,
        id: &str,
        with_accounts: bool,
        caller: &Caller,
    ) -> Result<(), Error> {
        let connection = self.connection_of_id(id).await?;
        let accounts = self.count_accounts(id).await?;
        let event = administrator
            .event(EventKind::ConnectionChanged, "deleted", id)
            .connection(&*connection.name)
            .detail("accounts", accounts);
        let batch = Batch::new()
            .with(connection::delete_statement(id, with_accounts))
            .with(self.audit_statement(&event, caller, self.now()));
        match self.db.write(batch).await {
            Ok(_) => Ok(()),
            Err(WriteError::Expectation { .. }) => {
                // It is gone, or accounts are connected at it.
                self.connection_of_id(id).await?;
                Err(in_use(&connection.name, self.count_accounts(id).await?).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn count_accounts(&self, connection_id: &str) -> Result<i64, Error> {
        let count = connection::count_accounts_statement(connection_id);
        let rows = self.db.read_rows(count).await?;
        let count = rows.first().map(|row| row.int(0)).transpose()?;
        Ok(count.unwrap_or_default())
    }

    /// The clients that may use a connection, by id.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::CursorInvalid`].
    pub async fn list_connection_clients(
        &self,
        id: &str,
        window: &Window,
    ) -> Result<Listed<EnabledClient>, Error> {
        self.connection_of_id(id).await?;
        let (select, count) = connection::list_clients_statements();
        let query = ListQuery {
            name: "connection_clients",
            select,
            count,
            filtered_by: id.to_owned(),
            filters: params![id],
        };
        self.list(
            query,
            window,
            |row| {
                Ok(EnabledClient {
                    client_id: row.text(0)?.to_owned(),
                })
            },
            |client| &client.client_id,
        )
        .await
    }

    /// Lets clients use a connection, or takes it away from them.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`] where a client is unknown.
    pub async fn change_connection_clients(
        &self,
        administrator: &Administrator,
        id: &str,
        clients: &ConnectionClients,
        caller: &Caller,
    ) -> Result<(), Error> {
        let connection = self.connection_of_id(id).await?;
        let mut batch = Batch::new();
        for (index, client) in clients.0.iter().enumerate() {
            if client.status {
                self.require_client(&client.client_id, &index.to_string())
                    .await?;
            }
            batch.push(if client.status {
                connection::enable_statement(id, &client.client_id)
            } else {
                connection::disable_statement(id, &client.client_id)
            });
        }
        let shown: Vec<String> = clients
            .0
            .iter()
            .map(|client| format!("{} {}", client.client_id, client.status))
            .collect();
        let event = administrator
            .event(EventKind::ConnectionChanged, "clients_changed", id)
            .connection(&*connection.name)
            .detail("clients", shown);
        batch.push(self.audit_statement(&event, caller, self.now()));
        self.db.write(batch).await?;
        Ok(())
    }

    /// Asks the provider whether it knows this deployment's client: its metadata, and a code that cannot exist. Nothing of
    /// the database is held meanwhile.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn check_connection_at_provider(&self, id: &str) -> Result<ConnectionCheck, Error> {
        let connection = self.connection_of_id(id).await?;
        let settings = connection.provider_settings(self)?;
        let mut findings = Vec::new();
        match self.provider.issuer(&settings, self.now()).await {
            Ok(_) => findings.push(Finding {
                check: "discovery",
                ok: true,
                message: "The provider's endpoints are known.".to_owned(),
            }),
            Err(failure) => findings.push(Finding {
                check: "discovery",
                ok: false,
                message: format!(
                    "The provider's endpoints could not be learned: {failure}. Check the connection's options and \
                     the way from this machine to the provider."
                ),
            }),
        }
        if findings.iter().all(|finding| finding.ok) {
            findings.push(self.check_client_at_provider(&connection).await?);
        }
        Ok(ConnectionCheck {
            ok: findings.iter().all(|finding| finding.ok),
            callback_url: connection.callback_uri(self),
            findings,
        })
    }

    async fn check_client_at_provider(&self, connection: &Connection) -> Result<Finding, Error> {
        let code = SecretString::new(seal::random_id(self.entropy.as_ref(), "check_"));
        let verifier = SecretString::new(
            seal::random_id(self.entropy.as_ref(), "")
                + &seal::random_id(self.entropy.as_ref(), ""),
        );
        let redirect_uri = connection.callback_uri(self);
        let nothing = std::collections::BTreeMap::new();
        let grant = provider::CodeGrant {
            code: &code,
            redirect_uri: &redirect_uri,
            code_verifier: Some(&verifier),
            variables: &nothing,
        };
        let settings = connection.provider_settings(self)?;
        let answer = self
            .provider
            .redeem_code(&settings, &grant, self.now())
            .await;
        let (ok, message) = match answer.map(drop) {
            Err(failure) if failure.kind == FailureKind::ReauthorizationRequired => (
                true,
                "The provider accepts the client id and secret.".to_owned(),
            ),
            Err(failure) if failure.kind == FailureKind::ClientMisconfigured => (
                false,
                format!(
                    "The provider refuses this vault as a client: {}. Check client_id and client_secret, and that {} is \
                     registered there as a redirect URI.",
                    failure.provider_error.as_deref().unwrap_or(failure.detail),
                    redirect_uri,
                ),
            ),
            Err(failure) => (
                false,
                format!(
                    "The provider gave no answer that tells whether it accepts the client: {failure}."
                ),
            ),
            Ok(()) => (
                false,
                "The provider gave a token for a code that it never issued.".to_owned(),
            ),
        };
        Ok(Finding {
            check: "client",
            ok,
            message,
        })
    }

    /// Decides a new connection.
    pub(crate) fn decide_new_connection(
        &self,
        settings: &ConnectionSettings,
    ) -> Result<Connection, Error> {
        let parts = settings.parts(None)?;
        let mut connection = self.decide_registration_of_connection(NewConnection {
            name: settings.name.clone(),
            strategy: settings.strategy.clone(),
            display_name: settings.display_name.clone().unwrap_or_default(),
            client_id: parts.client_id,
            client_secret: parts.secret,
            options: parts.options,
            scopes: parts.scopes,
        })?;
        connection.connected_accounts_active = settings.connected_accounts.active;
        connection.authentication_active = settings.authentication.active;
        connection.metadata.clone_from(&settings.metadata);
        if parts.next_secret.is_some() {
            return Err(wrong(
                "options.next_client_secret",
                "absent in a new connection, which has one secret",
            )
            .into());
        }
        Ok(connection)
    }

    /// Decides a change. The statement holds only where the connection is still `before`.
    pub(crate) fn decide_connection_change(
        &self,
        before: &Connection,
        settings: &ConnectionSettings,
    ) -> Result<(Connection, Statement), Error> {
        let parts = settings.parts(before.options()?.simulator)?;
        let change = ConnectionChange {
            display_name: settings
                .display_name
                .clone()
                .unwrap_or_else(|| before.name.clone()),
            client_id: parts.client_id,
            secret: parts.secret,
            next_secret: parts.next_secret,
            scopes: parts.scopes,
            options: parts.options,
            connected_accounts_active: settings.connected_accounts.active,
            authentication_active: settings.authentication.active,
            metadata: settings.metadata.clone(),
        };
        self.decide_connection_update(before, change)
    }

    async fn require_client(&self, client_id: &str, field: &str) -> Result<(), Error> {
        match self.find_client(client_id).await? {
            Some(_) => Ok(()),
            None => Err(wrong(field, "ids of clients that are registered").into()),
        }
    }

    async fn connection_of_id(&self, id: &str) -> Result<Connection, Error> {
        let row = self
            .first(connection::by_id_statement(id))
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        connection::from_row(&row)
    }
}

/// A connection that people have connected accounts at.
pub(crate) fn in_use(name: &str, accounts: i64) -> Refusal {
    Refusal::new(Reason::StillInUse)
        .describe(format!(
            "{accounts} accounts are connected at {name}. Say delete_accounts=true to delete them as well."
        ))
        .with("accounts", accounts)
}
