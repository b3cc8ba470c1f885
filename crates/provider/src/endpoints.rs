//! Where a connection's provider listens: from the connection's options, else the provider's metadata, else the profile.

use std::collections::BTreeMap;

use url::Url;

use crate::discovery::Metadata;
use crate::failure::{Failure, FailureKind};
use crate::profile::{ClientAuthentication, Profile};
use crate::settings::ConnectionSettings;
use crate::template::{self, Values};

/// The endpoints of a connection. Those of an account may hold more: its learned variables are filled in.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) authorization: String,
    pub(crate) token: String,
    /// Where the token of a code is exchanged for another.
    pub(crate) exchange: Option<String>,
    pub(crate) refresh: String,
    pub(crate) userinfo: Option<String>,
    /// Still a template: it may hold the token.
    pub(crate) revocation: Option<String>,
    pub(crate) introspection: Option<String>,
    pub(crate) jwks: Option<String>,
    /// Placeholders that are left stand for claims.
    pub(crate) issuer: Option<String>,
    pub(crate) authentication: ClientAuthentication,
    /// Whether the provider's answers carry `iss` (RFC 9207).
    pub(crate) iss_parameter_supported: bool,
}

impl Endpoints {
    pub(crate) fn resolve(
        settings: &ConnectionSettings,
        profile: &Profile,
        metadata: Option<&Metadata>,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let values: Values<'_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let options = &settings.options;
        let own = &profile.endpoints;
        let filled = |template: &Option<String>| match template {
            None => Ok(None),
            Some(text) => template::fill_url(text, &values)
                .map(Some)
                .ok_or_else(|| misconfigured("a variable of an endpoint is not known")),
        };
        let either = |option: &Option<String>,
                      known: Option<&String>,
                      template: &Option<String>|
         -> Result<Option<String>, Failure> {
            match option.as_ref().or(known) {
                Some(url) => Ok(Some(url.clone())),
                None => filled(template),
            }
        };
        let missing = || misconfigured("the connection has no such endpoint");
        let token = either(
            &options.token_endpoint,
            metadata.map(|known| &known.token_endpoint),
            &own.token,
        )?
        .ok_or_else(missing)?;
        Ok(Self {
            authorization: either(
                &options.authorization_endpoint,
                metadata.map(|known| &known.authorization_endpoint),
                &own.authorization,
            )?
            .ok_or_else(missing)?,
            refresh: match (&options.token_endpoint, &own.refresh) {
                (None, Some(_)) => filled(&own.refresh)?.ok_or_else(missing)?,
                _ => token.clone(),
            },
            token,
            exchange: filled(&own.exchange)?,
            userinfo: match &options.userinfo_endpoint {
                Some(url) => Some(url.clone()),
                None => match metadata.and_then(|known| known.userinfo_endpoint.clone()) {
                    Some(url) => Some(url),
                    // May hold `{access_token}`.
                    None => own.userinfo.as_ref().map(|text| fill_known(text, &values)),
                },
            },
            revocation: options
                .revocation_endpoint
                .clone()
                .or_else(|| metadata.and_then(|known| known.revocation_endpoint.clone()))
                .or_else(|| {
                    own.revocation
                        .as_ref()
                        .map(|text| fill_known(text, &values))
                }),
            introspection: filled(&own.introspection)?,
            jwks: either(
                &options.jwks_uri,
                metadata.and_then(|known| known.jwks_uri.as_ref()),
                &own.jwks,
            )?,
            issuer: issuer(settings, profile, variables),
            authentication: options
                .token_endpoint_auth_method
                .or_else(|| metadata.and_then(supported_authentication))
                .unwrap_or(profile.client_authentication),
            iss_parameter_supported: match metadata {
                Some(known) => known.authorization_response_iss_parameter_supported,
                None => profile.authorization.iss,
            },
        })
    }
}

/// The issuer that is configured; placeholders that are left stand for claims of the ID token.
pub(crate) fn issuer(
    settings: &ConnectionSettings,
    profile: &Profile,
    variables: &BTreeMap<String, String>,
) -> Option<String> {
    let values: Values<'_> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    settings.options.issuer.clone().or_else(|| {
        profile
            .endpoints
            .issuer
            .as_ref()
            .map(|text| fill_known(text, &values))
    })
}

/// Puts the values in that there are and leaves the other placeholders.
fn fill_known(text: &str, values: &Values<'_>) -> String {
    let names = template::placeholders(text).unwrap_or_default();
    let kept: Vec<(&str, String)> = names
        .into_iter()
        .filter(|name| !values.contains_key(name))
        .map(|name| (name, format!("{{{name}}}")))
        .collect();
    let mut all = values.clone();
    all.extend(kept.iter().map(|(name, text)| (*name, text.as_str())));
    template::fill(text, &all).unwrap_or_else(|| text.to_owned())
}

/// The first of our ways that the provider takes; Basic where it does not say (OpenID Connect Discovery 1.0 §3).
fn supported_authentication(metadata: &Metadata) -> Option<ClientAuthentication> {
    let supported = metadata.token_endpoint_auth_methods_supported.as_ref()?;
    [
        (
            "client_secret_basic",
            ClientAuthentication::ClientSecretBasic,
        ),
        ("client_secret_post", ClientAuthentication::ClientSecretPost),
    ]
    .into_iter()
    .find(|(name, _)| supported.iter().any(|known| known == name))
    .map(|(_, method)| method)
}

/// The URL that is really asked: the simulator's in place of the provider's, where the connection has one.
pub(crate) fn locate(settings: &ConnectionSettings, url: &str) -> Result<Url, Failure> {
    let url = Url::parse(url).map_err(|_| misconfigured("an endpoint is not a URL"))?;
    let Some(simulator) = &settings.options.simulator else {
        return Ok(url);
    };
    if url.as_str().starts_with(simulator.as_str()) {
        return Ok(url);
    }
    let host = url.host_str().unwrap_or_default();
    let query = url
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    Url::parse(&format!(
        "{}/{host}{}{query}",
        simulator.trim_end_matches('/'),
        url.path()
    ))
    .map_err(|_| misconfigured("the simulator's address is not a URL"))
}

pub(crate) fn misconfigured(detail: &'static str) -> Failure {
    Failure::new(FailureKind::ClientMisconfigured, detail)
}
