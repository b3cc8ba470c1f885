//! A credential as it arrived: carried to whoever checks it, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// A token, code or secret of a request. It does not print and is wiped when dropped.
pub struct Opaque(Zeroizing<String>);

impl Opaque {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_name_only() {
        assert_eq!(
            format!("{:?}", Opaque::new("s3cret".to_owned())),
            "Opaque(…)"
        );
    }
}
