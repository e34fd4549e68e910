//! Connections: direct ones, and those through a proxy.

use ureq::http::Uri;
use ureq::tls::TlsConfig;
use ureq::{Agent, Proxy};

use super::certificates;
use super::no_proxy::{NoProxy, variable};
use crate::error::{Cause, Error, Result, Step};
use crate::transport::Access;

/// The most connections that are kept for later ones.
const IDLE_CONNECTIONS: usize = 8;

/// Who carries a request.
pub(super) struct Agents {
    direct: Agent,
    /// For `https:` URLs.
    secure: Option<Agent>,
    /// For `http:` URLs.
    plain: Option<Agent>,
    no_proxy: NoProxy,
}

impl Agents {
    pub(super) fn new(registry: &str, access: &Access) -> Result<Agents> {
        let tls = certificates::tls(registry, access)?;
        let through = |names: &[&str]| -> Result<Option<Agent>> {
            let Some(value) = variable(names) else { return Ok(None) };
            Ok(Some(agent(access, &tls, Some(proxy(&value, names[0])?))))
        };
        Ok(Agents {
            direct: agent(access, &tls, None),
            secure: through(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
            plain: through(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
            no_proxy: NoProxy::parse(&variable(&["NO_PROXY", "no_proxy"]).unwrap_or_default()),
        })
    }

    /// Who carries a request to this URL.
    pub(super) fn to(&self, url: &Uri) -> &Agent {
        let (proxied, usual) = match url.scheme_str() {
            Some("http") => (&self.plain, 80),
            _ => (&self.secure, 443),
        };
        match (proxied, url.host()) {
            (Some(agent), Some(host)) if !self.no_proxy.has(host, url.port_u16().unwrap_or(usual)) => agent,
            _ => &self.direct,
        }
    }
}

fn proxy(value: &str, variable: &str) -> Result<Proxy> {
    // The value is not repeated: it may have a password.
    let bad = || Error::invalid(Step::Request, variable, "not the URL of an HTTP proxy");
    let proxy = Proxy::new(value).map_err(|_| bad())?;
    match proxy.protocol() {
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => Ok(proxy),
        _ => Err(Error::new(Step::Request, variable, Cause::Unsupported("a SOCKS proxy".to_owned()))),
    }
}

fn agent(access: &Access, tls: &TlsConfig, proxy: Option<Proxy>) -> Agent {
    Agent::config_builder()
        .tls_config(tls.clone())
        .proxy(proxy)
        // Statuses and redirects are looked at where the request is made.
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("squall/", env!("CARGO_PKG_VERSION")))
        // Blobs are named by the bytes that are kept.
        .accept_encoding("identity")
        .timeout_resolve(Some(access.connect_timeout))
        .timeout_connect(Some(access.connect_timeout))
        .timeout_per_read(Some(access.idle_timeout))
        .timeout_per_write(Some(access.idle_timeout))
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .build()
        .into()
}
