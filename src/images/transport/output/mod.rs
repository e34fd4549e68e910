//! Files that become visible whole, and content that is checked while it is written.

mod staged;
mod tar;

use std::io::{self, Read, Write};

use crate::digest::Hashing;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::Blob;

pub(crate) use staged::{Staged, has_others, make_directory, sync_directory};
pub(crate) use tar::{ArchiveFile, TarWriter};

/// A reader that fails where the content is not the blob's: at its end at the latest.
pub(crate) struct Checked<R> {
    content: Option<Hashing<io::Take<R>>>,
    blob: Blob,
}

impl<R: Read> Checked<R> {
    pub(crate) fn new(blob: &Blob, content: R) -> Checked<R> {
        // One byte more shows that there is more.
        let content = Hashing::new(content.take(blob.size.saturating_add(1)));
        Checked { content: Some(content), blob: blob.clone() }
    }
}

/// What [`Checked`] found, inside of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("expected {expected}, found {found}")]
struct Differs {
    expected: String,
    found: String,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(content) = &mut self.content else { return Ok(0) };
        let read = content.read(buffer)?;
        let differs = |expected, found| io::Error::new(io::ErrorKind::InvalidData, Differs { expected, found });
        if content.length() > self.blob.size {
            return Err(differs(format!("{} bytes", self.blob.size), "more".to_owned()));
        }
        if read == 0 && !buffer.is_empty() {
            let finished = self.content.take().map(Hashing::finish);
            if let Some((digest, length, _)) = finished {
                if length != self.blob.size {
                    return Err(differs(format!("{} bytes", self.blob.size), format!("{length}")));
                }
                if digest != self.blob.digest {
                    return Err(differs(self.blob.digest.to_string(), digest.to_string()));
                }
            }
        }
        Ok(read)
    }
}

/// Writes a blob's content, and checks it.
pub(crate) fn copy_blob(blob: &Blob, content: &mut dyn Read, out: &mut dyn Write) -> Result<()> {
    let mut content = Checked::new(blob, content);
    io::copy(&mut content, out).map_err(|error| copy_error(blob, "write", error))?;
    Ok(())
}

/// The error of a copy of a blob: reading, checking or writing.
pub(crate) fn copy_error(blob: &Blob, call: &'static str, mut error: io::Error) -> Error {
    let inner = error.get_mut().map(|inner| &mut *inner);
    if let Some(differs) = inner.and_then(|inner| inner.downcast_mut::<Differs>()) {
        let cause = Cause::Mismatch {
            expected: std::mem::take(&mut differs.expected),
            found: std::mem::take(&mut differs.found),
        };
        return Error::new(Step::Push, blob.digest, cause);
    }
    Error::system(Step::Push, blob.digest, call, error)
}
