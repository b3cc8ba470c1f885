//! What many do at once: each alone, one wins, readers see all or nothing of a batch, and commits are shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use store::{Batch, Db, Statement, WriteError, params};
use tokio::task::{JoinSet, unconstrained};

use crate::place::Place;

on_both_engines!(
    one_of_many_wins,
    one_of_many_wins_over_several_openers,
    nothing_is_lost_when_many_count,
    a_failing_batch_does_not_fail_its_neighbours,
    a_failing_append_does_not_fail_its_neighbours,
    appended_batches_are_all_or_nothing,
    appends_share_commits,
    appends_are_there_for_others_when_answered,
    several_reads_are_one_snapshot,
    readers_do_not_wait_for_writers,
);

const TABLE: &str = "create table slots (id bigint primary key, holder bigint, n bigint not null);
insert into slots (id, n) values (1, 0), (2, 0);
create table log (id bigint primary key, words text not null);";

fn seize(task: i64) -> Batch {
    Batch::new()
        .with(
            Statement::new(
                "update slots set holder = $1 where id = 1 and holder is null",
                params![task],
            )
            .exactly(1),
        )
        .with(note(task).exactly(1))
}

fn note(id: i64) -> Statement {
    Statement::new(
        "insert into log (id, words) values ($1, 'noted')",
        params![id],
    )
}

async fn noted(db: &Db) -> Vec<i64> {
    db.read("select id from log order by id", params![])
        .await
        .unwrap()
        .iter()
        .map(|row| row.int(0).unwrap())
        .collect()
}

async fn one_of_many_wins(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let openers = vec![db; 64];
    check_one_wins(openers).await;
}

async fn one_of_many_wins_over_several_openers(place: &Place) {
    let mut openers = vec![place.with_tables(TABLE).await];
    for _ in 0..3 {
        openers.push(place.open().await);
    }
    let openers = openers.into_iter().cycle().take(64).collect();
    check_one_wins(openers).await;
}

async fn check_one_wins(openers: Vec<Db>) {
    let db = openers[0].clone();
    let mut tasks = JoinSet::new();
    for (task, db) in (0..).zip(openers) {
        tasks.spawn(async move { (task, db.write(seize(task)).await) });
    }
    let mut winners = Vec::new();
    for (task, result) in tasks.join_all().await {
        match result {
            Ok(_) => winners.push(task),
            Err(WriteError::Expectation {
                statement: 0,
                rows: 0,
            }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let holder = db
        .read_one("select holder from slots where id = 1", params![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(holder.int(0).unwrap(), winners[0]);
    assert_eq!(noted(&db).await, winners);
}

async fn nothing_is_lost_when_many_count(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let db = db.clone();
        tasks.spawn(async move {
            let count = Statement::new(
                "update slots set n = n + 1 where id = 1 returning n",
                params![],
            );
            let written = db.write(Batch::new().with(count.exactly(1))).await.unwrap();
            written.rows(0)[0].int(0).unwrap()
        });
    }
    let mut seen = tasks.join_all().await;
    seen.sort_unstable();
    assert_eq!(seen, (1..=64).collect::<Vec<_>>());
}

async fn a_failing_batch_does_not_fail_its_neighbours(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let hold = place.hold_writes("log").await;
    // Fewer than there are connections; on SQLite the first one waits for the hold and the others behind it.
    let batches: Vec<Batch> = (0..12)
        .map(|id| {
            let batch = Batch::new().with(note(id)).with(note(100 + id));
            match id % 4 {
                1 => batch.with(note(100 + id)),
                2 => batch.with(
                    Statement::new("update slots set n = 1 where id = 99", params![]).exactly(1),
                ),
                3 => batch.with(Statement::new("update slots set n = null", params![])),
                _ => batch,
            }
        })
        .collect();
    let mut writes = Box::pin(unconstrained(join_all(
        batches.into_iter().map(|batch| db.write(batch)),
    )));
    assert!(futures_util::poll!(&mut writes).is_pending());
    hold.release().await;

    for (id, result) in writes.await.into_iter().enumerate() {
        let as_it_should = match id % 4 {
            1 => matches!(result, Err(WriteError::UniqueViolation { statement: 2 })),
            2 => matches!(
                result,
                Err(WriteError::Expectation {
                    statement: 2,
                    rows: 0
                })
            ),
            3 => matches!(result, Err(WriteError::Database(_))),
            _ => result.is_ok(),
        };
        assert!(as_it_should, "{id}: {result:?}");
    }
    assert_eq!(noted(&db).await, [0, 4, 8, 100, 104, 108]);
}

async fn a_failing_append_does_not_fail_its_neighbours(place: &Place) {
    let db = place.with_tables(TABLE).await;
    db.append(Batch::new().with(note(7))).await.unwrap();
    let hold = place.hold_writes("log").await;
    let mut appends = Box::pin(unconstrained(join_all(
        (0..20).map(|id| db.append(Batch::new().with(note(id)))),
    )));
    assert!(futures_util::poll!(&mut appends).is_pending());
    hold.release().await;

    for (id, result) in appends.await.into_iter().enumerate() {
        if id == 7 {
            assert!(
                matches!(result, Err(WriteError::UniqueViolation { statement: 0 })),
                "{result:?}"
            );
        } else {
            assert!(result.is_ok(), "{id}: {result:?}");
        }
    }
    assert_eq!(noted(&db).await, (0..20).collect::<Vec<_>>());
}

async fn appended_batches_are_all_or_nothing(place: &Place) {
    let db = place.with_tables(TABLE).await;
    db.append(Batch::new().with(note(7)).with(note(17)))
        .await
        .unwrap();
    let hold = place.hold_writes("log").await;
    // Seven and seventeen are there: one batch fails in its first statement, one in its second.
    let mut appends = Box::pin(unconstrained(join_all(
        [(1, 11), (7, 13), (2, 12), (5, 17), (4, 14)]
            .map(|(first, second)| db.append(Batch::new().with(note(first)).with(note(second)))),
    )));
    assert!(futures_util::poll!(&mut appends).is_pending());
    hold.release().await;

    let conflicts: Vec<Option<usize>> = appends
        .await
        .into_iter()
        .map(|result| match result {
            Ok(()) => None,
            Err(WriteError::UniqueViolation { statement }) => Some(statement),
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(conflicts, [None, Some(0), None, Some(1), None]);
    assert_eq!(noted(&db).await, [1, 2, 4, 7, 11, 12, 14, 17]);
}

async fn appends_share_commits(place: &Place) {
    const MANY: i64 = 400;
    let db = place.with_tables(TABLE).await;
    let hold = place.hold_writes("log").await;
    let before = place.commits("log").await;
    let mut appends = Box::pin(unconstrained(join_all(
        (0..MANY).map(|id| db.append(Batch::new().with(note(id)))),
    )));
    // All of them wait now: for the hold, or behind those that do.
    assert!(futures_util::poll!(&mut appends).is_pending());
    hold.release().await;
    for result in appends.await {
        result.unwrap();
    }
    assert_eq!(noted(&db).await, (0..MANY).collect::<Vec<_>>());
    let commits = place.commits("log").await - before;
    assert!(commits <= 4, "{commits} commits for {MANY} appends");
}

async fn appends_are_there_for_others_when_answered(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let other = place.open().await;
    let mut tasks = JoinSet::new();
    for id in 0..200 {
        let (db, other) = (db.clone(), other.clone());
        tasks.spawn(async move {
            db.append(Batch::new().with(note(id))).await.unwrap();
            let found = other
                .read_one("select words from log where id = $1", params![id])
                .await
                .unwrap();
            assert!(found.is_some(), "{id}");
        });
    }
    tasks.join_all().await;
}

async fn several_reads_are_one_snapshot(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (db, done) = (db.clone(), Arc::clone(&done));
        async move {
            let count = |sql| Statement::new(sql, params![]).exactly(1);
            let both = Batch::new()
                .with(count("update slots set n = n + 1 where id = 1"))
                .with(count("update slots set n = n + 1 where id = 2"));
            while !done.load(Ordering::Relaxed) {
                db.write(both.clone()).await.unwrap();
            }
        }
    });
    // The one in the middle takes longer than a commit.
    let slowly =
        "with recursive steps (i) as (select 1 union all select i + 1 from steps where i < 20000)
        select count(*) from steps";
    let mut seen = Vec::new();
    // Until the writer was seen to write.
    while seen.len() < 10 {
        let answers = db
            .read_all(vec![
                Statement::new("select n from slots where id = $1", params![1]),
                Statement::new(slowly, params![]),
                Statement::new("select n from slots where id = $1", params![2]),
            ])
            .await
            .unwrap();
        let n = |answer: usize| answers[answer][0].int(0).unwrap();
        assert_eq!(n(1), 20_000);
        assert_eq!(n(0), n(2));
        seen.push(n(0));
        seen.dedup();
    }
    done.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

async fn readers_do_not_wait_for_writers(place: &Place) {
    let db = place.with_tables(TABLE).await;
    let hold = place.hold_writes("log").await;
    let mut write = Box::pin(db.write(Batch::new().with(note(1))));
    assert!(futures_util::poll!(&mut write).is_pending());
    assert!(noted(&db).await.is_empty());
    hold.release().await;
    write.await.unwrap();
    assert_eq!(noted(&db).await, [1]);
}
