//! Completing a connect flow: the same user and client prove themselves, and only then the provider's code is redeemed.
//!
//! 1. Find the flow by its `auth_session`; check user, client, redirect URI, connect code, PKCE (contract 2.7).
//! 2. Claim it: from here on nobody else can redeem.
//! 3. Redeem the code and learn who the account is, with no database connection held.
//! 4. Store the account, or renew the one with the same id at the provider, together with the audit row.
//!
//! What fails after step 2 ends the flow; the provider's grant is then unknown to us and ends by itself or by the
//! user's hand at the provider.

use seal::{SecretString, TokenKind};
use serde_json::Value;
use store::{Batch, Statement, WriteError, params};

use crate::access_token::AccessToken;
use crate::account::{self, Account, AccountStatus, AccountView, column};
use crate::body::Body;
use crate::connect_flow::{self, ConnectFlow, ConnectState, FlowSecrets};
use crate::connection::Connection;
use crate::flow::connect::provider_refusal;
use crate::token_set::{TokenSet, after};
use crate::{Caller, Error, Event, EventKind, Fault, Reason, Refusal, Vault};

/// A parsed complete request (contract 2.7).
pub struct CompleteRequest {
    auth_session: SecretString,
    connect_code: SecretString,
    redirect_uri: String,
    code_verifier: Option<String>,
}

impl CompleteRequest {
    /// Reads the body; a refusal lists every field that is wrong.
    pub fn parse(body: Value) -> Result<Self, Refusal> {
        let mut body = Body::new(body)?;
        let auth_session = SecretString::new(body.required_text("auth_session", 1, 64));
        let connect_code = SecretString::new(body.required_text("connect_code", 1, 46));
        let redirect_uri = body.required_text("redirect_uri", 1, 2048);
        let code_verifier = body.text("code_verifier", 43, 128);
        body.finish()?;
        Ok(Self {
            auth_session,
            connect_code,
            redirect_uri,
            code_verifier,
        })
    }
}

/// Who the account is and what the provider gave for it.
struct Granted {
    identity: provider::Identity,
    tokens: TokenSet,
    scopes: Vec<String>,
    refresh_expires_in: Option<u64>,
}

/// How often a write that lost a race against a refresh of the same account is tried again.
const STORE_ATTEMPTS: u32 = 5;

impl Vault {
    /// Redeems the provider's code and stores the account.
    pub async fn complete_connect(
        &self,
        me: &AccessToken,
        request: CompleteRequest,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        let mut event = Event::succeeded(EventKind::ConnectCompleted).client(&*me.client_id);
        event.user_id = me.user_id.clone();
        let ended = self.complete_flow(me, &request, &mut event, caller).await;
        self.settle(event, ended, caller).await
    }

    async fn complete_flow(
        &self,
        me: &AccessToken,
        request: &CompleteRequest,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        // Step 1.
        let presented = seal::present(TokenKind::AuthSession, request.auth_session.reveal())
            .ok_or(Reason::ConnectFlowUnknown)?;
        let mut flow = self
            .first(connect_flow::by_id_statement(&presented.id))
            .await?
            .map(|row| connect_flow::from_row(&row))
            .transpose()?
            .filter(|flow| presented.matches(&self.ring, &flow.auth_session_hash))
            .ok_or(Reason::ConnectFlowUnknown)?;
        self.check_completion(&flow, me, request)?;
        let connection = self.check_parties(&flow).await?;
        event.connection = Some(connection.name.clone());

        // Step 2.
        let secrets = flow.open_secrets(self)?;
        let claim = Statement::new(
            "update connect_flows
                set state = 'redeeming', secrets = null, connect_code_hash = null
              where id = $1 and state = 'returned'",
            params![flow.id.as_str()],
        )
        .exactly(1);
        match self.db.write(Batch::new().with(claim)).await {
            Ok(_) => flow.state = ConnectState::Redeeming,
            Err(WriteError::Expectation { .. }) => return Err(Reason::ConnectFlowFinished.into()),
            Err(error) => return Err(error.into()),
        }

        // Steps 3 and 4.
        let stored = async {
            let code = secrets
                .provider_code
                .as_ref()
                .ok_or_else(|| Fault::Internal("a returned flow has no code".to_owned()))?;
            let granted = self.redeem(&flow, &connection, code, &secrets).await?;
            // Told in the audit row: somebody should know that a provider gives more than was asked for (CN-26).
            let excess: Vec<&str> = granted
                .scopes
                .iter()
                .filter(|scope| !flow.scopes.contains(scope))
                .map(String::as_str)
                .collect();
            if !excess.is_empty() {
                *event = event.clone().detail("scope_excess", excess.join(" "));
            }
            self.store_account(&flow, &connection, granted, event, caller)
                .await
        }
        .await;
        if stored.is_err() {
            self.db
                .write(Batch::new().with(connect_flow::fail_statement(&flow)))
                .await?;
        }
        stored
    }

    /// Everything that the row and the request decide between them, in the order in which it is safe to say why.
    fn check_completion(
        &self,
        flow: &ConnectFlow,
        me: &AccessToken,
        request: &CompleteRequest,
    ) -> Result<(), Error> {
        let now = self.now();
        if me.user_id.as_deref() != Some(flow.user_id.as_str()) || me.client_id != flow.client_id {
            return Err(Reason::ConnectUserMismatch.into());
        }
        match flow.state {
            ConnectState::Returned => {}
            ConnectState::Completed | ConnectState::Failed | ConnectState::Redeeming => {
                return Err(Reason::ConnectFlowFinished.into());
            }
            ConnectState::Opened | ConnectState::Sent | ConnectState::Started => {
                return Err(Reason::ConnectCodeInvalid.into());
            }
        }
        let code_matches = flow.connect_code_hash.as_deref().is_some_and(|hash| {
            seal::short_matches(
                &self.ring,
                "connect-code",
                request.connect_code.reveal(),
                hash,
            )
        });
        let code_alive = flow.connect_code_expires_at.is_some_and(|end| end > now);
        if !code_matches || !code_alive {
            return Err(Reason::ConnectCodeInvalid.into());
        }
        if request.redirect_uri != flow.redirect_uri {
            return Err(Reason::RedirectUriMismatch.into());
        }
        let verifier_matches = match (&flow.code_challenge, &request.code_verifier) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => {
                match (
                    oauth::pkce::CodeChallenge::parse(challenge),
                    oauth::pkce::CodeVerifier::parse(verifier),
                ) {
                    (Ok(challenge), Ok(verifier)) => challenge.matches(&verifier),
                    _ => false,
                }
            }
            // A verifier without a challenge is a sign of a downgrade (RFC 9700 §4.8.2).
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !verifier_matches {
            return Err(Reason::ConnectVerifierMismatch.into());
        }
        Ok(())
    }

    /// User, client and connection as they are now, not as they were when the flow began (threats CN-11).
    async fn check_parties(&self, flow: &ConnectFlow) -> Result<Connection, Error> {
        let (connection, client, user) = self.connect_parties(flow).await?;
        let connection = connection.ok_or(Reason::ConnectionNotAllowed)?.usable()?;
        let client_live = client.is_some_and(|client| client.disabled_at.is_none());
        let user_live = user.is_some_and(|user| user.blocked_at.is_none());
        if client_live && user_live {
            Ok(connection)
        } else {
            Err(Reason::ConnectionNotAllowed.into())
        }
    }

    async fn redeem(
        &self,
        flow: &ConnectFlow,
        connection: &Connection,
        code: &SecretString,
        secrets: &FlowSecrets,
    ) -> Result<Granted, Error> {
        let settings = connection.provider_settings(self)?;
        let answer = self
            .provider
            .redeem_code(
                &settings,
                &provider::CodeGrant {
                    code,
                    redirect_uri: &connection.callback_uri(self),
                    code_verifier: secrets.code_verifier.as_ref(),
                    variables: &secrets.variables,
                },
                self.now(),
            )
            .await
            .map_err(|failure| provider_refusal(&failure))?;
        let identity = self
            .provider
            .identify(
                &settings,
                &answer,
                secrets.nonce.as_ref().map(SecretString::reveal),
                &secrets.variables,
                self.now(),
            )
            .await
            .map_err(|failure| provider_refusal(&failure))?;
        if identity.subject.is_empty() && !settings.options.allow_missing_user_id {
            return Err(Reason::IdentityMissing.into());
        }
        // RFC 6749 §5.1: an answer without scope granted what was asked for.
        let scopes = answer.scopes.clone().unwrap_or_else(|| flow.scopes.clone());
        let refresh_expires_in = answer.refresh_token_expires_in;
        Ok(Granted {
            identity,
            scopes,
            refresh_expires_in,
            tokens: TokenSet::from_answer(answer, None, self.now()),
        })
    }

    async fn store_account(
        &self,
        flow: &ConnectFlow,
        connection: &Connection,
        granted: Granted,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        let now = self.now();
        for _ in 0..STORE_ATTEMPTS {
            let existing = self
                .first(account::by_subject_statement(
                    &flow.user_id,
                    &connection.id,
                    &granted.identity.subject,
                ))
                .await?
                .map(|row| account::from_row(&row))
                .transpose()?;
            let is_new = existing.is_none();
            let before = existing.map_or_else(
                || (seal::random_id(self.entropy.as_ref(), "cac_"), 0, 0, now),
                |account| {
                    (
                        account.id,
                        account.generation,
                        account.attempt,
                        account.created_at,
                    )
                },
            );
            let (id, generation, attempt, created_at) = before;
            let account = Account {
                user_id: flow.user_id.clone(),
                connection_id: connection.id.clone(),
                subject: granted.identity.subject.clone(),
                login: granted.identity.login.clone(),
                email: granted.identity.email.clone(),
                display_name: granted.identity.name.clone(),
                scopes: granted.scopes.clone(),
                status: AccountStatus::Active,
                token_set: granted.tokens.seal(self, &id, generation + 1)?,
                generation: generation + 1,
                refresh_expires_at: granted
                    .refresh_expires_in
                    .map(|seconds| after(now, seconds)),
                // A refresh that is in flight for the old token set may not commit over the new one.
                attempt: attempt + 1,
                failures: 0,
                failure: None,
                retry_at: None,
                created_at,
                connected_at: now,
                leased: false,
                id,
            };
            event.account_id = Some(account.id.clone());
            event.scopes = Some(account.scopes.join(" "));
            let write = if is_new {
                insert_statement(&account, granted.tokens.expires_at)?
            } else {
                renew_statement(&account, granted.tokens.expires_at, generation)?
            };
            let complete = Statement::new(
                "update connect_flows set state = 'completed' where id = $1 and state = 'redeeming'",
                params![flow.id.as_str()],
            )
            .exactly(1);
            let batch = Batch::new()
                .with(write)
                .with(complete)
                .with(self.audit_statement(event, caller, now));
            match self.db.write(batch).await {
                Ok(_) => return Ok(account.view(&connection.name)),
                // A refresh or a second connect came between: read again and renew what is there now.
                Err(
                    WriteError::Expectation { statement: 0, .. }
                    | WriteError::UniqueViolation { statement: 0 },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Fault::Unavailable("the account is being written by others".to_owned()).into())
    }
}

fn insert_statement(
    account: &Account,
    access_expires_at: Option<jiff::Timestamp>,
) -> Result<Statement, Error> {
    Ok(Statement::new(
        "insert into accounts (id, user_id, connection_id, subject, login, email, display_name, scopes, status,
                               generation, token_set, access_expires_at, refresh_expires_at, attempt, failures,
                               created_at, connected_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0, $15, $16)",
        params![
            account.id.as_str(),
            account.user_id.as_str(),
            account.connection_id.as_str(),
            account.subject.as_str(),
            account.login.as_deref(),
            account.email.as_deref(),
            account.display_name.as_deref(),
            serde_json::to_string(&account.scopes)?,
            account.status.as_str(),
            column(account.generation),
            account.token_set.clone(),
            access_expires_at,
            account.refresh_expires_at,
            column(account.attempt),
            account.created_at,
            account.connected_at,
        ],
    )
    .exactly(1))
}

fn renew_statement(
    account: &Account,
    access_expires_at: Option<jiff::Timestamp>,
    generation_before: u64,
) -> Result<Statement, Error> {
    Ok(Statement::new(
        "update accounts
            set login = $2, email = $3, display_name = $4, scopes = $5, status = $6, status_reason = null,
                generation = $7, token_set = $8, access_expires_at = $9, refresh_expires_at = $10, attempt = $11,
                lease_owner = null, lease_until = null, failures = 0, failure = null, retry_at = null,
                connected_at = $12
          where id = $1 and generation = $13",
        params![
            account.id.as_str(),
            account.login.as_deref(),
            account.email.as_deref(),
            account.display_name.as_deref(),
            serde_json::to_string(&account.scopes)?,
            account.status.as_str(),
            column(account.generation),
            account.token_set.clone(),
            access_expires_at,
            account.refresh_expires_at,
            column(account.attempt),
            account.connected_at,
            column(generation_before),
        ],
    )
    .exactly(1))
}
