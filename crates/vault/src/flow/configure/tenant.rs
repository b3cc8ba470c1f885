//! The deployment's settings in the configuration.

use serde_json::{Map, Value};

use super::{Decided, Present};
use crate::configuration::{self, Action, ObjectKind};
use crate::tenant_settings::TenantSettings;
use crate::{Administrator, Error, Vault};

impl Present {
    pub(super) fn tenant_document(&self) -> Result<Map<String, Value>, Error> {
        configuration::object(&self.tenant.settings)
    }
}

impl Vault {
    pub(super) fn decide_tenant(
        &self,
        wanted: &TenantSettings,
        present: &Present,
        administrator: &Administrator,
        decided: &mut Decided,
    ) -> Result<(), Error> {
        let fields = configuration::differences(
            &present.tenant_document()?,
            &configuration::object(wanted)?,
        );
        if fields.is_empty() {
            return Ok(());
        }
        administrator.require("update:tenant_settings")?;
        decided
            .objects
            .push(self.decide_settings_change(&present.tenant, wanted)?);
        decided.change(
            administrator,
            (Action::Update, ObjectKind::Tenant),
            ("tenant", "settings"),
            fields,
        );
        Ok(())
    }
}
