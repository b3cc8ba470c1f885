//! The wire: what OAuth 2.0 and OpenID Connect requests look like, parsed once and within bounds.
//!
//! Nothing here does I/O or reads a clock; nothing here knows which clients, users or tokens exist. What comes out of a
//! parser is well-formed; whether it is allowed is the vault's to say. Every refusal has a standard's code, a sentence
//! that may be shown to the caller, and a stable private reason.

pub mod authorize_request;
pub mod client_authentication;
pub mod grant;
pub mod json;
pub mod metadata;
pub mod opaque;
pub mod params;
pub mod pkce;
pub mod redirect_uri;
pub mod refusal;
pub mod scope;
pub mod token_request;
pub mod token_response;
