//! Signing keys: they rotate with overlap, by age and by hand, and a revoked one is nothing any more on any node.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{World, story};
use reqwest::Method;
use seal::Algorithm;
use serde_json::{Value, json};
use vault::{Caller, NewApi};

fn kid(token: &str) -> String {
    seal::UnverifiedJws::parse(token)
        .unwrap()
        .unverified_kid()
        .unwrap()
        .to_owned()
}

async fn published(world: &World) -> Vec<(String, String)> {
    let url = world.url(".well-known/jwks.json");
    let keys = world
        .agent
        .expect(Method::GET, &url, None, None)
        .await
        .unwrap();
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            // Nothing private is ever published.
            assert!(
                ["d", "p", "q", "dp", "dq", "qi", "k"]
                    .iter()
                    .all(|name| key.get(*name).is_none())
            );
            (text(key, "kid"), text(key, "alg"))
        })
        .collect()
}

fn knows(keys: &[(String, String)], kid: &str) -> bool {
    keys.iter().any(|(known, _)| known == kid)
}

story!(
    a_key_is_published_before_it_signs_and_verifies_after,
    |world| {
        let before = published(world).await;
        // Current and next of each algorithm.
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            assert_eq!(before.iter().filter(|(_, alg)| alg == algorithm).count(), 2);
        }
        let login = world.connected().await?;
        let old = kid(&login.access_token);
        world
            .vault
            .rotate_signing_key(
                &vault::Administrator::local(),
                Algorithm::Rs256,
                &Caller::default(),
            )
            .await
            .unwrap();
        let again = world.log_in().await?;
        let new = kid(&again.access_token);
        assert_ne!(new, old);
        assert!(
            knows(&before, &new),
            "the new key was not published before it signed"
        );
        let after = published(world).await;
        assert!(knows(&after, &old) && knows(&after, &new));
        assert_eq!(after.iter().filter(|(_, alg)| alg == "RS256").count(), 3);
        // Tokens of both keys are good, also at a node that knew neither.
        let (_, second) = world.second_node("node-2").await;
        world.agent = world.agent_at(&second);
        for token in [&login.access_token, &again.access_token] {
            let body = world.access_exchange(token);
            world.exchange(&body).await?.unwrap();
        }
        // A month later the old key is gone from the set.
        world.advance(31 * 24 * 3600);
        assert!(!knows(&published(world).await, &old));
    }
);

story!(keys_rotate_by_age_once_over_all_nodes, |world| {
    let login = world.log_in().await?;
    world.vault.upkeep().await.unwrap();
    assert_eq!(
        kid(&world.log_in().await?.access_token),
        kid(&login.access_token)
    );
    world.advance(90 * 24 * 3600);
    let (other, _) = world.second_node("node-2").await;
    let (one, two) = tokio::join!(world.vault.upkeep(), other.upkeep());
    one.unwrap();
    two.unwrap();
    assert_ne!(
        kid(&world.log_in().await?.access_token),
        kid(&login.access_token)
    );
    let current = "select count(*) from signing_keys where state = 'current'";
    assert_eq!(world.count(current, store::params![]).await, 3);
    let retired = "select count(*) from signing_keys where state = 'previous'";
    assert_eq!(world.count(retired, store::params![]).await, 3);
});

story!(
    wk_22_a_revoked_key_is_refused_at_once_on_another_node,
    |world| {
        let login = world.connected().await?;
        let (_, second) = world.second_node("node-2").await;
        let there = world.agent_at(&second);
        let first = std::mem::replace(&mut world.agent, there);
        let body = world.access_exchange(&login.access_token);
        world.exchange(&body).await?.unwrap();
        let revoked = kid(&login.access_token);
        world
            .vault
            .revoke_signing_key(&vault::Administrator::local(), &revoked, &Caller::default())
            .await
            .unwrap();
        let refused = world.exchange(&body).await?.unwrap_err();
        assert_eq!(
            (refused.status, refused.error.as_str()),
            (401, "invalid_grant")
        );
        world.agent = first;
        assert!(!knows(&published(world).await, &revoked));
        let again = world.log_in().await?;
        assert_ne!(kid(&again.access_token), revoked);
    }
);

story!(an_api_chooses_how_its_tokens_are_signed, |world| {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let identifier = format!("https://{algorithm}.test/");
        world
            .vault
            .create_api(NewApi {
                identifier: identifier.clone(),
                name: identifier.clone(),
                signing_alg: Some(algorithm),
                client_policy: vault::AccessPolicy::AllowAll,
                ..NewApi::default()
            })
            .await
            .unwrap();
        let body = json!({
            "grant_type": "client_credentials",
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "audience": identifier,
        });
        let token = world.token(&body).await?.unwrap()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        let jws = seal::UnverifiedJws::parse(&token).unwrap();
        assert_eq!(jws.algorithm(), algorithm);
        assert_eq!(jws.typ(), Some("at+jwt"));
        let keys = published(world).await;
        assert!(keys.contains(&(kid(&token), algorithm.as_str().to_owned())));
    }
});
