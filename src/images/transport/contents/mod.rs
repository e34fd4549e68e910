//! Files of an image below one place, a directory or an archive. Nothing in there is trusted: no
//! path leads out of it, and nothing is read that is not bounded.

mod beneath;
mod compressed;
mod spool;
mod tar;

use std::io::Read;

use crate::error::{Cause, Error, Result, Step};

pub(crate) use beneath::Beneath;
pub(crate) use compressed::Compression;
pub(crate) use spool::{nameless, open as open_archive};
pub(crate) use tar::TarIndex;

/// Named files that can be read, from several threads at once.
pub(crate) trait Contents: Send + Sync {
    /// The bytes of a regular file from `offset` on, and its whole length. `NotFound` where there
    /// is none.
    fn open(&self, path: &str, offset: u64) -> Result<(u64, Box<dyn Read + Send>)>;
}

/// Reads a whole document of at most `limit` bytes.
pub(crate) fn document(contents: &dyn Contents, path: &str, limit: u64) -> Result<Vec<u8>> {
    let (size, content) = contents.open(path, 0)?;
    let over = || Error::new(Step::Resolve, path, Cause::Limit { what: format!("document of {size} bytes"), limit });
    if size > limit {
        return Err(over());
    }
    let mut bytes = Vec::new();
    // The file may grow meanwhile.
    content
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::system(Step::Resolve, path, "read", error))?;
    if bytes.len() as u64 > limit { Err(over()) } else { Ok(bytes) }
}

/// Whether the error says that nothing is there.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error.cause(), Cause::NotFound(_))
}
