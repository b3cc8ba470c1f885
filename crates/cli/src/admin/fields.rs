//! A document made of arguments: `--file`, then `--set`, `--set-file` and `--ask` on top of it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::admin::secret_input;

/// Fields of an object. Every one that the Management API takes: /api/v2/docs of the vault lists them.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// A file with the object as JSON, or - for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Sets a field, dots leading inside: a JSON value, or else a text (repeatable).
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Sets a field to the text of a file, or of standard input for - (repeatable): for secrets and keys.
    #[arg(long = "set-file", value_name = "FIELD=FILE")]
    set_file: Vec<String>,
    /// Asks for a field without showing what is typed (repeatable): for secrets.
    #[arg(long = "ask", value_name = "FIELD")]
    ask: Vec<String>,
}

/// The last parts of names of fields that are secrets.
const SECRETS: [&str; 3] = ["client_secret", "next_client_secret", "password"];

impl Fields {
    /// The document.
    pub(crate) fn document(&self) -> Result<Map<String, Value>> {
        let mut document = match &self.file {
            None => Map::new(),
            Some(path) => {
                let text = secret_input::text_of(path)?;
                match serde_json::from_str(&text) {
                    Ok(Value::Object(document)) => document,
                    Ok(_) => bail!("--file: {} is no JSON object", path.display()),
                    // Without the text: it may hold a secret.
                    Err(error) => bail!(
                        "--file: {} is no JSON (line {})",
                        path.display(),
                        error.line()
                    ),
                }
            }
        };
        for assignment in &self.set {
            let (field, text) = split("--set", assignment)?;
            if field
                .split('.')
                .next_back()
                .is_some_and(|last| SECRETS.contains(&last))
            {
                bail!(
                    "--set: {field} is a secret, and arguments are seen by others; use --ask {field}, or --set-file \
                     {field}=FILE"
                );
            }
            let value =
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
            insert(&mut document, field, value)?;
        }
        for assignment in &self.set_file {
            let (field, path) = split("--set-file", assignment)?;
            let text = secret_input::text_of(&PathBuf::from(path))?;
            let text = text.trim_end_matches(['\r', '\n']);
            insert(&mut document, field, Value::String(text.to_owned()))?;
        }
        for field in &self.ask {
            let secret = secret_input::secret(None, field)?;
            insert(
                &mut document,
                field,
                Value::String(secret.reveal().to_owned()),
            )?;
        }
        Ok(document)
    }
}

fn split<'a>(option: &str, assignment: &'a str) -> Result<(&'a str, &'a str)> {
    assignment
        .split_once('=')
        .filter(|(field, _)| !field.is_empty())
        .with_context(|| format!("{option}: FIELD=VALUE is expected"))
}

/// Sets a field, dots leading inside objects, which are made where there are none.
fn insert(document: &mut Map<String, Value>, field: &str, value: Value) -> Result<()> {
    let (first, rest) = match field.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (field, None),
    };
    match rest {
        None => {
            document.insert(first.to_owned(), value);
            Ok(())
        }
        Some(rest) => {
            let inner = document
                .entry(first.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => insert(inner, rest, value),
                _ => bail!("{field}: {first} has a value that nothing is inside of"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(set: &[&str]) -> Fields {
        Fields {
            file: None,
            set: set.iter().map(|text| (*text).to_owned()).collect(),
            set_file: Vec::new(),
            ask: Vec::new(),
        }
    }

    #[test]
    fn a_document_is_made_of_assignments() {
        let document = fields(&[
            "name=My app",
            "callbacks=[\"https://a\"]",
            "a.b.c=1",
            "a.d=true",
            "e=null",
        ])
        .document()
        .unwrap();
        assert_eq!(
            Value::Object(document),
            json!({"name": "My app", "callbacks": ["https://a"], "a": {"b": {"c": 1}, "d": true}, "e": null})
        );
    }

    #[test]
    fn a_secret_is_no_argument() {
        for field in ["password", "options.client_secret"] {
            let error = fields(&[&format!("{field}=hush")]).document().unwrap_err();
            let text = format!("{error:#}");
            assert!(
                text.contains("is a secret") && !text.contains("hush"),
                "{text}"
            );
        }
        assert!(fields(&["nothing"]).document().is_err());
        assert!(fields(&["a=1", "a.b=2"]).document().is_err());
    }
}
