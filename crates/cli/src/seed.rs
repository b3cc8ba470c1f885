//! What a development deployment begins with: clients of every kind, an API, a user, and the connection `sandbox`.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use oauth::grant;
use provider::ConnectionOptions;
use seal::{Algorithm, SecretString, SigningKey, SystemEntropy};
use vault::{
    ApiScope, AppType, KeyPurpose, MANAGEMENT_SCOPES, NewApi, NewClient, NewConnection, NewUser,
    PrivilegedAccess, PrivilegedGrant, RefreshTokenPolicy, ResourcePolicy, Rotation, SubjectType,
    TokenEndpointAuthMethod, Vault,
};

use crate::dev_file::{
    Clients, DemoClient, DemoUser, DevFile, Management, SandboxInfo, SandboxLogin,
};
use crate::material;

/// The API that the demo's applications call.
pub(crate) const DEMO_API: &str = "https://demo-api.example/";
/// The connection to the sandbox.
pub(crate) const CONNECTION: &str = "sandbox";
/// What the vault asks the sandbox for when nobody says otherwise.
pub(crate) const SANDBOX_SCOPES: &[&str] = &[
    "openid",
    "profile",
    "email",
    "offline_access",
    "files.read",
    "calendar.read",
];
const MY_ACCOUNT_SCOPES: &[&str] = &[
    "create:me:connected_accounts",
    "read:me:connected_accounts",
    "delete:me:connected_accounts",
];
const WEB_REDIRECT_URI: &str = "http://localhost:3000/auth/callback";
const SPA_REDIRECT_URI: &str = "http://localhost:5173/";

/// Makes all of it in an empty deployment and says what was made.
pub(crate) async fn seed(
    vault: &Vault,
    directory: &Path,
    ca_file: &Path,
    sandbox_url: &str,
    sandbox_client: (&str, &str),
) -> Result<DevFile> {
    let issuer = vault.settings().issuer.clone();
    let me = issuer.me_audience();
    let management_audience = issuer.management_audience();

    made(
        "the demo API",
        vault
            .create_api(NewApi {
                identifier: DEMO_API.to_owned(),
                name: "Demo API".to_owned(),
                scopes: ["read:reports", "write:reports"]
                    .map(ApiScope::from)
                    .to_vec(),
                ..NewApi::default()
            })
            .await,
    )?;

    let policies = vec![
        ResourcePolicy {
            audience: me.clone(),
            scope: words(MY_ACCOUNT_SCOPES),
        },
        ResourcePolicy {
            audience: DEMO_API.to_owned(),
            scope: words(&["read:reports", "write:reports"]),
        },
    ];
    let (web, web_secret) = made(
        "the web client",
        vault
            .create_client(NewClient {
                name: "Demo web application".to_owned(),
                app_type: AppType::RegularWeb,
                token_endpoint_auth_method: TokenEndpointAuthMethod::ClientSecretPost,
                grant_types: words(&[
                    grant::AUTHORIZATION_CODE,
                    grant::REFRESH_TOKEN,
                    grant::CLIENT_CREDENTIALS,
                    grant::TOKEN_VAULT,
                ]),
                callbacks: words(&[
                    WEB_REDIRECT_URI,
                    "http://localhost:3000/callback",
                    "http://localhost:3000/",
                ]),
                allowed_logout_urls: words(&["http://localhost:3000", "http://localhost:3000/"]),
                allowed_origins: words(&["http://localhost:3000"]),
                refresh_token: RefreshTokenPolicy {
                    rotation_type: Rotation::NonRotating,
                    policies: policies.clone(),
                    ..RefreshTokenPolicy::default()
                },
                ..NewClient::default()
            })
            .await,
    )?;
    let (spa, _) = made(
        "the single-page client",
        vault
            .create_client(NewClient {
                name: "Demo single-page application".to_owned(),
                app_type: AppType::Spa,
                token_endpoint_auth_method: TokenEndpointAuthMethod::None,
                grant_types: words(&[grant::AUTHORIZATION_CODE, grant::REFRESH_TOKEN]),
                callbacks: words(&[
                    SPA_REDIRECT_URI,
                    "http://localhost:5173",
                    "http://localhost:5173/callback",
                ]),
                allowed_logout_urls: words(&["http://localhost:5173", SPA_REDIRECT_URI]),
                allowed_origins: words(&["http://localhost:5173"]),
                refresh_token: RefreshTokenPolicy {
                    rotation_type: Rotation::Rotating,
                    policies,
                    ..RefreshTokenPolicy::default()
                },
                ..NewClient::default()
            })
            .await,
    )?;
    let (api, api_secret) = made(
        "the API's client",
        vault
            .create_client(NewClient {
                name: "Demo API's own client".to_owned(),
                app_type: AppType::ResourceServer,
                token_endpoint_auth_method: TokenEndpointAuthMethod::ClientSecretPost,
                grant_types: words(&[grant::TOKEN_VAULT]),
                resource_server_identifier: Some(DEMO_API.to_owned()),
                ..NewClient::default()
            })
            .await,
    )?;
    let (worker, worker_secret) = made(
        "the worker client",
        vault
            .create_client(NewClient {
                name: "Demo background worker".to_owned(),
                app_type: AppType::NonInteractive,
                token_endpoint_auth_method: TokenEndpointAuthMethod::ClientSecretPost,
                grant_types: words(&[grant::TOKEN_VAULT, grant::CLIENT_CREDENTIALS]),
                privileged_access: Some(PrivilegedAccess {
                    ip_allowlist: words(&["127.0.0.0/8", "::1"]),
                    grants: vec![PrivilegedGrant {
                        connection: CONNECTION.to_owned(),
                        scopes: words(SANDBOX_SCOPES),
                    }],
                }),
                ..NewClient::default()
            })
            .await,
    )?;
    let (management, management_secret) = made(
        "the management client",
        vault
            .create_client(NewClient {
                name: "Demo administrator".to_owned(),
                app_type: AppType::NonInteractive,
                token_endpoint_auth_method: TokenEndpointAuthMethod::ClientSecretPost,
                grant_types: words(&[grant::CLIENT_CREDENTIALS]),
                ..NewClient::default()
            })
            .await,
    )?;

    let demo_scopes = &["read:reports", "write:reports"][..];
    let management_scopes: Vec<&str> = MANAGEMENT_SCOPES.iter().map(|(scope, _)| *scope).collect();
    for (client_id, audience, scopes, subject_type) in [
        (
            &web.client_id,
            me.as_str(),
            MY_ACCOUNT_SCOPES,
            SubjectType::User,
        ),
        (
            &spa.client_id,
            me.as_str(),
            MY_ACCOUNT_SCOPES,
            SubjectType::User,
        ),
        (&web.client_id, DEMO_API, demo_scopes, SubjectType::Client),
        (
            &worker.client_id,
            DEMO_API,
            demo_scopes,
            SubjectType::Client,
        ),
        (
            &management.client_id,
            management_audience.as_str(),
            &management_scopes,
            SubjectType::Client,
        ),
    ] {
        made(
            "a client grant",
            vault
                .create_client_grant(client_id, audience, subject_type, words(scopes))
                .await,
        )?;
    }

    let worker_key_file = directory.join("worker.key");
    let key = SigningKey::generate(Algorithm::Rs256)
        .map_err(|error| anyhow!("the worker's key: {error}"))?;
    let pem = key
        .to_pem()
        .map_err(|error| anyhow!("the worker's key: {error}"))?;
    material::write_secret(&worker_key_file, pem.reveal())?;
    let worker_kid = made(
        "the worker's key",
        vault
            .create_client_key(
                &worker.client_id,
                KeyPurpose::PrivilegedAccess,
                Algorithm::Rs256,
                &key.public_jwk("worker-key-1"),
                None,
            )
            .await,
    )?;

    let connection = made(
        "the sandbox connection",
        vault
            .create_connection(NewConnection {
                name: CONNECTION.to_owned(),
                strategy: "sandbox".to_owned(),
                display_name: "Sandbox".to_owned(),
                client_id: sandbox_client.0.to_owned(),
                client_secret: Some(SecretString::new(sandbox_client.1.to_owned())),
                options: ConnectionOptions {
                    issuer: Some(sandbox_url.to_owned()),
                    ..ConnectionOptions::default()
                },
                scopes: words(SANDBOX_SCOPES),
            })
            .await,
    )?;
    for client in [&web, &spa, &api, &worker] {
        made(
            "the sandbox connection for a client",
            vault
                .enable_connection(&connection.id, &client.client_id)
                .await,
        )?;
    }

    let user_password = seal::random_id(&SystemEntropy, "");
    let username = "demo@example.com";
    let user = made(
        "the demo user",
        vault
            .create_user(NewUser {
                username: username.to_owned(),
                password: SecretString::new(user_password.clone()),
                email: Some(username.to_owned()),
                name: Some("Dana Demo".to_owned()),
            })
            .await,
    )?;

    let text = |secret: Option<SecretString>| secret.map(|secret| secret.reveal().to_owned());
    Ok(DevFile {
        domain: issuer.domain().to_owned(),
        issuer: issuer.as_str().to_owned(),
        ca_file: ca_file.to_owned(),
        management: Management {
            client_id: management.client_id,
            client_secret: text(management_secret).unwrap_or_default(),
            audience: management_audience,
        },
        clients: Clients {
            web: DemoClient {
                client_id: web.client_id,
                client_secret: text(web_secret),
                redirect_uri: Some(WEB_REDIRECT_URI.to_owned()),
                audience: Some(DEMO_API.to_owned()),
                ..DemoClient::default()
            },
            spa: DemoClient {
                client_id: spa.client_id,
                redirect_uri: Some(SPA_REDIRECT_URI.to_owned()),
                audience: Some(DEMO_API.to_owned()),
                ..DemoClient::default()
            },
            api: DemoClient {
                client_id: api.client_id,
                client_secret: text(api_secret),
                audience: Some(DEMO_API.to_owned()),
                ..DemoClient::default()
            },
            worker: DemoClient {
                client_id: worker.client_id,
                client_secret: text(worker_secret),
                private_key_file: Some(worker_key_file),
                alg: Some("RS256".to_owned()),
                kid: Some(worker_kid),
                audience: Some(DEMO_API.to_owned()),
                ..DemoClient::default()
            },
        },
        user: DemoUser {
            user_id: user.id,
            username: username.to_owned(),
            password: user_password,
        },
        sandbox: SandboxInfo {
            base_url: sandbox_url.to_owned(),
            connection: CONNECTION.to_owned(),
            client_id: sandbox_client.0.to_owned(),
            client_secret: sandbox_client.1.to_owned(),
            accounts: sandbox_logins(),
        },
    })
}

/// The people of the sandbox. Their passwords guard nothing.
pub(crate) fn sandbox_logins() -> Vec<SandboxLogin> {
    ["alice@sandbox.example", "bob@sandbox.example"]
        .into_iter()
        .map(|username| SandboxLogin {
            username: username.to_owned(),
            password: "sandbox".to_owned(),
        })
        .collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn made<T>(what: &str, result: Result<T, vault::Error>) -> Result<T> {
    result
        .map_err(crate::said)
        .with_context(|| format!("cannot make {what}"))
}
