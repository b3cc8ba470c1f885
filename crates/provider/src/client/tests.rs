//! The client against a provider that misbehaves, over real sockets.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawForm, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::settings::ConnectionOptions;
use crate::wire::MAX_BODY;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// Serves a router on a free port of this host.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    origin
}

fn client(origin: &str) -> ProviderClient {
    ProviderClient::new(
        OutboundPolicy {
            allowed_origins: vec![origin.to_owned()],
            deadline: Duration::from_millis(500),
            ..OutboundPolicy::default()
        },
        Catalogue::built_in().unwrap(),
        Arc::new(seal::SystemEntropy),
    )
    .unwrap()
}

fn settings(origin: &str) -> ConnectionSettings {
    ConnectionSettings {
        strategy: "oauth2".to_owned(),
        client_id: "a:b".to_owned(),
        client_secret: Some(SecretString::new("s e&cret".to_owned())),
        options: ConnectionOptions {
            authorization_endpoint: Some(format!("{origin}/authorize?tenant=1")),
            token_endpoint: Some(format!("{origin}/token")),
            userinfo_endpoint: Some(format!("{origin}/userinfo")),
            ..ConnectionOptions::default()
        },
    }
}

async fn refresh_at(
    client: &ProviderClient,
    settings: &ConnectionSettings,
) -> Result<TokenAnswer, Failure> {
    let token = |text: &str| SecretString::new(text.to_owned());
    client
        .refresh(
            settings,
            &RefreshGrant {
                refresh_token: &token("rt"),
                access_token: &token("at"),
                scopes: None,
                granted: &[],
                redirect_uri: "https://v.example/cb",
                variables: NOTHING_LEARNED,
                further: None,
            },
            now(),
        )
        .await
}

async fn refresh<F, R>(
    answer: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Result<TokenAnswer, Failure>
where
    F: Future<Output = R> + Send,
    R: IntoResponse,
{
    let origin = serve(Router::new().route("/token", post(answer))).await;
    refresh_at(&client(&origin), &settings(&origin)).await
}

#[tokio::test]
async fn the_form_and_both_ways_to_authenticate() {
    async fn echo(headers: HeaderMap, RawForm(form): RawForm) -> String {
        let basic = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        let text = format!(
            "{} {}",
            basic.unwrap_or_default(),
            String::from_utf8(form.to_vec()).unwrap()
        );
        serde_json::json!({"access_token": text}).to_string()
    }
    let origin = serve(Router::new().route("/token", post(echo))).await;
    let mut settings = settings(&origin);
    let said = |settings: ConnectionSettings| async {
        let answer = client(&origin)
            .redeem_code(
                &settings,
                &CodeGrant {
                    code: &SecretString::new("c".to_owned()),
                    redirect_uri: "https://v.example/cb",
                    code_verifier: Some(&SecretString::new("v".to_owned())),
                    variables: NOTHING_LEARNED,
                },
                now(),
            )
            .await
            .unwrap();
        (answer.access_token.reveal().to_owned(), settings)
    };
    let (posted, back) = said(settings).await;
    assert_eq!(
        posted,
        " grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fv.example%2Fcb&code_verifier=v\
         &client_id=a%3Ab&client_secret=s+e%26cret"
    );
    settings = back;
    settings.options.token_endpoint_auth_method = Some(ClientAuthentication::ClientSecretBasic);
    settings.options.pkce = Some(false);
    let (basic, _) = said(settings).await;
    assert_eq!(
        basic,
        format!(
            "Basic {} grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fv.example%2Fcb",
            STANDARD.encode("a%3Ab:s+e%26cret")
        )
    );
}

#[tokio::test]
async fn an_authorization_url_keeps_its_query_and_guards_its_own_parameters() {
    let url = client("http://localhost:1")
        .authorization_url(
            &settings("http://localhost:1"),
            &AuthorizationRequest {
                redirect_uri: "https://v.example/cb".to_owned(),
                state: SecretString::new("st".to_owned()),
                scopes: vec!["a".to_owned(), "b".to_owned()],
                code_challenge: Some("ch".to_owned()),
                nonce: Some("no".to_owned()),
                extra: vec![
                    ("prompt".to_owned(), "consent".to_owned()),
                    ("redirect_uri".to_owned(), "https://evil.example".to_owned()),
                ],
            },
            now(),
        )
        .await
        .unwrap();
    assert_eq!(
        url,
        "http://localhost:1/authorize?tenant=1&client_id=a%3Ab&code_challenge=ch&code_challenge_method=S256\
         &prompt=consent&redirect_uri=https%3A%2F%2Fv.example%2Fcb&response_type=code&scope=a+b&state=st"
    );
}

#[tokio::test]
async fn up_01_an_endless_or_slow_body_is_cut() {
    let huge = refresh(|| async { "x".repeat(MAX_BODY + 1) })
        .await
        .unwrap_err();
    assert_eq!(huge.kind, FailureKind::OutcomeUnknown);
    let never = refresh(|| async {
        std::future::pending::<()>().await;
        ""
    })
    .await
    .unwrap_err();
    assert_eq!(never.kind, FailureKind::OutcomeUnknown);
    let slow = refresh(|| async { Response::new(Body::from_stream(futures_pending())) })
        .await
        .unwrap_err();
    assert_eq!(slow.kind, FailureKind::OutcomeUnknown);
}

fn futures_pending() -> impl futures_util::Stream<Item = Result<Vec<u8>, std::io::Error>> + Send {
    futures_util::stream::pending()
}

#[tokio::test]
async fn up_02_a_compressed_answer_is_not_opened() {
    let failure = refresh(|| async { ([("content-encoding", "gzip")], "x") })
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::OutcomeUnknown);
}

#[tokio::test]
async fn up_10_a_wait_is_kept_and_capped() {
    for (header, seconds) in [
        ("7", Some(7)),
        ("1000000000000", Some(3600)),
        ("soon", None),
    ] {
        let failure = refresh(move || async move {
            (
                http::StatusCode::TOO_MANY_REQUESTS,
                [("retry-after", header)],
            )
        })
        .await
        .unwrap_err();
        assert_eq!(
            failure.kind,
            FailureKind::RateLimited {
                retry_after: seconds.map(Duration::from_secs)
            }
        );
    }
}

#[tokio::test]
async fn ss_11_a_redirect_is_an_answer_and_not_followed() {
    let hits = Arc::new(AtomicU32::new(0));
    let router = Router::new()
        .route("/token", post(|| async { Redirect::temporary("/inner") }))
        .route(
            "/inner",
            any(|State(hits): State<Arc<AtomicU32>>| async move {
                hits.fetch_add(1, Ordering::SeqCst);
                r#"{"access_token":"a"}"#
            }),
        )
        .with_state(Arc::clone(&hits));
    let origin = serve(router).await;
    let failure = refresh_at(&client(&origin), &settings(&origin))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidResponse);
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nobody_listening_means_that_nothing_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = refresh_at(&client(&origin), &settings(&origin))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
}

#[tokio::test]
async fn ss_02_08_an_origin_that_is_not_allowed_gets_no_packet() {
    let origin =
        serve(Router::new().route("/token", post(|| async { r#"{"access_token":"a"}"# }))).await;
    let guarded = client("https://elsewhere.example");
    let failure = refresh_at(&guarded, &settings(&origin)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    let by_name = refresh_at(&guarded, &settings("https://localhost"))
        .await
        .unwrap_err();
    assert_eq!(by_name.kind, FailureKind::Refused);
}

#[tokio::test]
async fn userinfo_says_who_it_is_where_there_is_no_id_token() {
    let router = Router::new().route(
        "/userinfo",
        get(|headers: HeaderMap| async move {
            assert_eq!(headers["authorization"], "Bearer at");
            r#"{"id":42,"login":"bob","email":"bob@x.example"}"#
        }),
    );
    let origin = serve(router).await;
    let answer = token_answer::read(
        200,
        None,
        br#"{"access_token":"at"}"#,
        Catalogue::built_in().unwrap().get("oauth2").unwrap(),
        &ConnectionOptions::default(),
        None,
        now(),
    )
    .unwrap();
    let identity = client(&origin)
        .identify(&settings(&origin), &answer, None, NOTHING_LEARNED, now())
        .await
        .unwrap();
    assert_eq!(identity.subject, "42");
    assert_eq!(identity.email.as_deref(), Some("bob@x.example"));
    let mut without = settings(&origin);
    without.options.userinfo_endpoint = None;
    let unknown = client(&origin)
        .identify(&without, &answer, None, NOTHING_LEARNED, now())
        .await
        .unwrap();
    assert_eq!(unknown, Identity::default());
}
