//! APIs in the configuration.

use serde_json::{Map, Value};

use super::{Decided, Present, require_distinct};
use crate::api::{self, Api};
use crate::api_settings::{ApiSettings, system_name};
use crate::configuration::{self, Action, ObjectKind};
use crate::{Administrator, Error, Settings, Vault};

impl Present {
    /// The APIs, in the order of their identifiers.
    pub(super) fn api_documents(
        &self,
        settings: &Settings,
    ) -> Result<Vec<Map<String, Value>>, Error> {
        self.apis
            .iter()
            .map(|api| document(api, settings))
            .collect()
    }
}

impl Vault {
    pub(super) async fn present_apis(&self) -> Result<Vec<Api>, Error> {
        let rows = self.db.read_all(vec![api::all_statement()]).await?;
        rows.iter().flatten().map(api::from_row).collect()
    }

    pub(super) fn decide_apis(
        &self,
        wanted: &[ApiSettings],
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        require_distinct(
            "apis",
            "identifier",
            wanted.iter().map(|api| api.identifier.as_str()),
        )?;
        for (index, wanted) in wanted.iter().enumerate() {
            self.decide_api(wanted.clone().kept(), present, administrator, decided)
                .map_err(|error| error.within(&format!("apis.{index}")))?;
        }
        for gone in &present.apis {
            let is_wanted = wanted.iter().any(|api| api.identifier == gone.identifier);
            if is_wanted || system_name(&self.settings, &gone.identifier).is_some() {
                continue;
            }
            administrator.require("delete:resource_servers")?;
            decided.late_deletions.push(self.decide_api_deletion(gone)?);
            decided.apis.retain(|api| api.identifier != gone.identifier);
            decided.change(
                administrator,
                (Action::Delete, ObjectKind::Api),
                (&gone.identifier, &gone.identifier),
                Vec::new(),
            );
        }
        Ok(())
    }

    fn decide_api(
        &self,
        mut wanted: ApiSettings,
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        let identifier = wanted.identifier.clone();
        let before = present.apis.iter().find(|api| api.identifier == identifier);
        let Some(before) = before else {
            administrator.require("create:resource_servers")?;
            let (api, insert) = self.decide_registration_of_api(wanted.into_new_api()?)?;
            decided.objects.push(insert);
            decided.change(
                administrator,
                (Action::Create, ObjectKind::Api),
                (&identifier, &identifier),
                configuration::differences(&Map::new(), &document(&api, &self.settings)?),
            );
            decided.apis.push(api);
            return Ok(());
        };
        // As they are not said, they stay.
        if wanted.scopes.is_empty() && system_name(&self.settings, &identifier).is_some() {
            wanted.scopes.clone_from(&before.scopes);
        }
        let (after, update) = self.decide_api_change(before, wanted)?;
        let fields = configuration::differences(
            &document(before, &self.settings)?,
            &document(&after, &self.settings)?,
        );
        if fields.is_empty() {
            return Ok(());
        }
        administrator.require("update:resource_servers")?;
        decided.objects.push(update);
        decided.apis.retain(|api| api.identifier != identifier);
        decided.apis.push(after);
        decided.change(
            administrator,
            (Action::Update, ObjectKind::Api),
            (&identifier, &identifier),
            fields,
        );
        Ok(())
    }
}

/// An API as a document. What a system API is by itself is not said: its scopes grow with the program.
fn document(api: &Api, settings: &Settings) -> Result<Map<String, Value>, Error> {
    let mut members =
        configuration::concise(&ApiSettings::of(api, settings), ApiSettings::complete)?;
    if system_name(settings, &api.identifier).is_some() {
        members.remove("scopes");
    }
    Ok(members)
}
