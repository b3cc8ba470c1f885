//! Staying fresh: one call at the provider however many ask, nothing lost, nothing spent twice, nobody told to reconnect
//! without need.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::collections::HashSet;
use std::time::Duration;

use acceptance::{Exchanged, Refused, Reply, Setup, World, story};
use anyhow::Result;
use jiff::SignedDuration;
use reqwest::Method;
use sandbox::{Behaviour, InjectedFailure, Rotation};
use serde_json::{Value, json};
use store::params;
use vault::Clock as _;

fn rotating(rotation: Rotation) -> Behaviour {
    Behaviour {
        rotation,
        ..Behaviour::default()
    }
}

fn failing(failures: Vec<InjectedFailure>, rotation: Rotation) -> Behaviour {
    Behaviour {
        next_failures: failures,
        rotation,
        ..Behaviour::default()
    }
}

fn answering(status: u16, body: &str) -> InjectedFailure {
    InjectedFailure {
        status,
        body: body.to_owned(),
        ..InjectedFailure::default()
    }
}

/// All were told the same; returns the seconds in `Retry-After`.
fn all_told_to_wait(replies: &[Reply]) -> u64 {
    let waits: HashSet<u64> = replies
        .iter()
        .map(|reply| {
            reply.assert_oauth_error(503, "temporarily_unavailable", "waiting");
            let wait = reply.headers["retry-after"].to_str().unwrap();
            wait.parse().unwrap()
        })
        .collect();
    assert_eq!(waits.len(), 1, "{waits:?}");
    waits.into_iter().next().unwrap()
}

/// Many exchanges at once, spread over the given nodes.
async fn at_once(
    world: &World,
    body: &Value,
    nodes: &[String],
    number: usize,
) -> Result<Vec<(u16, Value)>> {
    let mut asked = tokio::task::JoinSet::new();
    for index in 0..number {
        let agent = world.agent_at(&nodes[index % nodes.len()]);
        let (url, body) = (world.url("oauth/token"), body.clone());
        asked.spawn(async move { agent.call(Method::POST, &url, None, Some(&body)).await });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        let (status, body) = answer??;
        answers.push((status.as_u16(), body));
    }
    Ok(answers)
}

async fn ask(world: &mut World, body: &Value) -> Result<std::result::Result<Exchanged, Refused>> {
    world.exchange(body).await
}

fn all_got_one_token(answers: &[(u16, Value)]) {
    let tokens: HashSet<&str> = answers
        .iter()
        .map(|(status, body)| {
            assert_eq!(*status, 200, "{body}");
            body["access_token"].as_str().unwrap()
        })
        .collect();
    assert_eq!(tokens.len(), 1);
}

story!(f_01_many_callers_of_one_node_make_one_call, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 200,
        ..rotating(Rotation::StrictKillFamily)
    });
    world.advance(3600);
    let node = [world.origin()];
    let answers = at_once(world, &body, &node, 200).await?;
    all_got_one_token(&answers);
    let calls = world.sandbox.calls();
    assert_eq!((calls.refresh, calls.double_spends), (1, 0));
});

story!(
    f_02_f_35_many_callers_of_three_nodes_make_one_call,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 300,
            ..rotating(Rotation::Strict)
        });
        let (_, second) = world.second_node("node-2").await;
        let (_, third) = world.second_node("node-3").await;
        let nodes = [world.origin(), second, third];
        world.advance(3600);
        let answers = at_once(world, &body, &nodes, 150).await?;
        all_got_one_token(&answers);
        let calls = world.sandbox.calls();
        assert_eq!((calls.refresh, calls.double_spends), (1, 0));
    }
);

story!(every_way_to_rotate_goes_on_working, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let mut refreshed = 0;
    for rotation in [
        Rotation::None,
        Rotation::KeepOld,
        Rotation::Grace(30),
        Rotation::Strict,
        Rotation::StrictKillFamily,
    ] {
        world.sandbox.set_behaviour(rotating(rotation));
        let mut before = String::new();
        for _ in 0..3 {
            world.advance(3600);
            let exchanged = ask(world, &body).await?.unwrap();
            assert_ne!(exchanged.access_token, before, "{rotation:?}");
            assert!(
                world.provider_honours(&exchanged.access_token).await?,
                "{rotation:?}"
            );
            before = exchanged.access_token;
            refreshed += 1;
        }
    }
    let calls = world.sandbox.calls();
    assert_eq!((calls.refreshed, calls.double_spends), (refreshed, 0));
});

story!(
    a_refresh_answer_without_a_refresh_token_keeps_the_old_one,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.sandbox.set_behaviour(Behaviour {
            omit_refresh_token_on_refresh: true,
            ..rotating(Rotation::KeepOld)
        });
        for _ in 0..3 {
            world.advance(3600);
            ask(world, &body).await?.unwrap();
        }
        assert_eq!(world.sandbox.calls().refreshed, 3);
    }
);

story!(scopes_that_shrink_are_recorded, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let me = world.my_account_token(&login.refresh_token).await?;
    world.sandbox.set_behaviour(Behaviour {
        granted_scopes: Some(vec!["openid".to_owned(), "offline_access".to_owned()]),
        ..Behaviour::default()
    });
    let account = world.connect(&me, "alice").await?;
    assert_eq!(account["scopes"], json!(["openid", "offline_access"]));
    assert_eq!(
        ask(world, &body).await?.unwrap().scope,
        "openid offline_access"
    );
});

story!(
    a_token_close_to_its_end_is_answered_and_refreshed_behind,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        let first = ask(world, &body).await?.unwrap();
        // Somewhere between 120 and 52 seconds, where it is spread, the refresh behind begins.
        world.advance(3600 - 40);
        let ageing = ask(world, &body).await?.unwrap();
        assert_eq!(ageing.access_token, first.access_token);
        assert_eq!(ageing.expires_in, 40);
        world.vault.land().await;
        assert_eq!(world.sandbox.calls().refreshed, 1);
        let fresh = ask(world, &body).await?.unwrap();
        assert_ne!(fresh.access_token, first.access_token);
        assert_eq!(fresh.expires_in, 3600);
    }
);

story!(min_ttl_refreshes_first_if_less_is_left, |world| {
    let login = world.connected().await?;
    let mut body = world.refresh_exchange(&login.refresh_token);
    world.advance(600);
    body["min_ttl"] = json!(3000);
    assert_eq!(ask(world, &body).await?.unwrap().expires_in, 3000);
    assert_eq!(world.sandbox.calls().refreshed, 0);
    body["min_ttl"] = json!(3001);
    assert_eq!(ask(world, &body).await?.unwrap().expires_in, 3600);
    assert_eq!(world.sandbox.calls().refreshed, 1);
    // More than the provider gives: once is enough.
    body["min_ttl"] = json!(7200);
    assert_eq!(ask(world, &body).await?.unwrap().expires_in, 3600);
    assert_eq!(world.sandbox.calls().refreshed, 2);
});

story!(
    f_12_a_definite_refusal_ends_the_account_and_the_provider_is_left_alone,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.sandbox.revoke_all_grants();
        // The token is believed until it ends: the provider alone knows that it was taken back.
        assert!(ask(world, &body).await?.is_ok());
        world.advance(3600);
        for _ in 0..5 {
            let refused = ask(world, &body).await?.unwrap_err();
            assert_eq!(refused.status, 401);
            assert_eq!(
                refused.error,
                "federated_connection_refresh_token_flow_failed"
            );
        }
        assert_eq!(world.sandbox.calls().refresh, 1);
        // Connecting again heals it, under the same id.
        let me = world.my_account_token(&login.refresh_token).await?;
        let listed = world.me(Method::GET, "accounts", &me, None).await?.unwrap();
        let account = world.connect(&me, "alice").await?;
        assert_eq!(listed["accounts"][0]["id"], account["id"]);
        assert!(ask(world, &body).await?.is_ok());
    }
);

story!(f_12_a_definite_refusal_costs_one_call, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    world.sandbox.revoke_all_grants();
    for hour in 0..24 {
        world.advance(3600);
        let callers = if hour == 0 { 100 } else { 10 };
        for reply in world.exchange_at_once(&body, callers).await? {
            let error = "federated_connection_refresh_token_flow_failed";
            reply.assert_oauth_error(401, error, "a grant that was taken back");
            assert!(!reply.headers.contains_key("retry-after"));
        }
    }
    assert_eq!(world.sandbox.calls().refresh, 1);
    let ended = "select count(*) from accounts where status = 'reauthorization_required'";
    assert_eq!(world.count(ended, params![]).await, 1);
});

story!(f_10_f_11_indefinite_failures_never_say_reconnect, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let failures = [
        answering(500, "{\"error\":\"invalid_grant\"}"),
        answering(503, "<html>down</html>"),
        answering(502, ""),
        answering(200, "<html>hello</html>"),
        answering(200, "{\"ok\":false}"),
        answering(200, "[]"),
        answering(200, "{\"access_token\":\"a b\\r\\nx: y\"}"),
        answering(204, ""),
        answering(429, "{}"),
        answering(401, "{\"error\":\"invalid_client\"}"),
        InjectedFailure {
            drop_connection: true,
            ..InjectedFailure::default()
        },
    ];
    for failure in failures {
        // Still alive: handed out, whatever the provider does.
        world.advance(3600 - 20);
        world
            .sandbox
            .set_behaviour(failing(vec![failure.clone()], Rotation::None));
        let served = ask(world, &body).await?.unwrap();
        assert_eq!(served.expires_in, 20, "{failure:?}");
        // Past its end and not to be asked yet: come again later.
        world.advance(20);
        world
            .sandbox
            .set_behaviour(failing(vec![failure.clone()], Rotation::None));
        let refused = ask(world, &body).await?.unwrap_err();
        assert!(
            matches!(refused.status, 502 | 503),
            "{failure:?}: {refused:?}"
        );
        // Later it works: nothing was lost.
        world.sandbox.set_behaviour(Behaviour::default());
        world.advance(7200);
        assert_eq!(
            ask(world, &body).await?.unwrap().expires_in,
            3600,
            "{failure:?}"
        );
    }
    let status = "select count(*) from accounts where status <> 'active'";
    assert_eq!(world.count(status, params![]).await, 0);
});

story!(f_09_the_providers_wait_is_kept, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    world.advance(3600);
    let limited = InjectedFailure {
        status: 429,
        retry_after: Some("120".to_owned()),
        ..InjectedFailure::default()
    };
    world
        .sandbox
        .set_behaviour(failing(vec![limited], Rotation::None));
    for _ in 0..10 {
        let refused = ask(world, &body).await?.unwrap_err();
        assert_eq!(
            (refused.status, refused.error.as_str()),
            (503, "temporarily_unavailable")
        );
    }
    assert_eq!(world.sandbox.calls().refresh, 1);
    world.advance(119);
    ask(world, &body).await?.unwrap_err();
    assert_eq!(world.sandbox.calls().refresh, 1);
    // A quarter may come on top by chance.
    world.advance(32);
    ask(world, &body).await?.unwrap();
    assert_eq!(world.sandbox.calls().refresh, 2);
});

story!(f_09_retry_after_in_seconds_and_what_is_no_time, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    for (said, least) in [
        (Some("1"), 1),
        (Some("120"), 120),
        (Some(" 120 "), 120),
        // Ten years: an hour is the longest that is believed.
        (Some("315360000"), 3600),
        // No time at all: half a minute.
        (Some("-5"), 30),
        (Some("abc"), 30),
        (Some("12.5"), 30),
        (Some(""), 30),
        (None, 30),
    ] {
        the_wait_is_kept(world, &body, said, least).await?;
    }
});

/// A 429 that says `said`: nobody asks the provider again for at least so many seconds, and at most a quarter more.
async fn the_wait_is_kept(
    world: &mut World,
    body: &Value,
    said: Option<&str>,
    least: u64,
) -> Result<()> {
    world.advance(3600);
    let before = world.sandbox.calls().refresh;
    let limited = InjectedFailure {
        status: 429,
        retry_after: said.map(str::to_owned),
        ..InjectedFailure::default()
    };
    // More than one: whoever asked again too early would be counted, and refused once more.
    world
        .sandbox
        .set_behaviour(failing(vec![limited; 50], Rotation::Strict));
    let replies = world.exchange_at_once(body, 20).await?;
    let wait = all_told_to_wait(&replies);
    assert!(
        (least..=least + least.div_ceil(4)).contains(&wait),
        "{said:?}: {wait}"
    );
    world.advance(wait - 1);
    let replies = world.exchange_at_once(body, 20).await?;
    assert_eq!(all_told_to_wait(&replies), 1, "{said:?}");
    assert_eq!(world.sandbox.calls().refresh, before + 1, "{said:?}");
    world.sandbox.set_behaviour(rotating(Rotation::Strict));
    world.advance(1);
    ask(world, body).await?.unwrap();
    assert_eq!(world.sandbox.calls().refresh, before + 2, "{said:?}");
    Ok(())
}

story!(
    f_08_a_slow_provider_is_called_once_however_many_wait,
    Setup {
        deadline: Duration::from_secs(2),
        ..Setup::default()
    },
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.sandbox.set_behaviour(Behaviour {
            // Longer than any test.
            latency_ms: 3_600_000,
            ..rotating(Rotation::Strict)
        });
        world.advance(3600);
        for _ in 0..2 {
            let replies = world.exchange_at_once(&body, 100).await?;
            let wait = all_told_to_wait(&replies);
            assert!((1..=2).contains(&wait), "{wait}");
            assert_eq!(world.sandbox.calls().refresh, 1);
        }
        // It was slow, not away: nothing was spent, and the next call brings a token.
        world.sandbox.set_behaviour(rotating(Rotation::Strict));
        world.advance(2);
        let replies = world.exchange_at_once(&body, 100).await?;
        assert!(replies.iter().all(|reply| reply.status == 200));
        let calls = world.sandbox.calls();
        assert_eq!((calls.refresh, calls.double_spends), (2, 0));
    }
);

story!(
    f_08_who_waits_too_long_is_told_to_come_back_and_the_call_goes_on,
    Setup {
        settings: |settings| settings.refresh_wait = Duration::from_millis(100),
        ..Setup::default()
    },
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 2000,
            ..rotating(Rotation::Strict)
        });
        world.advance(3600);
        let replies = world.exchange_at_once(&body, 20).await?;
        assert_eq!(all_told_to_wait(&replies), 1);
        world.vault.land().await;
        let replies = world.exchange_at_once(&body, 20).await?;
        assert!(replies.iter().all(|reply| reply.status == 200));
        let calls = world.sandbox.calls();
        assert_eq!((calls.refresh, calls.double_spends), (1, 0));
    }
);

story!(f_12_a_poison_account_costs_few_calls, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let dropped = InjectedFailure {
        drop_connection: true,
        ..InjectedFailure::default()
    };
    for poison in [
        answering(503, ""),
        answering(500, ""),
        answering(200, "<html>hello</html>"),
        answering(401, "{\"error\":\"invalid_client\"}"),
        dropped,
    ] {
        world.advance(3600);
        let before = world.sandbox.calls().refresh;
        world
            .sandbox
            .set_behaviour(failing(vec![poison.clone(); 200], Rotation::Strict));
        for _ in 0..120 {
            ask(world, &body).await?.unwrap_err();
            world.advance(30);
        }
        let calls = world.sandbox.calls().refresh - before;
        assert!(
            (5..=12).contains(&calls),
            "{calls} calls in an hour: {poison:?}"
        );
        // The longest wait is an hour and a quarter. Nothing was spent: it goes on where it stopped.
        world.sandbox.set_behaviour(rotating(Rotation::Strict));
        world.advance(4500);
        ask(world, &body).await?.unwrap();
    }
    assert_eq!(world.sandbox.calls().double_spends, 0);
});

story!(
    f_04_a_lost_answer_is_recovered_within_the_providers_grace,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        let lost = InjectedFailure {
            drop_connection: true,
            after_processing: true,
            ..InjectedFailure::default()
        };
        world
            .sandbox
            .set_behaviour(failing(vec![lost], Rotation::Grace(30)));
        let refused = ask(world, &body).await?.unwrap_err();
        assert_eq!(refused.status, 503);
        world.advance(5);
        ask(world, &body).await?.unwrap();
        assert_eq!(world.sandbox.calls().double_spends, 0);
    }
);

story!(
    f_04_a_lost_answer_of_a_strict_provider_costs_one_recovery_and_is_not_blamed_on_the_user,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        let lost = InjectedFailure {
            drop_connection: true,
            after_processing: true,
            ..InjectedFailure::default()
        };
        world
            .sandbox
            .set_behaviour(failing(vec![lost], Rotation::Strict));
        ask(world, &body).await?.unwrap_err();
        world.advance(5);
        for _ in 0..3 {
            let refused = ask(world, &body).await?.unwrap_err();
            assert_eq!(
                refused.error,
                "federated_connection_refresh_token_flow_failed"
            );
        }
        let calls = world.sandbox.calls();
        assert_eq!((calls.refresh, calls.double_spends), (2, 1));
        let unknown = "select count(*) from accounts where status = 'outcome_unknown'";
        assert_eq!(world.count(unknown, params![]).await, 1);
    }
);

story!(
    f_03_a_lease_left_behind_by_a_dead_node_ends_by_itself,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        // What a node leaves that dies between the intent and the provider's answer. The database's clock decides.
        world
            .execute(
                "insert into refresh_intents (account_id, attempt, generation, node, started_at)
             select id, attempt + 1, generation, 'dead', 0 from accounts",
                params![],
            )
            .await;
        let leased = "update accounts set attempt = attempt + 1, lease_owner = 'dead', lease_until = {now} + 1500000";
        assert_eq!(world.execute(leased, params![]).await, 1);
        assert!(ask(world, &body).await?.is_ok());
        assert_eq!(world.sandbox.calls().refreshed, 1);
    }
);

story!(
    f_06_a_late_commit_never_overwrites_a_newer_token_set,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 600,
            ..rotating(Rotation::KeepOld)
        });
        let node = [world.origin()];
        let paused = at_once(world, &body, &node, 1);
        let reconnected = async {
            // While the provider thinks, the user connects anew: that set is the newer one.
            wait_for_calls(world, 1).await;
            world
            .execute(
                "update accounts set generation = generation + 1, attempt = attempt + 1, lease_owner = null,
                                     lease_until = null",
                params![],
            )
            .await
        };
        let (_, touched) = tokio::join!(paused, reconnected);
        assert_eq!(touched, 1);
        world.vault.land().await;
        assert_eq!(
            world
                .count("select generation from accounts", params![])
                .await,
            2
        );
        let fenced =
            "select count(*) from audit where event = 'provider.refresh' and reason = 'fenced'";
        assert_eq!(world.count(fenced, params![]).await, 1);
    }
);

story!(
    f_06_a_late_commit_is_kept_where_nothing_newer_came,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 600,
            ..rotating(Rotation::Strict)
        });
        let node = [world.origin()];
        let paused = at_once(world, &body, &node, 1);
        let taken_over = async {
            // Another node believed this one dead, asked with the old token, and was refused.
            wait_for_calls(world, 1).await;
            world
            .execute(
                "update accounts set attempt = attempt + 1, status = 'outcome_unknown', lease_owner = null,
                                     lease_until = null",
                params![],
            )
            .await
        };
        let (answers, touched) = tokio::join!(paused, taken_over);
        assert_eq!(touched, 1);
        all_got_one_token(&answers?);
        let active = "select count(*) from accounts where status = 'active'";
        assert_eq!(world.count(active, params![]).await, 1);
    }
);

story!(
    f_05_a_database_that_is_away_after_the_answer_loses_nothing,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 400,
            ..rotating(Rotation::Strict)
        });
        let node = [world.origin()];
        let asked = at_once(world, &body, &node, 1);
        let outage = async {
            wait_for_calls(world, 1).await;
            world
                .execute("alter table accounts rename to accounts_away", params![])
                .await;
            // Long enough for the first commit to fail and the journal to be written.
            while world.journal_files() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            world
                .execute("alter table accounts_away rename to accounts", params![])
                .await;
        };
        let (_, ()) = tokio::join!(asked, outage);
        world.vault.land().await;
        assert_eq!(world.journal_files(), 0);
        let exchanged = ask(world, &body).await?.unwrap();
        assert!(world.provider_honours(&exchanged.access_token).await?);
        let calls = world.sandbox.calls();
        assert_eq!((calls.refresh, calls.double_spends), (1, 0));
    }
);

story!(
    a_token_without_a_refresh_token_ends_with_itself,
    Setup::default(),
    |world| {
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        world.sandbox.set_behaviour(Behaviour {
            granted_scopes: Some(vec!["openid".to_owned(), "files.read".to_owned()]),
            ..Behaviour::default()
        });
        world.connect(&me, "alice").await?;
        let body = world.refresh_exchange(&login.refresh_token);
        assert!(ask(world, &body).await?.is_ok());
        world.advance(3600);
        let refused = ask(world, &body).await?.unwrap_err();
        assert_eq!(
            refused.error,
            "federated_connection_refresh_token_flow_failed"
        );
        assert_eq!(world.sandbox.calls().refresh, 0);
    }
);

/// Until the provider was asked to refresh that often.
async fn wait_for_calls(world: &World, number: u64) {
    while world.sandbox.calls().refresh < number {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

story!(
    ex_13_what_is_taken_back_during_a_refresh_gives_nothing,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 500,
            ..rotating(Rotation::Strict)
        });
        let node = [world.origin()];
        let asked = at_once(world, &body, &node, 1);
        let taken_back = async {
            wait_for_calls(world, 1).await;
            world
                .execute("update users set blocked_at = 1", params![])
                .await
        };
        let (answers, _) = tokio::join!(asked, taken_back);
        let (status, answer) = &answers?[0];
        assert_eq!((*status, &answer["error"]), (403, &json!("invalid_grant")));
        // What the provider gave is kept all the same: the account is not the one who was blocked.
        world
            .execute("update users set blocked_at = null", params![])
            .await;
        assert!(ask(world, &body).await?.is_ok());
        assert_eq!(world.sandbox.calls().refresh, 1);
    }
);

story!(
    ex_13_of_those_who_wait_together_each_is_judged_by_their_own_token,
    |world| {
        let revoked = world.connected().await?;
        let kept = world.log_in().await?;
        let bodies = [&revoked, &kept].map(|login| world.refresh_exchange(&login.refresh_token));
        world.advance(3600);
        world.sandbox.set_behaviour(Behaviour {
            latency_ms: 500,
            ..rotating(Rotation::Strict)
        });
        let node = [world.origin()];
        let waiting = async {
            let [revoked, kept] = &bodies;
            tokio::join!(
                at_once(world, revoked, &node, 20),
                at_once(world, kept, &node, 20)
            )
        };
        let taken_back = async {
            wait_for_calls(world, 1).await;
            let revoke = json!({
                "client_id": world.clients.web.client.client_id,
                "client_secret": world.clients.web.secret,
                "token": revoked.refresh_token,
            });
            let url = world.url("oauth/revoke");
            let agent = world.agent_at(&node[0]);
            agent.call(Method::POST, &url, None, Some(&revoke)).await
        };
        let ((refused, served), taken_back) = tokio::join!(waiting, taken_back);
        assert_eq!(taken_back?.0.as_u16(), 200);
        let refused = refused?;
        assert_eq!(refused.len(), 20);
        for (status, answer) in refused {
            assert_eq!((status, &answer["error"]), (403, &json!("invalid_grant")));
        }
        let served = served?;
        assert_eq!(served.len(), 20);
        all_got_one_token(&served);
        assert_eq!(world.sandbox.calls().refresh, 1);
    }
);

story!(f_09_retry_after_as_a_date, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    for (seconds, least) in [
        (120, 120),
        // Ten years: an hour is the longest that is believed.
        (315_360_000, 3600),
        // Over already, so no time at all: half a minute.
        (-120, 30),
    ] {
        // From when the provider is asked, an hour from now.
        let date = world.clock.now() + SignedDuration::from_secs(3600 + seconds);
        // RFC 9110 §5.6.7.
        let said = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        the_wait_is_kept(world, &body, Some(&said), least).await?;
    }
});

story!(f_09_a_provider_that_is_away_says_for_how_long, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    world.advance(3600);
    let away = InjectedFailure {
        retry_after: Some("120".to_owned()),
        ..answering(503, "")
    };
    // RFC 9110 §10.2.3: with a 503 it says how long the service is expected to be away.
    world
        .sandbox
        .set_behaviour(failing(vec![away; 50], Rotation::None));
    let replies = world.exchange_at_once(&body, 20).await?;
    let wait = all_told_to_wait(&replies);
    assert!((120..=150).contains(&wait), "{wait}");
    world.advance(119);
    ask(world, &body).await?.unwrap_err();
    assert_eq!(world.sandbox.calls().refresh, 1);
});

/// From now on the provider wants nothing, and says for how long.
fn limit(world: &World, said: Option<&str>) {
    let limited = InjectedFailure {
        retry_after: said.map(str::to_owned),
        ..answering(429, "")
    };
    world
        .sandbox
        .set_behaviour(failing(vec![limited; 200], Rotation::None));
}

story!(f_12_a_limit_that_does_not_end_costs_few_calls, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    for said in [None, Some("0"), Some("abc")] {
        world.advance(3600);
        let before = world.sandbox.calls().refresh;
        limit(world, said);
        for _ in 0..120 {
            ask(world, &body).await?.unwrap_err();
            world.advance(30);
        }
        let calls = world.sandbox.calls().refresh - before;
        assert!((5..=12).contains(&calls), "{said:?}: {calls} in an hour");
        world.sandbox.set_behaviour(Behaviour::default());
        world.advance(4500);
        ask(world, &body).await?.unwrap();
    }
});

story!(f_09_a_wait_of_nothing_is_no_invitation, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    world.advance(3600);
    limit(world, Some("0"));
    for _ in 0..20 {
        ask(world, &body).await?.unwrap_err();
    }
    assert_eq!(world.sandbox.calls().refresh, 1);
});

story!(
    f_12_a_poison_account_does_not_stop_its_neighbours,
    |world| {
        let login = world.connected().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        world.connect(&me, "bob").await?;
        let mut poisoned = world.refresh_exchange(&login.refresh_token);
        poisoned["login_hint"] = "sandbox-alice".into();
        let mut neighbour = poisoned.clone();
        neighbour["login_hint"] = "sandbox-bob".into();
        world.advance(3600);
        // The provider answers, and every answer is about this one account.
        world
            .sandbox
            .set_behaviour(failing(vec![answering(500, ""); 5], Rotation::None));
        for _ in 0..5 {
            world.advance(60);
            ask(world, &poisoned).await?.unwrap_err();
        }
        assert_eq!(world.sandbox.calls().refresh, 5);
        ask(world, &neighbour).await?.unwrap();
    }
);

story!(
    f_04_a_lost_refresh_token_does_not_take_a_living_access_token_with_it,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        let first = ask(world, &body).await?.unwrap();
        let lost = InjectedFailure {
            drop_connection: true,
            after_processing: true,
            ..InjectedFailure::default()
        };
        world
            .sandbox
            .set_behaviour(failing(vec![lost], Rotation::Strict));
        world.advance(3600 - 40);
        // The first call is lost, the second is the recovery that is refused; the access token lives on.
        for _ in 0..3 {
            let served = ask(world, &body).await?.unwrap();
            assert_eq!(served.access_token, first.access_token);
            world.vault.land().await;
            world.advance(5);
        }
        assert!(world.provider_honours(&first.access_token).await?);
    }
);
