//! The body of `POST /oauth/token`, one variant a grant.

use crate::grant;
use crate::opaque::Opaque;
use crate::params::Params;
use crate::pkce::CodeVerifier;
use crate::refusal::{Code, Refusal};
use crate::scope::Scope;

/// The longest token, code or assertion, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;
/// The longest `min_ttl`, in seconds: a day.
const LONGEST_MIN_TTL: u64 = 24 * 3600;

/// A well-formed token request.
#[derive(Debug)]
pub enum TokenRequest {
    /// RFC 6749 §4.1.3.
    AuthorizationCode {
        /// The code.
        code: Opaque,
        /// The redirect URI of the authorization request.
        redirect_uri: Option<String>,
        /// PKCE.
        code_verifier: Option<CodeVerifier>,
    },
    /// RFC 6749 §4.4.
    ClientCredentials {
        /// The API that the token is for.
        audience: Option<String>,
        /// What is asked for; everything that is granted when absent.
        scope: Option<Scope>,
    },
    /// RFC 6749 §6, with an audience for a refresh token that is good for several APIs (contract 2.2).
    RefreshToken {
        /// The refresh token.
        refresh_token: Opaque,
        /// The API that the token is for; the first one when absent.
        audience: Option<String>,
        /// What is asked for; everything that is granted when absent.
        scope: Option<Scope>,
    },
    /// A subject token for a provider's token.
    VaultExchange(VaultExchange),
}

/// Which spelling of the exchange was used; it decides how refusals are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Auth0's Token Vault grant.
    Auth0,
    /// The standard grant.
    Rfc8693,
}

/// What kind of token is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectTokenType {
    /// An access token of this issuer.
    AccessToken,
    /// A refresh token of this issuer.
    RefreshToken,
    /// A JWT that a registered worker signed.
    WorkerJwt,
}

impl SubjectTokenType {
    /// The URN on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => grant::TOKEN_TYPE_ACCESS_TOKEN,
            Self::RefreshToken => grant::TOKEN_TYPE_REFRESH_TOKEN,
            Self::WorkerJwt => grant::TOKEN_TYPE_JWT,
        }
    }
}

/// What kind of token is asked for. All are the provider's access token; the answer repeats the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedTokenType {
    /// RFC 8693's name.
    AccessToken,
    /// Auth0's name in the refresh and access token exchange.
    FederatedConnection,
    /// Auth0's name in the worker exchange.
    TokenVault,
}

impl RequestedTokenType {
    /// The URN on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => grant::TOKEN_TYPE_ACCESS_TOKEN,
            Self::FederatedConnection => grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            Self::TokenVault => grant::TOKEN_TYPE_TOKEN_VAULT,
        }
    }
}

/// An exchange, in either spelling.
#[derive(Debug)]
pub struct VaultExchange {
    /// The spelling.
    pub dialect: Dialect,
    /// The token that says for whom.
    pub subject_token: Opaque,
    /// Its kind.
    pub subject_token_type: SubjectTokenType,
    /// What the answer calls the token.
    pub requested_token_type: RequestedTokenType,
    /// The connection's name.
    pub connection: String,
    /// Picks one of several accounts: the id at the provider, an e-mail address or a login.
    pub login_hint: Option<String>,
    /// The scopes that the token has to have.
    pub scope: Option<Scope>,
    /// Seconds of life that the token has to have left; it is refreshed first if it has less.
    pub min_ttl: Option<u64>,
}

/// Reads the body. Unknown parameters are ignored, empty ones absent.
pub fn parse(params: &Params) -> Result<TokenRequest, Refusal> {
    match params.require("grant_type")? {
        grant::AUTHORIZATION_CODE => Ok(TokenRequest::AuthorizationCode {
            code: token(params, "code")?,
            redirect_uri: params.bounded("redirect_uri", 2048)?.map(str::to_owned),
            code_verifier: params
                .get("code_verifier")
                .map(CodeVerifier::parse)
                .transpose()?,
        }),
        grant::CLIENT_CREDENTIALS => Ok(TokenRequest::ClientCredentials {
            audience: audience(params)?,
            scope: scope(params)?,
        }),
        grant::REFRESH_TOKEN => Ok(TokenRequest::RefreshToken {
            refresh_token: token(params, "refresh_token")?,
            audience: audience(params)?,
            scope: scope(params)?,
        }),
        grant::TOKEN_VAULT => exchange(params, Dialect::Auth0).map(TokenRequest::VaultExchange),
        grant::TOKEN_EXCHANGE => {
            exchange(params, Dialect::Rfc8693).map(TokenRequest::VaultExchange)
        }
        _ => Err(Refusal::new(
            Code::UnsupportedGrantType,
            "grant_type_unknown",
            "This grant_type does not exist here.",
        )),
    }
}

fn exchange(params: &Params, dialect: Dialect) -> Result<VaultExchange, Refusal> {
    let subject_token = token(params, "subject_token")?;
    let subject_token_type = match params.require("subject_token_type")? {
        grant::TOKEN_TYPE_ACCESS_TOKEN => SubjectTokenType::AccessToken,
        grant::TOKEN_TYPE_REFRESH_TOKEN => SubjectTokenType::RefreshToken,
        grant::TOKEN_TYPE_JWT => SubjectTokenType::WorkerJwt,
        _ => {
            return Err(Refusal::invalid_request(
                "subject_token_type_unknown",
                "subject_token_type has to be the URN of an access token, a refresh token or a JWT.",
            ));
        }
    };
    // Delegation by a second token is not built; ignoring it would act for the wrong party (RFC 8693 §2.1).
    if params.get("actor_token").is_some() || params.get("actor_token_type").is_some() {
        return Err(Refusal::invalid_request(
            "actor_token_given",
            "actor_token is not supported.",
        ));
    }
    let requested_token_type = match (params.get("requested_token_type"), dialect) {
        (Some(grant::TOKEN_TYPE_FEDERATED_CONNECTION), _) => {
            RequestedTokenType::FederatedConnection
        }
        (Some(grant::TOKEN_TYPE_TOKEN_VAULT), _) => RequestedTokenType::TokenVault,
        (Some(grant::TOKEN_TYPE_ACCESS_TOKEN) | None, Dialect::Rfc8693) => {
            RequestedTokenType::AccessToken
        }
        (None, Dialect::Auth0) => {
            return Err(Refusal::invalid_request(
                "requested_token_type_missing",
                "The parameter requested_token_type is missing.",
            ));
        }
        (Some(_), _) => {
            return Err(Refusal::invalid_request(
                "requested_token_type_unknown",
                "requested_token_type is not a kind of token that this vault issues.",
            ));
        }
    };
    Ok(VaultExchange {
        dialect,
        subject_token,
        subject_token_type,
        requested_token_type,
        connection: connection(params, dialect)?,
        login_hint: params.bounded("login_hint", 320)?.map(str::to_owned),
        scope: scope(params)?,
        min_ttl: min_ttl(params)?,
    })
}

/// `connection`; in the standard spelling also `audience` or `resource` as `urn:tokenvault:connection:NAME`.
fn connection(params: &Params, dialect: Dialect) -> Result<String, Refusal> {
    let mut named = params.bounded("connection", 128)?;
    if dialect == Dialect::Rfc8693 {
        for parameter in ["audience", "resource"] {
            let Some(value) = params.bounded(parameter, 256)? else {
                continue;
            };
            let target = value.strip_prefix(grant::CONNECTION_URN).ok_or_else(|| {
                Refusal::new(
                    Code::InvalidTarget,
                    "target_not_a_connection",
                    "audience and resource have to be urn:tokenvault:connection: and the name of a connection.",
                )
            })?;
            if named.is_some_and(|named| named != target) {
                return Err(Refusal::new(
                    Code::InvalidTarget,
                    "several_targets",
                    "Several connections are named. Ask for one at a time.",
                ));
            }
            named = Some(target);
        }
    }
    match named {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Refusal::invalid_request(
            "connection_missing",
            "The parameter connection is missing.",
        )),
    }
}

fn min_ttl(params: &Params) -> Result<Option<u64>, Refusal> {
    params
        .get("min_ttl")
        .map(|text| match text.parse::<u64>() {
            Ok(seconds) if seconds <= LONGEST_MIN_TTL && !text.starts_with('+') => Ok(seconds),
            _ => Err(Refusal::invalid_request(
                "min_ttl_malformed",
                "min_ttl has to be a whole number of seconds from 0 to 86400.",
            )),
        })
        .transpose()
}

fn token(params: &Params, name: &'static str) -> Result<Opaque, Refusal> {
    let text = params.require(name)?;
    if text.len() > LONGEST_TOKEN {
        return Err(Refusal::invalid_request(
            "token_too_long",
            format!("The parameter {name} is longer than 16 KiB."),
        ));
    }
    Ok(Opaque::new(text.to_owned()))
}

fn audience(params: &Params) -> Result<Option<String>, Refusal> {
    let audience = params.bounded("audience", 512)?;
    // RFC 8707 §2 has the same meaning for a single value.
    let resource = params.bounded("resource", 512)?;
    match (audience, resource) {
        (Some(one), Some(other)) if one != other => Err(Refusal::new(
            Code::InvalidTarget,
            "several_targets",
            "audience and resource differ. Ask for one API at a time.",
        )),
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    }
}

fn scope(params: &Params) -> Result<Option<Scope>, Refusal> {
    params.get("scope").map(Scope::parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<TokenRequest, Refusal> {
        parse(&Params::from_query(form).unwrap())
    }

    fn exchange_form(grant: &str, change: &[(&str, &str)]) -> String {
        let mut fields = vec![
            ("grant_type", grant),
            ("subject_token", "tvr_x"),
            ("subject_token_type", grant::TOKEN_TYPE_REFRESH_TOKEN),
            (
                "requested_token_type",
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ),
            ("connection", "github"),
        ];
        for (name, value) in change {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish()
    }

    fn read_exchange(grant: &str, change: &[(&str, &str)]) -> Result<VaultExchange, Refusal> {
        match read(&exchange_form(grant, change))? {
            TokenRequest::VaultExchange(exchange) => Ok(exchange),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tk_10_grant_types() {
        for (form, code) in [
            ("", Code::InvalidRequest),
            ("grant_type=", Code::InvalidRequest),
            ("grant_type=password", Code::UnsupportedGrantType),
            ("grant_type=urn:x", Code::UnsupportedGrantType),
            ("grant_type=authorization_code", Code::InvalidRequest),
            ("grant_type=refresh_token", Code::InvalidRequest),
        ] {
            assert_eq!(read(form).unwrap_err().code, code, "{form}");
        }
        assert!(matches!(
            read("grant_type=client_credentials&audience="),
            Ok(TokenRequest::ClientCredentials { audience: None, .. })
        ));
    }

    #[test]
    fn the_auth0_spelling() {
        let exchange = read_exchange(
            grant::TOKEN_VAULT,
            &[
                ("login_hint", "bob@x.example"),
                ("scope", "a b"),
                ("min_ttl", "60"),
                ("audience", ""),
            ],
        )
        .unwrap();
        assert_eq!(exchange.dialect, Dialect::Auth0);
        assert_eq!(exchange.connection, "github");
        assert_eq!(exchange.login_hint.as_deref(), Some("bob@x.example"));
        assert_eq!(exchange.min_ttl, Some(60));
        assert_eq!(
            exchange.requested_token_type.as_str(),
            grant::TOKEN_TYPE_FEDERATED_CONNECTION
        );
    }

    #[test]
    fn the_standard_spelling_names_a_connection_as_its_target() {
        for change in [
            &[
                ("connection", ""),
                ("audience", "urn:tokenvault:connection:github"),
                ("requested_token_type", ""),
            ][..],
            &[
                ("connection", ""),
                ("resource", "urn:tokenvault:connection:github"),
                ("requested_token_type", grant::TOKEN_TYPE_ACCESS_TOKEN),
            ],
            &[
                ("audience", "urn:tokenvault:connection:github"),
                ("requested_token_type", ""),
            ],
        ] {
            let exchange = read_exchange(grant::TOKEN_EXCHANGE, change).unwrap();
            assert_eq!(exchange.connection, "github");
            assert_eq!(
                exchange.requested_token_type.as_str(),
                grant::TOKEN_TYPE_ACCESS_TOKEN
            );
        }
        for change in [
            &[("audience", "https://api.example/")][..],
            &[("audience", "urn:tokenvault:connection:slack")],
        ] {
            let refused = read_exchange(grant::TOKEN_EXCHANGE, change).unwrap_err();
            assert_eq!(refused.code, Code::InvalidTarget);
        }
    }

    #[test]
    fn ex_10_ex_22_ex_23_kinds_of_tokens() {
        for grant in [grant::TOKEN_VAULT, grant::TOKEN_EXCHANGE] {
            for change in [
                ("subject_token_type", ""),
                (
                    "subject_token_type",
                    "urn:ietf:params:oauth:token-type:saml2",
                ),
                (
                    "subject_token_type",
                    "urn:ietf:params:oauth:token-type:id_token",
                ),
                ("subject_token", ""),
                ("requested_token_type", grant::TOKEN_TYPE_REFRESH_TOKEN),
                ("requested_token_type", "urn:x"),
                ("actor_token", "x"),
                ("actor_token_type", grant::TOKEN_TYPE_JWT),
                ("connection", ""),
            ] {
                let refused = read_exchange(grant, &[change]).unwrap_err();
                assert_eq!(refused.code, Code::InvalidRequest, "{change:?}");
            }
        }
        assert!(read_exchange(grant::TOKEN_VAULT, &[("requested_token_type", "")]).is_err());
    }

    #[test]
    fn in_28_tk_58_numbers_at_their_edges() {
        for (text, expected) in [
            ("0", true),
            ("86400", true),
            ("86401", false),
            ("-1", false),
            ("+1", false),
            ("1.5", false),
            ("1e3", false),
            ("18446744073709551616", false),
        ] {
            assert_eq!(
                read_exchange(grant::TOKEN_VAULT, &[("min_ttl", text)]).is_ok(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_secret_prints() {
        let exchange = read_exchange(grant::TOKEN_VAULT, &[("subject_token", "s3cret")]).unwrap();
        assert!(!format!("{exchange:?}").contains("s3cret"));
        let code = read("grant_type=authorization_code&code=s3cret").unwrap();
        assert!(!format!("{code:?}").contains("s3cret"));
    }
}
