//! The few things that a client does to URLs.

use ureq::http::Uri;

/// Where a `Location` leads, as seen from the URL that gave it.
pub(super) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?.as_str();
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    uri.authority().is_some().then_some(uri)
}

/// The URL with a further parameter.
pub(super) fn with_parameter(uri: &Uri, name: &str, value: &str) -> Option<Uri> {
    let text = uri.to_string();
    let joint = if uri.query().is_some() { '&' } else { '?' };
    format!("{text}{joint}{name}={}", encoded(value)).parse().ok()
}

/// Percent-encoded, everything but what is never to be.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Without user, password and query, which may hold a secret: for errors.
pub(super) fn shown(uri: &Uri) -> String {
    format!("{}://{}{}", uri.scheme_str().unwrap_or("?"), authority(uri), uri.path())
}

/// Host and port, without user and password.
pub(super) fn authority(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Whether two URLs have the same host, by the same port, and the second is no less protected.
pub(super) fn same_place(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    host(one) == host(other) && port(one) == port(other) && one.scheme_str() == other.scheme_str()
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_followed_from_where_they_were_said() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/uploads/".parse().unwrap();
        for (location, url) in [
            ("/v2/a?x=1", "https://r.example:5000/v2/a?x=1"),
            ("id?x=1", "https://r.example:5000/v2/a/blobs/uploads/id?x=1"),
            ("//other/a", "https://other/a"),
            ("http://other/a", "http://other/a"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), url);
        }
        for location in ["https://", "/a b", "/\u{1}", "https:///x"] {
            assert!(join(&base, location).is_none(), "{location}");
        }
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let uri: Uri = "https://me:sesame@r.example:1/a?token=sesame".parse().unwrap();
        assert_eq!(shown(&uri), "https://r.example:1/a");
    }

    #[test]
    fn authorization_stays_at_its_place() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert!(same_place(&uri("https://R.example/a"), &uri("https://r.example:443/b")));
        for other in ["http://r.example/a", "https://r.example:444/", "https://x.r.example/"] {
            assert!(!same_place(&uri("https://r.example/a"), &uri(other)), "{other}");
        }
    }

    #[test]
    fn a_parameter_is_added_to_those_there() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let with = |text: &str| with_parameter(&uri(text), "digest", "sha256:a b").unwrap().to_string();
        assert_eq!(with("http://h/u"), "http://h/u?digest=sha256%3Aa%20b");
        assert_eq!(with("http://h/u?s=1"), "http://h/u?s=1&digest=sha256%3Aa%20b");
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "[::2]", "127.0.0.1.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
