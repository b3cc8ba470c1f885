//! SQLite: many connections that read inline, one thread that writes and commits what waits together.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};
use tokio::sync::oneshot;

use crate::Options;
use crate::batch::{Batch, Statement, Written};
use crate::error::{Because, MigrateError, OpenError, ReadError, WriteError};
use crate::migrate::{CREATE_TABLE, Migration};
use crate::row::{Cells, Row};
use crate::sql::Dialect;
use crate::traffic::Counters;
use crate::value::Value;

/// Older ones can lose commits (the WAL-reset bug, fixed in 3.51.3).
const OLDEST: i32 = 3_051_003;
/// The most batches that one commit holds.
const MOST_TOGETHER: usize = 256;
/// After a commit of at least so many batches, the next one waits for company: each commit is an fsync, and makes every
/// reader read its pages again. Where fewer ask at once, waiting costs them more than it saves.
const CROWD: usize = 5;
/// How long it waits: about what a commit takes.
const GATHERING: Duration = Duration::from_micros(300);
const STATEMENTS_KEPT: usize = 128;
/// How long a write waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Sqlite {
    shared: Arc<Shared>,
}

struct Shared {
    readers: Mutex<Readers>,
    returned: Condvar,
    wait: Duration,
    dialect: Arc<Dialect>,
    // Taken out by `close`. Dropping it ends the writer after what it has.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    temporary: Option<PathBuf>,
}

struct Readers {
    free: Vec<Connection>,
    /// How many wait for one. Telling nobody that one is free is a system call, too.
    wanted: usize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            for ending in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
            }
        }
    }
}

enum Job {
    Migrate(Vec<Migration>, oneshot::Sender<Result<(), MigrateError>>),
    Write(Batch, Reply),
}

/// `?1` is SQLite's numbered parameter; `$1` would be a name.
fn spell(sql: &str) -> String {
    sql.replace("{now}", "cast(unixepoch('subsec') * 1000000 as integer)")
        .replace("{position}", "instr")
        .replace('$', "?")
}

impl Sqlite {
    pub(crate) fn open(
        path: &str,
        options: &Options,
        counters: &Counters,
    ) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST {
            return Err(OpenError::SqliteTooOld(rusqlite::version().to_owned()));
        }
        let (path, temporary) = if path == ":memory:" {
            // A file all the same: a shared in-memory database locks whole tables and behaves like no real one.
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let name = format!(
                "tokenvault-{}-{}.db",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            );
            let path = std::env::temp_dir().join(name);
            (path.clone(), Some(path))
        } else {
            (PathBuf::from(path), None)
        };
        let database = |error: rusqlite::Error| OpenError::Database(error.into());
        let writer = connect(&path).map_err(database)?;
        use_wal(&writer).map_err(database)?;
        let mut readers = Vec::new();
        for _ in 0..options.read_connections.max(1) {
            let reader = connect(&path).map_err(database)?;
            reader
                .pragma_update(None, "query_only", true)
                .map_err(database)?;
            readers.push(reader);
        }
        let dialect = Arc::new(Dialect::new(spell));
        let (jobs, inbox) = mpsc::channel();
        let writer = Writer {
            connection: writer,
            dialect: Arc::clone(&dialect),
            counters: counters.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || writer.write_jobs(&inbox))
            .map_err(|error| OpenError::Database(error.into()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                readers: Mutex::new(Readers {
                    free: readers,
                    wanted: 0,
                }),
                returned: Condvar::new(),
                wait: options.wait,
                dialect,
                jobs: Mutex::new(Some(jobs)),
                writer: Mutex::new(Some(writer)),
                temporary,
            }),
        })
    }

    /// On the calling thread: a read of a few rows takes less time than handing it to another one.
    pub(crate) fn read_all(&self, statements: &[Statement]) -> Result<Vec<Vec<Row>>, ReadError> {
        let reader = self.borrow_reader()?;
        let rows = read_statements(&reader, &self.shared.dialect, statements);
        let mut readers = self.readers();
        readers.free.push(reader);
        let is_wanted = readers.wanted > 0;
        drop(readers);
        if is_wanted {
            self.shared.returned.notify_one();
        }
        rows.map_err(read_error)
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.shared
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn borrow_reader(&self) -> Result<Connection, ReadError> {
        let mut readers = self.readers();
        if let Some(reader) = readers.free.pop() {
            return Ok(reader);
        }
        readers.wanted += 1;
        let (mut readers, _) = self
            .shared
            .returned
            .wait_timeout_while(readers, self.shared.wait, |readers| readers.free.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        readers.wanted -= 1;
        readers.free.pop().ok_or_else(|| {
            ReadError::Unavailable(Because("no read connection was free in time").into())
        })
    }

    pub(crate) async fn write(&self, batch: Batch) -> Result<Written, WriteError> {
        let gone = || WriteError::Unavailable(Because("the database is closed").into());
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(batch, reply)).map_err(|()| gone())?;
        let (written, _) = answer.await.map_err(|_| gone())?;
        written
    }

    pub(crate) async fn migrate(&self, migrations: &[Migration]) -> Result<(), MigrateError> {
        let gone = || MigrateError::Failed {
            number: 0,
            source: Because("the database is closed").into(),
        };
        let (reply, answer) = oneshot::channel();
        self.send(Job::Migrate(migrations.to_vec(), reply))
            .map_err(|()| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn send(&self, job: Job) -> Result<(), ()> {
        let jobs = self
            .shared
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().ok_or(())?.send(job).map_err(drop)
    }

    pub(crate) async fn close(&self) {
        drop(
            self.shared
                .jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .shared
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            // Each connection is used by one thread at a time.
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A plan does not depend on the values bound to it. Without this, SQLite parses a statement anew whenever a value
    // might have made another plan better: twice the cost of an exchange.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// Readers beside a writer. The file remembers it for all connections.
fn use_wal(connection: &Connection) -> Result<(), rusqlite::Error> {
    let end = Instant::now() + BUSY;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            // Of two that open a new file at once, SQLite refuses one without making it wait.
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn read_statements(
    reader: &Connection,
    dialect: &Dialect,
    statements: &[Statement],
) -> Result<Vec<Vec<Row>>, rusqlite::Error> {
    let run = || {
        statements
            .iter()
            .map(|statement| run_statement(reader, dialect, statement).map(|(_, rows)| rows))
            .collect()
    };
    if statements.len() < 2 {
        return run();
    }
    // One snapshot for all of them.
    reader.prepare_cached("begin")?.execute([])?;
    let rows = run();
    reader.prepare_cached("rollback")?.execute([])?;
    rows
}

fn run_statement(
    connection: &Connection,
    dialect: &Dialect,
    statement: &Statement,
) -> Result<(u64, Vec<Row>), rusqlite::Error> {
    let mut prepared = connection.prepare_cached(dialect.text(statement.sql))?;
    // SQLite would take one that is missing for null.
    let wanted = prepared.parameter_count();
    if statement.params.len() != wanted {
        return Err(rusqlite::Error::InvalidParameterCount(
            statement.params.len(),
            wanted,
        ));
    }
    for (index, value) in statement.params.iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, Parameter(value))?;
    }
    let columns = prepared.column_count();
    if columns == 0 {
        let affected = prepared.raw_execute()?;
        return Ok((u64::try_from(affected).unwrap_or(u64::MAX), vec![]));
    }
    let mut rows = Vec::new();
    let mut answer = prepared.raw_query();
    while let Some(row) = answer.next()? {
        let mut cells = Cells::of(columns);
        for index in 0..columns {
            let text;
            cells.push(match row.get_ref(index)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Int(number),
                ValueRef::Text(bytes) => {
                    text = text_of(bytes);
                    Value::Text(&text)
                }
                ValueRef::Blob(bytes) => Value::Blob(bytes),
                ValueRef::Real(_) => {
                    return Err(rusqlite::Error::InvalidColumnType(
                        index,
                        "a fraction".to_owned(),
                        rusqlite::types::Type::Real,
                    ));
                }
            });
        }
        rows.push(cells.into());
    }
    // With `returning`, each row that comes back is a row that was touched.
    Ok((u64::try_from(rows.len()).unwrap_or(u64::MAX), rows))
}

/// What we wrote is UTF-8, and seen to be so at once; only what somebody else wrote is looked at letter by letter.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

struct Parameter<'a>(Value<'a>);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Blob(bytes) => ValueRef::Blob(bytes),
            Value::Int(number) => ValueRef::Integer(number),
            Value::Null => ValueRef::Null,
            // PostgreSQL has none, and what one engine refuses the other one refuses too.
            Value::Text(text) if text.contains('\0') => {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    Because("a text with U+0000").into(),
                ));
            }
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// What the writer thread has.
struct Writer {
    connection: Connection,
    dialect: Arc<Dialect>,
    counters: Counters,
}

impl Writer {
    /// Takes a job and all that wait behind it, and commits them with one fsync. Under load it waits a moment for more.
    fn write_jobs(&self, inbox: &mpsc::Receiver<Job>) {
        let mut crowd = 0;
        while let Ok(first) = inbox.recv() {
            let mut waiting = Vec::new();
            if crowd >= CROWD {
                std::thread::sleep(GATHERING);
            }
            let mut next = Some(first);
            while let Some(job) = next.take() {
                match job {
                    Job::Write(batch, reply) => waiting.push((batch, reply)),
                    Job::Migrate(migrations, reply) => {
                        self.write_together(std::mem::take(&mut waiting));
                        let _ = reply.send(migrate(&self.connection, &migrations));
                    }
                }
                if waiting.len() < MOST_TOGETHER {
                    next = inbox.try_recv().ok();
                }
            }
            crowd = waiting.len();
            self.write_together(waiting);
        }
    }

    fn write_together(&self, waiting: Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let (batches, replies): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let answers = match self.write_all(&batches, Care::Hopeful) {
            Ok(answers) => answers,
            Err(Undone::Torn) => self
                .write_all(&batches, Care::Separate)
                .unwrap_or_else(|undone| undone.answers(batches.len())),
            Err(lost) => lost.answers(batches.len()),
        };
        for ((reply, answer), batch) in replies.into_iter().zip(answers).zip(batches) {
            let _ = reply.send((answer, batch));
        }
    }

    /// All batches in one transaction; each fails or not by itself.
    fn write_all(&self, batches: &[Batch], care: Care) -> Result<Vec<Answer>, Undone> {
        let (connection, dialect) = (&self.connection, &self.dialect);
        execute(connection, "begin immediate")
            .map_err(|error| Undone::Lost(vec![], error.to_string()))?;
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            let answer = match care {
                Care::Hopeful => write_batch(connection, dialect, batch),
                Care::Separate => write_separately(connection, dialect, batch),
            };
            if connection.is_autocommit() {
                // The engine gave up the whole transaction (disk full, I/O error): nobody's batch is in it.
                answers.push(answer.map_err(|failed| failed.error));
                return Err(Undone::Lost(answers, "the transaction failed".to_owned()));
            }
            match answer {
                Err(failed) if failed.has_written && care == Care::Hopeful => {
                    let _ = execute(connection, "rollback");
                    return Err(Undone::Torn);
                }
                answer => answers.push(answer.map_err(|failed| failed.error)),
            }
        }
        execute(connection, "commit").map_err(|_| {
            let _ = execute(connection, "rollback");
            Undone::Lost(std::mem::take(&mut answers), "the commit failed".to_owned())
        })?;
        self.counters.committed();
        Ok(answers)
    }
}

type Answer = Result<Written, WriteError>;
/// A batch comes back with its answer, so that whoever made it frees it, and not this one thread for all.
type Reply = oneshot::Sender<(Answer, Batch)>;
type Waiting = (Batch, Reply);

/// How batches of one transaction are kept from touching their neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Not at all: that one of them fails after it has written something is rare, and then everything is done again.
    Hopeful,
    /// Each in a savepoint of its own, which costs as much as a small insert.
    Separate,
}

/// Why nothing was committed.
enum Undone {
    /// A batch failed with half of it written, and there was no savepoint.
    Torn,
    /// No transaction, or no end of it: each batch with what became of it until then.
    Lost(Vec<Answer>, String),
}

impl Undone {
    /// One for each of so many batches. Whose batch was fine until then is told that it is not committed.
    fn answers(self, count: usize) -> Vec<Answer> {
        let (known, why) = match self {
            Self::Torn => (vec![], "a batch was torn".to_owned()),
            Self::Lost(known, why) => (known, why),
        };
        let lost = || WriteError::Unavailable(why.clone().into());
        let mut answers: Vec<Answer> = known
            .into_iter()
            .map(|answer| answer.and_then(|_| Err(lost())))
            .collect();
        answers.resize_with(count, || Err(lost()));
        answers
    }
}

/// Why a batch was not written to its end.
struct Failed {
    error: WriteError,
    /// Whether something of it is in the transaction. A statement that fails leaves nothing behind.
    has_written: bool,
}

/// In a savepoint of its own: what it cannot do does not touch its neighbours.
fn write_separately(
    connection: &Connection,
    dialect: &Dialect,
    batch: &Batch,
) -> Result<Written, Failed> {
    let failed = |error| Failed {
        error: write_error(0, error),
        has_written: false,
    };
    execute(connection, "savepoint batch").map_err(failed)?;
    let result = write_batch(connection, dialect, batch);
    if connection.is_autocommit() {
        return result;
    }
    if result.is_err() {
        let _ = execute(connection, "rollback to batch");
    }
    let released = execute(connection, "release batch").map_err(failed);
    result.and_then(|written| released.map(|()| written))
}

fn write_batch(
    connection: &Connection,
    dialect: &Dialect,
    batch: &Batch,
) -> Result<Written, Failed> {
    let mut written = Written::default();
    let mut has_written = false;
    for (index, statement) in batch.statements.iter().enumerate() {
        let (affected, rows) =
            run_statement(connection, dialect, statement).map_err(|error| Failed {
                error: write_error(index, error),
                has_written,
            })?;
        has_written |= affected > 0;
        statement
            .judge(index, affected)
            .map_err(|error| Failed { error, has_written })?;
        written.affected.push(affected);
        written.rows.push(rows);
    }
    Ok(written)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn migrate(connection: &Connection, migrations: &[Migration]) -> Result<(), MigrateError> {
    let failed = |number: u32| {
        move |error: rusqlite::Error| MigrateError::Failed {
            number,
            source: error.into(),
        }
    };
    connection.execute_batch(CREATE_TABLE).map_err(failed(0))?;
    for migration in migrations {
        let number = migration.number;
        // Exclusive from the first look on: two processes cannot both find it missing.
        connection
            .execute_batch("begin immediate")
            .map_err(failed(number))?;
        let applied = apply(connection, migration);
        let end = if applied.is_ok() {
            "commit"
        } else {
            "rollback"
        };
        connection.execute_batch(end).map_err(failed(number))?;
        applied?;
    }
    Ok(())
}

fn apply(connection: &Connection, migration: &Migration) -> Result<(), MigrateError> {
    let failed = |error: rusqlite::Error| MigrateError::Failed {
        number: migration.number,
        source: error.into(),
    };
    let mut known = connection
        .prepare("select number, checksum from migrations")
        .map_err(failed)?;
    let applied = known
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect::<Result<Vec<(i64, String)>, _>>)
        .map_err(failed)?;
    if !migration.is_missing(&applied)? {
        return Ok(());
    }
    for sql in [migration.sql, migration.sqlite] {
        connection.execute_batch(sql).map_err(failed)?;
    }
    connection
        .execute(
            "insert into migrations (number, name, checksum, applied_at)
             values (?1, ?2, ?3, cast(unixepoch('subsec') * 1000000 as integer))",
            (migration.number, migration.name, migration.checksum()),
        )
        .map_err(failed)?;
    Ok(())
}

fn read_error(error: rusqlite::Error) -> ReadError {
    if is_away(&error) {
        ReadError::Unavailable(error.into())
    } else {
        ReadError::Database(error.into())
    }
}

fn write_error(statement: usize, error: rusqlite::Error) -> WriteError {
    const UNIQUE: i32 = 2067;
    const PRIMARY_KEY: i32 = 1555;
    if let rusqlite::Error::SqliteFailure(failure, _) = &error
        && matches!(failure.extended_code, UNIQUE | PRIMARY_KEY)
    {
        return WriteError::UniqueViolation { statement };
    }
    if is_away(&error) {
        WriteError::Unavailable(error.into())
    } else {
        WriteError::Database(error.into())
    }
}

fn is_away(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_position_and_parameters_are_spelled() {
        assert_eq!(
            spell("select $1, $12 where t < {now} and {position}(u, 'x') > 0"),
            "select ?1, ?12 where t < cast(unixepoch('subsec') * 1000000 as integer) and instr(u, 'x') > 0"
        );
    }

    #[test]
    fn what_keeps_a_process_from_writing_is_not_the_statements_fault() {
        let failure =
            |code: i32| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        // Busy, locked, read-only, I/O error, full, cannot open; a WAL that is being recovered.
        for code in [5, 6, 8, 10, 13, 14, 261] {
            assert!(
                matches!(write_error(0, failure(code)), WriteError::Unavailable(_)),
                "{code}"
            );
            assert!(
                matches!(read_error(failure(code)), ReadError::Unavailable(_)),
                "{code}"
            );
        }
        // An error of the text, a broken check, a foreign key.
        for code in [1, 275, 787] {
            assert!(
                matches!(write_error(0, failure(code)), WriteError::Database(_)),
                "{code}"
            );
            assert!(
                matches!(read_error(failure(code)), ReadError::Database(_)),
                "{code}"
            );
        }
        for code in [1555, 2067] {
            assert!(matches!(
                write_error(3, failure(code)),
                WriteError::UniqueViolation { statement: 3 }
            ));
        }
    }
}
