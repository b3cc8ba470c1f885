//! `tokenvault doctor`: looks at everything that has to be right, and says what to do where it is not.

use anyhow::{Result, bail};
use base64::Engine as _;
use reqwest::Method;
use serde_json::{Value, json};
use vault::{Clock as _, SystemClock};

use crate::admin::output;
use crate::admin::target::Target;
use crate::admin::transport::encoded;

/// One thing that was looked at.
struct Finding {
    what: String,
    ok: bool,
    message: String,
}

/// Clocks that differ by more than this refuse each other's tokens.
const MOST_SKEW: i64 = 30;
/// A certificate with less life than this is to be renewed now.
const LEAST_LIFE: i64 = 14 * 24 * 3600;

/// Looks, prints what was seen, and fails where something is wrong.
pub(crate) async fn run(target: &Target, as_json: bool) -> Result<()> {
    let mut findings = Vec::new();
    look_at_issuer(target, &mut findings).await;
    look_at_database(target, &mut findings).await;
    look_at_keys(target, &mut findings).await;
    look_at_connections(target, &mut findings).await;
    let wrong = findings.iter().filter(|finding| !finding.ok).count();
    if as_json {
        let list: Vec<Value> = findings
            .iter()
            .map(|finding| json!({ "what": finding.what, "ok": finding.ok, "message": finding.message }))
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        for finding in &findings {
            let mark = if finding.ok { "good " } else { "WRONG" };
            println!(
                "{mark}  {}: {}",
                output::printable(&finding.what),
                output::printable(&finding.message)
            );
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {} are wrong", findings.len());
    }
    Ok(())
}

fn note(findings: &mut Vec<Finding>, what: &str, ok: bool, message: impl Into<String>) {
    findings.push(Finding {
        what: what.to_owned(),
        ok,
        message: message.into(),
    });
}

/// The address, the name in the metadata, the certificate, the clock: as everybody outside sees them.
async fn look_at_issuer(target: &Target, findings: &mut Vec<Finding>) {
    let url = format!("{}.well-known/openid-configuration", target.issuer);
    let response = match target.client.get(&url).send().await {
        Ok(response) => response,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let advice = if text.contains("certificate") {
                "the certificate is not trusted here: --ca-file names the authority that signed it"
            } else {
                "start it, or check the name, the port and what stands in between"
            };
            note(
                findings,
                "issuer",
                false,
                format!("{url} does not answer ({text}); {advice}"),
            );
            return;
        }
    };
    let headers = response.headers();
    let date = headers
        .get(reqwest::header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
        .map(|date| date.timestamp());
    let certificate = response
        .extensions()
        .get::<reqwest::tls::TlsInfo>()
        .and_then(|info| info.peer_certificate().map(<[u8]>::to_vec));
    let metadata: Option<Value> = response
        .bytes()
        .await
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let issuer = metadata
        .as_ref()
        .and_then(|metadata| metadata.get("issuer")?.as_str());
    match issuer {
        Some(issuer) if issuer == target.issuer => {
            note(
                findings,
                "issuer",
                true,
                format!("{issuer} answers as itself"),
            );
        }
        Some(issuer) => note(
            findings,
            "issuer",
            false,
            format!(
                "{} calls itself {issuer}; set `issuer` to the address that clients use",
                target.issuer
            ),
        ),
        None => note(
            findings,
            "issuer",
            false,
            format!("{url} is no metadata; check that the address is a vault's"),
        ),
    }
    let now = SystemClock.now();
    if let Some(date) = date {
        let skew = now.duration_since(date).as_secs().abs();
        let ok = skew <= MOST_SKEW;
        let advice = if ok { "" } else { "; set the clocks by NTP" };
        note(
            findings,
            "clock",
            ok,
            format!("differs by {skew} s from this machine's{advice}"),
        );
    }
    if let Some(der) = certificate {
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        );
        match seal::certificate_end(&pem) {
            Some(end) => {
                let left = end.duration_since(now).as_secs();
                let ok = left > LEAST_LIFE;
                let advice = if ok {
                    ""
                } else {
                    "; renew it and start the vault again"
                };
                note(
                    findings,
                    "certificate",
                    ok,
                    format!("ends {end}, in {} days{advice}", left / (24 * 3600)),
                );
            }
            None => note(findings, "certificate", false, "its end cannot be read"),
        }
    }
}

/// Whoever is answered here has a database, migrated, and an open master key.
async fn look_at_database(target: &Target, findings: &mut Vec<Finding>) {
    match target.transport.get("clients?per_page=1").await {
        Ok(_) if target.is_local => note(
            findings,
            "database",
            true,
            "open, migrated, and the master key fits it",
        ),
        Ok(_) => note(
            findings,
            "database",
            true,
            "answers through the vault, which starts only with its migrations done and its master key",
        ),
        Err(error) => note(
            findings,
            "database",
            false,
            format!("the Management API cannot be used: {error:#}"),
        ),
    }
}

async fn look_at_keys(target: &Target, findings: &mut Vec<Finding>) {
    match target.transport.get("keys/signing").await {
        Ok(keys) => {
            let current = keys
                .as_array()
                .into_iter()
                .flatten()
                .filter(|key| key.get("current") == Some(&Value::Bool(true)))
                .count();
            note(
                findings,
                "signing keys",
                current > 0,
                format!("{current} sign; `tokenvault keys list` shows them"),
            );
        }
        Err(error) => note(findings, "signing keys", false, format!("{error:#}")),
    }
}

/// Each connection's discovery and client, as its provider sees them.
async fn look_at_connections(target: &Target, findings: &mut Vec<Finding>) {
    let connections = match target
        .transport
        .list("connections", "connections", usize::MAX)
        .await
    {
        Ok(connections) => connections,
        Err(error) => {
            note(findings, "connections", false, format!("{error:#}"));
            return;
        }
    };
    for connection in &connections {
        let text = |name: &str| {
            let value = connection.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let what = format!("connection {}", text("name"));
        let path = format!("connections/{}/check", encoded(&text("id")));
        match target.transport.call(Method::POST, &path, None).await {
            Err(error) => note(findings, &what, false, format!("{error:#}")),
            Ok(check) => {
                let list = check.get("findings").and_then(Value::as_array);
                for finding in list.into_iter().flatten() {
                    note(
                        findings,
                        &format!("{what}, {}", output::cell(finding.get("check"))),
                        finding.get("ok") == Some(&Value::Bool(true)),
                        output::cell(finding.get("message")),
                    );
                }
                note(
                    findings,
                    &what,
                    true,
                    format!(
                        "the redirect URI to register at the provider is {}",
                        output::cell(check.get("callback_url"))
                    ),
                );
            }
        }
    }
}
