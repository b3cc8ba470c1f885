//! `/authorize`: from the request of a client to its answer, through login and consent.
//!
//! 1. The request, from the query or pushed before. Until client and redirect URI belong together, a refusal is a
//!    page; from then on it goes to the redirect URI.
//! 2. What may be granted: the standard scopes, and those of the API that its policy and the client grant allow.
//! 3. Somebody has to be logged in, recently enough, and the right one.
//! 4. A client that is not ours, or an API that wants it, needs consent.
//! 5. The answer: an authorization and a code, written together with the end of the interaction, so that each is
//!    answered once.
//!
//! Between 3 and 5 the request waits in the database; the browser holds only its token (threats AU-31).

use jiff::{SignedDuration, Timestamp};
use oauth::authorize_request::{AuthorizeRequest, Prompt as Ask, ResponseMode, Target};
use oauth::grant;
use oauth::params::Params;
use oauth::scope::Scope;
use seal::{SecretString, TokenKind};
use serde::{Deserialize, Serialize};
use store::{Batch, Statement, WriteError, params};

use crate::api::Api;
use crate::authorization::{self, oidc_part};
use crate::client::Client;
use crate::client_grant::{Reach, SubjectType};
use crate::session::Session;
use crate::token_set::after;
use crate::{Caller, Error, Event, EventKind, Reason, Refusal, Vault};

/// How the browser goes on.
#[derive(Debug)]
pub enum AuthorizeStep {
    /// Back to the client.
    Answer(AuthorizationAnswer),
    /// To a page that asks.
    Interact {
        /// What the page's address carries.
        token: SecretString,
        /// What it asks.
        prompt: Prompt,
    },
    /// To an error page: nobody can be trusted with the answer.
    Page(Refusal),
}

/// An answer to a client.
pub struct AuthorizationAnswer {
    /// Where it goes.
    pub redirect_uri: String,
    /// How it travels.
    pub mode: ResponseMode,
    /// What it says; a code among it.
    pub params: Vec<(String, String)>,
}

impl std::fmt::Debug for AuthorizationAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizationAnswer")
            .field("redirect_uri", &self.redirect_uri)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// What a page asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Whether the client may.
    Consent {
        /// Who wants it.
        client_name: String,
        /// Where the answer goes.
        redirect_host: String,
        /// What it wants access to.
        audience_name: String,
        /// The scopes, each with what people read about it.
        scopes: Vec<(String, String)>,
    },
    /// Who it is.
    Login {
        /// Who wants to know.
        client_name: String,
        /// Who is expected.
        login_hint: Option<String>,
        /// Whether there is a page to sign up.
        can_sign_up: bool,
    },
}

/// A request that waits for a person.
#[derive(Debug)]
pub struct Interaction {
    /// What the person is asked now.
    pub prompt: Prompt,
}

/// What the person said about consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// No.
    Denied,
    /// Yes.
    Granted,
}

/// A request on its way, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    request: AuthorizeRequest,
    /// Who has to be logged in.
    #[serde(default)]
    expected: Expected,
    /// The pushed request that it came from; used up with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pushed_id: Option<String>,
    /// When it came: a login after that is a fresh one.
    since: Timestamp,
    /// What the person is asked.
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Consent,
    Login,
}

/// A pending request with everything that decides about it.
struct Considered {
    pending: Pending,
    client: Client,
    api: Option<Api>,
    /// What would be granted.
    scope: Scope,
}

/// An interaction that was found by its token.
struct Found {
    id: String,
    pending: Pending,
}

impl Vault {
    /// Steps 1 to 5 for a request that arrives.
    pub async fn authorize(
        &self,
        params: &Params,
        session: Option<&Session>,
        caller: &Caller,
    ) -> Result<AuthorizeStep, Error> {
        let (pending, client) = match self.receive(params).await {
            Ok(Ok(received)) => received,
            Ok(Err(step)) => {
                self.audit_step(&step, caller).await?;
                return Ok(step);
            }
            Err(Error::Refused(refusal)) => {
                let event = Event::of_error(EventKind::Authorize, &Error::Refused(refusal.clone()));
                self.audit(&event, caller).await?;
                return Ok(AuthorizeStep::Page(*refusal));
            }
            Err(fault) => return Err(fault),
        };
        self.go_on(pending, client, None, session, false, caller)
            .await
    }

    /// What the person in front of an interaction is asked.
    pub async fn find_interaction(&self, token: &str) -> Result<Interaction, Error> {
        let found = self.load_interaction(token).await?;
        let stage = found.pending.stage;
        let client = self.live_client(&found.pending.request.client_id).await?;
        let considered = match self.consider(found.pending, client).await? {
            Ok(considered) => considered,
            Err(_) => return Err(Reason::InteractionUnknown.into()),
        };
        Ok(Interaction {
            prompt: self.prompt(&considered, stage),
        })
    }

    /// Goes on after a login, to the next question or to the answer.
    pub async fn resume_interaction(
        &self,
        token: &str,
        session: Option<&Session>,
        caller: &Caller,
    ) -> Result<AuthorizeStep, Error> {
        let found = self.load_interaction(token).await?;
        let client = self.live_client(&found.pending.request.client_id).await?;
        let interaction = Some((found.id, SecretString::new(token.to_owned())));
        self.go_on(found.pending, client, interaction, session, false, caller)
            .await
    }

    /// Takes the person's word about consent.
    pub async fn decide_consent(
        &self,
        token: &str,
        session: &Session,
        decision: Consent,
        caller: &Caller,
    ) -> Result<AuthorizeStep, Error> {
        let found = self.load_interaction(token).await?;
        let client = self.live_client(&found.pending.request.client_id).await?;
        let interaction = Some((found.id, SecretString::new(token.to_owned())));
        let granted = decision == Consent::Granted && found.pending.stage == Stage::Consent;
        let mut event = Event::succeeded(EventKind::Consent)
            .client(&*client.client_id)
            .user(&*session.user_id);
        if decision == Consent::Denied {
            let refusal = Refusal::new(Reason::ConsentDenied);
            event.end_in(&Error::from(refusal.clone()));
            let answer = self.error_answer(&found.pending.request, &refusal);
            self.finish(
                &found.pending,
                interaction.as_ref(),
                Batch::new(),
                &event,
                caller,
            )
            .await?;
            return Ok(AuthorizeStep::Answer(answer));
        }
        if granted {
            let scopes = found.pending.request.scope.to_string();
            self.db
                .write(Batch::new().with(self.audit_statement(
                    &event.scopes(scopes),
                    caller,
                    self.now(),
                )))
                .await?;
        }
        self.go_on(
            found.pending,
            client,
            interaction,
            Some(session),
            granted,
            caller,
        )
        .await
    }

    /// Step 1. The inner error is an answer to the redirect URI; a refusal is for a page.
    async fn receive(
        &self,
        params: &Params,
    ) -> Result<Result<(Pending, Client), AuthorizeStep>, Error> {
        let now = self.now();
        if let Some(request_uri) = params.get("request_uri") {
            let client = self.live_client(params.require("client_id")?).await?;
            let (pushed_id, pushed) = self.find_pushed_request(request_uri, &client).await?;
            let pending = Pending {
                request: pushed.request,
                expected: pushed.expected,
                pushed_id: Some(pushed_id),
                since: now,
                stage: Stage::Login,
            };
            return Ok(Ok((pending, client)));
        }
        let target = Target::parse(params)?;
        let client = self.live_client(&target.client_id).await?;
        if !client.allows_redirect_uri(&target.redirect_uri) {
            return Err(Reason::RedirectUriNotAllowed.into());
        }
        let redirect_uri = target.redirect_uri.clone();
        let answer = |refusal: &Refusal| {
            AuthorizeStep::Answer(self.answer_with_error(
                &redirect_uri,
                ResponseMode::of(params),
                params.get("state").filter(|state| state.len() <= 4096),
                refusal,
            ))
        };
        let request = match AuthorizeRequest::parse(target, params) {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(answer(&Refusal::from(refusal)))),
        };
        if !client.may_use_grant(grant::AUTHORIZATION_CODE) {
            return Ok(Err(answer(&Refusal::new(Reason::GrantNotAllowed))));
        }
        if client.profile.require_pushed_authorization_requests {
            return Ok(Err(answer(&Refusal::new(Reason::PushedRequestRequired))));
        }
        let pending = Pending {
            expected: self.expected_user(&request).await?,
            request,
            pushed_id: None,
            since: now,
            stage: Stage::Login,
        };
        Ok(Ok((pending, client)))
    }

    async fn live_client(&self, client_id: &str) -> Result<Client, Error> {
        let client = match client_id.len() {
            0..=255 => self.find_client(client_id).await?,
            _ => None,
        };
        client
            .filter(|client| client.disabled_at.is_none())
            .ok_or_else(|| Reason::ClientUnknown.into())
    }

    async fn load_interaction(&self, token: &str) -> Result<Found, Error> {
        let unknown = || Error::from(Reason::InteractionUnknown);
        let presented = seal::present(TokenKind::FormState, token).ok_or_else(unknown)?;
        let row = self
            .db
            .read_one(
                "select hash, request, expires_at, finished_at from interactions where id = $1",
                params![presented.id.as_str()],
            )
            .await?
            .ok_or_else(unknown)?;
        let is_good = presented.matches(&self.ring, row.blob(0)?)
            && row.timestamp(2)? > self.now()
            && row.opt_timestamp(3)?.is_none();
        if !is_good {
            return Err(unknown());
        }
        Ok(Found {
            id: presented.id,
            pending: serde_json::from_str(row.text(1)?)?,
        })
    }

    /// Steps 2 to 5.
    async fn go_on(
        &self,
        pending: Pending,
        client: Client,
        interaction: Option<(String, SecretString)>,
        session: Option<&Session>,
        consented: bool,
        caller: &Caller,
    ) -> Result<AuthorizeStep, Error> {
        // Step 2.
        let considered = match self.consider(pending, client).await? {
            Ok(considered) => considered,
            Err((pending, refusal)) => {
                return self
                    .answer_refusal(&pending, interaction.as_ref(), &refusal, caller)
                    .await;
            }
        };
        let request = &considered.pending.request;
        let may_ask = !request.asks_for(Ask::None);
        // Step 3.
        let expected = &considered.pending.expected;
        let fitting = session
            .filter(|session| login_suffices(&considered.pending, session, self.now()))
            .filter(|session| match expected {
                Expected::Anybody => true,
                Expected::User(user_id) => *user_id == session.user_id,
                Expected::Nobody => false,
            });
        let Some(session) = fitting else {
            return match (may_ask, expected) {
                (_, Expected::Nobody) => {
                    let refusal = Refusal::new(Reason::IdTokenHintInvalid);
                    self.answer_refusal(&considered.pending, interaction.as_ref(), &refusal, caller)
                        .await
                }
                (false, _) => {
                    let refusal = Refusal::new(Reason::LoginRequired);
                    self.answer_refusal(&considered.pending, interaction.as_ref(), &refusal, caller)
                        .await
                }
                (true, _) => self.ask(considered, interaction, Stage::Login).await,
            };
        };
        // Step 4.
        if !consented && self.needs_consent(&considered, session).await? {
            if !may_ask {
                let refusal = Refusal::new(Reason::ConsentRequired);
                return self
                    .answer_refusal(&considered.pending, interaction.as_ref(), &refusal, caller)
                    .await;
            }
            return self.ask(considered, interaction, Stage::Consent).await;
        }
        // Step 5.
        self.answer_with_code(considered, interaction, session, consented, caller)
            .await
    }

    /// Step 2. The inner error is what the client is told.
    async fn consider(
        &self,
        pending: Pending,
        client: Client,
    ) -> Result<Result<Considered, (Pending, Refusal)>, Error> {
        let request = &pending.request;
        let Some(audience) = &request.audience else {
            let scope = grantable_oidc_scope(&request.scope, &client, None);
            return Ok(Ok(Considered {
                pending,
                client,
                api: None,
                scope,
            }));
        };
        let Reach {
            api,
            scope: allowed,
        } = match self.reach(&client, audience, SubjectType::User).await {
            Ok(Some(reach)) => reach,
            Ok(None) => return Ok(Err((pending, Refusal::new(Reason::AudienceUnknown)))),
            Err(Error::Refused(refusal)) => return Ok(Err((pending, *refusal))),
            Err(fault) => return Err(fault),
        };
        let scope = grantable_oidc_scope(&request.scope, &client, Some(&api))
            .union(&request.scope.intersection(&allowed));
        Ok(Ok(Considered {
            pending,
            client,
            api: Some(api),
            scope,
        }))
    }

    /// Whom the `id_token_hint` names, if there is one. Only this is stored: the hint itself is a token.
    pub(crate) async fn expected_user(
        &self,
        request: &AuthorizeRequest,
    ) -> Result<Expected, Error> {
        let Some(hint) = &request.id_token_hint else {
            return Ok(Expected::Anybody);
        };
        Ok(match self.read_id_token_hint(hint).await? {
            Some(hint) if hint.audience.contains(&request.client_id) => {
                Expected::User(hint.user_id)
            }
            _ => Expected::Nobody,
        })
    }

    async fn needs_consent(
        &self,
        considered: &Considered,
        session: &Session,
    ) -> Result<bool, Error> {
        let request = &considered.pending.request;
        if request.asks_for(Ask::Consent) {
            return Ok(true);
        }
        let api_wants_it = considered.api.as_ref().is_some_and(|api| !api.skip_consent);
        if considered.client.is_first_party && !api_wants_it {
            return Ok(false);
        }
        // Anybody can pretend to be a public client: its consent is not remembered.
        if !considered.client.is_first_party && !considered.client.is_confidential() {
            return Ok(true);
        }
        let row = self
            .db
            .read_one(
                "select scopes from consents where user_id = $1 and client_id = $2 and audience = $3",
                params![
                    session.user_id.as_str(),
                    considered.client.client_id.as_str(),
                    request.audience.as_deref().unwrap_or_default(),
                ],
            )
            .await?;
        Ok(match row {
            Some(row) => {
                let known: Scope = Scope::from_stored(row.text(0)?);
                !considered.scope.is_subset(&known)
            }
            None => true,
        })
    }

    /// Puts the request aside and sends the browser to a page.
    async fn ask(
        &self,
        considered: Considered,
        interaction: Option<(String, SecretString)>,
        stage: Stage,
    ) -> Result<AuthorizeStep, Error> {
        let prompt = self.prompt(&considered, stage);
        let pending = Pending {
            stage,
            ..considered.pending
        };
        let text = serde_json::to_string(&pending)?;
        let (token, statement) = match interaction {
            Some((id, token)) => {
                let update = Statement::new(
                    "update interactions set request = $2 where id = $1 and finished_at is null",
                    params![id, text],
                );
                (token, update)
            }
            None => {
                let now = self.now();
                let minted = seal::mint(TokenKind::FormState, self.entropy.as_ref(), &self.ring);
                let insert = Statement::new(
                    "insert into interactions (id, hash, request, created_at, expires_at)
                     values ($1, $2, $3, $4, $5)",
                    params![
                        minted.id.as_str(),
                        minted.hash,
                        text,
                        now,
                        after(now, self.settings.interaction_lifetime.as_secs()),
                    ],
                );
                (minted.token, insert)
            }
        };
        match self.db.write(Batch::new().with(statement.exactly(1))).await {
            Ok(_) => Ok(AuthorizeStep::Interact { token, prompt }),
            Err(WriteError::Expectation { .. }) => Err(Reason::InteractionUnknown.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn prompt(&self, considered: &Considered, stage: Stage) -> Prompt {
        let request = &considered.pending.request;
        match stage {
            Stage::Login => Prompt::Login {
                client_name: considered.client.name.clone(),
                login_hint: request.login_hint.clone(),
                can_sign_up: self.settings.sign_up,
            },
            Stage::Consent => Prompt::Consent {
                client_name: considered.client.name.clone(),
                redirect_host: url::Url::parse(&request.redirect_uri)
                    .ok()
                    .and_then(|url| url.host_str().map(str::to_owned))
                    .unwrap_or_default(),
                audience_name: considered
                    .api
                    .as_ref()
                    .map_or_else(|| "your profile".to_owned(), |api| api.name.clone()),
                scopes: considered
                    .scope
                    .iter()
                    .map(|scope| {
                        (
                            scope.to_owned(),
                            description_of(scope, considered.api.as_ref()),
                        )
                    })
                    .collect(),
            },
        }
    }

    /// Step 5.
    async fn answer_with_code(
        &self,
        considered: Considered,
        interaction: Option<(String, SecretString)>,
        session: &Session,
        consented: bool,
        caller: &Caller,
    ) -> Result<AuthorizeStep, Error> {
        let now = self.now();
        let request = &considered.pending.request;
        let authorization_id = seal::random_id(self.entropy.as_ref(), "az_");
        let code = seal::mint(
            TokenKind::AuthorizationCode,
            self.entropy.as_ref(),
            &self.ring,
        );
        let mut batch = Batch::new()
            .with(authorization::insert_statement(
                &authorization_id,
                &request.client_id,
                session,
                request.audience.as_deref(),
                &considered.scope,
                now,
            ))
            .with(
                Statement::new(
                    "insert into codes (id, hash, authorization_id, redirect_uri, code_challenge, nonce, created_at,
                                        expires_at)
                     values ($1, $2, $3, $4, $5, $6, $7, $8)",
                    params![
                        code.id.as_str(),
                        code.hash,
                        authorization_id.as_str(),
                        request.redirect_uri.as_str(),
                        request.code_challenge.as_str(),
                        request.nonce.as_deref(),
                        now,
                        after(now, self.settings.code_lifetime.as_secs()),
                    ],
                )
                .exactly(1),
            );
        if consented {
            batch = batch.with(Statement::new(
                "insert into consents (user_id, client_id, audience, scopes, granted_at)
                 values ($1, $2, $3, $4, $5)
                 on conflict (user_id, client_id, audience) do update set scopes = $4, granted_at = $5",
                params![
                    session.user_id.as_str(),
                    request.client_id.as_str(),
                    request.audience.as_deref().unwrap_or_default(),
                    considered.scope.to_string(),
                    now,
                ],
            ));
        }
        let event = Event::succeeded(EventKind::Authorize)
            .client(&*request.client_id)
            .user(&*session.user_id)
            .scopes(considered.scope.to_string())
            .detail("authorization_id", authorization_id.as_str());
        if !self
            .finish(
                &considered.pending,
                interaction.as_ref(),
                batch,
                &event,
                caller,
            )
            .await?
        {
            return Err(Reason::InteractionUnknown.into());
        }
        let mut params = vec![("code".to_owned(), code.token.reveal().to_owned())];
        params.extend(
            request
                .state
                .clone()
                .map(|state| ("state".to_owned(), state)),
        );
        params.push(("iss".to_owned(), self.settings.issuer.as_str().to_owned()));
        Ok(AuthorizeStep::Answer(AuthorizationAnswer {
            redirect_uri: request.redirect_uri.clone(),
            mode: request.response_mode,
            params,
        }))
    }

    async fn answer_refusal(
        &self,
        pending: &Pending,
        interaction: Option<&(String, SecretString)>,
        refusal: &Refusal,
        caller: &Caller,
    ) -> Result<AuthorizeStep, Error> {
        let mut event = Event::succeeded(EventKind::Authorize).client(&*pending.request.client_id);
        event.end_in(&Error::from(refusal.clone()));
        self.finish(pending, interaction, Batch::new(), &event, caller)
            .await?;
        Ok(AuthorizeStep::Answer(
            self.error_answer(&pending.request, refusal),
        ))
    }

    /// Uses up the interaction and the pushed request together with what the answer writes. False where another
    /// request of the same browser was faster.
    async fn finish(
        &self,
        pending: &Pending,
        interaction: Option<&(String, SecretString)>,
        mut batch: Batch,
        event: &Event,
        caller: &Caller,
    ) -> Result<bool, Error> {
        let now = self.now();
        if let Some((id, _)) = interaction {
            batch = batch.with(
                Statement::new(
                    "update interactions set finished_at = $2 where id = $1 and finished_at is null",
                    params![id.as_str(), now],
                )
                .exactly(1),
            );
        }
        if let Some(id) = &pending.pushed_id {
            batch = batch.with(
                Statement::new(
                    "update pushed_requests set used_at = $2 where id = $1 and used_at is null",
                    params![id.as_str(), now],
                )
                .exactly(1),
            );
        }
        match self
            .db
            .write(batch.with(self.audit_statement(event, caller, now)))
            .await
        {
            Ok(_) => Ok(true),
            Err(WriteError::Expectation { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn audit_step(&self, step: &AuthorizeStep, caller: &Caller) -> Result<(), Error> {
        if let AuthorizeStep::Answer(answer) = step {
            let code = answer
                .params
                .iter()
                .find(|(name, _)| name == "error")
                .map_or("", |(_, code)| code.as_str());
            let refusal = Refusal::new(Reason::Malformed);
            let event =
                Event::of_error(EventKind::Authorize, &Error::from(refusal)).detail("error", code);
            self.audit(&event, caller).await?;
        }
        Ok(())
    }

    fn error_answer(&self, request: &AuthorizeRequest, refusal: &Refusal) -> AuthorizationAnswer {
        self.answer_with_error(
            &request.redirect_uri,
            request.response_mode,
            request.state.as_deref(),
            refusal,
        )
    }

    fn answer_with_error(
        &self,
        redirect_uri: &str,
        mode: ResponseMode,
        state: Option<&str>,
        refusal: &Refusal,
    ) -> AuthorizationAnswer {
        let mut params = vec![
            ("error".to_owned(), refusal.code().to_owned()),
            (
                "error_description".to_owned(),
                refusal.description().to_owned(),
            ),
        ];
        params.extend(state.map(|state| ("state".to_owned(), state.to_owned())));
        params.push(("iss".to_owned(), self.settings.issuer.as_str().to_owned()));
        AuthorizationAnswer {
            redirect_uri: redirect_uri.to_owned(),
            mode,
            params,
        }
    }
}

/// Who has to be logged in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expected {
    #[default]
    Anybody,
    /// The hint is not an ID token that this client got from us.
    Nobody,
    User(String),
}

/// Whether a session is recent enough for the request; a login since the request came always is.
fn login_suffices(pending: &Pending, session: &Session, now: Timestamp) -> bool {
    if session.auth_time >= pending.since {
        return true;
    }
    let request = &pending.request;
    if request.asks_for(Ask::Login) || request.asks_for(Ask::SelectAccount) {
        return false;
    }
    match request.max_age.map(i64::try_from) {
        Some(Ok(max_age)) => {
            now.duration_since(session.auth_time) <= SignedDuration::from_secs(max_age)
        }
        Some(Err(_)) | None => true,
    }
}

/// The standard scopes among those asked for. A refresh token needs the grant and an API that allows it.
fn grantable_oidc_scope(asked: &Scope, client: &Client, api: Option<&Api>) -> Scope {
    let offline = client.may_use_grant(grant::REFRESH_TOKEN)
        && api.is_none_or(|api| api.allow_offline_access);
    oidc_part(asked)
        .iter()
        .filter(|word| *word != "offline_access" || offline)
        .collect()
}

fn description_of(scope: &str, api: Option<&Api>) -> String {
    match scope {
        "openid" => "Know who you are".to_owned(),
        "profile" => "See your name".to_owned(),
        "email" => "See your e-mail address".to_owned(),
        "offline_access" => "Keep access while you are away".to_owned(),
        other => api.map_or(String::new(), |api| api.description_of(other).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(change: &[(&str, &str)]) -> Pending {
        let mut fields = vec![
            ("client_id", "app"),
            ("redirect_uri", "https://app.example/cb"),
            ("response_type", "code"),
            (
                "code_challenge",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ),
            ("code_challenge_method", "S256"),
        ];
        fields.extend(change);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let params = Params::from_query(&query).unwrap();
        Pending {
            request: AuthorizeRequest::parse(Target::parse(&params).unwrap(), &params).unwrap(),
            expected: Expected::Anybody,
            pushed_id: None,
            since: Timestamp::from_second(1000).unwrap(),
            stage: Stage::Login,
        }
    }

    #[test]
    fn a_login_is_recent_enough_or_not() {
        for (change, auth_time, now, expected) in [
            (&[][..], 1, 1000, true),
            (&[("max_age", "999")], 1, 1000, true),
            (&[("max_age", "998")], 1, 1000, false),
            (&[("max_age", "0")], 999, 1000, false),
            (&[("max_age", "0")], 1000, 5000, true),
            (&[("max_age", "18446744073709551615")], 1, 1000, true),
            (&[("prompt", "login")], 999, 1000, false),
            (&[("prompt", "login")], 1001, 1002, true),
            (&[("prompt", "select_account")], 999, 1000, false),
            (&[("prompt", "consent")], 1, 1000, true),
        ] {
            let session = Session {
                id: "s".to_owned(),
                user_id: "u".to_owned(),
                auth_time: Timestamp::from_second(auth_time).unwrap(),
            };
            let now = Timestamp::from_second(now).unwrap();
            assert_eq!(
                login_suffices(&pending(change), &session, now),
                expected,
                "{change:?} {auth_time}"
            );
        }
    }
}
