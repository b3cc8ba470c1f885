//! The whole configuration as one document: seen, compared, and made like one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{Reply, World, story};
use oauth::grant;
use reqwest::Method;
use serde_json::{Value, json};

async fn export(world: &mut World, admin: &str) -> Value {
    let reply = world
        .manage(Method::GET, "configuration", admin, None)
        .await
        .unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    let mut document = reply.json();
    // What is only said, and not set.
    document.as_object_mut().unwrap().remove("secrets");
    document
}

async fn apply(world: &mut World, admin: &str, query: &str, document: &Value) -> Reply {
    let path = format!("configuration?{query}");
    world
        .manage(Method::POST, &path, admin, Some(document))
        .await
        .unwrap()
}

/// What an answer changes: signs and names.
fn changes(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let answer = reply.json();
    let changes = answer["changes"].as_array().unwrap();
    changes
        .iter()
        .map(|change| {
            let word = |name: &str| change[name].as_str().unwrap().to_owned();
            format!("{} {} {}", word("action"), word("kind"), word("name"))
        })
        .collect()
}

fn of_name<'a>(document: &'a mut Value, kind: &str, name: &str) -> &'a mut Value {
    let objects = document[kind].as_array_mut().unwrap();
    objects
        .iter_mut()
        .find(|object| object["name"] == name)
        .unwrap()
}

const NEW_API: &str = "https://invoices.test/";

fn additions(document: &mut Value) {
    let push = |document: &mut Value, kind: &str, object: Value| {
        document[kind].as_array_mut().unwrap().push(object);
    };
    push(
        document,
        "apis",
        json!({"identifier": NEW_API, "scopes": [{"value": "pay"}]}),
    );
    push(
        document,
        "clients",
        json!({
            "name": "Invoices' own",
            "app_type": "resource_server",
            "resource_server_identifier": NEW_API,
            "grants": [{"audience": NEW_API, "scope": ["pay"]}],
        }),
    );
    push(
        document,
        "connections",
        json!({
            "name": "files",
            "strategy": "oauth2",
            "clients": ["Invoices' own"],
            "options": {
                "client_id": "abc",
                "client_secret": "a secret at the provider",
                "tokenURL": "https://provider.example/token",
                "authorizationURL": "https://provider.example/authorize",
            },
        }),
    );
}

story!(what_is_exported_changes_nothing, |world| {
    world.connected().await?;
    let (client_id, _) = world.asserting_client().await;
    let admin = world.administrator(&[]).await?;
    let document = export(world, &admin).await;
    assert!(document["clients"].as_array().unwrap().len() > 4);
    // Keys are written whole: an id would say nothing elsewhere.
    let text = document.to_string();
    assert!(text.contains("BEGIN PUBLIC KEY") && !text.contains(&client_id));
    let answer = apply(world, &admin, "", &document).await;
    assert_eq!(changes(&answer), Vec::<String>::new());
    assert_eq!(answer.json()["applied"], false);
    assert_eq!(export(world, &admin).await, document);
});

story!(a_document_is_shown_then_made_all_at_once, |world| {
    world.secret("a secret at the provider");
    let admin = world.administrator(&[]).await?;
    let mut document = export(world, &admin).await;
    additions(&mut document);
    document["tenant"] = json!({"friendly_name": "Example Corp"});
    let web = world.clients.web.client.name.clone();
    of_name(&mut document, "clients", &web)["description"] = json!("Changed");

    let shown = apply(world, &admin, "dry_run=true", &document).await;
    let expected = vec![
        "update tenant settings".to_owned(),
        format!("create api {NEW_API}"),
        format!("update client {web}"),
        "create client Invoices' own".to_owned(),
        "create connection files".to_owned(),
    ];
    let mut found = changes(&shown);
    found.sort();
    let mut sorted = expected.clone();
    sorted.sort();
    assert_eq!(found, sorted);
    let answer = shown.json();
    assert_eq!(answer["applied"], false);
    assert!(!shown.text.contains("a secret at the provider"));
    let change = answer["changes"].as_array().unwrap();
    let update = change
        .iter()
        .find(|change| change["name"] == web.as_str())
        .unwrap();
    assert_eq!(
        update["fields"],
        json!([{"field": "description", "after": "Changed"}])
    );
    // Nothing happened yet.
    assert!(
        world
            .vault
            .find_connection("files")
            .await
            .unwrap()
            .is_none()
    );

    let plan = answer["plan"].as_str().unwrap().to_owned();
    let other = apply(world, &admin, "plan=another", &document).await;
    assert_eq!(other.status, 409, "{}", other.text);
    assert_eq!(other.json()["errorCode"], "changed_meanwhile");
    let applied = apply(world, &admin, &format!("plan={plan}"), &document).await;
    assert_eq!(changes(&applied).len(), 5);
    let answer = applied.json();
    assert_eq!(answer["applied"], true);
    let made = &answer["clients"][0];
    assert_eq!(made["name"], "Invoices' own");

    // The new client is one: it gets a token for the new API.
    let token = world
        .manage(Method::GET, "client-grants?take=100", &admin, None)
        .await?;
    assert!(token.text.contains(NEW_API));
    assert!(made["client_secret"].as_str().unwrap().len() > 30);
    let connection = world.vault.find_connection("files").await.unwrap().unwrap();
    assert_eq!(
        world
            .count(
                "select count(*) from connection_clients where connection_id = $1",
                store::params![connection.id.as_str()]
            )
            .await,
        1
    );

    // Again, it changes nothing; with another secret, only that.
    let again = apply(world, &admin, "", &document).await;
    assert_eq!(changes(&again), Vec::<String>::new());
    let files = of_name(&mut document, "connections", "files");
    files["options"]["client_secret"] = json!("another secret");
    let shown = apply(world, &admin, "dry_run=true", &document).await;
    assert_eq!(changes(&shown), ["update connection files"]);
    assert_eq!(
        shown.json()["changes"][0]["fields"],
        json!([{"field": "options.client_secret", "secret": true}])
    );
    assert!(!shown.text.contains("another secret"));
});

story!(nothing_is_deleted_without_leave, |world| {
    let admin = world.administrator(&[]).await?;
    let mut document = export(world, &admin).await;
    additions(&mut document);
    assert_eq!(apply(world, &admin, "", &document).await.status, 200);
    let before = export(world, &admin).await;

    for kind in ["apis", "clients", "connections"] {
        let objects = document[kind].as_array_mut().unwrap();
        objects.pop();
    }
    let shown = apply(world, &admin, "dry_run=true", &document).await;
    let mut found = changes(&shown);
    found.sort();
    assert_eq!(
        found,
        [
            format!("delete api {NEW_API}"),
            "delete client Invoices' own".to_owned(),
            "delete connection files".to_owned(),
        ]
    );
    let refused = apply(world, &admin, "", &document).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["errorCode"], "deletion_not_allowed");
    assert!(
        refused.text.contains("connection files"),
        "{}",
        refused.text
    );
    assert_eq!(export(world, &admin).await, before);
    let deleted = apply(world, &admin, "allow_delete=true", &document).await;
    assert_eq!(changes(&deleted).len(), 3);
    assert_eq!(changes(&apply(world, &admin, "", &document).await).len(), 0);

    // A kind that is not mentioned is left alone; who asks and what belongs to the deployment stays in any case.
    let nothing = apply(world, &admin, "", &json!({})).await;
    assert_eq!(changes(&nothing), Vec::<String>::new());
    let emptied = apply(
        world,
        &admin,
        "allow_delete=true&dry_run=true",
        &json!({"clients": [], "apis": []}),
    )
    .await;
    assert!(!changes(&emptied).contains(&"delete client An administrator".to_owned()));
    assert!(!emptied.text.contains("/api/v2/"), "{}", emptied.text);

    // Where people have connected accounts, deletion has to be said by name.
    world.connected().await?;
    let refused = apply(
        world,
        &admin,
        "allow_delete=true",
        &json!({"connections": []}),
    )
    .await;
    assert_eq!(
        refused.json()["errorCode"],
        "still_in_use",
        "{}",
        refused.text
    );
});

story!(what_is_wrong_in_a_document_is_pointed_at, |world| {
    let admin = world.administrator(&[]).await?;
    let mut base = export(world, &admin).await;
    additions(&mut base);
    let last = |document: &Value, kind: &str| document[kind].as_array().unwrap().len() - 1;
    let (clients, connections) = (last(&base, "clients"), last(&base, "connections"));
    let cases = [
        (
            format!("/clients/{clients}/callbacks"),
            json!(["not a url"]),
            format!("/clients/{clients}/callbacks"),
        ),
        (
            format!("/clients/{clients}/colour"),
            json!("blue"),
            format!("/clients/{clients}/colour"),
        ),
        (
            format!("/clients/{clients}/grants/0/audience"),
            json!("https://none.test/"),
            format!("/clients/{clients}/grants/0/audience"),
        ),
        (
            format!("/clients/{clients}/grants/0/scope"),
            json!(["none"]),
            format!("/clients/{clients}/grants/0/scope/0"),
        ),
        (
            format!("/clients/{clients}/resource_server_identifier"),
            json!("https://none.test/"),
            format!("/clients/{clients}/resource_server_identifier"),
        ),
        (
            format!("/connections/{connections}/clients"),
            json!(["Nobody"]),
            format!("/connections/{connections}/clients/0"),
        ),
        (
            format!("/connections/{connections}/options/tokenURL"),
            json!("nowhere"),
            format!("/connections/{connections}/options/token_endpoint"),
        ),
        (
            "/apis/0/colour".to_owned(),
            json!("blue"),
            "/apis/0/colour".to_owned(),
        ),
        ("/colour".to_owned(), json!("blue"), "/colour".to_owned()),
    ];
    for (at, value, pointer) in cases {
        let mut document = base.clone();
        let (parent, name) = at.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        parent[name] = value;
        let refused = apply(world, &admin, "", &document).await;
        assert_eq!(refused.status, 400, "{at}: {}", refused.text);
        let found = refused.json()["validation_errors"][0]["pointer"].clone();
        assert!(
            found.as_str().unwrap().starts_with(&pointer),
            "{at}: {}",
            refused.text
        );
    }
    // All or nothing: what was right beside the wrong was not made.
    assert!(
        world
            .vault
            .find_connection("files")
            .await
            .unwrap()
            .is_none()
    );
    assert!(world.vault.find_api(NEW_API).await.unwrap().is_none());

    let mut twice = base.clone();
    let copy = twice["clients"][0].clone();
    twice["clients"].as_array_mut().unwrap().push(copy);
    let refused = apply(world, &admin, "", &twice).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
});

story!(a_document_needs_the_scopes_of_its_changes, |world| {
    let reads = [
        "read:client_grants",
        "read:clients",
        "read:connections",
        "read:resource_servers",
        "read:tenant_settings",
    ];
    let blind = world.administrator(&["read:tenant_settings"]).await?;
    let refused = world
        .manage(Method::GET, "configuration", &blind, None)
        .await?;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let reader = world.administrator(&reads).await?;
    let refused = world
        .manage(Method::GET, "configuration", &reader, None)
        .await?;
    // The two administrators of this story share a name.
    assert_eq!(
        refused.json()["errorCode"],
        "already_exists",
        "{}",
        refused.text
    );
    let document = json!({"apis": [{"identifier": NEW_API}]});
    let refused = apply(world, &reader, "", &document).await;
    assert_eq!(
        refused.json()["errorCode"],
        "insufficient_scope",
        "{}",
        refused.text
    );

    // MG-14: nobody grants by a document what they may not grant by a request.
    let audience = world.vault.settings().issuer.management_audience();
    let mut scopes = reads.to_vec();
    scopes.extend(["create:clients", "create:client_grants", "delete:clients"]);
    let some = world.administrator(&scopes).await?;
    let document = json!({"clients": [{
        "name": "A stronger one",
        "app_type": "non_interactive",
        "grant_types": [grant::CLIENT_CREDENTIALS],
        "grants": [{"audience": audience, "scope": ["read:users"]}],
    }]});
    let refused = apply(world, &some, "allow_delete=true", &document).await;
    assert_eq!(
        refused.json()["errorCode"],
        "above_administrator",
        "{}",
        refused.text
    );
});
