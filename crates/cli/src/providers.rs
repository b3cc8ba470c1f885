//! `tokenvault providers`: the catalogue as an administrator reads it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::output::table;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use provider::{Catalogue, Profile, RefreshClass, VariableSource};
use sandbox::Fixture;
use serde_json::{Value, json};

/// What `providers` can be told.
#[derive(Debug, Args)]
pub(crate) struct ProvidersArgs {
    #[command(subcommand)]
    command: Option<ProvidersCommand>,
    /// A folder of profiles of your own, in place of the configured one.
    #[arg(long, value_name = "DIR", global = true)]
    folder: Option<PathBuf>,
    /// The configuration file of the deployment, as for `serve`: its folder of profiles and its issuer are used.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ProvidersCommand {
    /// Read every profile of a folder and say what is wrong with it
    Check {
        /// The folder.
        dir: PathBuf,
    },
    /// Print what is known of one provider: where to register an application and what to enter there
    Show {
        /// The strategy's name.
        strategy: String,
        /// Print the file itself, to be copied into a folder of your own and changed.
        #[arg(long)]
        toml: bool,
    },
    /// List the providers that `tokenvault dev --simulate` can play
    Simulated,
}

pub(crate) fn run(args: ProvidersArgs) -> Result<()> {
    let text = match &args.command {
        None => list(&catalogue(&args)?.0, args.json)?,
        Some(ProvidersCommand::Check { dir }) => check(dir)?,
        Some(ProvidersCommand::Show { strategy, toml }) => {
            let (catalogue, issuer) = catalogue(&args)?;
            let profile = find(&catalogue, strategy)?;
            if *toml {
                file(strategy)?.to_owned()
            } else if args.json {
                serde_json::to_string_pretty(profile.as_ref())?
            } else {
                show(profile, issuer.as_deref())?
            }
        }
        Some(ProvidersCommand::Simulated) => simulated(args.json)?,
    };
    // A reader that has seen enough closes the pipe.
    match std::io::Write::write_all(&mut std::io::stdout(), format!("{text}\n").as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The catalogue, and the issuer where a configuration says it.
fn catalogue(args: &ProvidersArgs) -> Result<(Arc<Catalogue>, Option<String>)> {
    let config = args
        .config
        .as_deref()
        .map(|file| crate::load(Some(file)))
        .transpose()?;
    let configured = config
        .as_ref()
        .and_then(|config| config.providers_folder.clone());
    let catalogue = match args.folder.clone().or(configured) {
        Some(folder) => Catalogue::with_folder(&folder)?,
        None => Catalogue::built_in()?,
    };
    let issuer = config.map(|config| config.settings.issuer.as_str().to_owned());
    Ok((catalogue, issuer))
}

fn find<'a>(catalogue: &'a Catalogue, strategy: &str) -> Result<&'a Arc<Profile>> {
    if let Some(profile) = catalogue.get(strategy) {
        return Ok(profile);
    }
    let mut close: Vec<(f64, &str)> = catalogue
        .iter()
        .flat_map(|profile| {
            let name = profile.strategy.as_str();
            let display = profile.display_name.to_lowercase();
            let wanted = strategy.to_lowercase();
            let score =
                strsim::jaro_winkler(name, &wanted).max(strsim::jaro_winkler(&display, &wanted));
            (score > 0.8).then_some((score, name))
        })
        .collect();
    close.sort_by(|one, other| other.0.total_cmp(&one.0));
    let close: Vec<&str> = close.into_iter().take(3).map(|(_, name)| name).collect();
    if close.is_empty() {
        bail!("there is no strategy '{strategy}'; tokenvault providers lists those there are");
    }
    bail!(
        "there is no strategy '{strategy}'; did you mean {}?",
        close.join(" or ")
    )
}

fn file(strategy: &str) -> Result<&'static str> {
    Catalogue::built_in_file(strategy)
        .map(str::trim_end)
        .with_context(|| format!("'{strategy}' is a file of your own folder, not one of ours"))
}

fn list(catalogue: &Catalogue, as_json: bool) -> Result<String> {
    if as_json {
        let profiles: Vec<Value> = catalogue.iter().map(|profile| row(profile)).collect();
        return Ok(serde_json::to_string_pretty(&profiles)?);
    }
    let rows = catalogue.iter().map(|profile| {
        [
            profile.strategy.clone(),
            profile.display_name.clone(),
            refresh_word(profile.refresh.class).to_owned(),
            yes(revokes(profile)).to_owned(),
            yes(profile.authorization.pkce).to_owned(),
        ]
    });
    let table = table(
        ["STRATEGY", "PROVIDER", "REFRESH TOKEN", "REVOKES", "PKCE"],
        rows,
    );
    Ok(format!(
        "{table}\ntokenvault providers show STRATEGY says where to register an application and what to enter there."
    ))
}

fn row(profile: &Profile) -> Value {
    json!({
        "strategy": profile.strategy,
        "display_name": profile.display_name,
        "refresh": profile.refresh.class,
        "revokes": revokes(profile),
        "pkce": profile.authorization.pkce,
        "documentation": profile.documentation,
        "registration": profile.registration,
    })
}

fn revokes(profile: &Profile) -> bool {
    profile.endpoints.revocation.is_some() || profile.discovery
}

fn simulated(as_json: bool) -> Result<String> {
    if as_json {
        let fixtures: Vec<Value> = Fixture::all()
            .map(|fixture| {
                json!({ "name": fixture.name, "title": fixture.title, "strategy": fixture.strategy })
            })
            .collect();
        return Ok(serde_json::to_string_pretty(&fixtures)?);
    }
    let rows = Fixture::all().map(|fixture| {
        [
            fixture.name.clone(),
            fixture.title.clone(),
            fixture.strategy.clone(),
        ]
    });
    let table = table(["SIMULATION", "PLAYS", "STRATEGY"], rows);
    Ok(format!(
        "{table}\ntokenvault dev --simulate SIMULATION makes a connection of that name."
    ))
}

fn check(dir: &Path) -> Result<String> {
    let problems = Catalogue::check_folder(dir)?;
    if problems.is_empty() {
        return Ok("every profile is good".to_owned());
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    bail!("{}", lines.join("\n"))
}

fn show(profile: &Profile, issuer: Option<&str>) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{} (strategy {})",
        profile.display_name, profile.strategy
    )?;
    let issuer = issuer.unwrap_or("https://YOUR-VAULT/");
    writeln!(out)?;
    line(&mut out, "register an application", &profile.registration)?;
    line(
        &mut out,
        "redirect URI to enter",
        &format!("{issuer}connect/callback/CONTEXT"),
    )?;
    line(
        &mut out,
        "",
        "Each connection has a CONTEXT of its own; making the connection prints it.",
    )?;
    line(&mut out, "documentation", &profile.documentation)?;
    line(&mut out, "mind", &profile.notes)?;
    for (name, variable) in &profile.variables {
        let from = match variable.from {
            VariableSource::Configuration => "set it in options.variables",
            VariableSource::Callback => "learned from the answer to the browser",
            VariableSource::TokenAnswer => "learned from the token answer",
        };
        let default = variable
            .default
            .as_ref()
            .map(|value| format!("; default {value}"))
            .unwrap_or_default();
        let one_of = if variable.one_of.is_empty() {
            String::new()
        } else {
            format!("; one of {}", variable.one_of.join(", "))
        };
        line(
            &mut out,
            &format!("variable {name}"),
            &format!("{} ({from}{default}{one_of})", variable.description),
        )?;
    }
    line(
        &mut out,
        "default scopes",
        &profile.default_scopes.join(" "),
    )?;
    line(
        &mut out,
        "client authentication",
        &word(&profile.client_authentication)?,
    )?;
    let endpoints = &profile.endpoints;
    if profile.discovery {
        line(&mut out, "endpoints", "from the issuer's metadata")?;
    }
    for (name, url) in [
        ("authorization", &endpoints.authorization),
        ("token", &endpoints.token),
        ("refresh", &endpoints.refresh),
        ("revocation", &endpoints.revocation),
        ("userinfo", &endpoints.userinfo),
    ] {
        if let Some(url) = url {
            line(&mut out, name, url)?;
        }
    }
    line(
        &mut out,
        "refresh token",
        refresh_sentence(profile.refresh.class),
    )?;
    for (name, seconds) in [
        ("ends without use after", profile.refresh.idle_lifetime),
        (
            "ends after consent after",
            profile.refresh.absolute_lifetime,
        ),
        ("used one works again for", profile.refresh.replay_window),
    ] {
        if let Some(seconds) = seconds {
            line(&mut out, name, &span(seconds))?;
        }
    }
    if profile.refresh.invalidates_access_token {
        line(
            &mut out,
            "",
            "A refresh ends access tokens that were handed out.",
        )?;
    }
    if !revokes(profile) {
        line(
            &mut out,
            "disconnect",
            "the provider has no way to end a grant; people do it in their settings there",
        )?;
    }
    line(
        &mut out,
        "the token is good at",
        &profile.api.hosts.join(", "),
    )?;
    if let Some(header) = &profile.api.header {
        line(&mut out, "sent as", header)?;
    }
    for code in &profile.code {
        line(&mut out, "rules in code", &word(code)?)?;
    }
    for fact in &profile.unverified {
        line(&mut out, "not verified", fact)?;
    }
    Ok(out.trim_end().to_owned())
}

/// One field; nothing where there is nothing to say.
fn line(out: &mut String, name: &str, value: &str) -> Result<()> {
    if !value.is_empty() {
        writeln!(out, "  {name:<26} {value}")?;
    }
    Ok(())
}

/// An enum's own word.
fn word(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_value(value)?
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "-" }
}

fn refresh_word(class: RefreshClass) -> &'static str {
    match class {
        RefreshClass::None => "none",
        RefreshClass::Renewal => "token renews",
        RefreshClass::Rotating => "rotates",
        RefreshClass::Stable => "stays",
        RefreshClass::Unknown => "unknown",
    }
}

fn refresh_sentence(class: RefreshClass) -> &'static str {
    match class {
        RefreshClass::None => "there is none: people connect again when the access token has ended",
        RefreshClass::Renewal => {
            "the access token itself is exchanged for a later one while it lives"
        }
        RefreshClass::Rotating => "a new one comes with every refresh, and the old one ends",
        RefreshClass::Stable => "it stays good, also beside a new one",
        RefreshClass::Unknown => "nobody knows whether a used one ends; it is treated as if it did",
    }
}

fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        seconds if seconds % 86_400 == 0 => (seconds / 86_400, "day"),
        seconds if seconds % 3600 == 0 => (seconds / 3600, "hour"),
        seconds if seconds % 60 == 0 => (seconds / 60, "minute"),
        seconds => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_listed_and_shown() {
        let catalogue = Catalogue::built_in().unwrap();
        let listed = list(&catalogue, false).unwrap();
        for profile in catalogue.iter() {
            assert!(listed.contains(&profile.strategy));
            let shown = show(profile, Some("https://vault.example/")).unwrap();
            assert!(shown.contains("https://vault.example/connect/callback/"));
            assert!(shown.contains(&profile.registration));
            assert!(file(&profile.strategy).is_ok());
        }
    }

    #[test]
    fn a_wrong_name_is_told_the_right_one() {
        let catalogue = Catalogue::built_in().unwrap();
        for (wrong, right) in [
            ("githb", "github"),
            ("microsoft", "windowslive"),
            ("googel-oauth2", "google-oauth2"),
        ] {
            let error = find(&catalogue, wrong).unwrap_err().to_string();
            assert!(error.contains(right), "{error}");
        }
        let error = find(&catalogue, "zzzzz").unwrap_err().to_string();
        assert!(error.contains("lists those there are"), "{error}");
    }

    #[test]
    fn spans_are_said_in_the_largest_unit_that_fits() {
        for (seconds, said) in [
            (7_776_000, "90 days"),
            (86_400, "1 day"),
            (7200, "2 hours"),
            (90, "90 seconds"),
            (600, "10 minutes"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }
}
