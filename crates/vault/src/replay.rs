//! Identifiers of what is good once: client assertions, worker requests, lines of an import.

use jiff::Timestamp;
use store::{Statement, params};

/// Uses an identifier up. It conflicts where it was used before, on any node; kept until the request could no longer
/// be accepted anyway.
pub(crate) fn statement(scope: &str, jti: &str, expires_at: Timestamp) -> Statement {
    Statement::new(
        "insert into replays (scope, jti, expires_at) values ($1, $2, $3)",
        params![scope, jti, expires_at],
    )
}

/// Whether an identifier was used up, with a row if so.
pub(crate) fn find_statement(scope: &str, jti: &str) -> Statement {
    Statement::new(
        "select jti from replays where scope = $1 and jti = $2",
        params![scope, jti],
    )
}

/// Forgets what can no longer come again.
pub(crate) fn sweep_statement(now: Timestamp) -> Statement {
    Statement::new("delete from replays where expires_at < $1", params![now])
}
