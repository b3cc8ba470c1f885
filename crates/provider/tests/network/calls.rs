//! Every address that a custom connection has, and the call that leads there. The signatures of the client are spelled
//! out here and nowhere else in these tests.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use provider::{
    AuthorizationRequest, Catalogue, CodeGrant, ConnectionOptions, ConnectionSettings, Failure,
    FailureKind, LookingUp, OutboundPolicy, ProviderClient, RefreshGrant, Resolver, RevokedTokens,
    TokenAnswer,
};
use seal::{Algorithm, SecretString, SigningKey, SystemEntropy};
use serde_json::json;

use crate::hostile::{self, Hostile};

/// For servers that answer at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// For servers that never do.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);
/// In everything that a hostile server says. It must not be in anything that we say.
pub(crate) const MARK: &str = "ZxqSaidByTheProvider";

const TOKEN: &str = r#"{"access_token":"at","token_type":"Bearer","expires_in":3600}"#;
const CLIENT_ID: &str = "client";

static ID_TOKEN_KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Algorithm::Es256).unwrap());

/// A URL field of a custom connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    AuthorizationEndpoint,
    Issuer,
    JwksUri,
    RevocationEndpoint,
    TokenEndpoint,
    UserinfoEndpoint,
}

impl Field {
    pub(crate) const ALL: [Self; 6] = [
        Self::AuthorizationEndpoint,
        Self::Issuer,
        Self::JwksUri,
        Self::RevocationEndpoint,
        Self::TokenEndpoint,
        Self::UserinfoEndpoint,
    ];
    /// Those that we call ourselves.
    pub(crate) const CALLED: [Self; 5] = [
        Self::Issuer,
        Self::JwksUri,
        Self::RevocationEndpoint,
        Self::TokenEndpoint,
        Self::UserinfoEndpoint,
    ];
    /// Those that we only read from: nothing can have happened there.
    pub(crate) const READ: [Self; 3] = [Self::Issuer, Self::JwksUri, Self::UserinfoEndpoint];

    /// Where an honest provider has it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::AuthorizationEndpoint => "/authorize",
            Self::Issuer => "/.well-known/openid-configuration",
            Self::JwksUri => "/jwks",
            Self::RevocationEndpoint => "/revoke",
            Self::TokenEndpoint => "/token",
            Self::UserinfoEndpoint => "/userinfo",
        }
    }

    /// What a request there looks like in [`Hostile::asked`].
    pub(crate) fn request(self) -> String {
        let method = match self {
            Self::RevocationEndpoint | Self::TokenEndpoint => "POST",
            _ => "GET",
        };
        format!("{method} {}", self.path())
    }

    /// A connection to an honest provider that uses this field.
    pub(crate) fn settings(self, origin: &str) -> ConnectionSettings {
        let discovers = matches!(self, Self::Issuer | Self::JwksUri);
        let at = |field: Self| (!discovers).then(|| format!("{origin}{}", field.path()));
        ConnectionSettings {
            strategy: if discovers { "oidc" } else { "oauth2" }.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: Some(SecretString::new("secret".to_owned())),
            options: ConnectionOptions {
                issuer: discovers.then(|| origin.to_owned()),
                authorization_endpoint: at(Self::AuthorizationEndpoint),
                token_endpoint: at(Self::TokenEndpoint),
                userinfo_endpoint: at(Self::UserinfoEndpoint),
                revocation_endpoint: at(Self::RevocationEndpoint),
                ..ConnectionOptions::default()
            },
        }
    }

    /// The same with another URL in this field.
    pub(crate) fn settings_with(self, origin: &str, url: &str) -> ConnectionSettings {
        let mut settings = self.settings(origin);
        let options = &mut settings.options;
        let field = match self {
            Self::AuthorizationEndpoint => &mut options.authorization_endpoint,
            Self::Issuer => &mut options.issuer,
            Self::JwksUri => &mut options.jwks_uri,
            Self::RevocationEndpoint => &mut options.revocation_endpoint,
            Self::TokenEndpoint => &mut options.token_endpoint,
            Self::UserinfoEndpoint => &mut options.userinfo_endpoint,
        };
        *field = Some(url.to_owned());
        settings
    }

    /// Makes the call that leads to this field.
    pub(crate) async fn call(
        self,
        client: &ProviderClient,
        settings: &ConnectionSettings,
    ) -> Result<(), Failure> {
        match self {
            Self::AuthorizationEndpoint | Self::Issuer => {
                authorization_url(client, settings).await?;
            }
            Self::JwksUri => {
                let issuer = settings.options.issuer.clone().unwrap();
                identify(client, settings, &token_answer(Some(&issuer))).await?;
            }
            Self::RevocationEndpoint => {
                assert!(revoke(client, settings).await?);
            }
            Self::TokenEndpoint => {
                refresh(client, settings).await?;
            }
            Self::UserinfoEndpoint => {
                identify(client, settings, &token_answer(None)).await?;
            }
        }
        Ok(())
    }

    /// The same, which has to fail, in time and without a word of the provider's.
    pub(crate) async fn fails(
        self,
        client: &ProviderClient,
        settings: &ConnectionSettings,
        what: &str,
    ) -> Failure {
        // Before a patient client's own deadline: what has no end has to be cut for another reason.
        let call = self.call(client, settings);
        match tokio::time::timeout(PATIENCE / 2, call).await {
            Err(_elapsed) => panic!("{self:?}: {what}: no end"),
            Ok(Ok(())) => panic!("{self:?}: {what}: no failure"),
            Ok(Err(failure)) => {
                let told = format!("{failure} {failure:?}");
                assert!(!told.contains(MARK), "{self:?}: {what}: {told}");
                failure
            }
        }
    }
}

pub(crate) async fn authorization_url(
    client: &ProviderClient,
    settings: &ConnectionSettings,
) -> Result<String, Failure> {
    let request = AuthorizationRequest {
        redirect_uri: "https://vault.test/callback".to_owned(),
        state: SecretString::new("state".to_owned()),
        scopes: Vec::new(),
        code_challenge: None,
        nonce: None,
        extra: Vec::new(),
    };
    client.authorization_url(settings, &request, now()).await
}

pub(crate) async fn redeem_code(
    client: &ProviderClient,
    settings: &ConnectionSettings,
) -> Result<TokenAnswer, Failure> {
    let grant = CodeGrant {
        code: &SecretString::new("code".to_owned()),
        redirect_uri: "https://vault.test/callback",
        code_verifier: None,
        variables: &BTreeMap::new(),
    };
    client.redeem_code(settings, &grant, now()).await
}

pub(crate) async fn refresh(
    client: &ProviderClient,
    settings: &ConnectionSettings,
) -> Result<TokenAnswer, Failure> {
    let grant = RefreshGrant {
        refresh_token: &SecretString::new("rt".to_owned()),
        access_token: &SecretString::new("at".to_owned()),
        scopes: None,
        granted: &[],
        redirect_uri: "https://vault.test/callback",
        variables: &BTreeMap::new(),
        further: None,
    };
    client.refresh(settings, &grant, now()).await
}

pub(crate) async fn identify(
    client: &ProviderClient,
    settings: &ConnectionSettings,
    answer: &TokenAnswer,
) -> Result<provider::Identity, Failure> {
    client
        .identify(settings, answer, None, &BTreeMap::new(), now())
        .await
}

pub(crate) async fn revoke(
    client: &ProviderClient,
    settings: &ConnectionSettings,
) -> Result<bool, Failure> {
    let tokens = RevokedTokens {
        access_token: &SecretString::new("at".to_owned()),
        refresh_token: Some(&SecretString::new("rt".to_owned())),
        variables: &BTreeMap::new(),
    };
    client.revoke(settings, &tokens, now()).await
}

/// What a token endpoint gave, with an ID token of an issuer where there is one.
pub(crate) fn token_answer(issuer: Option<&str>) -> TokenAnswer {
    let id_token = issuer.map(|issuer| {
        let claims = json!({
            "iss": issuer,
            "aud": CLIENT_ID,
            "sub": "somebody",
            "iat": now().as_second(),
            "exp": now().as_second() + 60,
        });
        let signed = ID_TOKEN_KEY.sign(Some("k1"), "JWT", &claims).unwrap();
        SecretString::new(signed)
    });
    let mut answer = TokenAnswer::of(SecretString::new("at".to_owned()));
    answer.id_token = id_token;
    answer
}

/// Makes a server an honest provider, at every path that is not changed afterwards.
pub(crate) fn make_honest(server: &Hostile) {
    let origin = &server.origin;
    let metadata = json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
    });
    let keys = json!({ "keys": [ID_TOKEN_KEY.public_jwk("k1")] });
    for (field, body) in [
        (Field::Issuer, metadata.to_string()),
        (Field::JwksUri, keys.to_string()),
        (Field::RevocationEndpoint, String::new()),
        (Field::TokenEndpoint, TOKEN.to_owned()),
        (
            Field::UserinfoEndpoint,
            json!({ "sub": "somebody" }).to_string(),
        ),
    ] {
        server.answer(field.path(), hostile::json(&body));
    }
}

/// An honest provider, to be spoilt.
pub(crate) async fn honest() -> Hostile {
    let server = Hostile::http().await;
    make_honest(&server);
    server
}

/// What may call some origins and waits for so long.
pub(crate) fn policy(origins: &[&str], deadline: Duration) -> OutboundPolicy {
    OutboundPolicy {
        allowed_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
        deadline,
        ..OutboundPolicy::default()
    }
}

pub(crate) fn client(policy: OutboundPolicy) -> ProviderClient {
    ProviderClient::new(
        policy,
        Catalogue::built_in().unwrap(),
        Arc::new(SystemEntropy),
    )
    .unwrap()
}

/// Says that the guard refused, and not that somebody could not be reached: nothing was sent.
pub(crate) fn assert_refused(failure: &Failure, what: &str) {
    assert_eq!(failure.kind, FailureKind::Refused, "{what}: {failure}");
    assert_eq!(failure.status, None, "{what}");
    assert!(!failure.detail.contains("certificate"), "{what}: {failure}");
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// What a look-up of a name brings.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Addresses(Vec<IpAddr>),
    /// There is no such name, or its server says that it cannot tell.
    Nothing(io::ErrorKind),
    /// The name server does not answer.
    Silence,
}

/// The names of a test, each with its answers in turn; the last one stays. Other names do not exist.
#[derive(Debug, Default)]
pub(crate) struct Names {
    found: Mutex<HashMap<String, Vec<Found>>>,
    looked_up: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn new(names: &[(&str, Vec<Found>)]) -> Arc<Self> {
        let names = names.iter().map(|(name, found)| {
            let in_reverse = found.iter().rev().cloned().collect();
            ((*name).to_owned(), in_reverse)
        });
        Arc::new(Self {
            found: Mutex::new(names.collect()),
            looked_up: Mutex::default(),
        })
    }

    /// What was looked up so far.
    pub(crate) fn looked_up(&self) -> Vec<String> {
        self.looked_up.lock().unwrap().clone()
    }
}

impl Resolver for Names {
    fn look_up(&self, name: &str) -> LookingUp {
        self.looked_up.lock().unwrap().push(name.to_owned());
        let mut found = self.found.lock().unwrap();
        let found = match found.get_mut(name) {
            Some(answers) if answers.len() > 1 => answers.pop(),
            Some(answers) => answers.last().cloned(),
            None => None,
        };
        let looked: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = match found {
            Some(Found::Addresses(addresses)) => Box::pin(std::future::ready(Ok(addresses))),
            Some(Found::Nothing(kind)) => Box::pin(std::future::ready(Err(kind.into()))),
            Some(Found::Silence) => Box::pin(std::future::pending()),
            None => Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into()))),
        };
        looked
    }
}
