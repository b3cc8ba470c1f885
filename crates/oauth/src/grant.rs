//! Grant types and token types, to the letter.

/// RFC 6749 §4.1.3.
pub const AUTHORIZATION_CODE: &str = "authorization_code";
/// RFC 6749 §6.
pub const REFRESH_TOKEN: &str = "refresh_token";
/// RFC 6749 §4.4.
pub const CLIENT_CREDENTIALS: &str = "client_credentials";
/// RFC 8693 §2.1.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Auth0's Token Vault grant (contract 0).
pub const TOKEN_VAULT: &str =
    "urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token";

/// Every grant type that a client may be given.
pub const ALL: [&str; 5] = [
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
    TOKEN_VAULT,
];

/// RFC 8693 §3.
pub const TOKEN_TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// RFC 8693 §3.
pub const TOKEN_TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// RFC 8693 §3.
pub const TOKEN_TYPE_REFRESH_TOKEN: &str = "urn:ietf:params:oauth:token-type:refresh_token";
/// What Auth0's refresh and access token exchange asks for (contract 0).
pub const TOKEN_TYPE_FEDERATED_CONNECTION: &str =
    "http://auth0.com/oauth/token-type/federated-connection-access-token";
/// What Auth0's privileged worker exchange asks for (contract 0).
pub const TOKEN_TYPE_TOKEN_VAULT: &str =
    "http://auth0.com/oauth/token-type/token-vault-access-token";

/// RFC 7523 §2.2.
pub const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How a client that knows only RFC 8693 names a connection, as `audience` or `resource`.
pub const CONNECTION_URN: &str = "urn:tokenvault:connection:";
