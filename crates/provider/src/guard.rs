//! Where this process may connect to. One rule for every outbound call: https to a public address on port 443, no
//! redirect, no proxy from the environment. Exceptions are named in the configuration, origin by origin or network by
//! network (threats 5.9).
//!
//! A name is resolved here and the connection goes to the addresses that were checked, so a name that changes its mind
//! between check and connection gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::failure::{Failure, FailureKind};

/// What is allowed beyond the rule.
#[derive(Debug, Clone)]
pub struct OutboundPolicy {
    /// Origins (`https://host:port`) that may be called at any address and, if they say so, by http.
    pub allowed_origins: Vec<String>,
    /// Private networks that names may lead to. Loopback and metadata addresses stay closed.
    pub allowed_networks: Vec<IpNet>,
    /// Certificate authorities to trust beside those of the system, each as PEM.
    pub extra_root_certificates_pem: Vec<String>,
    /// How long one call may take from its beginning to the end of the body.
    pub deadline: Duration,
    /// Where names are looked up whose addresses are checked. Default: the system.
    pub resolver: Arc<dyn Resolver>,
}

impl Default for OutboundPolicy {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allowed_networks: Vec::new(),
            extra_root_certificates_pem: Vec::new(),
            deadline: Duration::from_secs(10),
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// Looks names up. The guard checks every address that comes back and connects to no other.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The addresses of a name.
    fn look_up(&self, name: &str) -> LookingUp;
}

/// A look-up under way.
pub type LookingUp = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What this host knows: its files, its name servers.
#[derive(Debug)]
struct SystemResolver;

impl Resolver for SystemResolver {
    fn look_up(&self, name: &str) -> LookingUp {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPolicy {
    /// A PEM file that holds no certificate.
    #[error("an extra certificate authority is not a PEM certificate")]
    Certificate,
    /// The TLS library did not start.
    #[error("the TLS client cannot be set up: {0}")]
    Client(String),
    /// An allowed origin that is none.
    #[error("allowed origin '{0}' is not http(s)://HOST[:PORT]")]
    Origin(String),
}

/// The two ways out.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// Checks every address.
    strict: reqwest::Client,
    /// For allowed origins.
    open: reqwest::Client,
    allowed_origins: Arc<[String]>,
    allowed_networks: Arc<[IpNet]>,
}

impl Guard {
    pub(crate) fn new(policy: OutboundPolicy) -> Result<Self, InvalidPolicy> {
        // Whoever was first decides; every part of this program brings the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut allowed_origins = Vec::with_capacity(policy.allowed_origins.len());
        for text in policy.allowed_origins {
            match Url::parse(&text) {
                Ok(url)
                    if matches!(url.scheme(), "http" | "https")
                        && url.path() == "/"
                        && url.query().is_none() =>
                {
                    allowed_origins.push(url.origin().ascii_serialization());
                }
                _ => return Err(InvalidPolicy::Origin(text)),
            }
        }
        let mut roots = Vec::new();
        for pem in &policy.extra_root_certificates_pem {
            let bundle = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|_| InvalidPolicy::Certificate)?;
            if bundle.is_empty() {
                return Err(InvalidPolicy::Certificate);
            }
            roots.extend(bundle);
        }
        let networks: Arc<[IpNet]> = policy.allowed_networks.into();
        let builder = || builder(policy.deadline, &roots);
        let client = |built: reqwest::Result<reqwest::Client>| {
            built.map_err(|error| InvalidPolicy::Client(error.without_url().to_string()))
        };
        Ok(Self {
            strict: client(
                builder()
                    .dns_resolver(CheckingResolver {
                        resolver: policy.resolver,
                        allowed_networks: Arc::clone(&networks),
                    })
                    .build(),
            )?,
            open: client(builder().build())?,
            allowed_origins: allowed_origins.into(),
            allowed_networks: networks,
        })
    }

    /// The client that may call `url`, or the reason why none may.
    pub(crate) fn client_for(&self, url: &Url) -> Result<&reqwest::Client, Failure> {
        let refused = |detail| Err(Failure::new(FailureKind::Refused, detail));
        if !url.username().is_empty() || url.password().is_some() {
            return refused("the address has a user name");
        }
        let origin = url.origin().ascii_serialization();
        if self.allowed_origins.contains(&origin) {
            return Ok(&self.open);
        }
        if url.scheme() != "https" {
            return refused("the address is not https");
        }
        if url.port_or_known_default() != Some(443) {
            return refused("the address has a port other than 443, and its origin is not allowed");
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return refused("the address has no host"),
        };
        if literal.is_some_and(|address| !may_connect(address, &self.allowed_networks)) {
            return refused("the address is not public");
        }
        Ok(&self.strict)
    }
}

/// What both ways out have in common.
fn builder(deadline: Duration, roots: &[reqwest::Certificate]) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .timeout(deadline)
        .connect_timeout(deadline / 2)
        .pool_idle_timeout(Duration::from_secs(30))
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .user_agent(concat!("tokenvault/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(roots.iter().cloned())
}

/// A name led to an address that is not allowed.
#[derive(Debug)]
pub(crate) struct Blocked;

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name leads to an address that is not allowed")
    }
}

impl std::error::Error for Blocked {}

/// The most addresses of a name that are tried: a name server does not say how often we knock (threats F-48).
const MOST_ADDRESSES: usize = 8;

struct CheckingResolver {
    resolver: Arc<dyn Resolver>,
    allowed_networks: Arc<[IpNet]>,
}

impl Resolve for CheckingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.resolver.look_up(name.as_str());
        let allowed = Arc::clone(&self.allowed_networks);
        Box::pin(async move {
            let found = found.await?;
            // One private address among public ones is an attack or a mistake; neither is worth a guess (SS-08).
            if found.iter().any(|address| !may_connect(*address, &allowed)) {
                return Err(Blocked.into());
            }
            let addresses: Addrs = Box::new(
                found
                    .into_iter()
                    .take(MOST_ADDRESSES)
                    // The port is the URL's.
                    .map(|address| SocketAddr::new(address, 0)),
            );
            Ok(addresses)
        })
    }
}

/// What a request without an answer was refused for: by us, or by the TLS library for the provider's certificate. None
/// for everything else.
pub(crate) fn refusal(error: &reqwest::Error) -> Option<Failure> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<Blocked>() {
            return Some(Failure::new(
                FailureKind::Refused,
                "the provider's name leads to an address that is not allowed",
            ));
        }
        if let Some(rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Some(Failure::new(
                FailureKind::Refused,
                "the provider's certificate is not trusted",
            ));
        }
        // An io::Error leaves what it wraps out of its sources.
        source = match cause.downcast_ref::<io::Error>().map(io::Error::get_ref) {
            Some(Some(wrapped)) => Some(wrapped),
            _ => cause.source(),
        };
    }
    None
}

/// Whether an address may be connected to.
fn may_connect(address: IpAddr, allowed_networks: &[IpNet]) -> bool {
    if is_public(address) {
        return true;
    }
    let address = address.to_canonical();
    allowed_networks
        .iter()
        .any(|network| network.contains(&address))
        && !is_never_allowed(address)
}

/// Addresses that no network setting opens: this host, and the metadata services of clouds (SS-01, SS-26).
fn is_never_allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4 == Ipv4Addr::new(100, 100, 100, 200)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6 == Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)
        }
    }
}

/// The IPv4 networks that are not the public internet (IANA special-purpose registry).
const SPECIAL_V4: [Ipv4Net; 14] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Multicast and everything reserved above it.
    v4(224, 0, 0, 0, 3),
];

/// The IPv6 networks inside 2000::/3 that are not the public internet: protocol assignments with Teredo,
/// documentation, 6to4.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0], 23),
    v6([0x2001, 0x0db8, 0, 0], 32),
    v6([0x2002, 0, 0, 0], 16),
    v6([0x3fff, 0, 0, 0], 20),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(head: [u16; 4], length: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|network| network.contains(&v4)),
        // Outside 2000::/3 there are only local, mapped and translated addresses (SS-04, SS-05).
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            let isatap = matches!(v6.segments(), [_, _, _, _, 0 | 0x0200, 0x5efe, _, _]);
            first & 0xe000 == 0x2000
                && !isatap
                && !SPECIAL_V6.iter().any(|network| network.contains(&v6))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn guard(policy: OutboundPolicy) -> Guard {
        Guard::new(policy).unwrap()
    }

    fn allows(guard: &Guard, url: &str) -> bool {
        match Url::parse(url) {
            Ok(url) => guard.client_for(&url).is_ok(),
            Err(_) => false,
        }
    }

    #[test]
    fn ss_01_to_07_and_16_literal_addresses() {
        let guard = guard(OutboundPolicy::default());
        for host in [
            "169.254.169.254",
            "[fd00:ec2::254]",
            "100.100.100.200",
            "127.0.0.1",
            "127.1",
            "0",
            "0.0.0.0",
            "[::]",
            "[::1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001:0:1::1]",
            "[2600::5efe:7f00:1]",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "203.0.113.1",
            "[fe80::1]",
            "[fc00::1]",
            "[ff02::1]",
            "%31%32%37.0.0.1",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(!allows(&guard, &format!("https://{host}/")), "{host}");
        }
        for host in ["8.8.8.8", "[2606:4700::1111]", "provider.example"] {
            assert!(allows(&guard, &format!("https://{host}/")), "{host}");
        }
    }

    #[test]
    fn ss_13_14_schemes_and_ports() {
        let guard = guard(OutboundPolicy::default());
        for url in [
            "http://provider.example/",
            "ftp://provider.example/",
            "file:///etc/passwd",
            "https://provider.example:22/",
            "https://provider.example:5432/",
            "https://provider.example:0/",
            "https://user@provider.example/",
        ] {
            assert!(!allows(&guard, url), "{url}");
        }
        assert!(allows(&guard, "https://provider.example:443/"));
    }

    #[test]
    fn ss_26_networks_open_what_they_name_and_never_this_host() {
        let guard = guard(OutboundPolicy {
            allowed_networks: vec!["10.1.0.0/16".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
            ..OutboundPolicy::default()
        });
        assert!(allows(&guard, "https://10.1.2.3/"));
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[fc00::1]",
        ] {
            assert!(!allows(&guard, &format!("https://{host}/")), "{host}");
        }
    }

    #[test]
    fn an_allowed_origin_is_that_origin_only() {
        let guard = guard(OutboundPolicy {
            allowed_origins: vec!["http://localhost:9000".to_owned()],
            ..OutboundPolicy::default()
        });
        assert!(allows(&guard, "http://localhost:9000/token"));
        for url in [
            "https://localhost:9000/",
            "http://localhost:9001/",
            "http://localhost/",
        ] {
            assert!(!allows(&guard, url), "{url}");
        }
        let wrong = OutboundPolicy {
            allowed_origins: vec!["localhost:9000/path".to_owned()],
            ..OutboundPolicy::default()
        };
        assert!(matches!(Guard::new(wrong), Err(InvalidPolicy::Origin(_))));
    }

    #[tokio::test]
    async fn ss_08_a_name_that_leads_to_this_host_is_blocked() {
        let resolver = CheckingResolver {
            resolver: Arc::new(SystemResolver),
            allowed_networks: Arc::from([]),
        };
        let error = resolver
            .resolve("localhost".parse().unwrap())
            .await
            .err()
            .unwrap();
        assert!(error.is::<Blocked>());
    }

    /// One list of addresses for every name.
    #[derive(Debug)]
    struct Always(Vec<IpAddr>);

    impl Resolver for Always {
        fn look_up(&self, _name: &str) -> LookingUp {
            Box::pin(std::future::ready(Ok(self.0.clone())))
        }
    }

    fn checking(found: &[IpAddr]) -> CheckingResolver {
        CheckingResolver {
            resolver: Arc::new(Always(found.to_vec())),
            allowed_networks: Arc::from([]),
        }
    }

    #[tokio::test]
    async fn f_48_of_many_addresses_all_are_checked_and_eight_are_tried() {
        let mut found: Vec<IpAddr> = (0..1000)
            .map(|number: u16| {
                let [high, low] = number.to_be_bytes();
                Ipv4Addr::new(8, 8, high, low).into()
            })
            .collect();
        let name = || "provider.test".parse().unwrap();
        let tried: Vec<SocketAddr> = checking(&found).resolve(name()).await.unwrap().collect();
        let expected: Vec<SocketAddr> = found
            .iter()
            .take(8)
            .map(|address| SocketAddr::new(*address, 0))
            .collect();
        assert_eq!(tried, expected);
        found.push(Ipv4Addr::LOCALHOST.into());
        let error = checking(&found).resolve(name()).await.err().unwrap();
        assert!(error.is::<Blocked>());
    }

    /// Leads to a server of the test's at first, as a public address would, and then where [`CheckingResolver`] looks.
    struct Moving {
        first: SocketAddr,
        moved: Arc<AtomicBool>,
        then: CheckingResolver,
    }

    impl Resolve for Moving {
        fn resolve(&self, name: Name) -> Resolving {
            if self.moved.load(Ordering::SeqCst) {
                return self.then.resolve(name);
            }
            let addresses: Addrs = Box::new(std::iter::once(self.first));
            Box::pin(std::future::ready(Ok(addresses)))
        }
    }

    /// Serves `provider.test`: two answers on a connection, and the second one is the last. Counts connections.
    async fn two_answers(listener: TcpListener, certificate: TlsAcceptor, count: Arc<AtomicUsize>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = certificate.accept(stream).await.unwrap();
            for connection in ["keep-alive", "close"] {
                let mut heard = Vec::new();
                while !heard.ends_with(b"\r\n\r\n") {
                    heard.push(stream.read_u8().await.unwrap());
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: {connection}\r\ncontent-length: 0\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        }
    }

    #[tokio::test]
    async fn ss_23_a_kept_connection_stays_where_it_was_checked_and_a_new_one_is_checked_anew() {
        let key = rcgen::generate_simple_self_signed(["provider.test".to_owned()]).unwrap();
        let root = reqwest::Certificate::from_der(key.cert.der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let first = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let certificate = TlsAcceptor::from(Arc::new(config));
        let server = tokio::spawn(two_answers(listener, certificate, Arc::clone(&connections)));

        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let moved = Arc::new(AtomicBool::new(false));
        let client = builder(Duration::from_secs(10), &[root])
            .dns_resolver(Moving {
                first,
                moved: Arc::clone(&moved),
                then: checking(&[Ipv4Addr::LOCALHOST.into()]),
            })
            .build()
            .unwrap();
        let ask = || client.get("https://provider.test/").send();
        assert_eq!(ask().await.unwrap().status(), 200);
        moved.store(true, Ordering::SeqCst);
        // Where it was, although the name leads inside by now.
        assert_eq!(ask().await.unwrap().status(), 200);
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        // That connection is over. The next one would be the first to go inside.
        for _ in 0..3 {
            let failure = refusal(&ask().await.unwrap_err()).unwrap();
            assert_eq!(failure.kind, FailureKind::Refused);
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        server.abort();
    }
}
