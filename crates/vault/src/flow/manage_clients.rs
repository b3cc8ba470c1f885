//! Clients, as an administrator looks after them (contract 4.1).
//!
//! A change is read, decided and written where nobody else has changed the client meanwhile; if somebody has, it is
//! decided anew on what is there now, so that of two changes at once neither is lost. The record of it is in the same
//! transaction.

use seal::SecretString;
use serde_json::{Map, Value};
use store::{Batch, Statement, WriteError, params};

use crate::client::{self, Client, TokenEndpointAuthMethod};
use crate::client_key::{
    self, ClientKey, CredentialSettings, CredentialView, KeyPurpose, NewCredential,
    ParsedCredential,
};
use crate::client_settings::{ClientSettings, ClientView, CredentialRef};
use crate::document::{object_of, wrong};
use crate::listing::ListQuery;
use crate::token_set::after;
use crate::{
    Administrator, Caller, Document, Error, EventKind, Listed, Patch, Reason, Refusal, Source,
    Vault, Window,
};

/// How often a change that lost a race is decided anew.
pub(crate) const ROUNDS: u32 = 8;

/// Which clients to list; what is absent does not matter.
#[derive(Debug, Default)]
pub struct ClientFilter {
    /// Only of this kind.
    pub app_type: Option<String>,
    /// Only ours, or only others'.
    pub is_first_party: Option<bool>,
}

/// A change of a client, decided and not yet written.
pub(crate) struct ClientChange {
    pub(crate) client: Client,
    pub(crate) statements: Vec<Statement>,
    /// Made by the change; shown once.
    pub(crate) secret: Option<SecretString>,
}

impl Vault {
    /// Clients by id.
    ///
    /// # Errors
    /// [`Reason::CursorInvalid`].
    pub async fn list_clients(
        &self,
        filter: &ClientFilter,
        window: &Window,
    ) -> Result<Listed<ClientView>, Error> {
        let app_type = filter.app_type.clone().unwrap_or_default();
        let first_party = filter.is_first_party.map_or(-1, i64::from);
        let (select, count) = client::list_statements();
        let query = ListQuery {
            name: "clients",
            select,
            count,
            filtered_by: format!("{app_type} {first_party}"),
            filters: params![app_type, first_party],
        };
        let listed = self
            .list(query, window, client::from_row, |client| &client.client_id)
            .await?;
        let keys = match (listed.items.first(), listed.items.last()) {
            (Some(first), Some(last)) => {
                self.client_keys(&first.client_id, &last.client_id).await?
            }
            _ => Vec::new(),
        };
        Ok(listed.map(|client| ClientView::of(&client, &keys)))
    }

    /// One client.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_client(&self, client_id: &str) -> Result<ClientView, Error> {
        let (client, keys) = self.client_with_keys(client_id).await?;
        Ok(ClientView::of(&client, &keys))
    }

    /// Registers a client; its secret, where it has one, is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] points at the field; [`Reason::AlreadyExists`] where another client represents the API.
    pub async fn register_client(
        &self,
        administrator: &Administrator,
        body: Value,
        caller: &Caller,
    ) -> Result<ClientView, Error> {
        let settings = ClientSettings::read(Value::Object(new_document(body)?), Source::Body)?;
        if settings.token_vault_privileged_access.is_some() {
            administrator.require("create:client_token_vault_privileged_access")?;
        }
        self.check_represented_api(&settings).await?;
        let change = self.decide_new_client(settings)?;
        let event = administrator.event(
            EventKind::ClientChanged,
            "created",
            &change.client.client_id,
        );
        let mut batch = change
            .statements
            .into_iter()
            .fold(Batch::new(), Batch::with);
        batch.push(self.audit_statement(&event, caller, self.now()));
        self.db.write(batch).await.map_err(taken)?;
        let mut view = self.view_client(&change.client.client_id).await?;
        view.client_secret = change.secret.map(|secret| secret.reveal().to_owned());
        Ok(view)
    }

    /// Changes a client. Where the change makes it need a secret, the answer has one.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`], [`Reason::ChangedMeanwhile`].
    pub async fn change_client(
        &self,
        administrator: &Administrator,
        client_id: &str,
        patch: &Patch<ClientSettings>,
        caller: &Caller,
    ) -> Result<ClientView, Error> {
        if patch
            .names()
            .iter()
            .any(|name| name == "token_vault_privileged_access")
        {
            administrator.require("update:client_token_vault_privileged_access")?;
        }
        self.require_power_over(administrator, client_id).await?;
        let event = administrator
            .event(EventKind::ClientChanged, "updated", client_id)
            .detail("fields", patch.names());
        for _ in 0..ROUNDS {
            let (before, keys) = self.client_with_keys(client_id).await?;
            let settings = patch.apply(&ClientSettings::of(&before, &keys))?;
            let change = self.decide_client_change(&before, &keys, settings)?;
            let mut batch = change
                .statements
                .into_iter()
                .fold(Batch::new(), Batch::with);
            batch.push(self.audit_statement(&event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => {
                    let mut view = self.view_client(client_id).await?;
                    view.client_secret = change.secret.map(|secret| secret.reveal().to_owned());
                    return Ok(view);
                }
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(taken(error)),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Deletes a client with its tokens, grants and consents.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn delete_client(
        &self,
        administrator: &Administrator,
        client_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.require_power_over(administrator, client_id).await?;
        let event = administrator.event(EventKind::ClientChanged, "deleted", client_id);
        let batch = Batch::new()
            .with(client::delete_statement(client_id))
            .with(self.audit_statement(&event, caller, self.now()));
        self.write_known(batch).await
    }

    /// Gives a client a new secret. The one before ends at once, or after `keep_previous_for` seconds.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`]; [`Reason::InvalidBody`] where the client has no use for one.
    pub async fn rotate_client_secret(
        &self,
        administrator: &Administrator,
        client_id: &str,
        keep_previous_for: u64,
        caller: &Caller,
    ) -> Result<ClientView, Error> {
        self.require_power_over(administrator, client_id).await?;
        let client = self
            .find_client(client_id)
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        if !client.uses_secret() {
            return Err(wrong(
                "token_endpoint_auth_method",
                "client_secret_post or client_secret_basic; this client authenticates without a secret",
            )
            .into());
        }
        let now = self.now();
        let (insert, secret) = self.new_secret_statement(client_id, now);
        let event = administrator.event(EventKind::ClientChanged, "secret_rotated", client_id);
        let batch = Batch::new()
            .with(client::end_secrets_statement(
                client_id,
                after(now, keep_previous_for),
            ))
            .with(insert)
            .with(self.audit_statement(&event, caller, now));
        self.db.write(batch).await?;
        let mut view = self.view_client(client_id).await?;
        view.client_secret = Some(secret.reveal().to_owned());
        Ok(view)
    }

    /// The keys of a client.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`] where there is no such client.
    pub async fn list_credentials(&self, client_id: &str) -> Result<Vec<CredentialView>, Error> {
        let (_, keys) = self.client_with_keys(client_id).await?;
        Ok(keys.iter().map(ClientKey::view).collect())
    }

    /// One key of a client.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_credential(
        &self,
        client_id: &str,
        credential_id: &str,
    ) -> Result<CredentialView, Error> {
        let (_, keys) = self.client_with_keys(client_id).await?;
        let key = keys.iter().find(|key| key.id == credential_id);
        Ok(key.ok_or(Reason::ObjectUnknown)?.view())
    }

    /// Registers a key for a client; what it is for, the client's settings say.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`], [`Reason::AlreadyExists`] where the client has the `kid`.
    pub async fn register_credential(
        &self,
        administrator: &Administrator,
        client_id: &str,
        new: &NewCredential,
        caller: &Caller,
    ) -> Result<CredentialView, Error> {
        let parsed = new.parse("")?;
        self.require_power_over(administrator, client_id).await?;
        self.find_client(client_id)
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        let id = seal::random_id(self.entropy.as_ref(), "key_");
        let now = self.now();
        let event = administrator
            .event(EventKind::ClientChanged, "credential_created", client_id)
            .detail("credential", id.as_str());
        let batch = Batch::new()
            .with(parsed.insert(&id, client_id, KeyPurpose::Unassigned, now))
            .with(self.audit_statement(&event, caller, now));
        self.db.write(batch).await.map_err(|error| match error {
            WriteError::UniqueViolation { .. } => client_key::kid_taken().into(),
            error => Error::from(error),
        })?;
        self.view_credential(client_id, &id).await
    }

    /// Changes the end of a key.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn change_credential(
        &self,
        administrator: &Administrator,
        client_id: &str,
        credential_id: &str,
        settings: &CredentialSettings,
        caller: &Caller,
    ) -> Result<CredentialView, Error> {
        self.require_power_over(administrator, client_id).await?;
        let event = administrator
            .event(EventKind::ClientChanged, "credential_updated", client_id)
            .detail("credential", credential_id);
        let batch = Batch::new()
            .with(client_key::set_end_statement(
                client_id,
                credential_id,
                settings.expires_at,
            ))
            .with(self.audit_statement(&event, caller, self.now()));
        self.write_known(batch).await?;
        self.view_credential(client_id, credential_id).await
    }

    /// Deletes a key; what it signs is refused from now on.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn delete_credential(
        &self,
        administrator: &Administrator,
        client_id: &str,
        credential_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.require_power_over(administrator, client_id).await?;
        let event = administrator
            .event(EventKind::ClientChanged, "credential_deleted", client_id)
            .detail("credential", credential_id);
        let batch = Batch::new()
            .with(client_key::delete_statement(client_id, credential_id))
            .with(self.audit_statement(&event, caller, self.now()));
        self.write_known(batch).await
    }

    /// Decides a new client: its row, its secret where it needs one, its keys.
    pub(crate) fn decide_new_client(
        &self,
        settings: ClientSettings,
    ) -> Result<ClientChange, Error> {
        let keys = new_keys(&settings)?;
        let disabled = settings.disabled;
        let new = settings.into_new_client()?;
        let now = self.now();
        let (mut client, mut statements, secret) = self.decide_registration(new, now)?;
        if disabled {
            client.disabled_at = Some(now);
            statements.push(client::update_statement(&client, now)?);
        }
        for (purpose, key) in keys {
            let id = seal::random_id(self.entropy.as_ref(), "key_");
            statements.push(key.insert(&id, &client.client_id, purpose, now));
        }
        Ok(ClientChange {
            client,
            statements,
            secret,
        })
    }

    /// Decides a change. The first statement holds only where the client is still `before`.
    pub(crate) fn decide_client_change(
        &self,
        before: &Client,
        keys: &[ClientKey],
        settings: ClientSettings,
    ) -> Result<ClientChange, Error> {
        let now = self.now();
        let mut assigned: Vec<&str> = Vec::new();
        let mut key_statements = Vec::new();
        for wanted in settings.wanted_keys() {
            match wanted.credential {
                CredentialRef::Known(known) => {
                    let key = keys
                        .iter()
                        .find(|key| key.id == known.id && key.client_id == before.client_id)
                        .ok_or_else(|| {
                            wrong(&wanted.field, "the id of a credential of this client")
                        })?;
                    if assigned.contains(&key.id.as_str()) {
                        return Err(
                            wrong(&wanted.field, "a credential that is not used already").into(),
                        );
                    }
                    assigned.push(&key.id);
                    if key.purpose != wanted.purpose {
                        key_statements.push(client_key::assign_statement(
                            &before.client_id,
                            &key.id,
                            wanted.purpose,
                        ));
                    }
                }
                CredentialRef::New(new) => {
                    let id = seal::random_id(self.entropy.as_ref(), "key_");
                    let parsed = new.parse(&wanted.field)?;
                    key_statements.push(parsed.insert(&id, &before.client_id, wanted.purpose, now));
                }
            }
        }
        let mut statements: Vec<Statement> = keys
            .iter()
            .filter(|key| {
                key.purpose != KeyPurpose::Unassigned && !assigned.contains(&key.id.as_str())
            })
            .map(|key| {
                client_key::assign_statement(&key.client_id, &key.id, KeyPurpose::Unassigned)
            })
            .chain(key_statements)
            .collect();
        let disabled = settings.disabled;
        let new = settings.into_new_client()?;
        client::check(&new)?;
        let client = before.changed(new, disabled, now);
        let mut secret = None;
        match (before.uses_secret(), client.uses_secret()) {
            (false, true) => {
                let (insert, made) = self.new_secret_statement(&client.client_id, now);
                statements.push(insert);
                secret = Some(made);
            }
            (true, false) => statements.push(client::delete_secrets_statement(&client.client_id)),
            (true, true) | (false, false) => {}
        }
        statements.insert(0, client::update_statement(&client, now)?);
        Ok(ClientChange {
            client,
            statements,
            secret,
        })
    }

    /// A client with all of its keys.
    pub(crate) async fn client_with_keys(
        &self,
        client_id: &str,
    ) -> Result<(Client, Vec<ClientKey>), Error> {
        let mut rows = self
            .db
            .read_all(vec![
                client::by_id_statement(client_id),
                client_key::of_clients_statement(client_id, client_id),
            ])
            .await?
            .into_iter();
        let client = rows
            .next()
            .and_then(|rows| rows.into_iter().next())
            .map(|row| client::from_row(&row))
            .transpose()?
            .ok_or(Reason::ObjectUnknown)?;
        let keys = rows.next().unwrap_or_default();
        let keys = keys
            .iter()
            .map(client_key::from_row)
            .collect::<Result<_, _>>()?;
        Ok((client, keys))
    }

    /// The keys of the clients from one id to another.
    pub(crate) async fn client_keys(
        &self,
        first: &str,
        last: &str,
    ) -> Result<Vec<ClientKey>, Error> {
        let rows = self
            .db
            .read_rows(client_key::of_clients_statement(first, last))
            .await?;
        rows.iter().map(client_key::from_row).collect()
    }

    /// Whoever can change how a client authenticates can be that client: nobody may who could do less than it
    /// (threats MG-14).
    pub(crate) async fn require_power_over(
        &self,
        administrator: &Administrator,
        client_id: &str,
    ) -> Result<(), Error> {
        administrator.require_all(&self.management_scope(client_id).await?)?;
        Ok(())
    }

    async fn check_represented_api(&self, settings: &ClientSettings) -> Result<(), Error> {
        if let Some(identifier) = &settings.resource_server_identifier
            && self.find_api(identifier).await?.is_none()
        {
            return Err(represented_unknown().into());
        }
        Ok(())
    }

    /// Writes what touches exactly one object, which is unknown where it touches none.
    pub(crate) async fn write_known(&self, batch: Batch) -> Result<(), Error> {
        match self.db.write(batch).await {
            Ok(_) => Ok(()),
            Err(WriteError::Expectation { .. }) => Err(Reason::ObjectUnknown.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Client {
    /// Whether it proves who it is by a secret of ours.
    pub(crate) fn uses_secret(&self) -> bool {
        matches!(
            self.token_endpoint_auth_method,
            TokenEndpointAuthMethod::ClientSecretBasic | TokenEndpointAuthMethod::ClientSecretPost
        )
    }
}

/// The document of a new client, with what follows from its kind.
fn new_document(body: Value) -> Result<Map<String, Value>, Refusal> {
    let mut body = object_of(body)?;
    ClientSettings::complete(&mut body);
    Ok(body)
}

/// The keys in the document of a new client, which cannot name registered ones.
fn new_keys(settings: &ClientSettings) -> Result<Vec<(KeyPurpose, ParsedCredential)>, Refusal> {
    settings
        .wanted_keys()
        .into_iter()
        .map(|wanted| match wanted.credential {
            CredentialRef::New(new) => Ok((wanted.purpose, new.parse(&wanted.field)?)),
            CredentialRef::Known(_) => {
                Err(wrong(&wanted.field, "a new credential, for a new client"))
            }
        })
        .collect()
}

/// A client represents an API that is there.
pub(crate) fn represented_unknown() -> Refusal {
    wrong(
        "resource_server_identifier",
        "the identifier of an API that is registered",
    )
}

/// What a unique index refused: the API that a client represents, or a key's `kid`.
fn taken(error: WriteError) -> Error {
    match error {
        WriteError::UniqueViolation { statement: 0 } => client::represented_already().into(),
        WriteError::UniqueViolation { .. } => client_key::kid_taken().into(),
        error => error.into(),
    }
}
