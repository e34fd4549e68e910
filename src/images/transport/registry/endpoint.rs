//! Where a registry is: https, or http where that is allowed.

use std::sync::{Mutex, PoisonError};

use ureq::http::{Request, Uri};

use super::agents::Agents;
use super::{failure, url};
use crate::error::{Cause, Error, Result, Step};

/// The host that answers for Docker's own registry.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// A registry's address.
pub(super) struct Endpoint {
    host: String,
    may_be_plain: bool,
    found: Mutex<Option<Uri>>,
}

impl Endpoint {
    /// Of a registry's name. Plain HTTP is allowed where the caller does not want certificates to
    /// be checked, and on this machine.
    pub(super) fn new(registry: &str, tls_verify: bool) -> Endpoint {
        let host = if registry == "docker.io" { DOCKER_HOST } else { registry };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let may_be_plain = !tls_verify || url::is_loopback(name);
        Endpoint { host: host.to_owned(), may_be_plain, found: Mutex::new(None) }
    }

    /// The URL of the registry itself: `https://HOST/v2/`. Where it may be http, https is tried
    /// first, once for all requests.
    pub(super) fn base(&self, agents: &Agents, name: &str) -> Result<Uri> {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(base) = known {
            return Ok(base);
        }
        let secure = self.at("https", name)?;
        let base = match self.may_be_plain {
            true => match ask(agents, &secure) {
                Err(error) if failure::may_be_plain(&error) => self.at("http", name)?,
                // Whatever else is wrong with it, the request itself will say.
                _ => secure,
            },
            false => secure,
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(base.clone());
        Ok(base)
    }

    /// After a failure: both are tried anew.
    pub(super) fn forget(&self) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn at(&self, scheme: &str, name: &str) -> Result<Uri> {
        let bad = |_| Error::new(Step::Request, name, Cause::Invalid(format!("registry {:?}", self.host)));
        format!("{scheme}://{}/v2/", self.host).parse().map_err(bad)
    }
}

fn ask(agents: &Agents, at: &Uri) -> Result<(), ureq::Error> {
    let request = Request::get(at).body(()).map_err(ureq::Error::Http)?;
    agents.to(at).run(request).map(|_| ())
}
