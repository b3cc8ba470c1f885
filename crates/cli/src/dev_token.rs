//! `tokenvault dev-token`: prints a token for trying things out with `curl` against `tokenvault dev`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::Value;

use crate::dev_file::DevFile;
use crate::journey::{self, Journey, Tokens};

/// What `dev-token` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct DevTokenArgs {
    /// Which token to print.
    kind: Kind,
    /// The folder of the running development deployment.
    #[arg(long, value_name = "DIR", default_value = "./.tokenvault")]
    data: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Logs the demo user in at the web application and prints the access token for the demo API.
    AccessToken,
    /// Logs the demo user in at the web application and prints the refresh token.
    RefreshToken,
    /// Signs a request for the demo user with the worker's key; good for a minute and once.
    WorkerRequest,
    /// The demo administrator's access token for the Management API.
    Management,
}

/// Prints the token; a subject token after connecting the sandbox account if the demo user has none.
pub(crate) async fn run(args: DevTokenArgs) -> Result<()> {
    let dev = DevFile::read(&args.data)?.with_context(|| {
        format!(
            "there is no development deployment in {}",
            args.data.display()
        )
    })?;
    let mut journey = Journey::new(&dev)?;
    let token = match args.kind {
        Kind::AccessToken => with_account(&mut journey).await?.access_token,
        Kind::RefreshToken => with_account(&mut journey).await?.refresh_token,
        Kind::WorkerRequest => {
            with_account(&mut journey).await?;
            journey::worker_request(&dev)?
        }
        Kind::Management => journey.management_token().await?,
    };
    println!("{token}");
    Ok(())
}

/// Logs the demo user in, who afterwards has an account at the sandbox.
async fn with_account(journey: &mut Journey<'_>) -> Result<Tokens> {
    let tokens = journey.log_in().await?;
    let me = journey.my_account_token(&tokens.refresh_token).await?;
    let sandbox = &journey.dev.sandbox;
    let path = format!(
        "me/v1/connected-accounts/accounts?connection={}",
        sandbox.connection
    );
    let accounts = journey
        .agent
        .expect(Method::GET, &journey.url(&path), Some(&me), None)
        .await?;
    let connected = accounts
        .get("accounts")
        .and_then(Value::as_array)
        .is_some_and(|accounts| !accounts.is_empty());
    if !connected {
        let login = sandbox
            .accounts
            .first()
            .context("dev.json: sandbox.accounts")?;
        journey.connect(&me, login).await?;
    }
    Ok(tokens)
}
