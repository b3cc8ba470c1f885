//! The main job: log in, connect, exchange three ways, stay fresh.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::story;

story!(the_main_job, |world| {
    let login = world.log_in().await?;
    let early = world.refresh_exchange(&login.refresh_token);
    let refused = world.exchange(&early).await?.unwrap_err();
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.error,
        "federated_connection_refresh_token_not_found"
    );

    let me = world.my_account_token(&login.refresh_token).await?;
    let account = world.connect(&me, "alice").await?;
    assert!(account["id"].as_str().unwrap().starts_with("cac_"));
    assert_eq!(account["access_type"], "offline");

    let jwt = world.sign_worker(&world.worker_claims());
    for body in [
        world.refresh_exchange(&login.refresh_token),
        world.access_exchange(&login.access_token),
        world.worker_exchange(&jwt),
    ] {
        let exchanged = world.exchange(&body).await?.unwrap();
        assert_eq!(exchanged.expires_in, 3600);
        assert!(exchanged.scope.contains("files.read"));
        assert!(world.provider_honours(&exchanged.access_token).await?);
    }
    assert_eq!(world.sandbox.calls().refresh, 0);

    let exchange = world.refresh_exchange(&login.refresh_token);
    let before = world.exchange(&exchange).await?.unwrap();
    world.advance(3600);
    let after = world.exchange(&exchange).await?.unwrap();
    assert_ne!(after.access_token, before.access_token);
    assert_eq!(after.expires_in, 3600);
    assert_eq!(world.sandbox.calls().refreshed, 1);
    let outcomes = world.audited("exchange").await;
    assert_eq!(outcomes.len(), 6);
    assert_eq!(
        outcomes
            .iter()
            .filter(|(outcome, _)| outcome == "succeeded")
            .count(),
        5
    );
});
