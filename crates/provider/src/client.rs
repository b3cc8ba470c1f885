//! The client that speaks to providers, as their profiles say. Everything goes out through [`Guard`] and comes back
//! bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use oauth::params::Params as Query;
use seal::{Entropy, SecretString};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::client_assertion;
use crate::discovery::{self, Cache, KEYS_LIFE, KEYS_PAUSE, Keys, METADATA_LIFE, Metadata};
use crate::endpoints::{self, Endpoints, locate, misconfigured};
use crate::failure::{Failure, FailureKind};
use crate::guard::{Guard, InvalidPolicy, OutboundPolicy};
use crate::identity::{self, Expected, Facts, Identity};
use crate::profile::{
    BodyFormat, ClientAuthentication, Code, FurtherToken, HttpMethod, Profile, RefreshClass,
    RevocationAuthentication, RevokedToken, TokenRequest, VariableSource,
};
use crate::settings::{ConnectionSettings, RESERVED};
use crate::template::{self, Values};
use crate::token_answer::{self, TokenAnswer};
use crate::wire::{self, Answer};

/// What an authorization request at a provider says.
#[derive(Debug)]
pub struct AuthorizationRequest {
    /// Where the provider answers.
    pub redirect_uri: String,
    /// What it brings back.
    pub state: SecretString,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// PKCE, S256; left out where the provider cannot.
    pub code_challenge: Option<String>,
    /// Comes back in the ID token; left out where none is expected.
    pub nonce: Option<String>,
    /// Further parameters, for example `prompt`. Those that are ours to set are ignored.
    pub extra: Vec<(String, String)>,
}

/// What RFC 9207 needs to know of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerPolicy {
    /// The issuer.
    pub issuer: String,
    /// Whether its answers carry `iss`, so that one without is not its answer.
    pub iss_parameter_supported: bool,
}

/// What a provider's answer to the browser brings.
#[derive(Debug)]
pub struct Callback {
    /// The authorization code.
    pub code: SecretString,
    /// What the profile's variables learned from the query.
    pub variables: BTreeMap<String, String>,
}

/// A code on its way to the token endpoint.
#[derive(Debug)]
pub struct CodeGrant<'a> {
    /// The code.
    pub code: &'a SecretString,
    /// The redirect URI of the authorization request.
    pub redirect_uri: &'a str,
    /// The PKCE verifier.
    pub code_verifier: Option<&'a SecretString>,
    /// What was learned from the callback.
    pub variables: &'a BTreeMap<String, String>,
}

/// A refresh token on its way to the token endpoint.
#[derive(Debug)]
pub struct RefreshGrant<'a> {
    /// The refresh token. For providers that renew an access token ([`RefreshClass::Renewal`]) that token.
    pub refresh_token: &'a SecretString,
    /// The present access token.
    pub access_token: &'a SecretString,
    /// What the new access token shall be good for; None asks for the same again.
    pub scopes: Option<&'a [String]>,
    /// What was granted.
    pub granted: &'a [String],
    /// The connection's callback.
    pub redirect_uri: &'a str,
    /// What was learned for the account.
    pub variables: &'a BTreeMap<String, String>,
    /// The further token that is refreshed, where it is not the grant's first.
    pub further: Option<&'a str>,
}

/// The tokens of a grant that is given back.
#[derive(Debug)]
pub struct RevokedTokens<'a> {
    /// The access token.
    pub access_token: &'a SecretString,
    /// The refresh token, where there is one.
    pub refresh_token: Option<&'a SecretString>,
    /// What was learned for the account.
    pub variables: &'a BTreeMap<String, String>,
}

/// What every request to a token endpoint is made of, beside what it asks.
#[derive(Clone, Copy)]
struct Asking<'a> {
    settings: &'a ConnectionSettings,
    profile: &'a Profile,
    endpoints: &'a Endpoints,
    values: &'a Values<'a>,
    now: Timestamp,
}

/// The guarded client. Cheap to clone: connections and what is known of providers are shared.
#[derive(Clone)]
pub struct ProviderClient {
    guard: Guard,
    catalogue: Arc<Catalogue>,
    entropy: Arc<dyn Entropy>,
    metadata: Arc<Cache<Metadata>>,
    keys: Arc<Cache<Keys>>,
}

const NOTHING_LEARNED: &BTreeMap<String, String> = &BTreeMap::new();

impl ProviderClient {
    /// Sets the client up; connects to nothing.
    pub fn new(
        policy: OutboundPolicy,
        catalogue: Arc<Catalogue>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, InvalidPolicy> {
        Ok(Self {
            guard: Guard::new(policy)?,
            catalogue,
            entropy,
            metadata: Arc::default(),
            keys: Arc::default(),
        })
    }

    /// The strategies there are.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The profile of a connection.
    pub fn profile(&self, settings: &ConnectionSettings) -> Result<&Arc<Profile>, Failure> {
        settings
            .profile(&self.catalogue)
            .map_err(|_| misconfigured("the connection's strategy is unknown"))
    }

    /// Checks the addresses of a connection, as far as that goes without looking a name up: returns the option whose
    /// address may not be called, or `variables` where one of them makes such an address, and why.
    pub fn check_addresses(
        &self,
        settings: &ConnectionSettings,
    ) -> Result<(), (&'static str, Failure)> {
        for (name, url) in settings.options.urls() {
            if let Some(url) = url {
                locate(settings, url)
                    .and_then(|url| self.guard.client_for(&url).map(drop))
                    .map_err(|failure| (name, failure))?;
            }
        }
        let in_variables = |failure| ("variables", failure);
        let profile = self.profile(settings).map_err(in_variables)?;
        let variables = settings.variables(profile, NOTHING_LEARNED);
        let values = values_of(settings, &variables);
        for (_, template) in profile.endpoints.all() {
            // What is learned later is checked when it is used.
            let Some(url) = template
                .as_ref()
                .and_then(|template| template::fill_url(template, &values))
            else {
                continue;
            };
            locate(settings, &url)
                .and_then(|url| self.guard.client_for(&url).map(drop))
                .map_err(in_variables)?;
        }
        Ok(())
    }

    /// The URL that a browser opens to consent.
    pub async fn authorization_url(
        &self,
        settings: &ConnectionSettings,
        request: &AuthorizationRequest,
        now: Timestamp,
    ) -> Result<String, Failure> {
        let profile = self.profile(settings)?;
        let variables = settings.variables(profile, NOTHING_LEARNED);
        let endpoints = self.endpoints(settings, profile, &variables, now).await?;
        let options = &settings.options;
        let asked = &profile.authorization;
        let separator = options
            .scope_separator
            .as_deref()
            .unwrap_or(&asked.scope_separator);
        let (second, first): (Vec<&str>, Vec<&str>) = request
            .scopes
            .iter()
            .map(String::as_str)
            .partition(|scope| {
                asked
                    .second_scope
                    .as_ref()
                    .is_some_and(|second| scope.starts_with(&second.prefix))
            });
        let scope = first.join(separator);

        let mut values = values_of(settings, &variables);
        values.insert("redirect_uri", &request.redirect_uri);
        values.insert("state", request.state.reveal());
        values.insert("scope", &scope);
        let mut params: BTreeMap<String, String> = BTreeMap::new();
        for (name, text) in &asked.parameters {
            let value = template::fill(text, &values)
                .ok_or_else(|| misconfigured("a variable of the request is not known"))?;
            params.insert(name.clone(), value);
        }
        params.extend(options.authorization_params.clone());
        params.extend(
            request
                .extra
                .iter()
                .filter(|(name, _)| !RESERVED.contains(&name.as_str()))
                .cloned(),
        );
        let mut standard = vec![
            ("response_type", "code"),
            ("client_id", &settings.client_id),
            ("redirect_uri", &request.redirect_uri),
            ("state", request.state.reveal()),
        ];
        if !scope.is_empty() {
            standard.push(("scope", &scope));
        }
        if options.pkce.unwrap_or(asked.pkce)
            && let Some(challenge) = &request.code_challenge
        {
            standard.push(("code_challenge", challenge));
            standard.push(("code_challenge_method", "S256"));
        }
        let nonce = request
            .nonce
            .as_ref()
            .filter(|_| profile.discovery || asked.nonce);
        if let Some(nonce) = nonce {
            standard.push(("nonce", nonce));
        }
        for (name, value) in standard {
            if asked.omit.iter().any(|omitted| omitted == name) {
                continue;
            }
            let name = asked.rename.get(name).map_or(name, String::as_str);
            params.insert(name.to_owned(), value.to_owned());
        }
        if let Some(place) = &asked.second_scope
            && !second.is_empty()
        {
            let bare: Vec<&str> = second
                .iter()
                .filter_map(|scope| scope.strip_prefix(place.prefix.as_str()))
                .collect();
            params.insert(place.parameter.clone(), bare.join(separator));
        }
        let url = locate(settings, &endpoints.authorization)?;
        // A browser goes there, but with our client id: the same rule as for our own calls.
        self.guard.client_for(&url)?;
        let params: Vec<(&str, &str)> = params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Ok(oauth::redirect_uri::append_params(url.as_str(), &params))
    }

    /// Reads the provider's answer to the browser, where it is no error: the code, and what variables learn from it.
    ///
    /// # Errors
    /// [`FailureKind::InvalidResponse`] where code or a variable is missing, or a signature is wrong.
    pub fn read_callback(
        &self,
        settings: &ConnectionSettings,
        query: &Query,
    ) -> Result<Callback, Failure> {
        let invalid = |detail| Failure::new(FailureKind::InvalidResponse, detail);
        let profile = self.profile(settings)?;
        for code in &profile.code {
            match code {
                Code::ShopifyCallbackHmac => {
                    check_shopify_callback(settings, query)?;
                }
            }
        }
        let code = query
            .get(&profile.authorization.code_parameter)
            .filter(|code| code.len() <= 4096)
            .ok_or_else(|| invalid("the provider's answer has no code"))?;
        let mut variables = BTreeMap::new();
        for (name, variable) in &profile.variables {
            if variable.from != VariableSource::Callback {
                continue;
            }
            let value = query.get(variable.at.as_deref().unwrap_or(name));
            match value {
                Some(value) if variable.takes(value) => {
                    variables.insert(name.clone(), variable.normal(value));
                }
                Some(_) => {
                    return Err(invalid(
                        "the provider's answer names a place that is not its own",
                    ));
                }
                None if variable.optional || variable.default.is_some() => {}
                None => return Err(invalid("the provider's answer lacks a parameter")),
            }
        }
        Ok(Callback {
            code: SecretString::new(code.to_owned()),
            variables,
        })
    }

    /// Redeems an authorization code (RFC 6749 §4.1.3).
    pub async fn redeem_code(
        &self,
        settings: &ConnectionSettings,
        grant: &CodeGrant<'_>,
        now: Timestamp,
    ) -> Result<TokenAnswer, Failure> {
        let profile = self.profile(settings)?;
        let variables = settings.variables(profile, grant.variables);
        let endpoints = self.endpoints(settings, profile, &variables, now).await?;
        let mut values = values_of(settings, &variables);
        values.insert("redirect_uri", grant.redirect_uri);
        let mut standard = vec![
            ("grant_type", "authorization_code"),
            ("code", grant.code.reveal()),
            ("redirect_uri", grant.redirect_uri),
        ];
        if settings.options.pkce.unwrap_or(profile.authorization.pkce)
            && let Some(verifier) = grant.code_verifier
        {
            standard.push(("code_verifier", verifier.reveal()));
        }
        let asking = Asking {
            settings,
            profile,
            endpoints: &endpoints,
            values: &values,
            now,
        };
        let mut tokens = self
            .ask_for_tokens(&asking, &endpoints.token, &profile.token, standard, None)
            .await?;
        self.exchange_first_token(&asking, &mut tokens).await?;
        let missing = profile.variables.iter().any(|(name, variable)| {
            variable.from == VariableSource::TokenAnswer
                && !variable.optional
                && variable.default.is_none()
                && !tokens.variables.contains_key(name)
        });
        if missing {
            return Err(Failure::new(
                FailureKind::InvalidResponse,
                "the token answer lacks what the provider's API is called with",
            ));
        }
        self.ask_for_expiry(settings, profile, &endpoints, &mut tokens, now)
            .await;
        Ok(tokens)
    }

    /// The second request of a profile that has one ([`Profile::exchange`]).
    async fn exchange_first_token(
        &self,
        asking: &Asking<'_>,
        tokens: &mut TokenAnswer,
    ) -> Result<(), Failure> {
        let (Some(url), Some(request)) = (&asking.endpoints.exchange, &asking.profile.exchange)
        else {
            return Ok(());
        };
        let first = tokens.access_token.duplicate();
        let mut values = asking.values.clone();
        values.insert("access_token", first.reveal());
        let asking = Asking {
            values: &values,
            ..*asking
        };
        let second = self
            .ask_for_tokens(&asking, url, request, vec![], None)
            .await?;
        tokens.take_over(second);
        Ok(())
    }

    /// Refreshes (RFC 6749 §6, or what the provider has instead).
    pub async fn refresh(
        &self,
        settings: &ConnectionSettings,
        grant: &RefreshGrant<'_>,
        now: Timestamp,
    ) -> Result<TokenAnswer, Failure> {
        let profile = self.profile(settings)?;
        let variables = settings.variables(profile, grant.variables);
        let endpoints = self.endpoints(settings, profile, &variables, now).await?;
        let separator = &profile.authorization.scope_separator;
        let scope = match grant.scopes {
            Some(scopes) => Some(scopes.join(separator)),
            None if profile.refresh.repeat_scope => Some(grant.granted.join(separator)),
            None => None,
        };
        let granted = grant.granted.join(separator);
        let mut values = values_of(settings, &variables);
        values.insert("redirect_uri", grant.redirect_uri);
        values.insert("refresh_token", grant.refresh_token.reveal());
        values.insert("access_token", grant.access_token.reveal());
        values.insert("scope", scope.as_deref().unwrap_or(&granted));
        let mut standard = match settings.refresh_class(profile) {
            RefreshClass::Renewal => vec![],
            _ => vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", grant.refresh_token.reveal()),
            ],
        };
        if let Some(scope) = &scope {
            standard.push(("scope", scope));
        }
        let further = grant.further.and_then(|name| {
            profile
                .answer
                .further
                .iter()
                .find(|token| token.name == name)
        });
        let asking = Asking {
            settings,
            profile,
            endpoints: &endpoints,
            values: &values,
            now,
        };
        let request = profile.refresh_request();
        let mut tokens = self
            .ask_for_tokens(&asking, &endpoints.refresh, request, standard, further)
            .await
            .map_err(|failure| match failure.kind {
                // Nothing was asked for but what is granted: the person or an administrator took it back.
                FailureKind::ScopeMissing if scope.is_none() => Failure {
                    kind: FailureKind::ReauthorizationRequired,
                    ..failure
                },
                _ => failure,
            })?;
        self.ask_for_expiry(settings, profile, &endpoints, &mut tokens, now)
            .await;
        Ok(tokens)
    }

    /// Finds out whose tokens these are. The subject is empty where the provider does not say.
    pub async fn identify(
        &self,
        settings: &ConnectionSettings,
        answer: &TokenAnswer,
        nonce: Option<&str>,
        learned: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Identity, Failure> {
        let profile = self.profile(settings)?;
        let mut all = learned.clone();
        all.extend(answer.variables.clone());
        let variables = settings.variables(profile, &all);
        let endpoints = self.endpoints(settings, profile, &variables, now).await?;
        let mut facts = Facts {
            token: Some(&answer.facts),
            variables: Some(&variables),
            ..Facts::default()
        };
        match &answer.id_token {
            Some(id_token) if profile.has_id_token() => {
                let nonce = nonce.filter(|_| profile.discovery || profile.authorization.nonce);
                let claims = self
                    .verify_id_token(settings, &endpoints, answer, id_token, nonce, now)
                    .await?;
                facts.id_token = Some(Value::Object(claims));
            }
            None if profile.discovery => {
                return Err(Failure::new(
                    FailureKind::InvalidResponse,
                    "the provider sent no ID token",
                ));
            }
            _ => {}
        }
        let Some(url) = endpoints
            .userinfo
            .as_ref()
            .filter(|_| profile.identity.needs_userinfo())
        else {
            return who(&facts, settings, profile, &variables);
        };
        let answered = self
            .userinfo(
                settings,
                profile,
                url,
                &answer.access_token,
                &variables,
                now,
            )
            .await;
        match (answered, &facts.id_token) {
            (Ok(members), Some(claims)) => {
                let named = members.get("sub").is_some() || profile.discovery;
                // OpenID Connect Core §5.3.4: another subject means that the answer is somebody else's (threats UP-19).
                if named && members.get("sub") != claims.get("sub") {
                    return Err(Failure::new(
                        FailureKind::InvalidResponse,
                        "userinfo and ID token name different users",
                    ));
                }
                facts.userinfo = Some(members);
            }
            (Ok(members), None) => facts.userinfo = Some(members),
            // The ID token alone says who it is; the rest is decoration.
            (Err(_), Some(_)) => {}
            (Err(failure), None) => {
                // So does a token answer that names the account.
                let known = facts.identity(&profile.identity, &settings.options);
                if known.subject.is_empty() {
                    return Err(failure);
                }
            }
        }
        who(&facts, settings, profile, &variables)
    }

    /// Gives a grant back (RFC 7009, or what the provider has instead). Ok(false) where the provider has no way to.
    ///
    /// A provider that says that there is no such token has nothing left to end: that is done, too.
    pub async fn revoke(
        &self,
        settings: &ConnectionSettings,
        tokens: &RevokedTokens<'_>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let profile = self.profile(settings)?;
        let variables = settings.variables(profile, tokens.variables);
        let endpoints = self.endpoints(settings, profile, &variables, now).await?;
        let Some(template) = &endpoints.revocation else {
            return Ok(false);
        };
        let how = &profile.revocation;
        let (token, hint) = match (how.token, tokens.refresh_token) {
            (RevokedToken::RefreshToken, Some(token)) => (token, "refresh_token"),
            _ => (tokens.access_token, "access_token"),
        };
        let mut values = values_of(settings, &variables);
        values.insert("access_token", tokens.access_token.reveal());
        values.insert("refresh_token", token.reveal());
        let url = template::fill_url(template, &values)
            .ok_or_else(|| misconfigured("a variable of an endpoint is not known"))?;
        let mut standard = Vec::new();
        if !how.parameter.is_empty() {
            standard.push((how.parameter.as_str(), token.reveal()));
        }
        if how.hint && !how.parameter.is_empty() {
            standard.push(("token_type_hint", hint));
        }
        let format = TokenRequest {
            method: how.method,
            body: how.body,
            parameters: how.parameters.clone(),
            headers: how.headers.clone(),
            ..TokenRequest::default()
        };
        let authentication = match how.authentication {
            RevocationAuthentication::Client => endpoints.authentication,
            RevocationAuthentication::ClientSecretBasic => ClientAuthentication::ClientSecretBasic,
            RevocationAuthentication::Bearer | RevocationAuthentication::None => {
                let params = wire::adapt(&format, standard, &values)?;
                let mut request =
                    wire::request(how.method, locate(settings, &url)?, how.body, &params);
                wire::add_headers(&mut request, &how.headers, &values)?;
                if how.authentication == RevocationAuthentication::Bearer {
                    wire::authorize(&mut request, wire::token_header("Bearer", token)?);
                }
                let answer = wire::send(&self.guard, request, now).await?;
                return revoked(&answer, profile, how.authentication);
            }
        };
        let endpoints = Endpoints {
            authentication,
            ..endpoints
        };
        let asking = Asking {
            settings,
            profile,
            endpoints: &endpoints,
            values: &values,
            now,
        };
        let answer = self.ask(&asking, &url, &format, standard).await?;
        revoked(&answer, profile, how.authentication)
    }

    /// What RFC 9207 needs; None for a provider without an issuer.
    pub async fn issuer(
        &self,
        settings: &ConnectionSettings,
        now: Timestamp,
    ) -> Result<Option<IssuerPolicy>, Failure> {
        let profile = self.profile(settings)?;
        let variables = settings.variables(profile, NOTHING_LEARNED);
        let endpoints = self.endpoints(settings, profile, &variables, now).await?;
        Ok(endpoints
            .issuer
            // Where it depends on the user there is nothing to compare with.
            .filter(|issuer| !issuer.contains('{'))
            .map(|issuer| IssuerPolicy {
                issuer,
                iss_parameter_supported: endpoints.iss_parameter_supported,
            }))
    }

    /// A request to a token endpoint, and what its answer means. `further` is the further token that is refreshed.
    async fn ask_for_tokens(
        &self,
        asking: &Asking<'_>,
        url: &str,
        how: &TokenRequest,
        standard: Vec<(&str, &str)>,
        further: Option<&FurtherToken>,
    ) -> Result<TokenAnswer, Failure> {
        let answer = self.ask(asking, url, how, standard).await?;
        token_answer::read(
            answer.status,
            answer.retry_after,
            &answer.body,
            asking.profile,
            &asking.settings.options,
            further,
            asking.now,
        )
    }

    /// One request in which the client authenticates, exactly one way.
    async fn ask(
        &self,
        asking: &Asking<'_>,
        url: &str,
        how: &TokenRequest,
        mut standard: Vec<(&str, &str)>,
    ) -> Result<Answer, Failure> {
        let Asking {
            settings,
            profile,
            endpoints,
            values,
            now,
        } = *asking;
        let url = locate(settings, url)?;
        let assertion;
        let mut header = None;
        match (endpoints.authentication, &settings.client_secret) {
            (ClientAuthentication::ClientSecretBasic, Some(secret)) => {
                header = Some(wire::basic(&settings.client_id, secret.reveal())?);
            }
            (ClientAuthentication::SecretAsUsername, Some(secret)) => {
                header = Some(wire::basic(secret.reveal(), "")?);
            }
            (ClientAuthentication::ClientSecretPost, Some(secret)) => {
                standard.push(("client_id", &settings.client_id));
                standard.push(("client_secret", secret.reveal()));
            }
            (ClientAuthentication::PrivateKeyJwt, Some(_)) => {
                let audience = endpoints
                    .issuer
                    .as_deref()
                    .filter(|issuer| !issuer.contains('{'))
                    .unwrap_or(&endpoints.token);
                let jti = seal::random_id(self.entropy.as_ref(), "");
                assertion = client_assertion::sign(settings, profile, audience, values, &jti, now)?;
                standard.push(("client_id", &settings.client_id));
                standard.push(("client_assertion_type", oauth::grant::CLIENT_ASSERTION_TYPE));
                standard.push(("client_assertion", &assertion));
            }
            (ClientAuthentication::None, _) | (_, None) => {
                standard.push(("client_id", &settings.client_id));
            }
        }
        let params = wire::adapt(how, standard, values)?;
        let mut request = wire::request(how.method, url, how.body, &params);
        wire::add_headers(&mut request, &how.headers, values)?;
        if let Some(header) = header {
            wire::authorize(&mut request, header);
        }
        wire::send(&self.guard, request, now).await
    }

    async fn verify_id_token(
        &self,
        settings: &ConnectionSettings,
        endpoints: &Endpoints,
        answer: &TokenAnswer,
        id_token: &SecretString,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<serde_json::Map<String, Value>, Failure> {
        let (Some(issuer), Some(jwks)) = (&endpoints.issuer, &endpoints.jwks) else {
            return Err(misconfigured("the connection has no issuer or no keys"));
        };
        let kid = seal::UnverifiedJws::parse(id_token.reveal())
            .ok()
            .and_then(|jws| jws.unverified_kid().map(str::to_owned));
        let keys = self
            .keys(locate(settings, jwks)?, kid.as_deref(), now)
            .await?;
        identity::verify_id_token(
            id_token.reveal(),
            &keys,
            &Expected {
                issuer,
                client_id: &settings.client_id,
                nonce,
                access_token: answer.access_token.reveal(),
            },
            now,
        )
    }

    async fn userinfo(
        &self,
        settings: &ConnectionSettings,
        profile: &Profile,
        url: &str,
        access_token: &SecretString,
        variables: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let how = &profile.identity;
        let mut values = values_of(settings, variables);
        values.insert("access_token", access_token.reveal());
        let in_url = url.contains("{access_token}");
        let url = template::fill_url(url, &values)
            .ok_or_else(|| misconfigured("a variable of an endpoint is not known"))?;
        let mut request =
            wire::request(how.method, locate(settings, &url)?, BodyFormat::Query, &[]);
        if let Some(json) = &how.json {
            request.headers_mut().insert(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            *request.body_mut() = Some(json.to_string().into());
        }
        if !in_url {
            let name = HeaderName::try_from(how.header.as_str())
                .map_err(|_| misconfigured("the header of the userinfo request has no name"))?;
            request
                .headers_mut()
                .insert(name, wire::token_header(&how.scheme, access_token)?);
        }
        wire::add_headers(&mut request, &how.headers, &values)?;
        let answer = wire::get(&self.guard, request, now).await?;
        oauth::json::parse(&answer.body)
            .filter(Value::is_object)
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::InvalidResponse,
                    "the userinfo answer is not a JSON object",
                )
                .with_status(answer.status)
            })
    }

    /// RFC 7662, for providers whose answers do not say when a token ends. What it says only improves on what is assumed.
    async fn ask_for_expiry(
        &self,
        settings: &ConnectionSettings,
        profile: &Profile,
        endpoints: &Endpoints,
        tokens: &mut TokenAnswer,
        now: Timestamp,
    ) {
        let Some(url) = endpoints
            .introspection
            .as_ref()
            .filter(|_| profile.answer.introspect_expiry && tokens.lifetime_is_assumed)
        else {
            return;
        };
        let token = tokens.access_token.reveal();
        let how = TokenRequest::default();
        let standard = vec![("token", token), ("token_type_hint", "access_token")];
        let asking = Asking {
            settings,
            profile,
            endpoints,
            values: &Values::new(),
            now,
        };
        let asked = self.ask(&asking, url, &how, standard).await;
        let end = asked
            .ok()
            .filter(|answer| answer.status == 200)
            .and_then(|answer| oauth::json::parse(&answer.body))
            .filter(|answer| answer.get("active") == Some(&Value::Bool(true)))
            .and_then(|answer| answer.get("exp")?.as_i64());
        if let Some(end) = end.filter(|end| *end > now.as_second()) {
            tokens.expires_in = u64::try_from(end - now.as_second()).ok();
        }
    }

    async fn endpoints(
        &self,
        settings: &ConnectionSettings,
        profile: &Profile,
        variables: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Endpoints, Failure> {
        let metadata = match endpoints::issuer(settings, profile, variables) {
            Some(issuer) if profile.discovery => Some(self.metadata(settings, &issuer, now).await?),
            _ => None,
        };
        Endpoints::resolve(settings, profile, metadata.as_deref(), variables)
    }

    async fn metadata(
        &self,
        settings: &ConnectionSettings,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, Failure> {
        let url = locate(settings, discovery::metadata_url(issuer)?.as_str())?;
        if let Some(known) = self.metadata.get(url.as_str(), now, METADATA_LIFE) {
            return Ok(known);
        }
        let request = wire::request(HttpMethod::Get, url.clone(), BodyFormat::Query, &[]);
        let answer = wire::get(&self.guard, request, now).await?;
        let metadata = Metadata::read(&answer.body, issuer)?;
        Ok(self.metadata.put(url.as_str(), now, metadata))
    }

    /// The keys at an address; fetched again, but not more often than every 30 seconds, when `kid` is not among them.
    async fn keys(
        &self,
        url: url::Url,
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<Keys>, Failure> {
        let address = url.to_string();
        if let Some(known) = self.keys.get(&address, now, KEYS_LIFE)
            && (known.knows(kid) || self.keys.get(&address, now, KEYS_PAUSE).is_some())
        {
            return Ok(known);
        }
        let request = wire::request(HttpMethod::Get, url, BodyFormat::Query, &[]);
        let answer = wire::get(&self.guard, request, now).await?;
        let keys = Keys::read(&answer.body)?;
        Ok(self.keys.put(&address, now, keys))
    }
}

/// Who the facts say it is, if the connection is for such accounts at all.
fn who(
    facts: &Facts<'_>,
    settings: &ConnectionSettings,
    profile: &Profile,
    variables: &BTreeMap<String, String>,
) -> Result<Identity, Failure> {
    if !facts.meet(&profile.identity, &values_of(settings, variables)) {
        return Err(Failure::new(
            FailureKind::ReauthorizationRequired,
            "the account is not one of those that the connection is for",
        ));
    }
    Ok(facts.identity(&profile.identity, &settings.options))
}

/// What templates may hold of a connection.
fn values_of<'a>(
    settings: &'a ConnectionSettings,
    variables: &'a BTreeMap<String, String>,
) -> Values<'a> {
    let mut values: Values<'a> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    values.insert("client_id", &settings.client_id);
    if let Some(secret) = &settings.client_secret {
        values.insert("client_secret", secret.reveal());
    }
    values
}

/// What the answer to a revocation means.
fn revoked(
    answer: &Answer,
    profile: &Profile,
    authentication: RevocationAuthentication,
) -> Result<bool, Failure> {
    let document = oauth::json::parse(&answer.body).unwrap_or_default();
    let codes = token_answer::codes(&document, &profile.answer);
    let code = codes.last().map(String::as_str);
    let failed = profile
        .answer
        .success
        .as_ref()
        .is_some_and(|pointer| document.pointer(pointer) == Some(&Value::Bool(false)));
    let gone = codes.iter().any(|code| {
        matches!(code.as_str(), "invalid_grant" | "invalid_token")
            || profile.revocation.gone.contains(code)
            || profile.errors.get(code)
                == Some(&crate::profile::ErrorClass::ReauthorizationRequired)
    });
    match answer.status {
        _ if gone => Ok(true),
        200..=299 if !failed => Ok(true),
        404 | 410 => Ok(true),
        // The token that should end is the one that was shown, and it opens nothing.
        401 if matches!(
            authentication,
            RevocationAuthentication::Bearer | RevocationAuthentication::None
        ) =>
        {
            Ok(true)
        }
        429 => Err(wire::rate_limited(answer)),
        status => Err(Failure::new(
            FailureKind::Unavailable,
            "the provider did not revoke the token",
        )
        .with_status(status)
        .with_provider_error(code)),
    }
}

/// Shopify signs its answer to the browser: without this a forged `shop` would do.
/// <https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/authorization-code-grant>
fn check_shopify_callback(settings: &ConnectionSettings, query: &Query) -> Result<(), Failure> {
    let wrong = || {
        Failure::new(
            FailureKind::InvalidResponse,
            "the provider's answer is not signed by it",
        )
    };
    let secret = settings.client_secret.as_ref().ok_or_else(wrong)?;
    let given = query.get("hmac").ok_or_else(wrong)?;
    let mut rest: Vec<(&str, &str)> = query
        .iter()
        .filter(|(name, _)| !matches!(*name, "hmac" | "signature"))
        .collect();
    rest.sort_unstable();
    let message = rest
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&");
    let expected = seal::hmac_sha256_hex(secret, message.as_bytes());
    if seal::constant_time_eq(expected.as_bytes(), given.as_bytes()) {
        Ok(())
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests;
