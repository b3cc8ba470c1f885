//! Who is at the other end of a request, as far as the network tells.

use std::net::IpAddr;
use std::sync::Arc;

/// Where a request came from. It identifies nobody; it goes into the audit row and the throttles.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The peer's address, or what a trusted proxy said it was.
    pub address: Option<IpAddr>,
    /// The id that the answer and the log line carry as `x-request-id`.
    pub request_id: Arc<str>,
}

impl Caller {
    /// The address without the IPv6 mapping of IPv4, so that both spellings of one host are one.
    pub fn canonical_address(&self) -> Option<IpAddr> {
        self.address.map(|address| address.to_canonical())
    }
}
