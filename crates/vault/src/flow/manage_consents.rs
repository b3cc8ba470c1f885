//! What users consented to, as an administrator sees it and takes it back. After that the consent page asks again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::Serialize;
use store::{Batch, Row, Statement, params};

use crate::listing::ListQuery;
use crate::{
    Administrator, Caller, Error, EventKind, Listed, Reason, Vault, Window, authorization,
};

/// Which consents to list; what is absent does not matter.
#[derive(Debug, Default)]
pub struct ConsentFilter {
    /// Only of this user.
    pub user_id: Option<String>,
    /// Only to this client.
    pub client_id: Option<String>,
    /// Only for this API.
    pub audience: Option<String>,
}

/// What a user allowed a client.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Grant")]
pub struct ConsentView {
    /// Names it.
    pub id: String,
    /// The client.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// The user.
    pub user_id: String,
    /// The API's identifier.
    pub audience: String,
    /// The scopes.
    pub scope: Vec<String>,
}

impl Vault {
    /// Consents by user, client and API.
    ///
    /// # Errors
    /// [`Reason::CursorInvalid`].
    pub async fn list_consents(
        &self,
        filter: &ConsentFilter,
        window: &Window,
    ) -> Result<Listed<ConsentView>, Error> {
        let user_id = filter.user_id.clone().unwrap_or_default();
        let client_id = filter.client_id.clone().unwrap_or_default();
        let audience = filter.audience.clone().unwrap_or_default();
        let query = ListQuery {
            name: "consents",
            select: "select n.user_id, n.client_id, n.audience, n.scopes from consents n
                      where n.user_id || ' ' || n.client_id || ' ' || n.audience > $1
                        and ($4 = '' or n.user_id = $4) and ($5 = '' or n.client_id = $5)
                        and ($6 = '' or n.audience = $6)
                      order by n.user_id || ' ' || n.client_id || ' ' || n.audience limit $2 offset $3",
            count: "select count(*) from consents n
                     where ($1 = '' or n.user_id = $1) and ($2 = '' or n.client_id = $2)
                       and ($3 = '' or n.audience = $3)",
            filtered_by: format!("{user_id} {client_id} {audience}"),
            filters: params![user_id, client_id, audience],
        };
        let listed = self
            .list(query, window, from_row, |(key, _)| key.as_str())
            .await?;
        Ok(listed.map(|(_, view)| view))
    }

    /// Takes a consent back. What the user allowed the client at a login ends with it.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn delete_consent(
        &self,
        administrator: &Administrator,
        id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let key = URL_SAFE_NO_PAD
            .decode(id)
            .ok()
            .and_then(|key| String::from_utf8(key).ok())
            .filter(|key| !key.contains('\0'))
            .ok_or(Reason::ObjectUnknown)?;
        let mut parts = key.splitn(3, ' ');
        let (Some(user_id), Some(client_id), Some(audience)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::ObjectUnknown.into());
        };
        let now = self.now();
        let mut event = administrator
            .event(EventKind::Consent, "taken_back", client_id)
            .detail("audience", audience);
        event.user_id = Some(user_id.to_owned());
        let batch = Batch::new()
            .with(
                Statement::new(
                    "delete from consents where user_id = $1 and client_id = $2 and audience = $3",
                    params![user_id, client_id, audience],
                )
                .exactly(1),
            )
            .with(authorization::revoke_at_client_statement(
                user_id,
                client_id,
                "consent_taken_back",
                now,
            ))
            .with(self.audit_statement(&event, caller, now));
        self.write_known(batch).await
    }

    /// Takes every consent of a user back.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn delete_consents_of(
        &self,
        administrator: &Administrator,
        user_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.user_of_id(user_id).await?;
        let now = self.now();
        let mut event = administrator.event(EventKind::Consent, "taken_back", user_id);
        event.user_id = Some(user_id.to_owned());
        let batch = Batch::new()
            .with(authorization::revoke_consented_statement(
                user_id,
                "consent_taken_back",
                now,
            ))
            .with(Statement::new(
                "delete from consents where user_id = $1",
                params![user_id],
            ))
            .with(self.audit_statement(&event, caller, now));
        self.db.write(batch).await?;
        Ok(())
    }
}

/// A consent with the key of its place in the list.
fn from_row(row: &Row) -> Result<(String, ConsentView), Error> {
    let (user_id, client_id, audience) = (row.text(0)?, row.text(1)?, row.text(2)?);
    let key = format!("{user_id} {client_id} {audience}");
    let view = ConsentView {
        id: URL_SAFE_NO_PAD.encode(&key),
        client_id: client_id.to_owned(),
        user_id: user_id.to_owned(),
        audience: audience.to_owned(),
        scope: row
            .text(3)?
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
    };
    Ok((key, view))
}
