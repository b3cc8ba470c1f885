//! PostgreSQL: a pool of connections, prepared statements kept on each, statements sent without waiting for each
//! other's answers.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use futures_util::future::{join, join_all, join3};
use postgres_types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use crate::Options;
use crate::append::{Append, Committer};
use crate::batch::{Batch, Expect, Statement, Written};
use crate::error::{Because, MigrateError, OpenError, ReadError, WriteError};
use crate::migrate::{CREATE_TABLE, Migration};
use crate::pipelines::Pipelines;
use crate::row::{Cells, Row};
use crate::sql::{Dialect, Place, place_of};
use crate::traffic::Counters;
use crate::united::{Part, United};
use crate::value::Value;

/// How many appended batches may wait for a commit before callers wait to hand theirs over.
const MOST_WAITING: usize = 10_000;
/// The most queries that are sent as one. An import's hundreds are of too many combinations for each to be kept.
const MOST_UNITED: usize = 6;
/// Any number that no other program takes a lock with: "tokenvlt" in ASCII.
const MIGRATION_LOCK: i64 = 0x746f_6b65_6e76_6c74;

/// A statement is planned once a connection. PostgreSQL would plan most of ours again with each execution, which took
/// longer than the execution: they look up keys, and the values make no difference to the plan. Nor is any worth
/// compiling.
const PLAN_ONCE: &str = "-c plan_cache_mode=force_generic_plan -c jit=off";

const UNUSED_TYPE: Because = Because("a column of a type that is not used here");

/// `blob` is the one type name that PostgreSQL does not know. Two nodes may create it at once.
const CREATE_BLOB: &str = "do $$ begin
    create domain blob as bytea;
exception when duplicate_object or unique_violation then null;
end $$";

/// Connections beside the pool for what is urgent.
const KEPT_FREE: usize = 2;

#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Pool,
    /// For what is urgent, and of nobody else.
    kept_free: Pool,
    /// For look-ups.
    pipelines: Arc<Pipelines>,
    is_urgent: bool,
    dialect: Arc<Dialect>,
    united: Arc<RwLock<AllUnited>>,
    appends: mpsc::Sender<Append>,
    counters: Counters,
}

/// By the texts of the queries.
type AllUnited = HashMap<Vec<Place>, Arc<United>>;

fn spell(sql: &str) -> String {
    sql.replace(
        "{now}",
        "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
    )
    .replace("{position}", "strpos")
}

impl Postgres {
    pub(crate) async fn open(
        url: &str,
        options: &Options,
        counters: &Counters,
    ) -> Result<Self, OpenError> {
        let mut config = Config::from_str(url).map_err(|_| {
            // The driver's own words could repeat the password.
            OpenError::Database(Because("the PostgreSQL URL cannot be read").into())
        })?;
        let given = config.get_options().unwrap_or_default();
        config.options(format!("{PLAN_ONCE} {given}"));
        let pool = pool_of(&config, options.pool_size.max(1), options.wait, options)?;
        let kept_free = pool_of(&config, KEPT_FREE, Duration::ZERO, options)?;
        let pipelines = Pipelines::new(config, options.look_up_connections, options.wait);
        let client = pool
            .get()
            .await
            .map_err(|error| OpenError::Database(error.into()))?;
        client
            .batch_execute(CREATE_BLOB)
            .await
            .map_err(|error| OpenError::Database(error.into()))?;
        let dialect = Arc::new(Dialect::new(spell));
        let (appends, inbox) = mpsc::channel(MOST_WAITING);
        let committer = Committer::new(pool.clone(), Arc::clone(&dialect), counters.clone());
        tokio::spawn(committer.commit_appends(inbox));
        Ok(Self {
            pool,
            kept_free,
            pipelines: Arc::new(pipelines),
            is_urgent: false,
            dialect,
            united: Arc::default(),
            appends,
            counters: counters.clone(),
        })
    }

    /// The same, for what many wait for.
    pub(crate) fn urgent(&self) -> Self {
        Self {
            is_urgent: true,
            ..self.clone()
        }
    }

    /// A connection that nobody else uses meanwhile.
    async fn lend(&self) -> Result<Object, PoolError> {
        if self.is_urgent {
            // At once, or not at all.
            if let Ok(client) = self.kept_free.get().await {
                return Ok(client);
            }
        }
        self.pool.get().await
    }

    pub(crate) async fn read_all(
        &self,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, ReadError> {
        let client = self
            .lend()
            .await
            .map_err(|error| ReadError::Unavailable(error.into()))?;
        if statements.len() > MOST_UNITED {
            return read_in_transaction(&client, &self.dialect, &statements).await;
        }
        self.answer(&client, &statements).await
    }

    pub(crate) async fn look_up_all(
        &self,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, ReadError> {
        if self.is_urgent || statements.len() > MOST_UNITED {
            return self.read_all(statements).await;
        }
        let client = self.pipelines.lend().await?;
        client.in_time(self.answer(&client, &statements)).await
    }

    /// Asks a few queries as one statement.
    async fn answer(
        &self,
        client: &ClientWrapper,
        statements: &[Statement],
    ) -> Result<Vec<Vec<Row>>, ReadError> {
        if let [only] = statements {
            let (_, rows) = run(client, &self.dialect, only).await.map_err(read_error)?;
            return Ok(vec![rows]);
        }
        // One statement sees one snapshot, and costs one message and one start in place of a transaction of many.
        let united = self.united(client, statements).await?;
        if !united.fits(statements.iter().map(|statement| &statement.params)) {
            return Err(ReadError::Database(
                Because("a wrong number of parameters").into(),
            ));
        }
        let prepared = client
            .prepare_cached(united.text)
            .await
            .map_err(read_error)?;
        let values: Vec<Value<'_>> = statements
            .iter()
            .flat_map(|statement| statement.params.iter())
            .collect();
        let mut answers = vec![Vec::new(); united.len()];
        let answer = client.query(&prepared, &bound(&values)).await;
        for row in answer.map_err(read_error)? {
            let number: i32 = row.try_get(0).map_err(read_error)?;
            let query = usize::try_from(number).unwrap_or(usize::MAX);
            let (Some((begin, end)), Some(rows)) = (united.place(query), answers.get_mut(query))
            else {
                return Err(ReadError::Database(Because("a row of no query").into()));
            };
            rows.push(take(&row, begin, end).map_err(read_error)?);
        }
        Ok(answers)
    }

    /// Several queries as one. What their columns are, the server is asked once.
    async fn united(
        &self,
        client: &ClientWrapper,
        statements: &[Statement],
    ) -> Result<Arc<United>, ReadError> {
        let key: Vec<Place> = statements
            .iter()
            .map(|statement| place_of(statement.sql))
            .collect();
        let known = self
            .united
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut parts = Vec::with_capacity(statements.len());
        for statement in statements {
            let sql = self.dialect.text(statement.sql);
            let prepared = client.prepare(sql).await.map_err(read_error)?;
            let columns = prepared.columns().iter();
            parts.push(Part {
                sql,
                params: prepared.params().len(),
                columns: columns
                    .map(|column| type_name(column.type_()))
                    .collect::<Result<_, _>>()
                    .map_err(|error| ReadError::Database(error.into()))?,
            });
        }
        let mut all = self.united.write().unwrap_or_else(PoisonError::into_inner);
        let made = all
            .entry(key)
            .or_insert_with(|| Arc::new(United::of(&parts)));
        Ok(Arc::clone(made))
    }

    pub(crate) async fn write(&self, batch: Batch) -> Result<Written, WriteError> {
        let client = self
            .lend()
            .await
            .map_err(|error| WriteError::Unavailable(error.into()))?;
        let dialect = Arc::clone(&self.dialect);
        // A task of its own: a caller that goes away must not leave a connection inside a transaction.
        let written =
            tokio::spawn(async move { commit(&client, &dialect, &batch.statements).await })
                .await
                .map_err(|error| WriteError::Unavailable(error.into()))??;
        self.counters.committed();
        Ok(written)
    }

    pub(crate) async fn append(&self, batch: Batch) -> Result<(), WriteError> {
        let gone = || WriteError::Unavailable(Because("the database is closed").into());
        let (reply, answer) = oneshot::channel();
        self.appends
            .send((batch, reply))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(crate) async fn migrate(&self, migrations: &[Migration]) -> Result<(), MigrateError> {
        let failed = |number: u32, source: Box<dyn std::error::Error + Send + Sync>| {
            MigrateError::Failed { number, source }
        };
        let client = self
            .pool
            .get()
            .await
            .map_err(|error| failed(0, error.into()))?;
        // Held until this connection ends it or goes: one node migrates, the others wait and find it done.
        client
            .execute("select pg_advisory_lock($1)", &[&MIGRATION_LOCK])
            .await
            .map_err(|error| failed(0, error.into()))?;
        let result = async {
            client
                .batch_execute(CREATE_TABLE)
                .await
                .map_err(|error| failed(0, error.into()))?;
            for migration in migrations {
                let number = migration.number;
                let applied: Vec<(i64, String)> = client
                    .query("select number, checksum from migrations", &[])
                    .await
                    .map_err(|error| failed(number, error.into()))?
                    .iter()
                    .map(|row| (row.get(0), row.get(1)))
                    .collect();
                if !migration.is_missing(&applied)? {
                    continue;
                }
                let name = migration.name.replace('\'', "''");
                let checksum = migration.checksum();
                let Migration { sql, postgres, .. } = migration;
                // A simple query of several statements is one transaction.
                client
                    .batch_execute(&format!(
                        "begin;\n{sql}\n;{postgres}\n;insert into migrations (number, name, checksum, applied_at)
                         values ({number}, '{name}', '{checksum}',
                                 (extract(epoch from clock_timestamp()) * 1000000)::bigint);\ncommit;"
                    ))
                    .await
                    .map_err(|error| failed(number, error.into()))?;
            }
            Ok(())
        }
        .await;
        if result.is_err() {
            let _ = client.batch_execute("rollback").await;
        }
        let _ = client
            .execute("select pg_advisory_unlock($1)", &[&MIGRATION_LOCK])
            .await;
        result
    }

    pub(crate) fn close(&self) {
        self.pool.close();
        self.kept_free.close();
        self.pipelines.close();
    }
}

/// Opens no connection yet.
fn pool_of(
    config: &Config,
    size: usize,
    wait: Duration,
    options: &Options,
) -> Result<Pool, OpenError> {
    let manager = Manager::from_config(
        config.clone(),
        NoTls,
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(wait))
        .create_timeout(Some(options.wait))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| OpenError::Database(error.into()))
}

async fn run(
    client: &ClientWrapper,
    dialect: &Dialect,
    statement: &Statement,
) -> Result<(u64, Vec<Row>), tokio_postgres::Error> {
    let prepared = client.prepare_cached(dialect.text(statement.sql)).await?;
    run_prepared(client, &prepared, statement).await
}

/// Sent at the first poll.
async fn run_prepared(
    client: &ClientWrapper,
    prepared: &tokio_postgres::Statement,
    statement: &Statement,
) -> Result<(u64, Vec<Row>), tokio_postgres::Error> {
    let values: Vec<Value<'_>> = statement.params.iter().collect();
    let params = bound(&values);
    if prepared.columns().is_empty() {
        return Ok((client.execute(prepared, &params).await?, vec![]));
    }
    let answer = client.query(prepared, &params).await?;
    let mut rows = Vec::with_capacity(answer.len());
    for row in answer {
        rows.push(take(&row, 0, row.len())?);
    }
    Ok((u64::try_from(rows.len()).unwrap_or(u64::MAX), rows))
}

fn bound<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

/// Many queries, each of its own; one snapshot and one round trip: all is sent before the first answer is awaited.
async fn read_in_transaction(
    client: &ClientWrapper,
    dialect: &Dialect,
    statements: &[Statement],
) -> Result<Vec<Vec<Row>>, ReadError> {
    // Prepared before the transaction begins, so that the pipeline below is not held up.
    for statement in statements {
        client
            .prepare_cached(dialect.text(statement.sql))
            .await
            .map_err(read_error)?;
    }
    let begin = client.batch_execute("begin isolation level repeatable read read only");
    let all = join_all(
        statements
            .iter()
            .map(|statement| run(client, dialect, statement)),
    );
    let end = client.batch_execute("commit");
    let (begun, answers, _) = join3(begin, all, end).await;
    begun.map_err(read_error)?;
    answers
        .into_iter()
        .map(|answer| answer.map(|(_, rows)| rows).map_err(read_error))
        .collect()
}

/// Some columns of an answer, as a row.
fn take(row: &tokio_postgres::Row, begin: usize, end: usize) -> Result<Row, tokio_postgres::Error> {
    let mut cells = Cells::of(end.saturating_sub(begin));
    for index in begin..end {
        cells.push(row.try_get(index)?);
    }
    Ok(cells.into())
}

/// What a null of a column's type is written as.
fn type_name(ty: &Type) -> Result<&'static str, Because> {
    Ok(match *ty {
        Type::BOOL => "boolean",
        Type::BYTEA => "bytea",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN => "text",
        _ => return Err(UNUSED_TYPE),
    })
}

/// All or nothing. Where there is nothing to judge, one round trip; else two: everything up to the judgement, then its
/// end.
pub(crate) async fn commit(
    client: &ClientWrapper,
    dialect: &Dialect,
    statements: &[Statement],
) -> Result<Written, WriteError> {
    // Before the transaction begins, so that nothing below waits before it is sent, and all goes out in this order.
    let mut prepared = Vec::with_capacity(statements.len());
    for (index, statement) in statements.iter().enumerate() {
        let text = dialect.text(statement.sql);
        let made = client.prepare_cached(text).await;
        prepared.push(made.map_err(|error| write_error(index, error))?);
    }
    let is_judged = statements
        .iter()
        .any(|statement| statement.expect != Expect::Any);
    let all = || {
        let each = statements.iter().zip(&prepared);
        join_all(each.map(|(statement, prepared)| run_prepared(client, prepared, statement)))
    };
    if statements.len() == 1 && !is_judged {
        return judge(statements, all().await);
    }
    if !is_judged {
        // After a statement that failed, the server makes of this end the other one.
        let (begun, answers, ended) = join3(
            client.batch_execute("begin"),
            all(),
            client.batch_execute("commit"),
        )
        .await;
        begun.map_err(|error| write_error(0, error))?;
        let written = judge(statements, answers)?;
        ended.map_err(|error| WriteError::Unavailable(error.into()))?;
        return Ok(written);
    }
    let (begun, answers) = join(client.batch_execute("begin"), all()).await;
    let judged = begun
        .map_err(|error| write_error(0, error))
        .and_then(|()| judge(statements, answers));
    match judged {
        Ok(written) => {
            client
                .batch_execute("commit")
                .await
                .map_err(|error| WriteError::Unavailable(error.into()))?;
            Ok(written)
        }
        Err(error) => {
            let _ = client.batch_execute("rollback").await;
            Err(error)
        }
    }
}

/// The first thing that went wrong; after a failed statement all later ones fail too.
fn judge(
    statements: &[Statement],
    answers: Vec<Result<(u64, Vec<Row>), tokio_postgres::Error>>,
) -> Result<Written, WriteError> {
    let mut written = Written::default();
    for (index, (statement, answer)) in statements.iter().zip(answers).enumerate() {
        let (affected, rows) = answer.map_err(|error| write_error(index, error))?;
        statement.judge(index, affected)?;
        written.affected.push(affected);
        written.rows.push(rows);
    }
    Ok(written)
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let ty = match ty.kind() {
            Kind::Domain(base) => base,
            _ => ty,
        };
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Blob(bytes) if <&[u8] as ToSql>::accepts(ty) => bytes.to_sql(ty, out),
            Self::Text(text) if <&str as ToSql>::accepts(ty) => text.to_sql(ty, out),
            // A number beside a small literal is taken for a small number.
            Self::Int(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Int(number) if *ty == Type::INT8 => number.to_sql(ty, out),
            // The server would read the bytes as what they are not: eight letters as a number.
            _ => Err(Because("a value of another kind than the parameter").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *ty {
            Type::BOOL => Self::Int(i64::from(bool::from_sql(ty, raw)?)),
            Type::BYTEA => Self::Blob(raw),
            Type::INT4 => Self::Int(i64::from(i32::from_sql(ty, raw)?)),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN => {
                Self::Text(str::from_utf8(raw)?)
            }
            _ => return Err(UNUSED_TYPE.into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn read_error(error: tokio_postgres::Error) -> ReadError {
    if is_away(&error) {
        ReadError::Unavailable(error.into())
    } else {
        ReadError::Database(error.into())
    }
}

fn write_error(statement: usize, error: tokio_postgres::Error) -> WriteError {
    if error.code() == Some(&SqlState::UNIQUE_VIOLATION) {
        WriteError::UniqueViolation { statement }
    } else if is_away(&error) {
        WriteError::Unavailable(error.into())
    } else {
        WriteError::Database(error.into())
    }
}

/// No answer at all, a server that goes down (57P), one out of resources (53), or a transaction that lost against
/// another (40).
fn is_away(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => error.is_closed() || error.to_string().contains("error communicating"),
        Some(state) => {
            let code = state.code();
            code.starts_with("53")
                || code.starts_with("57P")
                || code.starts_with("40")
                || code.starts_with("08")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_and_position_are_spelled() {
        assert_eq!(
            spell("select $1 where t < {now} or u > {now} or {position}(v, 'x') > 0"),
            "select $1 where t < (extract(epoch from clock_timestamp()) * 1000000)::bigint \
             or u > (extract(epoch from clock_timestamp()) * 1000000)::bigint or strpos(v, 'x') > 0"
        );
    }

    #[test]
    fn a_value_goes_only_where_its_kind_belongs() {
        let blob = Type::new(
            "blob".to_owned(),
            100_000,
            Kind::Domain(Type::BYTEA),
            "public".to_owned(),
        );
        let sent = |value: Value<'_>, ty: &Type| {
            let mut out = BytesMut::new();
            value.to_sql(ty, &mut out).ok().map(|_| out.to_vec())
        };
        let bytes = || Value::Blob(&[1, 2]);
        let words = || Value::Text("eightlet");
        for (value, ty, expected) in [
            (
                Value::Int(258),
                &Type::INT8,
                Some(&[0, 0, 0, 0, 0, 0, 1, 2][..]),
            ),
            (Value::Int(258), &Type::INT4, Some(&[0, 0, 1, 2])),
            (Value::Int(i64::from(i32::MAX) + 1), &Type::INT4, None),
            (Value::Int(1), &Type::TEXT, None),
            (Value::Int(1), &blob, None),
            (words(), &Type::TEXT, Some(b"eightlet")),
            (words(), &Type::VARCHAR, Some(b"eightlet")),
            (words(), &Type::INT8, None),
            (words(), &blob, None),
            (bytes(), &blob, Some(&[1, 2])),
            (bytes(), &Type::BYTEA, Some(&[1, 2])),
            (bytes(), &Type::TEXT, None),
            (bytes(), &Type::INT8, None),
            (Value::Null, &Type::INT8, Some(&[])),
        ] {
            assert_eq!(sent(value, ty).as_deref(), expected, "{value:?} as {ty}");
        }
    }
}
