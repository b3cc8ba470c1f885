//! Lines of a file, one after the other: none is held that is longer than a line may be.

use std::io::{BufRead, Result};

use seal::SecretBytes;
use vault::MOST_LINE_BYTES;

/// A line that is not empty.
#[derive(Debug)]
pub(crate) struct RawLine {
    /// From 1; empty lines count.
    pub(crate) number: u64,
    /// Without its end; None where it is too long.
    pub(crate) bytes: Option<SecretBytes>,
}

/// What is read from.
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
    /// How many bytes were read.
    pub(crate) position: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            number: 0,
            position: 0,
        }
    }

    /// The next line that is not empty; None at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RawLine>> {
        loop {
            let mut held = Vec::new();
            let mut length = 0;
            let at_end = loop {
                let some = self.input.fill_buf()?;
                if some.is_empty() {
                    break true;
                }
                let end = some.iter().position(|byte| *byte == b'\n');
                let part = some.split_at(end.unwrap_or(some.len())).0;
                length += part.len();
                if length <= MOST_LINE_BYTES {
                    held.extend_from_slice(part);
                } else {
                    held = Vec::new();
                }
                let read = part.len() + usize::from(end.is_some());
                self.input.consume(read);
                self.position += read as u64;
                if end.is_some() {
                    break false;
                }
            };
            if at_end && length == 0 {
                return Ok(None);
            }
            self.number += 1;
            let is_too_long = length > MOST_LINE_BYTES;
            if is_too_long || !held.trim_ascii().is_empty() {
                return Ok(Some(RawLine {
                    number: self.number,
                    bytes: (!is_too_long).then(|| SecretBytes::new(held)),
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// The lines of a text by number, None for one that is too long.
    fn lines(text: &str, buffer: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, text.as_bytes()));
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            let bytes = line.bytes.map(|bytes| bytes.reveal().to_vec());
            found.push((
                line.number,
                bytes.map(|bytes| String::from_utf8(bytes).unwrap()),
            ));
        }
        assert_eq!(lines.position, text.len() as u64);
        found
    }

    #[test]
    fn lines_are_counted_and_bounded_whatever_the_buffer() {
        let longest = "x".repeat(MOST_LINE_BYTES);
        let text = format!("a\n\n  \r\nb\r\n{longest}\n{longest}y\nc");
        for buffer in [1, 7, 4096, 1024 * 1024] {
            assert_eq!(
                lines(&text, buffer),
                [
                    (1, Some("a".to_owned())),
                    (4, Some("b\r".to_owned())),
                    (5, Some(longest.clone())),
                    (6, None),
                    (7, Some("c".to_owned())),
                ],
                "{buffer}"
            );
        }
        assert_eq!(lines("", 16), []);
        assert_eq!(lines("\n\n", 16), []);
    }
}
