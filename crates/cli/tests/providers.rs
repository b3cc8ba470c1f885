//! The catalogue on the command line, and a development vault that plays a provider.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use headless::Agent;
use oauth::grant;
use reqwest::Method;
use serde_json::{Value, json};

fn tokenvault(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tokenvault"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_catalogue_is_listed_shown_and_copied() {
    let listed = tokenvault(&["providers"]);
    assert!(listed.status.success());
    for strategy in ["github", "google-oauth2", "waad", "zoho"] {
        assert!(text(&listed.stdout).contains(strategy), "{strategy}");
    }
    let shown = text(&tokenvault(&["providers", "show", "shopify"]).stdout);
    for said in [
        "https://dev.shopify.com",
        "variable shop",
        "shopify_callback_hmac",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let unknown = tokenvault(&["providers", "show", "shopfy"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean shopify"));
}

#[test]
fn a_file_of_ours_can_be_copied_changed_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let copy = text(&tokenvault(&["providers", "show", "--toml", "linear"]).stdout);
    let own = copy.replace("strategy = \"linear\"", "strategy = \"our-linear\"");
    std::fs::write(folder.path().join("our-linear.toml"), &own).unwrap();
    let good = tokenvault(&["providers", "check", dir]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    let listed = tokenvault(&["providers", "--folder", dir]);
    assert!(text(&listed.stdout).contains("our-linear"));
    // Every file that is wrong is named, with its field.
    let wrong = own.replace(
        "https://api.linear.app/oauth/token",
        "http://api.linear.app/oauth/token",
    );
    std::fs::write(folder.path().join("our-linear.toml"), wrong).unwrap();
    std::fs::write(folder.path().join("other.toml"), "strategy = 1").unwrap();
    let refused = tokenvault(&["providers", "check", dir]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.contains("our-linear.toml") && said.contains("endpoints.token"),
        "{said}"
    );
    assert!(said.contains("other.toml"), "{said}");
}

/// `tokenvault dev`, killed when dropped.
struct Dev {
    process: Child,
    file: Value,
    agent: Agent,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two free ports beside each other: the first.
fn ports() -> u16 {
    loop {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

impl Dev {
    fn start(folder: &std::path::Path, port: u16, simulations: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenvault"));
        command
            .args([
                "dev",
                "--log",
                "error",
                "--port",
                &port.to_string(),
                "--data",
            ])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for name in simulations {
            command.args(["--simulate", name]);
        }
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let told: Vec<String> = lines
            .map(Result::unwrap)
            .take_while(|line| !line.starts_with("Stop with"))
            .collect();
        for name in simulations {
            let line = format!("connection '{name}'");
            assert!(told.iter().any(|told| told.contains(&line)), "{told:?}");
        }
        let file = std::fs::read_to_string(folder.join("dev.json")).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        let ca = std::fs::read(file["ca_file"].as_str().unwrap()).unwrap();
        Self {
            process,
            agent: Agent::trusting(&ca).unwrap(),
            file,
        }
    }

    fn text(&self, pointer: &str) -> String {
        self.file
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn post(&mut self, path: &str, bearer: Option<&str>, body: &Value) -> Value {
        let url = format!("{}{path}", self.text("/issuer"));
        let (status, answer) = self
            .agent
            .call(Method::POST, &url, bearer, Some(body))
            .await
            .unwrap();
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// Goes through every page between an address and the application, by its first button.
    async fn consent(&mut self, url: &str, until: &str) -> headless::Stop {
        let (username, password) = (self.text("/user/username"), self.text("/user/password"));
        let mut stop = self.agent.open_any(url, until).await.unwrap();
        for _ in 0..8 {
            if stop.url.as_str().starts_with(until) {
                return stop;
            }
            let person = [
                ("username", username.as_str()),
                ("password", password.as_str()),
            ];
            let values = if stop.asks_for_password() {
                &person[..]
            } else {
                &[]
            };
            stop = self.agent.submit_any(&stop, values, until).await.unwrap();
        }
        panic!("the way does not end: {}", stop.url)
    }
}

#[tokio::test]
async fn an_application_can_be_run_against_a_simulated_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let port = ports();
    // The second start finds what the first one made.
    for start in 1..=2 {
        let mut dev = Dev::start(folder.path(), port, &["github-expiring", "slack-rotating"]);
        let refresh_token = tokenvault(&[
            "dev-token",
            "refresh-token",
            "--data",
            folder.path().to_str().unwrap(),
        ]);
        assert!(
            refresh_token.status.success(),
            "{}",
            text(&refresh_token.stderr)
        );
        let refresh_token = text(&refresh_token.stdout).trim().to_owned();
        let (client_id, client_secret, back) = (
            dev.text("/clients/web/client_id"),
            dev.text("/clients/web/client_secret"),
            dev.text("/clients/web/redirect_uri"),
        );
        let me = json!({
            "grant_type": "refresh_token", "client_id": client_id, "client_secret": client_secret,
            "refresh_token": refresh_token, "audience": format!("{}me/", dev.text("/issuer")),
        });
        let me = dev.post("oauth/token", None, &me).await["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        for connection in ["github-expiring", "slack-rotating"] {
            let started = json!({ "connection": connection, "redirect_uri": back, "state": "s" });
            let started = dev
                .post("me/v1/connected-accounts/connect", Some(&me), &started)
                .await;
            let url = format!(
                "{}?ticket={}",
                started["connect_uri"].as_str().unwrap(),
                started["connect_params"]["ticket"].as_str().unwrap()
            );
            let stop = dev.consent(&url, &back).await;
            let complete = json!({
                "auth_session": started["auth_session"],
                "connect_code": stop.answer("connect_code").unwrap(),
                "redirect_uri": back,
            });
            let account = dev
                .post("me/v1/connected-accounts/complete", Some(&me), &complete)
                .await;
            assert_eq!(account["status"], "active", "start {start}");
            let exchange = json!({
                "grant_type": grant::TOKEN_VAULT, "client_id": client_id, "client_secret": client_secret,
                "subject_token": refresh_token, "subject_token_type": grant::TOKEN_TYPE_REFRESH_TOKEN,
                "requested_token_type": grant::TOKEN_TYPE_FEDERATED_CONNECTION, "connection": connection,
            });
            let exchanged = dev.post("oauth/token", None, &exchange).await;
            assert!(
                exchanged["access_token"]
                    .as_str()
                    .unwrap()
                    .starts_with("sima_")
            );
        }
    }
}

#[test]
fn a_simulation_that_does_not_exist_is_told_where_to_look() {
    let folder = tempfile::tempdir().unwrap();
    let refused = tokenvault(&[
        "dev",
        "--port",
        "0",
        "--data",
        folder.path().to_str().unwrap(),
        "--simulate",
        "myspace",
    ]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("tokenvault providers simulated"), "{said}");
}
