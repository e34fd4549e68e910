//! Where to listen.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// An address that may be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}

impl Address {
    /// Reads a path, which has a slash in it, or an address with its port: one of the loopback
    /// device, unless others are allowed. The error is why it is neither.
    pub fn parse(text: &str, allow_remote: bool) -> Result<Address, String> {
        if text.contains('/') {
            return Ok(Address::Unix(PathBuf::from(text)));
        }
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let local = local.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let Some(address) = local.or_else(|| text.parse().ok()) else {
            let expected = "a path such as /run/squall-metrics.sock, or an address with a port such as 127.0.0.1:9200 or [::1]:9200";
            return Err(format!("'{text}' is no address: expected {expected}"));
        };
        if !address.ip().to_canonical().is_loopback() && !allow_remote {
            return Err(format!(
                "other hosts could reach {address}, without any protection: say --allow-remote if they may"
            ));
        }
        Ok(Address::Tcp(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_a_path_and_the_rest_is_an_address_with_its_port() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        for (text, address) in [
            ("/run/m.sock", Address::Unix("/run/m.sock".into())),
            ("./m.sock", Address::Unix("./m.sock".into())),
            ("127.0.0.1:9200", tcp("127.0.0.1:9200")),
            ("127.1.2.3:0", tcp("127.1.2.3:0")),
            ("[::1]:9200", tcp("[::1]:9200")),
            ("[::ffff:127.0.0.1]:1", tcp("[::ffff:127.0.0.1]:1")),
            ("localhost:9200", tcp("127.0.0.1:9200")),
        ] {
            assert_eq!(Address::parse(text, false), Ok(address), "{text}");
        }
        for text in ["", "9200", ":9200", "127.0.0.1", "m.sock", "example.org:80", "127.0.0.1:99999", "@abstract"] {
            assert!(Address::parse(text, true).unwrap_err().contains("is no address"), "{text}");
        }
    }

    #[test]
    fn what_others_could_reach_has_to_be_allowed() {
        for text in ["0.0.0.0:9200", "[::]:9200", "192.0.2.1:9200", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"] {
            assert!(Address::parse(text, false).unwrap_err().contains("--allow-remote"), "{text}");
            assert_eq!(Address::parse(text, true), Ok(Address::Tcp(text.parse().unwrap())));
        }
    }
}
