//! What scripts of other origins may read (threats WB-10, contract 7.13).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{World, story};
use anyhow::Result;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

/// The web client's own origin; the single page's comes from its callback.
const OURS: [&str; 2] = ["https://app.test", "https://spa.test"];
const THEIRS: [&str; 6] = [
    "https://evil.test",
    "https://app.test.evil.test",
    "http://app.test",
    "https://app.test:8443",
    "https://APP.test",
    "null",
];
/// What a registered origin may call.
const SHARED_WITH_CLIENTS: [&str; 6] = [
    "oauth/token",
    "oauth/revoke",
    "userinfo",
    "me/v1/connected-accounts/accounts",
    "me/v1/connected-accounts/connect",
    "me/v1/connected-accounts/complete",
];
/// What nobody but our own pages may call.
const SHARED_WITH_NOBODY: [&str; 9] = [
    "authorize",
    "oauth/par",
    "u/login",
    "u/consent",
    "connected-accounts/connect",
    "connect/callback/x",
    "oidc/logout",
    "v2/logout",
    "",
];

async fn answer(
    world: &World,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(StatusCode, HeaderMap)> {
    let mut request = world.agent.request(method, &world.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await?;
    Ok((answer.status(), answer.headers().clone()))
}

async fn preflight(world: &World, path: &str, origin: &str) -> Result<(StatusCode, HeaderMap)> {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization, content-type, auth0-client",
        ),
    ];
    answer(world, Method::OPTIONS, path, &headers).await
}

/// Whatever is shared, a browser never sends cookies along.
fn assert_no_credentials(headers: &HeaderMap, what: &str) {
    assert!(
        !headers.contains_key("access-control-allow-credentials"),
        "{what}"
    );
}

story!(
    wb_10_a_clients_origin_may_call_and_others_may_not,
    |world| {
        for path in SHARED_WITH_CLIENTS {
            for origin in OURS {
                let (status, headers) = preflight(world, path, origin).await?;
                assert_eq!(status, 204, "{path} {origin}");
                assert_eq!(headers["access-control-allow-origin"], origin, "{path}");
                let methods = headers["access-control-allow-methods"].to_str()?;
                assert!(methods.contains("POST") && methods.contains("DELETE"));
                let allowed = headers["access-control-allow-headers"].to_str()?;
                for name in ["authorization", "content-type", "auth0-client"] {
                    assert!(allowed.contains(name), "{allowed}");
                }
                assert!(headers["vary"].to_str()?.contains("origin"), "{path}");
                assert_no_credentials(&headers, path);
                // The answer itself, here an error, can be read as well, and so can the headers that SDKs need.
                let (status, headers) =
                    answer(world, Method::POST, path, &[("origin", origin)]).await?;
                assert!(status.is_client_error(), "{path} {status}");
                assert_eq!(headers["access-control-allow-origin"], origin, "{path}");
                let exposed = headers["access-control-expose-headers"].to_str()?;
                for name in ["dpop-nonce", "www-authenticate", "location"] {
                    assert!(exposed.contains(name), "{exposed}");
                }
            }
            for origin in THEIRS {
                for (status, headers) in [
                    preflight(world, path, origin).await?,
                    answer(world, Method::POST, path, &[("origin", origin)]).await?,
                ] {
                    let what = format!("{path} {origin} {status}");
                    assert!(
                        !headers.contains_key("access-control-allow-origin"),
                        "{what}"
                    );
                    assert!(
                        !headers.contains_key("access-control-allow-methods"),
                        "{what}"
                    );
                    assert!(headers["vary"].to_str()?.contains("origin"), "{what}");
                    assert_no_credentials(&headers, &what);
                }
            }
        }
    }
);

story!(wb_10_pages_are_shared_with_nobody, |world| {
    for path in SHARED_WITH_NOBODY {
        for origin in OURS.iter().chain(&THEIRS) {
            for (status, headers) in [
                preflight(world, path, origin).await?,
                answer(world, Method::GET, path, &[("origin", origin)]).await?,
            ] {
                let what = format!("{path} {origin} {status}");
                for name in headers.keys() {
                    assert!(!name.as_str().starts_with("access-control-"), "{what}");
                }
            }
        }
    }
});

story!(wb_10_discovery_and_keys_are_for_anybody, |world| {
    for path in [
        ".well-known/openid-configuration",
        ".well-known/oauth-authorization-server",
        ".well-known/jwks.json",
    ] {
        let (status, headers) =
            answer(world, Method::GET, path, &[("origin", "https://evil.test")]).await?;
        assert_eq!(status, 200, "{path}");
        assert_eq!(headers["access-control-allow-origin"], "*", "{path}");
        assert_no_credentials(&headers, path);
    }
});

story!(wb_10_an_origin_goes_with_its_client, |world| {
    let (_, headers) = preflight(world, "oauth/token", OURS[1]).await?;
    assert_eq!(headers["access-control-allow-origin"], OURS[1]);
    let spa = world.clients.spa.client.client_id.clone();
    world
        .execute(
            "update clients set disabled_at = 1 where client_id = $1",
            store::params![spa],
        )
        .await;
    let (_, headers) = preflight(world, "oauth/token", OURS[1]).await?;
    assert!(!headers.contains_key("access-control-allow-origin"));
    // Two origins are none.
    let both = [("origin", OURS[0]), ("origin", OURS[0])];
    let (_, headers) = answer(world, Method::POST, "oauth/token", &both).await?;
    assert!(!headers.contains_key("access-control-allow-origin"));
});
