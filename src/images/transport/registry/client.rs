//! Requests to one repository of a registry.

use std::io::Read;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use ureq::{Body, SendBody};

use super::agents::Agents;
use super::authorization::Authorization;
use super::endpoint::Endpoint;
use super::{failure, login, url};
use crate::error::{Cause, Error, Result, Step};
use crate::reference::Reference;
use crate::transport::Access;

/// How many redirects are followed: registries make one, to where they have their blobs.
const REDIRECTS: usize = 5;
/// The pause between two attempts does not grow longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A client for one repository. Any number of threads may use it at a time.
pub(super) struct Client {
    name: String,
    repository: String,
    agents: Agents,
    endpoint: Endpoint,
    authorization: Authorization,
    attempts: u32,
    first_pause: Duration,
}

/// A request.
pub(super) struct Ask<'a> {
    method: Method,
    target: Target,
    headers: Vec<(&'static str, String)>,
    content: Content<'a>,
}

enum Target {
    /// Below the repository: `blobs/sha256:…`.
    Path(String),
    /// Where the registry said.
    Url(Uri),
}

enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// It can be sent once; `None` afterwards.
    Once(Option<&'a mut dyn Read>),
}

impl<'a> Ask<'a> {
    fn new(method: Method, target: Target) -> Ask<'a> {
        Ask { method, target, headers: Vec::new(), content: Content::None }
    }

    pub(super) fn get(path: String) -> Ask<'a> {
        Ask::new(Method::GET, Target::Path(path))
    }

    pub(super) fn head(path: String) -> Ask<'a> {
        Ask::new(Method::HEAD, Target::Path(path))
    }

    pub(super) fn post(path: String) -> Ask<'a> {
        Ask::new(Method::POST, Target::Path(path)).bytes(&[])
    }

    pub(super) fn put(path: String) -> Ask<'a> {
        Ask::new(Method::PUT, Target::Path(path))
    }

    pub(super) fn at(method: Method, url: Uri) -> Ask<'a> {
        Ask::new(method, Target::Url(url))
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn bytes(mut self, bytes: &'a [u8]) -> Ask<'a> {
        self.content = Content::Bytes(bytes);
        self
    }

    /// Content that cannot be sent twice: the request is made once.
    pub(super) fn once(mut self, content: &'a mut dyn Read, length: u64) -> Ask<'a> {
        self.content = Content::Once(Some(content));
        self.header("content-length", length.to_string())
    }

    fn can_be_repeated(&self) -> bool {
        !matches!(self.content, Content::Once(None))
    }
}

/// An answer, and who gave it.
struct Answer {
    response: Response<Body>,
    url: Uri,
}

enum Broken {
    /// No answer.
    Transport(ureq::Error),
    /// An answer that leads nowhere.
    Lost(String),
}

impl Client {
    /// For a repository, to do these `actions` there: `pull` or `pull,push`.
    pub(super) fn new(reference: &Reference, access: &Access, actions: &str) -> Result<Client> {
        let name = format!("docker://{}", reference.familiar());
        let scope = format!("repository:{}:{actions}", reference.repository());
        let login = login::find(reference, access)?;
        Ok(Client {
            agents: Agents::new(reference.registry(), access)?,
            endpoint: Endpoint::new(reference.registry(), access.tls_verify),
            authorization: Authorization::new(name.clone(), login, scope),
            repository: reference.repository().to_owned(),
            attempts: access.attempts.max(1),
            first_pause: access.first_pause,
            name,
        })
    }

    /// The image's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How often something is tried in all.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits before another attempt, of which there were so many.
    pub(super) fn wait(&self, attempts: u32) {
        let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
        thread::sleep(self.first_pause.saturating_mul(factor).min(LONGEST_PAUSE));
    }

    /// Makes a request, with the authorization that the registry wants, as often as it takes, and
    /// gives its answer where that is a success.
    pub(super) fn send(&self, step: Step, mut ask: Ask<'_>) -> Result<Response<Body>> {
        self.send_located(step, &mut ask).map(|answer| answer.response)
    }

    /// As [`Client::send`], for an answer that says where to go on (`Location`).
    pub(super) fn send_for_location(&self, step: Step, mut ask: Ask<'_>) -> Result<Uri> {
        let answer = self.send_located(step, &mut ask)?;
        let network = |text: String| Error::new(step, &self.name, Cause::Network(text));
        let location = answer.response.headers().get("location").and_then(|location| location.to_str().ok());
        let next = location.and_then(|location| url::join(&answer.url, location));
        let next = next.ok_or_else(|| network("the registry does not say where to go on".to_owned()))?;
        match loses_protection(&answer.url, &next) {
            true => Err(network(format!("the registry leads to {}, which is not protected", url::shown(&next)))),
            false => Ok(next),
        }
    }

    fn send_located(&self, step: Step, ask: &mut Ask<'_>) -> Result<Answer> {
        let network = |text: String| Error::new(step, &self.name, Cause::Network(text));
        let mut has_renewed = false;
        let mut attempt = 1;
        loop {
            let base = self.endpoint.base(&self.agents, &self.name)?;
            let url = self.url(&base, ask).ok_or_else(|| network("not a URL that can be asked".to_owned()))?;
            let what = format!("{} {}", ask.method, url::shown(&url));
            let used = self.authorization.header();
            let outcome = self.follow(&base, url, ask, used.as_ref());
            let may_repeat = attempt < self.attempts && ask.can_be_repeated();
            match outcome {
                Ok(Answer { response, .. }) if response.status() == StatusCode::UNAUTHORIZED && !has_renewed => {
                    let headers = response.headers().get_all("www-authenticate").iter();
                    let wants: Vec<String> =
                        headers.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
                    self.authorization.renew(&self.agents, &base, used.as_ref(), &wants)?;
                    has_renewed = true;
                    if !ask.can_be_repeated() {
                        return Err(network(format!("{what}: the authorization ended; try it again")));
                    }
                    continue;
                }
                Ok(answer) if answer.response.status().is_success() => return Ok(answer),
                Ok(Answer { response, .. }) if failure::is_passing_status(response.status()) && may_repeat => {
                    match failure::wanted_pause(response.headers()) {
                        Some(pause) => thread::sleep(pause),
                        None => self.wait(attempt),
                    }
                }
                Ok(Answer { response, .. }) => {
                    return Err(Error::new(step, &self.name, failure::cause(response, &what)));
                }
                Err(Broken::Transport(error)) if failure::is_passing(&error) && may_repeat => {
                    self.endpoint.forget();
                    self.wait(attempt);
                }
                Err(Broken::Transport(error)) => return Err(network(format!("{what}: {}", failure::text(&error)))),
                Err(Broken::Lost(reason)) => return Err(network(format!("{what}: {reason}"))),
            }
            attempt += 1;
        }
    }

    fn url(&self, base: &Uri, ask: &Ask<'_>) -> Option<Uri> {
        match &ask.target {
            Target::Path(path) => url::join(base, &format!("/v2/{}/{path}", self.repository)),
            Target::Url(url) => Some(url.clone()),
        }
    }

    /// One attempt, redirects included. The authorization is for the registry alone.
    fn follow(
        &self,
        base: &Uri,
        mut url: Uri,
        ask: &mut Ask<'_>,
        header: Option<&HeaderValue>,
    ) -> Result<Answer, Broken> {
        for _ in 0..=REDIRECTS {
            let header = header.filter(|_| url::same_place(base, &url));
            let response = self.exchange(&url, ask, header).map_err(Broken::Transport)?;
            let is_asking = matches!(ask.method, Method::GET | Method::HEAD);
            if !is_asking || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url });
            }
            let location = response.headers().get("location").and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url::join(&url, location));
            let next = next.ok_or_else(|| Broken::Lost("a redirect to nowhere".to_owned()))?;
            if loses_protection(&url, &next) {
                return Err(Broken::Lost(format!("a redirect to {}, which is not protected", url::authority(&next))));
            }
            url = next;
        }
        Err(Broken::Lost(format!("more than {REDIRECTS} redirects")))
    }

    fn exchange(
        &self,
        url: &Uri,
        ask: &mut Ask<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let agent = self.agents.to(url);
        match &mut ask.content {
            Content::None => agent.run(request.body(())?),
            Content::Bytes(bytes) => agent.run(request.body(&**bytes)?),
            Content::Once(content) => match content.take() {
                Some(content) => agent.run(request.body(SendBody::from_reader(content))?),
                None => Err(std::io::Error::other("content that was sent before").into()),
            },
        }
    }
}

fn loses_protection(from: &Uri, to: &Uri) -> bool {
    from.scheme_str() == Some("https") && to.scheme_str() != Some("https")
}
