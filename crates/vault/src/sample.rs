//! Token sets of accounts that nobody connected, and audit rows of what nobody asked for: measurements and simulations
//! make them by the million and write them themselves. They are what the flows make.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use provider::TokenAnswer;
use seal::SecretString;
use store::Batch;

use crate::token_set::TokenSet;
use crate::{Caller, Error, Event, EventKind, Vault};

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

    /// So many audit rows, as exchanges leave them, as one batch. Writes nothing.
    pub fn sample_audit_rows(&self, count: usize) -> Batch {
        let caller = Caller {
            address: Some(Ipv4Addr::LOCALHOST.into()),
            request_id: seal::random_id(self.entropy.as_ref(), "req_").into(),
        };
        let id = |prefix| seal::random_id(self.entropy.as_ref(), prefix);
        let event = Event::succeeded(EventKind::Exchange)
            .client(id("cl_"))
            .user(id("usr_"))
            .connection("sample")
            .account(id("cac_"))
            .scopes("openid profile email offline_access files.read")
            .detail("subject_token_type", "refresh_token")
            .detail("is_privileged_worker", false)
            .detail("expires_in", 3600)
            .detail("generation", 1)
            .detail("token_thumbprint", seal::sha256_hex_thumbprint(b"sample"));
        (0..count)
            .map(|_| self.audit_statement(&event, &caller, self.now()))
            .fold(Batch::new(), Batch::with)
    }
}
