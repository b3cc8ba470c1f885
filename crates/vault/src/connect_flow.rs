//! A connect flow on its way: from the ticket that an API call gave out to the account that `complete` stores.
//!
//! The row holds the provider's code, sealed, between callback and `complete`; nothing else of a flow that does not
//! complete is kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use seal::{Purpose, RecordContext, SecretBytes, SecretString};
use serde::{Deserialize, Serialize};
use store::{Row, Statement, params};

use crate::Vault;
use crate::error::{Error, Fault};

/// How far a flow is. Every step is a conditional update from exactly one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectState {
    /// The account is stored.
    Completed,
    /// It ended without an account.
    Failed,
    /// A browser has the ticket.
    Opened,
    /// `complete` was called; the provider's code is being redeemed.
    Redeeming,
    /// The provider's answer is here; the client has the connect code.
    Returned,
    /// The browser was sent to the provider.
    Sent,
    /// The ticket is given out.
    Started,
}

impl ConnectState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Opened => "opened",
            Self::Redeeming => "redeeming",
            Self::Returned => "returned",
            Self::Sent => "sent",
            Self::Started => "started",
        }
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        [
            Self::Completed,
            Self::Failed,
            Self::Opened,
            Self::Redeeming,
            Self::Returned,
            Self::Sent,
            Self::Started,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Fault::Internal(format!("connect_flows.state '{text}'")))
    }
}

/// A flow as its row says.
#[derive(Debug, Clone)]
pub(crate) struct ConnectFlow {
    pub(crate) id: String,
    pub(crate) auth_session_hash: Vec<u8>,
    pub(crate) ticket_hash: Vec<u8>,
    pub(crate) user_id: String,
    pub(crate) client_id: String,
    pub(crate) connection_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) client_state: Option<String>,
    pub(crate) code_challenge: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// Parameters for the provider's authorize URL, by name.
    pub(crate) authorization_params: Vec<(String, String)>,
    pub(crate) state: ConnectState,
    pub(crate) browser_hash: Option<Vec<u8>>,
    pub(crate) provider_state_hash: Option<Vec<u8>>,
    pub(crate) provider_cookie_hash: Option<Vec<u8>>,
    secrets: Option<Vec<u8>>,
    pub(crate) connect_code_hash: Option<Vec<u8>>,
    pub(crate) connect_code_expires_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
}

/// What only the vault may know of a flow: the verifier and nonce towards the provider, and later its code.
#[derive(Deserialize)]
pub(crate) struct FlowSecrets {
    pub(crate) code_verifier: Option<SecretString>,
    pub(crate) nonce: Option<SecretString>,
    pub(crate) provider_code: Option<SecretString>,
    /// What the provider's answer to the browser told beside the code.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Plain<'a> {
    code_verifier: Option<&'a str>,
    nonce: Option<&'a str>,
    provider_code: Option<&'a str>,
    variables: &'a BTreeMap<String, String>,
}

impl FlowSecrets {
    pub(crate) fn seal(&self, vault: &Vault, flow_id: &str) -> Result<Vec<u8>, Error> {
        let plain = SecretBytes::new(serde_json::to_vec(&Plain {
            code_verifier: self.code_verifier.as_ref().map(SecretString::reveal),
            nonce: self.nonce.as_ref().map(SecretString::reveal),
            provider_code: self.provider_code.as_ref().map(SecretString::reveal),
            variables: &self.variables,
        })?);
        Ok(vault.ring.seal(
            vault.entropy.as_ref(),
            Purpose::Record,
            &context(flow_id),
            plain.reveal(),
        )?)
    }
}

impl ConnectFlow {
    pub(crate) fn open_secrets(&self, vault: &Vault) -> Result<FlowSecrets, Error> {
        let sealed = self
            .secrets
            .as_ref()
            .ok_or_else(|| Fault::Internal("connect_flows.secrets is missing".to_owned()))?;
        let plain = vault
            .ring
            .open(Purpose::Record, &context(&self.id), sealed)?;
        Ok(serde_json::from_slice(plain.reveal())?)
    }

    /// The name of the cookie that binds the way through the provider to one browser. One per flow, so that two
    /// tabs do not disturb each other (threats CN-07).
    pub(crate) fn cookie_name(&self) -> String {
        let short: String = self.id.chars().take(12).collect();
        format!("__Host-tv_connect_{short}")
    }
}

fn context(flow_id: &str) -> RecordContext<'_> {
    RecordContext {
        table: "connect_flows",
        row_id: flow_id,
        field: "secrets",
        generation: 0,
    }
}

macro_rules! connect_flow_columns {
    () => {
        "f.id, f.auth_session_hash, f.ticket_hash, f.user_id, f.client_id, f.connection_id, f.redirect_uri,
         f.client_state, f.code_challenge, f.scopes, f.authorization_params, f.state, f.browser_hash,
         f.provider_state_hash, f.provider_cookie_hash, f.secrets, f.connect_code_hash,
         f.connect_code_expires_at, f.expires_at"
    };
}

/// By the lookup half of its `auth_session`.
pub(crate) fn by_id_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connect_flow_columns!(),
            " from connect_flows f where f.id = $1"
        ),
        params![id],
    )
}

/// By the lookup half of its ticket.
pub(crate) fn by_ticket_statement(ticket_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connect_flow_columns!(),
            " from connect_flows f where f.ticket_id = $1"
        ),
        params![ticket_id],
    )
}

/// By the lookup half of the `state` that the provider brings back.
pub(crate) fn by_provider_state_statement(state_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            connect_flow_columns!(),
            " from connect_flows f where f.provider_state_id = $1"
        ),
        params![state_id],
    )
}

pub(crate) fn from_row(row: &Row) -> Result<ConnectFlow, Error> {
    Ok(ConnectFlow {
        id: row.text(0)?.to_owned(),
        auth_session_hash: row.blob(1)?.to_vec(),
        ticket_hash: row.blob(2)?.to_vec(),
        user_id: row.text(3)?.to_owned(),
        client_id: row.text(4)?.to_owned(),
        connection_id: row.text(5)?.to_owned(),
        redirect_uri: row.text(6)?.to_owned(),
        client_state: row.opt_text(7)?.map(str::to_owned),
        code_challenge: row.opt_text(8)?.map(str::to_owned),
        scopes: serde_json::from_str(row.text(9)?)?,
        authorization_params: serde_json::from_str(row.text(10)?)?,
        state: ConnectState::parse(row.text(11)?)?,
        browser_hash: row.opt_blob(12)?.map(<[u8]>::to_vec),
        provider_state_hash: row.opt_blob(13)?.map(<[u8]>::to_vec),
        provider_cookie_hash: row.opt_blob(14)?.map(<[u8]>::to_vec),
        secrets: row.opt_blob(15)?.map(<[u8]>::to_vec),
        connect_code_hash: row.opt_blob(16)?.map(<[u8]>::to_vec),
        connect_code_expires_at: row.opt_timestamp(17)?,
        expires_at: row.timestamp(18)?,
    })
}

/// Ends a flow without an account, from whatever open state it is in. Its secrets go with it.
pub(crate) fn fail_statement(flow: &ConnectFlow) -> Statement {
    Statement::new(
        "update connect_flows
            set state = 'failed', secrets = null, connect_code_hash = null
          where id = $1 and state = $2",
        params![flow.id.as_str(), flow.state.as_str()],
    )
    .exactly(1)
}
