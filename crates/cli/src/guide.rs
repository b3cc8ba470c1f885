//! What `tokenvault dev` prints: where everything is, how to log in, and a `curl` for each exchange.

use anyhow::Result;
use oauth::grant;

use crate::dev::DevArgs;
use crate::dev_file::{DemoClient, DevFile};

/// Prints it to standard output.
pub(crate) fn print(dev: &DevFile, args: &DevArgs, first_start: bool) -> Result<()> {
    println!("{}", text(dev, args, first_start)?);
    Ok(())
}

fn text(dev: &DevFile, args: &DevArgs, first_start: bool) -> Result<String> {
    let directory = std::fs::canonicalize(&args.data)?;
    let program = std::env::current_exe()?;
    let token = |kind: &str| {
        format!(
            "\"$({} dev-token {kind} --data {})\"",
            quoted(&program.display().to_string()),
            quoted(&directory.display().to_string())
        )
    };
    let curl = |client: &DemoClient, kind: &str, subject_type: &str, requested: &str| {
        let lines = [
            format!(
                "curl --cacert {} {}oauth/token",
                quoted(&dev.ca_file.display().to_string()),
                dev.issuer
            ),
            format!("  -d grant_type={}", grant::TOKEN_VAULT),
            format!("  -d client_id={}", client.client_id),
            format!(
                "  -d client_secret={}",
                client.client_secret.as_deref().unwrap_or_default()
            ),
            format!("  -d subject_token={}", token(kind)),
            format!("  -d subject_token_type={subject_type}"),
            format!("  -d requested_token_type={requested}"),
            format!("  -d connection={}", dev.sandbox.connection),
        ];
        lines.join(" \\\n")
    };
    let made = if first_start {
        "made a new deployment in"
    } else {
        "opened the deployment in"
    };
    let accounts: Vec<String> = dev
        .sandbox
        .accounts
        .iter()
        .map(|account| format!("{} / {}", account.username, account.password))
        .collect();
    Ok(format!(
        "tokenvault dev: {made} {directory}

  vault        {issuer}
  discovery    {issuer}.well-known/openid-configuration
  sandbox      {sandbox}   (a provider to connect accounts at, connection '{connection}')
  trust        {ca}   (the certificate authority of both)
  everything   {dev_json}

{simulated}  log in as    {username} / {password}
  at sandbox   {accounts}

Exchange a refresh token of the web application (its first use logs the demo user in and connects the sandbox):

{refresh}

Exchange an access token that the demo API was called with:

{access}

Exchange a worker's signed request, with no user present:

{worker}

Stop with Ctrl-C.",
        directory = directory.display(),
        simulated = args
            .simulate
            .iter()
            .map(|name| format!("  simulated    connection '{name}'\n"))
            .collect::<String>(),
        issuer = dev.issuer,
        sandbox = dev.sandbox.base_url,
        connection = dev.sandbox.connection,
        ca = dev.ca_file.display(),
        dev_json = DevFile::path(&directory).display(),
        username = dev.user.username,
        password = dev.user.password,
        accounts = accounts.join(", "),
        refresh = curl(
            &dev.clients.web,
            "refresh-token",
            grant::TOKEN_TYPE_REFRESH_TOKEN,
            grant::TOKEN_TYPE_FEDERATED_CONNECTION,
        ),
        access = curl(
            &dev.clients.api,
            "access-token",
            grant::TOKEN_TYPE_ACCESS_TOKEN,
            grant::TOKEN_TYPE_FEDERATED_CONNECTION,
        ),
        worker = curl(
            &dev.clients.worker,
            "worker-request",
            grant::TOKEN_TYPE_JWT,
            grant::TOKEN_TYPE_TOKEN_VAULT,
        ),
    ))
}

/// A path as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':'));
    if plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
