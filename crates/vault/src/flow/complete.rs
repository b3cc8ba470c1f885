//! Completing a connect flow: the same user and client prove themselves, and only then the provider's code is redeemed.
//!
//! 1. Find the flow by its `auth_session`; check user, client, redirect URI, connect code, PKCE (contract 2.7).
//! 2. Claim it: from here on nobody else can redeem.
//! 3. Redeem the code and learn who the account is, with no database connection held.
//! 4. Store the account, or renew the one with the same id at the provider, together with the audit row.
//!
//! What fails after step 2 ends the flow. Once the provider has given tokens, they are given back then
//! ([`crate::flow::give_back`]): nothing of a flow that failed lives on there.

use std::collections::BTreeMap;
use std::sync::Arc;

use provider::{Downscope, Profile, TokenAnswer};
use schemars::JsonSchema;
use seal::{SecretString, TokenKind};
use serde::Deserialize;
use serde_json::Value;
use store::{Batch, Statement, WriteError, params};

use crate::access_token::AccessToken;
use crate::account::{self, AccountView};
use crate::connect_flow::{self, ConnectFlow, ConnectState, FlowSecrets};
use crate::connection::Connection;
use crate::flow::connect::provider_refusal;
use crate::granted::{Grant, Grantee};
use crate::revocation::{self, NewRevocation};
use crate::token_set::TokenSet;
use crate::{Caller, Document, Error, Event, EventKind, Fault, Reason, Refusal, Source, Vault};

/// A parsed complete request (contract 2.7).
pub struct CompleteRequest {
    auth_session: SecretString,
    connect_code: SecretString,
    redirect_uri: String,
    code_verifier: Option<String>,
}

/// The same, as it is sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CompleteBody {
    #[schemars(length(min = 1, max = 64))]
    auth_session: String,
    #[schemars(length(min = 1, max = 46))]
    connect_code: String,
    #[schemars(length(min = 1, max = 2048))]
    redirect_uri: String,
    #[schemars(length(min = 43, max = 128))]
    code_verifier: Option<String>,
}

impl CompleteRequest {
    /// Reads the body; a refusal lists every field that is wrong.
    pub fn parse(body: Value) -> Result<Self, Refusal> {
        let body = CompleteBody::read(body, Source::Body)?;
        Ok(Self {
            auth_session: SecretString::new(body.auth_session),
            connect_code: SecretString::new(body.connect_code),
            redirect_uri: body.redirect_uri,
            code_verifier: body.code_verifier,
        })
    }
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

        // Steps 3 and 4, in a task of their own: a caller who hangs up must not leave a grant behind that nobody knows.
        let vault = self.clone();
        let (mut known, caller) = (event.clone(), caller.clone());
        let (known, stored) = tokio::spawn(async move {
            let stored = vault
                .complete_returned(&flow, &connection, &secrets, &mut known, &caller)
                .await;
            (known, stored)
        })
        .await
        .map_err(|_panic| Fault::Internal("completing a connect flow broke off".to_owned()))?;
        *event = known;
        stored
    }

    async fn complete_returned(
        &self,
        flow: &ConnectFlow,
        connection: &Connection,
        secrets: &FlowSecrets,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        let stored = self
            .redeem_and_store(flow, connection, secrets, event, caller)
            .await;
        if stored.is_err() {
            self.db
                .write(Batch::new().with(connect_flow::fail_statement(flow)))
                .await?;
        }
        stored
    }

    async fn redeem_and_store(
        &self,
        flow: &ConnectFlow,
        connection: &Connection,
        secrets: &FlowSecrets,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        let code = secrets
            .provider_code
            .as_ref()
            .ok_or_else(|| Fault::Internal("a returned flow has no code".to_owned()))?;
        let (answer, variables) = self.redeem(connection, code, secrets).await?;
        let identity = self
            .identify(connection, &answer, secrets, &variables)
            .await;
        let refresh_expires_in = answer.refresh_token_expires_in;
        let tokens = TokenSet::of_grant(answer, self.now());
        let mut grant = Grant {
            scopes: scopes_granted(connection.profile(self), &tokens, &flow.scopes),
            requested_scopes: flow.scopes.clone(),
            tokens,
            refresh_expires_in,
            variables,
            given_at: Some(self.now()),
        };
        let (subject, failure) = match identity {
            Err(failure) => (None, failure),
            Ok(identity) => {
                // Told in the audit row: somebody should know that a provider gives more than was asked for (CN-26).
                let excess: Vec<&str> = grant
                    .scopes
                    .iter()
                    .filter(|scope| !flow.scopes.contains(scope))
                    .map(String::as_str)
                    .collect();
                if !excess.is_empty() {
                    *event = event.clone().detail("scope_excess", excess.join(" "));
                }
                match self
                    .store_account(flow, connection, &identity, &mut grant, event, caller)
                    .await
                {
                    Ok(view) => return Ok(view),
                    Err(failure) => (Some(identity.subject), failure),
                }
            }
        };
        // The answer is the failure that came first, whatever becomes of the tokens.
        if let Err(error) = self.abandon(flow, &grant, subject.as_deref()).await {
            tracing::error!(flow.id = %flow.id, error = ?error, "a grant that came to nothing could not be noted to be given back");
        }
        Err(failure)
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
    async fn check_parties(&self, flow: &ConnectFlow) -> Result<Arc<Connection>, Error> {
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

    /// Step 3, the first half: from here on there is something to give back.
    async fn redeem(
        &self,
        connection: &Connection,
        code: &SecretString,
        secrets: &FlowSecrets,
    ) -> Result<(TokenAnswer, BTreeMap<String, String>), Error> {
        let callback_uri = connection.callback_uri(self);
        let grant = provider::CodeGrant {
            code,
            redirect_uri: &callback_uri,
            code_verifier: secrets.code_verifier.as_ref(),
            variables: &secrets.variables,
        };
        let now = self.now();
        let answer = self
            .ask_as_client(connection, |settings| {
                let grant = &grant;
                async move { self.provider.redeem_code(&settings, grant, now).await }
            })
            .await?
            .map_err(|failure| provider_refusal(&failure))?;
        let mut variables = secrets.variables.clone();
        variables.extend(answer.variables.clone());
        Ok((answer, variables))
    }

    /// Step 3, the second half.
    async fn identify(
        &self,
        connection: &Connection,
        answer: &TokenAnswer,
        secrets: &FlowSecrets,
        variables: &BTreeMap<String, String>,
    ) -> Result<provider::Identity, Error> {
        let settings = connection.provider_settings(self)?;
        let nonce = secrets.nonce.as_ref().map(SecretString::reveal);
        let identity = self
            .provider
            .identify(&settings, answer, nonce, variables, self.now())
            .await
            .map_err(|failure| provider_refusal(&failure))?;
        let may_be_missing = connection
            .profile(self)
            .is_some_and(|profile| settings.options.allows_missing_user_id(profile));
        if identity.subject.is_empty() && !may_be_missing {
            return Err(Reason::IdentityMissing.into());
        }
        Ok(identity)
    }

    /// Nothing came of a grant: it is given back, behind the answer.
    async fn abandon(
        &self,
        flow: &ConnectFlow,
        grant: &Grant,
        subject: Option<&str>,
    ) -> Result<(), Error> {
        let (id, statement) = self.revocation_statement(&NewRevocation {
            connection_id: &flow.connection_id,
            account_id: "",
            user_id: &flow.user_id,
            subject,
            tokens: &grant.tokens,
            variables: &grant.variables,
        })?;
        self.db.write(Batch::new().with(statement)).await?;
        self.give_back_behind(id);
        Ok(())
    }

    /// Notes in the audit row that the same account of the provider is connected once more, by another user or at another
    /// connection with our same client there: many providers count grants and end the oldest without a word, and end all
    /// of them together.
    async fn note_elsewhere(
        &self,
        flow: &ConnectFlow,
        connection: &Connection,
        identity: &provider::Identity,
        event: &mut Event,
    ) -> Result<(), Error> {
        if identity.subject.is_empty() {
            return Ok(());
        }
        let elsewhere = self
            .first(revocation::elsewhere_statement(
                &connection.strategy,
                &connection.client_id,
                &identity.subject,
                (&flow.user_id, &connection.id),
            ))
            .await?;
        if let Some(row) = elsewhere {
            *event = event
                .clone()
                .detail("connected_elsewhere", row.text(0)?.to_owned());
        }
        Ok(())
    }

    async fn store_account(
        &self,
        flow: &ConnectFlow,
        connection: &Connection,
        identity: &provider::Identity,
        grant: &mut Grant,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        let now = self.now();
        let profile = connection
            .profile(self)
            .ok_or(Reason::ProviderClientMisconfigured)?;
        let class = connection.refresh_class(profile)?;
        self.note_elsewhere(flow, connection, identity, event)
            .await?;
        let grantee = Grantee {
            user_id: &flow.user_id,
            connection,
            profile,
            class,
            identity,
        };
        for _ in 0..STORE_ATTEMPTS {
            let existing = self
                .first(account::by_subject_statement(
                    &flow.user_id,
                    &connection.id,
                    &identity.subject,
                ))
                .await?
                .map(|row| account::from_row(&row))
                .transpose()?;
            let settled = self.decide_account(&grantee, grant, existing.as_ref())?;
            let account = settled.account;
            event.account_id = Some(account.id.clone());
            event.scopes = Some(account.scopes.join(" "));
            let complete = Statement::new(
                "update connect_flows set state = 'completed' where id = $1 and state = 'redeeming'",
                params![flow.id.as_str()],
            )
            .exactly(1);
            let mut batch = Batch::new()
                .with(settled.write)
                .with(complete)
                .with(self.audit_statement(event, caller, now));
            for event in &settled.told {
                batch = batch.with(self.audit_statement(event, caller, now));
            }
            match self.db.write(batch).await {
                Ok(_) => return Ok(account.view(&connection.name, now)),
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

/// What the grant covers. RFC 6749 §5.1: an answer without scope granted what was asked for. Where a token is good for one
/// resource, its scopes are not all that was granted.
fn scopes_granted(profile: Option<&Profile>, tokens: &TokenSet, asked: &[String]) -> Vec<String> {
    let by_resource =
        profile.is_some_and(|profile| profile.refresh.downscope == Downscope::Resource);
    let said = tokens.scopes();
    match (said, by_resource) {
        (Some(said), false) => said,
        (Some(said), true) => {
            let further = said.into_iter().filter(|scope| !asked.contains(scope));
            asked.iter().cloned().chain(further).collect()
        }
        (None, _) => asked.to_vec(),
    }
}
