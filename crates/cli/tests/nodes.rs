//! Several processes of `tokenvault serve` over one PostgreSQL, and what is left when one is killed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use acceptance::{Engine, LoggedIn, Setup, World};
use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use sandbox::{Behaviour, Rotation};
use serde_json::Value;
use store::params;
use tokio::task::JoinHandle;
use vault::{Clock as _, SystemClock};

/// Seconds of a lease in these tests, and of a provider call at most.
const LEASE: u64 = 5;
const DEADLINE: u64 = 2;

/// A running node. Killed when dropped.
struct Node {
    process: Child,
    origin: String,
}

impl Node {
    /// Starts `tokenvault serve` on the world's database, told everything by its environment.
    async fn start(world: &World, name: &str) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let address = format!("127.0.0.1:{port}");
        let process = Command::new(env!("CARGO_BIN_EXE_tokenvault"))
            .arg("serve")
            // What tells the test its database is no setting of the server.
            .env_remove("TOKENVAULT_TEST_POSTGRES")
            .envs([
                ("TOKENVAULT_ISSUER", "https://vault.test/"),
                ("TOKENVAULT_NODE", name),
                ("TOKENVAULT_DATABASE_URL", &world.database.url),
                ("TOKENVAULT_LISTEN_ADDRESS", &address),
                ("TOKENVAULT_LISTEN_BEHIND_PROXY", "true"),
                ("TOKENVAULT_MASTER_KEY_ENVIRONMENT", "MASTER_KEY"),
                ("MASTER_KEY", world.master_key_text.reveal()),
                (
                    "TOKENVAULT_OUTBOUND_ALLOWED_ORIGINS",
                    world.sandbox.base_url(),
                ),
                (
                    "TOKENVAULT_OUTBOUND_DEADLINE_SECONDS",
                    &DEADLINE.to_string(),
                ),
                ("TOKENVAULT_REFRESH_LEASE_SECONDS", &LEASE.to_string()),
                ("TOKENVAULT_LOG_LEVEL", "warn"),
            ])
            .stdin(Stdio::null())
            .spawn()?;
        let node = Self {
            process,
            origin: format!("http://{address}"),
        };
        let agent = world.agent_at(&node.origin);
        for _ in 0..500 {
            if let Ok((StatusCode::OK, _)) = agent
                .call(Method::GET, &world.url("readyz"), None, None)
                .await
            {
                return Ok(node);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("node {name} did not become ready")
    }

    /// SIGKILL: nothing is tidied up.
    fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A user with an account whose token ended an hour ago, by the clock of real processes.
async fn expired_account() -> Result<(World, LoggedIn)> {
    let start = SystemClock
        .now()
        .checked_sub(jiff::SignedDuration::from_hours(2))?;
    let mut world = World::new(
        Engine::Postgres,
        Setup {
            start,
            ..Setup::default()
        },
    )
    .await;
    let login = world.connected().await?;
    world.clock.set(SystemClock.now());
    Ok((world, login))
}

/// Exchanges at a node, in a task of its own.
fn ask(world: &World, node: &Node, body: &Value) -> JoinHandle<Result<(StatusCode, Value)>> {
    let agent = world.agent_at(&node.origin);
    let (url, body) = (world.url("oauth/token"), body.clone());
    tokio::spawn(async move { agent.call(Method::POST, &url, None, Some(&body)).await })
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..3000 {
        if done().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("waited 30 s for: {what}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_02_500_exchanges_over_three_processes_make_one_call() -> Result<()> {
    let (world, login) = expired_account().await?;
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 300,
        rotation: Rotation::StrictKillFamily,
        ..Behaviour::default()
    });
    let mut nodes = Vec::new();
    for name in ["one", "two", "three"] {
        nodes.push(Node::start(&world, name).await?);
    }
    let body = world.refresh_exchange(&login.refresh_token);
    let mut asked = Vec::new();
    for index in 0..500 {
        asked.push(ask(&world, &nodes[index % nodes.len()], &body));
    }
    let mut tokens = HashSet::new();
    let mut answers = 0;
    for answer in asked {
        let (status, body) = answer.await??;
        assert_eq!(status, StatusCode::OK, "{body}");
        tokens.insert(
            body["access_token"]
                .as_str()
                .context("no token")?
                .to_owned(),
        );
        answers += 1;
    }
    let calls = world.sandbox.calls();
    assert_eq!((answers, tokens.len()), (500, 1));
    assert_eq!(
        (calls.refresh, calls.refreshed, calls.double_spends),
        (1, 1, 0)
    );
    // No token without its record (design: no silent issue).
    let audited = "select count(*) from audit where event = 'exchange' and outcome = 'succeeded'";
    assert_eq!(world.count(audited, params![]).await, 500);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_03_a_node_killed_before_the_provider_answers() -> Result<()> {
    let (world, login) = expired_account().await?;
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 1500,
        rotation: Rotation::Strict,
        ..Behaviour::default()
    });
    let mut doomed = Node::start(&world, "doomed").await?;
    let survivor = Node::start(&world, "survivor").await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let lost = ask(&world, &doomed, &body);
    until("the provider is asked", async || {
        Ok(world.sandbox.calls().refresh == 1)
    })
    .await?;
    doomed.kill()?;
    assert!(lost.await?.is_err(), "the killed node answered");

    let (status, answer) = ask(&world, &survivor, &body).await??;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let calls = world.sandbox.calls();
    assert_eq!((calls.refresh, calls.double_spends), (2, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_03_a_node_killed_after_the_answer_and_before_the_commit() -> Result<()> {
    let (world, login) = expired_account().await?;
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 500,
        rotation: Rotation::Grace(60),
        ..Behaviour::default()
    });
    let mut doomed = Node::start(&world, "doomed").await?;
    let survivor = Node::start(&world, "survivor").await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let lost = ask(&world, &doomed, &body);
    until("the provider is asked", async || {
        Ok(world.sandbox.calls().refresh == 1)
    })
    .await?;
    // The lease is committed; whoever wants to write the account now waits for this lock.
    let (mut holder, connection) =
        tokio_postgres::connect(&world.database.url, tokio_postgres::NoTls).await?;
    let held = tokio::spawn(connection);
    let lock = holder.transaction().await?;
    lock.execute("select id from accounts for update", &[])
        .await?;
    until("the new token set waits to be committed", async || {
        let waiting = world
            .db
            .read_one(
                "select count(*) from pg_stat_activity
                  where wait_event_type = 'Lock' and query like 'update accounts%set token_set%'",
                params![],
            )
            .await?;
        Ok(waiting.context("no row")?.int(0)? > 0)
    })
    .await?;
    assert_eq!(world.sandbox.calls().refreshed, 1);
    doomed.kill()?;
    // What the dead node had sent must not be carried out after all.
    lock.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock'",
        &[],
    )
    .await?;
    lock.rollback().await?;
    drop(holder);
    let _ = held.await?;
    assert!(lost.await?.is_err(), "the killed node answered");
    assert_eq!(
        world
            .count("select generation from accounts", params![])
            .await,
        1
    );

    let (status, answer) = ask(&world, &survivor, &body).await??;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let calls = world.sandbox.calls();
    assert_eq!((calls.refreshed, calls.double_spends), (2, 0));
    assert_eq!(
        world
            .count("select generation from accounts", params![])
            .await,
        2
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_told_to_stop_lands_its_refresh_first() -> Result<()> {
    let (world, login) = expired_account().await?;
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 1000,
        rotation: Rotation::StrictKillFamily,
        ..Behaviour::default()
    });
    let mut node = Node::start(&world, "stopping").await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let answer = ask(&world, &node, &body);
    until("the provider is asked", async || {
        Ok(world.sandbox.calls().refresh == 1)
    })
    .await?;
    Command::new("kill")
        .arg(node.process.id().to_string())
        .status()?;
    let (status, body) = answer.await??;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(node.process.wait()?.success());
    assert_eq!(
        world
            .count("select generation from accounts", params![])
            .await,
        2
    );
    Ok(())
}
