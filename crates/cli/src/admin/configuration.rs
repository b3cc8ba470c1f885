//! `tokenvault export` and `tokenvault apply`: the configuration as a folder of files.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::admin::output::{self, printable};
use crate::admin::target::Target;
use crate::admin::transport::{Failure, encoded};
use crate::config;
use crate::configuration_files::{self, Folder};
use crate::material;

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The folder.
    folder: PathBuf,
}

/// From where, and how far.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The folder.
    folder: PathBuf,
    /// Says what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Deletes what the folder leaves out; without this, nothing at all is done where something would be deleted.
    #[arg(long)]
    allow_delete: bool,
    /// Does it without asking.
    #[arg(long, short)]
    yes: bool,
    /// Writes the ids and secrets of new clients into a file that does not exist yet, as JSON.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
}

/// Writes what is configured.
pub(crate) async fn export(target: &Target, args: ExportArgs) -> Result<()> {
    let configuration = target.transport.get("configuration").await?;
    let written = configuration_files::write(&args.folder, &configuration)?;
    for path in &written.written {
        println!("wrote {}", args.folder.join(path).display());
    }
    for path in &written.stale {
        println!(
            "{} is of nothing that is there; apply would make it",
            args.folder.join(path).display()
        );
    }
    println!("{} files said the same already", written.unchanged);
    if !written.variables.is_empty() {
        println!("\nSecrets are not exported. To apply the folder, set:");
        for variable in &written.variables {
            println!("  {variable}");
        }
    }
    Ok(())
}

/// Compares, shows, asks, and applies.
pub(crate) async fn apply(target: &Target, args: ApplyArgs, as_json: bool) -> Result<()> {
    let folder = Folder::read(&args.folder)?;
    let document = folder.document(&target.issuer, config::environment_value)?;
    if let Some(path) = &args.secrets
        && path.exists()
    {
        bail!("--secrets: {} exists already", path.display());
    }
    let shown = post(target, &folder, "dry_run=true", &document).await?;
    let changes = list(&shown, "changes");
    if as_json && args.dry_run {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    if !as_json {
        print!("{}", plan(&changes));
    }
    if args.dry_run || changes.is_empty() {
        return Ok(());
    }
    let deletions: Vec<String> = changes
        .iter()
        .filter(|change| word(change, "action") == "delete")
        .map(|change| format!("{} {}", word(change, "kind"), word(change, "name")))
        .collect();
    if !deletions.is_empty() && !args.allow_delete {
        bail!(
            "the folder leaves out what is there: {}. Nothing was changed; --allow-delete deletes it",
            printable(&deletions.join(", "))
        );
    }
    if !args.yes && !output::confirmed("Apply this?")? {
        bail!("nothing was changed");
    }
    let id = word(&shown, "plan");
    let query = format!("allow_delete={}&plan={}", args.allow_delete, encoded(&id));
    let applied = post(target, &folder, &query, &document).await?;
    let made = list(&applied, "clients");
    if let Some(path) = &args.secrets {
        material::write_secret(path, &serde_json::to_string_pretty(&made)?)?;
    }
    if as_json {
        let mut applied = applied;
        // Into the file, if anywhere.
        if let Some(Value::Array(clients)) = applied.get_mut("clients") {
            for client in clients.iter_mut().filter_map(Value::as_object_mut) {
                client.remove("client_secret");
            }
        }
        println!("{}", serde_json::to_string_pretty(&applied)?);
        return Ok(());
    }
    println!("applied");
    for client in &made {
        let (name, id) = (word(client, "name"), word(client, "client_id"));
        let (name, id) = (printable(&name), printable(&id));
        match (&args.secrets, client.get("client_secret")) {
            (_, None) => println!("client {name} is {id}"),
            (Some(path), Some(_)) => {
                println!("client {name} is {id}; its secret is in {}", path.display());
            }
            (None, Some(_)) => println!(
                "client {name} is {id}; nobody has seen its secret: tokenvault client rotate-secret {id}"
            ),
        }
    }
    Ok(())
}

async fn post(target: &Target, folder: &Folder, query: &str, document: &Value) -> Result<Value> {
    let path = format!("configuration?{query}");
    let posted = target
        .transport
        .call(Method::POST, &path, Some(document))
        .await;
    posted.map_err(|error| match error.downcast_ref::<Failure>() {
        // The vault points into the document; people look into files.
        Some(Failure::Refused(refused)) => {
            let places: Vec<String> = refused
                .fields
                .iter()
                .filter_map(|(pointer, rule)| {
                    let place = folder.locate(pointer)?;
                    Some(format!("  {}: {}", printable(&place), printable(rule)))
                })
                .collect();
            if places.is_empty() {
                error
            } else {
                error.context(format!(
                    "the files are wrong; nothing was changed\n{}",
                    places.join("\n")
                ))
            }
        }
        _ => error,
    })
}

/// The plan, as people read it.
fn plan(changes: &[Value]) -> String {
    let mut text = String::new();
    let mut counts = [0; 3];
    for change in changes {
        let (sign, count) = match word(change, "action").as_str() {
            "create" => ("+", 0),
            "update" => ("~", 1),
            _ => ("-", 2),
        };
        if let Some(count) = counts.get_mut(count) {
            *count += 1;
        }
        text += &format!(
            "{sign} {} {}\n",
            word(change, "kind"),
            printable(&word(change, "name"))
        );
        for field in list(change, "fields") {
            let name = printable(&word(&field, "field"));
            let value = |name: &str| field.get(name).map(|value| printable(&value.to_string()));
            let what = match (field.get("secret"), value("before"), value("after")) {
                (Some(Value::Bool(true)), _, _) => "(another secret)".to_owned(),
                (_, None, Some(after)) => after,
                (_, Some(before), None) => format!("{before} -> (default)"),
                (_, Some(before), Some(after)) => format!("{before} -> {after}"),
                (_, None, None) => String::new(),
            };
            text += &format!("    {name}: {what}\n");
        }
    }
    if changes.is_empty() {
        return "nothing differs\n".to_owned();
    }
    let [create, update, delete] = counts;
    text + &format!("\n{create} to make, {update} to change, {delete} to delete\n")
}

fn list(value: &Value, name: &str) -> Vec<Value> {
    let list = value.get(name).and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

fn word(value: &Value, name: &str) -> String {
    let word = value.get(name).and_then(Value::as_str);
    word.unwrap_or_default().to_owned()
}
