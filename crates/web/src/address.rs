//! Whose request it is, as far as addresses tell: the peer, or whom a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The address of the connection's other end, put into the request's extensions by the server loop.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The longest chain of trusted proxies that is followed.
const MOST_HOPS: usize = 32;

/// The client's address: the peer's own, unless the peer is a trusted proxy.
///
/// Then `X-Forwarded-For` is read from the right, over as many trusted proxies as there are, and the first address
/// that is none of them is the client's: everything to the left of it is only what the client claims. An entry that
/// is no address (a zone id, a name, `unknown`) ends in None, which no allow-list contains. The headers `Forwarded`
/// and `auth0-forwarded-for` are never believed.
pub(crate) fn client_address(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    // IPv4 mapped into IPv6 is the same host as the IPv4 address.
    let mut client = peer?.to_canonical();
    if !is_trusted(&client) {
        return Some(client);
    }
    let mut lines = Vec::new();
    for line in headers.get_all("x-forwarded-for") {
        lines.push(line.to_str().ok()?);
    }
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(','))
        .map(str::trim)
        .filter(|hop| !hop.is_empty());
    for (count, hop) in hops.enumerate() {
        if count == MOST_HOPS {
            return None;
        }
        client = parse_hop(hop)?;
        if !is_trusted(&client) {
            break;
        }
    }
    Some(client)
}

/// An address, with or without the port that some proxies add.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    // `SocketAddr` would take a zone id and drop it; two hosts with one link-local address are not one host.
    if hop.contains('%') {
        return None;
    }
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse()
        .ok()
        .or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        headers.insert("forwarded", HeaderValue::from_static("for=203.0.113.9"));
        headers.insert(
            "auth0-forwarded-for",
            HeaderValue::from_static("203.0.113.9"),
        );
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        client_address(Some(peer.parse().unwrap()), &headers, &trusted)
            .map(|address| address.to_string())
    }

    #[test]
    fn wk_14_forwarded_addresses_count_only_through_trusted_proxies() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        for (peer, forwarded, expected) in [
            // Nobody in between: what the client claims is nothing.
            ("198.51.100.7", &["10.1.2.3"][..], Some("198.51.100.7")),
            ("198.51.100.7", &[], Some("198.51.100.7")),
            // Through one proxy, through two, and with a claim further left.
            ("10.0.0.1", &["198.51.100.7"], Some("198.51.100.7")),
            (
                "10.0.0.1",
                &["198.51.100.7, 10.0.0.2"],
                Some("198.51.100.7"),
            ),
            (
                "10.0.0.1",
                &["203.0.113.1, 198.51.100.7"],
                Some("198.51.100.7"),
            ),
            // Several header lines are one list.
            (
                "10.0.0.1",
                &["203.0.113.1", "198.51.100.7", "10.0.0.2"],
                Some("198.51.100.7"),
            ),
            // A request that the proxy itself makes.
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("fd00::1", &["2001:db8::5"], Some("2001:db8::5")),
            // Ports that proxies add.
            ("10.0.0.1", &["198.51.100.7:4711"], Some("198.51.100.7")),
            ("10.0.0.1", &["[2001:db8::5]:4711"], Some("2001:db8::5")),
            ("10.0.0.1", &["[2001:db8::5]"], Some("2001:db8::5")),
            // What is no address is nobody's.
            ("10.0.0.1", &["unknown"], None),
            ("10.0.0.1", &["198.51.100.7, evil.example"], None),
        ] {
            assert_eq!(
                client(peer, forwarded, &proxies).as_deref(),
                expected,
                "{peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn wk_14_a_list_of_200_hops() {
        let spoofed = vec!["203.0.113.1"; 200].join(", ");
        assert_eq!(
            client("198.51.100.7", &[&spoofed], &["10.0.0.0/8"]).as_deref(),
            Some("198.51.100.7")
        );
        let endless = vec!["10.0.0.1"; 200].join(", ");
        assert_eq!(client("10.0.0.1", &[&endless], &["10.0.0.0/8"]), None);
    }

    #[test]
    fn wk_16_mapped_addresses_are_ipv4_and_zones_are_refused() {
        assert_eq!(
            client("::ffff:198.51.100.7", &[], &[]).as_deref(),
            Some("198.51.100.7")
        );
        assert_eq!(
            client("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], &["10.0.0.0/8"]).as_deref(),
            Some("198.51.100.7")
        );
        for zone in ["fe80::1%eth0", "[fe80::1%2]:443"] {
            assert_eq!(client("10.0.0.1", &[zone], &["10.0.0.0/8"]), None, "{zone}");
        }
    }
}
