//! Why a request failed, and what follows from that.

use std::io::{self, Read as _};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use ureq::http::{HeaderMap, StatusCode};
use ureq::{Body, http::Response};

use crate::error::Cause;

/// The longest that a registry can make us wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How much of an answer is read for an error.
const ANSWER_LENGTH: u64 = 1 << 16;
/// How much of it is shown, in characters.
const SHOWN: usize = 300;

/// Whether the same request may succeed later.
pub(super) fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => certificate_error(error).is_none(),
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Whether the other side may speak plain HTTP, or nothing listens where TLS would.
pub(super) fn may_be_plain(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => certificate_error(error).is_none(),
        ureq::Error::Rustls(rustls::Error::InvalidCertificate(_)) => false,
        ureq::Error::Rustls(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

fn certificate_error(error: &io::Error) -> Option<&rustls::CertificateError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
}

/// In words. No URL is in them, which may hold a secret.
pub(super) fn text(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => of_body(error),
        ureq::Error::Timeout(timeout) => format!("timed out: {timeout}"),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "not a URL that can be asked".to_owned(),
        error => error.to_string(),
    }
}

/// An error on the way of a body, in words.
pub(super) fn of_body(error: &io::Error) -> String {
    if let Some(why) = certificate_error(error) {
        return match why {
            rustls::CertificateError::UnknownIssuer => {
                "the certificate is of an authority that is not trusted (--cert-dir names the registry's own)"
                    .to_owned()
            }
            why => format!("the certificate is not accepted: {why:?}"),
        };
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(inner) => text(inner),
        None => error.to_string(),
    }
}

/// Whether the registry says that it may succeed later.
pub(super) fn is_passing_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long the registry wants us to wait (`Retry-After`: seconds, or a date).
pub(super) fn wanted_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// What an answer that is no success means.
pub(super) fn cause(mut response: Response<Body>, what: &str) -> Cause {
    let status = response.status();
    let said = message(&mut response).map_or_else(String::new, |said| format!(": {said}"));
    let text = format!("{what}: the registry answered {status}{said}");
    match status.as_u16() {
        401 | 403 => Cause::Denied(text),
        404 => Cause::NotFound(text),
        _ => Cause::Network(text),
    }
}

/// The registry's own words (distribution specification, error codes).
fn message(response: &mut Response<Body>) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut bytes = Vec::new();
    response.body_mut().as_reader().take(ANSWER_LENGTH).read_to_end(&mut bytes).ok()?;
    let errors: Errors = serde_json::from_slice(&bytes).ok()?;
    let first = errors.errors.into_iter().next()?;
    let text = format!("{} {}", first.code, first.message);
    Some(text.chars().filter(|c| !c.is_control()).take(SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_how_long_to_wait_within_bounds() {
        let pause = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            wanted_pause(&headers)
        };
        assert_eq!(pause("3"), Some(Duration::from_secs(3)));
        assert_eq!(pause("86400"), Some(LONGEST_PAUSE));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(pause("Tue, 31 Dec 2999 23:59:59 GMT"), Some(LONGEST_PAUSE));
        assert_eq!(pause("soon"), None);
        assert_eq!(pause("-1"), None);
        assert_eq!(wanted_pause(&HeaderMap::new()), None);
    }
}
