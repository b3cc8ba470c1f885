//! `client`, `connection`, `api`, `user`, `account`, `keys`: the same few verbs over the resources of the Management API,
//! and what each has beside them.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Subcommand;
use oauth::grant;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::admin::fields::Fields;
use crate::admin::output;
use crate::admin::target::Target;
use crate::admin::transport::{Failure, Refused, encoded};
use crate::material;

/// A kind of object.
pub(crate) struct Resource {
    /// What people call one.
    word: &'static str,
    path: &'static str,
    /// The name of its list.
    list: &'static str,
    /// The field of its id, and what ids begin with.
    id: &'static str,
    prefix: &'static str,
    /// The field that people name it by.
    name: &'static str,
    /// The columns of its table: heads, and fields as JSON pointers.
    heads: [&'static str; 4],
    columns: [&'static str; 4],
}

/// Clients.
pub(crate) const CLIENT: Resource = Resource {
    word: "client",
    path: "clients",
    list: "clients",
    id: "client_id",
    prefix: "cl_",
    name: "name",
    heads: ["CLIENT ID", "NAME", "KIND", "AUTHENTICATES BY"],
    columns: [
        "/client_id",
        "/name",
        "/app_type",
        "/token_endpoint_auth_method",
    ],
};
/// Connections.
pub(crate) const CONNECTION: Resource = Resource {
    word: "connection",
    path: "connections",
    list: "connections",
    id: "id",
    prefix: "con_",
    name: "name",
    heads: ["ID", "NAME", "STRATEGY", "ACTIVE"],
    columns: ["/id", "/name", "/strategy", "/connected_accounts/active"],
};
/// APIs.
pub(crate) const API: Resource = Resource {
    word: "API",
    path: "resource-servers",
    list: "resource_servers",
    id: "id",
    prefix: "api_",
    name: "identifier",
    heads: ["ID", "IDENTIFIER", "NAME", "LIFETIME"],
    columns: ["/id", "/identifier", "/name", "/token_lifetime"],
};
/// Users.
pub(crate) const USER: Resource = Resource {
    word: "user",
    path: "users",
    list: "users",
    id: "user_id",
    prefix: "usr_",
    name: "email",
    heads: ["USER ID", "EMAIL", "NAME", "BLOCKED"],
    columns: ["/user_id", "/email", "/name", "/blocked"],
};

/// What every resource can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Common {
    /// List them
    List {
        /// The most that are listed.
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
        /// Only what this finds (users: email:ADDRESS, email:BEGINNING*, username:NAME, user_id:ID).
        #[arg(long, value_name = "QUERY")]
        search: Option<String>,
    },
    /// Show one, by its id or its name
    Show {
        /// Its id or its name.
        name: String,
    },
    /// Make one
    Create {
        /// What to call it: a name; of an API the identifier, of a user the e-mail address.
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change one
    Update {
        /// Its id or its name.
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Delete one
    Delete {
        /// Its id or its name.
        name: String,
        /// Deletes the accounts that are connected at a connection as well.
        #[arg(long)]
        delete_accounts: bool,
    },
}

/// Clients, their keys and their grants.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    #[command(flatten)]
    Common(Common),
    /// Register an application that connects accounts and exchanges, with all that it needs
    ///
    /// Makes a web application with a secret, refresh tokens for the My Account API, the grant for it, and lets it use
    /// connections. Prints its client id.
    Setup {
        /// What to call it.
        name: String,
        /// A redirect URI of the application (repeatable).
        #[arg(long = "callback", value_name = "URL", required = true)]
        callbacks: Vec<String>,
        /// A connection that it may use, by id or name (repeatable).
        #[arg(long = "connection", value_name = "NAME")]
        connections: Vec<String>,
        /// Where to write the client's secret; the file must not exist yet.
        #[arg(long, value_name = "FILE")]
        secret_out: PathBuf,
    },
    /// Give a client a new secret, which is shown only now
    RotateSecret {
        /// Its id or its name.
        name: String,
        /// Seconds for which the secret before goes on working.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        keep_previous_for: u64,
    },
    /// List a client's public keys
    Credentials {
        /// Its id or its name.
        name: String,
    },
    /// Register a public key of a client
    AddCredential {
        /// Its id or its name.
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Delete a public key of a client
    RemoveCredential {
        /// Its id or its name.
        name: String,
        /// The key's id.
        credential: String,
    },
    /// List what clients may have of APIs
    Grants {
        /// Only this client's: its id or its name.
        name: Option<String>,
    },
    /// Grant a client scopes of an API
    Grant {
        /// Its id or its name.
        name: String,
        /// The API's identifier.
        audience: String,
        /// A scope (repeatable).
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Grants every scope that the API has, now and later.
        #[arg(long)]
        all_scopes: bool,
        /// For tokens of users, and not of the client itself.
        #[arg(long)]
        user: bool,
    },
    /// Take a grant back
    Ungrant {
        /// The grant's id.
        grant: String,
    },
}

/// Connections.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionCommand {
    #[command(flatten)]
    Common(Common),
    /// Let a client use a connection
    Enable {
        /// The connection's id or name.
        name: String,
        /// The client's id or name.
        client: String,
    },
    /// Take a connection away from a client
    Disable {
        /// The connection's id or name.
        name: String,
        /// The client's id or name.
        client: String,
    },
    /// Ask the provider whether it knows this vault as a client
    Check {
        /// The connection's id or name.
        name: String,
    },
}

/// APIs.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiCommand {
    #[command(flatten)]
    Common(Common),
}

/// Users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    #[command(flatten)]
    Common(Common),
    /// Take every right from a user, for now
    Block {
        /// The user's id, e-mail address or name.
        name: String,
    },
    /// Give a blocked user their rights back
    Unblock {
        /// The user's id, e-mail address or name.
        name: String,
    },
    /// List a user's sessions
    Sessions {
        /// The user's id, e-mail address or name.
        name: String,
    },
    /// End a user's sessions and refresh tokens
    Revoke {
        /// The user's id, e-mail address or name.
        name: String,
        /// Lets refresh tokens be.
        #[arg(long)]
        keep_refresh_tokens: bool,
    },
}

/// Connected accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// List a user's connected accounts
    List {
        /// The user's id, e-mail address or name.
        user: String,
    },
    /// Disconnect an account of a user
    Remove {
        /// The user's id, e-mail address or name.
        user: String,
        /// The account's id.
        account: String,
    },
}

impl Resource {
    /// The id of an object by its id or its name.
    pub(crate) async fn resolve(&self, target: &Target, name: &str) -> Result<String> {
        if name.starts_with(self.prefix) {
            return Ok(encoded(name));
        }
        if self.path == API.path {
            return Ok(encoded(name));
        }
        let path = if self.path == USER.path {
            format!("users?q={}", encoded(name))
        } else if self.path == CONNECTION.path {
            format!("connections?name={}", encoded(name))
        } else {
            self.path.to_owned()
        };
        let found = target.transport.list(&path, self.list, usize::MAX).await?;
        let is_named = |object: &&Value| {
            self.path == USER.path || object.get(self.name).and_then(Value::as_str) == Some(name)
        };
        let mut named = found.iter().filter(is_named);
        match (named.next(), named.next()) {
            (Some(object), None) => Ok(encoded(
                object
                    .get(self.id)
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            )),
            (None, _) => Err(Failure::Refused(Refused {
                status: 404,
                code: "object_unknown".to_owned(),
                message: format!("There is no {} '{name}'.", self.word),
                fields: Vec::new(),
            })
            .into()),
            (Some(_), Some(_)) => {
                bail!(
                    "several {}s are called '{name}'; name one by its id",
                    self.word
                )
            }
        }
    }

    fn rows(&self, items: &[Value]) -> String {
        output::table(
            self.heads,
            items.iter().map(|item| {
                self.columns
                    .map(|column| output::cell(item.pointer(column)))
            }),
        )
    }

    async fn run(&self, target: &Target, command: Common, as_json: bool) -> Result<()> {
        let transport = &target.transport;
        match command {
            Common::List { limit, search } => {
                let path = match search {
                    Some(search) if self.path == USER.path => {
                        format!("users?q={}", encoded(&search))
                    }
                    Some(_) => bail!("--search is for users"),
                    None => self.path.to_owned(),
                };
                let items = transport.list(&path, self.list, limit).await?;
                show_list(&Value::Array(items.clone()), &self.rows(&items), as_json)
            }
            Common::Show { name } => {
                let id = self.resolve(target, &name).await?;
                let object = transport.get(&format!("{}/{id}", self.path)).await?;
                show(&object, as_json)
            }
            Common::Create { name, fields } => {
                let mut document = fields.document()?;
                if self.path == CONNECTION.path && !document.contains_key("strategy") {
                    document.insert("strategy".to_owned(), json!(name));
                }
                document.insert(self.name.to_owned(), Value::String(name));
                let made = transport
                    .call(Method::POST, self.path, Some(&Value::Object(document)))
                    .await?;
                show(&made, as_json)
            }
            Common::Update { name, fields } => {
                let id = self.resolve(target, &name).await?;
                let document = fields.document()?;
                if document.is_empty() {
                    bail!("nothing to change; --set FIELD=VALUE");
                }
                let path = format!("{}/{id}", self.path);
                let body = self.with_kept_options(target, &path, document).await?;
                let changed = transport.call(Method::PATCH, &path, Some(&body)).await?;
                show(&changed, as_json)
            }
            Common::Delete {
                name,
                delete_accounts,
            } => {
                let id = self.resolve(target, &name).await?;
                let mut path = format!("{}/{id}", self.path);
                if delete_accounts && self.path == CONNECTION.path {
                    path += "?delete_accounts=true";
                }
                transport.call(Method::DELETE, &path, None).await?;
                eprintln!("deleted the {} {}", self.word, output::printable(&name));
                Ok(())
            }
        }
    }

    /// The API replaces fields that are objects as a whole; here, what is not named inside of one stays.
    async fn with_kept_options(
        &self,
        target: &Target,
        path: &str,
        mut change: Map<String, Value>,
    ) -> Result<Value> {
        if change.values().any(Value::is_object) {
            let present = target.transport.get(path).await?;
            for (name, value) in &mut change {
                if let (Value::Object(new), Some(Value::Object(old))) = (value, present.get(name)) {
                    for (inner, kept) in old {
                        new.entry(inner.clone()).or_insert_with(|| kept.clone());
                    }
                }
            }
        }
        Ok(Value::Object(change))
    }
}

fn show_list(items: &Value, table: &str, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(items)?);
    } else {
        print!("{table}");
    }
    Ok(())
}

/// One object.
pub(crate) fn show(object: &Value, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(object)?);
    } else {
        print!("{}", output::object(object));
    }
    Ok(())
}

/// Runs a command about clients.
pub(crate) async fn client(target: &Target, command: ClientCommand, as_json: bool) -> Result<()> {
    let transport = &target.transport;
    match command {
        ClientCommand::Common(common) => CLIENT.run(target, common, as_json).await,
        ClientCommand::Setup {
            name,
            callbacks,
            connections,
            secret_out,
        } => {
            let made = set_up(target, name, &callbacks, &connections, &secret_out).await?;
            if as_json {
                return show(&made, true);
            }
            // Alone, so that a script can keep it.
            println!("{}", output::cell(made.get("client_id")));
            Ok(())
        }
        ClientCommand::RotateSecret {
            name,
            keep_previous_for,
        } => {
            let id = CLIENT.resolve(target, &name).await?;
            let path = format!("clients/{id}/rotate-secret?keep_previous_for={keep_previous_for}");
            let rotated = transport.call(Method::POST, &path, None).await?;
            if as_json {
                return show(&rotated, true);
            }
            // Alone, so that it can be written to a file.
            println!("{}", output::cell(rotated.get("client_secret")));
            Ok(())
        }
        ClientCommand::Credentials { name } => {
            let id = CLIENT.resolve(target, &name).await?;
            let keys = transport.get(&format!("clients/{id}/credentials")).await?;
            let rows = keys.as_array().into_iter().flatten().map(|key| {
                ["id", "kid", "alg", "purpose", "expires_at"]
                    .map(|name| output::cell(key.get(name)))
            });
            let table = output::table(["ID", "KID", "ALG", "PURPOSE", "EXPIRES"], rows);
            show_list(&keys, &table, as_json)
        }
        ClientCommand::AddCredential { name, fields } => {
            let id = CLIENT.resolve(target, &name).await?;
            let body = Value::Object(fields.document()?);
            let path = format!("clients/{id}/credentials");
            let made = transport.call(Method::POST, &path, Some(&body)).await?;
            show(&made, as_json)
        }
        ClientCommand::RemoveCredential { name, credential } => {
            let id = CLIENT.resolve(target, &name).await?;
            let path = format!("clients/{id}/credentials/{}", encoded(&credential));
            transport.call(Method::DELETE, &path, None).await?;
            eprintln!("deleted the key");
            Ok(())
        }
        ClientCommand::Grants { name } => {
            let path = match name {
                Some(name) => {
                    let id = CLIENT.resolve(target, &name).await?;
                    format!("client-grants?client_id={id}")
                }
                None => "client-grants".to_owned(),
            };
            let grants = transport.list(&path, "client_grants", usize::MAX).await?;
            let rows = grants.iter().map(|grant| {
                ["id", "client_id", "audience", "subject_type", "scope"]
                    .map(|name| output::cell(grant.get(name)))
            });
            let table = output::table(["ID", "CLIENT", "API", "FOR", "SCOPES"], rows);
            show_list(&Value::Array(grants.clone()), &table, as_json)
        }
        ClientCommand::Grant {
            name,
            audience,
            scopes,
            all_scopes,
            user,
        } => {
            let id = CLIENT.resolve(target, &name).await?;
            let body = json!({
                "client_id": id,
                "audience": audience,
                "scope": scopes,
                "allow_all_scopes": all_scopes,
                "subject_type": if user { "user" } else { "client" },
            });
            let made = transport
                .call(Method::POST, "client-grants", Some(&body))
                .await?;
            show(&made, as_json)
        }
        ClientCommand::Ungrant { grant } => {
            let path = format!("client-grants/{}", encoded(&grant));
            transport.call(Method::DELETE, &path, None).await?;
            eprintln!("took the grant back");
            Ok(())
        }
    }
}

/// Registers an application that connects accounts and exchanges. Its secret is in the file, and not in what is returned.
async fn set_up(
    target: &Target,
    name: String,
    callbacks: &[String],
    connections: &[String],
    secret_out: &Path,
) -> Result<Value> {
    if secret_out.exists() {
        bail!("{} exists already", secret_out.display());
    }
    let mut ids = Vec::new();
    for connection in connections {
        ids.push(CONNECTION.resolve(target, connection).await?);
    }
    let me = format!("{}me/", target.issuer);
    let scopes = [
        "create:me:connected_accounts",
        "read:me:connected_accounts",
        "delete:me:connected_accounts",
    ];
    let transport = &target.transport;
    let client = json!({
        "name": name,
        "app_type": "regular_web",
        "callbacks": callbacks,
        "grant_types": [grant::AUTHORIZATION_CODE, grant::REFRESH_TOKEN, grant::TOKEN_VAULT],
        "refresh_token": {
            "rotation_type": "non-rotating",
            "expiration_type": "expiring",
            "policies": [{ "audience": me, "scope": scopes }],
        },
    });
    let mut made = transport
        .call(Method::POST, "clients", Some(&client))
        .await?;
    let secret = made
        .as_object_mut()
        .and_then(|made| made.remove("client_secret"));
    material::write_secret(secret_out, &output::cell(secret.as_ref()))?;
    let id = output::cell(made.get("client_id"));
    let grant = json!({ "client_id": id, "audience": me, "scope": scopes, "subject_type": "user" });
    transport
        .call(Method::POST, "client-grants", Some(&grant))
        .await?;
    let enabled = json!([{ "client_id": id, "status": true }]);
    for connection in ids {
        let path = format!("connections/{connection}/clients");
        transport.call(Method::PATCH, &path, Some(&enabled)).await?;
    }
    Ok(made)
}

/// Runs a command about connections.
pub(crate) async fn connection(
    target: &Target,
    command: ConnectionCommand,
    as_json: bool,
) -> Result<()> {
    let (name, client, status) = match command {
        ConnectionCommand::Common(common) => return CONNECTION.run(target, common, as_json).await,
        ConnectionCommand::Check { name } => {
            let id = CONNECTION.resolve(target, &name).await?;
            let path = format!("connections/{id}/check");
            let check = target.transport.call(Method::POST, &path, None).await?;
            let findings = check.get("findings").and_then(Value::as_array);
            let rows = findings.into_iter().flatten().map(|finding| {
                ["check", "ok", "message"].map(|name| output::cell(finding.get(name)))
            });
            let table = output::table(["WHAT", "GOOD", "WHAT WAS SEEN"], rows);
            show_list(&check, &table, as_json)?;
            if check.get("ok") != Some(&Value::Bool(true)) {
                bail!("something is wrong with the connection");
            }
            return Ok(());
        }
        ConnectionCommand::Enable { name, client } => (name, client, true),
        ConnectionCommand::Disable { name, client } => (name, client, false),
    };
    let id = CONNECTION.resolve(target, &name).await?;
    let client_id = CLIENT.resolve(target, &client).await?;
    let body = json!([{ "client_id": client_id, "status": status }]);
    let path = format!("connections/{id}/clients");
    target
        .transport
        .call(Method::PATCH, &path, Some(&body))
        .await?;
    let word = if status { "may" } else { "may not" };
    eprintln!(
        "the client {} {word} use {}",
        output::printable(&client),
        output::printable(&name)
    );
    Ok(())
}

/// Runs a command about APIs.
pub(crate) async fn api(target: &Target, command: ApiCommand, as_json: bool) -> Result<()> {
    let ApiCommand::Common(common) = command;
    API.run(target, common, as_json).await
}

/// Runs a command about users.
pub(crate) async fn user(target: &Target, command: UserCommand, as_json: bool) -> Result<()> {
    let transport = &target.transport;
    match command {
        UserCommand::Common(common) => USER.run(target, common, as_json).await,
        UserCommand::Block { name } => set_blocked(target, &name, true, as_json).await,
        UserCommand::Unblock { name } => set_blocked(target, &name, false, as_json).await,
        UserCommand::Sessions { name } => {
            let id = USER.resolve(target, &name).await?;
            let path = format!("users/{id}/sessions");
            let sessions = transport.list(&path, "sessions", usize::MAX).await?;
            let rows = sessions.iter().map(|session| {
                ["id", "authenticated_at", "idle_expires_at", "expires_at"]
                    .map(|name| output::cell(session.get(name)))
            });
            let table = output::table(["ID", "LOGGED IN", "ENDS IDLE", "ENDS"], rows);
            show_list(&Value::Array(sessions.clone()), &table, as_json)
        }
        UserCommand::Revoke {
            name,
            keep_refresh_tokens,
        } => {
            let id = USER.resolve(target, &name).await?;
            let body = json!({ "preserve_refresh_tokens": keep_refresh_tokens });
            let path = format!("users/{id}/revoke-access");
            transport.call(Method::POST, &path, Some(&body)).await?;
            eprintln!("ended what {} had", output::printable(&name));
            Ok(())
        }
    }
}

async fn set_blocked(target: &Target, name: &str, blocked: bool, as_json: bool) -> Result<()> {
    let id = USER.resolve(target, name).await?;
    let body = json!({ "blocked": blocked });
    let changed = target
        .transport
        .call(Method::PATCH, &format!("users/{id}"), Some(&body))
        .await?;
    show(&changed, as_json)
}

/// Runs a command about connected accounts.
pub(crate) async fn account(target: &Target, command: AccountCommand, as_json: bool) -> Result<()> {
    let transport = &target.transport;
    match command {
        AccountCommand::List { user } => {
            let id = USER.resolve(target, &user).await?;
            let path = format!("users/{id}/connected-accounts");
            let accounts = transport
                .list(&path, "connected_accounts", usize::MAX)
                .await?;
            let rows = accounts.iter().map(|account| {
                ["id", "connection", "status", "created_at", "scopes"]
                    .map(|name| output::cell(account.get(name)))
            });
            let table = output::table(["ID", "CONNECTION", "STATUS", "CONNECTED", "SCOPES"], rows);
            show_list(&Value::Array(accounts.clone()), &table, as_json)
        }
        AccountCommand::Remove { user, account } => {
            let id = USER.resolve(target, &user).await?;
            let path = format!("users/{id}/connected-accounts/{}", encoded(&account));
            transport.call(Method::DELETE, &path, None).await?;
            eprintln!("disconnected the account {}", output::printable(&account));
            Ok(())
        }
    }
}

/// Runs a command about signing keys.
pub(crate) async fn signing_keys(target: &Target, as_json: bool) -> Result<()> {
    let keys = target.transport.get("keys/signing").await?;
    let rows = keys.as_array().into_iter().flatten().map(|key| {
        let state = ["current", "next", "previous", "revoked"]
            .into_iter()
            .find(|state| key.get(*state) == Some(&Value::Bool(true)));
        [
            output::cell(key.get("kid")),
            output::cell(key.get("alg")),
            state.unwrap_or_default().to_owned(),
            output::cell(key.get("current_since")),
        ]
    });
    let table = output::table(["KID", "ALG", "STATE", "SIGNS SINCE"], rows);
    show_list(&keys, &table, as_json)
}
