//! Which proxy a host is reached through: the environment variables, by Go's rules, which docker's
//! and podman's users know.

use std::env;
use std::net::IpAddr;

use super::url::is_loopback;

/// The variable, in the first spelling that has something.
pub(super) fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Hosts that are reached without a proxy (`NO_PROXY`).
#[derive(Debug, Clone, Default)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone)]
enum Entry {
    All,
    Network(IpAddr, u8),
    /// A host by name: itself if `own`, and what is below it.
    Domain {
        name: String,
        own: bool,
        port: Option<u16>,
    },
}

impl NoProxy {
    pub(super) fn parse(text: &str) -> NoProxy {
        NoProxy(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Entry::parse).collect())
    }

    /// Whether the host is to be reached directly. This machine always is.
    pub(super) fn has(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        is_loopback(&host) || self.0.iter().any(|entry| entry.has(&host, port))
    }
}

impl Entry {
    fn parse(text: &str) -> Entry {
        if text == "*" {
            return Entry::All;
        }
        let network = |address: &str, bits: Option<&str>| {
            let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|&bits| bits <= all))?;
            Some(Entry::Network(address, bits))
        };
        let parts = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        if let Some(entry) = network(parts.0, parts.1) {
            return entry;
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (text, None),
        };
        let name = name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
        match name.strip_prefix('.') {
            Some(below) => Entry::Domain { name: below.to_owned(), own: false, port },
            None => Entry::Domain { name, own: true, port },
        }
    }

    fn has(&self, host: &str, port: u16) -> bool {
        match self {
            Entry::All => true,
            Entry::Network(network, bits) => host.parse().is_ok_and(|address| in_network(address, *network, *bits)),
            Entry::Domain { name, own, port: only } => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                only.is_none_or(|only| only == port) && (below || *own && host == name)
            }
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_as_go_does() {
        let list = NoProxy::parse("example.org, .below.org,*.star.org,10.0.0.0/8,192.168.1.1,h:5000,fd00::/8,,");
        for (host, port) in [
            ("example.org", 443),
            ("a.EXAMPLE.org", 443),
            ("a.below.org", 443),
            ("a.star.org", 443),
            ("10.255.0.1", 443),
            ("192.168.1.1", 80),
            ("h", 5000),
            ("[fd00::1]", 443),
            ("localhost", 5000),
            ("127.0.0.1", 5000),
        ] {
            assert!(list.has(host, port), "{host}");
        }
        for (host, port) in [
            ("anexample.org", 443),
            ("below.org", 443),
            ("star.org", 443),
            ("11.0.0.1", 443),
            ("192.168.1.2", 80),
            ("h", 443),
            ("fe00::1", 443),
        ] {
            assert!(!list.has(host, port), "{host}");
        }
        assert!(NoProxy::parse("*").has("anything", 1));
        assert!(NoProxy::parse("0.0.0.0/0").has("8.8.8.8", 1));
        assert!(!NoProxy::parse("").has("8.8.8.8", 1));
    }
}
