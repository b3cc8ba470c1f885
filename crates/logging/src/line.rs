//! An event as a line of text, as `tracing_subscriber`'s compact form without colours, targets and spans: that one costs
//! three times as much, because it paints every word in no colour. A control character never gets into the log, so that
//! a value cannot end its line or speak to a terminal.

use std::cell::RefCell;
use std::fmt::{self, Debug, Write};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The form.
pub(crate) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        #[expect(
            clippy::disallowed_methods,
            reason = "a line says when it was written, and nothing is decided by it"
        )]
        let now = SystemTime::now();
        write_time(&mut writer, now)?;
        let level = *event.metadata().level();
        writer.write_str(match level {
            Level::ERROR => " ERROR",
            Level::WARN => "  WARN",
            Level::INFO => "  INFO",
            Level::DEBUG => " DEBUG",
            Level::TRACE => " TRACE",
        })?;
        let mut fields = Fields {
            out: Plain(writer),
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        fields.out.0.write_char('\n')
    }
}

/// The instant in UTC, with microseconds. What it says of the second is written once a second.
fn write_time(out: &mut impl Write, now: SystemTime) -> fmt::Result {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    // Before 1970 there is nothing to log.
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            let whole = i64::try_from(*second).unwrap_or(i64::MAX);
            let whole = Timestamp::from_second(whole).unwrap_or(Timestamp::MAX);
            text.clear();
            write!(text, "{whole}")?;
        }
        out.write_str(text.trim_end_matches('Z'))
    })?;
    let mut digits = *b".000000Z";
    let mut rest = since.subsec_micros();
    for digit in digits.iter_mut().skip(1).take(6).rev() {
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    out.write_str(str::from_utf8(&digits).unwrap_or_default())
}

/// Writes fields as they come; the message comes first.
struct Fields<'a> {
    out: Plain<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut Plain<'_>) -> fmt::Result) {
        let name = field.name();
        self.result = self.result.and_then(|()| {
            let out = &mut self.out.0;
            out.write_char(' ')?;
            if name != "message" {
                out.write_str(name)?;
                out.write_char('=')?;
            }
            value(&mut self.out)
        });
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |out| match field.name() {
            "message" => out.write_str(value),
            _ if value.bytes().all(needs_no_escape) => {
                out.0.write_char('"')?;
                out.0.write_str(value)?;
                out.0.write_char('"')
            }
            _ => write!(out, "{value:?}"),
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |out| write!(out.0, "{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, |out| {
            write!(out, "{value}")?;
            let mut source = value.source();
            while let Some(cause) = source {
                write!(out, ": {cause}")?;
                source = cause.source();
            }
            Ok(())
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |out| write!(out, "{value:?}"));
    }
}

/// Whether the debug form shows a byte as it is.
fn needs_no_escape(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// Lets no control character through.
struct Plain<'a>(Writer<'a>);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        for char in text.chars() {
            if char.is_control() {
                write!(self.0, "{}", char.escape_default())?;
            } else {
                self.0.write_char(char)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[test]
    fn the_time_has_microseconds() {
        let at = |since: Duration| {
            let mut text = String::new();
            write_time(&mut text, SystemTime::UNIX_EPOCH + since).unwrap();
            text
        };
        let second = Duration::from_secs(1_767_323_045);
        assert_eq!(at(second), "2026-01-02T03:04:05.000000Z");
        let within = second + Duration::from_nanos(20_300_999);
        assert_eq!(at(within), "2026-01-02T03:04:05.020300Z");
        let later = second + Duration::from_micros(1_999_999);
        assert_eq!(at(later), "2026-01-02T03:04:06.999999Z");
        assert_eq!(at(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Kept {
        /// Without the times, which differ.
        fn said(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines = text.lines().map(|line| line.split_once(' ').unwrap());
            lines
                .map(|(time, rest)| {
                    assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
                    rest.to_owned()
                })
                .collect()
        }
    }

    fn ours(say: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(kept.clone())
            .event_format(Line)
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        kept.said()
    }

    fn compact(say: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(kept.clone())
            .with_ansi(false)
            .with_target(false)
            .compact()
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        kept.said()
    }

    #[test]
    fn a_line_is_what_the_librarys_compact_form_says() {
        let say = || {
            tracing::info!(
                http.method = %"POST",
                http.path = "/oauth/token",
                http.status = 200_u16,
                duration_ms = 3_u64,
                balance = -4_i64,
                share = 0.5,
                is_it = true,
                client.id = Some("cli_1"),
                client.address = None::<u64>,
                "request"
            );
            tracing::warn!(error = ?Some("no \"way\""), "a refresh failed: {}", "really");
            tracing::error!(text = "with \\ and \" and é");
            tracing::debug!("just words");
            tracing::trace!(number = 1);
        };
        assert_eq!(ours(say), compact(say));
        assert_eq!(ours(say).len(), 5);
    }

    #[test]
    fn what_a_value_says_stays_within_its_line_and_does_nothing_to_a_terminal() {
        let say = || {
            tracing::info!(
                shown = %"two\nlines \u{1b}[31m",
                text = "two\nlines",
                debug = ?"two\nlines",
                "and \u{9b} a message\r\n"
            );
        };
        assert_eq!(
            ours(say),
            [
                r#" INFO and \u{9b} a message\r\n shown=two\nlines \u{1b}[31m text="two\nlines" debug="two\nlines""#
            ]
        );
    }

    #[test]
    fn an_error_comes_with_its_causes() {
        let cause = io::Error::other("the disk is full");
        let error = io::Error::other(Wrapped(cause));
        let error: &(dyn std::error::Error + 'static) = &error;
        assert_eq!(
            ours(|| tracing::error!(error, "gone")),
            ["ERROR gone error=cannot write: the disk is full"]
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write")]
    struct Wrapped(#[source] io::Error);
}
