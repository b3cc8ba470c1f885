//! What this issuer says of itself.

use serde_json::Value;

use crate::{Vault, flow, signing_key};

impl Vault {
    /// The metadata document (RFC 8414, OpenID Connect Discovery 1.0).
    pub fn discovery(&self) -> Value {
        let names = |algorithms: &[seal::Algorithm]| -> Vec<&'static str> {
            algorithms
                .iter()
                .map(|algorithm| algorithm.as_str())
                .collect()
        };
        oauth::metadata::document(
            self.settings.issuer.as_str(),
            &names(&signing_key::ALGORITHMS),
            &names(&flow::authenticate_client::ALGORITHMS),
        )
    }
}
