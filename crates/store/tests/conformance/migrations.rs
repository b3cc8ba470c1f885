//! Migrations are applied once, in order, by whoever comes first.

use std::error::Error;

use store::{Batch, MigrateError, Migration, Statement, params};
use tokio::task::JoinSet;

use crate::place::Place;

on_both_engines!(
    applied_once_and_in_order,
    applied_once_by_many_openers,
    an_edited_one_is_refused,
    a_newer_one_is_left_alone,
    a_failing_one_leaves_nothing,
    a_name_is_only_a_name,
    blobs_are_known_to_later_migrations,
    an_engine_is_asked_its_own_part_after_the_common_one,
);

const FIRST: Migration = Migration::new(
    1,
    "what there is",
    "create table things (id bigint primary key);
          insert into things (id) values (1);",
);
const SECOND: Migration = Migration::new(
    2,
    "labels",
    "alter table things add column label text;
          update things set label = 'first'; -- a comment may end it",
);
const THIRD: Migration = Migration::new(
    3,
    "counts",
    "alter table things add column count bigint not null default 0;",
);

async fn applied(place: &Place) -> Vec<(i64, String)> {
    place
        .open()
        .await
        .read(
            "select number, name from migrations order by number",
            params![],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| (row.int(0).unwrap(), row.text(1).unwrap().to_owned()))
        .collect()
}

fn named(migrations: &[Migration]) -> Vec<(i64, String)> {
    migrations
        .iter()
        .map(|migration| (i64::from(migration.number), migration.name.to_owned()))
        .collect()
}

async fn applied_once_and_in_order(place: &Place) {
    let db = place.open().await;
    let before = db.now().await.unwrap();
    db.migrate(&[]).await.unwrap();
    db.migrate(&[FIRST]).await.unwrap();
    db.migrate(&[FIRST, SECOND]).await.unwrap();
    for _ in 0..2 {
        db.migrate(&[FIRST, SECOND, THIRD]).await.unwrap();
    }
    let again = place.open().await;
    again.migrate(&[FIRST, SECOND, THIRD]).await.unwrap();
    assert_eq!(applied(place).await, named(&[FIRST, SECOND, THIRD]));

    let things = db
        .read("select id, label, count from things", params![])
        .await
        .unwrap();
    assert_eq!(things.len(), 1);
    assert_eq!(things[0].text(1).unwrap(), "first");
    assert_eq!(things[0].int(2).unwrap(), 0);

    let at = db
        .read_one(
            "select min(applied_at), max(applied_at) from migrations",
            params![],
        )
        .await
        .unwrap()
        .unwrap();
    assert!(before <= at.timestamp(0).unwrap());
    assert!(at.timestamp(1).unwrap() <= db.now().await.unwrap());
}

/// As of several processes that start on a new database at once.
async fn applied_once_by_many_openers(place: &Place) {
    let url = place.url().to_owned();
    let mut openers = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        openers.spawn(async move {
            let db = store::Db::open(&url, store::Options::default())
                .await
                .unwrap();
            db.migrate(&[FIRST, SECOND, THIRD]).await.unwrap();
            let rows = db
                .read("select label from things", params![])
                .await
                .unwrap();
            assert_eq!(rows.len(), 1);
        });
    }
    openers.join_all().await;
    assert_eq!(applied(place).await, named(&[FIRST, SECOND, THIRD]));
}

async fn an_edited_one_is_refused(place: &Place) {
    let db = place.open().await;
    db.migrate(&[FIRST, SECOND]).await.unwrap();
    let edited = Migration {
        sql: "alter table things add column label varchar;",
        ..SECOND
    };
    let error = db.migrate(&[FIRST, edited, THIRD]).await.unwrap_err();
    assert!(
        matches!(error, MigrateError::Changed { number: 2 }),
        "{error:?}"
    );
    // Nothing after it was tried, and what was there still works.
    assert_eq!(applied(place).await, named(&[FIRST, SECOND]));
    let renamed = Migration {
        name: "words may change",
        ..SECOND
    };
    db.migrate(&[FIRST, renamed, THIRD]).await.unwrap();
    assert_eq!(applied(place).await, named(&[FIRST, SECOND, THIRD]));
}

async fn a_newer_one_is_left_alone(place: &Place) {
    let newer = place.open().await;
    newer.migrate(&[FIRST, SECOND, THIRD]).await.unwrap();
    let older = place.open().await;
    older.migrate(&[FIRST, SECOND]).await.unwrap();
    assert_eq!(applied(place).await, named(&[FIRST, SECOND, THIRD]));
}

async fn a_failing_one_leaves_nothing(place: &Place) {
    let db = place.open().await;
    let wrong = Migration {
        sql: "create table labels (id bigint primary key);
              insert into labels (id) values (1);
              insert into nowhere (id) values (1);",
        ..SECOND
    };
    let error = db.migrate(&[FIRST, wrong, THIRD]).await.unwrap_err();
    assert!(
        matches!(error, MigrateError::Failed { number: 2, .. }),
        "{error:?}"
    );
    assert!(error.source().is_some());
    assert_eq!(applied(place).await, named(&[FIRST]));
    assert!(db.read("select id from labels", params![]).await.is_err());
    // The connection that failed is fit for use, and so is the schema.
    db.migrate(&[FIRST, SECOND, THIRD]).await.unwrap();
    assert_eq!(applied(place).await, named(&[FIRST, SECOND, THIRD]));
}

async fn a_name_is_only_a_name(place: &Place) {
    let db = place.open().await;
    let odd = Migration {
        name: "the owner's \\'); drop table things; --",
        ..FIRST
    };
    db.migrate(&[odd]).await.unwrap();
    assert_eq!(applied(place).await, named(&[odd]));
    db.read("select id from things", params![]).await.unwrap();
}

async fn blobs_are_known_to_later_migrations(place: &Place) {
    place.open().await.migrate(&[FIRST]).await.unwrap();
    let bytes = Migration {
        sql: "alter table things add column bytes blob; update things set bytes = null;",
        ..SECOND
    };
    let db = place.open().await;
    db.migrate(&[FIRST, bytes]).await.unwrap();
    let row = db
        .read_one("select bytes from things", params![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.opt_blob(0).unwrap(), None);
}

async fn an_engine_is_asked_its_own_part_after_the_common_one(place: &Place) {
    let triggers = Migration {
        sqlite: "create trigger stamp after insert on things begin
                   update things set label = 'stamped' where id = new.id;
                 end;",
        postgres: "create function stamp() returns trigger language plpgsql as $$
                   begin
                     update things set label = 'stamped' where id = new.id;
                     return null;
                   end $$;
                   create trigger stamp after insert on things for each row execute function stamp();",
        ..SECOND
    };
    let db = place.open().await;
    db.migrate(&[FIRST, triggers]).await.unwrap();
    let insert = Statement::new("insert into things (id) values (2)", params![]);
    db.write(Batch::new().with(insert)).await.unwrap();
    let row = db
        .read_one("select label from things where id = 2", params![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.text(0).unwrap(), "stamped");
    assert_eq!(applied(place).await, named(&[FIRST, triggers]));
}
