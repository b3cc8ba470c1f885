//! The command line of an administrator, by the real program against a real vault.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use headless::{Agent, MOST_HOPS};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tokenvault");

/// A development vault in a folder of its own. Killed when dropped.
struct Dev {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Dev {
    fn start(simulate: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Two ports beside each other, which nobody has at the moment.
        let (port, _held) = (0..50)
            .find_map(|_| {
                let first = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
                let port = first.local_addr().ok()?.port();
                let second =
                    std::net::TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?;
                Some((port, (first, second)))
            })
            .unwrap();
        drop(_held);
        let mut command = Command::new(PROGRAM);
        command.args(["dev", "--port", &port.to_string()]);
        for name in simulate {
            command.args(["--simulate", name]);
        }
        let mut process = command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It says how to stop it when everything answers.
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("Stop with Ctrl-C"));
        assert!(ready, "the vault ended");
        Self {
            folder,
            port,
            process,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that has to succeed and returns what it prints.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(arguments)).unwrap()
    }

    /// Runs a command that has to fail and returns its exit code and what it says.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        (output.status.code().unwrap(), text)
    }

    /// The same with something on standard input.
    fn fed(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn every_resource_is_looked_after() {
    let dev = Dev::start(&[]);
    // Clients.
    let made = dev.json(&[
        "client",
        "create",
        "Agent",
        "--set",
        "app_type=spa",
        "--json",
    ]);
    let id = made["client_id"].as_str().unwrap();
    assert!(dev.done(&["client", "list"]).contains(id));
    let shown = dev.done(&["client", "show", "Agent"]);
    assert!(shown.contains("token_endpoint_auth_method") && shown.contains("none"));
    dev.done(&[
        "client",
        "update",
        "Agent",
        "--set",
        "description=Reads",
        "--set",
        "callbacks=[\"https://a.example/\"]",
    ]);
    let shown = dev.json(&["client", "show", id, "--json"]);
    assert_eq!(shown["description"], "Reads");
    let grant = dev.json(&[
        "client",
        "grant",
        "Agent",
        "https://demo-api.example/",
        "--scope",
        "read:reports",
        "--json",
    ]);
    assert!(
        dev.done(&["client", "grants", "Agent"])
            .contains("read:reports")
    );
    dev.done(&["client", "ungrant", grant["id"].as_str().unwrap()]);
    let secret = dev.done(&["client", "rotate-secret", "Demo background worker"]);
    assert!(secret.trim().len() > 30);
    dev.done(&["client", "delete", "Agent"]);

    // APIs.
    dev.done(&[
        "api",
        "create",
        "https://a.example/",
        "--set",
        "scopes=[{\"value\":\"read\"}]",
    ]);
    assert!(dev.done(&["api", "list"]).contains("https://a.example/"));
    dev.done(&["api", "update", "https://a.example/", "--set", "name=A"]);
    dev.done(&["api", "delete", "https://a.example/"]);

    // Connections: what is not named inside of options stays.
    dev.fed(
        &[
            "connection",
            "create",
            "github",
            "--set",
            "options.client_id=abc",
            "--set-file",
            "options.client_secret=-",
        ],
        "hush\n",
    );
    let shown = dev.json(&[
        "connection",
        "update",
        "github",
        "--set",
        "options.scope=[\"repo\"]",
        "--json",
    ]);
    assert_eq!(
        shown["options"],
        json!({"client_id": "abc", "scope": ["repo"]})
    );
    dev.done(&["connection", "enable", "github", "Demo web application"]);
    dev.done(&["connection", "disable", "github", "Demo web application"]);
    dev.done(&["connection", "delete", "github"]);

    // Users and their accounts.
    dev.fed(
        &[
            "user",
            "create",
            "ada@example.com",
            "--set-file",
            "password=-",
        ],
        "correct horse battery",
    );
    assert!(
        dev.done(&["user", "list", "--search", "email:ada*"])
            .contains("ada@example.com")
    );
    assert!(
        dev.done(&["user", "block", "ada@example.com"])
            .contains("blocked")
    );
    dev.done(&["user", "unblock", "ada@example.com"]);
    dev.done(&["user", "sessions", "ada@example.com"]);
    dev.done(&["user", "revoke", "ada@example.com"]);
    dev.done(&["dev-token", "refresh-token"]);
    let accounts = dev.json(&["account", "list", "demo@example.com", "--json"]);
    let account = accounts[0]["id"].as_str().unwrap();
    dev.done(&["account", "remove", "demo@example.com", account]);
    dev.done(&["user", "delete", "ada@example.com"]);

    // Keys, and the log of all of it.
    let keys = dev.json(&["keys", "list", "--json"]);
    assert_eq!(keys.as_array().unwrap().len(), 6);
    dev.done(&["keys", "rotate", "--alg", "ES256"]);
    assert!(dev.done(&["keys", "list"]).contains("previous"));
    let log = dev.done(&["logs", "list", "--search", "event:user.changed"]);
    assert!(log.lines().count() >= 4, "{log}");
    let all = dev.done(&["logs", "tail", "--from-start", "--limit", "5"]);
    assert_eq!(all.lines().count(), 5);
    assert!(dev.done(&["completion", "bash"]).contains("tokenvault"));
}

#[test]
fn accounts_come_along_into_a_vault_that_runs() {
    let dev = Dev::start(&[]);
    let text = std::fs::read_to_string(dev.path(".tokenvault/dev.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let line = json!({
        "user": file["user"]["user_id"],
        "connection": "sandbox",
        "access_token": "hush-hush",
        "account": {"id": "sandbox-zoe", "login": "zoe"},
    });
    let ended = dev.fed(&["import", "-", "--json"], &line.to_string());
    let counts: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(counts["connected"], 1, "{counts}");
    let accounts = dev.json(&["account", "list", "demo@example.com", "--json"]);
    assert_eq!(accounts[0]["connection"], "sandbox", "{accounts}");
    let log = dev.done(&["logs", "list", "--search", "event:account.imported"]);
    assert!(log.contains("sandbox") && !log.contains("hush"), "{log}");
    let (code, text) = dev.refused(&["import", "nowhere.jsonl"]);
    assert_eq!((code, text.contains("nowhere.jsonl")), (1, true), "{text}");
}

#[test]
fn exit_codes_and_sentences_say_what_is_wrong() {
    let dev = Dev::start(&[]);
    let (code, text) = dev.refused(&["client", "show", "Nobody"]);
    assert_eq!((code, text.contains("Nobody")), (3, true), "{text}");
    let (code, text) = dev.refused(&["api", "create", "https://demo-api.example/"]);
    assert_eq!((code, text.contains("already_exists")), (5, true), "{text}");
    let (code, text) = dev.refused(&["client", "create", "X", "--set", "colour=blue"]);
    assert_eq!(
        (code, text.contains("colour: unknown field")),
        (7, true),
        "{text}"
    );
    let (code, text) = dev.refused(&[
        "user",
        "create",
        "a@b.example",
        "--set",
        "password=hush-hush",
    ]);
    assert_eq!(code, 1);
    assert!(
        text.contains("is a secret") && !text.contains("hush-hush"),
        "{text}"
    );
    let (code, _) = dev.refused(&["client", "frobnicate"]);
    assert_eq!(code, 2);
    write(&dev.path("secret"), "tvcs_wrong");
    let url = format!("https://localhost:{}", dev.port);
    let there = [
        "--url",
        &url,
        "--client-id",
        "cl_none",
        "--client-secret-file",
        "secret",
    ];
    let list = |more: &[&str]| {
        let arguments: Vec<&str> = ["client", "list"]
            .iter()
            .chain(&there)
            .chain(more)
            .copied()
            .collect();
        dev.refused(&arguments)
    };
    // Not trusted, then trusted and not known.
    assert_eq!(list(&[]).0, 6);
    assert_eq!(list(&["--ca-file", ".tokenvault/ca.pem"]).0, 4);
    let (code, text) = dev.refused(&[
        "client",
        "list",
        "--url",
        "http://vault.example",
        "--client-id",
        "x",
        "--client-secret-file",
        "secret",
    ]);
    assert_eq!((code, text.contains("https only")), (1, true), "{text}");
    let (code, text) = dev.refused(&["client", "list", "--data", "nowhere"]);
    assert_eq!((code, text.contains("which vault?")), (1, true), "{text}");
}

#[test]
fn a_profile_is_a_vault_that_is_remembered() {
    let dev = Dev::start(&[]);
    let text = std::fs::read_to_string(dev.path(".tokenvault/dev.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let management = &file["management"];
    let url = format!("https://localhost:{}", dev.port);
    dev.fed(
        &[
            "profile",
            "add",
            "here",
            "--url",
            &url,
            "--client-id",
            management["client_id"].as_str().unwrap(),
            "--client-secret-file",
            "-",
            "--ca-file",
            ".tokenvault/ca.pem",
        ],
        management["client_secret"].as_str().unwrap(),
    );
    assert!(dev.done(&["profile", "list"]).contains("here"));
    let list = ["client", "list", "--data", "nowhere"];
    assert!(dev.done(&list).contains("Demo administrator"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = dev.path(".config/tokenvault/here.secret");
        let mode = std::fs::metadata(secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
    dev.done(&["profile", "remove", "here"]);
    assert_eq!(dev.refused(&list).0, 1);
}

#[test]
fn the_vault_of_this_machine_needs_nobodys_permission() {
    let folder = tempfile::tempdir().unwrap();
    let here = |arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    here(&["keys", "generate", "--out", "master.key"]);
    write(
        &folder.path().join("tokenvault.toml"),
        "issuer = \"https://vault.example\"\n[database]\nurl = \"sqlite:vault.db\"\n[master_key]\nfile = \"master.key\"\n\
         [listen]\naddress = [\"127.0.0.1:0\"]\nbehind_proxy = true\n",
    );
    let local = |arguments: &[&str]| {
        let all: Vec<&str> = arguments
            .iter()
            .chain(&["--local", "tokenvault.toml"])
            .copied()
            .collect();
        here(&all)
    };
    // The first administrator of a new deployment.
    let made = local(&[
        "client",
        "create",
        "Administrator",
        "--set",
        "app_type=non_interactive",
        "--json",
    ]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert!(made["client_secret"].is_string());
    local(&[
        "client",
        "grant",
        "Administrator",
        "https://vault.example/api/v2/",
        "--all-scopes",
    ]);
    assert!(local(&["client", "grants"]).contains("api/v2"));
    local(&["keys", "rotate"]);
    assert!(local(&["keys", "list"]).contains("previous"));
    assert!(local(&["logs", "list"]).contains("client.changed"));
}

#[test]
fn a_folder_is_exported_shown_and_applied() {
    let dev = Dev::start(&[]);
    let exported = dev.done(&["export", "configuration"]);
    assert!(exported.contains("SANDBOX_CLIENT_SECRET"), "{exported}");
    let (code, text) = dev.refused(&["apply", "configuration", "--dry-run"]);
    assert_eq!(code, 1);
    assert!(
        text.contains("connections/sandbox.toml: options.client_secret: the environment variable"),
        "{text}"
    );

    let text = std::fs::read_to_string(dev.path(".tokenvault/dev.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let secret = file["sandbox"]["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let apply = |arguments: &[&str]| {
        let all: Vec<&str> = ["apply", "configuration"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let output = dev
            .command(&all)
            .env("SANDBOX_CLIENT_SECRET", &secret)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    assert_eq!(apply(&[]), (true, "nothing differs\n".to_owned()));

    write(
        &dev.path("configuration/clients/agent.toml"),
        "name = \"Agent\"\napp_type = \"regular_web\"\ncallbacks = [\"https://agent.example/callback\"]\n\n[[grants]]\n\
         audience = \"{issuer}me/\"\nscope = [\"read:me:connected_accounts\"]\nsubject_type = \"user\"\n",
    );
    let (fine, text) = apply(&["--dry-run"]);
    assert!(
        fine && text.contains("+ client Agent")
            && text.contains("1 to make, 0 to change, 0 to delete"),
        "{text}"
    );
    assert!(!dev.done(&["client", "list"]).contains("Agent"));
    let (fine, text) = apply(&[]);
    assert!(!fine && text.contains("--yes"), "{text}");
    let (fine, text) = apply(&["--yes", "--secrets", "new.json"]);
    assert!(fine && text.contains("applied"), "{text}");
    let made: Value =
        serde_json::from_str(&std::fs::read_to_string(dev.path("new.json")).unwrap()).unwrap();
    assert_eq!(made[0]["name"], "Agent");
    assert!(!text.contains(made[0]["client_secret"].as_str().unwrap()));
    assert_eq!(apply(&[]), (true, "nothing differs\n".to_owned()));

    // What is wrong is named by file and field.
    write(
        &dev.path("configuration/clients/agent.toml"),
        "name = \"Agent\"\ncallbacks = [\"nowhere\"]\n",
    );
    let (fine, text) = apply(&["--yes"]);
    assert!(
        !fine && text.contains("clients/agent.toml: callbacks"),
        "{text}"
    );

    // What is left out goes only where that is allowed.
    std::fs::remove_file(dev.path("configuration/clients/agent.toml")).unwrap();
    let (fine, text) = apply(&["--yes"]);
    assert!(
        !fine && text.contains("- client Agent") && text.contains("--allow-delete"),
        "{text}"
    );
    assert!(dev.done(&["client", "list"]).contains("Agent"));
    let (fine, text) = apply(&["--yes", "--allow-delete"]);
    assert!(fine && text.contains("applied"), "{text}");
    assert!(!dev.done(&["client", "list"]).contains("Agent"));
}

#[test]
fn a_check_of_the_configuration_reads_what_a_start_would_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let check = |changed: &[(&str, &str)]| -> (Option<i32>, String) {
        let output = Command::new(PROGRAM)
            .args(["serve", "--check"])
            .current_dir(folder.path())
            .env_clear()
            .envs([
                ("TOKENVAULT_ISSUER", "https://vault.test/"),
                ("TOKENVAULT_DATABASE_URL", "sqlite:vault.db"),
                ("TOKENVAULT_MASTER_KEY_FILE", "master.key"),
                ("TOKENVAULT_LISTEN_CERTIFICATE_FILE", "tls.pem"),
                ("TOKENVAULT_LISTEN_PRIVATE_KEY_FILE", "tls.key"),
                ("TOKENVAULT_REFRESH_RESCUE_DIRECTORY", "rescue"),
            ])
            .envs(changed.iter().copied())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let names = vec!["vault.test".to_owned()];
    let good = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let other = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(path("tls.key"), good.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("other.pem"), other.cert.pem()).unwrap();
    let made = Command::new(PROGRAM)
        .args(["keys", "generate", "--out", "master.key"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");

    let (code, text) = check(&[]);
    assert_eq!(
        (code, text.contains("the certificate file tls.pem")),
        (Some(1), true),
        "{text}"
    );
    std::fs::write(path("tls.pem"), good.cert.pem()).unwrap();
    let (code, text) = check(&[]);
    assert_eq!(
        (code, text.trim()),
        (Some(0), "the configuration is good"),
        "{text}"
    );
    for (name, value, named) in [
        (
            "TOKENVAULT_LISTEN_PRIVATE_KEY_FILE",
            "gone.key",
            "the private key file gone.key",
        ),
        (
            "TOKENVAULT_LISTEN_CERTIFICATE_FILE",
            "other.pem",
            "do not belong together",
        ),
        ("TOKENVAULT_MASTER_KEY_FILE", "gone.key", "gone.key"),
        ("TOKENVAULT_MASTER_KEY_FILE", "other.pem", "other.pem"),
        ("TOKENVAULT_OUTBOUND_CA_FILE", "gone.pem", "gone.pem"),
        (
            "TOKENVAULT_OUTBOUND_CA_FILE",
            "tls.key",
            "the outbound settings",
        ),
        ("TOKENVAULT_OUTBOUND_PROVIDERS_FOLDER", "gone", "gone"),
        ("TOKENVAULT_LOG_LEVEL", "loud=er", "loud=er"),
    ] {
        let (code, text) = check(&[(name, value)]);
        assert_eq!(
            (code, text.contains(named)),
            (Some(1), true),
            "{name}={value}: {text}"
        );
    }
    assert!(!path("vault.db").exists() && !path("rescue").exists());
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let dev = Dev::start(&[]);
    let text = dev.done(&["doctor"]);
    for what in [
        "issuer",
        "clock",
        "certificate",
        "database",
        "signing keys",
        "connection sandbox, client",
    ] {
        assert!(text.contains(&format!("good   {what}: ")), "{what}: {text}");
    }
    assert!(text.contains("/connect/callback/"));
    dev.fed(
        &[
            "connection",
            "update",
            "sandbox",
            "--set-file",
            "options.client_secret=-",
        ],
        "not the one",
    );
    let output = dev.run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let wrong: Vec<&Value> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["ok"] == false)
        .collect();
    assert_eq!(wrong.len(), 1, "{findings}");
    assert!(
        wrong[0]["message"]
            .as_str()
            .unwrap()
            .contains("Check client_id and client_secret")
    );
}

#[test]
fn a_token_is_exchanged_from_the_command_line() {
    let dev = Dev::start(&[]);
    let token = dev.done(&["dev-token", "refresh-token"]);
    write(&dev.path("refresh"), &token);
    let text = std::fs::read_to_string(dev.path(".tokenvault/dev.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    write(
        &dev.path("web"),
        file["clients"]["web"]["client_secret"].as_str().unwrap(),
    );
    write(
        &dev.path("worker"),
        file["clients"]["worker"]["client_secret"].as_str().unwrap(),
    );
    let exchanged = dev.done(&[
        "exchange",
        "sandbox",
        "--as",
        "Demo web application",
        "--as-secret-file",
        "web",
        "--refresh-token-file",
        "refresh",
    ]);
    // Into a pipe, the token and nothing else.
    assert_eq!(exchanged.lines().count(), 1);
    let worker = &file["clients"]["worker"];
    let answer = dev.json(&[
        "exchange",
        "sandbox",
        "--as",
        worker["client_id"].as_str().unwrap(),
        "--as-secret-file",
        "worker",
        "--worker-key-file",
        worker["private_key_file"].as_str().unwrap(),
        "--kid",
        worker["kid"].as_str().unwrap(),
        "--user",
        file["user"]["user_id"].as_str().unwrap(),
        "--json",
    ]);
    assert!(answer["access_token"].is_string(), "{answer}");
    let (code, text) = dev.refused(&[
        "exchange",
        "nothing",
        "--as",
        "Demo web application",
        "--as-secret-file",
        "web",
        "--refresh-token-file",
        "refresh",
    ]);
    assert_eq!(code, 4, "{text}");
}

/// The blocks of commands below a heading of the README.
fn commands_of(heading: &str) -> Vec<String> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let section = readme.split(&format!("## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// Somebody at a browser, who logs in as Ada and says yes wherever they are asked.
async fn consent(ca: &[u8], url: &str) {
    let mut agent = Agent::trusting(ca).unwrap();
    let nowhere = "nowhere:";
    let mut stop = agent.open(url, nowhere).await.unwrap();
    for _ in 0..MOST_HOPS {
        if stop.page.contains("The account is connected") {
            return;
        }
        let values: &[(&str, &str)] = if stop.asks_for_password() {
            &[
                ("username", "ada@example.com"),
                ("password", "correct horse battery"),
            ]
        } else {
            &[]
        };
        stop = agent.submit(&stop, values, nowhere).await.unwrap();
    }
    panic!("the way does not end: {}", stop.page);
}

#[tokio::test]
async fn the_readme_leads_from_nothing_to_a_github_token() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut blocks = commands_of("From nothing to a GitHub token for your app");
    assert_eq!(blocks.len(), 4);
    // The first block builds the program and starts the vault: here, with the sandbox in GitHub's place.
    assert!(blocks.remove(0).ends_with("tokenvault dev\n"));
    let dev = Dev::start(&["github-expiring"]);
    let callback = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let callback_port = callback.local_addr().unwrap().port().to_string();
    drop(callback);
    let script = blocks
        .join("\n")
        .replace(
            "GITHUB_CLIENT_ID=...",
            &format!("GITHUB_CLIENT_ID={}", sandbox::CLIENT_ID),
        )
        .replace(
            "GITHUB_CLIENT_SECRET=...",
            &format!("GITHUB_CLIENT_SECRET={}", sandbox::CLIENT_SECRET),
        )
        .replace("localhost:8443", &format!("localhost:{}", dev.port))
        .replace("3000", &callback_port);
    let folder = Path::new(PROGRAM).parent().unwrap();
    let script = format!("PATH={}:$PATH\n{script}", folder.display());
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(dev.folder.path())
        .env("HOME", dev.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ca = std::fs::read(dev.path(".tokenvault/ca.pem")).unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(url) = line.strip_prefix("open in a browser: ") {
            consent(&ca, url).await;
        }
        said.push(line);
    }
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(
        child.wait().unwrap().success(),
        "{}\n{errors}",
        said.join("\n")
    );
    let answer: Value = serde_json::from_str(said.last().unwrap()).unwrap();
    assert!(answer["access_token"].is_string(), "{answer}");
    assert_eq!(
        answer["issued_token_type"],
        "http://auth0.com/oauth/token-type/federated-connection-access-token"
    );
}
