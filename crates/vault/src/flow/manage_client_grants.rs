//! What clients may have of APIs, as an administrator grants it (contract 4.3).
//!
//! Nobody grants more of the Management API than they have themselves, nor touches the grants of a client that has more
//! (threats MG-14): whoever could would be that client.

use oauth::scope::Scope;
use serde_json::Value;
use store::{Batch, Statement, WriteError, params};

use crate::api::Api;
use crate::client_grant::{self, ClientGrant, ClientGrantSettings, ClientGrantView};
use crate::document::wrong;
use crate::flow::manage_clients::ROUNDS;
use crate::listing::ListQuery;
use crate::{
    Administrator, Caller, Document, Error, EventKind, Listed, Patch, Reason, Source, SubjectType,
    Vault, Window,
};

/// Which grants to list; what is absent does not matter.
#[derive(Debug, Default)]
pub struct ClientGrantFilter {
    /// Only of this client.
    pub client_id: Option<String>,
    /// Only for this API.
    pub audience: Option<String>,
    /// Only for such tokens.
    pub subject_type: Option<SubjectType>,
}

impl Vault {
    /// Grants by id.
    ///
    /// # Errors
    /// [`Reason::CursorInvalid`].
    pub async fn list_client_grants(
        &self,
        filter: &ClientGrantFilter,
        window: &Window,
    ) -> Result<Listed<ClientGrantView>, Error> {
        let client_id = filter.client_id.clone().unwrap_or_default();
        let audience = filter.audience.clone().unwrap_or_default();
        let subject_type = filter.subject_type.map_or("", SubjectType::as_str);
        let (select, count) = client_grant::list_statements();
        let query = ListQuery {
            name: "client_grants",
            select,
            count,
            filtered_by: format!("{client_id} {audience} {subject_type}"),
            filters: params![client_id, audience, subject_type],
        };
        let listed = self
            .list(query, window, client_grant::from_row, |grant| &grant.id)
            .await?;
        Ok(listed.map(|grant| ClientGrantView::of(&grant)))
    }

    /// One grant.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_client_grant(&self, id: &str) -> Result<ClientGrantView, Error> {
        Ok(ClientGrantView::of(&self.client_grant(id).await?))
    }

    /// Grants a client scopes of an API.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`], [`Reason::AlreadyExists`], [`Reason::AboveAdministrator`].
    pub async fn grant_client(
        &self,
        administrator: &Administrator,
        body: Value,
        caller: &Caller,
    ) -> Result<ClientGrantView, Error> {
        let settings = ClientGrantSettings::read(body, Source::Body)?;
        self.find_client(&settings.client_id)
            .await?
            .ok_or_else(|| wrong("client_id", "the id of a client that is registered"))?;
        let api = self
            .find_api(&settings.audience)
            .await?
            .ok_or_else(|| wrong("audience", "the identifier of an API that is registered"))?;
        self.require_power_over(administrator, &settings.client_id)
            .await?;
        let (grant, insert) = self.decide_new_grant(administrator, &settings, &api)?;
        let event = grant_event(administrator, "created", &grant);
        let batch =
            Batch::new()
                .with(insert)
                .with(self.audit_statement(&event, caller, self.now()));
        self.db
            .write(batch)
            .await
            .map_err(client_grant::granted_already)?;
        Ok(ClientGrantView::of(&grant))
    }

    /// Changes the scopes of a grant.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`], [`Reason::AboveAdministrator`], [`Reason::ChangedMeanwhile`].
    pub async fn change_client_grant(
        &self,
        administrator: &Administrator,
        id: &str,
        patch: &Patch<ClientGrantSettings>,
        caller: &Caller,
    ) -> Result<ClientGrantView, Error> {
        for _ in 0..ROUNDS {
            let before = self.client_grant(id).await?;
            self.require_power_over(administrator, &before.client_id)
                .await?;
            let api = self
                .find_api(&before.audience)
                .await?
                .ok_or(Reason::ObjectUnknown)?;
            let settings = patch.apply(&ClientGrantSettings::of(&before))?;
            let (grant, update) =
                self.decide_grant_change(administrator, &before, &settings, &api)?;
            let event =
                grant_event(administrator, "updated", &grant).detail("fields", patch.names());
            let batch =
                Batch::new()
                    .with(update)
                    .with(self.audit_statement(&event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => return Ok(ClientGrantView::of(&grant)),
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Takes a grant back; what was given for it is refused from now on.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::AboveAdministrator`].
    pub async fn delete_client_grant(
        &self,
        administrator: &Administrator,
        id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let grant = self.client_grant(id).await?;
        self.require_power_over(administrator, &grant.client_id)
            .await?;
        let event = grant_event(administrator, "deleted", &grant);
        let batch = Batch::new()
            .with(client_grant::delete_statement(id))
            .with(self.audit_statement(&event, caller, self.now()));
        self.write_known(batch).await
    }

    /// Decides a new grant of scopes of `api`.
    pub(crate) fn decide_new_grant(
        &self,
        administrator: &Administrator,
        settings: &ClientGrantSettings,
        api: &Api,
    ) -> Result<(ClientGrant, Statement), Error> {
        let grant = ClientGrant {
            id: seal::random_id(self.entropy.as_ref(), "cgr_"),
            client_id: settings.client_id.clone(),
            audience: settings.audience.clone(),
            subject_type: settings.subject_type,
            scopes: self.grantable(administrator, settings, api, &Scope::default())?,
            allow_all_scopes: settings.allow_all_scopes,
            revision: 1,
        };
        let insert = client_grant::insert_statement(&grant, self.now());
        Ok((grant, insert))
    }

    /// Decides a change. The statement holds only where the grant is still `before`.
    pub(crate) fn decide_grant_change(
        &self,
        administrator: &Administrator,
        before: &ClientGrant,
        settings: &ClientGrantSettings,
        api: &Api,
    ) -> Result<(ClientGrant, Statement), Error> {
        let grant = ClientGrant {
            scopes: self.grantable(administrator, settings, api, &before.scopes)?,
            allow_all_scopes: settings.allow_all_scopes,
            ..before.clone()
        };
        let update = client_grant::update_statement(&grant);
        Ok((grant, update))
    }

    /// The scopes of a grant, where the API has them all and the administrator may give them. What was granted `before`
    /// may stay, though the API has it no more: it gives nothing.
    fn grantable(
        &self,
        administrator: &Administrator,
        settings: &ClientGrantSettings,
        api: &Api,
        before: &Scope,
    ) -> Result<Scope, Error> {
        let all = api.all_scopes();
        for (index, scope) in settings.scope.iter().enumerate() {
            if !all.contains(scope) && !before.contains(scope) {
                return Err(wrong(&format!("scope.{index}"), "a scope of the API").into());
            }
        }
        let scopes: Scope = settings.scope.iter().cloned().collect();
        if api.identifier == self.settings.issuer.management_audience() {
            administrator.require_all(if settings.allow_all_scopes {
                &all
            } else {
                &scopes
            })?;
        }
        Ok(scopes)
    }

    async fn client_grant(&self, id: &str) -> Result<ClientGrant, Error> {
        let row = self
            .first(client_grant::by_id_statement(id))
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        client_grant::from_row(&row)
    }
}

fn grant_event(
    administrator: &Administrator,
    change: &'static str,
    grant: &ClientGrant,
) -> crate::Event {
    administrator
        .event(EventKind::ClientGrantChanged, change, &grant.id)
        .detail("grantee", grant.client_id.as_str())
        .detail("audience", grant.audience.as_str())
}
