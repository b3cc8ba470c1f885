//! `tokenvault demo`: the main job against itself, told step by step. Exits 0 when every step worked.

use std::future::Future;

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::dev::{self, DevArgs};
use crate::journey::{Exchange, Journey, member};

/// Runs it in a temporary folder, which is gone afterwards.
pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let args = DevArgs {
        data: folder.path().to_owned(),
        port: free_port().await?,
        domain: "localhost".to_owned(),
        connections: None,
        providers: None,
        simulate: Vec::new(),
        allow_origin: vec![],
        trust_ca: vec![],
        log: "warn".to_owned(),
    };
    let mut teller = Teller { step: 0 };
    let running = teller
        .tell("start a vault and a sandbox provider", dev::start(&args))
        .await?;
    println!(
        "   {} and {}",
        running.dev.issuer, running.dev.sandbox.base_url
    );
    let outcome = main_job(&mut teller, &running.dev).await;
    running.stop().await?;
    outcome?;
    println!("\nEvery step worked.");
    Ok(())
}

async fn main_job(teller: &mut Teller, dev: &crate::dev_file::DevFile) -> Result<()> {
    let mut journey = Journey::new(dev)?;
    let login = dev.sandbox.accounts.first().context("a sandbox account")?;
    let token_url = journey.url("oauth/token");

    let tokens = teller
        .tell(
            "log in: authorization code with PKCE, in a browser without JavaScript",
            journey.log_in(),
        )
        .await?;
    show("access_token", &tokens.access_token);
    show("refresh_token", &tokens.refresh_token);
    show("id_token", &tokens.id_token);

    let me = teller
        .tell(
            "get a token for the My Account API from the same refresh token",
            journey.my_account_token(&tokens.refresh_token),
        )
        .await?;
    show("access_token", &me);

    let too_early = journey.exchange_body(Exchange::RefreshToken(&tokens.refresh_token))?;
    teller
        .tell("exchange before anything is connected: refused", async {
            request("POST", &token_url, &too_early);
            let (status, answer) = journey
                .agent
                .call(Method::POST, &token_url, None, Some(&too_early))
                .await?;
            response(status, &answer);
            if status != StatusCode::UNAUTHORIZED {
                bail!("expected 401");
            }
            Ok(())
        })
        .await?;

    let started = teller
        .tell(
            "ask for a connection: the application gets a ticket for the browser",
            async {
                let started = journey.start_connect(&me).await?;
                response(StatusCode::CREATED, &started);
                Ok(started)
            },
        )
        .await?;
    let connect_code = teller
        .tell(
            "open the ticket, consent at the sandbox, come back with a connect code",
            journey.consent(&started, login),
        )
        .await?;
    show("connect_code", &connect_code);
    teller
        .tell(
            "complete: only now the provider's code is redeemed",
            async {
                let account = journey.complete(&me, &started, &connect_code).await?;
                response(StatusCode::CREATED, &account);
                Ok(())
            },
        )
        .await?;

    let mut provider_token = String::new();
    for (title, kind) in [
        (
            "exchange 1 of 3: the web application's refresh token",
            Exchange::RefreshToken(&tokens.refresh_token),
        ),
        (
            "exchange 2 of 3: the access token that an API was called with",
            Exchange::AccessToken(&tokens.access_token),
        ),
        (
            "exchange 3 of 3: a background worker's signed request, no user present",
            Exchange::Worker,
        ),
    ] {
        let body = journey.exchange_body(kind)?;
        provider_token = teller
            .tell(title, async {
                request("POST", &token_url, &body);
                let answer = journey.token(body.clone()).await?;
                response(StatusCode::OK, &answer);
                member(&answer, "access_token")
            })
            .await?;
    }

    teller
        .tell("call the provider's own API with what came out", async {
            let url = format!("{}/api/me", dev.sandbox.base_url);
            let answer = journey
                .agent
                .expect(Method::GET, &url, Some(&provider_token), None)
                .await?;
            response(StatusCode::OK, &answer);
            Ok(())
        })
        .await?;

    teller
        .tell(
            "ask for more life than the token has left: it is refreshed first",
            async {
                let mut body =
                    journey.exchange_body(Exchange::RefreshToken(&tokens.refresh_token))?;
                let before = journey.token(body.clone()).await?;
                let left = before
                    .get("expires_in")
                    .and_then(Value::as_u64)
                    .context("expires_in is no number")?;
                let min_ttl = left + 1;
                if let Some(body) = body.as_object_mut() {
                    body.insert("min_ttl".to_owned(), json!(min_ttl));
                }
                request("POST", &token_url, &body);
                let after = journey.token(body).await?;
                response(StatusCode::OK, &after);
                if member(&before, "access_token")? == member(&after, "access_token")? {
                    bail!("the token is still the old one");
                }
                Ok(())
            },
        )
        .await?;

    teller
        .tell(
            "disconnect the account: the next exchange is refused",
            async {
                let accounts_url = journey.url("me/v1/connected-accounts/accounts");
                let list = journey
                    .agent
                    .expect(Method::GET, &accounts_url, Some(&me), None)
                    .await?;
                let id = list
                    .pointer("/accounts/0/id")
                    .and_then(Value::as_str)
                    .context("the list is empty")?;
                journey
                    .agent
                    .expect(
                        Method::DELETE,
                        &format!("{accounts_url}/{id}"),
                        Some(&me),
                        None,
                    )
                    .await?;
                let body = journey.exchange_body(Exchange::RefreshToken(&tokens.refresh_token))?;
                let (status, answer) = journey
                    .agent
                    .call(Method::POST, &token_url, None, Some(&body))
                    .await?;
                response(status, &answer);
                if status != StatusCode::UNAUTHORIZED {
                    bail!("expected 401");
                }
                Ok(())
            },
        )
        .await
}

/// Numbers the steps and names the one that fails.
struct Teller {
    step: u32,
}

impl Teller {
    async fn tell<T>(&mut self, title: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        self.step += 1;
        println!("\n{}. {title}", self.step);
        step.await
            .with_context(|| format!("step {} failed: {title}", self.step))
    }
}

fn show(name: &str, value: &str) {
    println!("   {name}: {}", shortened(value));
}

fn request(method: &str, url: &str, body: &Value) {
    println!("   > {method} {url}");
    for (name, value) in body.as_object().into_iter().flatten() {
        println!("   >   {name}: {}", printed(name, value));
    }
}

fn response(status: StatusCode, body: &Value) {
    println!("   < {status}");
    for (name, value) in body.as_object().into_iter().flatten() {
        println!("   <   {name}: {}", printed(name, value));
    }
}

/// Tokens and secrets are cut; everything else is shown.
fn printed(name: &str, value: &Value) -> String {
    match value {
        Value::String(text)
            if name.ends_with("_token") || name.ends_with("_secret") || name == "auth_session" =>
        {
            shortened(text)
        }
        Value::String(text) => text.clone(),
        Value::Object(inner) => {
            let parts: Vec<String> = inner
                .iter()
                .map(|(name, value)| match value {
                    Value::String(text) if name == "ticket" => {
                        format!("{name}: {}", shortened(text))
                    }
                    other => format!("{name}: {other}"),
                })
                .collect();
            format!("{{ {} }}", parts.join(", "))
        }
        other => other.to_string(),
    }
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(12).collect();
    let length = text.chars().count();
    if length <= 12 {
        start
    } else {
        format!("{start}… ({length} characters)")
    }
}

/// A port whose successor is free too.
async fn free_port() -> Result<u16> {
    for _ in 0..50 {
        let first = TcpListener::bind("127.0.0.1:0").await?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).await.is_ok() {
            return Ok(port);
        }
    }
    bail!("no two free ports side by side")
}
