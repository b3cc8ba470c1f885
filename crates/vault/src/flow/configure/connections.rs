//! Connections in the configuration: each with the clients that may use it.

use std::collections::{BTreeMap, BTreeSet};

use seal::SecretString;
use serde_json::{Map, Value};

use super::{Decided, Present, require_distinct};
use crate::configuration::{self, Action, ConfiguredConnection, FieldChange, ObjectKind};
use crate::connection::{self, Connection};
use crate::connection_settings::ConnectionSettings;
use crate::document::wrong;
use crate::flow::manage_connections::in_use;
use crate::{Administrator, Error, Vault};

/// A connection as it is.
pub(super) struct PresentConnection {
    pub(super) connection: Connection,
    /// Ids of the clients that may use it.
    pub(super) clients: BTreeSet<String>,
    pub(super) accounts: i64,
}

impl Present {
    /// The connections, in the order of their names.
    pub(super) fn connection_documents(&self) -> Result<Vec<Map<String, Value>>, Error> {
        let mut documents = BTreeMap::new();
        for present in &self.connections {
            let names: BTreeSet<String> = self
                .clients
                .iter()
                .filter(|client| present.clients.contains(&client.client.client_id))
                .map(|client| client.client.name.clone())
                .collect();
            let settings = ConnectionSettings::of(&present.connection)?;
            documents.insert(
                present.connection.name.clone(),
                document(&settings, &names)?,
            );
        }
        Ok(documents.into_values().collect())
    }

    /// The secrets that connections have, by name.
    pub(super) fn connection_secrets(&self) -> BTreeMap<String, Vec<String>> {
        self.connections
            .iter()
            .filter(|present| present.connection.has_secret())
            .map(|present| {
                let field = "options.client_secret".to_owned();
                (present.connection.name.clone(), vec![field])
            })
            .collect()
    }
}

impl Vault {
    /// The connections; those that are not among the wanted ones, where these are known, with the number of their accounts.
    pub(super) async fn present_connections(
        &self,
        wanted: Option<&[ConfiguredConnection]>,
    ) -> Result<Vec<PresentConnection>, Error> {
        let mut rows = self
            .db
            .read_all(vec![
                connection::all_statement(),
                connection::all_clients_statement(),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().unwrap_or_default();
        let mut connections: BTreeMap<String, PresentConnection> = BTreeMap::new();
        for row in &next() {
            let connection = connection::from_row(row)?;
            connections.insert(
                connection.id.clone(),
                PresentConnection {
                    connection,
                    clients: BTreeSet::new(),
                    accounts: 0,
                },
            );
        }
        for row in &next() {
            if let Some(present) = connections.get_mut(row.text(0)?) {
                present.clients.insert(row.text(1)?.to_owned());
            }
        }
        for present in connections.values_mut() {
            let name = &present.connection.name;
            let goes = wanted
                .is_some_and(|wanted| wanted.iter().all(|wanted| wanted.settings.name != *name));
            if goes {
                present.accounts = self.count_accounts(&present.connection.id).await?;
            }
        }
        Ok(connections.into_values().collect())
    }

    pub(super) fn decide_connections(
        &self,
        wanted: &[ConfiguredConnection],
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        require_distinct(
            "connections",
            "name",
            wanted.iter().map(|wanted| wanted.settings.name.as_str()),
        )?;
        for (index, wanted) in wanted.iter().enumerate() {
            self.decide_connection(wanted, present, administrator, decided)
                .map_err(|error| error.within(&format!("connections.{index}")))?;
        }
        for gone in &present.connections {
            let connection = &gone.connection;
            if wanted
                .iter()
                .any(|wanted| wanted.settings.name == connection.name)
            {
                continue;
            }
            administrator.require("delete:connections")?;
            if gone.accounts > 0 {
                return Err(in_use(&connection.name, gone.accounts).into());
            }
            decided
                .deletions
                .push(connection::delete_statement(&connection.id, false));
            decided.change(
                administrator,
                (Action::Delete, ObjectKind::Connection),
                (&connection.id, &connection.name),
                Vec::new(),
            );
        }
        Ok(())
    }

    fn decide_connection(
        &self,
        wanted: &ConfiguredConnection,
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        let settings = &wanted.settings;
        let mut clients = BTreeMap::new();
        for (index, name) in wanted.clients.iter().enumerate() {
            let id = decided
                .client_ids
                .get(name)
                .ok_or_else(|| wrong(&format!("clients.{index}"), "the name of one client"))?;
            clients.insert(name.clone(), id.clone());
        }
        let names: BTreeSet<String> = clients.keys().cloned().collect();
        let before = present
            .connections
            .iter()
            .find(|present| present.connection.name == settings.name);
        let Some(before) = before else {
            administrator.require("create:connections")?;
            let connection = self.decide_new_connection(settings)?;
            let document = document(&ConnectionSettings::of(&connection)?, &names)?;
            let mut fields = configuration::differences(&Map::new(), &document);
            if connection.has_secret() {
                fields.push(FieldChange::of_secret("options.client_secret"));
            }
            decided
                .objects
                .push(connection::insert(&connection, self.now())?);
            decided.references.extend(
                clients
                    .values()
                    .map(|client_id| connection::enable_statement(&connection.id, client_id)),
            );
            decided.change(
                administrator,
                (Action::Create, ObjectKind::Connection),
                (&connection.id, &connection.name),
                fields,
            );
            return Ok(());
        };
        let connection = &before.connection;
        if settings.strategy != connection.strategy {
            return Err(wrong(
                "strategy",
                "what it was when the connection was made; another one is another connection",
            )
            .into());
        }
        let (after, update) = self.decide_connection_change(connection, settings)?;
        let names_before: BTreeSet<String> = decided
            .client_ids
            .iter()
            .filter(|(_, id)| before.clients.contains(*id))
            .map(|(name, _)| name.clone())
            .collect();
        let mut fields = configuration::differences(
            &document(&ConnectionSettings::of(connection)?, &names_before)?,
            &document(&ConnectionSettings::of(&after)?, &names)?,
        );
        let is_other = |secret: &Option<String>| match secret {
            None => Ok(false),
            Some(secret) => self.is_other_secret(connection, &SecretString::new(secret.clone())),
        };
        if is_other(&settings.options.client_secret)? {
            fields.push(FieldChange::of_secret("options.client_secret"));
        }
        if fields.is_empty() {
            return Ok(());
        }
        administrator.require("update:connections")?;
        decided.objects.push(update);
        for (name, client_id) in &clients {
            if !names_before.contains(name) {
                let enable = connection::enable_statement(&connection.id, client_id);
                decided.references.push(enable);
            }
        }
        for name in names_before.difference(&names) {
            if let Some(client_id) = decided.client_ids.get(name) {
                let disable = connection::disable_statement(&connection.id, client_id);
                decided.references.push(disable);
            }
        }
        decided.change(
            administrator,
            (Action::Update, ObjectKind::Connection),
            (&connection.id, &connection.name),
            fields,
        );
        Ok(())
    }
}

fn document(
    settings: &ConnectionSettings,
    clients: &BTreeSet<String>,
) -> Result<Map<String, Value>, Error> {
    let mut members = configuration::concise(settings, |_| ())?;
    if !clients.is_empty() {
        members.insert("clients".to_owned(), serde_json::to_value(clients)?);
    }
    Ok(members)
}
