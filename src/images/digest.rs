//! Content names, and readers that check content against them on the way.

use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The sha256 of some content, written `sha256:` and 64 lower-case hex digits.
///
/// OCI's image specification has sha512 too; no registry uses it, and Storm's store has no place
/// for it, so it is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// From 64 lower-case hex digits, as the store's files are named.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(bytes))
    }

    /// 64 lower-case hex digits, without `sha256:`.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        text.strip_prefix("sha256:")
            .and_then(Digest::from_hex)
            .ok_or_else(|| format!("{text:?} is not sha256: and 64 lower-case hex digits"))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Digest and length of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Their sha256.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// A reader that computes digest and length of what passes through it.
#[derive(Debug)]
pub struct Hashing<R> {
    inner: R,
    hash: sha2::Sha256,
    length: u64,
}

impl<R> Hashing<R> {
    /// In front of a reader.
    pub fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hash: sha2::Sha256::new(), length: 0 }
    }

    /// How many bytes have passed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest and the number of bytes that have passed, and the reader back.
    pub fn finish(self) -> (Digest, u64, R) {
        (Digest(self.hash.finalize().into()), self.length, self.inner)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.length += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Digest::from_hex(&EMPTY[7..]).unwrap().hex(), EMPTY[7..]);
    }

    #[test]
    fn other_texts_are_no_digests() {
        for text in ["", "sha256:", &EMPTY[7..], &EMPTY.to_uppercase(), &EMPTY[..70], "sha512:00", &format!("{EMPTY}0")]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        // Cut in the middle of a character.
        assert!(Digest::from_hex(&"é".repeat(32)).is_none());
    }

    #[test]
    fn what_passes_is_counted_and_hashed() {
        let mut reader = Hashing::new(&b"some content"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (digest, length, _) = reader.finish();
        assert_eq!((digest, length), (Digest::of(b"some content"), 12));
    }
}
