//! `tokenvault connect`: what an application does so that a person connects an account, done from the command line with
//! that person's browser.
//!
//! 1. Listen at the redirect URI, on loopback.
//! 2. The person logs in (authorization code with PKCE); the code becomes a refresh token.
//! 3. The refresh token becomes a token for the My Account API, which starts the connect flow; the browser is sent on.
//! 4. The person consents at the provider; the code that comes back completes the flow.
//! 5. The refresh token is kept in a file: it is what the application would exchange.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use clap::Args;
use oauth::grant;
use reqwest::Method;
use reqwest::header;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use url::Url;

use crate::admin::output;
use crate::admin::resource;
use crate::admin::secret_input;
use crate::admin::target::Target;
use crate::admin::transport::post_json;
use crate::journey::{challenge_of, member};
use crate::material;

/// How long the person may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Whose account, at which connection.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The connection's name.
    connection: String,
    /// The client that connects: its id or its name.
    #[arg(long = "as", value_name = "CLIENT")]
    client: String,
    /// A file with that client's secret, or - for standard input; without it you are asked.
    #[arg(long, value_name = "FILE")]
    as_secret_file: Option<PathBuf>,
    /// The port of the redirect URI http://localhost:PORT/callback, which has to be one of the client's callbacks.
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    port: u16,
    /// Where to keep the refresh token; the file must not exist yet.
    #[arg(long, value_name = "FILE")]
    refresh_token_out: PathBuf,
}

/// A visit of the browser, and where its answer goes.
type Visit = (HashMap<String, String>, oneshot::Sender<Response>);

/// Runs the command.
pub(crate) async fn run(target: &Target, args: ConnectArgs) -> Result<()> {
    if args.refresh_token_out.exists() {
        bail!("{} exists already", args.refresh_token_out.display());
    }
    let secret = secret_input::secret(args.as_secret_file.as_deref(), "The client's secret")?;
    let client_id = resource::CLIENT.resolve(target, &args.client).await?;
    let listener = TcpListener::bind(("127.0.0.1", args.port))
        .await
        .with_context(|| format!("cannot listen at port {}; --port", args.port))?;
    let redirect_uri = format!("http://localhost:{}/callback", args.port);
    let (sender, mut visits) = mpsc::channel::<Visit>(4);
    let router = axum::Router::new()
        .route("/callback", get(visit))
        .with_state(sender);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let chance = || seal::random_id(&seal::SystemEntropy, "");
    let (state, verifier) = (chance(), chance() + &chance());
    let challenge = challenge_of(&verifier)?;
    let authorize = Url::parse_with_params(
        &format!("{}authorize", target.issuer),
        [
            ("response_type", "code"),
            ("client_id", &client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", "openid offline_access"),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ],
    )?;
    println!("open in a browser: {authorize}");

    let token_url = format!("{}oauth/token", target.issuer);
    let (code, reply) = returned(&mut visits, &state, "code").await?;
    let connecting = async {
        let login = post_json(
            &target.client,
            &token_url,
            &json!({
                "grant_type": grant::AUTHORIZATION_CODE,
                "client_id": client_id,
                "client_secret": secret.reveal(),
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            }),
        )
        .await
        .context("redeeming the code of the login")?;
        let refresh_token = member(&login, "refresh_token").context(
            "the login brought no refresh token; does the client have the grant refresh_token?",
        )?;
        let me = post_json(
            &target.client,
            &token_url,
            &json!({
                "grant_type": grant::REFRESH_TOKEN,
                "client_id": client_id,
                "client_secret": secret.reveal(),
                "refresh_token": refresh_token,
                "audience": format!("{}me/", target.issuer),
                "scope": "create:me:connected_accounts",
            }),
        )
        .await
        .context("getting a token for the My Account API; it has to be in the client's refresh_token.policies and grants")?;
        let me = member(&me, "access_token")?;
        let state = chance();
        let started = my_account(
            target,
            "connect",
            &me,
            &json!({
                "connection": args.connection,
                "redirect_uri": redirect_uri,
                "state": state,
            }),
        )
        .await
        .context("starting the connect flow")?;
        let ticket = started
            .pointer("/connect_params/ticket")
            .and_then(Value::as_str)
            .context("the vault gave no ticket")?;
        let onward =
            Url::parse_with_params(&member(&started, "connect_uri")?, [("ticket", ticket)])?;
        Ok::<_, anyhow::Error>((
            refresh_token,
            me,
            state,
            member(&started, "auth_session")?,
            onward,
        ))
    };
    let (refresh_token, me, state, auth_session, onward) = match connecting.await {
        Ok(connecting) => connecting,
        Err(error) => {
            let _ = reply.send(page("Nothing was connected. The terminal says why."));
            server.abort();
            return Err(error);
        }
    };
    let _ = reply.send(Redirect::to(onward.as_str()).into_response());

    let (connect_code, reply) = returned(&mut visits, &state, "connect_code").await?;
    let completed = my_account(
        target,
        "complete",
        &me,
        &json!({
            "auth_session": auth_session,
            "connect_code": connect_code,
            "redirect_uri": redirect_uri,
        }),
    )
    .await;
    let _ = reply.send(page(match completed {
        Ok(_) => "The account is connected. You can close this page.",
        Err(_) => "Nothing was connected. The terminal says why.",
    }));
    let account = completed.context("completing the connect flow")?;
    material::write_secret(&args.refresh_token_out, &refresh_token)?;
    // The page is on its way to the browser.
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.abort();
    print!("{}", output::object(&account));
    println!(
        "\nthe refresh token to exchange is in {}",
        args.refresh_token_out.display()
    );
    Ok(())
}

async fn visit(
    State(sender): State<mpsc::Sender<Visit>>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let (reply, answer) = oneshot::channel();
    if sender.send((parameters, reply)).await.is_err() {
        return page("Nobody waits for this any more.");
    }
    answer
        .await
        .unwrap_or_else(|_| page("Nobody waits for this any more."))
}

/// Waits for the browser to come back with what was asked for; other visits change nothing.
async fn returned(
    visits: &mut mpsc::Receiver<Visit>,
    state: &str,
    name: &str,
) -> Result<(String, oneshot::Sender<Response>)> {
    let waiting = async {
        while let Some((parameters, reply)) = visits.recv().await {
            if parameters.get("state").map(String::as_str) != Some(state) {
                let _ = reply.send(page("This does not belong to what the terminal waits for."));
                continue;
            }
            if let Some(value) = parameters.get(name) {
                return Ok((value.clone(), reply));
            }
            let text = |name: &str| {
                let value = parameters.get(name).map(String::as_str);
                output::printable(value.unwrap_or_default())
            };
            let _ = reply.send(page("Nothing was connected. The terminal says why."));
            bail!("{}: {}", text("error"), text("error_description"));
        }
        bail!("the listener ended")
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .context("nobody came back in ten minutes")?
}

async fn my_account(target: &Target, path: &str, token: &str, body: &Value) -> Result<Value> {
    let url = format!("{}me/v1/connected-accounts/{path}", target.issuer);
    let response = target
        .client
        .request(Method::POST, &url)
        .bearer_auth(token)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string())
        .send()
        .await?;
    let status = response.status();
    let answer: Value = serde_json::from_slice(&response.bytes().await?)
        .with_context(|| format!("{url} gave no JSON"))?;
    if !status.is_success() {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        bail!(
            "{} {}",
            output::printable(text("title")),
            output::printable(text("detail"))
        );
    }
    Ok(answer)
}

fn page(text: &'static str) -> Response {
    Html(format!(
        "<!doctype html><title>Tokenvault</title><p>{text}</p>"
    ))
    .into_response()
}
