//! The exchange: a subject token that this vault trusts in, the provider's access token out. Three kinds, one pipeline.
//!
//! 1. The client may use the grant at all: confidential, first-party, grant type enabled. (Body and client
//!    authentication are behind us.)
//! 2. What needs no database is checked of the subject token: its format, or its signature, issuer and times.
//! 3. One statement (`found`) reads the subject's state, the connection as this client may see it, and the user's
//!    accounts there, in the round trip that reads the client: steps 2 and 3 are begun before it is known that the
//!    client is who it says, and what they found is looked at afterwards. While the configuration stays what it was
//!    (`known`), the statement reads what is the user's alone.
//! 4. The subject token is live, bound to this client or its API, and its user too.
//! 5. The connection is enabled for the client; a worker's own lists cover connection, scopes and address.
//! 6. The account is picked: by `login_hint`, else the most recently connected, or none where callers have to choose.
//!    Then the token: the grant's own, a further one, or a narrow one where `scope` asks for it and the provider can.
//! 7. A token with life beyond the margin is taken; one close to its end is taken and refreshed behind; one past it is
//!    refreshed first, and everything is read and checked again. Nobody waits long for a refresh while there is a token
//!    that lives.
//! 8. The audit row is durable before the answer, together with what the use does to the subject token: a worker's
//!    request is used up, a refresh token is not idle.
//!
//! RFC 8693; codes and statuses of the Auth0 spelling as in the wire contract (2.1), of the RFC spelling as in RFC 8693
//! §2.2.2.

mod found;
mod known;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oauth::grant;
use oauth::token_request::{Dialect, SubjectTokenType, TokenRequest, VaultExchange};
use oauth::token_response::TokenResponse;
use provider::{Downscope, Profile};
use store::{Batch, ReadError, Row, Statement, WriteError};

use crate::account::{self, AccountStatus};
use crate::audit::Told;
use crate::candidate::{self, Candidate};
use crate::client::{self, CLIENT_COLUMNS, Client, StoredSecret};
use crate::flow::authenticate_client::AuthenticatedClient;
use crate::flow::refresh::Wanted;
use crate::flow::worker::{self, WorkerRequest};
use crate::refresh_token::Judged;
use crate::reread::Reread;
use crate::token_set::{Freshness, Margins, Target, Token, TokenSet};
use crate::{AccountSelection, Caller, Error, Event, EventKind, Fault, Reason, Refusal, Vault};
use found::{Found, Subject};
use known::{Asked, Known};

pub(crate) use known::Knowledge;

/// The longest `expires_in` that is answered, and the one for a token without an end: a client that caches by it asks
/// again within the hour and so learns of a disconnect.
const LONGEST_ANSWER: u64 = 3600;

/// How often a refreshed row that is stale again is refreshed once more, before the provider's lifetimes are believed.
const REFRESH_ROUNDS: u32 = 2;

/// Who the exchange is for, after step 4.
struct Principal {
    user_id: String,
    /// A worker's scopes may not go beyond these.
    allowed_scopes: Option<BTreeSet<String>>,
    /// Written together with the audit row: uses a worker's request up, or puts the end of a refresh token's idleness off.
    use_of_subject: Option<Statement>,
}

/// What a look at the present state comes to.
enum Seen {
    /// Answer with this.
    Served(Box<Served>),
    /// The token has to be refreshed first.
    Stale(Stale),
}

/// What is handed out once it is on record.
struct Served {
    answer: TokenResponse,
    /// The audit row, and what the use does to the subject token.
    record: Batch,
    /// Whether nothing but inserts is in it.
    is_append: bool,
    /// As in [`Principal`]; where there is one, it comes first.
    is_used_up: bool,
    /// How far the event had come before it told what is given.
    told: Told,
}

struct Stale {
    account_id: String,
    wanted: Wanted,
    patience: Duration,
}

/// What a look is taken for.
struct Look<'a> {
    client: &'a Client,
    request: &'a VaultExchange,
    subject: &'a Subject,
    caller: &'a Caller,
    arrived: Timestamp,
    /// How many refreshes were waited for.
    round: u32,
    /// The last of them failed, and not for good.
    has_failed: bool,
    /// After a refresh: what those who waited for it share.
    reread: Option<&'a Reread>,
}

impl Vault {
    /// Runs the pipeline and leaves exactly one audit row, whatever happens.
    pub async fn exchange(
        &self,
        client: AuthenticatedClient,
        request: VaultExchange,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        let dialect = request.dialect;
        let mut event = Event::succeeded(EventKind::Exchange)
            .client(&*client.client.client_id)
            .connection(&*request.connection)
            .detail("subject_token_type", request.subject_token_type.as_str())
            .detail(
                "is_privileged_worker",
                request.subject_token_type == SubjectTokenType::WorkerJwt,
            );
        let answer = match self.serve(client, request, &mut event, caller).await {
            Ok(served) => self.hand_out(served, &mut event).await,
            Err(error) => Err(error),
        };
        self.settle(event, answer, caller)
            .await
            .map_err(|error| in_dialect(error, dialect))
    }

    /// Steps 1 to 7. What was shown and read for them ends with them: nobody waits with an opened token set in hand.
    /// What most exchanges need not wait for is boxed, so that each is small.
    async fn serve(
        &self,
        AuthenticatedClient { client, read_ahead }: AuthenticatedClient,
        request: VaultExchange,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<Box<Served>, Error> {
        let client = &client;
        // Step 1.
        if !may_exchange(client) {
            return Err(Reason::GrantNotAllowed.into());
        }
        // Step 2.
        let (subject, mut found_ahead, known) = match read_ahead {
            Some(ahead) => (ahead.subject, Some(ahead.found), ahead.known),
            None => (Box::pin(self.read_subject(&request)).await?, None, None),
        };
        let arrived = self.now();
        let mut failed = None;
        let mut reread = None;
        for round in 0..=REFRESH_ROUNDS {
            // Steps 3 to 6, again after every refresh: what was true before it may be over.
            let found = match found_ahead.take() {
                Some(found) => found,
                None => {
                    let reread = reread.as_ref();
                    let loading = self.load(client, &request, &subject, known.as_deref(), reread);
                    Box::pin(loading).await?
                }
            };
            let look = Look {
                client,
                request: &request,
                subject: &subject,
                caller,
                arrived,
                round,
                has_failed: failed.is_some(),
                reread: reread.as_ref(),
            };
            let stale = match self.look(&look, found, event)? {
                Seen::Served(served) => return Ok(served),
                Seen::Stale(stale) => stale,
            };
            if let Some(error) = failed {
                return Err(error);
            }
            // What was shared after the refresh before is older than the end of this one.
            reread = None;
            let refreshed =
                self.refresh_account(&stale.account_id, stale.wanted, stale.patience, caller);
            match Box::pin(refreshed).await {
                Ok(shared) => reread = Some(shared),
                Err(error) if is_definite(&error) => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(Fault::Internal(
            "the provider's tokens are stale as soon as they are issued".to_owned(),
        )
        .into())
    }

    /// Steps 4 to 7 with what step 3 found.
    fn look(&self, look: &Look<'_>, mut found: Found, event: &mut Event) -> Result<Seen, Error> {
        let Look { request, round, .. } = *look;
        let principal = self.check_subject(look, &found, event)?;
        event.user_id = Some(principal.user_id.clone());
        let connection = match found.connection.take() {
            Some(connection) => connection.usable()?,
            None => return Err(Reason::AccountNotConnected.into()),
        };
        let account = pick_account(
            &found.accounts,
            &principal,
            request,
            self.settings.account_selection,
        )?;
        event.account_id = Some(account.id.to_owned());
        let profile = connection
            .profile(self)
            .ok_or(Reason::ProviderClientMisconfigured)?;
        let open = || TokenSet::open(self, account.id, account.generation, account.token_set);
        let (own, shared);
        let tokens = match look.reread {
            None => {
                own = open()?;
                &own
            }
            Some(reread) => {
                let (id, generation) = (account.id, account.generation);
                shared = reread.tokens(id, generation, account.token_set, open)?;
                shared.as_ref()
            }
        };
        let allowed = principal.allowed_scopes.as_ref();
        let target = pick_token(&account, profile, tokens, request, allowed)?;
        let token = tokens.get(&target);
        check_token(&account, token, &target, request, allowed)?;
        let now = self.now();
        let alive = token.filter(|token| token.is_alive(now));
        match (&account.status, alive) {
            // It was us who lost the refresh token; nobody took the access token back.
            (AccountStatus::Active, _) | (AccountStatus::OutcomeUnknown, Some(_)) => {}
            (status, _) => {
                if let Some(reason) = status.refusal() {
                    return Err(reason.into());
                }
            }
        }
        // Step 7. After a refresh the provider has given what it gives: a short life is no reason to ask again.
        let min_ttl = request
            .min_ttl
            .filter(|_| round == 0)
            .map(Duration::from_secs);
        let margins = Margins::of(&self.settings, profile, account.id);
        let wanted = Wanted {
            since: token.map(|token| token.since),
            target,
        };
        let freshness = |min_ttl| {
            token.map_or(Freshness::Stale, |token| {
                token.freshness(now, margins, min_ttl)
            })
        };
        // Where nothing can bring another token, one that lives is as good as fresh.
        let renewable = account.status == AccountStatus::Active
            && connection.can_renew(self, profile, tokens, &wanted.target)?;
        let is_last = look.has_failed || round == REFRESH_ROUNDS || !renewable;
        let stale = freshness(min_ttl) == Freshness::Stale;
        if let Some(token) = token
            && (!stale || (is_last && alive.is_some()))
        {
            if freshness(None) == Freshness::Ageing && round == 0 && renewable {
                self.refresh_behind(account.id, wanted, look.caller);
            }
            let use_of_subject = principal.use_of_subject;
            return self
                .served(look, &account, token, use_of_subject, now, event)
                .map(|served| Seen::Served(Box::new(served)));
        }
        // A caller who asks for more life than is left gets the time that it takes.
        let impatient = alive.is_some() && freshness(None) == Freshness::Stale && min_ttl.is_none();
        Ok(Seen::Stale(Stale {
            account_id: account.id.to_owned(),
            wanted,
            patience: if impatient {
                self.settings.refresh_patience
            } else {
                self.settings.refresh_wait
            },
        }))
    }

    /// The client of an id with its secret of an id, and with it what the client's exchange needs in step 3.
    pub(crate) async fn client_with_secret(
        &self,
        client_id: &str,
        secret_id: &str,
        request: Option<&TokenRequest>,
    ) -> Result<ClientWithSecret, Error> {
        let exchange = self.subject_ahead(request).await;
        let asked = exchange.as_ref().map(|(subject, exchange)| {
            let asked = Asked {
                client_id,
                secret_id,
                connection: &exchange.connection,
                subject,
            };
            (asked, *exchange)
        });
        if let Some((asked, request)) = asked
            && let Some(known) = self.known.of(asked)
            && let Some(found) = self
                .load_beside(request, &known, asked.subject, None)
                .await?
        {
            return Ok(ClientWithSecret {
                client: Some(Arc::clone(&known.client)),
                secret: Some(known.secret.clone()),
                read_ahead: exchange.map(|(subject, _)| {
                    Box::new(ReadAhead {
                        subject,
                        found,
                        known: Some(known),
                    })
                }),
            });
        }
        let connection = exchange
            .as_ref()
            .map(|(_, exchange)| exchange.connection.as_str());
        let ask = client::with_secret_statement(client_id, secret_id);
        let (mut answers, mut read_ahead) =
            self.read_together(client_id, vec![ask], exchange).await?;
        let Some(mut row) = answers.pop().and_then(|rows| rows.into_iter().next()) else {
            return Ok(ClientWithSecret {
                client: None,
                secret: None,
                read_ahead,
            });
        };
        let beside = row.split_off(CLIENT_COLUMNS);
        let secret = StoredSecret::from_row(&beside)?;
        let client = self.clients.of(row, client::from_row)?;
        // PostgreSQL and SQLite answer both queries from one snapshot; the mark in each of them says so once more.
        if let (Some(ahead), Some(connection), Some(secret)) =
            (&mut read_ahead, connection, &secret)
            && beside.opt_text(2)? == ahead.found.mark.as_deref()
        {
            let asked = Asked {
                client_id,
                secret_id,
                connection,
                subject: &ahead.subject,
            };
            ahead.known = self.known.remember(asked, &client, secret, &ahead.found)?;
        }
        Ok(ClientWithSecret {
            client: Some(client),
            secret,
            read_ahead,
        })
    }

    /// Asks the database something about a client, and with it what the client's exchange needs in step 3.
    pub(crate) async fn read_ahead(
        &self,
        client_id: &str,
        asked: Vec<Statement>,
        request: Option<&TokenRequest>,
    ) -> Result<(Vec<Vec<Row>>, Option<Box<ReadAhead>>), Error> {
        let exchange = self.subject_ahead(request).await;
        self.read_together(client_id, asked, exchange).await
    }

    async fn read_together(
        &self,
        client_id: &str,
        mut asked: Vec<Statement>,
        exchange: Option<(Subject, &VaultExchange)>,
    ) -> Result<(Vec<Vec<Row>>, Option<Box<ReadAhead>>), Error> {
        let Some((subject, exchange)) = exchange else {
            return Ok((self.db.look_up_all(asked).await?, None));
        };
        asked.push(subject.statement(client_id, &exchange.connection));
        let mut answers = self.db.look_up_all(asked).await?;
        let found = self.found(&subject, answers.pop().unwrap_or_default())?;
        let ahead = ReadAhead {
            subject,
            found,
            known: None,
        };
        Ok((answers, Some(Box::new(ahead))))
    }

    /// Step 2 ahead of its turn. None where the request is no exchange, or one that step 2 will refuse.
    async fn subject_ahead<'a>(
        &self,
        request: Option<&'a TokenRequest>,
    ) -> Option<(Subject, &'a VaultExchange)> {
        let Some(TokenRequest::VaultExchange(exchange)) = request else {
            return None;
        };
        let subject = self.read_subject(exchange).await.ok()?;
        Some((subject, exchange))
    }

    async fn read_subject(&self, request: &VaultExchange) -> Result<Subject, Error> {
        let text = request.subject_token.reveal();
        match request.subject_token_type {
            SubjectTokenType::RefreshToken => seal::present(seal::TokenKind::RefreshToken, text)
                .map(Subject::RefreshToken)
                .ok_or_else(|| Reason::SubjectRefreshTokenInvalid.into()),
            SubjectTokenType::AccessToken => {
                let verified = self.verify_access_token(text, self.now()).await?;
                let token = verified.map_err(|_| Reason::SubjectAccessTokenInvalid)?;
                Ok(Subject::AccessToken(token))
            }
            SubjectTokenType::WorkerJwt => {
                Ok(Subject::Worker(Box::new(WorkerRequest::parse(text)?)))
            }
        }
    }

    /// Step 3.
    async fn load(
        &self,
        client: &Client,
        request: &VaultExchange,
        subject: &Subject,
        known: Option<&Known>,
        reread: Option<&Reread>,
    ) -> Result<Found, Error> {
        if let Some(known) = known
            && let Some(found) = self.load_beside(request, known, subject, reread).await?
        {
            return Ok(found);
        }
        let statement = subject.statement(&client.client_id, &request.connection);
        let answer = self.read_after(reread, statement).await?;
        self.found(subject, answer)
    }

    /// Step 3 where the configuration is known. None where it is another by now.
    async fn load_beside(
        &self,
        request: &VaultExchange,
        known: &Known,
        subject: &Subject,
        reread: Option<&Reread>,
    ) -> Result<Option<Found>, Error> {
        let hint = request.login_hint.as_deref();
        let is_named = Candidate::is_named_for(hint, self.settings.account_selection);
        let statement = subject.statement_of_user(&known.connection.connection.id, is_named);
        let answer = self.read_after(reread, statement).await?;
        Found::beside(known, subject, answer)
    }

    /// After a refresh, together with those who waited for it as well.
    async fn read_after(
        &self,
        reread: Option<&Reread>,
        statement: Statement,
    ) -> Result<Vec<Row>, ReadError> {
        match reread {
            Some(reread) => reread.read(&self.db, statement).await,
            None => self.db.look_up(statement).await,
        }
    }

    /// Step 4. A worker's request is as old as it was when it arrived; everything else is judged by the present.
    fn check_subject(
        &self,
        look: &Look<'_>,
        found: &Found,
        event: &mut Event,
    ) -> Result<Principal, Error> {
        let Look {
            client,
            request,
            caller,
            ..
        } = *look;
        match look.subject {
            Subject::RefreshToken(presented) => {
                let row = found.subject.as_ref();
                let row = row.ok_or(Reason::SubjectRefreshTokenInvalid)?;
                let token = Judged::from_row(row)?;
                let now = self.now();
                if !token.holds(presented, client, now, &self.ring) {
                    return Err(Reason::SubjectRefreshTokenInvalid.into());
                }
                Ok(Principal {
                    use_of_subject: token.touch_statement(&presented.id, client, now),
                    user_id: token.user_id.to_owned(),
                    allowed_scopes: None,
                })
            }
            Subject::AccessToken(token) => {
                // Threats EX-05: the token has to be meant for the API that this client is.
                let linked = client
                    .resource_server_identifier
                    .as_deref()
                    .is_some_and(|identifier| token.has_audience(identifier));
                if !linked {
                    return Err(Reason::AudienceNotLinked.into());
                }
                let row = found.subject.as_ref();
                let row = row.ok_or(Reason::SubjectAccessTokenInvalid)?;
                let token = token
                    .check_live(row)?
                    .map_err(|_| Reason::SubjectAccessTokenInvalid)?;
                Ok(Principal {
                    user_id: token.user_id.ok_or(Reason::SubjectAccessTokenInvalid)?,
                    allowed_scopes: None,
                    use_of_subject: None,
                })
            }
            Subject::Worker(signed) => {
                let user_live = found
                    .subject
                    .as_ref()
                    .map_or(Ok(false), |row| row.bool(0))?;
                let verified = worker::verify(
                    signed,
                    &client.client_id,
                    self.settings.issuer.as_str(),
                    &found.keys,
                    user_live,
                    look.arrived,
                )?;
                event.audit_context = Some(verified.audit_context.clone());
                event.user_id = Some(verified.user_id.clone());
                let allowed_scopes = worker::check_access(
                    client,
                    &request.connection,
                    request.scope.as_ref(),
                    caller,
                )?;
                Ok(Principal {
                    use_of_subject: Some(verified.once_statement(client)),
                    user_id: verified.user_id,
                    allowed_scopes: Some(allowed_scopes),
                })
            }
        }
    }

    /// What step 8 hands out and writes down. Everything that can fail comes before the row that says that it was given.
    fn served(
        &self,
        look: &Look<'_>,
        account: &Candidate<'_>,
        token: &Token,
        use_of_subject: Option<Statement>,
        now: Timestamp,
        event: &mut Event,
    ) -> Result<Served, Error> {
        let request = look.request;
        let answer = TokenResponse {
            access_token: token.access_token.reveal().to_owned(),
            token_type: "Bearer",
            expires_in: token.seconds_left(now).unwrap_or(LONGEST_ANSWER),
            scope: scopes_of(account, token)?.join(" "),
            issued_token_type: Some(request.requested_token_type.as_str()),
            id_token: None,
            refresh_token: None,
            variables: account.variables()?,
        };
        event.scopes = Some(answer.scope.clone());
        let told = event.told();
        event.tell("expires_in", answer.expires_in);
        event.tell("generation", account.generation);
        event.tell(
            "token_thumbprint",
            seal::sha256_hex_thumbprint(answer.access_token.as_bytes()),
        );
        let recorded = self.audit_statement(event, look.caller, now);
        let is_used_up = use_of_subject.is_some();
        Ok(Served {
            answer,
            record: match use_of_subject {
                None => Batch::new().with(recorded),
                Some(used) => Batch::new().with(used).with(recorded),
            },
            // A refresh token's use changes its row.
            is_append: !(is_used_up
                && request.subject_token_type == SubjectTokenType::RefreshToken),
            is_used_up,
            told,
        })
    }

    /// Step 8. A worker's request is used up in the transaction of the audit row: given once, recorded once.
    async fn hand_out(
        &self,
        served: Box<Served>,
        event: &mut Event,
    ) -> Result<TokenResponse, Error> {
        let written = if served.is_append {
            self.db.append(served.record).await
        } else {
            self.db.write(served.record).await.map(drop)
        };
        match written {
            Ok(()) => Ok(served.answer),
            Err(error) => {
                // Of a token that is not given, nothing is told.
                event.forget_since(served.told);
                Err(match error {
                    WriteError::UniqueViolation { statement: 0 } if served.is_used_up => {
                        worker::used_before()
                    }
                    error => error.into(),
                })
            }
        }
    }
}

/// What [`Vault::client_with_secret`] finds.
pub(crate) struct ClientWithSecret {
    pub(crate) client: Option<Arc<Client>>,
    pub(crate) secret: Option<StoredSecret>,
    /// Nothing comes along where the request is no exchange, or one that step 2 refuses: it will do so in its turn.
    pub(crate) read_ahead: Option<Box<ReadAhead>>,
}

/// An exchange's steps 2 and 3, done together with the reading of its client.
pub(crate) struct ReadAhead {
    subject: Subject,
    found: Found,
    /// The configuration, where it is remembered.
    known: Option<Arc<Known>>,
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadAhead")
    }
}

/// Step 6.
fn pick_account<'a>(
    rows: &'a [Row],
    principal: &Principal,
    request: &VaultExchange,
    selection: AccountSelection,
) -> Result<Candidate<'a>, Error> {
    let mut accounts = Vec::with_capacity(rows.len());
    for row in rows {
        let account = Candidate::from_row(row)?;
        // The statement asked by what the subject token says of itself; only its own user's rows count.
        if account.user_id == principal.user_id {
            accounts.push(account);
        }
    }
    // Here, because the engines would sort whole rows, and SQLite makes a table of its own for it even where there is one.
    accounts.sort_by(candidate::most_recently_connected_first);
    candidate::select(accounts, request.login_hint.as_deref(), selection)
}

/// Whether a refresh failed for good: no token is served after that.
fn is_definite(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if matches!(
        refusal.reason(),
        Reason::AccountNeedsReauthorization | Reason::AccountOutcomeUnknown | Reason::AccountNotConnected
    ))
}

/// Contract 1.17: first-party, confidential, the grant enabled. The RFC 8693 spelling is the same grant.
fn may_exchange(client: &Client) -> bool {
    client.is_first_party
        && client.is_confidential()
        && (client.may_use_grant(grant::TOKEN_VAULT) || client.may_use_grant(grant::TOKEN_EXCHANGE))
}

/// What a token is good for.
fn scopes_of<'a>(account: &Candidate<'_>, token: &'a Token) -> Result<Cow<'a, [String]>, Error> {
    Ok(match &token.scopes {
        Some(scopes) => Cow::Borrowed(scopes),
        None => Cow::Owned(account.scopes()?),
    })
}

/// Whether an answer must not be wider than what was asked for. On Auth0's refresh and access token exchange `scope` has
/// no effect beyond being there (contract 2.1); the RFC spelling and workers mean it.
fn is_strict(request: &VaultExchange, allowed: Option<&BTreeSet<String>>) -> bool {
    request.dialect == Dialect::Rfc8693 || allowed.is_some()
}

/// Step 6: the token that covers what is asked for, without being asked for it one by one where the grant's own does.
fn pick_token(
    account: &Candidate<'_>,
    profile: &Profile,
    tokens: &TokenSet,
    request: &VaultExchange,
    allowed: Option<&BTreeSet<String>>,
) -> Result<Target, Error> {
    let Some(asked) = &request.scope else {
        return Ok(Target::Whole);
    };
    let asked: BTreeSet<&str> = asked.iter().collect();
    let covered = |scopes: &[String]| {
        asked
            .iter()
            .all(|scope| scopes.iter().any(|held| held == scope))
    };
    if asked.is_empty() {
        return Ok(Target::Whole);
    }
    if !covered(&account.scopes()?) {
        return Err(Reason::ScopeMissing.into());
    }
    let whole = scopes_of(account, &tokens.whole)?;
    if covered(&whole) && !(is_strict(request, allowed) && asked.len() < whole.len()) {
        return Ok(Target::Whole);
    }
    let further = tokens.further().find(|(_, token)| {
        let held = token.scopes.as_deref().unwrap_or_default();
        covered(held) && !(is_strict(request, allowed) && asked.len() < held.len())
    });
    if let Some((name, _)) = further {
        return Ok(Target::Further(name.to_owned()));
    }
    let refresh = &profile.refresh;
    // A refresh that ends the tokens that were handed out is no way to get one more.
    let can = !refresh.invalidates_access_token
        && match refresh.downscope {
            Downscope::None => false,
            Downscope::Resource => one_resource(&asked, refresh.default_resource.as_deref()),
            Downscope::Scope => true,
        };
    if can {
        Ok(Target::Narrow(
            asked.into_iter().map(str::to_owned).collect(),
        ))
    } else {
        Err(Reason::ScopeMissing.into())
    }
}

/// Whether scopes are all of one resource: what stands before the last slash, or the provider's usual one. Those that
/// OpenID Connect defines belong to every resource.
fn one_resource(scopes: &BTreeSet<&str>, usual: Option<&str>) -> bool {
    let usual = usual.unwrap_or_default();
    let resources: BTreeSet<&str> = scopes
        .iter()
        .filter(|scope| !account::is_protocol_scope(scope))
        .map(|scope| {
            scope
                .rsplit_once('/')
                .map_or(usual, |(resource, _)| resource)
        })
        .collect();
    resources.len() <= 1
}

/// A token is not answered where it is wider than it may be. A narrow one that is not there yet is checked by what will
/// be asked for.
fn check_token(
    account: &Candidate<'_>,
    token: Option<&Token>,
    target: &Target,
    request: &VaultExchange,
    allowed: Option<&BTreeSet<String>>,
) -> Result<(), Error> {
    // A provider that is asked for less may give more.
    let narrow = match target {
        Target::Narrow(asked) if is_strict(request, allowed) => Some(asked),
        _ => None,
    };
    if allowed.is_none() && narrow.is_none() {
        return Ok(());
    }
    let scopes = match (token, target) {
        (Some(token), _) => scopes_of(account, token)?,
        (None, Target::Narrow(scopes)) => scopes.iter().cloned().collect(),
        (None, Target::Further(_) | Target::Whole) => account.scopes()?.into(),
    };
    if let Some(allowed) = allowed {
        // These name the protocol, not a right at the provider.
        let beyond = scopes.iter().any(|scope| {
            !matches!(scope.as_str(), "openid" | "offline_access") && !allowed.contains(scope)
        });
        if beyond {
            return Err(Reason::PrivilegedAccessNotGranted.into());
        }
    }
    if let Some(asked) = narrow
        && scopes
            .iter()
            .any(|scope| !account::is_protocol_scope(scope) && !asked.contains(scope))
    {
        return Err(Reason::ScopeMissing.into());
    }
    Ok(())
}

/// The RFC 8693 spelling of the same refusals: a bad subject token is `invalid_request`, a client that may not is
/// `unauthorized_client`, a target that is not there is `invalid_target` (RFC 8693 §2.2.2), all with status 400.
fn in_dialect(error: Error, dialect: Dialect) -> Error {
    let refusal = match (error, dialect) {
        (Error::Refused(refusal), Dialect::Rfc8693) => *refusal,
        (error, _) => return error,
    };
    let code = match refusal.reason() {
        Reason::SubjectAccessTokenInvalid
        | Reason::SubjectRefreshTokenInvalid
        | Reason::WorkerRequestInvalid
        | Reason::AudienceNotLinked => "invalid_request",
        Reason::AddressNotAllowed
        | Reason::ConnectionNotAllowed
        | Reason::GrantNotAllowed
        | Reason::PrivilegedAccessNotGranted => "unauthorized_client",
        Reason::AccountNeedsReauthorization
        | Reason::AccountNotConnected
        | Reason::AccountNotMatched
        | Reason::AccountOutcomeUnknown => "invalid_target",
        _ => return refusal.into(),
    };
    // One body for everything about accounts (threats EX-14), except that the owner must learn that it has to act.
    let refusal = match refusal.reason() {
        Reason::AccountNotMatched => Refusal::new(Reason::AccountNotConnected),
        _ => refusal,
    };
    refusal.answered_as(400, code).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ex_14_the_rfc_spelling_has_one_answer_for_every_missing_account() {
        let answer = |reason: Reason| match in_dialect(reason.into(), Dialect::Rfc8693) {
            Error::Refused(refusal) => (
                refusal.status(),
                refusal.code(),
                refusal.description().to_owned(),
            ),
            Error::Fault(fault) => panic!("{fault}"),
        };
        assert_eq!(
            answer(Reason::AccountNotMatched),
            answer(Reason::AccountNotConnected)
        );
        assert_eq!(answer(Reason::AccountNotConnected).0, 400);
        assert_eq!(answer(Reason::AccountNotConnected).1, "invalid_target");
    }

    #[test]
    fn the_auth0_spelling_keeps_the_contracts_codes() {
        for (reason, status, code) in [
            (
                Reason::AccountNotConnected,
                401,
                "federated_connection_refresh_token_not_found",
            ),
            (Reason::AccountNotMatched, 401, "user_not_found"),
            (
                Reason::AccountNeedsReauthorization,
                401,
                "federated_connection_refresh_token_flow_failed",
            ),
            (Reason::SubjectRefreshTokenInvalid, 403, "invalid_grant"),
            (Reason::GrantNotAllowed, 403, "unauthorized_client"),
            (Reason::ConnectionNotAllowed, 403, "access_denied"),
        ] {
            match in_dialect(reason.into(), Dialect::Auth0) {
                Error::Refused(refusal) => {
                    assert_eq!(
                        (refusal.status(), refusal.code()),
                        (status, code),
                        "{reason:?}"
                    );
                }
                Error::Fault(fault) => panic!("{fault}"),
            }
        }
    }
}
