//! How a client says who it is (RFC 6749 §2.3, RFC 7523 §2.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;

use crate::grant::CLIENT_ASSERTION_TYPE;
use crate::opaque::Opaque;
use crate::params::Params;
use crate::refusal::{Code, Refusal};

/// Where a secret was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `Authorization: Basic`.
    Basic,
    /// The body.
    Post,
}

/// What a request presents as its client, not yet believed.
#[derive(Debug)]
pub enum PresentedClient {
    /// A signed assertion; whose, it says itself.
    Assertion {
        /// The JWT.
        assertion: Opaque,
        /// The `client_id` beside it, which has to agree.
        client_id: Option<String>,
    },
    /// Only a name.
    None {
        /// The `client_id`.
        client_id: String,
    },
    /// A name and a secret.
    Secret {
        /// The `client_id`.
        client_id: String,
        /// The secret.
        secret: Opaque,
        /// Where it was.
        via: Via,
    },
    /// A secret without a name: one SDK leaves the name out when it presents a refresh token (contract 3.9).
    SecretWithoutId {
        /// The secret.
        secret: Opaque,
    },
}

/// The longest `client_id`, in bytes.
const LONGEST_CLIENT_ID: usize = 255;
/// The longest client secret, in bytes.
const LONGEST_SECRET: usize = 1024;

/// Reads the one way in which a request authenticates its client. Two ways at once are refused (RFC 6749 §2.3).
pub fn from_request(
    authorization: Option<&str>,
    params: &Params,
) -> Result<PresentedClient, Refusal> {
    let named = params.get("client_id");
    let basic = authorization.map(basic).transpose()?;
    let secret = params.get("client_secret");
    let assertion = params.get("client_assertion");
    let ways = [basic.is_some(), secret.is_some(), assertion.is_some()];
    if ways.into_iter().filter(|used| *used).count() > 1 {
        return Err(Refusal::invalid_request(
            "several_client_authentications",
            "The client authenticates in more than one way. Use one.",
        ));
    }
    if assertion.is_some() != params.get("client_assertion_type").is_some()
        || params
            .get("client_assertion_type")
            .is_some_and(|named| named != CLIENT_ASSERTION_TYPE)
    {
        return Err(Refusal::invalid_request(
            "client_assertion_type_unknown",
            "client_assertion needs client_assertion_type urn:ietf:params:oauth:client-assertion-type:jwt-bearer.",
        ));
    }
    if named.is_some_and(|id| id.len() > LONGEST_CLIENT_ID)
        || secret.is_some_and(|secret| secret.len() > LONGEST_SECRET)
    {
        return Err(invalid_client("client_credentials_too_long"));
    }
    if let Some((client_id, secret)) = basic {
        if named.is_some_and(|named| named != client_id) {
            return Err(invalid_client("client_id_mismatch"));
        }
        return Ok(PresentedClient::Secret {
            client_id,
            secret,
            via: Via::Basic,
        });
    }
    match (assertion, secret, named) {
        (Some(assertion), _, named) => Ok(PresentedClient::Assertion {
            assertion: Opaque::new(assertion.to_owned()),
            client_id: named.map(str::to_owned),
        }),
        (None, Some(secret), Some(client_id)) => Ok(PresentedClient::Secret {
            client_id: client_id.to_owned(),
            secret: Opaque::new(secret.to_owned()),
            via: Via::Post,
        }),
        (None, Some(secret), None) => Ok(PresentedClient::SecretWithoutId {
            secret: Opaque::new(secret.to_owned()),
        }),
        (None, None, Some(client_id)) => Ok(PresentedClient::None {
            client_id: client_id.to_owned(),
        }),
        (None, None, None) => Err(Refusal::new(
            Code::InvalidClient,
            "client_authentication_missing",
            "The client did not say who it is. Send client_id and its authentication.",
        )),
    }
}

/// The id and secret of `Authorization: Basic`, each form-encoded (RFC 6749 §2.3.1).
fn basic(header: &str) -> Result<(String, Opaque), Refusal> {
    let malformed = || invalid_client("basic_malformed");
    let (scheme, credentials) = header.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > 4096 {
        return Err(malformed());
    }
    let decoded = STANDARD.decode(credentials).map_err(|_| malformed())?;
    let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
    let (id, secret) = decoded.split_once(':').ok_or_else(malformed)?;
    let id = form_decoded(id).ok_or_else(malformed)?;
    let secret = form_decoded(secret).ok_or_else(malformed)?;
    if id.is_empty() || id.len() > LONGEST_CLIENT_ID || secret.len() > LONGEST_SECRET {
        return Err(malformed());
    }
    Ok((id, Opaque::new(secret)))
}

/// None when a percent sign is not followed by two hexadecimal digits, or the bytes are not text.
fn form_decoded(text: &str) -> Option<String> {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    // As a value of a form, with the separators made harmless first.
    let value = text.replace('&', "%26");
    let (_, decoded) = form_urlencoded::parse(format!("v={value}").as_bytes())
        .into_owned()
        .next()?;
    (!decoded.contains(['\0', '\u{fffd}'])).then_some(decoded)
}

/// One sentence for everything that is wrong with a client's credentials.
fn invalid_client(reason: &'static str) -> Refusal {
    Refusal::new(Code::InvalidClient, reason, "Client authentication failed.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authorization: Option<&str>, form: &str) -> Result<PresentedClient, Refusal> {
        from_request(authorization, &Params::from_query(form).unwrap())
    }

    fn header(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn one_way_each() {
        let basic = header("id%3A1:s+e%26c&ret");
        match read(Some(&basic), "client_id=id%3A1").unwrap() {
            PresentedClient::Secret {
                client_id,
                secret,
                via: Via::Basic,
            } => {
                assert_eq!((client_id.as_str(), secret.reveal()), ("id:1", "s e&c&ret"));
            }
            other => panic!("{other:?}"),
        }
        match read(None, "client_id=a&client_secret=b").unwrap() {
            PresentedClient::Secret {
                client_id,
                secret,
                via: Via::Post,
            } => {
                assert_eq!((client_id.as_str(), secret.reveal()), ("a", "b"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read(None, "client_id=a").unwrap(),
            PresentedClient::None { .. }
        ));
        assert!(matches!(
            read(None, "client_secret=b").unwrap(),
            PresentedClient::SecretWithoutId { .. }
        ));
        let assertion = "client_assertion=x&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        assert!(matches!(
            read(None, assertion).unwrap(),
            PresentedClient::Assertion {
                client_id: None,
                ..
            }
        ));
    }

    #[test]
    fn tk_20_tk_22_basic_in_every_broken_form() {
        assert!(read(Some(&header("a:b").replace("Basic", "basic")), "").is_ok());
        let huge = header(&format!("a:{}", "x".repeat(10_000)));
        for authorization in [
            "Basic",
            "Basic !!!",
            "Basic YWJj",
            "Bearer abc",
            &header("a:%zz"),
            &header("a:%4"),
            &header("a:%00"),
            &header(":b"),
            &header("a:b").replace(' ', "  "),
            &format!("Basic {}", STANDARD.encode([0xff, b':', b'x'])),
            &huge,
        ] {
            let refused = read(Some(authorization), "").unwrap_err();
            assert_eq!(refused.code, Code::InvalidClient, "{authorization}");
        }
    }

    #[test]
    fn tk_35_and_several_ways_at_once() {
        for (authorization, form, code) in [
            (None, "client_assertion=x", Code::InvalidRequest),
            (
                None,
                "client_assertion=x&client_assertion_type=y",
                Code::InvalidRequest,
            ),
            (
                None,
                "client_id=a&client_assertion_type=y",
                Code::InvalidRequest,
            ),
            (Some(header("a:b")), "client_secret=b", Code::InvalidRequest),
            (Some(header("a:b")), "client_id=other", Code::InvalidClient),
            (None, "", Code::InvalidClient),
            (None, "grant_type=x", Code::InvalidClient),
        ] {
            assert_eq!(
                read(authorization.as_deref(), form).unwrap_err().code,
                code,
                "{form}"
            );
        }
    }
}
