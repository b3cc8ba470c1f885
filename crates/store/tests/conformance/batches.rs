//! A batch happens or does not, and says which of its statements was to blame.

use store::{Batch, Db, Options, Statement, WriteError, params};

use crate::place::Place;

on_both_engines!(
    expectations_met,
    expectations_not_met_leave_nothing,
    a_unique_violation_names_its_statement,
    a_batch_with_nothing_to_judge_is_all_or_nothing,
    a_refused_statement_leaves_nothing,
    a_returned_row_is_a_touched_row,
    statements_happen_in_order,
    a_statement_sees_what_those_before_it_did,
    an_empty_batch_is_nothing,
);

const TABLE: &str = "create table stock (
    id    bigint primary key,
    label text   not null unique,
    count bigint not null
);
insert into stock (id, label, count) values (1, 'apples', 5), (2, 'pears', 5), (3, 'plums', 0);";

fn take(least: i64) -> Statement {
    Statement::new(
        "update stock set count = count - 1 where count >= $1",
        params![least],
    )
}

fn add(id: i64, label: &str) -> Statement {
    Statement::new(
        "insert into stock (id, label, count) values ($1, $2, 0)",
        params![id, label],
    )
}

async fn counts(db: &Db) -> Vec<i64> {
    db.read("select count from stock order by id", params![])
        .await
        .unwrap()
        .iter()
        .map(|row| row.int(0).unwrap())
        .collect()
}

async fn expectations_met(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let written = db
        .write(
            Batch::new()
                .with(take(5).exactly(2))
                .with(take(5).exactly(0))
                .with(take(5).at_most(0))
                .with(take(4).at_most(2))
                .with(take(3).at_least(2))
                .with(take(2).at_least(0))
                .with(take(0)),
        )
        .await
        .unwrap();
    let affected: Vec<u64> = (0..8).map(|index| written.rows_affected(index)).collect();
    assert_eq!(affected, [2, 0, 0, 2, 2, 2, 3, 0]);
    assert_eq!(counts(&db).await, [0, 0, -1]);
}

async fn expectations_not_met_leave_nothing(place: &Place) {
    let db = place.with_tables(TABLE).await;
    for (wrong, touched) in [
        (take(5).exactly(1), 2),
        (take(5).exactly(3), 2),
        (take(9).exactly(1), 0),
        (take(5).at_least(3), 2),
        (take(9).at_least(1), 0),
        (take(5).at_most(1), 2),
    ] {
        // Neither what came before it nor what comes after it.
        let batch = Batch::new()
            .with(add(10, "cherries").exactly(1))
            .with(wrong)
            .with(add(11, "figs").exactly(1));
        let error = db.write(batch).await.unwrap_err();
        assert!(
            matches!(error, WriteError::Expectation { statement: 1, rows } if rows == touched),
            "{error:?}"
        );
        assert_eq!(counts(&db).await, [5, 5, 0]);
    }
    // A statement that stands alone is judged as well.
    let error = db
        .write(Batch::new().with(take(5).at_most(1)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::Expectation {
                statement: 0,
                rows: 2
            }
        ),
        "{error:?}"
    );
    assert_eq!(counts(&db).await, [5, 5, 0]);
}

async fn a_unique_violation_names_its_statement(place: &Place) {
    let db = place.with_tables(TABLE).await;
    for (culprit, id, label) in [
        (0, 1, "cherries"),
        (0, 10, "apples"),
        (2, 1, "x"),
        (2, 10, "pears"),
    ] {
        let mut batch = Batch::new();
        for good in 0..culprit {
            batch.push(add(20 + good, &format!("good {good}")).exactly(1));
        }
        batch.push(add(id, label));
        batch.push(add(30, "later"));
        let error = db.write(batch).await.unwrap_err();
        assert!(
            matches!(error, WriteError::UniqueViolation { statement } if i64::try_from(statement).unwrap() == culprit),
            "{error:?}"
        );
        assert_eq!(counts(&db).await.len(), 3);
    }
    let alone = db.write(Batch::new().with(add(1, "x"))).await.unwrap_err();
    assert!(
        matches!(alone, WriteError::UniqueViolation { statement: 0 }),
        "{alone:?}"
    );
    let yielding = Statement::new(
        "insert into stock (id, label, count) values (1, 'apples', 0) on conflict do nothing",
        params![],
    );
    db.write(Batch::new().with(yielding.exactly(0)))
        .await
        .unwrap();
}

async fn a_batch_with_nothing_to_judge_is_all_or_nothing(place: &Place) {
    // The next one has the connection of the one before.
    let options = Options {
        pool_size: 1,
        ..Options::default()
    };
    let db = place.with_tables_and(TABLE, options).await;
    for culprit in 0..3 {
        let mut batch = Batch::new();
        for place in 0..3 {
            let id = if place == culprit { 1 } else { 10 + place };
            batch.push(add(id, &format!("label {id}")));
        }
        let error = db.write(batch).await.unwrap_err();
        assert!(
            matches!(error, WriteError::UniqueViolation { statement } if i64::try_from(statement) == Ok(culprit)),
            "{error:?}"
        );
        assert_eq!(counts(&db).await, [5, 5, 0]);
    }
    let batch = Batch::new()
        .with(take(5))
        .with(add(10, "figs"))
        .with(take(9));
    let written = db.write(batch).await.unwrap();
    let affected: Vec<u64> = (0..3).map(|index| written.rows_affected(index)).collect();
    assert_eq!(affected, [2, 1, 0]);
    assert_eq!(counts(&db).await, [4, 4, 0, 0]);
}

async fn a_refused_statement_leaves_nothing(place: &Place) {
    let db = place.with_tables(TABLE).await;
    for wrong in [
        Statement::new(
            "insert into stock (id, label, count) values (12, null, 0)",
            params![],
        ),
        Statement::new("update nothing set count = 1", params![]),
        Statement::new("this is not sql", params![]),
    ] {
        let batch = Batch::new().with(take(5)).with(wrong).with(take(0));
        let error = db.write(batch).await.unwrap_err();
        assert!(matches!(error, WriteError::Database(_)), "{error:?}");
        assert_eq!(counts(&db).await, [5, 5, 0]);
    }
}

async fn a_returned_row_is_a_touched_row(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let taking = Statement::new(
        "update stock set count = count - 1 where count > 0 returning id, label, count",
        params![],
    );
    let written = db
        .write(
            Batch::new()
                .with(add(4, "figs"))
                .with(taking.clone().exactly(2))
                .with(Statement::new(
                    "insert into stock (id, label, count) values (5, 'kiwis', 9) returning label",
                    params![],
                )),
        )
        .await
        .unwrap();
    assert!(written.rows(0).is_empty());
    let mut taken: Vec<(i64, &str, i64)> = written
        .rows(1)
        .iter()
        .map(|row| {
            (
                row.int(0).unwrap(),
                row.text(1).unwrap(),
                row.int(2).unwrap(),
            )
        })
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [(1, "apples", 4), (2, "pears", 4)]);
    assert_eq!(written.rows_affected(1), 2);
    assert_eq!(written.rows(2)[0].text(0).unwrap(), "kiwis");
    assert!(written.rows(3).is_empty());

    let error = db
        .write(Batch::new().with(taking.exactly(1)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::Expectation {
                statement: 0,
                rows: 3
            }
        ),
        "{error:?}"
    );
    assert_eq!(counts(&db).await, [4, 4, 0, 0, 9]);
}

async fn statements_happen_in_order(place: &Place) {
    // More than the pieces in which futures are polled.
    const MANY: i64 = 400;
    let db = place.with_tables(TABLE).await;
    let mut batch = Batch::new();
    for step in 0..MANY {
        let next = Statement::new(
            "update stock set count = count + 1 where id = 3 and count = $1",
            params![step],
        );
        batch.push(next.exactly(1));
    }
    db.write(batch).await.unwrap();
    assert_eq!(counts(&db).await, [5, 5, MANY]);
}

async fn a_statement_sees_what_those_before_it_did(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let written = db
        .write(
            Batch::new()
                .with(add(4, "figs").exactly(1))
                .with(
                    Statement::new("delete from stock where label = 'pears'", params![]).exactly(1),
                )
                .with(add(5, "pears").exactly(1))
                .with(Statement::new("select id from stock order by id", params![]).exactly(4)),
        )
        .await
        .unwrap();
    let ids: Vec<i64> = written
        .rows(3)
        .iter()
        .map(|row| row.int(0).unwrap())
        .collect();
    assert_eq!(ids, [1, 3, 4, 5]);
}

async fn an_empty_batch_is_nothing(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let written = db.write(Batch::new()).await.unwrap();
    assert_eq!(written.rows_affected(0), 0);
    assert!(written.rows(0).is_empty());
    assert!(db.read_all(vec![]).await.unwrap().is_empty());
}
