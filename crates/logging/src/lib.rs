//! The log of a server: one line an event, many lines a write. It knows nothing of what is logged.

mod line;
mod lines;

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use line::Line;
pub use lines::Lines;

/// How an event looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object of JSON.
    Json,
    /// Text: time, level, message, and the fields as `name=value`.
    Text,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What may be said is [`EnvFilter`]'s: a level, or targets with levels.
    #[error("'{0}' is not a log level")]
    Level(String, #[source] ParseError),
    /// The writer's thread, or a log that was there before.
    #[error("the log cannot be started: {0}")]
    Start(String),
}

/// Logs to standard error from here on: at once and with colours where it is a terminal, else as [`start`] does.
///
/// # Errors
/// As [`start`].
pub fn start_on_stderr(level: &str, form: Form) -> Result<Option<Lines>, StartError> {
    if form == Form::Json || !io::IsTerminal::is_terminal(&io::stderr()) {
        return start(level, form, io::stderr()).map(Some);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(io::stderr)
        .with_target(false)
        .compact()
        .try_init()
        .map_err(|error| StartError::Start(error.to_string()))?;
    Ok(None)
}

/// Logs to `out` from here on. What comes within milliseconds is one write, by a thread of its own: a request does not
/// pay for a system call. Warnings and errors do not wait. The last lines are written when what is returned goes away;
/// a process that is killed loses those of its last milliseconds.
///
/// # Errors
/// [`StartError::Level`] for a level that cannot be read; [`StartError::Start`] where there is a log already.
pub fn start(
    level: &str,
    form: Form,
    out: impl Write + Send + 'static,
) -> Result<Lines, StartError> {
    let filter = filter(level)?;
    let lines = Lines::start(out).map_err(|error| StartError::Start(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(lines.writer());
    match form {
        Form::Json => builder.json().flatten_event(true).try_init(),
        Form::Text => builder.event_format(Line).try_init(),
    }
    .map_err(|error| StartError::Start(error.to_string()))?;
    Ok(lines)
}

fn filter(level: &str) -> Result<EnvFilter, StartError> {
    EnvFilter::try_new(level).map_err(|error| StartError::Level(level.to_owned(), error))
}
