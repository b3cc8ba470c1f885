//! No free connection, callers that go away, a server that comes back, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use store::{Batch, Db, Engine, OpenError, Options, ReadError, Statement, WriteError, params};
use tokio::task::unconstrained;

use crate::place::Place;

on_both_engines!(
    the_engine_is_told,
    no_free_connection_is_unavailable_in_time,
    what_is_urgent_does_not_stand_in_line,
    a_caller_that_goes_away_leaves_nothing_open,
    ended_connections_are_replaced,
    closing_ends_after_what_is_under_way,
);

const TABLE: &str = "create table log (id bigint primary key, words text not null);";

/// One for reading, or one for all, and so long a wait for it.
fn one_connection(wait: Duration) -> Options {
    Options {
        read_connections: 1,
        pool_size: 1,
        look_up_connections: 1,
        wait,
    }
}

fn note(id: i64) -> Statement {
    Statement::new(
        "insert into log (id, words) values ($1, 'noted')",
        params![id],
    )
}

async fn the_engine_is_told(place: &Place) {
    let engine = place.open().await.engine();
    let by_url = if place.url().starts_with("sqlite:") {
        Engine::Sqlite
    } else {
        Engine::Postgres
    };
    assert_eq!(engine, by_url);
}

async fn no_free_connection_is_unavailable_in_time(place: &Place) {
    let wait = Duration::from_millis(50);
    let options = one_connection(wait);
    let db = place.with_tables_and(TABLE, options).await;
    let done = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let (db, done) = (db.clone(), Arc::clone(&done));
        let runtime = tokio::runtime::Handle::current();
        move || {
            while !done.load(Ordering::Relaxed) {
                // Far longer than the wait. When the reader below had the connection, this one is refused.
                let _ = runtime.block_on(db.read(
                    "with recursive steps (i) as (select 1 union all select i + 1 from steps where i < 2000000)
                     select count(*) from steps",
                    params![],
                ));
            }
        }
    });
    // Whoever asks while the only connection is busy is told so, not before the wait and not long after it.
    loop {
        let began = Instant::now();
        let read = db.read("select 1", params![]).await;
        if let Err(error) = read {
            assert!(matches!(error, ReadError::Unavailable(_)), "{error:?}");
            assert!(began.elapsed() >= wait);
            assert!(began.elapsed() < wait + Duration::from_secs(5));
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    tokio::task::block_in_place(|| busy.join()).unwrap();
    db.read("select 1", params![]).await.unwrap();
}

async fn what_is_urgent_does_not_stand_in_line(place: &Place) {
    let options = one_connection(Duration::from_millis(50));
    let db = place.with_tables_and(TABLE, options).await;
    let hold = place.hold_writes("log").await;
    let stuck = tokio::spawn({
        let db = db.clone();
        async move { db.write(Batch::new().with(note(1)).with(note(2))).await }
    });
    // On PostgreSQL the write has the only connection; SQLite reads beside it.
    while db.engine() == Engine::Postgres {
        if let Err(error) = db.read("select 1", params![]).await {
            assert!(matches!(error, ReadError::Unavailable(_)), "{error:?}");
            break;
        }
        tokio::task::yield_now().await;
    }
    let urgent = db.urgent();
    assert!(
        urgent
            .read("select id from log", params![])
            .await
            .unwrap()
            .is_empty()
    );
    hold.release().await;
    stuck.await.unwrap().unwrap();
    let rows = urgent.read("select id from log", params![]).await.unwrap();
    assert_eq!(rows.len(), 2);
}

async fn a_caller_that_goes_away_leaves_nothing_open(place: &Place) {
    let options = one_connection(Duration::from_secs(30));
    let db = place.with_tables_and(TABLE, options).await;
    // Done once before, so that the next time all of it is sent at the first poll.
    let half_wrong = |id| {
        Batch::new()
            .with(note(id).exactly(1))
            .with(note(id).exactly(0))
    };
    db.write(half_wrong(-1)).await.unwrap_err();
    for id in 0..10 {
        let hold = place.hold_writes("log").await;
        let mut write = Box::pin(db.write(half_wrong(id)));
        assert!(futures_util::poll!(&mut write).is_pending());
        drop(write);
        hold.release().await;

        let count = || Statement::new("select count(*) from log where id >= 0", params![]);
        let mut read = Box::pin(db.read_all(vec![count(), count()]));
        let _ = futures_util::poll!(&mut read);
        drop(read);

        // A transaction that was left open would take this one in, and end with it or never.
        db.write(Batch::new().with(note(-10 - id)).with(note(-110 - id)))
            .await
            .unwrap();
        let other = place.open().await;
        let counts = other
            .read_all(vec![
                count(),
                Statement::new("select count(*) from log where id < 0", params![]),
            ])
            .await
            .unwrap();
        assert_eq!(counts[0][0].int(0).unwrap(), 0);
        assert_eq!(counts[1][0].int(0).unwrap(), 2 * (id + 1));
    }
}

async fn ended_connections_are_replaced(place: &Place) {
    let db = place.with_tables(TABLE).await;
    join_all((0..8).map(|id| db.append(Batch::new().with(note(id))))).await;
    place.end_connections().await;
    // An ended connection is noticed at the latest by using it, and each is used for the last time once.
    let most = Options::default().pool_size + 1;
    let mut refused = 0;
    loop {
        match db.read("select id from log", params![]).await {
            Ok(rows) => {
                assert_eq!(rows.len(), 8);
                break;
            }
            Err(ReadError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert!(refused < most);
    }
    place.end_connections().await;
    let mut refused = 0;
    loop {
        match db.write(Batch::new().with(note(9)).with(note(10))).await {
            Ok(_) => break,
            Err(WriteError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert!(refused < most);
    }
}

async fn closing_ends_after_what_is_under_way(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let hold = place.hold_writes("log").await;
    let mut writes = Box::pin(unconstrained(join_all(
        (0..8).map(|id| db.write(Batch::new().with(note(id)))),
    )));
    let mut appends = Box::pin(unconstrained(join_all(
        (100..200).map(|id| db.append(Batch::new().with(note(id)))),
    )));
    assert!(futures_util::poll!(&mut writes).is_pending());
    assert!(futures_util::poll!(&mut appends).is_pending());
    let close = tokio::spawn({
        let db = db.clone();
        async move { db.close().await }
    });
    hold.release().await;

    // What was answered with success is there, and nothing else.
    let mut answered = Vec::new();
    let results = (0..)
        .zip(writes.await.into_iter().map(|result| result.map(drop)))
        .chain((100..).zip(appends.await));
    for (id, result) in results {
        match result {
            Ok(()) => answered.push(id),
            Err(WriteError::Unavailable(_)) => {}
            Err(error) => panic!("{id}: {error:?}"),
        }
    }
    close.await.unwrap();
    let later = db.write(Batch::new().with(note(999))).await;
    assert!(
        matches!(later, Err(WriteError::Unavailable(_))),
        "{later:?}"
    );
    let later = db.append(Batch::new().with(note(999))).await;
    assert!(
        matches!(later, Err(WriteError::Unavailable(_))),
        "{later:?}"
    );

    let kept = place
        .open()
        .await
        .read("select id from log order by id", params![])
        .await
        .unwrap();
    let kept: Vec<i64> = kept.iter().map(|row| row.int(0).unwrap()).collect();
    assert_eq!(kept, answered);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let open = |url: &'static str| async move { Db::open(url, Options::default()).await.err() };
    for url in ["", "vault.db", "mysql://127.0.0.1/vault", "SQLITE:vault.db"] {
        assert!(matches!(open(url).await, Some(OpenError::Scheme)), "{url}");
    }
    let nowhere = [
        "sqlite:/no/such/folder/vault.db",
        "sqlite:/",
        // Nobody listens on port 1.
        "postgres://vault:hunter2@127.0.0.1:1/vault",
        "postgres://vault:hunter2@127.0.0.1:hunter2/vault",
        "postgres://vault:hunter2@127.0.0.1/vault?hunter2=hunter2",
    ];
    for url in nowhere {
        let error = open(url).await.unwrap();
        assert!(matches!(error, OpenError::Database(_)), "{url}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_in_memory_is_shared_by_its_clones_only() {
    let one = Db::open("sqlite::memory:", Options::default())
        .await
        .unwrap();
    let other = Db::open("sqlite::memory:", Options::default())
        .await
        .unwrap();
    let table = store::Migration::new(1, "log", TABLE);
    one.migrate(&[table]).await.unwrap();
    one.clone()
        .append(Batch::new().with(note(1)))
        .await
        .unwrap();
    assert_eq!(
        one.read("select id from log", params![])
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(other.read("select id from log", params![]).await.is_err());
}
