//! The client that speaks to providers. Everything goes out through [`Guard`] and comes back bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, RETRY_AFTER};
use http::{HeaderValue, Method};
use jiff::Timestamp;
use seal::SecretString;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::discovery::{self, Cache, KEYS_LIFE, KEYS_PAUSE, Keys, METADATA_LIFE, Metadata};
use crate::failure::{Failure, FailureKind};
use crate::guard::{Blocked, Guard, InvalidPolicy, OutboundPolicy};
use crate::identity::{self, Expected, Identity};
use crate::profile::{ClientAuthentication, Profile};
use crate::settings::{ConnectionSettings, RESERVED};
use crate::token_answer::{self, TokenAnswer};

/// The longest answer that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The wait after a 429 that does not say how long, and the longest that is believed.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

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

/// The guarded client. Cheap to clone: connections and what is known of providers are shared.
#[derive(Debug, Clone)]
pub struct ProviderClient {
    guard: Guard,
    metadata: Arc<Cache<Metadata>>,
    keys: Arc<Cache<Keys>>,
}

/// The endpoints of a connection, from its options and its provider's metadata.
struct Endpoints {
    authorization: String,
    token: String,
    userinfo: Option<String>,
    revocation: Option<String>,
    jwks: Option<String>,
    issuer: Option<String>,
    authentication: ClientAuthentication,
}

/// An answer within bounds.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl ProviderClient {
    /// Sets the client up; connects to nothing.
    pub fn new(policy: OutboundPolicy) -> Result<Self, InvalidPolicy> {
        Ok(Self {
            guard: Guard::new(policy)?,
            metadata: Arc::default(),
            keys: Arc::default(),
        })
    }

    /// The URL that a browser opens to consent.
    pub async fn authorization_url(
        &self,
        settings: &ConnectionSettings,
        request: &AuthorizationRequest,
        now: Timestamp,
    ) -> Result<String, Failure> {
        let profile = profile_of(settings)?;
        let endpoints = self.endpoints(settings, now).await?;
        let options = &settings.options;
        let separator = options
            .scope_separator
            .as_deref()
            .unwrap_or(&profile.scope_separator);
        let scope = request.scopes.join(separator);

        let mut params: BTreeMap<&str, &str> = BTreeMap::new();
        params.extend(
            options
                .authorization_params
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        params.extend(
            request
                .extra
                .iter()
                .filter(|(name, _)| !RESERVED.contains(&name.as_str()))
                .map(|(name, value)| (&**name, &**value)),
        );
        params.insert("response_type", "code");
        params.insert("client_id", &settings.client_id);
        params.insert("redirect_uri", &request.redirect_uri);
        params.insert("state", request.state.reveal());
        if !scope.is_empty() {
            params.insert("scope", &scope);
        }
        if options.pkce.unwrap_or(profile.pkce)
            && let Some(challenge) = &request.code_challenge
        {
            params.insert("code_challenge", challenge);
            params.insert("code_challenge_method", "S256");
        }
        if profile.discovery
            && let Some(nonce) = &request.nonce
        {
            params.insert("nonce", nonce);
        }
        let url = parse(&endpoints.authorization)?;
        // A browser goes there, but with our client id: the same rule as for our own calls.
        self.guard.client_for(&url)?;
        let params: Vec<(&str, &str)> = params.into_iter().collect();
        Ok(oauth::redirect_uri::append_params(url.as_str(), &params))
    }

    /// Redeems an authorization code (RFC 6749 §4.1.3).
    pub async fn redeem_code(
        &self,
        settings: &ConnectionSettings,
        code: &SecretString,
        redirect_uri: &str,
        code_verifier: Option<&SecretString>,
        now: Timestamp,
    ) -> Result<TokenAnswer, Failure> {
        let profile = profile_of(settings)?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.reveal()),
            ("redirect_uri", redirect_uri),
        ];
        if settings.options.pkce.unwrap_or(profile.pkce)
            && let Some(verifier) = code_verifier
        {
            form.push(("code_verifier", verifier.reveal()));
        }
        self.ask_for_tokens(settings, profile, form, now).await
    }

    /// Refreshes (RFC 6749 §6). `scopes` narrows; None asks for the same again.
    pub async fn refresh(
        &self,
        settings: &ConnectionSettings,
        refresh_token: &SecretString,
        scopes: Option<&[String]>,
        now: Timestamp,
    ) -> Result<TokenAnswer, Failure> {
        let profile = profile_of(settings)?;
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.reveal()),
        ];
        let scope = scopes.map(|scopes| scopes.join(&profile.scope_separator));
        if let Some(scope) = &scope {
            form.push(("scope", scope));
        }
        self.ask_for_tokens(settings, profile, form, now).await
    }

    /// Finds out whose tokens these are. The subject is empty where the provider does not say.
    pub async fn identify(
        &self,
        settings: &ConnectionSettings,
        answer: &TokenAnswer,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<Identity, Failure> {
        let profile = profile_of(settings)?;
        let endpoints = self.endpoints(settings, now).await?;
        let options = &settings.options;
        if !profile.discovery {
            return match &endpoints.userinfo {
                Some(url) => {
                    let members = self.userinfo(url, &answer.access_token).await?;
                    Ok(identity::from_members(&members, options))
                }
                None => Ok(Identity::default()),
            };
        }
        let id_token = answer.id_token.as_ref().ok_or_else(|| {
            Failure::new(
                FailureKind::InvalidResponse,
                "the provider sent no ID token",
            )
        })?;
        let issuer = endpoints.issuer.as_deref().unwrap_or_default();
        let jwks = endpoints.jwks.as_deref().ok_or_else(|| {
            Failure::new(
                FailureKind::ClientMisconfigured,
                "the provider publishes no keys",
            )
        })?;
        let kid = seal::UnverifiedJws::parse(id_token.reveal())
            .ok()
            .and_then(|jws| jws.unverified_kid().map(str::to_owned));
        let keys = self.keys(jwks, kid.as_deref(), now).await?;
        let claims = identity::verify_id_token(
            id_token.reveal(),
            &keys,
            &Expected {
                issuer,
                client_id: &settings.client_id,
                nonce,
                access_token: answer.access_token.reveal(),
            },
            now,
        )?;
        let subject = claims.get("sub").cloned();
        let named = identity::from_members(&Value::Object(claims), options);
        let Some(url) = &endpoints.userinfo else {
            return Ok(named);
        };
        match self.userinfo(url, &answer.access_token).await {
            // OpenID Connect Core §5.3.4: another subject means that the answer is somebody else's (threats UP-19).
            Ok(members) if members.get("sub") != subject.as_ref() => Err(Failure::new(
                FailureKind::InvalidResponse,
                "userinfo and ID token name different users",
            )),
            Ok(members) => Ok(named.or(identity::from_members(&members, options))),
            // The ID token alone says who it is; the rest is decoration.
            Err(_) => Ok(named),
        }
    }

    /// Revokes a token (RFC 7009). Ok(false) where the provider has no endpoint for it.
    pub async fn revoke(
        &self,
        settings: &ConnectionSettings,
        token: &SecretString,
        hint: &str,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let endpoints = self.endpoints(settings, now).await?;
        let Some(url) = &endpoints.revocation else {
            return Ok(false);
        };
        let form = vec![("token", token.reveal()), ("token_type_hint", hint)];
        let answer = self.post(settings, &endpoints, url, form).await?;
        match answer.status {
            200..=299 => Ok(true),
            429 => Err(rate_limited(&answer)),
            status => Err(Failure::new(
                FailureKind::Unavailable,
                "the provider did not revoke the token",
            )
            .with_status(status)),
        }
    }

    /// What RFC 9207 needs; None for a provider without metadata.
    pub async fn issuer(
        &self,
        settings: &ConnectionSettings,
        now: Timestamp,
    ) -> Result<Option<IssuerPolicy>, Failure> {
        match (&settings.options.issuer, profile_of(settings)?.discovery) {
            (Some(issuer), true) => {
                let metadata = self.metadata(issuer, now).await?;
                Ok(Some(IssuerPolicy {
                    issuer: issuer.clone(),
                    iss_parameter_supported: metadata
                        .authorization_response_iss_parameter_supported,
                }))
            }
            (Some(issuer), false) => Ok(Some(IssuerPolicy {
                issuer: issuer.clone(),
                iss_parameter_supported: false,
            })),
            (None, _) => Ok(None),
        }
    }

    async fn ask_for_tokens(
        &self,
        settings: &ConnectionSettings,
        profile: &Profile,
        form: Vec<(&str, &str)>,
        now: Timestamp,
    ) -> Result<TokenAnswer, Failure> {
        let endpoints = self.endpoints(settings, now).await?;
        let answer = self
            .post(settings, &endpoints, &endpoints.token, form)
            .await?;
        if answer.status == 429 {
            return Err(rate_limited(&answer));
        }
        token_answer::read(answer.status, &answer.body, profile, &settings.options)
    }

    async fn post(
        &self,
        settings: &ConnectionSettings,
        endpoints: &Endpoints,
        url: &str,
        mut form: Vec<(&str, &str)>,
    ) -> Result<Answer, Failure> {
        let url = parse(url)?;
        let mut request = reqwest::Request::new(Method::POST, url);
        match (endpoints.authentication, &settings.client_secret) {
            (ClientAuthentication::ClientSecretBasic, Some(secret)) => {
                let header = basic(&settings.client_id, secret)?;
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            (ClientAuthentication::ClientSecretPost, Some(secret)) => {
                form.push(("client_id", &settings.client_id));
                form.push(("client_secret", secret.reveal()));
            }
            (ClientAuthentication::None, _) | (_, None) => {
                form.push(("client_id", &settings.client_id))
            }
        }
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        request.headers_mut().insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        *request.body_mut() = Some(body.into());
        self.send(request).await
    }

    async fn userinfo(&self, url: &str, access_token: &SecretString) -> Result<Value, Failure> {
        let mut request = reqwest::Request::new(Method::GET, parse(url)?);
        let mut header = HeaderValue::from_str(&format!("Bearer {}", access_token.reveal()))
            .map_err(|_| {
                Failure::new(
                    FailureKind::InvalidResponse,
                    "the token does not fit into a header",
                )
            })?;
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        let answer = self.get(request).await?;
        serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::InvalidResponse,
                    "the userinfo answer is not a JSON object",
                )
                .with_status(answer.status)
            })
    }

    async fn endpoints(
        &self,
        settings: &ConnectionSettings,
        now: Timestamp,
    ) -> Result<Endpoints, Failure> {
        let profile = profile_of(settings)?;
        let options = &settings.options;
        let metadata = match (&options.issuer, profile.discovery) {
            (Some(issuer), true) => Some(self.metadata(issuer, now).await?),
            _ => None,
        };
        let metadata = metadata.as_deref();
        let missing = || {
            Failure::new(
                FailureKind::ClientMisconfigured,
                "the connection has no such endpoint",
            )
        };
        let either =
            |option: &Option<String>, known: Option<&String>| option.clone().or(known.cloned());
        Ok(Endpoints {
            authorization: either(
                &options.authorization_endpoint,
                metadata.map(|known| &known.authorization_endpoint),
            )
            .ok_or_else(missing)?,
            token: either(
                &options.token_endpoint,
                metadata.map(|known| &known.token_endpoint),
            )
            .ok_or_else(missing)?,
            userinfo: either(
                &options.userinfo_endpoint,
                metadata.and_then(|known| known.userinfo_endpoint.as_ref()),
            ),
            revocation: either(
                &options.revocation_endpoint,
                metadata.and_then(|known| known.revocation_endpoint.as_ref()),
            ),
            jwks: either(
                &options.jwks_uri,
                metadata.and_then(|known| known.jwks_uri.as_ref()),
            ),
            issuer: options.issuer.clone(),
            authentication: options
                .token_endpoint_auth_method
                .or_else(|| metadata.and_then(supported_authentication))
                .unwrap_or(profile.client_authentication),
        })
    }

    async fn metadata(&self, issuer: &str, now: Timestamp) -> Result<Arc<Metadata>, Failure> {
        if let Some(known) = self.metadata.get(issuer, now, METADATA_LIFE) {
            return Ok(known);
        }
        let url = discovery::metadata_url(issuer)?;
        let answer = self.get(reqwest::Request::new(Method::GET, url)).await?;
        let metadata = Metadata::read(&answer.body, issuer)?;
        Ok(self.metadata.put(issuer, now, metadata))
    }

    /// The keys at an address; fetched again, but not more often than every 30 seconds, when `kid` is not among them.
    async fn keys(
        &self,
        address: &str,
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<Keys>, Failure> {
        if let Some(known) = self.keys.get(address, now, KEYS_LIFE)
            && (known.knows(kid) || self.keys.get(address, now, KEYS_PAUSE).is_some())
        {
            return Ok(known);
        }
        let answer = self
            .get(reqwest::Request::new(Method::GET, parse(address)?))
            .await?;
        let keys = Keys::read(&answer.body)?;
        Ok(self.keys.put(address, now, keys))
    }

    /// A reading request: whatever goes wrong, nothing has changed at the provider.
    async fn get(&self, request: reqwest::Request) -> Result<Answer, Failure> {
        let answer = self
            .send(request)
            .await
            .map_err(|failure| match failure.kind {
                FailureKind::OutcomeUnknown => Failure {
                    kind: FailureKind::Unavailable,
                    ..failure
                },
                _ => failure,
            })?;
        match answer.status {
            200 => Ok(answer),
            429 => Err(rate_limited(&answer)),
            500.. => Err(
                Failure::new(FailureKind::Unavailable, "the provider failed")
                    .with_status(answer.status),
            ),
            status => Err(Failure::new(
                FailureKind::InvalidResponse,
                "the provider refused to answer",
            )
            .with_status(status)),
        }
    }

    async fn send(&self, mut request: reqwest::Request) -> Result<Answer, Failure> {
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        let client = self.guard.client_for(request.url())?;
        let mut response = client
            .execute(request)
            .await
            .map_err(|error| classify(&error))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse::<u64>().ok())
            .map(Duration::from_secs);
        let unreadable =
            |detail| Failure::new(FailureKind::OutcomeUnknown, detail).with_status(status);
        // We ask for no compression; what comes compressed anyway may be a bomb (threats UP-02).
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(unreadable("the provider compressed its answer"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|_| unreadable("the provider's answer broke off or took too long"))?
        {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(unreadable("the provider's answer is larger than 64 KiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }
}

fn profile_of(settings: &ConnectionSettings) -> Result<&'static Profile, Failure> {
    settings.profile().map_err(|_| {
        Failure::new(
            FailureKind::ClientMisconfigured,
            "the connection's strategy is unknown",
        )
    })
}

fn parse(url: &str) -> Result<Url, Failure> {
    Url::parse(url)
        .map_err(|_| Failure::new(FailureKind::ClientMisconfigured, "an endpoint is not a URL"))
}

/// RFC 6749 §2.3.1: both halves form-encoded before they are joined.
fn basic(client_id: &str, secret: &SecretString) -> Result<HeaderValue, Failure> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = format!("{}:{}", encode(client_id), encode(secret.reveal()));
    let mut header =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(joined))).map_err(|_| {
            Failure::new(
                FailureKind::ClientMisconfigured,
                "the client secret does not fit into a header",
            )
        })?;
    header.set_sensitive(true);
    Ok(header)
}

/// The first of our ways that the provider takes; Basic where it does not say (OpenID Connect Discovery 1.0 §3).
fn supported_authentication(metadata: &Metadata) -> Option<ClientAuthentication> {
    let supported = metadata.token_endpoint_auth_methods_supported.as_ref()?;
    [
        (
            "client_secret_basic",
            ClientAuthentication::ClientSecretBasic,
        ),
        ("client_secret_post", ClientAuthentication::ClientSecretPost),
    ]
    .into_iter()
    .find(|(name, _)| supported.iter().any(|known| known == name))
    .map(|(_, method)| method)
}

fn rate_limited(answer: &Answer) -> Failure {
    Failure::new(
        FailureKind::RateLimited {
            retry_after: answer.retry_after.unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT),
        },
        "the provider limits requests",
    )
    .with_status(answer.status)
}

/// A request that got no answer: refused by us, never sent, or sent and lost. The error itself is not kept, because it
/// names addresses.
fn classify(error: &reqwest::Error) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<Blocked>() {
            return Failure::new(
                FailureKind::Refused,
                "the provider's name leads to an address that is not allowed",
            );
        }
        source = cause.source();
    }
    if error.is_connect() || error.is_builder() {
        Failure::new(FailureKind::Unavailable, "no connection to the provider")
    } else {
        Failure::new(
            FailureKind::OutcomeUnknown,
            "the request was sent and not answered",
        )
    }
}

#[cfg(test)]
mod tests;
