//! Why an operation on images failed: the step, the object, the cause.

use std::fmt;
use std::io;

/// What an operation returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where in an operation it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Understanding what the caller asked for.
    Request,
    /// Finding the image: its manifest, for a platform.
    Resolve,
    /// Reading a blob from where the image is.
    Fetch,
    /// Turning a layer's tar into squashfs.
    Convert,
    /// Turning a squashfs layer into tar.
    Unconvert,
    /// Reading or writing the local store.
    Store,
    /// Reading or changing the tag file.
    Tag,
    /// Reading a stored image again, to see whether it is what it was.
    Verify,
    /// Writing an image to where it goes.
    Push,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Request => "request",
            Step::Resolve => "resolve",
            Step::Fetch => "fetch",
            Step::Convert => "convert",
            Step::Unconvert => "unconvert",
            Step::Store => "store",
            Step::Tag => "tag",
            Step::Verify => "verify",
            Step::Push => "push",
        })
    }
}

/// A failed operation on images. [`fmt::Display`] is one line: step, object, cause.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {object}: {cause}")]
pub struct Error {
    step: Step,
    object: String,
    #[source]
    cause: Cause,
}

impl Error {
    /// An error of this step about this object: an image name, a digest, a path, an entry.
    pub fn new(step: Step, object: impl fmt::Display, cause: Cause) -> Error {
        Error { step, object: object.to_string(), cause }
    }

    /// A failed system call about this object.
    pub fn system(step: Step, object: impl fmt::Display, call: &'static str, source: impl Into<io::Error>) -> Error {
        Error::new(step, object, Cause::System { call, source: source.into() })
    }

    /// Bad input: what is wrong with the object, and what would be right.
    pub fn invalid(step: Step, object: impl fmt::Display, reason: impl Into<String>) -> Error {
        Error::new(step, object, Cause::Invalid(reason.into()))
    }

    /// The same error about an object of the caller's: the blob that was read, say.
    #[must_use]
    pub fn about(self, object: impl fmt::Display) -> Error {
        Error { object: object.to_string(), ..self }
    }

    /// Where it failed.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// What it was about.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What is wrong.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.cause {
            Cause::Invalid(_) | Cause::Entry { .. } => ErrorKind::Invalid,
            Cause::Limit { .. } => ErrorKind::Limit,
            Cause::NotFound(_) => ErrorKind::NotFound,
            Cause::Denied(_) => ErrorKind::Denied,
            Cause::Mismatch { .. } => ErrorKind::Mismatch,
            Cause::Conflict(_) => ErrorKind::Conflict,
            Cause::Unsupported(_) => ErrorKind::Unsupported,
            Cause::Network(_) => ErrorKind::Network,
            Cause::System { .. } => ErrorKind::System,
            Cause::Squashfs(error) => match error.kind() {
                squall::ErrorKind::Invalid => ErrorKind::Invalid,
                squall::ErrorKind::Exhausted => ErrorKind::Limit,
                _ => ErrorKind::System,
            },
        }
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The object is not what it has to be; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// An entry of a layer's tar cannot be taken.
    #[error("entry {entry:?} at byte {offset}: {reason}")]
    Entry {
        /// The entry's path as the tar has it, shortened where it is very long.
        entry: String,
        /// Where its header begins in the uncompressed tar, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The object is larger than what is accepted.
    #[error("{what} over the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// The largest number accepted.
        limit: u64,
    },
    /// It is not there; the text says where it was searched for.
    #[error("not found: {0}")]
    NotFound(String),
    /// Whoever has it does not give it to this caller.
    #[error("access denied: {0}")]
    Denied(String),
    /// The content has another digest or size than its name says.
    #[error("expected {expected}, found {found}")]
    Mismatch {
        /// What its name or description says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Somebody else changed it meanwhile, or has it.
    #[error("{0}")]
    Conflict(String),
    /// A kind of object that Squall does not handle.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A connection failed, or the other side did.
    #[error("{0}")]
    Network(String),
    /// A failed system call.
    #[error("{call}: {source}")]
    System {
        /// The call: `open`, `rename`, `read`.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The squashfs writer refused.
    #[error("{}", chain(.0))]
    Squashfs(#[from] squall::squashfs::SquashfsError),
}

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Mend the input.
    Invalid,
    /// Raise a limit, or refuse the image.
    Limit,
    /// Name something that exists.
    NotFound,
    /// Give other credentials.
    Denied,
    /// Do not trust the content.
    Mismatch,
    /// Try again.
    Conflict,
    /// Use another tool for this image.
    Unsupported,
    /// Try again later.
    Network,
    /// Mend the machine.
    System,
}

/// An error in one line with its own causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
