//! `tokenvault import` by the real program, over both engines.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use acceptance::{World, story};
use anyhow::{Result, bail};
use sandbox::{Behaviour, Rotation};
use serde_json::{Value, json};
use store::params;
use vault::{Clock as _, SystemClock};

/// The command, told everything about its vault by the environment.
fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenvault"));
    command
        .arg("import")
        .args(arguments)
        .current_dir(world.database.folder())
        .env_clear()
        .envs([
            ("TOKENVAULT_ISSUER", "https://vault.test/"),
            ("TOKENVAULT_NODE", "import"),
            ("TOKENVAULT_DATABASE_URL", &world.database.url),
            ("TOKENVAULT_LISTEN_ADDRESS", "127.0.0.1:1"),
            ("TOKENVAULT_LISTEN_BEHIND_PROXY", "true"),
            ("TOKENVAULT_MASTER_KEY_ENVIRONMENT", "MASTER_KEY"),
            ("MASTER_KEY", world.master_key_text.reveal()),
            (
                "TOKENVAULT_OUTBOUND_ALLOWED_ORIGINS",
                world.sandbox.base_url(),
            ),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run said and left, without a single token in it.
struct Ended {
    code: i32,
    counts: Value,
    stderr: String,
}

fn ended(output: &Output) -> Ended {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(!stdout.contains("hush"), "{stdout}");
    assert!(!stderr.contains("hush"), "{stderr}");
    Ended {
        code: output.status.code().unwrap(),
        counts: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stderr,
    }
}

/// Runs while the world's own servers go on answering.
async fn run(world: &World, arguments: &[&str]) -> Result<Ended> {
    let mut command = command(world, arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(ended(&output))
}

async fn fed(world: &World, arguments: &[&str], input: String) -> Result<Ended> {
    let mut command = command(world, arguments);
    command.stdin(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn()?;
        child.stdin.take().unwrap().write_all(input.as_bytes())?;
        child.wait_with_output()
    });
    Ok(ended(&output.await??))
}

fn line(user: &str, subject: &str) -> Value {
    json!({
        "user": user,
        "connection": "sandbox",
        "access_token": format!("hush_access_of_{subject}"),
        "refresh_token": format!("hush_refresh_of_{subject}"),
        "expires_in": 3600,
        "account": {"id": subject},
    })
}

fn write(world: &World, name: &str, lines: &[String]) -> PathBuf {
    let path = world.database.folder().join(name);
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn accounts(world: &World) -> i64 {
    world
        .count("select count(*) from accounts", params![])
        .await
}

story!(what_is_refused_is_reported_and_the_rest_comes_in, |world| {
    let user = world.user.id.clone();
    let mut unknown_field = line(&user, "two");
    unknown_field["hush_hush"] = json!("hush");
    let mut nobody = line("usr_nobody", "three");
    nobody["account"]["login"] = json!("ada");
    let lines = [
        line(&user, "one").to_string(),
        String::new(),
        "{\"access_token\": \"hush_hush\"".to_owned(),
        nobody.to_string(),
        format!("{{\"access_token\": \"{}\"}}", "hush".repeat(20_000)),
        line(&user, "four").to_string(),
        // The same account with another token.
        line(&user, "one").to_string().replace("_of_", "_again_of_"),
    ];
    let file = write(world, "accounts.jsonl", &lines);
    let report = world.database.folder().join("report.jsonl");
    let arguments = [text(&file), "--json", "--report", text(&report)];
    // Nothing is written by a dry run.
    let dry = run(world, &[&arguments[..], &["--dry-run"]].concat()).await?;
    assert_eq!((dry.code, accounts(world).await), (8, 0), "{}", dry.stderr);
    let really = run(world, &arguments).await?;
    assert_eq!((really.code, accounts(world).await), (8, 2));
    assert_eq!(really.counts["connected"], 2, "{}", really.counts);
    assert_eq!(dry.counts["refused"], really.counts["refused"]);
    assert!(
        really
            .stderr
            .contains("6 lines: 2 connected, 0 replaced, 0 imported before, 4 refused"),
        "{}",
        really.stderr
    );
    let reported = std::fs::read_to_string(&report)?;
    assert!(!reported.contains("hush"), "{reported}");
    let mut rows: Vec<(u64, String, Value)> = Vec::new();
    for row in reported.lines() {
        let row: Value = serde_json::from_str(row)?;
        let reason = row["reason"].as_str().unwrap().to_owned();
        rows.push((row["line"].as_u64().unwrap(), reason, row["field"].clone()));
    }
    rows.sort_by_key(|row| row.0);
    let expected = [
        (3, "line_invalid", Value::Null),
        (4, "user_unknown", json!("user")),
        (5, "line_too_long", Value::Null),
        (7, "already_connected", Value::Null),
    ];
    assert_eq!(
        rows,
        expected.map(|(line, reason, field)| (line, reason.to_owned(), field))
    );
    // A field that does not exist is named, here by its beginning.
    let input = unknown_field.to_string().replace("hush_hush", "scope_list");
    let fed = fed(world, &["-"], input).await?;
    assert_eq!(fed.code, 8);
    assert!(
        fed.stderr
            .contains("line 1: line_invalid: scope_list: unknown field"),
        "{}",
        fed.stderr
    );
    // All that is right and known already is no failure.
    let again = write(world, "again.jsonl", &[lines[0].clone(), lines[5].clone()]);
    let again = run(world, &[text(&again), "--json"]).await?;
    assert_eq!(
        (again.code, &again.counts["imported_before"]),
        (0, &json!(2))
    );
    for subject in ["one", "four"] {
        world.secret(&format!("hush_access_of_{subject}"));
        world.secret(&format!("hush_refresh_of_{subject}"));
    }
});

/// Waits until a run has come so far.
async fn until_accounts(world: &World, run: &mut Child, least: i64) -> Result<()> {
    for _ in 0..10_000 {
        if accounts(world).await >= least {
            return Ok(());
        }
        if run.try_wait()?.is_some() {
            bail!("it ended by itself");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("it did not come to {least} accounts")
}

story!(
    killed_in_the_middle_it_goes_on_and_neither_doubles_nor_misses_a_line,
    |world| {
        const LINES: usize = 3000;
        let user = world.user.id.clone();
        world.secret("hush_access_of_a17");
        let lines: Vec<String> = (0..LINES)
            .map(|index| line(&user, &format!("a{index}")).to_string())
            .collect();
        let file = write(world, "many.jsonl", &lines);
        // SIGKILL: nothing is tidied up.
        let mut child = command(world, &[text(&file)]).spawn()?;
        until_accounts(world, &mut child, 500).await?;
        child.kill()?;
        child.wait()?;
        let killed = accounts(world).await;
        assert!(killed < LINES as i64 && killed % 500 == 0, "{killed}");
        // SIGINT: the transaction that is under way is the last.
        let mut child = command(world, &[text(&file)]).spawn()?;
        until_accounts(world, &mut child, killed + 500).await?;
        let id = child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status()?;
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        let stopped = ended(&output);
        let so_far = accounts(world).await;
        assert!(so_far < LINES as i64 && so_far % 500 == 0, "{so_far}");
        assert_eq!(stopped.code, 1);
        assert!(
            stopped.stderr.contains("the same command again goes on"),
            "{}",
            stopped.stderr
        );
        let rest = run(world, &[text(&file), "--json"]).await?;
        assert_eq!(rest.code, 0, "{}", rest.stderr);
        assert_eq!(rest.counts["imported_before"], so_far);
        assert_eq!(rest.counts["connected"], LINES as i64 - so_far);
        assert_eq!(accounts(world).await, LINES as i64);
        let subjects = world
            .count("select count(distinct subject) from accounts", params![])
            .await;
        assert_eq!(subjects, LINES as i64);
        let told = world.audited("account.imported").await;
        assert_eq!(told.len(), LINES);
    }
);

story!(verifying_refreshes_and_says_so_beforehand, |world| {
    world.clock.set(SystemClock.now());
    world.sandbox.set_behaviour(Behaviour {
        rotation: Rotation::StrictKillFamily,
        ..Behaviour::default()
    });
    let user = world.user.id.clone();
    let mut lines = Vec::new();
    for subject in ["alice", "bob", "carol"] {
        let (access, refresh) = world.sandbox.grant_elsewhere(
            "sandbox-client-id",
            subject,
            &["openid", "offline_access"],
        );
        let mut line = line(&user, subject);
        line["access_token"] = json!(access);
        line["refresh_token"] = json!(refresh);
        lines.push(line.to_string());
    }
    lines.push(line(&user, "dead").to_string());
    world.secret("hush_refresh_of_dead");
    let file = write(world, "verified.jsonl", &lines);
    // Nobody can be asked here.
    let unasked = run(world, &[text(&file), "--verify"]).await?;
    assert_eq!((unasked.code, accounts(world).await), (1, 0));
    assert!(
        unasked.stderr.contains("end the one in the file"),
        "{}",
        unasked.stderr
    );
    let arguments = [text(&file), "--verify", "--yes", "--json"];
    for _ in 0..2 {
        let verified = run(world, &arguments).await?;
        assert_eq!(verified.code, 8, "{}", verified.stderr);
        assert_eq!(verified.counts["verified"], 3, "{}", verified.stderr);
        assert_eq!(
            verified.counts["unverified"],
            json!({"account_needs_reauthorization": 1})
        );
        for issued in world.sandbox.issued_tokens() {
            assert!(!verified.stderr.contains(&issued));
        }
    }
    let calls = world.sandbox.calls();
    assert_eq!((calls.refreshed, calls.double_spends), (3, 0));
});
