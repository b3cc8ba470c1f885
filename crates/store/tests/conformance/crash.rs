//! A process that is killed under load has lost nothing that it was told is committed.
//!
//! The process is this test program once more: it runs `child` and nothing else.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use store::{Batch, Db, Options, Statement, params};

use crate::place::{Place, from_outside};

on_both_engines!(what_was_answered_survives_a_kill);

const CHILD_DATABASE: &str = "TOKENVAULT_TEST_CRASH_DATABASE";
const CHILD_START: &str = "TOKENVAULT_TEST_CRASH_START";
const TABLE: &str = "create table debits  (id bigint primary key);
create table credits (id bigint primary key);
create table log     (id bigint primary key);";
/// Far more than a process writes before it is killed.
const APART: i64 = 100_000_000;
const WRITERS: i64 = 8;

async fn what_was_answered_survives_a_kill(place: &Place) {
    const KILLS: i64 = 3;
    const ENOUGH: usize = 300;
    let db = place.with_tables(TABLE).await;
    let mut written = BTreeSet::new();
    let mut appended = BTreeSet::new();
    for kill in 0..KILLS {
        let child = start_child(place.url(), kill * APART);
        let printed = tokio::task::spawn_blocking(move || kill_after(child, ENOUGH))
            .await
            .unwrap();
        for line in printed {
            let (kind, id) = line.split_once(' ').unwrap();
            let kind = match kind {
                "written" => &mut written,
                "appended" => &mut appended,
                _ => panic!("{line}"),
            };
            assert!(kind.insert(id.parse().unwrap()));
        }

        // A rest of the killed process may commit late on a server, but never half of a batch.
        let answers = db
            .read_all(vec![
                Statement::new("select id from debits", params![]),
                Statement::new("select id from credits", params![]),
                Statement::new("select id from log", params![]),
            ])
            .await
            .unwrap();
        let kept: Vec<BTreeSet<i64>> = answers
            .iter()
            .map(|rows| rows.iter().map(|row| row.int(0).unwrap()).collect())
            .collect();
        assert!(
            kept[0].is_superset(&written),
            "{:?}",
            written.difference(&kept[0])
        );
        assert!(
            kept[2].is_superset(&appended),
            "{:?}",
            appended.difference(&kept[2])
        );
        assert_eq!(kept[0], kept[1]);
    }
    assert!(!written.is_empty());
    assert!(!appended.is_empty());
}

fn start_child(url: &str, start: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(CHILD_DATABASE, url)
        .env(CHILD_START, start.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Everything that it printed before it died.
fn kill_after(mut child: Child, lines: usize) -> Vec<String> {
    let mut printed = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test program has words of its own around it.
        if let Some(line) = line.strip_prefix("- ") {
            printed.push(line.to_owned());
            if printed.len() == lines {
                // SIGKILL, while others of its writers wait for their commits. What it has printed is read to the end.
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(printed.len() >= lines, "it ended by itself: {printed:?}");
    printed
}

/// Writes numbered rows for ever, and prints each number when its commit is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the crash test starts and kills"]
async fn child() {
    let Some(url) = from_outside(CHILD_DATABASE) else {
        return;
    };
    let start: i64 = from_outside(CHILD_START).unwrap().parse().unwrap();
    let db = Db::open(&url, Options::default()).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            for id in (start + writer..).step_by(8) {
                if writer % 2 == 0 {
                    let batch = Batch::new()
                        .with(Statement::new(
                            "insert into debits (id) values ($1)",
                            params![id],
                        ))
                        .with(Statement::new(
                            "insert into credits (id) values ($1)",
                            params![id],
                        ));
                    db.write(batch).await.unwrap();
                    print(&format!("- written {id}\n"));
                } else {
                    let row = Statement::new("insert into log (id) values ($1)", params![id]);
                    db.append(Batch::new().with(row)).await.unwrap();
                    print(&format!("- appended {id}\n"));
                }
            }
        })
    });
    futures_util::future::join_all(writers).await;
}

/// In one piece, so that a kill cuts no line in two.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}
