//! The hidden field of a form: a MAC over browser and form, so that only a page of ours can have made it.

use seal::Purpose;

use crate::Vault;

impl Vault {
    /// The field's value for a form of a browser; 64 hexadecimal digits.
    pub fn form_token(&self, browser: &str, form: &str) -> String {
        self.ring
            .mac(
                Purpose::Cookie,
                "form",
                &[browser.as_bytes(), form.as_bytes()],
            )
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether a value is the one of this browser and form.
    pub fn form_token_matches(&self, browser: &str, form: &str, token: &str) -> bool {
        seal::constant_time_eq(self.form_token(browser, form).as_bytes(), token.as_bytes())
    }
}
