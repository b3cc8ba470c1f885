//! APIs, as an administrator looks after them (contract 4.3). Changes are decided and written as those of clients.

use serde_json::Value;
use store::{Batch, Statement, WriteError, params};

use crate::api::{self, Api};
use crate::api_settings::{ApiSettings, ApiView, system_name};
use crate::document::{object_of, printable, wrong};
use crate::flow::manage_clients::ROUNDS;
use crate::listing::ListQuery;
use crate::{
    Administrator, Caller, Document, Error, EventKind, Listed, Patch, Reason, Refusal, Source,
    Vault, Window,
};

/// The most identifiers that a list is asked for.
pub const MOST_IDENTIFIERS: usize = 10;

impl Vault {
    /// APIs by identifier; only those of `identifiers` where it names some, at most [`MOST_IDENTIFIERS`].
    ///
    /// # Errors
    /// [`Reason::CursorInvalid`].
    pub async fn list_apis(
        &self,
        identifiers: &[String],
        window: &Window,
    ) -> Result<Listed<ApiView>, Error> {
        let (select, count) = api::list_statements();
        let mut filters = params![!identifiers.is_empty()];
        for index in 0..MOST_IDENTIFIERS {
            filters.push(identifiers.get(index).map_or("", String::as_str));
        }
        let query = ListQuery {
            name: "apis",
            select,
            count,
            filtered_by: identifiers.join(" "),
            filters,
        };
        let settings = &self.settings;
        self.list(
            query,
            window,
            |row| {
                let api = api::from_row(row)?;
                Ok(ApiView::of(&api, api::represented_by(row)?, settings))
            },
            |view| &view.settings.identifier,
        )
        .await
    }

    /// One API, by its id or its identifier.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_api(&self, name: &str) -> Result<ApiView, Error> {
        let (api, represented_by) = self.api_named(name).await?;
        Ok(ApiView::of(&api, represented_by, &self.settings))
    }

    /// Registers an API.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`], [`Reason::AlreadyExists`].
    pub async fn register_api(
        &self,
        administrator: &Administrator,
        body: Value,
        caller: &Caller,
    ) -> Result<ApiView, Error> {
        let mut body = object_of(body)?;
        ApiSettings::complete(&mut body);
        let settings = ApiSettings::read(Value::Object(body), Source::Body)?;
        let (api, insert) = self.decide_registration_of_api(settings.into_new_api()?)?;
        let event = administrator.event(EventKind::ApiChanged, "created", &api.identifier);
        let batch =
            Batch::new()
                .with(insert)
                .with(self.audit_statement(&event, caller, self.now()));
        self.db.write(batch).await.map_err(api::identifier_taken)?;
        Ok(ApiView::of(&api, None, &self.settings))
    }

    /// Changes an API.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`], [`Reason::SystemObject`], [`Reason::ChangedMeanwhile`].
    pub async fn change_api(
        &self,
        administrator: &Administrator,
        name: &str,
        patch: &Patch<ApiSettings>,
        caller: &Caller,
    ) -> Result<ApiView, Error> {
        for _ in 0..ROUNDS {
            let (before, _) = self.api_named(name).await?;
            let settings = patch.apply(&ApiSettings::of(&before, &self.settings))?;
            let (_, update) = self.decide_api_change(&before, settings)?;
            let event = administrator
                .event(EventKind::ApiChanged, "updated", &before.identifier)
                .detail("fields", patch.names());
            let batch =
                Batch::new()
                    .with(update)
                    .with(self.audit_statement(&event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => return self.view_api(&before.identifier).await,
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Deletes an API with the grants for it.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::SystemObject`]; [`Reason::StillInUse`] where a client represents it.
    pub async fn delete_api(
        &self,
        administrator: &Administrator,
        name: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let (api, _) = self.api_named(name).await?;
        let delete = self.decide_api_deletion(&api)?;
        let event = administrator.event(EventKind::ApiChanged, "deleted", &api.identifier);
        let batch =
            Batch::new()
                .with(delete)
                .with(self.audit_statement(&event, caller, self.now()));
        match self.db.write(batch).await {
            Ok(_) => Ok(()),
            Err(WriteError::Expectation { .. }) => {
                // It is gone, or a client represents it.
                let (_, represented_by) = self.api_named(name).await?;
                Err(Refusal::new(Reason::StillInUse)
                    .describe(format!(
                        "The client {} represents this API (resource_server_identifier). Delete the client first.",
                        represented_by.unwrap_or_default()
                    ))
                    .into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decides a change. The statement holds only where the API is still `before`.
    pub(crate) fn decide_api_change(
        &self,
        before: &Api,
        settings: ApiSettings,
    ) -> Result<(Api, Statement), Error> {
        let is_system = system_name(&self.settings, &before.identifier).is_some();
        let new = settings.into_new_api()?;
        if new.identifier != before.identifier {
            return Err(wrong("identifier", "what it was when the API was made").into());
        }
        api::check_scopes(&new.scopes)?;
        let mut after = Api {
            id: before.id.clone(),
            identifier: new.identifier,
            name: new.name,
            scopes: new.scopes,
            signing_alg: new.signing_alg.unwrap_or(self.settings.access_token_alg),
            token_lifetime: new.token_lifetime,
            allow_offline_access: new.allow_offline_access,
            skip_consent: new.skip_consent,
            user_policy: new.user_policy,
            client_policy: new.client_policy,
            revision: before.revision,
        };
        if is_system {
            let shown = system_name(&self.settings, &before.identifier).unwrap_or_default();
            let is_management = before.identifier == self.settings.issuer.management_audience();
            let fixed = [
                ("name", after.name != shown && after.name != before.name),
                ("scopes", after.scopes != before.scopes),
                (
                    "subject_type_authorization.client",
                    after.client_policy != before.client_policy,
                ),
                (
                    "subject_type_authorization.user",
                    is_management && after.user_policy != before.user_policy,
                ),
                (
                    "allow_offline_access",
                    after.allow_offline_access != before.allow_offline_access,
                ),
            ];
            if let Some((field, _)) = fixed.iter().find(|(_, changed)| *changed) {
                return Err(Refusal::new(Reason::SystemObject)
                    .describe(format!(
                        "{field} of {} cannot change: every deployment has this API as it is.",
                        printable(shown)
                    ))
                    .into());
            }
            after.name.clone_from(&before.name);
        }
        let update = api::update_statement(&after, self.now())?;
        Ok((after, update))
    }

    /// Decides a deletion. The statement holds only where no client represents the API.
    pub(crate) fn decide_api_deletion(&self, api: &Api) -> Result<Statement, Refusal> {
        match system_name(&self.settings, &api.identifier) {
            Some(_) => Err(Refusal::new(Reason::SystemObject)),
            None => Ok(api::delete_statement(&api.identifier)),
        }
    }

    async fn api_named(&self, name: &str) -> Result<(Api, Option<String>), Error> {
        let row = self
            .first(api::named_statement(name))
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        Ok((api::from_row(&row)?, api::represented_by(&row)?))
    }
}
