//! A configuration as a folder kept in git: one TOML file an object.
//!
//! ```text
//! DIR/tenant.toml              the deployment's settings
//! DIR/apis/NAME.toml           an API
//! DIR/clients/NAME.toml        a client, its keys and its grants
//! DIR/connections/NAME.toml    a connection and the clients that may use it
//! ```
//!
//! `{issuer}` at the beginning of a text stands for the deployment's own address. A secret is never in a file: its place
//! has a reference, `env:NAME` or `file:PATH`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use seal::SecretString;
use serde_json::{Map, Value};

/// What stands for the deployment's own address.
const ISSUER: &str = "{issuer}";

/// The kinds of objects that have a folder: the folder, the field that names an object, and what a file of it is.
const KINDS: [(&str, &str, &str); 3] = [
    ("apis", "identifier", "An API"),
    ("clients", "name", "A client, its keys and its grants"),
    (
        "connections",
        "name",
        "A connection and the clients that may use it",
    ),
];
const TENANT_FILE: &str = "tenant.toml";

/// Where secrets are, in the objects of a folder.
const SECRETS: [(&str, [&str; 2]); 1] = [("connections", ["options", "client_secret"])];

/// The longest file that is read: more than any object needs.
const MOST_BYTES: u64 = 256 * 1024;

/// A folder that was read: the document to send, and where each part of it came from.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    document: Map<String, Value>,
    /// By place in the document (RFC 6901), the file, relative to the folder.
    files: BTreeMap<String, PathBuf>,
}

impl Folder {
    /// Reads a folder, with the references of secrets as they stand.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            bail!("{} is not a folder", root.display());
        }
        refuse_strangers(root)?;
        let mut folder = Self {
            root: root.to_owned(),
            document: Map::new(),
            files: BTreeMap::new(),
        };
        let tenant = root.join(TENANT_FILE);
        if tenant.exists() {
            let object = read_object(&tenant)?;
            folder.document.insert("tenant".to_owned(), object.into());
            folder
                .files
                .insert("/tenant".to_owned(), PathBuf::from(TENANT_FILE));
        }
        for (kind, _, _) in KINDS {
            let directory = root.join(kind);
            if !directory.is_dir() {
                continue;
            }
            let mut objects = Vec::new();
            for name in toml_files(&directory)? {
                let object = read_object(&directory.join(&name))?;
                let place = format!("/{kind}/{}", objects.len());
                folder.files.insert(place, Path::new(kind).join(&name));
                objects.push(Value::Object(object));
            }
            folder.document.insert(kind.to_owned(), objects.into());
        }
        if folder.document.is_empty() {
            bail!(
                "{} has none of {TENANT_FILE}, apis, clients, connections",
                root.display()
            );
        }
        Ok(folder)
    }

    /// The document for a deployment: its address in place of `{issuer}`, secrets in place of their references.
    ///
    /// `environment` is asked for the value of a variable.
    pub(crate) fn document(
        &self,
        issuer: &str,
        environment: impl Fn(&str) -> Option<SecretString>,
    ) -> Result<Value> {
        let mut document = Value::Object(self.document.clone());
        map_texts(&mut document, &|text| {
            text.strip_prefix(ISSUER)
                .map(|rest| format!("{issuer}{rest}"))
        });
        for (kind, [outer, inner]) in SECRETS {
            let objects = document.get_mut(kind).and_then(Value::as_array_mut);
            for (index, object) in objects.into_iter().flatten().enumerate() {
                let Some(secret) = object.get_mut(outer).and_then(|outer| outer.get_mut(inner))
                else {
                    continue;
                };
                let resolved = self
                    .resolve(secret, &environment)
                    .with_context(|| format!("{}: {outer}.{inner}", self.file(kind, index)))?;
                *secret = Value::String(resolved);
            }
        }
        Ok(document)
    }

    fn resolve(
        &self,
        reference: &Value,
        environment: &impl Fn(&str) -> Option<SecretString>,
    ) -> Result<String> {
        let text = reference.as_str().unwrap_or_default();
        if let Some(name) = text.strip_prefix("env:") {
            return environment(name)
                .map(|value| value.reveal().to_owned())
                .filter(|value| !value.is_empty())
                .with_context(|| format!("the environment variable {name} is not set"));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = self.root.join(path);
            return Ok(read_bounded(&path)?.trim_end().to_owned());
        }
        // What stands there may be the secret: it is not repeated.
        bail!(
            "has to be a reference, env:NAME or file:PATH; the secret itself does not belong in a file kept in git"
        )
    }

    fn file(&self, kind: &str, index: usize) -> String {
        self.files
            .get(&format!("/{kind}/{index}"))
            .map_or_else(|| kind.to_owned(), |path| path.display().to_string())
    }

    /// Names the file and the field of a place in the document.
    pub(crate) fn locate(&self, pointer: &str) -> Option<String> {
        let (place, file) = self.files.iter().rev().find(|(place, _)| {
            pointer
                .strip_prefix(place.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })?;
        let field = pointer
            .strip_prefix(place.as_str())
            .unwrap_or_default()
            .trim_start_matches('/')
            .replace('/', ".");
        Some(match field.as_str() {
            "" => file.display().to_string(),
            field => format!("{}: {field}", file.display()),
        })
    }
}

/// What an export did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Files that are new or changed, relative to the folder.
    pub(crate) written: Vec<PathBuf>,
    /// Files that said the same already.
    pub(crate) unchanged: usize,
    /// Files of objects that are not there.
    pub(crate) stale: Vec<PathBuf>,
    /// Environment variables that the files refer to now, for the secrets of connections.
    pub(crate) variables: BTreeSet<String>,
}

/// Writes what is configured into a folder. A file that says the same already stays as it is, with its comments; the
/// references to secrets that stand in files stay.
pub(crate) fn write(root: &Path, configuration: &Value) -> Result<Written> {
    let issuer = configuration
        .get("issuer")
        .and_then(Value::as_str)
        .context("the answer names no issuer")?;
    let mut written = Written::default();
    std::fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    refuse_strangers(root)?;
    if let Some(Value::Object(tenant)) = configuration.get("tenant") {
        let path = PathBuf::from(TENANT_FILE);
        if !tenant.is_empty() || root.join(&path).exists() {
            write_object(
                root,
                path,
                "The deployment's settings",
                tenant.clone(),
                &mut written,
            )?;
        }
    }
    for (kind, key, title) in KINDS {
        let directory = root.join(kind);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut existing: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut kept: BTreeMap<PathBuf, Map<String, Value>> = BTreeMap::new();
        for name in toml_files(&directory)? {
            let object = read_object(&directory.join(&name))?;
            let path = Path::new(kind).join(&name);
            if let Some(name) = object.get(key).and_then(Value::as_str) {
                existing.insert(name.to_owned(), path.clone());
            }
            kept.insert(path, object);
        }
        let objects = configuration.get(kind).and_then(Value::as_array);
        for object in objects.into_iter().flatten() {
            let mut object = object.clone();
            map_texts(&mut object, &|text| {
                text.strip_prefix(issuer)
                    .map(|rest| format!("{ISSUER}{rest}"))
            });
            let Value::Object(mut object) = object else {
                bail!("an object of {kind} is none");
            };
            let name = object
                .get(key)
                .and_then(Value::as_str)
                .with_context(|| format!("an object of {kind} has no {key}"))?
                .to_owned();
            let path = existing
                .get(&name)
                .cloned()
                .unwrap_or_else(|| free_path(kind, &name, &kept));
            let before = kept.remove(&path);
            for reference in
                place_references(kind, &name, configuration, &mut object, before.as_ref())
            {
                if let Some(variable) = reference.strip_prefix("env:") {
                    written.variables.insert(variable.to_owned());
                }
            }
            // Taken, so that no other object of this export gets the same name.
            kept.insert(path.clone(), Map::new());
            write_object(root, path.clone(), title, object, &mut written)?;
            existing.insert(name, path);
        }
        let named: BTreeSet<PathBuf> = kept
            .iter()
            .filter(|(_, object)| !object.is_empty())
            .map(|(path, _)| path.clone())
            .collect();
        written.stale.extend(named);
    }
    Ok(written)
}

/// Puts references where the object has secrets: the one that the file had, or a variable named after the object.
fn place_references(
    kind: &str,
    name: &str,
    configuration: &Value,
    object: &mut Map<String, Value>,
    before: Option<&Map<String, Value>>,
) -> Vec<String> {
    let mut references = Vec::new();
    for (_, [outer, inner]) in SECRETS.iter().filter(|(of, _)| *of == kind) {
        let field = format!("{outer}.{inner}");
        let has_one = configuration
            .get("secrets")
            .and_then(|secrets| secrets.get(name))
            .and_then(Value::as_array)
            .is_some_and(|fields| fields.iter().any(|known| *known == field));
        if !has_one {
            continue;
        }
        let reference = before
            .and_then(|before| before.get(*outer)?.get(*inner)?.as_str())
            .map_or_else(
                || format!("env:{}_{}", variable(name), variable(inner)),
                str::to_owned,
            );
        if let Some(Value::Object(members)) = object.get_mut(*outer) {
            members.insert((*inner).to_owned(), Value::String(reference.clone()));
        }
        references.push(reference);
    }
    references
}

/// A name as part of an environment variable's.
fn variable(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        })
        .collect()
}

/// A file that no other object has.
fn free_path(kind: &str, name: &str, taken: &BTreeMap<PathBuf, Map<String, Value>>) -> PathBuf {
    let name = name.strip_prefix(ISSUER).unwrap_or(name);
    let words: Vec<String> = name
        .trim_start_matches("https://")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let stem = match words.join("-") {
        stem if stem.is_empty() => "object".to_owned(),
        stem => stem,
    };
    let mut path = Path::new(kind).join(format!("{stem}.toml"));
    let mut number = 2;
    while taken.contains_key(&path) {
        path = Path::new(kind).join(format!("{stem}-{number}.toml"));
        number += 1;
    }
    path
}

fn write_object(
    root: &Path,
    path: PathBuf,
    title: &str,
    object: Map<String, Value>,
    written: &mut Written,
) -> Result<()> {
    let file = root.join(&path);
    if file.exists() && read_object(&file)? == object {
        written.unchanged += 1;
        return Ok(());
    }
    let table = table_of(object)?;
    let text = format!(
        "# {title}. Every field: docs/configuration.md\n{}",
        toml::to_string_pretty(&table)?
    );
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    written.written.push(path);
    Ok(())
}

/// What people look for first comes first.
fn table_of(mut object: Map<String, Value>) -> Result<toml::Table> {
    const FIRST: [&str; 7] = [
        "name",
        "identifier",
        "strategy",
        "display_name",
        "description",
        "app_type",
        "clients",
    ];
    let mut table = toml::Table::new();
    for name in FIRST {
        if let Some(value) = object.remove(name) {
            table.insert(name.to_owned(), toml::Value::try_from(value)?);
        }
    }
    for (name, value) in object {
        table.insert(name, toml::Value::try_from(value)?);
    }
    Ok(table)
}

/// A misspelt folder would say that nothing is to be configured there.
fn refuse_strangers(root: &Path) -> Result<()> {
    for entry in entries(root)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.path().is_dir();
        let known = name == TENANT_FILE || KINDS.iter().any(|(kind, _, _)| *kind == name);
        if !known && !name.starts_with('.') && (is_folder || name.ends_with(".toml")) {
            bail!(
                "{}: nothing of a configuration is called that; there are {TENANT_FILE}, apis, clients and connections",
                entry.path().display()
            );
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<std::fs::DirEntry>> {
    std::fs::read_dir(directory)
        .and_then(|entries| entries.collect())
        .with_context(|| format!("cannot read {}", directory.display()))
}

/// The files of a kind, in the order of their names.
fn toml_files(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries(directory)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_bounded(path: &Path) -> Result<String> {
    let metadata =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.len() > MOST_BYTES {
        bail!("{} is too large", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = read_bounded(path)?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        // Without the line itself: it may hold a secret that does not belong there.
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1);
        anyhow!("{}, line {line}: {}", path.display(), error.message())
    })?;
    match json_of(toml::Value::Table(table)) {
        Value::Object(object) => Ok(object),
        _ => bail!("{} is not a table", path.display()),
    }
}

/// TOML as JSON; dates are texts.
fn json_of(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => items.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => Value::Object(
            table
                .into_iter()
                .map(|(name, value)| (name, json_of(value)))
                .collect(),
        ),
    }
}

/// Replaces texts wherever they stand.
fn map_texts(value: &mut Value, change: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(changed) = change(text) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| map_texts(item, change)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| map_texts(member, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER_URL: &str = "https://vault.example/";

    fn configuration() -> Value {
        json!({
            "issuer": ISSUER_URL,
            "tenant": {},
            "apis": [{ "identifier": "https://api.example/", "name": "An API" }],
            "clients": [
                { "name": "My app!", "callbacks": ["https://app.example/callback"],
                  "grants": [{ "audience": "https://vault.example/me/", "scope": ["read:me:connected_accounts"] }] },
                { "name": "my-app" },
            ],
            "connections": [
                { "name": "github", "strategy": "github", "options": { "client_id": "abc" }, "clients": ["My app!"] },
            ],
            "secrets": { "github": ["options.client_secret"] },
        })
    }

    fn environment(name: &str) -> Option<SecretString> {
        (name == "GITHUB_CLIENT_SECRET").then(|| SecretString::new("hush".to_owned()))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let written = write(root.path(), &configuration()).unwrap();
        let paths: Vec<String> = written
            .written
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "apis/api-example.toml",
                "clients/my-app.toml",
                "clients/my-app-2.toml",
                "connections/github.toml",
            ]
        );
        assert!(written.variables.contains("GITHUB_CLIENT_SECRET"));
        let folder = Folder::read(root.path()).unwrap();
        let document = folder.document(ISSUER_URL, environment).unwrap();
        let mut expected = configuration();
        for name in ["issuer", "tenant", "secrets"] {
            expected.as_object_mut().unwrap().remove(name);
        }
        expected["connections"][0]["options"]["client_secret"] = json!("hush");
        expected["clients"].as_array_mut().unwrap().reverse();
        assert_eq!(document, expected);
        // Another deployment has another address.
        let elsewhere = folder.document("https://other.example/", environment);
        assert_eq!(
            elsewhere.unwrap()["clients"][1]["grants"][0]["audience"],
            "https://other.example/me/"
        );
    }

    #[test]
    fn a_file_that_says_the_same_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &configuration()).unwrap();
        let file = root.path().join("connections/github.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("env:GITHUB_CLIENT_SECRET", "file:../github.secret");
        std::fs::write(&file, format!("# mine\n{text}")).unwrap();
        std::fs::write(root.path().join("clients/old.toml"), "name = \"Old\"\n").unwrap();
        let written = write(root.path(), &configuration()).unwrap();
        assert_eq!(written.written, Vec::<PathBuf>::new());
        assert_eq!(written.unchanged, 4);
        assert_eq!(written.stale, [PathBuf::from("clients/old.toml")]);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(kept.starts_with("# mine\n") && kept.contains("file:../github.secret"));
    }

    #[test]
    fn secrets_are_references() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &configuration()).unwrap();
        let file = root.path().join("connections/github.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        for (reference, said) in [
            ("hush", "has to be a reference"),
            ("env:NOT_SET", "NOT_SET is not set"),
            ("file:nothing.txt", "cannot read"),
        ] {
            std::fs::write(&file, text.replace("env:GITHUB_CLIENT_SECRET", reference)).unwrap();
            let folder = Folder::read(root.path()).unwrap();
            let error = folder.document(ISSUER_URL, environment).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.starts_with("connections/github.toml: options.client_secret: "),
                "{error}"
            );
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        std::fs::write(root.path().join("github.secret"), "from a file\n").unwrap();
        std::fs::write(
            &file,
            text.replace("env:GITHUB_CLIENT_SECRET", "file:github.secret"),
        )
        .unwrap();
        let folder = Folder::read(root.path()).unwrap();
        let document = folder.document(ISSUER_URL, environment).unwrap();
        assert_eq!(
            document["connections"][0]["options"]["client_secret"],
            "from a file"
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_its_file() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &configuration()).unwrap();
        let folder = Folder::read(root.path()).unwrap();
        assert_eq!(
            folder.locate("/clients/1/callbacks/0").as_deref(),
            Some("clients/my-app.toml: callbacks.0")
        );
        assert_eq!(
            folder.locate("/connections/0").as_deref(),
            Some("connections/github.toml")
        );
        assert_eq!(folder.locate("/somewhere"), None);

        std::fs::write(
            root.path().join("clients/bad.toml"),
            "name = \"a\"\nsecret = hush\n",
        )
        .unwrap();
        let error = Folder::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("bad.toml, line 2"), "{error}");
        assert!(!error.contains("hush"), "{error}");
        std::fs::remove_file(root.path().join("clients/bad.toml")).unwrap();

        std::fs::create_dir(root.path().join("client")).unwrap();
        let error = Folder::read(root.path()).unwrap_err().to_string();
        assert!(
            error.contains("nothing of a configuration is called that"),
            "{error}"
        );
    }
}
