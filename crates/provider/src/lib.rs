//! Outbound: the providers, described as data, and the one guarded client that speaks to them.
//!
//! A strategy is a TOML file in `providers/` ([`Profile`]); a connection adds its own client id, secret and options
//! ([`ConnectionSettings`]). [`ProviderClient`] builds authorization URLs, redeems codes, refreshes and revokes tokens,
//! and finds out who an account is. Every call goes through one guard: https, public addresses, no redirects, bounded
//! bodies, one deadline. What goes wrong comes back as one of seven [`FailureKind`]s; what the provider wrote does not.

mod client;
mod discovery;
mod failure;
mod guard;
mod identity;
mod profile;
mod settings;
mod token_answer;

pub use client::{AuthorizationRequest, IssuerPolicy, ProviderClient};
pub use failure::{Failure, FailureKind};
pub use guard::{InvalidPolicy, OutboundPolicy};
pub use identity::Identity;
pub use profile::{ClientAuthentication, Profile, profile, strategies};
pub use settings::{ConnectionOptions, ConnectionSettings, SettingsError};
pub use token_answer::TokenAnswer;
