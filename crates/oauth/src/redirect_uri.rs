//! Redirect URIs: what may be registered, what matches, and how an answer is appended (RFC 6749 §3.1.2, RFC 9700
//! §2.1, RFC 8252 §7).

use std::net::IpAddr;

use url::{Host, Url, form_urlencoded};

/// The longest redirect URI, in bytes (contract 2.5).
pub const MAX_LEN: usize = 2048;

/// What kind of program the client is, as far as redirects care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// Installed on the user's device: private-use schemes, and any port of a loopback address.
    Native,
    /// Everything else.
    Web,
}

/// Why a URI cannot be registered; a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidRedirectUri(pub &'static str);

/// A redirect URI as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredRedirectUri {
    text: String,
    kind: ClientKind,
}

impl RegisteredRedirectUri {
    /// Checks what a client may register: `https`, or `http` to this machine for development and native clients, or a
    /// private-use scheme (RFC 8252 §7.1) of a native client; no fragment, user name or wildcard.
    pub fn parse(text: &str, kind: ClientKind) -> Result<Self, InvalidRedirectUri> {
        let invalid = |why| Err(InvalidRedirectUri(why));
        if text.len() > MAX_LEN {
            return invalid("A redirect URI has at most 2048 bytes.");
        }
        if text.bytes().any(|byte| {
            !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'*' | b'"' | b'<' | b'>')
        }) {
            return invalid(
                "A redirect URI has only printable ASCII, no backslash and no wildcard.",
            );
        }
        let Ok(url) = Url::parse(text) else {
            return invalid("A redirect URI has to be an absolute URI.");
        };
        if url.fragment().is_some() {
            return invalid("A redirect URI has no fragment.");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("A redirect URI has no user name.");
        }
        match url.scheme() {
            "https" => {}
            "http" if is_this_machine(&url) => {}
            "http" => return invalid("A redirect URI uses https; http only leads to localhost."),
            scheme if kind == ClientKind::Native && scheme.contains('.') => {}
            _ => {
                return invalid(
                    "A redirect URI uses https, or of a native client a scheme with a dot in it.",
                );
            }
        }
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }

    /// The text as it was registered.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a requested URI is this one: byte for byte, except that the port of a native client's loopback address
    /// may be any (RFC 8252 §7.3).
    pub fn matches(&self, requested: &str) -> bool {
        if self.text == requested {
            return true;
        }
        if self.kind != ClientKind::Native {
            return false;
        }
        match (
            without_loopback_port(&self.text),
            without_loopback_port(requested),
        ) {
            (Some(registered), Some(requested)) => registered == requested,
            _ => false,
        }
    }
}

/// Appends an answer's parameters to the query. What the URI has of a query stays as it is, first (RFC 6749 §3.1.2).
pub fn append_params(uri: &str, params: &[(&str, &str)]) -> String {
    let added = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish();
    match uri.split_once('?') {
        None => format!("{uri}?{added}"),
        Some((_, "")) => format!("{uri}{added}"),
        Some(_) if uri.ends_with('&') => format!("{uri}{added}"),
        Some(_) => format!("{uri}&{added}"),
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The URI cut at its port: what comes before and after. None unless it is `http` to a literal loopback address.
fn without_loopback_port(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("http://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let host_end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at_checked(host_end)?;
    let address: IpAddr = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()?;
    let port_fits = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        }
    };
    (address.is_loopback() && port_fits).then_some((host, path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn au_07_what_may_be_registered() {
        use ClientKind::{Native, Web};
        for (text, kind, expected) in [
            ("https://app.example/cb", Web, true),
            ("https://app.example/cb?x=1", Web, true),
            ("http://localhost:3000/cb", Web, true),
            ("http://127.0.0.1/cb", Native, true),
            ("http://[::1]:8080/cb", Native, true),
            ("http://app.example/cb", Web, false),
            ("http://127.0.0.1.evil.com/cb", Web, false),
            ("com.example.app:/cb", Native, true),
            ("com.example.app:/cb", Web, false),
            ("myapp://cb", Native, false),
            ("javascript:alert(1)", Native, false),
            ("https://*.app.example/cb", Web, false),
            ("https://app.example/*", Web, false),
            ("https://app.example/cb#f", Web, false),
            ("https://app.example@evil.com", Web, false),
            ("https://evil.com\\@app.example", Web, false),
            ("https://app.example/c b", Web, false),
            ("/cb", Web, false),
            ("", Web, false),
        ] {
            assert_eq!(
                RegisteredRedirectUri::parse(text, kind).is_ok(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn au_04_05_a_match_is_byte_for_byte() {
        let registered =
            RegisteredRedirectUri::parse("https://app.example/cb", ClientKind::Web).unwrap();
        assert!(registered.matches("https://app.example/cb"));
        for requested in [
            "https://app.example@evil.com",
            "https://evil.com\\@app.example",
            "https://app.example/cb ",
            "https://app.example/\tcb",
            "https://app.example/cb\n",
            "HTTPS://app.example/cb",
            "https://App.example/cb",
            "https://app.example./cb",
            "https://app.example:443/cb",
            "https://app.example/cb/",
            "https://app.example/cb?x=1",
            "https://app.example/%63b",
            "",
        ] {
            assert!(!registered.matches(requested), "{requested}");
        }
    }

    #[test]
    fn au_08_only_a_native_clients_loopback_port_may_vary() {
        let native = |text| RegisteredRedirectUri::parse(text, ClientKind::Native).unwrap();
        let v4 = native("http://127.0.0.1/cb");
        let v6 = native("http://[::1]:1/cb");
        let name = native("http://localhost:3000/cb");
        let web = RegisteredRedirectUri::parse("http://127.0.0.1/cb", ClientKind::Web).unwrap();
        for (registered, requested, expected) in [
            (&v4, "http://127.0.0.1:51004/cb", true),
            (&v4, "http://127.0.0.1/cb", true),
            (&v6, "http://[::1]:51004/cb", true),
            (&v4, "http://127.0.0.1:0/cb", false),
            (&v4, "http://127.0.0.1:99999/cb", false),
            (&v4, "http://127.0.0.1:+80/cb", false),
            (&v4, "http://127.0.0.1:51004/other", false),
            (&v4, "http://127.0.0.2:51004/cb", false),
            (&v4, "http://localhost:51004/cb", false),
            (&v4, "http://127.1:51004/cb", false),
            (&v4, "http://0.0.0.0:51004/cb", false),
            (&v4, "http://127.0.0.1.evil.com/cb", false),
            (&v4, "http://127.0.0.1@evil.com/cb", false),
            (&v4, "https://127.0.0.1:51004/cb", false),
            (&name, "http://localhost:51004/cb", false),
            (&web, "http://127.0.0.1:51004/cb", false),
        ] {
            assert_eq!(registered.matches(requested), expected, "{requested}");
        }
    }

    #[test]
    fn au_22_an_answer_is_appended() {
        for (uri, expected) in [
            (
                "https://a.example/cb",
                "https://a.example/cb?code=1&iss=x%2F",
            ),
            (
                "https://a.example/cb?",
                "https://a.example/cb?code=1&iss=x%2F",
            ),
            (
                "https://a.example/cb?iss=evil",
                "https://a.example/cb?iss=evil&code=1&iss=x%2F",
            ),
            (
                "https://a.example/cb?a&",
                "https://a.example/cb?a&code=1&iss=x%2F",
            ),
        ] {
            assert_eq!(
                append_params(uri, &[("code", "1"), ("iss", "x/")]),
                expected
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_but_itself_matches_a_web_client(text in "[ -~]{0,60}") {
            let registered = RegisteredRedirectUri::parse("https://app.example/cb", ClientKind::Web).unwrap();
            prop_assert_eq!(registered.matches(&text), text == "https://app.example/cb");
        }
    }
}
