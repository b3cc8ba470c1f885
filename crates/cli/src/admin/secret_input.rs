//! Secrets come from a file, from standard input or from somebody who types them unseen; never from an argument, which
//! every user of the machine can see.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use seal::SecretString;

/// More than any secret, token or key has.
const MOST_BYTES: u64 = 64 * 1024;

/// The secret in a file, `-` being standard input; without one it is asked for.
pub(crate) fn secret(file: Option<&Path>, what: &str) -> Result<SecretString> {
    let text = match file {
        Some(path) => text_of(path)?,
        None if std::io::stdin().is_terminal() => rpassword::prompt_password(format!("{what}: "))?,
        None => bail!("{what}: name a file, or - for standard input"),
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("{what}: nothing was given");
    }
    Ok(SecretString::new(text.to_owned()))
}

/// The text in a file, `-` being standard input.
pub(crate) fn text_of(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MOST_BYTES)
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text))
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}
