//! One header block of a tar: 512 bytes, in the forms of v7, ustar, star and GNU.

use std::ops::Range;

/// Headers and padding come in blocks of this size.
pub(super) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const TIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// star has times behind a shorter prefix, and says so at the end.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MARK: Range<usize> = 508..512;
const SPARSE: Range<usize> = 386..482;
const SPARSE_MORE: usize = 482;
const SPARSE_SIZE: Range<usize> = 483..495;
const EXTENSION_MORE: usize = 504;

/// A header block whose checksum is right.
pub(super) struct RawHeader(Box<[u8; BLOCK]>);

impl RawHeader {
    /// Fails if the checksum is wrong. Old programs summed up signed bytes.
    pub(super) fn new(block: Box<[u8; BLOCK]>) -> Result<RawHeader, String> {
        let field = |at: &usize| !CHECKSUM.contains(at);
        let bytes = || block.iter().enumerate().map(|(at, byte)| if field(&at) { *byte } else { b' ' });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
        let stated = number(&block[CHECKSUM]).map_err(|reason| format!("checksum: {reason}"))?;
        if stated != unsigned && stated != signed {
            return Err(format!("the checksum is {stated}, not {unsigned}"));
        }
        Ok(RawHeader(block))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    /// The path, with ustar's prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = match (&self.0[MAGIC], &self.0[STAR_MARK]) {
            (b"ustar\0", b"tar\0") => text(&self.0[STAR_PREFIX]),
            (b"ustar\0", _) => text(&self.0[PREFIX]),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[LINK]).to_vec()
    }

    /// The permission bits; some programs put the type there too.
    pub(super) fn mode(&self) -> Result<u32, String> {
        Ok((self.field("mode", MODE)? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i64, String> {
        self.field("user id", UID)
    }

    pub(super) fn gid(&self) -> Result<i64, String> {
        self.field("group id", GID)
    }

    pub(super) fn size(&self) -> Result<u64, String> {
        not_negative("size", self.field("size", SIZE)?)
    }

    pub(super) fn time(&self) -> Result<i64, String> {
        self.field("time", TIME)
    }

    pub(super) fn device(&self) -> Result<(i64, i64), String> {
        Ok((self.field("major number", MAJOR)?, self.field("minor number", MINOR)?))
    }

    /// The size of a file in GNU's old sparse form, with its holes.
    pub(super) fn sparse_size(&self) -> Result<u64, String> {
        not_negative("size", self.field("size", SPARSE_SIZE)?)
    }

    /// The first four pieces of that form, and whether a block with more follows.
    pub(super) fn sparse_pieces(&self) -> Result<(Vec<(u64, u64)>, bool), String> {
        Ok((pieces(&self.0[SPARSE])?, self.0[SPARSE_MORE] != 0))
    }

    fn field(&self, name: &str, range: Range<usize>) -> Result<i64, String> {
        number(&self.0[range]).map_err(|reason| format!("{name}: {reason}"))
    }
}

/// A block with more pieces of GNU's old sparse form, and whether another one follows.
pub(super) fn sparse_extension(block: &[u8; BLOCK]) -> Result<(Vec<(u64, u64)>, bool), String> {
    Ok((pieces(&block[..EXTENSION_MORE])?, block[EXTENSION_MORE] != 0))
}

/// Offsets and lengths; the list ends with an empty field.
fn pieces(bytes: &[u8]) -> Result<Vec<(u64, u64)>, String> {
    let mut pieces = Vec::new();
    for piece in bytes.chunks_exact(24) {
        let (offset, length) = piece.split_at(12);
        if offset[0] == 0 {
            break;
        }
        let value = |field| number(field).and_then(|number| not_negative("piece of a sparse file", number));
        pieces.push((value(offset)?, value(length)?));
    }
    Ok(pieces)
}

fn not_negative(name: &str, number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("{name}: {number} is negative"))
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, between spaces or NULs, or in base 256 with the highest bit set.
fn number(field: &[u8]) -> Result<i64, String> {
    match field.first() {
        Some(first @ (0x80 | 0xff)) => base_256(*first, &field[1..]),
        _ => octal(field),
    }
}

/// GNU's form: two's complement, the highest byte first.
fn base_256(first: u8, rest: &[u8]) -> Result<i64, String> {
    let start: i128 = if first == 0xff { -1 } else { 0 };
    // At most 11 bytes: 88 bits.
    let number = rest.iter().fold(start, |number, byte| number << 8 | i128::from(*byte));
    i64::try_from(number).map_err(|_| format!("{number} is out of range"))
}

fn octal(field: &[u8]) -> Result<i64, String> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |number, digit| match digit {
        // Twelve digits have 36 bits.
        b'0'..=b'7' => Ok(number << 3 | i64::from(digit - b'0')),
        _ => Err(format!("{:?} is no number", String::from_utf8_lossy(&digits[..end]))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, expected) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777", 0o77777777),
            (b"\x80\0\0\0\xff\xff\xff\xfe", 0xffff_fffe),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        ] {
            assert_eq!(number(field), Ok(expected), "{field:?}");
        }
        for field in [&b"0000648\0"[..], b"-1\0", b"\x80\x01\0\0\0\0\0\0\0\0\0\0", b"\x81\0\0\0\0\0\0\0"] {
            assert!(number(field).is_err(), "{field:?}");
        }
    }
}
