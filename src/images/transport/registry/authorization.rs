//! From a login to what a registry takes: Basic, or a token of its token server.

use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{HeaderValue, Request, StatusCode, Uri};

use super::agents::Agents;
use super::challenge::{self, Challenge};
use super::login::Login;
use super::{failure, url};
use crate::error::{Cause, Error, Result, Step};
use crate::transport::Credentials;

/// The longest answer of a token server, in bytes.
const ANSWER_LENGTH: u64 = 1 << 20;
/// How we call ourselves to token servers.
const CLIENT: &str = "squall";

/// The authorization at one registry, for one repository.
pub(super) struct Authorization {
    /// The image, for errors.
    name: String,
    login: Option<Login>,
    scope: String,
    header: Mutex<Option<HeaderValue>>,
}

/// What a token server answers: old ones and new ones call it differently.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Authorization {
    pub(super) fn new(name: String, login: Option<Login>, scope: String) -> Authorization {
        let header = match &login {
            Some(Login::RegistryToken(token)) => header(&format!("Bearer {token}")),
            _ => None,
        };
        Authorization { name, login, scope, header: Mutex::new(header) }
    }

    /// What requests carry now.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does what a registry wants that refused `used`.
    pub(super) fn renew(&self, agents: &Agents, at: &Uri, used: Option<&HeaderValue>, wants: &[String]) -> Result<()> {
        let current = self.header();
        if current.is_some() && current.as_ref() != used {
            // Another thread was faster.
            return Ok(());
        }
        let challenges: Vec<Challenge> = wants.iter().flat_map(|header| challenge::parse(header)).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let new = match (of("bearer"), of("basic"), &self.login) {
            (_, _, Some(Login::RegistryToken(_))) => return Err(self.denied("the registry does not take the token")),
            (Some(challenge), _, _) => format!("Bearer {}", self.token(agents, at, challenge)?),
            (None, Some(_), Some(Login::Password(credentials))) => basic(credentials),
            (None, Some(_), Some(_)) => return Err(self.denied("the registry wants a password, not a token")),
            (None, Some(_), None) => {
                return Err(self.denied("the registry wants credentials, and there are none for it"));
            }
            (None, None, _) => return Err(self.denied("the registry wants an authorization of an unknown kind")),
        };
        let new = header(&new).ok_or_else(|| self.denied("credentials or token with characters that HTTP has not"))?;
        if used == Some(&new) {
            return Err(self.denied("the registry does not take the credentials"));
        }
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
        Ok(())
    }

    fn denied(&self, reason: &str) -> Error {
        Error::new(Step::Resolve, &self.name, Cause::Denied(reason.to_owned()))
    }

    fn token(&self, agents: &Agents, registry: &Uri, challenge: &Challenge) -> Result<String> {
        let realm = challenge.get("realm").and_then(|realm| realm.parse::<Uri>().ok());
        let realm =
            realm.filter(|realm| realm.host().is_some() && matches!(realm.scheme_str(), Some("http" | "https")));
        let realm = realm.ok_or_else(|| self.denied("the registry names no token server"))?;
        let is_plain = realm.scheme_str() == Some("http") && !realm.host().is_some_and(url::is_loopback);
        if is_plain && registry.scheme_str() == Some("https") {
            return Err(self.denied("the registry's token server is not reached by TLS"));
        }
        let mut asked = vec![("scope", self.scope.as_str())];
        asked.extend(challenge.get("service").map(|service| ("service", service)));
        let response = match &self.login {
            Some(Login::IdentityToken(token)) => {
                asked.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT),
                    ("refresh_token", token.as_str()),
                ]);
                let request = Request::post(&realm).header("content-type", "application/x-www-form-urlencoded");
                request.body(form(&asked)).map(|request| agents.to(&realm).run(request))
            }
            login => {
                let mut url = realm.clone();
                for (key, value) in asked {
                    let bad = || self.denied("the registry's token server has a URL that cannot be asked");
                    url = url::with_parameter(&url, key, value).ok_or_else(bad)?;
                }
                let mut request = Request::get(&url);
                if let Some(Login::Password(credentials)) = login {
                    let bad = || self.denied("credentials with characters that HTTP has not");
                    request = request.header("authorization", header(&basic(credentials)).ok_or_else(bad)?);
                }
                request.body(()).map(|request| agents.to(&realm).run(request))
            }
        };
        let network = |text: String| {
            let text = format!("token server {}: {text}", url::shown(&realm));
            Error::new(Step::Resolve, &self.name, Cause::Network(text))
        };
        let answered = response.map_err(|_| network("not a URL that can be asked".to_owned()))?;
        let mut response = answered.map_err(|error| network(failure::text(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) => {
                let who = if self.login.is_some() { "the credentials" } else { "requests without credentials" };
                let text = format!("token server {} does not take {who}: {status}", url::shown(&realm));
                return Err(self.denied(&text));
            }
            status => return Err(network(format!("it answered {status}"))),
        }
        let mut bytes = Vec::new();
        response
            .body_mut()
            .as_reader()
            .take(ANSWER_LENGTH)
            .read_to_end(&mut bytes)
            .map_err(|error| network(failure::of_body(&error)))?;
        // The error does not repeat the answer.
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| network("its answer is no token".to_owned()))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| network("its answer has no token".to_owned()))
    }
}

fn basic(credentials: &Credentials) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", credentials.user, credentials.password)))
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    // Not shown where a request is logged.
    value.set_sensitive(true);
    Some(value)
}

fn form(fields: &[(&str, &str)]) -> String {
    let field = |(key, value): &(&str, &str)| format!("{key}={}", url::encoded(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}
