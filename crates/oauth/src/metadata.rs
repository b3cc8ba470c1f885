//! The metadata document (OpenID Connect Discovery 1.0 §3, RFC 8414 §2): only what is built.

use serde_json::{Value, json};

use crate::grant;

/// The document of an issuer. `issuer` ends with its slash; `algorithms` are those that it signs with, and the
/// `assertion_algorithms` those that it accepts of clients.
pub fn document(issuer: &str, algorithms: &[&str], assertion_algorithms: &[&str]) -> Value {
    let at = |path: &str| format!("{issuer}{path}");
    let client_authentication = [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ];
    json!({
        "issuer": issuer,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("oauth/token"),
        "jwks_uri": at(".well-known/jwks.json"),
        "userinfo_endpoint": at("userinfo"),
        "pushed_authorization_request_endpoint": at("oauth/par"),
        "revocation_endpoint": at("oauth/revoke"),
        "end_session_endpoint": at("oidc/logout"),
        "authorization_response_iss_parameter_supported": true,
        "claims_supported": [
            "aud", "auth_time", "email", "email_verified", "exp", "iat", "iss", "name", "nonce",
            "preferred_username", "sid", "sub", "updated_at",
        ],
        "code_challenge_methods_supported": ["S256"],
        "grant_types_supported": grant::ALL,
        "id_token_signing_alg_values_supported": algorithms,
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "response_modes_supported": ["query", "form_post"],
        "response_types_supported": ["code"],
        "revocation_endpoint_auth_methods_supported": client_authentication,
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": client_authentication,
        "token_endpoint_auth_signing_alg_values_supported": assertion_algorithms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_lies_under_the_issuer() {
        let document = document("https://vault.example/", &["RS256"], &["ES256"]);
        assert_eq!(document["issuer"], "https://vault.example/");
        for (name, value) in document.as_object().unwrap() {
            if name.ends_with("_endpoint") || name == "jwks_uri" {
                let address = value.as_str().unwrap();
                assert!(address.starts_with("https://vault.example/"), "{name}");
                assert!(!address.contains("//."), "{name}");
            }
        }
    }
}
