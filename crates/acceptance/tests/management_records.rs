//! The log, figures and signing keys through the Management API (contract 2.12, 4.5).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{World, story};
use reqwest::Method;
use serde_json::{Value, json};

async fn got(world: &mut World, admin: &str, path: &str) -> Value {
    let reply = world.manage(Method::GET, path, admin, None).await.unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    reply.json()
}

story!(the_log_says_what_happened_and_holds_no_token, |world| {
    let logged_in = world.connected().await?;
    let exchange = world.refresh_exchange(&logged_in.refresh_token);
    assert!(world.token(&exchange).await?.is_ok());
    let mut wrong = exchange.clone();
    wrong["connection"] = json!("nothing");
    assert!(world.token(&wrong).await?.is_err());
    let admin = world.administrator(&[]).await?;

    // Newest first by page; whatever leaks is found by the world at the end of its story.
    let all = got(world, &admin, "logs?include_totals=true&per_page=100").await;
    let logs = all["logs"].as_array().unwrap();
    assert_eq!(all["total"], logs.len());
    let dates: Vec<&str> = logs
        .iter()
        .map(|log| log["log_id"].as_str().unwrap())
        .collect();
    assert!(dates.is_sorted_by(|a, b| a >= b));
    for (query, found) in [
        ("q=type:seta", 1),
        ("q=type:feta", 1),
        ("q=event:exchange", 2),
        ("q=event:exchange%20AND%20outcome:refused", 1),
        ("q=type:seta%20AND%20connection:sandbox", 1),
        ("q=type:seta%20AND%20connection:other", 0),
        ("q=type:seta%20AND%20date:%5B2001-01-01%20TO%20*%5D", 1),
        ("q=type:seta%20AND%20date:%5B*%20TO%202001-01-01%5D", 0),
        ("q=type:connected_accounts_connection_succeeded", 1),
    ] {
        let some = got(world, &admin, &format!("logs?{query}")).await;
        assert_eq!(some.as_array().unwrap().len(), found, "{query}: {some}");
    }
    let entry = got(world, &admin, "logs?q=type:seta").await[0].clone();
    assert_eq!(entry["user_id"], world.user.id.as_str());
    assert_eq!(entry["ip"], "127.0.0.1");
    let one = got(
        world,
        &admin,
        &format!("logs/{}", entry["log_id"].as_str().unwrap()),
    )
    .await;
    assert_eq!(one, entry);
    let few = got(world, &admin, "logs?q=type:seta&fields=type,date").await;
    assert_eq!(few[0].as_object().unwrap().len(), 2);
    let refused = world
        .manage(Method::GET, "logs?q=colour:blue", &admin, None)
        .await?;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["validation_errors"][0]["field"], "q");
    let gone = world.manage(Method::GET, "logs/none", &admin, None).await?;
    assert_eq!(gone.status, 404);
});

story!(who_follows_the_log_misses_nothing, |world| {
    let admin = world.administrator(&[]).await?;
    world.log_in().await?;
    // What may still be overtaken is not shown yet.
    let early = got(world, &admin, "logs?take=100").await;
    assert_eq!(early["logs"], json!([]));
    assert!(early.get("next").is_none());
    world.advance(5);
    let mut seen = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!("logs?take=2&from={from}");
        let part = got(world, &admin, &path).await;
        for log in part["logs"].as_array().unwrap() {
            seen.push(log["log_id"].as_str().unwrap().to_owned());
        }
        match part["next"].as_str() {
            Some(next) => from = next.to_owned(),
            None => break,
        }
    }
    assert!(seen.is_sorted());
    let all = got(world, &admin, "logs?per_page=100").await;
    assert_eq!(seen.len(), all.as_array().unwrap().len());
    // Later ones come after.
    world.log_in().await?;
    world.advance(5);
    let later = got(world, &admin, &format!("logs?take=100&from={from}")).await;
    assert!(!later["logs"].as_array().unwrap().is_empty());
});

story!(figures_count_what_happened, |world| {
    let logged_in = world.connected().await?;
    let exchange = world.refresh_exchange(&logged_in.refresh_token);
    for _ in 0..3 {
        assert!(world.token(&exchange).await?.is_ok());
    }
    let admin = world.administrator(&[]).await?;
    let days = got(world, &admin, "stats/daily").await;
    let days = days.as_array().unwrap();
    assert_eq!(days.len(), 30);
    let today = &days[29];
    assert_eq!(today["exchanges"], 3, "{today}");
    assert_eq!(today["logins"], 1);
    assert_eq!(today["accounts_connected"], 1);
    assert_eq!(days[0]["exchanges"], 0);
    assert_eq!(got(world, &admin, "stats/active-users").await, json!(1));
    for query in [
        "from=2026",
        "from=20260101&to=20270101",
        "from=20260102&to=20260101",
    ] {
        let refused = world
            .manage(Method::GET, &format!("stats/daily?{query}"), &admin, None)
            .await?;
        assert_eq!(refused.status, 400, "{query}: {}", refused.text);
    }
    let blind = world.administrator(&["read:users"]).await?;
    for path in ["stats/daily", "logs", "keys/signing"] {
        let refused = world.manage(Method::GET, path, &blind, None).await?;
        assert_eq!(refused.status, 403, "{path}");
    }
});

story!(signing_keys_are_seen_rotated_and_revoked, |world| {
    let logged_in = world.connected().await?;
    let admin = world.administrator(&[]).await?;
    let keys = got(world, &admin, "keys/signing").await;
    let current = |keys: &Value| {
        let keys = keys.as_array().unwrap().clone();
        keys.into_iter()
            .find(|key| key["alg"] == "RS256" && key["current"] == true)
            .unwrap()
    };
    let before = current(&keys);
    assert!(
        before["cert"]
            .as_str()
            .unwrap()
            .contains("BEGIN PUBLIC KEY")
    );
    assert!(!keys.to_string().contains("PRIVATE"));
    let rotated = world
        .manage(Method::POST, "keys/signing/rotate", &admin, None)
        .await?;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    assert_ne!(rotated.json()["kid"], before["kid"]);
    let path = format!("keys/signing/{}", before["kid"].as_str().unwrap());
    let previous = got(world, &admin, &path).await;
    assert_eq!(previous["previous"], true);

    // What it signed goes on working until it is revoked, and then not for a moment more.
    let exchange = world.access_exchange(&logged_in.access_token);
    assert!(world.token(&exchange).await?.is_ok());
    // The administrator's own token was signed by it as well: a new one first.
    let admin = world.administrator(&[]).await?;
    let revoked = world
        .manage(Method::PUT, &format!("{path}/revoke"), &admin, None)
        .await?;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(revoked.json()["revoked"], true);
    assert!(world.token(&exchange).await?.is_err());
    let unknown = world
        .manage(Method::PUT, "keys/signing/none/revoke", &admin, None)
        .await?;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    let refused = world
        .manage(Method::POST, "keys/signing/rotate?alg=HS256", &admin, None)
        .await?;
    assert_eq!(refused.status, 400);
});
