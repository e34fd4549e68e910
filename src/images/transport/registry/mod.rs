//! Registries, by the OCI distribution specification and as Docker's are.
//!
//! The client is our own on `ureq` with rustls and ring: blocking, as everything around it, without
//! a runtime, 27 crates and no C beside ring's. `oci-client` was read and left: it shows neither
//! the headers of a refused request (`Retry-After`) nor a body that can be gone on with on another
//! connection, and has no identity tokens, no client certificates, no fallback to plain HTTP and no
//! choice of proxy by host. What is here of the protocol is what an image needs.
//!
//! | module | what for |
//! |---|---|
//! | `client` | one request: where to, with which authorization, tried again |
//! | `endpoint` | https or, where that is allowed, http |
//! | `failure` | why a request failed, and whether to try it again |
//! | `agents` | connections: time-outs, certificates, proxies |
//! | `login` | who we are: `--creds`, files of docker's and podman's, credential helpers |
//! | `authorization` | what the registry wants for that: Basic, or a token from its token server |
//! | `stream` | a blob's bytes, over as many connections as it takes |
//! | `push` | uploads |

mod agents;
mod authfile;
mod authorization;
mod certificates;
mod challenge;
mod client;
mod endpoint;
mod failure;
mod helper;
mod login;
mod no_proxy;
mod push;
mod stream;
mod url;

use std::io::Read;
use std::sync::Arc;

use super::{Access, Source, resolve};
use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{Blob, Document, MANIFEST_LENGTH, Manifest, Platform, media_type};
use crate::reference::Reference;
use client::{Ask, Client};
use stream::BlobStream;

#[cfg(fuzzing)]
pub(crate) use authfile::AuthFile;
#[cfg(fuzzing)]
pub(crate) use challenge::parse as parse_challenges;
pub(crate) use push::Push;

/// What is asked for, the best first.
const MANIFEST_TYPES: [&str; 4] =
    [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_LIST];

/// An image in a registry.
pub(crate) struct Registry {
    client: Arc<Client>,
    reference: Reference,
}

impl Registry {
    pub(crate) fn new(reference: &Reference, access: &Access) -> Result<Registry> {
        let client = Arc::new(Client::new(reference, access, "pull")?);
        Ok(Registry { client, reference: reference.clone() })
    }

    /// The document of a tag or a digest, checked against every digest that there is for it.
    fn document(&self, wanted: &str, digest: Option<Digest>) -> Result<Vec<u8>> {
        let name = self.name();
        let accept = MANIFEST_TYPES.join(", ");
        let ask = Ask::get(format!("manifests/{wanted}")).header("accept", &accept);
        let mut response = self.client.send(Step::Resolve, ask)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (said, content_type) = (header("docker-content-digest"), header("content-type"));
        let mut bytes = Vec::new();
        let body = response.body_mut().as_reader().take(MANIFEST_LENGTH + 1);
        { body }
            .read_to_end(&mut bytes)
            .map_err(|error| Error::new(Step::Resolve, &name, Cause::Network(failure::of_body(&error))))?;
        // Other algorithms are not checked; a digest that the caller named is of ours.
        if let Some(said) = said.and_then(|said| said.parse::<Digest>().ok()) {
            resolve::check(&name, said, &bytes)?;
        }
        if let Some(digest) = digest {
            resolve::check(&name, digest, &bytes)?;
        }
        if content_type.is_some_and(|kind| kind.starts_with("application/vnd.docker.distribution.manifest.v1")) {
            let reason = "a manifest of Docker's first schema".to_owned();
            return Err(Error::new(Step::Resolve, &name, Cause::Unsupported(reason)));
        }
        Ok(bytes)
    }
}

impl Source for Registry {
    fn name(&self) -> String {
        format!("docker://{}", self.reference.familiar())
    }

    fn tags(&self) -> Vec<String> {
        vec![self.reference.familiar()]
    }

    fn manifest(&self, platform: &Platform) -> Result<Manifest> {
        let name = self.name();
        let wanted = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => return Err(Error::invalid(Step::Request, name, "neither tag nor digest")),
        };
        let bytes = self.document(&wanted, self.reference.digest())?;
        match Document::parse(&bytes, platform, &name)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(digest) => {
                let read = |digest: Digest| self.document(&digest.to_string(), Some(digest));
                resolve::follow(&name, digest, read, |bytes| Document::parse(bytes, platform, &name))
            }
        }
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(BlobStream::open(Arc::clone(&self.client), blob, offset)?))
    }
}
