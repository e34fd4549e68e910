//! Uploads.

use std::io::Read;

use ureq::http::Method;

use super::client::{Ask, Client};
use super::url;
use crate::digest::Digest;
use crate::error::{Cause, Error, ErrorKind, Result, Step};
use crate::manifest::{Blob, Manifest};
use crate::reference::Reference;
use crate::transport::output::{Checked, copy_error};
use crate::transport::{Access, Sink};

/// Blobs up to this size are sent at once, and again where that fails. Larger ones are sent as they
/// are read.
const AT_ONCE: u64 = 8 << 20;

/// A repository that an image is pushed to.
pub(crate) struct Push {
    client: Client,
    reference: Reference,
}

impl Push {
    pub(crate) fn new(reference: &Reference, access: &Access) -> Result<Push> {
        Ok(Push { client: Client::new(reference, access, "pull,push")?, reference: reference.clone() })
    }

    fn begin(&self) -> Result<ureq::http::Uri> {
        self.client.send_for_location(Step::Push, Ask::post("blobs/uploads/".to_owned()))
    }

    /// Sends the last of an upload, or all of it.
    fn finish(&self, blob: &Blob, upload: &ureq::http::Uri, content: &[u8]) -> Result<()> {
        let bad = || Error::new(Step::Push, self.name(), Cause::Network("an upload at no URL".to_owned()));
        let target = url::with_parameter(upload, "digest", &blob.digest.to_string()).ok_or_else(bad)?;
        let ask = Ask::at(Method::PUT, target).header("content-type", "application/octet-stream");
        self.client.send(Step::Push, ask.bytes(content)).map(|_| ())
    }
}

impl Sink for Push {
    fn name(&self) -> String {
        self.client.name().to_owned()
    }

    fn has_blob(&mut self, digest: Digest) -> Result<bool> {
        match self.client.send(Step::Push, Ask::head(format!("blobs/{digest}"))) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<()> {
        let mut content = Checked::new(blob, content);
        if blob.size <= AT_ONCE {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|error| copy_error(blob, "read", error))?;
            return self.finish(blob, &self.begin()?, &bytes);
        }
        let upload = self.begin()?;
        // The error of a reader comes back as one of the connection: it is kept beside.
        let mut kept = Kept { content, error: None };
        let ask = Ask::at(Method::PATCH, upload).header("content-type", "application/octet-stream");
        let sent = self.client.send_for_location(Step::Push, ask.once(&mut kept, blob.size));
        if let Some(error) = kept.error {
            return Err(copy_error(blob, "read", error));
        }
        self.finish(blob, &sent?, &[])
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> Result<()> {
        let digest = manifest.digest();
        if let Some(wanted) = self.reference.digest().filter(|wanted| *wanted != digest) {
            let cause = Cause::Mismatch { expected: wanted.to_string(), found: digest.to_string() };
            return Err(Error::new(Step::Push, self.name(), cause));
        }
        let target = self.reference.tag().map_or_else(|| digest.to_string(), ToString::to_string);
        let ask = Ask::put(format!("manifests/{target}")).header("content-type", &manifest.media_type);
        let response = self.client.send(Step::Push, ask.bytes(&manifest.bytes))?;
        let said = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match said.and_then(|said| said.parse::<Digest>().ok()) {
            Some(found) if found != digest => {
                let cause = Cause::Mismatch { expected: digest.to_string(), found: found.to_string() };
                Err(Error::new(Step::Push, self.name(), cause))
            }
            _ => Ok(()),
        }
    }
}

/// A reader whose error is kept.
struct Kept<R> {
    content: R,
    error: Option<std::io::Error>,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.content.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != std::io::ErrorKind::Interrupted {
                self.error = Some(error);
            }
            kind.into()
        })
    }
}
