//! What every handler reaches: the vault, the options, and this node's limiters.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use seal::{Entropy, PooledEntropy, SystemEntropy};
use vault::Vault;

use crate::limiter::{Limiter, Quota};

/// How the web side is set up. The defaults are for a server that clients reach directly.
#[derive(Clone)]
pub struct WebOptions {
    /// Proxies whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Requests that one user may make to the My Account API in a minute, on this node. Default: 600.
    pub me_requests_per_minute: u32,
    /// Requests that one client may make to the Management API in a minute, on this node. Default: 3000.
    pub management_requests_per_minute: u32,
    /// Tickets, states and request URIs that one address may guess wrong in a minute, on this node. Default: 100.
    pub guesses_per_minute: u32,
    /// Where request ids and browser ids come from. Default: the system.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            me_requests_per_minute: 600,
            management_requests_per_minute: 3000,
            guesses_per_minute: 100,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// The state of the router.
pub(crate) struct App {
    pub(crate) vault: Vault,
    pub(crate) options: WebOptions,
    /// What requests are named from.
    pub(crate) request_ids: PooledEntropy,
    /// My Account requests by user.
    pub(crate) me_limiter: Limiter,
    /// Management requests by client.
    pub(crate) management_limiter: Limiter,
    /// Wrong guesses by address.
    pub(crate) guess_limiter: Limiter,
}

impl App {
    pub(crate) fn new(vault: Vault, options: WebOptions) -> Self {
        let a_minute = |requests| {
            Limiter::new(Quota {
                requests,
                period: Duration::from_secs(60),
            })
        };
        Self {
            me_limiter: a_minute(options.me_requests_per_minute),
            management_limiter: a_minute(options.management_requests_per_minute),
            guess_limiter: a_minute(options.guesses_per_minute),
            request_ids: PooledEntropy::new(Arc::clone(&options.entropy)),
            vault,
            options,
        }
    }
}
