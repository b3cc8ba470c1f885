//! Clients in the configuration: each with its keys and its grants.

use std::collections::BTreeMap;

use oauth::scope::Scope;
use serde_json::{Map, Value};

use super::{Decided, Present, require_distinct};
use crate::client::{self, Client};
use crate::client_grant::{self, ClientGrant};
use crate::client_key::{self, ClientKey, NewCredential};
use crate::client_settings::{ClientSettings, CredentialId, CredentialRef};
use crate::configuration::{self, Action, ConfiguredClient, ConfiguredGrant, ObjectKind};
use crate::document::{printable, wrong};
use crate::flow::manage_clients::represented_unknown;
use crate::{Administrator, Error, Reason, Refusal, SubjectType, Vault};

/// A client as it is.
pub(super) struct PresentClient {
    pub(super) client: Client,
    pub(super) keys: Vec<ClientKey>,
    pub(super) grants: Vec<ClientGrant>,
}

impl PresentClient {
    /// The document that would make it.
    fn document(&self) -> Result<Map<String, Value>, Error> {
        let mut settings = ClientSettings::of(&self.client, &self.keys);
        for credential in settings.credentials_mut() {
            let CredentialRef::Known(known) = &*credential else {
                continue;
            };
            if let Some(key) = self.keys.iter().find(|key| key.id == known.id) {
                *credential = CredentialRef::New(Box::new(key.credential()?));
            }
        }
        document(
            &settings,
            self.grants.iter().map(ConfiguredGrant::of).collect(),
        )
    }
}

impl Present {
    /// The clients, in the order of their names.
    ///
    /// # Errors
    /// [`Reason::AlreadyExists`] where two share a name.
    pub(super) fn client_documents(&self) -> Result<Vec<Map<String, Value>>, Error> {
        let mut by_name: BTreeMap<&str, &PresentClient> = BTreeMap::new();
        for present in &self.clients {
            if by_name.insert(&present.client.name, present).is_some() {
                return Err(same_name(&present.client.name).into());
            }
        }
        by_name.into_values().map(PresentClient::document).collect()
    }

    /// The client of a name.
    fn client_named(&self, name: &str) -> Result<Option<&PresentClient>, Refusal> {
        let mut named = self
            .clients
            .iter()
            .filter(|present| present.client.name == name);
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(same_name(name)),
            (found, None) => Ok(found),
        }
    }
}

impl Present {
    /// What a client may do in the Management API.
    fn management_scope(&self, vault: &Vault, present: &PresentClient) -> Scope {
        let audience = vault.settings.issuer.management_audience();
        let api = self.apis.iter().find(|api| api.identifier == audience);
        let grant = present
            .grants
            .iter()
            .find(|grant| grant.audience == audience && grant.subject_type == SubjectType::Client);
        match (api, grant) {
            (Some(api), Some(grant)) if grant.allow_all_scopes => api.all_scopes(),
            (Some(api), Some(grant)) => grant.scopes.intersection(&api.all_scopes()),
            _ => Scope::default(),
        }
    }
}

impl Vault {
    /// The clients with their keys and grants.
    pub(super) async fn present_clients(&self) -> Result<Vec<PresentClient>, Error> {
        let mut rows = self
            .db
            .read_all(vec![
                client::all_statement(),
                client_key::all_statement(),
                client_grant::all_statement(),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().unwrap_or_default();
        let mut clients: BTreeMap<String, PresentClient> = BTreeMap::new();
        for row in &next() {
            let client = client::from_row(row)?;
            clients.insert(
                client.client_id.clone(),
                PresentClient {
                    client,
                    keys: Vec::new(),
                    grants: Vec::new(),
                },
            );
        }
        for row in &next() {
            let key = client_key::from_row(row)?;
            if let Some(present) = clients.get_mut(&key.client_id) {
                present.keys.push(key);
            }
        }
        for row in &next() {
            let grant = client_grant::from_row(row)?;
            if let Some(present) = clients.get_mut(&grant.client_id) {
                present.grants.push(grant);
            }
        }
        Ok(clients.into_values().collect())
    }

    pub(super) fn decide_clients(
        &self,
        wanted: &[ConfiguredClient],
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        require_distinct(
            "clients",
            "name",
            wanted.iter().map(|client| client.settings.name.as_str()),
        )?;
        for (index, wanted) in wanted.iter().enumerate() {
            self.decide_client(wanted, present, administrator, decided)
                .map_err(|error| error.within(&format!("clients.{index}")))?;
        }
        for gone in &present.clients {
            let client = &gone.client;
            let is_wanted = wanted
                .iter()
                .any(|wanted| wanted.settings.name == client.name);
            // Nobody saws off the branch that they sit on.
            let asks = administrator.client_id() == Some(client.client_id.as_str());
            if is_wanted || asks {
                continue;
            }
            administrator.require("delete:clients")?;
            administrator.require_all(&present.management_scope(self, gone))?;
            decided.client_ids.remove(&client.name);
            decided
                .deletions
                .push(client::delete_statement(&client.client_id));
            decided.change(
                administrator,
                (Action::Delete, ObjectKind::Client),
                (&client.client_id, &client.name),
                Vec::new(),
            );
        }
        Ok(())
    }

    fn decide_client(
        &self,
        wanted: &ConfiguredClient,
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        let settings = canonical(&wanted.settings)?;
        let after = document(&settings, wanted.grants.clone())?;
        let Some(before) = present.client_named(&settings.name)? else {
            return self.decide_made_client(
                settings,
                &after,
                &wanted.grants,
                administrator,
                decided,
            );
        };
        let fields = configuration::differences(&before.document()?, &after);
        if fields.is_empty() {
            return Ok(());
        }
        let client = &before.client;
        administrator.require_all(&present.management_scope(self, before))?;
        if fields.iter().any(|change| change.field != "grants") {
            administrator.require("update:clients")?;
            let is_privilege =
                |field: &str| field.split('.').next() == Some("token_vault_privileged_access");
            if fields.iter().any(|change| is_privilege(&change.field)) {
                administrator.require("update:client_token_vault_privileged_access")?;
            }
            if settings.resource_server_identifier != client.resource_server_identifier {
                return Err(wrong(
                    "resource_server_identifier",
                    "what it was when the client was made; another API needs another client",
                )
                .into());
            }
            let (settings, key_statements) = with_known_keys(settings, before)?;
            let change = self.decide_client_change(client, &before.keys, settings)?;
            decided.objects.extend(change.statements);
            decided.objects.extend(key_statements);
            if let Some(secret) = change.secret {
                let made = (client.name.clone(), client.client_id.clone(), Some(secret));
                decided.made.push(made);
            }
        }
        self.decide_grants(
            &client.client_id,
            &before.grants,
            &wanted.grants,
            administrator,
            decided,
        )?;
        decided.change(
            administrator,
            (Action::Update, ObjectKind::Client),
            (&client.client_id, &client.name),
            fields,
        );
        Ok(())
    }

    fn decide_made_client(
        &self,
        settings: ClientSettings,
        after: &Map<String, Value>,
        grants: &[ConfiguredGrant],
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        administrator.require("create:clients")?;
        if settings.token_vault_privileged_access.is_some() {
            administrator.require("create:client_token_vault_privileged_access")?;
        }
        let is_known = |wanted: &String| decided.apis.iter().any(|api| api.identifier == *wanted);
        if !settings.resource_server_identifier.iter().all(is_known) {
            return Err(represented_unknown().into());
        }
        let change = self.decide_new_client(settings)?;
        let (client_id, name) = (change.client.client_id, change.client.name);
        decided.objects.extend(change.statements);
        decided.client_ids.insert(name.clone(), client_id.clone());
        self.decide_grants(&client_id, &[], grants, administrator, decided)?;
        decided.change(
            administrator,
            (Action::Create, ObjectKind::Client),
            (&client_id, &name),
            configuration::differences(&Map::new(), after),
        );
        decided.made.push((name, client_id, change.secret));
        Ok(())
    }

    fn decide_grants(
        &self,
        client_id: &str,
        before: &[ClientGrant],
        wanted: &[ConfiguredGrant],
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        for (index, grant) in wanted.iter().enumerate() {
            let field = |name: &str| format!("grants.{index}.{name}");
            if wanted
                .iter()
                .take(index)
                .any(|other| other.key() == grant.key())
            {
                return Err(wrong(
                    &field("audience"),
                    "an API that does not stand there already",
                )
                .into());
            }
            let api = decided
                .apis
                .iter()
                .find(|api| api.identifier == grant.audience)
                .ok_or_else(|| wrong(&field("audience"), "the identifier of an API"))?;
            let settings = grant.settings(client_id);
            let known = before
                .iter()
                .find(|known| ConfiguredGrant::of(known).key() == grant.key());
            let statement = match known {
                Some(known) if ConfiguredGrant::of(known) == *grant => continue,
                Some(known) => {
                    administrator.require("update:client_grants")?;
                    self.decide_grant_change(administrator, known, &settings, api)
                }
                None => {
                    administrator.require("create:client_grants")?;
                    self.decide_new_grant(administrator, &settings, api)
                }
            };
            let (_, statement) =
                statement.map_err(|error| error.within(&format!("grants.{index}")))?;
            decided.references.push(statement);
        }
        for gone in before {
            let key = ConfiguredGrant::of(gone);
            if wanted.iter().all(|grant| grant.key() != key.key()) {
                administrator.require("delete:client_grants")?;
                decided
                    .references
                    .push(client_grant::delete_statement(&gone.id));
            }
        }
        Ok(())
    }
}

/// The settings with every key in the one form that it is written in, so that equal keys look equal.
fn canonical(settings: &ClientSettings) -> Result<ClientSettings, Error> {
    let fields: Vec<String> = settings
        .wanted_keys()
        .into_iter()
        .map(|wanted| wanted.field)
        .collect();
    let mut settings = settings.clone();
    for (credential, field) in settings.credentials_mut().zip(fields) {
        match credential {
            CredentialRef::Known(_) => {
                return Err(wrong(
                    &field,
                    "a whole credential with its pem; ids differ between deployments",
                )
                .into());
            }
            CredentialRef::New(new) => **new = new.parse(&field)?.credential()?,
        }
    }
    Ok(settings)
}

/// The settings with the ids of the keys that the client has, and what of these keys is written otherwise.
fn with_known_keys(
    mut settings: ClientSettings,
    present: &PresentClient,
) -> Result<(ClientSettings, Vec<store::Statement>), Error> {
    let mut statements = Vec::new();
    for credential in settings.credentials_mut() {
        let CredentialRef::New(new) = &*credential else {
            continue;
        };
        let Some(key) = present
            .keys
            .iter()
            .find(|key| Some(&key.kid) == new.kid.as_ref())
        else {
            continue;
        };
        let known = key.credential()?;
        let same_key = NewCredential {
            name: new.name.clone(),
            expires_at: new.expires_at,
            ..known.clone()
        };
        if same_key != **new {
            return Err(wrong(
                "client_authentication_methods",
                "another kid for another key: the client has a key of that kid which is not this one",
            )
            .into());
        }
        if known != **new {
            statements.push(client_key::update_statement(
                &present.client.client_id,
                &key.id,
                new.name.as_deref(),
                new.expires_at,
            ));
        }
        *credential = CredentialRef::Known(CredentialId { id: key.id.clone() });
    }
    Ok((settings, statements))
}

/// A client as a document: what goes without saying is not said.
fn document(
    settings: &ClientSettings,
    mut grants: Vec<ConfiguredGrant>,
) -> Result<Map<String, Value>, Error> {
    let mut members = configuration::concise(settings, ClientSettings::complete)?;
    grants.sort_by(|a, b| a.key().cmp(&b.key()));
    if !grants.is_empty() {
        members.insert("grants".to_owned(), serde_json::to_value(grants)?);
    }
    Ok(members)
}

fn same_name(name: &str) -> Refusal {
    Refusal::new(Reason::AlreadyExists).describe(format!(
        "Two clients are called {}; a configuration knows clients by their names. Rename one.",
        printable(name)
    ))
}
