//! A blob's bytes, over as many connections as it takes.

use std::io::{self, Read};
use std::sync::Arc;

use ureq::BodyReader;
use ureq::http::StatusCode;

use super::client::{Ask, Client};
use super::failure;
use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::Blob;

/// The most connections for one blob, however much each of them brings.
const CONNECTIONS: u32 = 1000;

/// Reads a blob from where it broke off.
pub(super) struct BlobStream {
    client: Arc<Client>,
    digest: Digest,
    size: u64,
    position: u64,
    body: Option<BodyReader<'static>>,
    /// Connections in all.
    connections: u32,
    /// Connections that broke without a byte since the last one that came.
    failures: u32,
}

impl BlobStream {
    pub(super) fn open(client: Arc<Client>, blob: &Blob, offset: u64) -> Result<BlobStream> {
        let (digest, size) = (blob.digest, blob.size);
        let mut stream = BlobStream { client, digest, size, position: offset, body: None, connections: 0, failures: 0 };
        if offset < size || size == 0 {
            stream.body = Some(stream.connect()?);
        }
        Ok(stream)
    }

    fn error(&self, text: &str) -> Error {
        let text = format!("blob {}: {text}", self.digest);
        Error::new(Step::Fetch, self.client.name(), Cause::Network(text))
    }

    fn connect(&mut self) -> Result<BodyReader<'static>> {
        self.connections += 1;
        let mut ask = Ask::get(format!("blobs/{}", self.digest));
        if self.position > 0 {
            ask = ask.header("range", format!("bytes={}-", self.position));
        }
        let response = self.client.send(Step::Fetch, ask)?;
        let status = response.status();
        let range = response.headers().get("content-range").and_then(|range| range.to_str().ok()).map(str::to_owned);
        let mut body = response.into_body().into_reader();
        if status == StatusCode::PARTIAL_CONTENT {
            let begins = format!("bytes {}-", self.position);
            return match range.is_some_and(|range| range.starts_with(&begins)) {
                true => Ok(body),
                false => Err(self.error("the registry gives another range than it was asked for")),
            };
        }
        // A registry without ranges gives all of it. What breaks here breaks the next read too.
        let _ = io::copy(&mut body.by_ref().take(self.position), &mut io::sink());
        Ok(body)
    }

    /// Whether it is to be tried again after this.
    fn broken(&mut self, reason: &str) -> io::Result<()> {
        self.body = None;
        self.failures += 1;
        if self.failures >= self.client.attempts() || self.connections >= CONNECTIONS {
            let text = format!("{reason}, after {} of {} bytes", self.position, self.size);
            return Err(io::Error::other(self.error(&text)));
        }
        self.client.wait(self.failures);
        Ok(())
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            let mut body = match self.body.take() {
                Some(body) => body,
                None => self.connect().map_err(io::Error::other)?,
            };
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => self.broken("the registry ended the connection")?,
                Ok(read) => {
                    self.position += read as u64;
                    self.failures = 0;
                    self.body = Some(body);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.body = Some(body),
                Err(error) => self.broken(&failure::of_body(&error))?,
            }
        }
    }
}
