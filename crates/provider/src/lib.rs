//! Outbound: the providers, described as data, and the one guarded client that speaks to them.
//!
//! A strategy is a TOML file in `providers/` or in the deployment's own folder ([`Profile`], [`Catalogue`]); a connection adds its own client id, secret and options
//! ([`ConnectionSettings`]). [`ProviderClient`] builds authorization URLs, redeems codes, refreshes and revokes tokens,
//! and finds out who an account is. Every call goes through one guard: https, public addresses, no redirects, bounded
//! bodies, one deadline. What goes wrong comes back as one of eight [`FailureKind`]s; what the provider wrote does not.

mod catalogue;
mod client;
mod client_assertion;
mod discovery;
mod endpoints;
mod failure;
mod guard;
mod identity;
mod profile;
mod settings;
mod template;
mod token_answer;
mod wire;

pub use catalogue::{Catalogue, CatalogueError};
pub use client::{
    AuthorizationRequest, Callback, CodeGrant, IssuerPolicy, ProviderClient, RefreshGrant,
    RevokedTokens,
};
pub use failure::{Failure, FailureKind};
pub use guard::{InvalidPolicy, LookingUp, OutboundPolicy, Resolver};
pub use identity::Identity;
pub use profile::{
    BodyFormat, ClientAuthentication, Downscope, ErrorClass, InvalidProfile, Profile, Refresh,
    RefreshClass, RevokedToken, Variable, VariableKind, VariableSource,
};
pub use settings::{ConnectionOptions, ConnectionSettings, SettingsError};
pub use token_answer::{FurtherAnswer, TokenAnswer, is_scope, is_token};
