//! Finds secrets where they must not be: in the database, in the log, in an error's body.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Everything that this process logged, at every level. nextest gives every test a process of its own.
static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

/// What was used, and where it must not show.
#[derive(Debug, Default)]
pub(crate) struct Leaks {
    secrets: BTreeSet<String>,
    /// Bodies and headers of answers that said no.
    errors: Vec<u8>,
}

impl Leaks {
    /// Remembers a secret. What is shorter than eight characters would be found everywhere.
    pub(crate) fn secret(&mut self, text: &str) {
        if text.len() >= 8 {
            self.secrets.insert(text.to_owned());
        }
    }

    pub(crate) fn error(&mut self, body: &str) {
        self.errors.extend_from_slice(body.as_bytes());
        self.errors.push(b'\n');
    }

    /// Looks for every secret in every sink.
    pub(crate) fn check(&self, database: &[u8]) {
        let log = log().clone();
        for secret in &self.secrets {
            for (sink, bytes) in [
                ("the database", database),
                ("the log", log.as_slice()),
                ("an error's body", self.errors.as_slice()),
            ] {
                if let Some(at) = find(bytes, secret.as_bytes()) {
                    let start = at.saturating_sub(60);
                    let context = String::from_utf8_lossy(&bytes[start..at]).into_owned();
                    let shown: String = secret.chars().take(6).collect();
                    panic!(
                        "a secret ({shown}…, {} characters) is in {sink}, after: {context}",
                        secret.len()
                    );
                }
            }
        }
        assert!(
            !self.secrets.is_empty(),
            "a story without secrets checks nothing"
        );
    }
}

/// Catches the log from here on, every event of every crate.
pub(crate) fn catch_log() {
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(LogWriter)
        .try_init();
}

/// The last lines of the log, for a story that failed.
pub(crate) fn last_of_log() -> String {
    let text = String::from_utf8_lossy(&log()).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.contains(" WARN ") || line.contains("ERROR ") || line.contains(" INFO ")
        })
        .collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaks() -> Leaks {
        let mut leaks = Leaks::default();
        leaks.secret("s3cret-token");
        leaks
    }

    #[test]
    fn a_clean_story_passes() {
        leaks().check(b"nothing here, s3cret-toke neither");
    }

    #[test]
    #[should_panic(expected = "is in the database")]
    fn a_secret_in_the_database_is_found() {
        leaks().check(b"ss3cret-token");
    }

    #[test]
    #[should_panic(expected = "is in an error's body")]
    fn a_secret_in_an_error_is_found() {
        let mut leaks = leaks();
        leaks.error("{\"error\":\"bad s3cret-token\"}");
        leaks.check(b"");
    }

    #[test]
    #[should_panic(expected = "is in the log")]
    fn a_secret_in_the_log_is_found() {
        catch_log();
        tracing::trace!(token = "s3cret-token", "a careless line");
        leaks().check(b"");
    }

    #[test]
    #[should_panic(expected = "checks nothing")]
    fn a_story_without_secrets_is_no_check() {
        Leaks::default().check(b"");
    }
}
