//! The deployment's settings, as an administrator looks after them (contract 4.5).

use store::{Batch, Statement, WriteError};

use crate::flow::manage_clients::ROUNDS;
use crate::tenant_settings::{self, StoredSettings, TenantSettings};
use crate::{Administrator, Caller, Error, EventKind, Patch, Reason, Vault};

impl Vault {
    /// What is set.
    pub async fn tenant_settings(&self) -> Result<TenantSettings, Error> {
        Ok(self.stored_settings().await?.settings)
    }

    /// Changes what is set.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`], [`Reason::ChangedMeanwhile`].
    pub async fn change_tenant_settings(
        &self,
        administrator: &Administrator,
        patch: &Patch<TenantSettings>,
        caller: &Caller,
    ) -> Result<TenantSettings, Error> {
        let event = administrator
            .event(EventKind::SettingsChanged, "updated", "tenant")
            .detail("fields", patch.names());
        for _ in 0..ROUNDS {
            let before = self.stored_settings().await?;
            let after = patch.apply(&before.settings)?;
            let batch = Batch::new()
                .with(self.decide_settings_change(&before, &after)?)
                .with(self.audit_statement(&event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => return Ok(after),
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Decides a change. The statement holds only where the settings are still `before`.
    pub(crate) fn decide_settings_change(
        &self,
        before: &StoredSettings,
        after: &TenantSettings,
    ) -> Result<Statement, Error> {
        tenant_settings::write_statement(before, after, self.now())
    }

    pub(crate) async fn stored_settings(&self) -> Result<StoredSettings, Error> {
        let row = self.first(tenant_settings::read_statement()).await?;
        let stored = row.as_ref().map(tenant_settings::from_row).transpose()?;
        Ok(stored.unwrap_or_default())
    }
}
