//! Look-ups: what many ask at once on few connections, each with its own answer and its own refusal.

use std::time::Duration;

use futures_util::future::join_all;
use store::{Db, Options, ReadError, Statement, params};

use crate::place::Place;

on_both_engines!(
    many_at_once_are_each_answered,
    a_refused_one_does_not_fail_its_neighbours,
    several_queries_are_answered_in_their_order,
    ended_connections_are_replaced,
);

const TABLE: &str = "create table slots (id bigint primary key, holder text not null);
insert into slots (id, holder) values (0, 'zero'), (1, 'one'), (2, 'two');";

/// So many that they have to share.
const CALLERS: i64 = 200;

fn holder(id: i64) -> Statement {
    Statement::new("select holder from slots where id = $1", params![id])
}

async fn many_at_once_are_each_answered(place: &Place) {
    let shared = 2;
    let options = Options {
        look_up_connections: shared,
        ..Options::default()
    };
    let db = place.with_tables_and(TABLE, options).await;
    let before = place.connections().await;
    let asked = (0..CALLERS).map(|caller| db.look_up(holder(caller % 4)));
    for (caller, rows) in (0..CALLERS).zip(join_all(asked).await) {
        let rows = rows.unwrap();
        let holders: Vec<&str> = rows.iter().map(|row| row.text(0).unwrap()).collect();
        let expected: &[&str] = match caller % 4 {
            0 => &["zero"],
            1 => &["one"],
            2 => &["two"],
            _ => &[],
        };
        assert_eq!(holders, expected, "{caller}");
    }
    assert_eq!(db.traffic().reads, CALLERS.unsigned_abs());
    let more = place.connections().await - before;
    assert!(more <= shared, "{more} connections");
}

async fn a_refused_one_does_not_fail_its_neighbours(place: &Place) {
    let db = place.with_tables(TABLE).await;
    // The smallest number there is has no positive one.
    let asked = |caller| {
        let statement = Statement::new("select abs(-9223372036854775807 - $1)", params![caller]);
        db.look_up(statement)
    };
    for (caller, answer) in (0..CALLERS).zip(join_all((0..CALLERS).map(|n| asked(n % 2))).await) {
        match (caller % 2, answer) {
            (0, Ok(rows)) => assert_eq!(rows[0].int(0).unwrap(), i64::MAX),
            (1, Err(ReadError::Database(_))) => {}
            (_, other) => panic!("{caller}: {other:?}"),
        }
    }
    let unknown = Statement::new("select name from nowhere", params![]);
    let (unknown, known) = tokio::join!(db.look_up(unknown), db.look_up(holder(1)));
    assert!(matches!(unknown, Err(ReadError::Database(_))));
    assert_eq!(known.unwrap().len(), 1);
}

async fn several_queries_are_answered_in_their_order(place: &Place) {
    let db = place.with_tables(TABLE).await;
    // With more of them than are sent as one, too.
    for count in [1, 2, 6, 7, 20] {
        let asked = (0..count).map(|id| holder(id % 3)).collect();
        let answers = db.look_up_all(asked).await.unwrap();
        let holders: Vec<&str> = answers
            .iter()
            .flatten()
            .map(|row| row.text(0).unwrap())
            .collect();
        let expected: Vec<&str> = ["zero", "one", "two"]
            .into_iter()
            .cycle()
            .take(answers.len())
            .collect();
        assert_eq!(holders, expected);
        assert_eq!(answers.len(), usize::try_from(count).unwrap());
    }
}

async fn ended_connections_are_replaced(place: &Place) {
    let db = place.with_tables(TABLE).await;
    join_all((0..8).map(|id| db.look_up(holder(id)))).await;
    place.end_connections().await;
    // As with those of one caller: each tells once that it has ended, at most.
    let most = Options::default().look_up_connections;
    let mut refused = 0;
    loop {
        match db.look_up(holder(1)).await {
            Ok(rows) => break assert_eq!(rows.len(), 1),
            Err(ReadError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert!(refused <= most);
    }
}

/// On PostgreSQL, with one connection for all look-ups.
async fn with_one_connection(place: &Place, wait: Duration) -> Db {
    let options = Options {
        look_up_connections: 1,
        wait,
        ..Options::default()
    };
    place.with_tables_and(TABLE, options).await
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_given_up_with_its_connection() {
    let place = Place::postgres().await;
    let db = with_one_connection(&place, Duration::from_millis(200)).await;
    let endless = Statement::new("select 1 from pg_sleep(1000000)", params![]);
    let (first, behind) = tokio::join!(db.look_up(endless), db.look_up(holder(1)));
    for answer in [first, behind] {
        assert!(
            matches!(answer, Err(ReadError::Unavailable(_))),
            "{answer:?}"
        );
    }
    // The server still sleeps on the other one.
    assert_eq!(db.look_up(holder(1)).await.unwrap().len(), 1);
    place.remove().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_place() {
    let place = Place::postgres().await;
    let db = with_one_connection(&place, Duration::from_secs(30)).await;
    db.look_up(holder(1)).await.unwrap();
    let mut gone = Box::pin(db.look_up(holder(0)));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    let rows = db.look_up(holder(2)).await.unwrap();
    assert_eq!(rows[0].text(0).unwrap(), "two");
    place.remove().await;
}

#[tokio::test]
async fn a_closed_database_looks_nothing_up() {
    let place = Place::postgres().await;
    let db = with_one_connection(&place, Duration::from_secs(30)).await;
    db.look_up(holder(1)).await.unwrap();
    db.close().await;
    let later = db.look_up(holder(1)).await;
    assert!(matches!(later, Err(ReadError::Unavailable(_))), "{later:?}");
    place.remove().await;
}
