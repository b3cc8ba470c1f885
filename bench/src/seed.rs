//! What the vault holds while it is measured: a client for each exchange, a user, and an account that was connected the
//! way everybody connects one.

use anyhow::{Context, Result, anyhow, bail};
use headless::{Agent, MOST_HOPS, Stop};
use http::Method;
use oauth::grant;
use oauth::pkce::{CodeChallenge, CodeVerifier};
use provider::ConnectionOptions;
use seal::{SecretString, SigningKey, SystemEntropy};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};
use vault::{
    AppType, Client, KeyPurpose, NewApi, NewClient, NewConnection, NewUser, PrivilegedAccess,
    PrivilegedGrant, RefreshTokenPolicy, ResourcePolicy, SubjectType, Vault,
};

use crate::target::{Ask, Errand, Subject, Target, WORKER_ALGORITHM, WorkerKey};
use crate::vault_server::{PATH, PERSON, PERSONS_PASSWORD};

/// The issuer; its name is reached on loopback.
pub(crate) const ISSUER: &str = "https://vault.test/";

const API: &str = "https://api.test/";
const CALLBACK: &str = "https://app.test/callback";
pub(crate) const CONNECTION: &str = "sandbox";
const USERNAME: &str = "dana@example.com";
const PASSWORD: &str = "correct horse battery";
const WORKER_KID: &str = "worker-key-1";
const ACCOUNT_SCOPES: [&str; 3] = [
    "create:me:connected_accounts",
    "read:me:connected_accounts",
    "delete:me:connected_accounts",
];
pub(crate) const PROVIDER_SCOPES: [&str; 5] =
    ["openid", "profile", "email", "offline_access", "files.read"];

/// Everything but the connected account.
pub(crate) struct Seeded {
    /// The connection's callback, which the provider has to know.
    pub(crate) callback: String,
    /// Our id and secret at the provider.
    pub(crate) provider_client: (String, String),
    web: Registered,
    api: Registered,
    worker: Registered,
    worker_key: WorkerKey,
    administrator: Registered,
}

struct Registered {
    client: Client,
    secret: String,
}

/// Registers clients, API, user and connection in an empty deployment.
pub(crate) async fn seed(vault: &Vault, sandbox_url: &str) -> Result<Seeded> {
    let me = vault.settings().issuer.me_audience();
    vault
        .create_api(NewApi {
            identifier: API.to_owned(),
            name: "Reports".to_owned(),
            scopes: vec!["read:reports".into()],
            ..NewApi::default()
        })
        .await
        .map_err(told("the API"))?;
    let policy = |audience: &str, scope: &[&str]| ResourcePolicy {
        audience: audience.to_owned(),
        scope: words(scope),
    };
    let web = register(
        vault,
        NewClient {
            name: "Web".to_owned(),
            grant_types: words(&[
                grant::AUTHORIZATION_CODE,
                grant::REFRESH_TOKEN,
                grant::TOKEN_VAULT,
            ]),
            callbacks: words(&[CALLBACK]),
            refresh_token: RefreshTokenPolicy {
                policies: vec![policy(&me, &ACCOUNT_SCOPES), policy(API, &["read:reports"])],
                ..RefreshTokenPolicy::default()
            },
            ..NewClient::default()
        },
    )
    .await?;
    let api = register(
        vault,
        NewClient {
            name: "Reports API".to_owned(),
            app_type: AppType::ResourceServer,
            grant_types: words(&[grant::TOKEN_VAULT]),
            resource_server_identifier: Some(API.to_owned()),
            ..NewClient::default()
        },
    )
    .await?;
    let worker = register(
        vault,
        NewClient {
            name: "Worker".to_owned(),
            app_type: AppType::NonInteractive,
            grant_types: words(&[grant::TOKEN_VAULT]),
            privileged_access: Some(PrivilegedAccess {
                ip_allowlist: words(&["127.0.0.0/8"]),
                grants: vec![PrivilegedGrant {
                    connection: CONNECTION.to_owned(),
                    scopes: words(&PROVIDER_SCOPES),
                }],
            }),
            ..NewClient::default()
        },
    )
    .await?;
    vault
        .create_client_grant(
            &web.client.client_id,
            &me,
            SubjectType::User,
            words(&ACCOUNT_SCOPES),
        )
        .await
        .map_err(told("a client grant"))?;
    let administrator = register(
        vault,
        NewClient {
            name: "Administrator".to_owned(),
            app_type: AppType::NonInteractive,
            grant_types: words(&[grant::CLIENT_CREDENTIALS]),
            ..NewClient::default()
        },
    )
    .await?;
    vault
        .create_client_grant(
            &administrator.client.client_id,
            &vault.settings().issuer.management_audience(),
            SubjectType::Client,
            words(&["read:users"]),
        )
        .await
        .map_err(told("the administrator's grant"))?;
    let key = SigningKey::generate(WORKER_ALGORITHM).map_err(|error| anyhow!("{error}"))?;
    vault
        .create_client_key(
            &worker.client.client_id,
            KeyPurpose::PrivilegedAccess,
            WORKER_ALGORITHM,
            &key.public_jwk(WORKER_KID),
            None,
        )
        .await
        .map_err(told("the worker's key"))?;
    let provider_client = (
        "bench".to_owned(),
        seal::random_id(&SystemEntropy, "sandbox_secret_"),
    );
    let connection = vault
        .create_connection(NewConnection {
            name: CONNECTION.to_owned(),
            strategy: "sandbox".to_owned(),
            display_name: "Sandbox".to_owned(),
            client_id: provider_client.0.clone(),
            client_secret: Some(SecretString::new(provider_client.1.clone())),
            options: ConnectionOptions {
                issuer: Some(sandbox_url.to_owned()),
                ..ConnectionOptions::default()
            },
            scopes: words(&PROVIDER_SCOPES),
        })
        .await
        .map_err(told("the connection"))?;
    for registered in [&web, &api, &worker] {
        vault
            .enable_connection(&connection.id, &registered.client.client_id)
            .await
            .map_err(told("the connection for a client"))?;
    }
    let user = vault
        .create_user(NewUser {
            username: USERNAME.to_owned(),
            password: SecretString::new(PASSWORD.to_owned()),
            email: Some(USERNAME.to_owned()),
            name: Some("Dana".to_owned()),
        })
        .await
        .map_err(told("the user"))?;
    let pem = key.to_pem().map_err(|error| anyhow!("{error}"))?;
    Ok(Seeded {
        callback: connection.callback_uri(vault),
        provider_client,
        worker_key: WorkerKey {
            pem: pem.reveal().to_owned(),
            kid: WORKER_KID.to_owned(),
            issuer: ISSUER.to_owned(),
            user_id: user.id,
            among: None,
        },
        web,
        api,
        worker,
        administrator,
    })
}

/// Logs the user in and connects an account, over HTTP; returns what to ask for the refresh token, the access token and
/// the worker's exchange, and for everything else.
pub(crate) async fn connect(seeded: &Seeded, vault_url: &str) -> Result<([Target; 3], Vec<Ask>)> {
    let mut browser = Agent::with_detours(&[(ISSUER.trim_end_matches('/'), vault_url)])?;
    let (access_token, refresh_token) = log_in(&mut browser, &seeded.web).await?;
    let answer = browser
        .expect(
            Method::POST,
            &url("oauth/token"),
            None,
            Some(&json!({
                "grant_type": grant::REFRESH_TOKEN,
                "client_id": seeded.web.client.client_id,
                "client_secret": seeded.web.secret,
                "refresh_token": refresh_token,
                "audience": url("me/"),
            })),
        )
        .await?;
    let me_token = member(&answer, "access_token")?;
    connect_account(&mut browser, &me_token).await?;
    let errands = errands(seeded, &browser, &refresh_token, me_token).await?;

    let target = |registered: &Registered, subject| Target {
        client_id: registered.client.client_id.clone(),
        client_secret: registered.secret.clone(),
        connection: CONNECTION.to_owned(),
        subject,
    };
    let targets = [
        target(&seeded.web, Subject::RefreshToken(refresh_token)),
        target(&seeded.api, Subject::AccessToken(access_token)),
        target(&seeded.worker, Subject::Worker(seeded.worker_key.clone())),
    ];
    Ok((targets, errands))
}

/// What to ask for everything else, in the order of [`Errand::ALL`].
async fn errands(
    seeded: &Seeded,
    browser: &Agent,
    refresh_token: &str,
    me_token: String,
) -> Result<Vec<Ask>> {
    let token = |registered: &Registered, rest: &[(&str, &str)]| {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &registered.client.client_id)
            .append_pair("client_secret", &registered.secret)
            .extend_pairs(rest)
            .finish()
    };
    let audience = url("api/v2/");
    let credentials = [
        ("grant_type", grant::CLIENT_CREDENTIALS),
        ("audience", audience.as_str()),
    ];
    let refresh = [
        ("grant_type", grant::REFRESH_TOKEN),
        ("refresh_token", refresh_token),
    ];
    let must_refresh = [
        ("grant_type", grant::TOKEN_VAULT),
        ("subject_token", refresh_token),
        ("subject_token_type", grant::TOKEN_TYPE_REFRESH_TOKEN),
        (
            "requested_token_type",
            grant::TOKEN_TYPE_FEDERATED_CONNECTION,
        ),
        ("connection", CONNECTION),
        ("min_ttl", "86400"),
    ];
    let answer = browser
        .expect(
            Method::POST,
            &url("oauth/token"),
            None,
            Some(&json!({
                "grant_type": grant::CLIENT_CREDENTIALS,
                "client_id": seeded.administrator.client.client_id,
                "client_secret": seeded.administrator.secret,
                "audience": audience,
            })),
        )
        .await?;
    let post = |form: String| Ask {
        path: PATH.to_owned(),
        bearer: None,
        form: Some(form),
    };
    let get = |path: &str, token: String| Ask {
        path: path.to_owned(),
        bearer: Some(token),
        form: None,
    };
    let all = Errand::ALL.map(|errand| match errand {
        Errand::RefreshGrant => Ok(post(token(&seeded.web, &refresh))),
        Errand::ClientCredentials => Ok(post(token(&seeded.administrator, &credentials))),
        Errand::Refresh | Errand::Herd => Ok(post(token(&seeded.web, &must_refresh))),
        Errand::Accounts => Ok(get("/me/v1/connected-accounts/accounts", me_token.clone())),
        Errand::Users => Ok(get(
            "/api/v2/users?take=100",
            member(&answer, "access_token")?,
        )),
    });
    all.into_iter().collect()
}

/// The access token for the API, and the refresh token.
async fn log_in(browser: &mut Agent, web: &Registered) -> Result<(String, String)> {
    let verifier = seal::random_id(&SystemEntropy, "") + &seal::random_id(&SystemEntropy, "");
    let parsed = CodeVerifier::parse(&verifier).map_err(|refusal| anyhow!("{refusal:?}"))?;
    let authorize = Url::parse_with_params(
        &url("authorize"),
        [
            ("response_type", "code"),
            ("client_id", &web.client.client_id),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile offline_access read:reports"),
            ("audience", API),
            ("state", "bench"),
            (
                "code_challenge",
                CodeChallenge::from_verifier(&parsed).as_str(),
            ),
            ("code_challenge_method", "S256"),
        ],
    )?;
    let stop = pass(browser, authorize.as_str()).await?;
    let answer = browser
        .expect(
            Method::POST,
            &url("oauth/token"),
            None,
            Some(&json!({
                "grant_type": grant::AUTHORIZATION_CODE,
                "client_id": web.client.client_id,
                "client_secret": web.secret,
                "code": stop.answer("code")?,
                "redirect_uri": CALLBACK,
                "code_verifier": verifier,
            })),
        )
        .await?;
    Ok((
        member(&answer, "access_token")?,
        member(&answer, "refresh_token")?,
    ))
}

async fn connect_account(browser: &mut Agent, me_token: &str) -> Result<()> {
    let accounts = url("me/v1/connected-accounts/");
    let started = browser
        .expect(
            Method::POST,
            &format!("{accounts}connect"),
            Some(me_token),
            Some(&json!({
                "connection": CONNECTION,
                "redirect_uri": CALLBACK,
                "state": "bench",
            })),
        )
        .await?;
    let ticket = started
        .pointer("/connect_params/ticket")
        .and_then(Value::as_str)
        .context("no ticket")?;
    let connect = Url::parse_with_params(&member(&started, "connect_uri")?, [("ticket", ticket)])?;
    let stop = pass(browser, connect.as_str()).await?;
    browser
        .expect(
            Method::POST,
            &format!("{accounts}complete"),
            Some(me_token),
            Some(&json!({
                "auth_session": member(&started, "auth_session")?,
                "connect_code": stop.answer("connect_code")?,
                "redirect_uri": CALLBACK,
            })),
        )
        .await?;
    Ok(())
}

/// Goes through the pages of the vault and the sandbox to the callback: a login gets the login, any other question its
/// first button.
async fn pass(browser: &mut Agent, address: &str) -> Result<Stop> {
    let mut stop = browser.open(address, CALLBACK).await?;
    for _ in 0..MOST_HOPS {
        if stop.url.as_str().starts_with(CALLBACK) {
            return Ok(stop);
        }
        let values = match (
            stop.asks_for_password(),
            stop.url.as_str().starts_with(ISSUER),
        ) {
            (true, true) => vec![("username", USERNAME), ("password", PASSWORD)],
            (true, false) => vec![("username", PERSON), ("password", PERSONS_PASSWORD)],
            (false, _) => vec![],
        };
        stop = browser.submit(&stop, &values, CALLBACK).await?;
    }
    bail!("the way to {CALLBACK} does not end")
}

async fn register(vault: &Vault, new: NewClient) -> Result<Registered> {
    let (client, secret) = vault.create_client(new).await.map_err(told("a client"))?;
    Ok(Registered {
        client,
        secret: secret
            .context("a client without a secret")?
            .reveal()
            .to_owned(),
    })
}

pub(crate) fn told(what: &'static str) -> impl Fn(vault::Error) -> anyhow::Error {
    move |error| match error {
        vault::Error::Refused(refusal) => anyhow!("cannot make {what}: {}", refusal.description()),
        vault::Error::Fault(fault) => anyhow!("cannot make {what}: {fault}"),
    }
}

fn url(path: &str) -> String {
    format!("{ISSUER}{path}")
}

fn member(answer: &Value, name: &str) -> Result<String> {
    answer
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("the answer has no '{name}'"))
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
