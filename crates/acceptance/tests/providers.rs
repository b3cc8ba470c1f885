//! Providers as they document themselves, through the whole vault: simulated ones, and the sandbox.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{Setup, World, story};
use anyhow::Result;
use oauth::grant;
use reqwest::Method;
use sandbox::{Behaviour, InjectedFailure, Rotation};
use seal::SecretString;
use serde_json::{Value, json};
use store::params;
use vault::{AccountSelection, Caller, ClientSecrets};

/// A user with an account at a simulated provider: the refresh token, the body of an exchange, the account.
struct Connected {
    refresh_token: String,
    body: Value,
    account: Value,
}

async fn connected(world: &mut World, fixture: &str, scopes: Option<&[&str]>) -> Result<Connected> {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    world.simulated(fixture).await;
    let account = world.connect_at(&me, fixture, scopes).await?;
    let mut body = world.refresh_exchange(&login.refresh_token);
    body["connection"] = fixture.into();
    Ok(Connected {
        refresh_token: login.refresh_token,
        body,
        account,
    })
}

impl Connected {
    /// A My Account token of this moment.
    async fn me(&self, world: &mut World) -> Result<String> {
        world.my_account_token(&self.refresh_token).await
    }

    async fn accounts(&self, world: &mut World) -> Result<Vec<Value>> {
        let me = self.me(world).await?;
        accounts(world, &me).await
    }

    async fn disconnect(&self, world: &mut World, account: &Value) -> Result<()> {
        let me = self.me(world).await?;
        disconnect(world, &me, account).await
    }
}

async fn accounts(world: &mut World, me: &str) -> Result<Vec<Value>> {
    let listed = world.me(Method::GET, "accounts", me, None).await?.unwrap();
    Ok(listed["accounts"].as_array().unwrap().clone())
}

async fn disconnect(world: &mut World, me: &str, account: &Value) -> Result<()> {
    let path = format!("accounts/{}", account["id"].as_str().unwrap());
    world.me(Method::DELETE, &path, me, None).await?.unwrap();
    world.vault.land().await;
    Ok(())
}

/// What the audit log says of events, as JSON of their details.
async fn details(world: &World, event: &'static str) -> Vec<Value> {
    let rows = world
        .db
        .read(
            "select details from audit where event = $1 order by id",
            params![event],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| serde_json::from_str(row.text(0).unwrap()).unwrap())
        .collect()
}

story!(github_that_expires_is_refreshed_and_given_back, |world| {
    let dana = connected(world, "github-expiring", None).await?;
    assert_eq!(dana.account["provider_user_id"], "583231");
    assert_eq!(dana.account["login"], "octocat");
    let first = world.exchange(&dana.body).await?.unwrap();
    assert!(
        world
            .simulated_honours("github-expiring", &first.access_token)
            .await?
    );
    world.advance(28_800);
    let second = world.exchange(&dana.body).await?.unwrap();
    assert_ne!(first.access_token, second.access_token);
    assert_eq!(second.expires_in, 28_800);
    // Six months, put off by every refresh.
    let listed = dana.accounts(world).await?;
    assert_eq!(listed[0]["status"], "active");
    assert!(listed[0]["expires_at"].is_string());

    dana.disconnect(world, &listed[0]).await?;
    assert!(
        !world
            .simulated_honours("github-expiring", &second.access_token)
            .await?
    );
    assert_eq!(dana.accounts(world).await?.len(), 0);
    assert_eq!(
        details(world, "provider.revocation").await[0]["provider"],
        "revoked"
    );
    assert_eq!(
        world
            .count("select count(*) from revocations", params![])
            .await,
        0
    );
});

story!(slacks_bot_and_user_are_told_apart_by_scope, |world| {
    let dana = connected(world, "slack-rotating", None).await?;
    let scopes: Vec<&str> = dana.account["scopes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(scopes, ["chat:write", "user:users:read"]);
    let mut as_user = dana.body.clone();
    as_user["scope"] = "user:users:read".into();
    let bot = world.exchange(&dana.body).await?.unwrap();
    let user = world.exchange(&as_user).await?.unwrap();
    assert_ne!(bot.access_token, user.access_token);
    assert_eq!(bot.scope, "chat:write");
    assert_eq!(user.scope, "user:users:read");
    // Each is refreshed by its own refresh token, and the other one stays.
    world.advance(43_200);
    let next_user = world.exchange(&as_user).await?.unwrap();
    assert_ne!(next_user.access_token, user.access_token);
    assert_eq!(world.sandbox.simulated_refreshes("slack-rotating"), 1);
    let next_bot = world.exchange(&dana.body).await?.unwrap();
    assert_ne!(next_bot.access_token, bot.access_token);
    assert_eq!(world.sandbox.simulated_refreshes("slack-rotating"), 2);
    assert_eq!(
        world.exchange(&as_user).await?.unwrap().access_token,
        next_user.access_token
    );
    // What nobody was granted is not there.
    as_user["scope"] = "user:files:read".into();
    let refused = world.exchange(&as_user).await?.unwrap_err();
    assert_eq!(refused.error, "invalid_scope");
    // Both end with the account.
    dana.disconnect(world, &dana.account).await?;
    for token in [&next_bot.access_token, &next_user.access_token] {
        assert!(!world.simulated_honours("slack-rotating", token).await?);
    }
});

story!(entras_resources_have_a_token_each, |world| {
    let graph = "User.Read";
    let mail = "https://outlook.office.com/Mail.Read";
    let dana = connected(world, "waad-two-resources", None).await?;
    let mut exchange = async |scope: Option<&str>| -> Result<_> {
        let mut body = dana.body.clone();
        if let Some(scope) = scope {
            body["scope"] = scope.into();
        }
        world.exchange(&body).await
    };
    let first = exchange(None).await?.unwrap();
    assert!(first.scope.split(' ').any(|scope| scope == graph));
    let second = exchange(Some(mail)).await?.unwrap();
    assert_ne!(first.access_token, second.access_token);
    assert_eq!(second.scope, mail);
    // Both are kept; each answers for its own scopes.
    assert_eq!(
        exchange(Some(graph)).await?.unwrap().access_token,
        first.access_token
    );
    assert_eq!(
        exchange(Some(mail)).await?.unwrap().access_token,
        second.access_token
    );
    // One token is for one resource.
    let both = exchange(Some(&format!("{graph} {mail}")))
        .await?
        .unwrap_err();
    assert_eq!(both.error, "invalid_scope");
    let neither = exchange(Some("Files.Read")).await?.unwrap_err();
    assert_eq!(neither.error, "invalid_scope");
    assert_eq!(world.sandbox.simulated_refreshes("waad-two-resources"), 1);
});

story!(a_narrow_token_beside_the_whole, |world| {
    let dana = connected(world, "dropbox", None).await?;
    let mut narrow = dana.body.clone();
    narrow["scope"] = "account_info.read".into();
    // It is all there is: no narrower token is needed.
    let whole = world.exchange(&dana.body).await?.unwrap();
    assert_eq!(
        world.exchange(&narrow).await?.unwrap().access_token,
        whole.access_token
    );
    assert_eq!(world.sandbox.simulated_refreshes("dropbox"), 0);
});

story!(
    the_standard_grant_gets_a_narrower_token_where_the_provider_can,
    |world| {
        let dana = connected(world, "google-oauth2", None).await?;
        let profile = "https://www.googleapis.com/auth/userinfo.profile";
        let mut narrow = dana.body.clone();
        narrow["grant_type"] = grant::TOKEN_EXCHANGE.into();
        narrow["requested_token_type"] = Value::Null;
        narrow
            .as_object_mut()
            .unwrap()
            .remove("requested_token_type");
        narrow["scope"] = profile.into();
        let whole = world.exchange(&dana.body).await?.unwrap();
        let less = world.exchange(&narrow).await?.unwrap();
        assert_ne!(less.access_token, whole.access_token);
        assert_eq!(less.scope, profile);
        assert_eq!(world.sandbox.simulated_refreshes("google-oauth2"), 1);
        // It is kept, and the whole beside it.
        assert_eq!(
            world.exchange(&narrow).await?.unwrap().access_token,
            less.access_token
        );
        assert_eq!(
            world.exchange(&dana.body).await?.unwrap().access_token,
            whole.access_token
        );
        assert_eq!(world.sandbox.simulated_refreshes("google-oauth2"), 1);
        // Each is refreshed on its own.
        world.advance(3599);
        let later = world.exchange(&narrow).await?.unwrap();
        assert_ne!(later.access_token, less.access_token);
        assert_eq!(later.scope, profile);
        assert_eq!(world.sandbox.simulated_refreshes("google-oauth2"), 2);
    }
);

story!(
    ss_a_callback_that_names_another_place_connects_nothing,
    |world| {
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        world.simulated("zoho").await;
        for place in [
            "https://127.0.0.1",
            "https://accounts.zoho.com.evil.example",
            "https://accounts.zoho.eu@evil.example",
            "http://accounts.zoho.eu",
            "https://169.254.169.254/accounts.zoho.eu",
        ] {
            let started = world.start_connect_at(&me, "zoho", None).await?;
            let mut agent = world.browser();
            world
                .log_in_as(&mut agent, (acceptance::USERNAME, acceptance::PASSWORD))
                .await?;
            let stop = world.to_provider(&mut agent, &started).await?;
            // What the provider would say, with another accounts server in it.
            let callback = stop.parameter("redirect_uri").unwrap();
            let state = stop.parameter("state").unwrap();
            let query = [
                ("code", "a code"),
                ("state", state.as_str()),
                ("location", "eu"),
                ("accounts-server", place),
            ];
            let forged = url::Url::parse_with_params(&callback, query)?;
            let answered = agent
                .open_any(forged.as_str(), acceptance::WEB_CALLBACK)
                .await?;
            assert_eq!(answered.parameter("connect_code"), None, "{place}");
            assert!(answered.parameter("error").is_some(), "{place}");
        }
        assert_eq!(accounts(world, &me).await?.len(), 0);
    }
);

story!(
    a_provider_that_names_nobody_has_one_account_a_user,
    |world| {
        let dana = connected(world, "bullhorn", None).await?;
        assert_eq!(dana.account["provider_user_id"], "");
        let again = {
            let me = dana.me(world).await?;
            world.connect_at(&me, "bullhorn", None).await?
        };
        assert_eq!(again["id"], dana.account["id"]);
        assert!(world.exchange(&dana.body).await?.is_ok());
    }
);

story!(what_the_api_is_called_with_is_told, |world| {
    let dana = connected(world, "zoho", None).await?;
    let expected = json!({ "accounts_server": "https://accounts.zoho.eu", "api_domain": "https://www.zohoapis.eu" });
    assert_eq!(dana.account["variables"], expected);
    let answer = world.token(&dana.body).await?.unwrap();
    assert_eq!(answer["variables"], expected);
    // The refresh goes to the data centre of the account.
    world.advance(3600);
    assert!(world.exchange(&dana.body).await?.is_ok());
});

story!(
    a_token_that_renews_itself_is_renewed_before_it_ends,
    |world| {
        let dana = connected(world, "facebook", None).await?;
        let first = world.exchange(&dana.body).await?.unwrap();
        let day = 24 * 3600;
        for _ in 0..10 {
            // Nobody asks for it for months.
            for _ in 0..30 {
                world.advance(day);
                world.vault.keep_alive().await.unwrap();
                world.vault.upkeep().await.unwrap();
            }
        }
        let later = world.exchange(&dana.body).await?.unwrap();
        assert_ne!(first.access_token, later.access_token);
        assert_eq!(dana.accounts(world).await?[0]["status"], "active");
        let renewed = world.sandbox.simulated_refreshes("facebook");
        assert!((6..=8).contains(&renewed), "{renewed} in 300 days");
        assert!(details(world, "account.expiring").await.is_empty());
    }
);

story!(
    a_refresh_token_that_would_die_of_idleness_is_used_in_time,
    |world| {
        // 60 days without use end it.
        let dana = connected(world, "box", None).await?;
        for _ in 0..120 {
            world.advance(24 * 3600);
            world.vault.keep_alive().await.unwrap();
        }
        assert!(world.exchange(&dana.body).await?.is_ok());
        let refreshed = world.sandbox.simulated_refreshes("box");
        assert!((2..=4).contains(&refreshed), "{refreshed} in 120 days");
    }
);

story!(an_end_that_nothing_puts_off_is_warned_of, |world| {
    // Seven days from consent, whatever happens.
    let dana = connected(world, "netsuite", None).await?;
    world.advance(5 * 24 * 3600);
    world.vault.keep_alive().await.unwrap();
    world.vault.upkeep().await.unwrap();
    assert!(details(world, "account.expiring").await.is_empty());
    assert_eq!(dana.accounts(world).await?[0].get("warnings"), None);
    world.advance(24 * 3600);
    for _ in 0..3 {
        world.vault.upkeep().await.unwrap();
    }
    let told = details(world, "account.expiring").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["cause"], "authorization_ends");
    assert_eq!(
        dana.accounts(world).await?[0]["warnings"],
        json!(["expiring"])
    );
    // Connecting again makes it new.
    let me = dana.me(world).await?;
    world.connect_at(&me, "netsuite", None).await?;
    assert_eq!(dana.accounts(world).await?[0].get("warnings"), None);
});

story!(
    the_next_client_secret_takes_over_and_is_remembered,
    |world| {
        let dana = connected(world, "discord", None).await?;
        let connection = world
            .vault
            .find_connection("discord")
            .await
            .unwrap()
            .unwrap();
        let secret = |text: &str| Some(SecretString::new(text.to_owned()));
        let secrets = ClientSecrets {
            current: secret("a secret that was taken back"),
            next: secret(sandbox::CLIENT_SECRET),
            current_expires_at: None,
        };
        world
            .vault
            .set_client_secrets(&connection, &secrets, &Caller::default())
            .await
            .unwrap();
        world.advance(604_800);
        assert!(world.exchange(&dana.body).await?.is_ok());
        assert_eq!(world.audited("connection.secret_changed").await.len(), 2);
        // Remembered: the next refresh needs one call, and so does connecting.
        world.advance(604_800);
        assert!(world.exchange(&dana.body).await?.is_ok());
        assert_eq!(world.audited("connection.secret_changed").await.len(), 2);
        // Neither works: nobody's account is at fault.
        let connection = world
            .vault
            .find_connection("discord")
            .await
            .unwrap()
            .unwrap();
        let wrong = ClientSecrets {
            current: secret("wrong"),
            next: secret("wrong too"),
            current_expires_at: None,
        };
        world
            .vault
            .set_client_secrets(&connection, &wrong, &Caller::default())
            .await
            .unwrap();
        world.advance(604_800);
        let refused = world.exchange(&dana.body).await?.unwrap_err();
        assert_eq!(refused.status, 502);
        let listed = dana.accounts(world).await?;
        assert_eq!(listed[0]["status"], "active");
        assert_eq!(listed[0]["last_failure"], "client_misconfigured");
        assert!(listed[0]["retry_at"].is_string());
    }
);

story!(a_client_secret_that_will_end_is_warned_of_once, |world| {
    let connection = world
        .vault
        .find_connection("sandbox")
        .await
        .unwrap()
        .unwrap();
    let secrets = ClientSecrets {
        current: Some(SecretString::new("s".to_owned())),
        next: None,
        current_expires_at: Some(world.vault.now() + jiff::SignedDuration::from_hours(60 * 24)),
    };
    world
        .vault
        .set_client_secrets(&connection, &secrets, &Caller::default())
        .await
        .unwrap();
    for (days, warnings) in [(20, 0), (15, 1), (1, 1)] {
        world.advance(days * 24 * 3600);
        world.vault.upkeep().await.unwrap();
        assert_eq!(
            world.audited("connection.secret_expiring").await.len(),
            warnings
        );
    }
});

story!(
    connecting_for_one_more_scope_keeps_those_that_were_granted,
    |world| {
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        // The person unticks one.
        world.sandbox.set_behaviour(Behaviour {
            granted_scopes: Some(
                ["openid", "offline_access", "files.read"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            ..Behaviour::default()
        });
        let scopes: &[&str] = &["openid", "offline_access", "files.read", "contacts.read"];
        let mut agent = world.browser();
        world
            .log_in_as(&mut agent, (acceptance::USERNAME, acceptance::PASSWORD))
            .await?;
        let started = world.start_connect_at(&me, "sandbox", Some(scopes)).await?;
        let stop = world.consent(&mut agent, &started, "alice").await?;
        let code = stop.answer("connect_code")?;
        let account = world.complete(&me, &started, &code).await?.unwrap();
        assert_eq!(account["missing_scopes"], json!(["contacts.read"]));
        // What was granted is asked for again, and what was refused is not.
        let started = world
            .start_connect_at(&me, "sandbox", Some(&["calendar.read"]))
            .await?;
        let stop = world.to_provider(&mut agent, &started).await?;
        let asked = stop.parameter("scope").unwrap();
        let asked: Vec<&str> = asked.split(' ').collect();
        assert!(asked.contains(&"calendar.read") && asked.contains(&"files.read"));
        assert!(!asked.contains(&"contacts.read"), "{asked:?}");
        // Another account is not this one.
        let body = json!({
            "connection": "sandbox", "redirect_uri": acceptance::WEB_CALLBACK, "state": "s",
            "scopes": ["calendar.read"], "authorization_params": { "login_hint": "bob@sandbox.example" },
        });
        let started = world
            .me(Method::POST, "connect", &me, Some(&body))
            .await?
            .unwrap();
        let stop = world.to_provider(&mut agent, &started).await?;
        assert!(!stop.parameter("scope").unwrap().contains("files.read"));
    }
);

story!(accounts_can_be_told_apart_and_named, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    world.connect(&me, "alice").await?;
    let bob = world.connect(&me, "bob").await?;
    let path = format!("accounts/{}", bob["id"].as_str().unwrap());
    let named = world
        .me(Method::PATCH, &path, &me, Some(&json!({ "label": "Work" })))
        .await?
        .unwrap();
    assert_eq!(named["label"], "Work");
    let listed = accounts(world, &me).await?;
    let labels: Vec<&Value> = listed.iter().map(|account| &account["label"]).collect();
    assert!(labels.contains(&&json!("Work")) && labels.contains(&&Value::Null));
    // Connecting again keeps the name.
    let again = world.connect(&me, "bob").await?;
    assert_eq!(again["label"], "Work");
    for (body, status) in [
        (json!({ "label": "x".repeat(129) }), 400),
        (json!({ "label": "a\nb" }), 400),
        (json!({ "label": 7 }), 400),
        (json!({ "name": "x" }), 400),
    ] {
        let refused = world
            .me(Method::PATCH, &path, &me, Some(&body))
            .await?
            .unwrap_err();
        assert_eq!(refused.status, status, "{body}");
    }
    let unnamed = world
        .me(Method::PATCH, &path, &me, Some(&json!({ "label": null })))
        .await?
        .unwrap();
    assert_eq!(unnamed.get("label"), None);
    let refused = world
        .me(
            Method::PATCH,
            "accounts/cac_unknown",
            &me,
            Some(&json!({ "label": "x" })),
        )
        .await?
        .unwrap_err();
    assert_eq!(refused.status, 404);
});

story!(
    where_callers_have_to_choose_an_ambiguous_exchange_lists_the_accounts,
    Setup {
        settings: |settings| settings.account_selection = AccountSelection::Required,
        ..Setup::default()
    },
    |world| {
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        let mut body = world.refresh_exchange(&login.refresh_token);
        world.connect(&me, "alice").await?;
        assert!(world.exchange(&body).await?.is_ok());
        world.connect(&me, "bob").await?;
        let refused = world.exchange(&body).await?.unwrap_err();
        assert_eq!(refused.error, "account_selection_required");
        let url = world.url("oauth/token");
        let (status, answer) = world
            .agent
            .call(Method::POST, &url, None, Some(&body))
            .await?;
        assert_eq!(status, 400);
        let mut emails: Vec<&str> = answer["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|candidate| candidate["email"].as_str())
            .collect();
        emails.sort_unstable();
        assert_eq!(emails, ["alice@sandbox.example", "bob@sandbox.example"]);
        body["login_hint"] = "alice@sandbox.example".into();
        assert!(world.exchange(&body).await?.is_ok());
    }
);

/// The next revocations fail at the provider.
fn refuses_revocations(world: &World, times: usize) {
    let away = InjectedFailure {
        status: 503,
        ..InjectedFailure::default()
    };
    world.sandbox.set_behaviour(Behaviour {
        next_revocation_failures: vec![away; times],
        ..Behaviour::default()
    });
}

story!(
    a_disconnect_is_told_to_the_provider_for_as_long_as_it_takes,
    |world| {
        let login = world.connected().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        let body = world.refresh_exchange(&login.refresh_token);
        let token = world.exchange(&body).await?.unwrap().access_token;
        let account = accounts(world, &me).await?.remove(0);
        refuses_revocations(world, 3);
        disconnect(world, &me, &account).await?;
        // Nothing is served here from now on, whatever the provider does.
        assert!(world.exchange(&body).await?.is_err());
        assert!(world.provider_honours(&token).await?);
        for _ in 0..3 {
            world.advance(60);
            world.vault.revoke_due().await.unwrap();
        }
        assert!(!world.provider_honours(&token).await?);
        let told = details(world, "provider.revocation").await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["provider"], "revoked");
        assert_eq!(told[0]["attempts"], 4);
    }
);

story!(
    a_provider_that_never_answers_is_given_up_after_three_days,
    |world| {
        let login = world.connected().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        let account = accounts(world, &me).await?.remove(0);
        refuses_revocations(world, 500);
        disconnect(world, &me, &account).await?;
        for _ in 0..(73 * 2) {
            world.advance(1800);
            world.vault.revoke_due().await.unwrap();
        }
        assert_eq!(
            world
                .count("select count(*) from revocations", params![])
                .await,
            0
        );
        let told = world.audited("provider.revocation").await;
        assert_eq!(told.len(), 1);
        assert_eq!(
            told[0],
            ("failed".to_owned(), Some("not_revoked".to_owned()))
        );
    }
);

story!(
    a_grant_that_somebody_else_uses_is_not_ended_by_a_disconnect,
    |world| {
        let login = world.connected().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        // The same person of the provider, through the same client of ours, at another connection.
        world.another_connection("second").await;
        let second = world.start_connect_at(&me, "second", None).await?;
        let mut agent = world.browser();
        world
            .log_in_as(&mut agent, (acceptance::USERNAME, acceptance::PASSWORD))
            .await?;
        let stop = world.consent(&mut agent, &second, "alice").await?;
        let code = stop.answer("connect_code")?;
        let second = world.complete(&me, &second, &code).await?.unwrap();
        let told = details(world, "connect.completed").await;
        let elsewhere = told
            .iter()
            .filter(|told| told["connected_elsewhere"].is_string());
        assert_eq!(elsewhere.count(), 1);
        let body = world.refresh_exchange(&login.refresh_token);
        let token = world.exchange(&body).await?.unwrap().access_token;
        disconnect(world, &me, &second).await?;
        assert_eq!(
            details(world, "provider.revocation").await[0]["provider"],
            "shared_grant"
        );
        assert!(world.provider_honours(&token).await?);
        assert!(world.exchange(&body).await?.is_ok());
    }
);

story!(
    where_the_access_token_ends_the_grant_a_dead_one_is_refreshed_first,
    |world| {
        let dana = connected(world, "dropbox", None).await?;
        world.advance(14_400 + 3600);
        dana.disconnect(world, &dana.account).await?;
        assert_eq!(world.sandbox.simulated_refreshes("dropbox"), 1);
        assert_eq!(
            details(world, "provider.revocation").await[0]["provider"],
            "revoked"
        );
        assert!(world.sandbox.simulated_grants("dropbox").is_empty());
    }
);

story!(a_grant_that_came_to_nothing_is_given_back, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    world.sandbox.set_behaviour(Behaviour {
        omit_id_token: true,
        ..Behaviour::default()
    });
    let started = world.start_connect(&me).await?;
    let mut agent = world.browser();
    world
        .log_in_as(&mut agent, (acceptance::USERNAME, acceptance::PASSWORD))
        .await?;
    let stop = world.consent(&mut agent, &started, "alice").await?;
    let code = stop.answer("connect_code")?;
    assert!(world.complete(&me, &started, &code).await?.is_err());
    world.vault.land().await;
    assert_eq!(world.sandbox.calls().revoke, 1);
    assert_eq!(
        details(world, "provider.revocation").await[0]["provider"],
        "revoked"
    );
});

story!(what_happens_to_an_account_is_told, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let body = world.refresh_exchange(&login.refresh_token);
    // An outage and its end.
    world.sandbox.set_behaviour(Behaviour {
        next_failures: vec![InjectedFailure {
            status: 503,
            ..InjectedFailure::default()
        }],
        ..Behaviour::default()
    });
    world.advance(3600);
    assert!(world.exchange(&body).await?.is_err());
    assert_eq!(
        accounts(world, &me).await?[0]["last_failure"],
        "provider_unavailable"
    );
    world.advance(10);
    assert!(world.exchange(&body).await?.is_ok());
    let told = details(world, "account.recovered").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["failure"], "provider_unavailable");
    assert_eq!(accounts(world, &me).await?[0].get("last_failure"), None);
    // The person takes a scope back there.
    world.sandbox.set_behaviour(Behaviour {
        granted_scopes: Some(vec!["openid".to_owned(), "offline_access".to_owned()]),
        rotation: Rotation::None,
        ..Behaviour::default()
    });
    world.advance(3600);
    assert!(world.exchange(&body).await?.is_ok());
    let told = details(world, "account.scopes_changed").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["added"], json!([]));
    assert!(!told[0]["removed"].as_array().unwrap().is_empty());
    let account = accounts(world, &me).await?.remove(0);
    assert!(!account["missing_scopes"].as_array().unwrap().is_empty());
    // And then everything.
    world.sandbox.revoke_all_grants();
    world.advance(3600);
    assert!(world.exchange(&body).await?.is_err());
    let told = details(world, "account.reauthorization_required").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["status_reason"], "invalid_grant");
    // Until it is connected again.
    world.connect(&me, "alice").await?;
    assert_eq!(details(world, "account.recovered").await.len(), 2);
});
