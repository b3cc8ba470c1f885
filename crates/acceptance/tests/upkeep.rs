//! What is forgotten, and what is not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::story;
use store::params;

story!(
    what_can_no_longer_be_used_is_deleted_and_the_rest_stays,
    |world| {
        let login = world.connected().await?;
        let jwt = world.sign_worker(&world.worker_claims());
        let worker = world.worker_exchange(&jwt);
        world.exchange(&worker).await?.unwrap();
        let refresh = world.refresh_exchange(&login.refresh_token);
        world.advance(3600);
        world.exchange(&refresh).await?.unwrap();
        // An intent of the present token set without an outcome has to stay: it is how a lost token is noticed.
        world
            .execute(
                "insert into refresh_intents (account_id, attempt, generation, node, started_at)
             select id, attempt + 7, generation, 'dead', 0 from accounts",
                params![],
            )
            .await;
        world.advance(8 * 24 * 3600);
        world.vault.upkeep().await.unwrap();
        for (table, left) in [
            ("select count(*) from codes", 0),
            ("select count(*) from connect_flows", 0),
            ("select count(*) from interactions", 0),
            ("select count(*) from replays", 0),
            ("select count(*) from throttles", 0),
            ("select count(*) from sessions", 0),
            ("select count(*) from refresh_intents", 1),
            ("select count(*) from accounts", 1),
            ("select count(*) from refresh_tokens", 1),
        ] {
            assert_eq!(world.count(table, params![]).await, left, "{table}");
        }
        // The refresh token outlives the session that it was issued in: offline_access was granted.
        world.exchange(&refresh).await?.unwrap();
    }
);
