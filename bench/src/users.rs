//! Many users, and the place in the middle of their list.

use anyhow::{Context, Result};
use serde_json::Value;
use store::{Batch, Db, Options, Statement, params};

use crate::process::ServerProcess;
use crate::target::{Ask, Errand};

/// Users that one statement makes.
const TOGETHER: i64 = 100_000;

/// Makes users until there are `count`.
pub(crate) async fn grow(server: &ServerProcess, count: i64) -> Result<()> {
    let db = Db::open(server.database_url(), Options::default()).await?;
    let there = db
        .read("select count(*) from users", params![])
        .await?
        .first()
        .context("no count")?
        .int(0)?;
    let mut first = there;
    while first < count {
        let last = count.min(first + TOGETHER);
        db.write(Batch::new().with(Statement::new(
            "insert into users (id, username, email, name, created_at, updated_at)
             with recursive numbers (n) as (
                select cast($1 as bigint) union all select n + 1 from numbers where n + 1 < $2
             )
             select 'usr_bench_' || (1000000000 + n), 'user' || n, 'user' || n || '@example.com', 'User ' || n,
                    1764000000000000 + n, 1764000000000000 + n
               from numbers",
            params![first, last],
        )))
        .await?;
        first = last;
    }
    db.close().await;
    Ok(())
}

/// A page from the middle of the list on: where the cursor gets to by going through half of it.
pub(crate) async fn from_the_middle(server: &ServerProcess, count: i64) -> Result<Ask> {
    let first = server.errand(Errand::Users)?;
    let mut ask = first.clone();
    let mut connection = server.connect(1).await?;
    for _ in 0..(count / 100 / 2) {
        let answer = connection.ask(&ask).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let next = answer
            .get("next")
            .and_then(Value::as_str)
            .context("the list ended in its middle")?;
        ask.path = format!("{}&from={next}", first.path);
    }
    Ok(ask)
}
