//! Accounts that were connected elsewhere come along with their tokens.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{World, story};
use provider::ConnectionOptions;
use sandbox::{Behaviour, Rotation};
use seal::SecretString;
use serde_json::{Value, json};
use store::params;
use vault::{
    Administrator, Caller, Error, ImportLine, ImportOptions, ImportReason, ImportRefusal, Imported,
    NewConnection, Proof, Reason,
};

type Answers = Vec<Result<Imported, ImportRefusal>>;

const REPLACE: ImportOptions = ImportOptions {
    dry_run: false,
    replace: true,
    create_users: false,
};

/// A grant of the sandbox as a line for a user.
fn line(world: &mut World, user: &Value, subject: &str) -> Value {
    let scopes = ["openid", "offline_access", "files.read"];
    let (access, refresh) = world
        .sandbox
        .grant_elsewhere("sandbox-client-id", subject, &scopes);
    world.secret(&access);
    world.secret(&refresh);
    json!({
        "user": user,
        "connection": "sandbox",
        "access_token": access,
        "refresh_token": refresh,
        "scopes": scopes,
        "expires_in": 3600,
        "account": {"id": subject, "login": format!("{subject}@sandbox.example")},
    })
}

fn read(lines: &[&Value]) -> Vec<ImportLine> {
    let mut number = 0;
    let read = lines.iter().map(|line| {
        number += 1;
        ImportLine::read(number, line.to_string().as_bytes()).unwrap()
    });
    read.collect()
}

/// One run over some lines, in one batch.
async fn import(world: &World, options: ImportOptions, lines: &[&Value]) -> Answers {
    let mut import = world.vault.begin_import(&Administrator::local(), options);
    import
        .import(&read(lines), &Caller::default())
        .await
        .unwrap()
}

fn account(answer: &Result<Imported, ImportRefusal>) -> String {
    answer.as_ref().unwrap().account_id().unwrap().to_owned()
}

fn reasons(answers: &Answers) -> Vec<Option<&'static str>> {
    let reasons = answers.iter().map(|answer| match answer {
        Ok(_) => None,
        Err(refusal) => Some(refusal.reason.as_str()),
    });
    reasons.collect()
}

async fn prove(world: &World, account_id: &str) -> Result<Proof, Reason> {
    let proven = world
        .vault
        .prove_imported(account_id, &Caller::default())
        .await;
    proven.map_err(|error| match error {
        Error::Refused(refusal) => refusal.reason(),
        Error::Fault(fault) => panic!("{fault}"),
    })
}

async fn rows(world: &World) -> [i64; 4] {
    [
        world
            .count("select count(*) from accounts", params![])
            .await,
        world.count("select count(*) from users", params![]).await,
        world.count("select count(*) from replays", params![]).await,
        world.count("select count(*) from audit", params![]).await,
    ]
}

story!(an_imported_account_is_one_like_any_other, |world| {
    let login = world.log_in().await?;
    let user = world.user.id.clone();
    let line = line(world, &json!(user), "sandbox-alice");
    let answers = import(world, ImportOptions::default(), &[&line]).await;
    let id = account(&answers[0]);
    assert_eq!(
        answers[0],
        Ok(Imported::Connected {
            account_id: id.clone(),
            new_user: false
        })
    );
    // The exchange gives the very token, and the next one when it has ended.
    let body = world.refresh_exchange(&login.refresh_token);
    let exchanged = world.exchange(&body).await?.unwrap();
    assert_eq!(
        exchanged.access_token,
        line["access_token"].as_str().unwrap()
    );
    assert_eq!(exchanged.scope, "openid offline_access files.read");
    world.advance(3600);
    let next = world.exchange(&body).await?.unwrap();
    assert_ne!(next.access_token, exchanged.access_token);
    assert!(world.provider_honours(&next.access_token).await?);
    // Its owner sees it, and the log says how it came.
    let me = world.my_account_token(&login.refresh_token).await?;
    let listed = world
        .me(reqwest::Method::GET, "accounts", &me, None)
        .await?;
    let listed = listed.unwrap();
    assert_eq!(listed["accounts"][0]["id"], *id, "{listed}");
    assert_eq!(
        world.audited("account.imported").await,
        [("succeeded".to_owned(), None)]
    );
    // Connecting it by hand renews it.
    world.connect(&me, "alice").await?;
    assert_eq!(rows(world).await[0], 1);
});

story!(what_cannot_be_imported_is_refused_by_name, |world| {
    let user = json!(world.user.id);
    let blocked = world.another_user("blocked").await;
    world.vault.block_user(&blocked.id).await.unwrap();
    for (id, email, verified) in [
        ("usr_a", "twice@example.com", true),
        ("usr_b", "twice@example.com", true),
        ("usr_c", "written@example.com", false),
    ] {
        let profile = json!({ "email_verified": verified }).to_string();
        world
            .execute(
                "insert into users (id, username, email, profile, created_at, updated_at) values ($1, $1, $2, $3, 0, 0)",
                params![id, email, profile],
            )
            .await;
    }
    let off = world.another_connection("off").await;
    world
        .execute(
            "update connections set connected_accounts_active = 0 where id = $1",
            params![off.id.as_str()],
        )
        .await;
    // Variables come with the tokens: one with a default, one without.
    for strategy in ["wrike", "stripe"] {
        let new = NewConnection {
            name: strategy.to_owned(),
            strategy: strategy.to_owned(),
            display_name: String::new(),
            client_id: "x".to_owned(),
            client_secret: Some(SecretString::new("a secret of ours".to_owned())),
            options: ConnectionOptions::default(),
            scopes: vec![],
        };
        world.vault.create_connection(new).await.unwrap();
    }
    let good = line(world, &user, "sandbox-alice");
    let with = |change: Value| {
        let mut line = good.clone();
        for (name, value) in change.as_object().unwrap() {
            line[name] = value.clone();
        }
        line.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        line
    };
    let yesterday = world.vault.now().as_second() - 86_400;
    let cases = [
        (
            json!({"account": {"login": "alice"}}),
            "account_id_missing",
            "account.id",
        ),
        (
            json!({"connection": "off"}),
            "connection_inactive",
            "connection",
        ),
        (
            json!({"connection": "nowhere"}),
            "connection_unknown",
            "connection",
        ),
        (
            json!({"user": {"email": "written@example.com"}}),
            "email_unverified",
            "user",
        ),
        (
            json!({"refresh_token": null, "expires_in": null, "expires_at": yesterday}),
            "tokens_ended",
            "expires_at",
        ),
        (
            json!({"refresh_token_expires_at": yesterday}),
            "tokens_ended",
            "refresh_token_expires_at",
        ),
        (
            json!({"user": {"email": "twice@example.com"}}),
            "user_ambiguous",
            "user",
        ),
        (json!({"user": blocked.id}), "user_blocked", "user"),
        (json!({"user": "usr_nobody"}), "user_unknown", "user"),
        (
            json!({"user": {"username": "nobody"}}),
            "user_unknown",
            "user",
        ),
        (
            json!({"user": {"email": "nobody@example.com"}}),
            "user_unknown",
            "user",
        ),
        (
            json!({"variables": {"shop": "x"}}),
            "variables_unfit",
            "variables.shop",
        ),
        (
            json!({"connection": "wrike", "variables": {"host": "evil.example"}}),
            "variables_unfit",
            "variables.host",
        ),
        (
            json!({"connection": "stripe"}),
            "variables_unfit",
            "variables.stripe_user_id",
        ),
    ];
    let lines: Vec<Value> = cases
        .iter()
        .map(|(change, ..)| with(change.clone()))
        .collect();
    let lines: Vec<&Value> = lines.iter().collect();
    let before = rows(world).await;
    for dry_run in [true, false] {
        let options = ImportOptions {
            dry_run,
            ..ImportOptions::default()
        };
        let answers = import(world, options, &lines).await;
        for (answer, (_, reason, field)) in answers.iter().zip(&cases) {
            let refusal = answer.as_ref().unwrap_err();
            assert_eq!(refusal.reason.as_str(), *reason, "{field}");
            assert_eq!(refusal.field.as_deref(), Some(*field), "{reason}");
        }
    }
    assert_eq!(rows(world).await, before, "nothing was written");
    // The good ones beside them are imported.
    let answers = import(
        world,
        ImportOptions::default(),
        &[lines[1], &good, lines[8]],
    )
    .await;
    assert_eq!(
        reasons(&answers),
        [Some("connection_inactive"), None, Some("user_unknown")]
    );
    // With other tokens it is the same account.
    let again = line(world, &user, "sandbox-alice");
    let answers = import(world, ImportOptions::default(), &[&again]).await;
    assert_eq!(reasons(&answers), [Some("already_connected")]);
});

story!(a_dry_run_decides_all_of_it_and_writes_nothing, |world| {
    let user = json!(world.user.id);
    let first = line(world, &user, "sandbox-alice");
    let same_account = line(world, &user, "sandbox-alice");
    let new_user = line(world, &json!({"email": "new@example.com"}), "sandbox-bob");
    let same_again = line(world, &json!({"email": "new@example.com"}), "sandbox-bob");
    let before = rows(world).await;
    let options = ImportOptions {
        dry_run: true,
        create_users: true,
        ..ImportOptions::default()
    };
    let mut dry = world.vault.begin_import(&Administrator::local(), options);
    let caller = Caller::default();
    let mut answers = dry
        .import(&read(&[&first, &new_user]), &caller)
        .await
        .unwrap();
    // What an earlier batch would have connected is remembered.
    let second = [&first, &same_account, &same_again];
    answers.extend(dry.import(&read(&second), &caller).await.unwrap());
    assert_eq!(
        reasons(&answers),
        [
            None,
            None,
            None,
            Some("already_connected"),
            Some("already_connected")
        ]
    );
    assert!(matches!(
        answers[1],
        Ok(Imported::Connected { new_user: true, .. })
    ));
    assert!(matches!(answers[2], Ok(Imported::Before { .. })));
    assert_eq!(rows(world).await, before);
    // It said what happens.
    let options = ImportOptions {
        dry_run: false,
        ..options
    };
    let lines = [&first, &new_user, &first, &same_account, &same_again];
    let really = import(world, options, &lines).await;
    assert_eq!(reasons(&really), reasons(&answers));
    let after = rows(world).await;
    assert_eq!(
        [
            after[0] - before[0],
            after[1] - before[1],
            after[2] - before[2]
        ],
        [2, 1, 2]
    );
});

story!(
    a_second_run_doubles_nothing_and_takes_nothing_back,
    |world| {
        world.sandbox.set_behaviour(Behaviour {
            rotation: Rotation::StrictKillFamily,
            ..Behaviour::default()
        });
        let login = world.log_in().await?;
        let user = json!(world.user.id);
        let other = json!(world.another_user("other").await.id);
        let lines = [
            line(world, &user, "sandbox-alice"),
            line(world, &other, "sandbox-bob"),
            line(world, &other, "sandbox-carol"),
        ];
        let lines: Vec<&Value> = lines.iter().collect();
        // The first run ends after its first batch; the tokens of that are rotated meanwhile.
        let first = import(world, REPLACE, &lines[..1]).await;
        world.advance(3600);
        let body = world.refresh_exchange(&login.refresh_token);
        let rotated = world.exchange(&body).await?.unwrap();
        let second = import(world, REPLACE, &lines).await;
        assert_eq!(
            second[0],
            Ok(Imported::Before {
                account_id: Some(account(&first[0]))
            })
        );
        assert!(matches!(second[1], Ok(Imported::Connected { .. })));
        assert_eq!(world.exchange(&body).await?.unwrap(), rotated);
        // Two at once, over the same lines.
        let more: Vec<Value> = (0..40)
            .map(|index| line(world, &other, &format!("sandbox-{index}")))
            .collect();
        let more: Vec<&Value> = more.iter().collect();
        let (one, two) = tokio::join!(import(world, REPLACE, &more), import(world, REPLACE, &more));
        let connected = |answers: &Answers| {
            let connected = answers
                .iter()
                .filter(|answer| matches!(answer, Ok(Imported::Connected { .. })));
            connected.count()
        };
        assert_eq!(connected(&one) + connected(&two), 40);
        assert_eq!(rows(world).await[0], 43);
        // What somebody disconnected meanwhile stays so.
        world
            .execute(
                "delete from accounts where subject = 'sandbox-bob'",
                params![],
            )
            .await;
        let third = import(world, REPLACE, &lines).await;
        assert_eq!(third[1], Ok(Imported::Before { account_id: None }));
        assert_eq!(rows(world).await[0], 42);
        // Marks end, and with them what is known of the lines: then the accounts that are there say no.
        world.advance(31 * 24 * 3600);
        world.vault.upkeep().await.unwrap();
        let fourth = import(world, ImportOptions::default(), &lines[..1]).await;
        assert_eq!(reasons(&fourth), [Some("already_connected")]);
    }
);

story!(replacing_gives_an_account_the_tokens_of_its_line, |world| {
    let login = world.connected().await?;
    let user = json!(world.user.id);
    let one = line(world, &user, "sandbox-alice");
    let mut other = line(world, &user, "sandbox-alice");
    other["scopes"] = json!("calendar.read");
    let answers = import(world, REPLACE, &[&one, &other]).await;
    // Both are the account that is there, one after the other.
    assert!(matches!(answers[0], Ok(Imported::Replaced { .. })));
    assert_eq!(account(&answers[0]), account(&answers[1]));
    assert_eq!(rows(world).await[0], 1);
    let body = world.refresh_exchange(&login.refresh_token);
    let exchanged = world.exchange(&body).await?.unwrap();
    assert_eq!(
        exchanged.access_token,
        other["access_token"].as_str().unwrap()
    );
    // Other scopes than before are told.
    assert_eq!(world.audited("account.scopes_changed").await.len(), 1);
});

story!(users_are_made_where_that_is_asked_for, |world| {
    let options = ImportOptions {
        create_users: true,
        ..ImportOptions::default()
    };
    world.another_connection("second").await;
    let ada = json!({"email": "Ada@example.com"});
    let first = line(world, &ada, "sandbox-alice");
    let mut second = line(world, &ada, "sandbox-alice");
    second["connection"] = json!("second");
    let named = line(world, &json!({"username": "Bob"}), "sandbox-bob");
    // Whoever has taken the name is not the owner of the address.
    world.another_user("taken@example.com").await;
    let taken = line(
        world,
        &json!({"email": "taken@example.com"}),
        "sandbox-carol",
    );
    let nobody = line(world, &json!("usr_nobody"), "sandbox-carol");
    let answers = import(world, options, &[&first, &second, &named, &taken, &nobody]).await;
    assert_eq!(
        reasons(&answers),
        [
            None,
            None,
            None,
            Some("username_taken"),
            Some("user_unknown")
        ]
    );
    let made: Vec<bool> = answers[..3]
        .iter()
        .map(|answer| matches!(answer, Ok(Imported::Connected { new_user: true, .. })))
        .collect();
    assert_eq!(made, [true, false, true]);
    // The next batch finds them.
    let third = line(world, &ada, "sandbox-dave");
    let answers = import(world, ImportOptions::default(), &[&third]).await;
    assert_eq!(reasons(&answers), [None]);
    let accounts = world
        .count(
            "select count(*) from accounts a join users u on u.id = a.user_id
              where u.username = 'ada@example.com' and u.password_hash is null",
            params![],
        )
        .await;
    assert_eq!(accounts, 3);
});

story!(a_proof_refreshes_once_and_finds_what_is_dead, |world| {
    world.sandbox.set_behaviour(Behaviour {
        rotation: Rotation::Strict,
        ..Behaviour::default()
    });
    let user = json!(world.user.id);
    let good = line(world, &user, "sandbox-alice");
    let mut dead = line(world, &user, "sandbox-bob");
    dead["refresh_token"] = json!("sbxr_of_another_deployment");
    world.secret("sbxr_of_another_deployment");
    let mut lonely = line(world, &user, "sandbox-carol");
    lonely.as_object_mut().unwrap().remove("refresh_token");
    let answers = import(world, ImportOptions::default(), &[&good, &dead, &lonely]).await;
    let ids: Vec<String> = answers.iter().map(account).collect();
    let before = world.sandbox.calls();
    assert_eq!(prove(world, &ids[0]).await, Ok(Proof::Refreshed));
    assert_eq!(prove(world, &ids[0]).await, Ok(Proof::Before));
    assert_eq!(
        prove(world, &ids[1]).await,
        Err(Reason::AccountNeedsReauthorization)
    );
    assert_eq!(prove(world, &ids[2]).await, Ok(Proof::Unprovable));
    assert_eq!(
        prove(world, "cac_nowhere").await,
        Err(Reason::AccountNotConnected)
    );
    let after = world.sandbox.calls();
    assert_eq!(after.refreshed - before.refreshed, 1);
    assert_eq!(after.double_spends, 0);
});

#[test]
fn the_documentation_has_every_reason() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/import.md"))
            .unwrap();
    for reason in ImportReason::ALL {
        assert!(
            text.contains(&format!("| `{}` |", reason.as_str())),
            "{}",
            reason.as_str()
        );
    }
}
