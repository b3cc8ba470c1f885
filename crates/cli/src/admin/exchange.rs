//! `tokenvault exchange`: gets a provider's token as a client would, for debugging.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use oauth::grant;
use seal::{Algorithm, SigningKey};
use serde_json::{Value, json};
use vault::Clock as _;

use crate::admin::output;
use crate::admin::resource;
use crate::admin::secret_input;
use crate::admin::target::Target;
use crate::admin::transport::post_json;

/// As which client, with which subject token.
#[derive(Debug, Args)]
pub(crate) struct ExchangeArgs {
    /// The connection's name.
    connection: String,
    /// The client that exchanges: its id or its name.
    #[arg(long = "as", value_name = "CLIENT")]
    client: String,
    /// A file with that client's secret, or - for standard input; without it you are asked.
    #[arg(long, value_name = "FILE")]
    as_secret_file: Option<PathBuf>,
    #[command(flatten)]
    subject: Subject,
    /// Which of several accounts: an id, a login or an e-mail address.
    #[arg(long, value_name = "HINT")]
    login_hint: Option<String>,
    /// Prints the token on a terminal, too. Into a pipe or a file, it is all that is printed.
    #[arg(long)]
    show_token: bool,
}

/// Whom the token is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Subject {
    /// A file with the client's own refresh token of the user.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["access_token_file", "worker_key_file"])]
    refresh_token_file: Option<PathBuf>,
    /// A file with an access token that the client's API was called with.
    #[arg(long, value_name = "FILE", conflicts_with = "worker_key_file")]
    access_token_file: Option<PathBuf>,
    /// A file with the worker's private key in PEM, which signs a request for --user.
    #[arg(long, value_name = "FILE", requires = "user", requires = "kid")]
    worker_key_file: Option<PathBuf>,
    /// The user whom the worker asks for.
    #[arg(long, value_name = "USER_ID", requires = "worker_key_file")]
    user: Option<String>,
    /// The key's id, as it is registered.
    #[arg(long, value_name = "KID", requires = "worker_key_file")]
    kid: Option<String>,
    /// What the worker's key signs with.
    #[arg(long, value_name = "ALG", default_value = "RS256")]
    alg: String,
}

impl Subject {
    /// The token, its type, and what is asked for in return.
    fn token(&self, issuer: &str, client_id: &str) -> Result<(String, &'static str, &'static str)> {
        let read = |path: &PathBuf| secret_input::secret(Some(path), "The subject token");
        if let Some(path) = &self.refresh_token_file {
            return Ok((
                read(path)?.reveal().to_owned(),
                grant::TOKEN_TYPE_REFRESH_TOKEN,
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ));
        }
        if let Some(path) = &self.access_token_file {
            return Ok((
                read(path)?.reveal().to_owned(),
                grant::TOKEN_TYPE_ACCESS_TOKEN,
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ));
        }
        let path = self.worker_key_file.as_ref().context(
            "name a subject token: --refresh-token-file, --access-token-file or --worker-key-file",
        )?;
        let pem = secret_input::secret(Some(path), "The worker's key")?;
        let algorithm = Algorithm::from_str(&self.alg)
            .with_context(|| format!("--alg: '{}' is no algorithm", self.alg))?;
        let now = vault::SystemClock.now().as_second();
        let claims = json!({
            "iss": client_id,
            "sub": self.user,
            "aud": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + 60,
            "jti": seal::random_id(&seal::SystemEntropy, ""),
            "audit_context": "tokenvault exchange, from the command line",
        });
        let request = SigningKey::from_pem(algorithm, pem.reveal())
            .and_then(|key| key.sign(self.kid.as_deref(), "token-vault-req+jwt", &claims))
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        Ok((
            request,
            grant::TOKEN_TYPE_JWT,
            grant::TOKEN_TYPE_TOKEN_VAULT,
        ))
    }
}

/// Exchanges and prints what came: the token alone into a pipe, else everything but the token.
pub(crate) async fn run(target: &Target, args: ExchangeArgs, as_json: bool) -> Result<()> {
    let secret = secret_input::secret(args.as_secret_file.as_deref(), "The client's secret")?;
    let client_id = resource::CLIENT.resolve(target, &args.client).await?;
    let (token, kind, requested) = args.subject.token(&target.issuer, &client_id)?;
    let mut body = json!({
        "grant_type": grant::TOKEN_VAULT,
        "client_id": client_id,
        "client_secret": secret.reveal(),
        "subject_token": token,
        "subject_token_type": kind,
        "requested_token_type": requested,
        "connection": args.connection,
    });
    if let (Some(hint), Some(body)) = (args.login_hint, body.as_object_mut()) {
        body.insert("login_hint".to_owned(), Value::String(hint));
    }
    let url = format!("{}oauth/token", target.issuer);
    let mut answer = post_json(&target.client, &url, &body).await?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let token = answer
        .get("access_token")
        .and_then(Value::as_str)
        .context("the answer has no access token")?
        .to_owned();
    if args.show_token || !std::io::stdout().is_terminal() {
        println!("{token}");
        return Ok(());
    }
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("access_token");
    }
    print!("{}", output::object(&answer));
    eprintln!("the token is not shown; --show-token, or send it into a pipe");
    Ok(())
}
