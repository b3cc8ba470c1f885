//! The whole configuration at once: seen as one document, compared with one, and made like one.
//!
//! 1. The document is read; what is wrong in it is pointed at.
//! 2. Everything that it speaks of is read from the database in one go.
//! 3. What differs is decided, object by object, by the same rules as single changes: the plan.
//! 4. A dry run ends here. So does a plan that deletes without leave, and one that is not the plan that was shown.
//! 5. All of it is written in one batch with its records: all or nothing. If an object changed meanwhile, from 2.

mod apis;
mod clients;
mod connections;
mod tenant;

use std::collections::{BTreeMap, BTreeSet};

use seal::SecretString;
use serde_json::Value;
use store::{Batch, Statement, WriteError};

use crate::api::Api;
use crate::configuration::{
    Action, Change, ClientMade, Configuration, ConfigurationView, ConfigureQuery, Configured,
    FieldChange, ObjectKind,
};
use crate::document::wrong;
use crate::flow::manage_clients::ROUNDS;
use crate::tenant_settings::StoredSettings;
use crate::{
    Administrator, Caller, Document, Error, Event, EventKind, Reason, Refusal, Source, Vault,
};

use clients::PresentClient;
use connections::PresentConnection;

/// What is configured at present.
struct Present {
    apis: Vec<Api>,
    clients: Vec<PresentClient>,
    connections: Vec<PresentConnection>,
    tenant: StoredSettings,
}

/// What has to be written, in the order in which it can be: what goes makes room for what comes, and what refers to
/// something comes after it.
struct Decided {
    changes: Vec<Change>,
    deletions: Vec<Statement>,
    /// Of what the former still referred to.
    late_deletions: Vec<Statement>,
    objects: Vec<Statement>,
    references: Vec<Statement>,
    events: Vec<Event>,
    made: Vec<(String, String, Option<SecretString>)>,
    /// The APIs that there will be.
    apis: Vec<Api>,
    /// The ids of the clients that there will be, by their names; of those that share no name.
    client_ids: BTreeMap<String, String>,
}

impl Vault {
    /// Everything that is configured, as the document that would configure it. Secrets are left out; where a connection
    /// has one, `secrets` says so.
    ///
    /// # Errors
    /// [`Reason::InsufficientScope`] where the administrator may not see all of it; [`Reason::AlreadyExists`] where two
    /// clients have one name, by which a document could not tell them apart.
    pub async fn configuration(
        &self,
        administrator: &Administrator,
    ) -> Result<ConfigurationView, Error> {
        require_sight(administrator)?;
        let present = self.present(None).await?;
        Ok(ConfigurationView {
            issuer: self.settings.issuer.as_str().to_owned(),
            tenant: present.tenant_document()?,
            apis: present.api_documents(&self.settings)?,
            clients: present.client_documents()?,
            connections: present.connection_documents()?,
            secrets: present.connection_secrets(),
        })
    }

    /// Compares a document with what is configured and, unless it is a dry run, makes them the same.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] points into the document; [`Reason::DeletionNotAllowed`]; [`Reason::ChangedMeanwhile`]
    /// where the plan is not the one that was asked for; [`Reason::InsufficientScope`] and [`Reason::AboveAdministrator`]
    /// where a single change of the plan would be refused.
    pub async fn configure(
        &self,
        administrator: &Administrator,
        mut body: Value,
        query: &ConfigureQuery,
        caller: &Caller,
    ) -> Result<Configured, Error> {
        require_sight(administrator)?;
        Configuration::complete(&mut body);
        let wanted = Configuration::read(body, Source::Body)?;
        for _ in 0..ROUNDS {
            let present = self.present(Some(&wanted)).await?;
            let decided = self.decide(&wanted, &present, administrator)?;
            let plan = plan_of(&decided.changes)?;
            if query.dry_run {
                return Ok(decided.answer(plan, false));
            }
            if query.plan.as_ref().is_some_and(|shown| *shown != plan) {
                return Err(Refusal::new(Reason::ChangedMeanwhile)
                    .describe("The plan is not the one that was shown: something changed since. Look at the new one.")
                    .into());
            }
            decided.check_deletions(query.allow_delete)?;
            if decided.changes.is_empty() {
                return Ok(decided.answer(plan, false));
            }
            match self.db.write(self.batch(&decided, caller)).await {
                Ok(_) => return Ok(decided.answer(plan, true)),
                Err(WriteError::Expectation { .. }) => {}
                Err(WriteError::UniqueViolation { .. }) => {
                    return Err(Refusal::new(Reason::AlreadyExists)
                        .describe("Two objects of the document, or one of them and one that is there, share a name or identifier that there may be once.")
                        .into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// What is there; of connections that a document leaves out, with the number of their accounts.
    async fn present(&self, wanted: Option<&Configuration>) -> Result<Present, Error> {
        Ok(Present {
            apis: self.present_apis().await?,
            clients: self.present_clients().await?,
            connections: self
                .present_connections(wanted.and_then(|wanted| wanted.connections.as_deref()))
                .await?,
            tenant: self.stored_settings().await?,
        })
    }

    fn decide(
        &self,
        wanted: &Configuration,
        present: &Present,
        administrator: &Administrator,
    ) -> Result<Decided, Error> {
        let mut decided = Decided::from(present);
        if let Some(tenant) = &wanted.tenant {
            self.decide_tenant(tenant, present, administrator, &mut decided)?;
        }
        if let Some(apis) = &wanted.apis {
            self.decide_apis(apis, present, administrator, &mut decided)?;
        }
        if let Some(clients) = &wanted.clients {
            self.decide_clients(clients, present, administrator, &mut decided)?;
        }
        if let Some(connections) = &wanted.connections {
            self.decide_connections(connections, present, administrator, &mut decided)?;
        }
        Ok(decided)
    }

    fn batch(&self, decided: &Decided, caller: &Caller) -> Batch {
        let now = self.now();
        let records = decided
            .events
            .iter()
            .map(|event| self.audit_statement(event, caller, now));
        decided
            .deletions
            .iter()
            .chain(&decided.late_deletions)
            .chain(&decided.objects)
            .chain(&decided.references)
            .cloned()
            .chain(records)
            .fold(Batch::new(), Batch::with)
    }
}

impl From<&Present> for Decided {
    fn from(present: &Present) -> Self {
        let mut client_ids: BTreeMap<String, String> = BTreeMap::new();
        let mut shared: BTreeSet<&str> = BTreeSet::new();
        for known in &present.clients {
            let client = &known.client;
            let other = client_ids.insert(client.name.clone(), client.client_id.clone());
            if other.is_some() {
                shared.insert(&client.name);
            }
        }
        client_ids.retain(|name, _| !shared.contains(name.as_str()));
        Self {
            changes: Vec::new(),
            deletions: Vec::new(),
            late_deletions: Vec::new(),
            objects: Vec::new(),
            references: Vec::new(),
            events: Vec::new(),
            made: Vec::new(),
            apis: present.apis.clone(),
            client_ids,
        }
    }
}

impl Decided {
    /// Notes one change: for the plan and for the log.
    fn change(
        &mut self,
        administrator: &Administrator,
        (action, kind): (Action, ObjectKind),
        (id, name): (&str, &str),
        fields: Vec<FieldChange>,
    ) {
        let word = match action {
            Action::Create => "created",
            Action::Update => "updated",
            Action::Delete => "deleted",
        };
        let event = match kind {
            ObjectKind::Api => EventKind::ApiChanged,
            ObjectKind::Client => EventKind::ClientChanged,
            ObjectKind::Connection => EventKind::ConnectionChanged,
            ObjectKind::Tenant => EventKind::SettingsChanged,
        };
        let names: Vec<&str> = fields.iter().map(|field| field.field.as_str()).collect();
        self.events.push(
            administrator
                .event(event, word, id)
                .detail("by", "configuration")
                .detail("fields", names),
        );
        self.changes.push(Change {
            action,
            kind,
            name: name.to_owned(),
            fields,
        });
    }

    fn check_deletions(&self, allowed: bool) -> Result<(), Refusal> {
        let names: Vec<String> = self
            .changes
            .iter()
            .filter(|change| change.action == Action::Delete)
            .map(|change| format!("{} {}", change.kind.as_str(), change.name))
            .collect();
        if allowed || names.is_empty() {
            return Ok(());
        }
        let listed = crate::document::printable(&names.join(", "));
        Err(Refusal::new(Reason::DeletionNotAllowed).describe(format!(
            "The configuration leaves out what is there: {listed}. Allow deletion (allow_delete) to have it deleted."
        )))
    }

    fn answer(self, plan: String, applied: bool) -> Configured {
        let clients = self
            .made
            .into_iter()
            .filter(|_| applied)
            .map(|(name, client_id, secret)| ClientMade {
                name,
                client_id,
                client_secret: secret.map(|secret| secret.reveal().to_owned()),
            })
            .collect();
        Configured {
            applied,
            plan,
            changes: self.changes,
            clients,
        }
    }
}

/// Names a plan, so that what is made is what was shown.
fn plan_of(changes: &[Change]) -> Result<String, Error> {
    let text = serde_json::to_vec(changes)?;
    Ok(seal::sha256_hex_thumbprint(&text))
}

/// A plan shows what is there: who may not see all of it may not ask for one.
fn require_sight(administrator: &Administrator) -> Result<(), Refusal> {
    [
        "read:client_grants",
        "read:clients",
        "read:connections",
        "read:resource_servers",
        "read:tenant_settings",
    ]
    .into_iter()
    .try_for_each(|scope| administrator.require(scope))
}

/// Refuses a name that stands twice in a document.
fn require_distinct<'a>(
    kind: &str,
    field: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(wrong(
                &format!("{kind}.{index}.{field}"),
                "another one than that of an object before it",
            ));
        }
    }
    Ok(())
}
