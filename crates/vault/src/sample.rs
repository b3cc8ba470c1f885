//! Token sets of accounts that nobody connected: measurements and simulations make accounts by the million and write the
//! rows themselves. What they seal is what a connect flow seals.

use jiff::Timestamp;
use provider::TokenAnswer;
use seal::SecretString;

use crate::token_set::TokenSet;
use crate::{Error, Vault};

/// What a provider would have given.
#[derive(Debug)]
pub struct SampleTokens {
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token.
    pub refresh_token: SecretString,
    /// When it would have given them.
    pub issued_at: Timestamp,
    /// Seconds that the access token lives.
    pub expires_in: u64,
}

impl Vault {
    /// Seals the tokens for the row of this account, as the set of its first generation. Writes nothing.
    ///
    /// # Errors
    /// Faults of the key ring.
    pub fn seal_sample(&self, account_id: &str, tokens: SampleTokens) -> Result<Vec<u8>, Error> {
        const FIRST: u64 = 1;
        let mut answer = TokenAnswer::of(tokens.access_token);
        answer.refresh_token = Some(tokens.refresh_token);
        answer.expires_in = Some(tokens.expires_in);
        TokenSet::of_grant(answer, tokens.issued_at).seal(self, account_id, FIRST)
    }
}
