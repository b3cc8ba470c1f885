//! What is written comes back, and what cannot come back is an error.

use std::cell::Cell;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use store::{Batch, Db, Param, ReadError, Row, Statement, Value, WriteError, params};

use crate::place::Place;

on_both_engines!(
    values_come_back,
    any_values_come_back,
    one_mebibyte_comes_back,
    instants_come_back_to_the_microsecond,
    truth_and_counts_are_numbers,
    nulls_are_not_values,
    a_column_of_another_type_is_an_error,
    a_fraction_is_an_error,
    several_answers_are_told_apart,
    an_unknown_type_leaves_the_connection_usable,
    a_wrong_number_of_parameters_is_an_error,
    a_text_with_a_nul_is_an_error,
    parameters_may_repeat_and_exceed_nine,
    now_is_the_clock_of_the_database,
    position_says_where_a_part_begins,
);

const TABLE: &str = "create table things (
    id      bigint primary key,
    number  bigint,
    words   text,
    bytes   blob
);";

async fn insert(db: &Db, id: i64, number: impl Param, words: impl Param, bytes: impl Param) {
    let statement = Statement::new(
        "insert into things (id, number, words, bytes) values ($1, $2, $3, $4)",
        params![id, number, words, bytes],
    )
    .exactly(1);
    db.write(Batch::new().with(statement)).await.unwrap();
}

async fn find(db: &Db, id: i64) -> Row {
    db.read_one(
        "select number, words, bytes from things where id = $1",
        params![id],
    )
    .await
    .unwrap()
    .unwrap()
}

async fn values_come_back(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let numbers = [0, 1, -1, i64::from(i32::MAX) + 1, i64::MAX, i64::MIN];
    let words = [
        "",
        " ",
        "'; drop table things; --",
        "$1 {now} ?1",
        "naïve – 🔑 \u{200f}مرحبا e\u{301}",
        "line\r\nline\ttab\u{1}",
    ];
    let bytes: [&[u8]; 6] = [
        b"",
        b"\0",
        b"\0\0text\0",
        b"\xff\xfe",
        b"text",
        &[0x80; 300],
    ];
    for (id, ((number, words), bytes)) in (1_i64..).zip(numbers.into_iter().zip(words).zip(bytes)) {
        insert(&db, id, number, words, bytes).await;
        let row = find(&db, id).await;
        assert_eq!(row.len(), 3);
        assert_eq!(row.int(0).unwrap(), number);
        assert_eq!(row.text(1).unwrap(), words);
        assert_eq!(row.blob(2).unwrap(), bytes);
        // The same by comparing inside the database.
        let found = db
            .read_one(
                "select id from things where number = $1 and words = $2 and bytes = $3",
                params![number, words, bytes],
            )
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.int(0).unwrap(), id);
    }
}

async fn any_values_come_back(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let runtime = tokio::runtime::Handle::current();
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    // Texts have no U+0000: see below.
    let words = any::<String>().prop_map(|words| words.replace('\0', ""));
    let things = (
        any::<Option<i64>>(),
        proptest::option::of(words),
        any::<Option<Vec<u8>>>(),
    );
    let ids = Cell::new(0);
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&things, |(number, words, bytes)| {
                let id = ids.get() + 1;
                ids.set(id);
                let row = runtime.block_on(async {
                    insert(&db, id, number, &words, &bytes).await;
                    find(&db, id).await
                });
                let failed = |error: ReadError| TestCaseError::fail(error.to_string());
                prop_assert_eq!(row.opt_int(0).map_err(failed)?, number);
                prop_assert_eq!(row.opt_text(1).map_err(failed)?, words.as_deref());
                prop_assert_eq!(row.opt_blob(2).map_err(failed)?, bytes.as_deref());
                Ok(())
            })
            .unwrap();
    });
}

async fn one_mebibyte_comes_back(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let words = "é".repeat(1 << 19);
    insert(&db, 1, Value::Null, &words, &bytes).await;
    let row = find(&db, 1).await;
    assert!(row.text(1).unwrap() == words);
    assert!(row.blob(2).unwrap() == bytes);
}

async fn instants_come_back_to_the_microsecond(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let instants = [
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "2026-02-28T23:59:59.123456Z",
        "9999-12-30T22:00:00Z",
        "0001-01-01T00:00:00Z",
    ];
    for (id, instant) in (1..).zip(instants) {
        let instant: Timestamp = instant.parse().unwrap();
        insert(&db, id, instant, Value::Null, Value::Null).await;
        assert_eq!(find(&db, id).await.timestamp(0).unwrap(), instant);
    }

    // Beyond what an instant can be.
    insert(&db, 100, i64::MAX, Value::Null, Value::Null).await;
    let row = find(&db, 100).await;
    assert!(matches!(
        row.timestamp(0),
        Err(ReadError::Column { index: 0 })
    ));
}

async fn truth_and_counts_are_numbers(place: &Place) {
    let db = place.with_tables(TABLE).await;
    insert(&db, 1, true, Value::Null, Value::Null).await;
    insert(&db, 2, false, Value::Null, Value::Null).await;
    assert!(find(&db, 1).await.bool(0).unwrap());
    assert!(!find(&db, 2).await.bool(0).unwrap());
    let row = db
        .read_one(
            "select count(*), exists (select 1 from things where id = $1), 1 = 2, 7 from things",
            params![2],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.int(0).unwrap(), 2);
    assert!(row.bool(1).unwrap());
    assert!(!row.bool(2).unwrap());
    assert_eq!(row.int(3).unwrap(), 7);
}

async fn nulls_are_not_values(place: &Place) {
    let db = place.with_tables(TABLE).await;
    insert(&db, 1, Value::Null, Value::Null, Value::Null).await;
    let row = find(&db, 1).await;
    assert_eq!(row.opt_int(0).unwrap(), None);
    assert_eq!(row.opt_timestamp(0).unwrap(), None);
    assert_eq!(row.opt_text(1).unwrap(), None);
    assert_eq!(row.opt_blob(2).unwrap(), None);
    assert!(matches!(row.int(0), Err(ReadError::Column { index: 0 })));
    assert!(matches!(row.bool(0), Err(ReadError::Column { index: 0 })));
    assert!(matches!(
        row.timestamp(0),
        Err(ReadError::Column { index: 0 })
    ));
    assert!(matches!(row.text(1), Err(ReadError::Column { index: 1 })));
    assert!(matches!(row.blob(2), Err(ReadError::Column { index: 2 })));
    // Empty is not null.
    insert(&db, 2, 0, "", Value::Blob(&[])).await;
    let row = find(&db, 2).await;
    assert_eq!(row.opt_text(1).unwrap(), Some(""));
    assert_eq!(row.opt_blob(2).unwrap(), Some(&b""[..]));
}

async fn a_column_of_another_type_is_an_error(place: &Place) {
    let db = place.with_tables(TABLE).await;
    insert(&db, 1, 1, "1", *b"1").await;
    let row = find(&db, 1).await;
    assert!(matches!(row.text(0), Err(ReadError::Column { index: 0 })));
    assert!(matches!(
        row.opt_blob(0),
        Err(ReadError::Column { index: 0 })
    ));
    assert!(matches!(row.int(1), Err(ReadError::Column { index: 1 })));
    assert!(matches!(
        row.opt_blob(1),
        Err(ReadError::Column { index: 1 })
    ));
    assert!(matches!(
        row.opt_int(2),
        Err(ReadError::Column { index: 2 })
    ));
    assert!(matches!(
        row.opt_text(2),
        Err(ReadError::Column { index: 2 })
    ));
    assert!(matches!(row.int(3), Err(ReadError::Column { index: 3 })));
}

async fn a_fraction_is_an_error(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let read = db.read("select 1.5", params![]).await;
    assert!(matches!(read, Err(ReadError::Database(_))), "{read:?}");
    let written = db
        .write(Batch::new().with(Statement::new(
            "insert into things (id) values (1) returning 1.5",
            params![],
        )))
        .await;
    assert!(
        matches!(written, Err(WriteError::Database(_))),
        "{written:?}"
    );
}

async fn several_answers_are_told_apart(place: &Place) {
    let db = place.with_tables(TABLE).await;
    for id in [3_i64, 1, 2] {
        insert(&db, id, id * 10, "words", Value::Null).await;
    }
    let descending = || {
        Statement::new(
            "select id, number from things where id < $2 and id > $1 order by id desc limit 2",
            params![0, 4],
        )
    };
    let few = |id: i64| Statement::new("select words from things where id = $1", params![id]);
    // With few queries and with many.
    for repeated in [1, 8] {
        let mut asked = vec![few(9), descending(), few(1)];
        for _ in 1..repeated {
            asked.extend([few(9), descending(), few(1)]);
        }
        let answers = db.read_all(asked).await.unwrap();
        assert_eq!(answers.len(), 3 * repeated);
        for three in answers.chunks(3) {
            assert!(three[0].is_empty());
            let numbers: Vec<(i64, i64)> = three[1]
                .iter()
                .map(|row| (row.int(0).unwrap(), row.int(1).unwrap()))
                .collect();
            assert_eq!(numbers, [(3, 30), (2, 20)]);
            assert_eq!(three[2].len(), 1);
            assert_eq!(three[2][0].len(), 1);
            assert_eq!(three[2][0].text(0).unwrap(), "words");
        }
    }
    // As many as wanted in all, but not each.
    let shifted = vec![
        Statement::new("select id from things where id = $1", params![]),
        Statement::new("select id from things where id = $1", params![1, 2]),
    ];
    let wrong = db.read_all(shifted).await;
    assert!(matches!(wrong, Err(ReadError::Database(_))), "{wrong:?}");
}

async fn an_unknown_type_leaves_the_connection_usable(place: &Place) {
    let db = place.with_tables(TABLE).await;
    insert(&db, 1, 1, Value::Null, Value::Null).await;
    for _ in 0..40 {
        let wrong = db
            .read_all(vec![
                Statement::new("select id from things", params![]),
                Statement::new("select 1.5 from things", params![]),
            ])
            .await;
        assert!(matches!(wrong, Err(ReadError::Database(_))), "{wrong:?}");
        let refused = db.read("select id from nothing", params![]).await;
        assert!(
            matches!(refused, Err(ReadError::Database(_))),
            "{refused:?}"
        );
    }
    assert_eq!(find(&db, 1).await.int(0).unwrap(), 1);
}

async fn a_wrong_number_of_parameters_is_an_error(place: &Place) {
    let db = place.with_tables(TABLE).await;
    for params in [params![1], params![1, 2, 3]] {
        let read = db
            .read(
                "select id from things where id = $1 or number = $2",
                params.clone(),
            )
            .await;
        assert!(matches!(read, Err(ReadError::Database(_))), "{read:?}");
        let written = db
            .write(Batch::new().with(Statement::new(
                "insert into things (id, number) values ($1, $2)",
                params,
            )))
            .await;
        assert!(
            matches!(written, Err(WriteError::Database(_))),
            "{written:?}"
        );
    }
}

async fn a_text_with_a_nul_is_an_error(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let statement = Statement::new(
        "insert into things (id, words) values ($1, $2)",
        params![1, "be\0fore"],
    );
    let written = db.write(Batch::new().with(statement)).await;
    assert!(
        matches!(written, Err(WriteError::Database(_))),
        "{written:?}"
    );
    let read = db
        .read("select id from things where words = $1", params!["\0"])
        .await;
    assert!(matches!(read, Err(ReadError::Database(_))), "{read:?}");
    let found = db.read("select id from things", params![]).await.unwrap();
    assert!(found.is_empty());
}

async fn parameters_may_repeat_and_exceed_nine(place: &Place) {
    let db = place.with_tables(TABLE).await;
    insert(&db, 1, 11, Value::Null, Value::Null).await;
    let row = db
        .read_one(
            "select number from things
             where id <> $1 and id <> $2 and id <> $3 and id <> $4 and id <> $5 and id <> $6
               and id <> $7 and id <> $8 and id <> $9 and id = $10 and number = $11 and id = $10",
            params![2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 11],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.int(0).unwrap(), 11);
}

async fn now_is_the_clock_of_the_database(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let before = db.now().await.unwrap();
    db.write(
        Batch::new().with(
            Statement::new(
                "insert into things (id, number) values (1, {now})",
                params![],
            )
            .exactly(1),
        ),
    )
    .await
    .unwrap();
    let written = find(&db, 1).await.timestamp(0).unwrap();
    let after = db.now().await.unwrap();
    assert!(before <= written, "{before} {written}");
    assert!(written <= after, "{written} {after}");
    let past = db
        .read(
            "select id from things where number <= {now} and {now} - number < $1",
            params![60_000_000],
        )
        .await
        .unwrap();
    assert_eq!(past.len(), 1);

    // Both engines of a test run live on this machine, so their clocks are the machine's.
    let here = machine_clock();
    assert!(
        here.duration_since(after).abs().as_secs() < 60,
        "{here} {after}"
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with the clock of the database"
)]
fn machine_clock() -> Timestamp {
    Timestamp::now()
}

async fn position_says_where_a_part_begins(place: &Place) {
    let db = place.with_tables(TABLE).await;
    for (text, part, begin) in [
        ("one two", "two", 5),
        ("one two", "three", 0),
        ("ONE", "one", 0),
        ("a%b_c", "%", 2),
        ("äöü", "ü", 3),
        ("", "x", 0),
    ] {
        let row = db
            .read_one(
                "select cast({position}($1, $2) as bigint)",
                params![text, part],
            )
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.int(0).unwrap(), begin, "{text} {part}");
    }
}
