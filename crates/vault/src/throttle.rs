//! Counting failures, so that guessing does not pay. Counted in the database: every node sees the same number.

use std::net::IpAddr;

use jiff::Timestamp;
use store::{Row, Statement, params};

use crate::Error;

/// The key of an account, whether it exists or not.
pub(crate) fn account_key(username: &str) -> String {
    format!("login:user:{username}")
}

/// The key of an address. Of IPv6 the network counts: whoever has one address there has 2^64 of them.
pub(crate) fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("login:address:{v4}"),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("login:address:{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Counts an attempt before it is made, so that many at once count as many. `returning` tells the failures in this
/// window with this one; the window began at or after `window_since`.
pub(crate) fn count_statement(key: &str, now: Timestamp, window_since: Timestamp) -> Statement {
    Statement::new(
        "insert into throttles (key, window_start, failures) values ($1, $2, 1)
         on conflict (key) do update
            set failures = case when throttles.window_start < $3 then 1 else throttles.failures + 1 end,
                window_start = case when throttles.window_start < $3 then $2 else throttles.window_start end
         returning failures, window_start",
        params![key, now, window_since],
    )
}

/// The count and the beginning of its window.
pub(crate) fn from_row(row: &Row) -> Result<(u64, Timestamp), Error> {
    Ok((u64::try_from(row.int(0)?).unwrap_or(0), row.timestamp(1)?))
}

/// Takes back the attempt that was not a failure.
pub(crate) fn forgive_statement(key: &str) -> Statement {
    Statement::new(
        "update throttles set failures = failures - 1 where key = $1 and failures > 0",
        params![key],
    )
}

/// Forgets an account's failures after it logged in.
pub(crate) fn clear_statement(key: &str) -> Statement {
    Statement::new("delete from throttles where key = $1", params![key])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
