//! Who administers a deployment: a client with a token for the Management API, or whoever can read the master key.
//!
//! A scope counts only while the client's grant for the Management API still has it: a token issued before is worth no
//! more than what stands in the database now (threats R-42). Nobody gives away what they do not have themselves
//! (threats MG-14).

use oauth::scope::Scope;

use crate::client_grant::{self, SubjectType};
use crate::{Caller, Error, Event, EventKind, Reason, Refusal, Vault, api};

/// Every scope of the Management API with what people read about it.
pub const MANAGEMENT_SCOPES: &[(&str, &str)] = &[
    ("create:client_credentials", "Register keys of clients"),
    ("create:client_grants", "Grant clients scopes of APIs"),
    (
        "create:client_token_vault_privileged_access",
        "Give new clients privileged access",
    ),
    ("create:clients", "Register clients"),
    ("create:connections", "Make connections"),
    ("create:resource_servers", "Register APIs"),
    ("create:signing_keys", "Rotate signing keys"),
    ("create:users", "Make users"),
    ("delete:client_credentials", "Delete keys of clients"),
    (
        "delete:client_grants",
        "Take scopes of APIs back from clients",
    ),
    ("delete:clients", "Delete clients"),
    ("delete:connections", "Delete connections"),
    ("delete:grants", "Take back what users consented to"),
    ("delete:refresh_tokens", "End refresh tokens"),
    ("delete:resource_servers", "Delete APIs"),
    ("delete:sessions", "End sessions of users"),
    ("delete:users", "Delete users and their connected accounts"),
    ("read:client_credentials", "See public keys of clients"),
    (
        "read:client_grants",
        "See which scopes clients were granted",
    ),
    ("read:clients", "See clients"),
    ("read:connections", "See connections"),
    ("read:grants", "See what users consented to"),
    ("read:logs", "Read the log"),
    ("read:refresh_tokens", "See which refresh tokens users have"),
    ("read:resource_servers", "See APIs"),
    ("read:sessions", "See sessions of users"),
    ("read:signing_keys", "See signing keys"),
    ("read:stats", "See figures"),
    ("read:tenant_settings", "See the deployment's settings"),
    ("read:users", "See users and their connected accounts"),
    ("update:client_credentials", "Change keys of clients"),
    (
        "update:client_grants",
        "Change which scopes clients were granted",
    ),
    ("update:client_keys", "Rotate client secrets"),
    (
        "update:client_token_vault_privileged_access",
        "Change clients' privileged access",
    ),
    ("update:clients", "Change clients"),
    ("update:connections", "Change connections"),
    ("update:resource_servers", "Change APIs"),
    ("update:signing_keys", "Revoke signing keys"),
    ("update:tenant_settings", "Change the deployment's settings"),
    ("update:users", "Change and block users"),
];

/// Somebody who may administer, with what they may do.
#[derive(Debug, Clone)]
pub struct Administrator {
    client_id: Option<String>,
    /// None: everything.
    scope: Option<Scope>,
}

impl Administrator {
    /// Whoever can open the deployment's keys needs nobody's permission: the command line beside the database.
    pub fn local() -> Self {
        Self {
            client_id: None,
            scope: None,
        }
    }

    /// The client; None for [`Administrator::local`].
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// Refuses where a scope is missing.
    ///
    /// # Errors
    /// [`Reason::InsufficientScope`].
    pub fn require(&self, scope: &str) -> Result<(), Refusal> {
        match &self.scope {
            Some(held) if !held.contains(scope) => Err(insufficient(scope)),
            _ => Ok(()),
        }
    }

    /// Refuses to hand on scopes of the Management API that this administrator does not have.
    ///
    /// # Errors
    /// [`Reason::AboveAdministrator`].
    pub(crate) fn require_all(&self, scopes: &Scope) -> Result<(), Refusal> {
        match &self.scope {
            Some(held) if !scopes.is_subset(held) => Err(Refusal::new(Reason::AboveAdministrator)),
            _ => Ok(()),
        }
    }

    /// The beginning of the record of a change: what was changed, and how.
    pub(crate) fn event(&self, kind: EventKind, change: &'static str, object: &str) -> Event {
        let mut event = Event::succeeded(kind)
            .detail("change", change)
            .detail("object", object);
        match &self.client_id {
            Some(client_id) => event.client_id = Some(client_id.clone()),
            None => event = event.detail("administrator", "local"),
        }
        event
    }
}

impl Vault {
    /// The administrator behind a bearer token, where token and present grant have the scope.
    ///
    /// # Errors
    /// [`Reason::AccessTokenInvalid`], [`Reason::InsufficientScope`].
    pub async fn authenticate_administrator(
        &self,
        text: &str,
        scope: &str,
        caller: &Caller,
    ) -> Result<Administrator, Error> {
        let audience = self.settings.issuer.management_audience();
        let mut event =
            Event::succeeded(EventKind::BearerRefused).detail("audience", audience.as_str());
        let ended = self
            .check_administrator(text, &audience, scope, &mut event)
            .await;
        self.settle(event, ended, caller).await
    }

    async fn check_administrator(
        &self,
        text: &str,
        audience: &str,
        scope: &str,
        event: &mut Event,
    ) -> Result<Administrator, Error> {
        let token = self.check_bearer(text, audience, None, event).await?;
        // A person's token is none of an administrator, whatever a policy would let through (threats MG-01).
        if token.user_id.is_some() {
            return Err(Reason::AccessTokenInvalid.into());
        }
        let scope_now = self.management_scope(&token.client_id).await?;
        let administrator = Administrator {
            scope: Some(token.scope.intersection(&scope_now)),
            client_id: Some(token.client_id),
        };
        administrator.require(scope)?;
        Ok(administrator)
    }

    /// What a client may do in the Management API at present.
    pub(crate) async fn management_scope(&self, client_id: &str) -> Result<Scope, Error> {
        let audience = self.settings.issuer.management_audience();
        let mut rows = self
            .db
            .read_all(vec![
                api::by_identifier_statement(&audience),
                client_grant::scopes_statement(client_id, &audience, SubjectType::Client),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().and_then(|rows| rows.into_iter().next());
        let (Some(api), Some(grant)) = (next(), next()) else {
            return Ok(Scope::default());
        };
        client_grant::granted_scope(&grant, &api::from_row(&api)?)
    }
}

/// Tools look for these words, and print what follows the colon.
fn insufficient(scope: &str) -> Refusal {
    Refusal::new(Reason::InsufficientScope)
        .describe(format!("Insufficient scope, expected any of: {scope}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_in_order_and_there_once() {
        assert!(MANAGEMENT_SCOPES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn mg_14_nobody_hands_on_what_they_do_not_have() {
        let some = Administrator {
            client_id: Some("cl_1".to_owned()),
            scope: Some(Scope::from_stored("read:users update:users")),
        };
        assert!(some.require_all(&Scope::from_stored("read:users")).is_ok());
        let refused = some.require_all(&Scope::from_stored("read:users read:logs"));
        assert_eq!(refused.unwrap_err().reason(), Reason::AboveAdministrator);
        assert!(
            Administrator::local()
                .require_all(&Scope::from_stored("read:logs"))
                .is_ok()
        );
        assert!(Administrator::local().require("read:logs").is_ok());
        assert_eq!(
            some.require("read:logs").unwrap_err().reason(),
            Reason::InsufficientScope
        );
    }
}
