//! Lines on their way to a file or a pipe, written by a thread of its own.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long the first line of a write waits for others.
const GATHERING: Duration = Duration::from_millis(5);
/// So many bytes do not wait for more.
const ENOUGH: usize = 64 * 1024;
/// With so many bytes waiting, who logs waits too.
const MOST: usize = 1024 * 1024;

/// The log's thread. When this goes away, everything is written.
#[derive(Debug)]
pub struct Lines {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    pub(crate) fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || queue.write_to(&mut out)
        })?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    pub(crate) fn writer(&self) -> QueueWriter {
        QueueWriter(Arc::clone(&self.queue))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.queue.lock().is_over = true;
        self.queue.came.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something came that the thread should look at.
    came: Condvar,
    went: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    is_urgent: bool,
    is_over: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8], is_urgent: bool) {
        let mut waiting = self
            .went
            .wait_while(self.lock(), |waiting| {
                waiting.bytes.len() >= MOST && !waiting.is_over
            })
            .unwrap_or_else(PoisonError::into_inner);
        let before = waiting.bytes.len();
        waiting.bytes.extend_from_slice(line);
        waiting.is_urgent |= is_urgent;
        let is_enough = before < ENOUGH && waiting.bytes.len() >= ENOUGH;
        drop(waiting);
        if before == 0 || is_urgent || is_enough {
            self.came.notify_one();
        }
    }

    fn write_to(&self, out: &mut impl Write) {
        let mut bytes = Vec::new();
        loop {
            let waiting = self
                .came
                .wait_while(self.lock(), |waiting| {
                    waiting.bytes.is_empty() && !waiting.is_over
                })
                .unwrap_or_else(PoisonError::into_inner);
            let (mut waiting, _) = self
                .came
                .wait_timeout_while(waiting, GATHERING, |waiting| {
                    !waiting.is_urgent && !waiting.is_over && waiting.bytes.len() < ENOUGH
                })
                .unwrap_or_else(PoisonError::into_inner);
            if waiting.bytes.is_empty() {
                return;
            }
            mem::swap(&mut bytes, &mut waiting.bytes);
            waiting.is_urgent = false;
            drop(waiting);
            self.went.notify_all();
            // Where the log cannot be written there is nowhere to say so.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            bytes.clear();
        }
    }
}

/// Where a subscriber writes.
pub(crate) struct QueueWriter(Arc<Queue>);

/// One event's way in.
pub(crate) struct Entry<'a> {
    queue: &'a Queue,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for QueueWriter {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry {
            queue: &self.0,
            is_urgent: false,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Entry<'a> {
        Entry {
            queue: &self.0,
            is_urgent: *meta.level() <= Level::WARN,
        }
    }
}

impl Write for Entry<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.add(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use tracing::subscriber::with_default;

    use super::*;

    /// Tells each write.
    struct Told(Sender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told() -> (Lines, Receiver<String>) {
        let (sender, told) = mpsc::channel();
        (Lines::start(Told(sender)).unwrap(), told)
    }

    #[test]
    fn all_lines_come_in_order_in_few_writes_and_the_last_ones_at_the_end() {
        let (lines, told) = told();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        let writer = lines.writer();
        for number in 0..1000 {
            writeln!(writer.make_writer(), "{number}").unwrap();
        }
        drop(lines);
        let writes: Vec<String> = told.iter().collect();
        assert_eq!(writes.concat(), expected);
        assert!(writes.len() < 500, "{} writes", writes.len());
    }

    #[test]
    fn who_logs_waits_for_a_writer_that_is_slower() {
        let (sender, told) = mpsc::sync_channel(0);
        struct Slow(mpsc::SyncSender<usize>);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.len()).map_err(io::Error::other)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start(Slow(sender)).unwrap();
        let writer = lines.writer();
        let line = vec![b'x'; 1024];
        let all = 4 * MOST;
        let talker = std::thread::spawn(move || {
            for _ in 0..all / line.len() {
                writer.make_writer().write_all(&line).unwrap();
            }
            drop(lines);
        });
        let writes: Vec<usize> = told.iter().collect();
        talker.join().unwrap();
        assert_eq!(writes.iter().sum::<usize>(), all);
        assert!(writes.iter().all(|bytes| *bytes <= MOST), "{writes:?}");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nobody() {
        let (lines, told) = told();
        drop(told);
        let writer = lines.writer();
        let line = vec![b'x'; ENOUGH];
        for _ in 0..100 {
            writer.make_writer().write_all(&line).unwrap();
        }
    }

    #[test]
    fn a_warning_is_there_while_the_log_goes_on() {
        let (lines, told) = told();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.writer())
            .event_format(crate::line::Line)
            .finish();
        with_default(subscriber, || {
            tracing::info!("before");
            tracing::warn!("now");
        });
        let mut said = String::new();
        while !said.ends_with("now\n") {
            said += &told.recv().unwrap();
        }
        assert!(said.contains(" INFO before\n"), "{said}");
    }
}
