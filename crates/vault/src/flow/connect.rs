//! Connecting an account, from the API call to the moment the client holds a connect code.
//!
//! 1. [`Vault::start_connect`]: the client asks with the user's My Account token; it gets a ticket for the browser and
//!    an `auth_session` to keep.
//! 2. [`Vault::open_connect`]: a browser brings the ticket. It must hold a session of the same user, or log in as that
//!    user; then it sees who wants what.
//! 3. [`Vault::continue_connect`]: the person agrees. Only now the browser gets the cookie that the provider's answer
//!    must come back with, and goes to the provider.
//! 4. [`Vault::connect_callback`]: the provider answers at the connection's own URI. Its code is kept sealed, not
//!    redeemed; the client's `redirect_uri` gets a connect code.
//!
//! The provider's code is redeemed in `complete`, where the same user and client prove that they are still the same:
//! redeeming earlier would let one user's consent fill another user's account (threats R-30). A flow that goes wrong
//! after its ticket was recognised ends at the client's `redirect_uri` with `error`; one that is not recognised ends
//! on a page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oauth::params::Params;
use oauth::redirect_uri::append_params;
use provider::AuthorizationRequest;
use schemars::JsonSchema;
use seal::{SecretString, TokenKind};
use serde::Deserialize;
use serde_json::Value;
use store::{Batch, Statement, WriteError, params};

use crate::access_token::AccessToken;
use crate::account;
use crate::candidate::{self, Candidate};
use crate::client::Client;
use crate::connect_flow::{self, ConnectFlow, ConnectState, FlowSecrets};
use crate::connection::{self, Connection, ConnectionForClient};
use crate::document::wrong;
use crate::session::Session;
use crate::token_set::after;
use crate::user::User;
use crate::{
    AccountSelection, Caller, Document, Error, Event, EventKind, Reason, Refusal, Source, Vault,
    client, user,
};

/// A parsed connect request (contract 2.5).
#[derive(Debug)]
pub struct ConnectRequest {
    connection: String,
    redirect_uri: String,
    state: Option<String>,
    code_challenge: Option<String>,
    scopes: Option<Vec<String>>,
    authorization_params: Vec<(String, String)>,
}

/// The same, as it is sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConnectBody {
    #[schemars(length(min = 1, max = 128))]
    connection: String,
    #[schemars(length(min = 1, max = 2048))]
    redirect_uri: String,
    #[schemars(length(min = 1, max = 4096))]
    state: Option<String>,
    #[schemars(length(min = 43, max = 128))]
    code_challenge: Option<String>,
    code_challenge_method: Option<ChallengeMethod>,
    #[schemars(length(min = 1, max = 100), extend("uniqueItems" = true))]
    #[schemars(inner(length(min = 1, max = 255), regex(pattern = "^[!-~]+$")))]
    scopes: Option<Vec<String>>,
    authorization_params: Option<AuthorizationParams>,
}

/// RFC 7636 §4.3; `plain` is not taken.
#[derive(Deserialize, JsonSchema)]
enum ChallengeMethod {
    S256,
}

/// What is handed on to the provider: contract 2.5, a closed list.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuthorizationParams {
    #[schemars(length(min = 1, max = 1024))]
    acr_values: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    audience: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    resource: Option<String>,
    #[schemars(length(min = 1, max = 4096))]
    id_token_hint: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    login_hint: Option<String>,
    #[schemars(length(min = 1, max = 100))]
    ui_locales: Option<String>,
    #[schemars(extend("enum" = ["page", "popup", "touch", "wap", null]))]
    display: Option<String>,
    #[schemars(extend("enum" = ["none", "login", "consent", "select_account", null]))]
    prompt: Option<String>,
    #[schemars(range(max = 2_147_483_647))]
    max_age: Option<u64>,
}

impl AuthorizationParams {
    fn into_pairs(self) -> Vec<(String, String)> {
        [
            ("acr_values", self.acr_values),
            ("audience", self.audience),
            ("resource", self.resource),
            ("id_token_hint", self.id_token_hint),
            ("login_hint", self.login_hint),
            ("ui_locales", self.ui_locales),
            ("display", self.display),
            ("prompt", self.prompt),
            ("max_age", self.max_age.map(|seconds| seconds.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

impl ConnectRequest {
    /// Reads the body; a refusal lists every field that is wrong.
    pub fn parse(body: Value) -> Result<Self, Refusal> {
        let body = ConnectBody::read(body, Source::Body)?;
        if body.code_challenge.is_some() != body.code_challenge_method.is_some() {
            return Err(wrong(
                "code_challenge_method",
                "S256, together with code_challenge",
            ));
        }
        Ok(Self {
            connection: body.connection,
            redirect_uri: body.redirect_uri,
            state: body.state,
            code_challenge: body.code_challenge,
            scopes: body.scopes,
            authorization_params: body.authorization_params.unwrap_or_default().into_pairs(),
        })
    }
}

/// What a started connect flow hands out.
#[derive(Debug)]
pub struct ConnectTicket {
    /// Where the browser goes, without a query.
    pub connect_uri: String,
    /// What the client keeps and brings to `complete`; 64 characters.
    pub auth_session: SecretString,
    /// What the browser brings as `ticket`.
    pub ticket: SecretString,
    /// Seconds until the ticket ends.
    pub expires_in: u64,
}

/// What the browser gets next.
#[derive(Debug)]
pub enum ConnectStep {
    /// Back to the client, with a connect code or an error.
    Answer {
        /// The client's `redirect_uri` with its parameters.
        location: String,
        /// A cookie that has done its work.
        clear_cookie: Option<String>,
    },
    /// Ask the person.
    Confirm {
        /// Who wants the account connected.
        client_name: String,
        /// The provider, in words.
        connection_name: String,
        /// The scopes that will be asked for.
        scopes: Vec<String>,
        /// Who is logged in.
        user_name: String,
        /// Where the answer will go.
        redirect_host: String,
    },
    /// Nobody, or somebody else, is logged in.
    Login {
        /// The user who has to.
        login_hint: Option<String>,
        /// A sentence to show above the form.
        notice: Option<String>,
        /// Who wants the account connected.
        client_name: String,
        /// The provider, in words.
        connection_name: String,
    },
    /// The flow is not known; nothing tells where to send the browser.
    Page(Refusal),
    /// On to the provider.
    Provider {
        /// The provider's authorize URL.
        location: String,
        /// The cookie that the answer must come back with.
        cookie: (String, SecretString),
    },
}

/// What the person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectDecision {
    /// No.
    Cancel,
    /// Go on to the provider.
    Continue,
}

/// Those whom a flow concerns, each where it still exists.
type Parties = (Option<ConnectionForClient>, Option<Client>, Option<User>);

/// Why a browser brings its ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Decide,
    Look,
}

/// A ticket's flow with what the pages say about it.
struct Opened {
    flow: ConnectFlow,
    connection: Arc<Connection>,
    client_name: String,
    user_name: String,
}

impl Vault {
    /// Step 1. Checks everything that can be checked now, and stores the flow.
    pub async fn start_connect(
        &self,
        me: &AccessToken,
        request: ConnectRequest,
        caller: &Caller,
    ) -> Result<ConnectTicket, Error> {
        let mut event = Event::succeeded(EventKind::ConnectStarted)
            .client(&*me.client_id)
            .connection(&*request.connection);
        event.user_id = me.user_id.clone();
        let ended = self.store_connect_flow(me, request, &event, caller).await;
        self.settle(event, ended, caller).await
    }

    async fn store_connect_flow(
        &self,
        me: &AccessToken,
        request: ConnectRequest,
        event: &Event,
        caller: &Caller,
    ) -> Result<ConnectTicket, Error> {
        let user_id = me.user_id.as_deref().ok_or(Reason::ConnectUserMismatch)?;
        let mut rows = self
            .db
            .read_all(vec![
                client::by_id_statement(&me.client_id),
                connection::for_client_statement(&request.connection, &me.client_id),
                candidate::of_user_statement(user_id, &request.connection),
            ])
            .await?
            .into_iter();
        let client = rows
            .next()
            .and_then(|rows| rows.into_iter().next())
            .map(|row| client::from_row(&row))
            .transpose()?
            .ok_or(Reason::GrantNotAllowed)?;
        let connection = rows
            .next()
            .and_then(|rows| rows.into_iter().next())
            .map(|row| self.connection_for_client(row))
            .transpose()?
            .ok_or(Reason::ConnectionUnknown)?
            .usable()?;
        if !client.allows_redirect_uri(&request.redirect_uri) {
            return Err(Reason::RedirectUriNotAllowed.into());
        }

        let now = self.now();
        let session = seal::mint(TokenKind::AuthSession, self.entropy.as_ref(), &self.ring);
        let ticket = seal::mint(TokenKind::ConnectTicket, self.entropy.as_ref(), &self.ring);
        let mut scopes = scopes_to_ask(request.scopes, &connection.scopes);
        let mut accounts = Vec::new();
        let rows_of_accounts = rows.next().unwrap_or_default();
        for row in &rows_of_accounts {
            accounts.push(Candidate::from_row(row)?);
        }
        keep_granted(&mut scopes, accounts, &request.authorization_params)?;
        let insert = Statement::new(
            "insert into connect_flows (id, auth_session_hash, ticket_id, ticket_hash, user_id, client_id,
                                        connection_id, redirect_uri, client_state, code_challenge, scopes,
                                        authorization_params, state, created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'started', $13, $14)",
            params![
                session.id.as_str(),
                session.hash,
                ticket.id.as_str(),
                ticket.hash,
                user_id,
                me.client_id.as_str(),
                connection.id.as_str(),
                request.redirect_uri.as_str(),
                request.state.as_deref(),
                request.code_challenge.as_deref(),
                serde_json::to_string(&scopes)?,
                serde_json::to_string(&request.authorization_params)?,
                now,
                after(now, self.settings.ticket_lifetime.as_secs()),
            ],
        )
        .exactly(1);
        self.db
            .write(
                Batch::new()
                    .with(insert)
                    .with(self.audit_statement(event, caller, now)),
            )
            .await?;
        Ok(ConnectTicket {
            connect_uri: self.settings.issuer.url("connected-accounts/connect"),
            auth_session: session.token,
            ticket: ticket.token,
            expires_in: self.settings.ticket_lifetime.as_secs(),
        })
    }

    /// Step 2. Binds the ticket to the first browser that brings it and says what that browser sees.
    pub async fn open_connect(
        &self,
        ticket: &str,
        session: Option<&Session>,
        browser: &str,
        caller: &Caller,
    ) -> Result<ConnectStep, Error> {
        let opened = match self
            .open_ticket(ticket, browser, Visit::Look, caller)
            .await?
        {
            Ok(opened) => opened,
            Err(step) => return Ok(step),
        };
        let Some(session) = session else {
            return Ok(login_step(opened, None));
        };
        if session.user_id != opened.flow.user_id {
            let notice =
                "This connection was started by another user. Log in as that user to go on.";
            return Ok(login_step(opened, Some(notice)));
        }
        Ok(ConnectStep::Confirm {
            redirect_host: host_of(&opened.flow.redirect_uri),
            client_name: opened.client_name,
            connection_name: opened.connection.display_name.clone(),
            scopes: opened.flow.scopes,
            user_name: opened.user_name,
        })
    }

    /// Step 3. Sends the browser to the provider, or back to the client.
    pub async fn continue_connect(
        &self,
        ticket: &str,
        session: &Session,
        browser: &str,
        decision: ConnectDecision,
        caller: &Caller,
    ) -> Result<ConnectStep, Error> {
        let opened = match self
            .open_ticket(ticket, browser, Visit::Decide, caller)
            .await?
        {
            Ok(opened) => opened,
            Err(step) => return Ok(step),
        };
        let flow = &opened.flow;
        if session.user_id != flow.user_id {
            return self
                .refuse_flow(flow, &Refusal::new(Reason::ConnectUserMismatch), caller)
                .await;
        }
        if decision == ConnectDecision::Cancel {
            let refusal = Refusal::new(Reason::ProviderRefused)
                .describe("The user cancelled. Nothing was connected.");
            return self.refuse_flow(flow, &refusal, caller).await;
        }

        let now = self.now();
        let provider_state = seal::mint(TokenKind::ConnectState, self.entropy.as_ref(), &self.ring);
        let (cookie, cookie_hash) =
            seal::mint_short(self.entropy.as_ref(), &self.ring, "connect-cookie");
        let (code_verifier, _) =
            seal::mint_short(self.entropy.as_ref(), &self.ring, "connect-verifier");
        let (nonce, _) = seal::mint_short(self.entropy.as_ref(), &self.ring, "connect-nonce");
        let request = AuthorizationRequest {
            redirect_uri: opened.connection.callback_uri(self),
            state: provider_state.token,
            scopes: flow.scopes.clone(),
            code_challenge: Some(code_challenge(&code_verifier)?),
            nonce: Some(nonce.reveal().to_owned()),
            extra: flow.authorization_params.clone(),
        };
        let settings = opened.connection.provider_settings(self)?;
        let location = match self
            .provider
            .authorization_url(&settings, &request, now)
            .await
        {
            Ok(location) => location,
            Err(failure) => {
                let refusal = provider_refusal(&failure);
                return self.refuse_flow(flow, &refusal, caller).await;
            }
        };
        let secrets = FlowSecrets {
            code_verifier: Some(code_verifier),
            nonce: Some(nonce),
            provider_code: None,
            variables: BTreeMap::new(),
        };
        let sent = Statement::new(
            "update connect_flows
                set state = 'sent', provider_state_id = $2, provider_state_hash = $3,
                    provider_cookie_hash = $4, secrets = $5, expires_at = $6
              where id = $1 and state in ('opened', 'sent')",
            params![
                flow.id.as_str(),
                provider_state.id,
                provider_state.hash,
                cookie_hash,
                secrets.seal(self, &flow.id)?,
                after(now, self.settings.connect_flow_lifetime.as_secs()),
            ],
        )
        .exactly(1);
        match self.db.write(Batch::new().with(sent)).await {
            Ok(_) => Ok(ConnectStep::Provider {
                location,
                cookie: (flow.cookie_name(), cookie),
            }),
            // A double click: the other request has sent this browser on already.
            Err(WriteError::Expectation { .. }) => self.used_twice(flow, caller).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Step 4. Takes the provider's answer, if it belongs to a flow of this browser.
    pub async fn connect_callback(
        &self,
        callback_context: &str,
        answer: &Params,
        session: Option<&Session>,
        cookies: &(dyn Fn(&str) -> Option<String> + Sync),
        caller: &Caller,
    ) -> Result<ConnectStep, Error> {
        let now = self.now();
        let Some(presented) = answer
            .get("state")
            .and_then(|state| seal::present(TokenKind::ConnectState, state))
        else {
            return self.stray(Reason::ConnectStateMismatch, caller).await;
        };
        let Some(flow) = self
            .first(connect_flow::by_provider_state_statement(&presented.id))
            .await?
            .map(|row| connect_flow::from_row(&row))
            .transpose()?
        else {
            return self.stray(Reason::ConnectStateMismatch, caller).await;
        };
        let state_matches = flow
            .provider_state_hash
            .as_deref()
            .is_some_and(|hash| presented.matches(&self.ring, hash));
        let cookie = cookies(&flow.cookie_name());
        let cookie_matches = match (&cookie, &flow.provider_cookie_hash) {
            (Some(cookie), Some(hash)) => {
                seal::short_matches(&self.ring, "connect-cookie", cookie, hash)
            }
            _ => false,
        };
        if !state_matches || !cookie_matches {
            return self.stray(Reason::ConnectStateMismatch, caller).await;
        }
        let connection = self
            .first(connection::by_id_statement(&flow.connection_id))
            .await?
            .map(|row| connection::from_row(&row))
            .transpose()?;
        // Threats R-31: the answer of one connection is never taken for another's.
        let Some(connection) =
            connection.filter(|connection| connection.callback_context == callback_context)
        else {
            return self.stray(Reason::ConnectStateMismatch, caller).await;
        };
        if flow.state != ConnectState::Sent {
            return self.used_twice(&flow, caller).await;
        }
        if flow.expires_at <= now {
            let refusal = Refusal::new(Reason::ConnectFlowUnknown)
                .describe("The connect flow took too long. Start a new one.");
            return self.refuse_flow(&flow, &refusal, caller).await;
        }
        if session.is_none_or(|session| session.user_id != flow.user_id) {
            return self
                .refuse_flow(&flow, &Refusal::new(Reason::ConnectUserMismatch), caller)
                .await;
        }
        let settings = connection.provider_settings(self)?;
        // RFC 9207: where the provider names itself, the name is checked before anything else is believed.
        match self.provider.issuer(&settings, now).await {
            Ok(Some(policy)) => {
                let named = answer.get("iss");
                let wrong = named.is_some_and(|iss| iss != policy.issuer);
                let missing = named.is_none() && policy.iss_parameter_supported;
                if wrong || missing {
                    return self
                        .refuse_flow(&flow, &Refusal::new(Reason::ConnectStateMismatch), caller)
                        .await;
                }
            }
            Ok(None) => {}
            Err(failure) => {
                let refusal = provider_refusal(&failure);
                return self.refuse_flow(&flow, &refusal, caller).await;
            }
        }
        if let Some(error) = answer.get("error") {
            // The provider's words are not repeated (threats CN-25); a refusal by the person is told apart.
            let refusal = if matches!(error, "access_denied" | "consent_required" | "user_denied") {
                Refusal::new(Reason::ProviderRefused)
                    .describe("Consent was refused at the provider. Nothing was connected.")
            } else {
                Refusal::new(Reason::ProviderAnswerInvalid)
                    .describe("The provider answered with an error. Nothing was connected.")
            };
            return self.refuse_flow(&flow, &refusal, caller).await;
        }
        let answered = match self.provider.read_callback(&settings, answer) {
            Ok(answered) => answered,
            Err(failure) => {
                let refusal = provider_refusal(&failure);
                return self.refuse_flow(&flow, &refusal, caller).await;
            }
        };

        let mut secrets = flow.open_secrets(self)?;
        secrets.provider_code = Some(answered.code);
        secrets.variables = answered.variables;
        let (connect_code, connect_code_hash) =
            seal::mint_short(self.entropy.as_ref(), &self.ring, "connect-code");
        let returned = Statement::new(
            "update connect_flows
                set state = 'returned', secrets = $2, connect_code_hash = $3, connect_code_expires_at = $4
              where id = $1 and state = 'sent'",
            params![
                flow.id.as_str(),
                secrets.seal(self, &flow.id)?,
                connect_code_hash,
                after(now, self.settings.connect_code_lifetime.as_secs()),
            ],
        )
        .exactly(1);
        match self.db.write(Batch::new().with(returned)).await {
            Ok(_) => {}
            Err(WriteError::Expectation { .. }) => return self.used_twice(&flow, caller).await,
            Err(error) => return Err(error.into()),
        }
        let mut answer = vec![("connect_code", connect_code.reveal())];
        if let Some(state) = &flow.client_state {
            answer.push(("state", state));
        }
        Ok(ConnectStep::Answer {
            location: append_params(&flow.redirect_uri, &answer),
            clear_cookie: Some(flow.cookie_name()),
        })
    }

    /// Recognises a ticket, binds it to this browser and reads what the pages need. The inner error is the step of a
    /// browser that gets no further.
    async fn open_ticket(
        &self,
        ticket: &str,
        browser: &str,
        visit: Visit,
        caller: &Caller,
    ) -> Result<Result<Opened, ConnectStep>, Error> {
        let Some(presented) = seal::present(TokenKind::ConnectTicket, ticket) else {
            return self
                .stray(Reason::ConnectTicketUnknown, caller)
                .await
                .map(Err);
        };
        let Some(mut flow) = self
            .first(connect_flow::by_ticket_statement(&presented.id))
            .await?
            .map(|row| connect_flow::from_row(&row))
            .transpose()?
        else {
            return self
                .stray(Reason::ConnectTicketUnknown, caller)
                .await
                .map(Err);
        };
        if !presented.matches(&self.ring, &flow.ticket_hash) {
            return self
                .stray(Reason::ConnectTicketUnknown, caller)
                .await
                .map(Err);
        }
        let browser_hash = seal::sha256(browser.as_bytes());
        match flow.state {
            ConnectState::Started if flow.expires_at > self.now() => {
                let open = Statement::new(
                    "update connect_flows set state = 'opened', browser_hash = $2
                      where id = $1 and state = 'started'",
                    params![flow.id.as_str(), browser_hash],
                )
                .exactly(1);
                match self.db.write(Batch::new().with(open)).await {
                    Ok(_) => {}
                    Err(WriteError::Expectation { .. }) => {
                        return self.used_twice(&flow, caller).await.map(Err);
                    }
                    Err(error) => return Err(error.into()),
                }
                flow.state = ConnectState::Opened;
                flow.browser_hash = Some(browser_hash.to_vec());
            }
            // The same browser may look again, as after logging in, and press the button again: a double click goes on
            // with the second one.
            ConnectState::Opened | ConnectState::Sent
                if (flow.state == ConnectState::Opened || visit == Visit::Decide)
                    && flow.expires_at > self.now()
                    && flow
                        .browser_hash
                        .as_deref()
                        .is_some_and(|hash| seal::constant_time_eq(hash, &browser_hash)) => {}
            ConnectState::Started | ConnectState::Opened if flow.expires_at <= self.now() => {
                let refusal = Refusal::new(Reason::ConnectFlowUnknown)
                    .describe("The connect ticket has expired. Start a new connect flow.");
                return self.refuse_flow(&flow, &refusal, caller).await.map(Err);
            }
            _ => return self.used_twice(&flow, caller).await.map(Err),
        }

        let (connection, client, user) = self.connect_parties(&flow).await?;
        let connection = connection.and_then(|found| found.usable().ok());
        match (connection, client, user) {
            (Some(connection), Some(client), Some(user))
                if client.disabled_at.is_none() && user.blocked_at.is_none() =>
            {
                Ok(Ok(Opened {
                    flow,
                    connection,
                    client_name: client.name,
                    user_name: user.username,
                }))
            }
            _ => self
                .refuse_flow(&flow, &Refusal::new(Reason::ConnectionNotAllowed), caller)
                .await
                .map(Err),
        }
    }

    /// The connection as the flow's client may see it, the client, and the user, as they are now.
    pub(crate) async fn connect_parties(&self, flow: &ConnectFlow) -> Result<Parties, Error> {
        let mut rows = self
            .db
            .read_all(vec![
                connection::for_client_statement_by_id(&flow.connection_id, &flow.client_id),
                client::by_id_statement(&flow.client_id),
                user::by_id_statement(&flow.user_id),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().and_then(|rows| rows.into_iter().next());
        let connection = next()
            .map(|row| self.connection_for_client(row))
            .transpose()?;
        let client = next().map(|row| client::from_row(&row)).transpose()?;
        let user = next().map(|row| user::from_row(&row)).transpose()?;
        Ok((connection, client, user))
    }

    /// Tells the client that its ticket came twice. The flow that the first one began goes on.
    async fn used_twice(&self, flow: &ConnectFlow, caller: &Caller) -> Result<ConnectStep, Error> {
        let refusal = Refusal::new(Reason::ConnectFlowFinished)
            .describe("This connect ticket has already been used. Start a new connect flow.");
        self.audit(&refused_event(flow, &refusal), caller).await?;
        // While the flow is under way in another tab, that one needs the cookie.
        let is_under_way = matches!(
            flow.state,
            ConnectState::Opened | ConnectState::Sent | ConnectState::Started
        );
        let clear_cookie = (!is_under_way).then(|| flow.cookie_name());
        Ok(error_answer(flow, &refusal, clear_cookie))
    }

    /// An answer or ticket that belongs to nothing: a page, and a row in the audit log.
    async fn stray(&self, reason: Reason, caller: &Caller) -> Result<ConnectStep, Error> {
        let refusal = Refusal::new(reason);
        let event = Event::of_error(EventKind::ConnectRefused, &Error::from(refusal.clone()));
        self.audit(&event, caller).await?;
        Ok(ConnectStep::Page(refusal))
    }

    /// Ends a flow and tells the client why, at its `redirect_uri`.
    async fn refuse_flow(
        &self,
        flow: &ConnectFlow,
        refusal: &Refusal,
        caller: &Caller,
    ) -> Result<ConnectStep, Error> {
        let event = refused_event(flow, refusal);
        let ended = self
            .db
            .write(
                Batch::new()
                    .with(connect_flow::fail_statement(flow))
                    .with(self.audit_statement(&event, caller, self.now())),
            )
            .await;
        match ended {
            Ok(_) => {}
            // Another request ended it first; the answer is the same.
            Err(WriteError::Expectation { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(error_answer(flow, refusal, Some(flow.cookie_name())))
    }
}

/// The request's scopes replace the connection's, except that `offline_access` stays where the connection has it
/// (contract 1, row 5): without it there is nothing to keep fresh.
fn scopes_to_ask(asked: Option<Vec<String>>, configured: &[String]) -> Vec<String> {
    const OFFLINE: &str = "offline_access";
    let Some(mut scopes) = asked else {
        return configured.to_vec();
    };
    let has_offline = |scopes: &[String]| scopes.iter().any(|scope| scope == OFFLINE);
    if has_offline(configured) && !has_offline(&scopes) {
        scopes.push(OFFLINE.to_owned());
    }
    scopes
}

/// Many providers' new grant replaces the old one, with its scopes: who asks for one more would lose the others. So what
/// was asked for and granted before is asked for again, where it is clear which account is meant: the only one, or the one that
/// `login_hint` names, and the person is not asked to choose another.
fn keep_granted(
    scopes: &mut Vec<String>,
    accounts: Vec<Candidate<'_>>,
    params: &[(String, String)],
) -> Result<(), Error> {
    let param = |name: &str| {
        params
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    if param("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "select_account"))
    {
        return Ok(());
    }
    let picked = candidate::select(accounts, param("login_hint"), AccountSelection::Required);
    let picked = match picked {
        Ok(picked) => picked,
        Err(Error::Refused(_)) => return Ok(()),
        Err(fault @ Error::Fault(_)) => return Err(fault),
    };
    let (granted, requested) = (picked.scopes()?, picked.requested_scopes()?);
    let missing = account::missing_scopes(&requested, &granted);
    let before = if requested.is_empty() {
        granted
    } else {
        requested
    };
    for scope in before {
        if !scopes.contains(&scope) && !missing.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(())
}

fn refused_event(flow: &ConnectFlow, refusal: &Refusal) -> Event {
    Event::of_error(EventKind::ConnectRefused, &Error::from(refusal.clone()))
        .client(&*flow.client_id)
        .user(&*flow.user_id)
        .detail("connection_id", flow.connection_id.as_str())
}

/// The error codes that a client's `redirect_uri` may see: RFC 6749 §4.1.2.1.
fn error_answer(
    flow: &ConnectFlow,
    refusal: &Refusal,
    clear_cookie: Option<String>,
) -> ConnectStep {
    let code = match refusal.code() {
        code @ ("access_denied"
        | "invalid_request"
        | "server_error"
        | "temporarily_unavailable") => code,
        _ => "server_error",
    };
    let mut answer = vec![
        ("error", code),
        ("error_description", refusal.description()),
    ];
    if let Some(state) = &flow.client_state {
        answer.push(("state", state));
    }
    ConnectStep::Answer {
        location: append_params(&flow.redirect_uri, &answer),
        clear_cookie,
    }
}

/// The wait that is told where the provider limits requests and does not say for how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// What a provider's failure means for somebody who is connecting an account.
pub(crate) fn provider_refusal(failure: &provider::Failure) -> Refusal {
    use provider::FailureKind;
    match &failure.kind {
        FailureKind::ReauthorizationRequired => Refusal::new(Reason::ProviderRefused).describe(
            "The provider did not accept the authorization code. Start a new connect flow.",
        ),
        FailureKind::ClientMisconfigured => Refusal::new(Reason::ProviderClientMisconfigured),
        FailureKind::RateLimited { retry_after } => Refusal::new(Reason::ProviderRateLimited)
            .retry_after_duration(retry_after.unwrap_or(DEFAULT_WAIT)),
        FailureKind::InvalidResponse => Refusal::new(Reason::ProviderAnswerInvalid),
        FailureKind::ScopeMissing => Refusal::new(Reason::ProviderRefused)
            .describe("The provider does not grant the scopes that were asked for."),
        FailureKind::Unavailable | FailureKind::OutcomeUnknown | FailureKind::Refused => {
            Refusal::new(Reason::ProviderUnavailable)
        }
    }
}

fn login_step(opened: Opened, notice: Option<&str>) -> ConnectStep {
    ConnectStep::Login {
        login_hint: Some(opened.user_name),
        notice: notice.map(str::to_owned),
        client_name: opened.client_name,
        connection_name: opened.connection.display_name.clone(),
    }
}

fn code_challenge(verifier: &SecretString) -> Result<String, Error> {
    let verifier = oauth::pkce::CodeVerifier::parse(verifier.reveal())?;
    Ok(oauth::pkce::CodeChallenge::from_verifier(&verifier)
        .as_str()
        .to_owned())
}

fn host_of(uri: &str) -> String {
    url::Url::parse(uri)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_access_stays_where_the_connection_has_it() {
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        for (asked, configured, expected) in [
            (None, "openid offline_access", "openid offline_access"),
            (
                Some("files.read"),
                "openid offline_access",
                "files.read offline_access",
            ),
            (
                Some("files.read offline_access"),
                "offline_access",
                "files.read offline_access",
            ),
            (Some("files.read"), "openid", "files.read"),
        ] {
            assert_eq!(
                scopes_to_ask(asked.map(words), &words(configured)),
                words(expected)
            );
        }
    }
}
