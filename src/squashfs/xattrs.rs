//! Extended attributes: the set of one entry, and the table of all sets.
//!
//! Entries with the same attributes share one set. The table has three parts: the sets themselves
//! as metadata, for each set a descriptor of 16 bytes, and the positions of the descriptors'
//! blocks.

use std::collections::{BTreeMap, HashMap};

use super::compress::Compress;
use super::error::Fault;
use super::metadata::{Metadata, MetadataWriter, pack};

/// The prefixes that the format replaces by a number (`SQUASHFS_XATTR_…`).
const PREFIXES: [(&[u8], u16); 3] = [(b"user.", 0), (b"trusted.", 1), (b"security.", 2)];
/// `XATTR_NAME_MAX`, prefix included.
const NAME_LENGTH: usize = 255;
/// `XATTR_SIZE_MAX`.
const VALUE_LENGTH: usize = 65536;

/// The encoded attributes of one entry, at least one, ordered by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct XattrSet {
    bytes: Vec<u8>,
    count: u32,
    /// What `listxattr` and `getxattr` would give in all: full names with their NULs, and values.
    listed: u32,
}

impl XattrSet {
    /// Checks and encodes attributes; nothing if there are none.
    pub(super) fn encode(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<XattrSet>, Fault> {
        let mut sorted = BTreeMap::new();
        for (name, value) in xattrs {
            if sorted.insert(name, value).is_some() {
                return Err(Fault::XattrRepeated(shown(name)));
            }
        }
        let mut set = XattrSet { bytes: Vec::new(), count: 0, listed: 0 };
        for (name, value) in sorted {
            set.push(name, value)?;
        }
        Ok((set.count > 0).then_some(set))
    }

    /// The attributes of a set, if there is one, and one more; it replaces one of its name.
    pub(super) fn with(set: Option<&XattrSet>, name: &[u8], value: &[u8]) -> Result<XattrSet, Fault> {
        let mut xattrs = set.map_or_else(Vec::new, XattrSet::decode);
        xattrs.retain(|(present, _)| present != name);
        xattrs.push((name.to_vec(), value.to_vec()));
        Ok(XattrSet::encode(&xattrs)?.unwrap_or(XattrSet { bytes: Vec::new(), count: 0, listed: 0 }))
    }

    /// The names and values that it was made of.
    fn decode(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rest = self.bytes.as_slice();
        let mut take = |length: usize| rest.split_off(..length).unwrap_or_default();
        let mut xattrs = Vec::new();
        for _ in 0..self.count {
            let code = number(take(2));
            let length = number(take(2));
            let prefix =
                PREFIXES.iter().find(|(_, known)| usize::from(*known) == code).map_or(&b""[..], |(text, _)| text);
            let name = [prefix, take(length)].concat();
            let length = number(take(4));
            xattrs.push((name, take(length).to_vec()));
        }
        xattrs
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        let (code, rest) = split_prefix(name).ok_or_else(|| Fault::XattrPrefix(shown(name)))?;
        if rest.is_empty() || name.len() > NAME_LENGTH || name.contains(&0) {
            return Err(Fault::XattrName(shown(name)));
        }
        if value.len() > VALUE_LENGTH {
            return Err(Fault::XattrValue { name: shown(name), length: value.len() });
        }
        self.bytes.extend(code.to_le_bytes());
        self.bytes.extend((rest.len() as u16).to_le_bytes());
        self.bytes.extend(rest);
        self.bytes.extend((value.len() as u32).to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
        // Saturates only beyond 4 GiB of attributes on one entry; the kernel does not use the
        // number.
        self.listed = self.listed.saturating_add((name.len() + 1 + value.len()) as u32);
        Ok(())
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn split_prefix(name: &[u8]) -> Option<(u16, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, code)| Some((*code, name.strip_prefix(*prefix)?)))
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Collects sets and numbers them in the order in which they first appear.
pub(super) struct XattrTable<'a> {
    compressor: &'a dyn Compress,
    sets: MetadataWriter<'a>,
    /// Encoded set to number. Only looked up, never iterated: its order is random.
    numbers: HashMap<Vec<u8>, u32>,
    descriptors: Vec<u8>,
}

impl<'a> XattrTable<'a> {
    pub(super) fn new(compressor: &'a dyn Compress) -> XattrTable<'a> {
        XattrTable {
            compressor,
            sets: MetadataWriter::new(compressor),
            numbers: HashMap::new(),
            descriptors: Vec::new(),
        }
    }

    /// The number of a set, adding it if it is new.
    pub(super) fn number(&mut self, set: &XattrSet) -> Result<u32, Fault> {
        if let Some(number) = self.numbers.get(&set.bytes) {
            return Ok(*number);
        }
        // Sets have at least 9 bytes, so that the 4 GiB limit of the sets comes before that of the
        // numbers.
        let number = self.numbers.len() as u32;
        self.descriptors.extend(self.sets.position().reference().to_le_bytes());
        self.sets.write(&set.bytes)?;
        self.descriptors.extend(set.count.to_le_bytes());
        self.descriptors.extend(set.listed.to_le_bytes());
        self.numbers.insert(set.bytes.clone(), number);
        Ok(number)
    }

    /// The whole table; nothing if no entry has attributes.
    pub(super) fn finish(self) -> Result<Option<EncodedXattrs>, Fault> {
        if self.numbers.is_empty() {
            return Ok(None);
        }
        let descriptors = pack(self.compressor, &self.descriptors)?;
        Ok(Some(EncodedXattrs { sets: self.sets.finish()?, descriptors, count: self.numbers.len() as u32 }))
    }
}

/// The table, not yet at its place in the image.
pub(super) struct EncodedXattrs {
    pub(super) sets: Metadata,
    pub(super) descriptors: Metadata,
    count: u32,
}

impl EncodedXattrs {
    /// The part that the superblock points to: where the sets begin, how many there are, where the
    /// descriptors' blocks are.
    pub(super) fn header(&self, sets_at: u64, descriptors_at: u64) -> Vec<u8> {
        let mut header = sets_at.to_le_bytes().to_vec();
        header.extend(self.count.to_le_bytes());
        header.extend([0; 4]);
        header.extend(self.descriptors.index(descriptors_at));
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::compress::Stored;

    fn set(xattrs: &[(&str, &[u8])]) -> Result<Option<XattrSet>, Fault> {
        let owned: Vec<_> = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        XattrSet::encode(&owned)
    }

    #[test]
    fn a_set_is_what_mksquashfs_writes_for_it() {
        let set = set(&[("user.abc", b"hello"), ("trusted.overlay.opaque", b"y")]).unwrap().unwrap();
        let expected = b"\x01\0\x0e\0overlay.opaque\x01\0\0\0y\0\0\x03\0abc\x05\0\0\0hello";
        assert_eq!(set.bytes, expected);
        assert_eq!((set.count, set.listed), (2, 38));
    }

    #[test]
    fn the_order_in_which_attributes_are_given_does_not_matter() {
        let one = set(&[("user.a", b"1"), ("security.capability", b"2")]).unwrap();
        assert_eq!(one, set(&[("security.capability", b"2"), ("user.a", b"1")]).unwrap());
        assert_eq!(set(&[]).unwrap(), None);
    }

    #[test]
    fn attributes_that_the_kernel_would_not_show_are_refused() {
        let long = format!("user.{}", "n".repeat(251));
        let large = vec![0; 65537];
        for (xattrs, fault) in [
            (vec![("system.posix_acl_access", &b"x"[..])], "XattrPrefix(\"system.posix_acl_access\")"),
            (vec![("User.a", b"x")], "XattrPrefix(\"User.a\")"),
            (vec![("", b"x")], "XattrPrefix(\"\")"),
            (vec![("user.", b"x")], "XattrName(\"user.\")"),
            (vec![("user.a\0", b"x")], "XattrName(\"user.a\\0\")"),
            (vec![(long.as_str(), b"x")], &format!("XattrName({long:?})")),
            (vec![("user.a", &large)], "XattrValue { name: \"user.a\", length: 65537 }"),
            (vec![("user.a", b"x"), ("user.a", b"y")], "XattrRepeated(\"user.a\")"),
        ] {
            assert_eq!(format!("{:?}", set(&xattrs).unwrap_err()), fault);
        }
    }

    #[test]
    fn one_more_attribute_is_added_or_replaces_its_like() {
        let given: [(&str, &[u8]); 3] = [("user.b", b"2"), ("security.capability", b"\x01"), ("trusted.c", b"")];
        let two = set(&given[..2]).unwrap().unwrap();
        assert_eq!(XattrSet::with(Some(&two), b"trusted.c", b"").unwrap(), set(&given).unwrap().unwrap());
        assert_eq!(XattrSet::with(Some(&two), b"user.b", b"2").unwrap(), two);
        assert_eq!(XattrSet::with(None, b"user.b", b"2").unwrap(), set(&given[..1]).unwrap().unwrap());
        assert!(matches!(XattrSet::with(Some(&two), b"x", b""), Err(Fault::XattrPrefix(_))));
    }

    #[test]
    fn equal_sets_share_a_number_and_descriptors_point_at_sets() {
        let mut table = XattrTable::new(&Stored);
        let large = vec![7; 9000];
        let (a, b) = (set(&[("user.a", &large)]).unwrap().unwrap(), set(&[("user.b", b"2")]).unwrap().unwrap());
        let numbers: Vec<u32> = [&a, &b, &a].map(|set| table.number(set).unwrap()).to_vec();
        assert_eq!(numbers, [0, 1, 0]);
        // The first set has 4 + 1 + 4 + 9000 bytes: 8192 in the block at 0, 817 in the block at 8194.
        let second = &table.descriptors[16..];
        assert_eq!(second[..8], (8194_u64 << 16 | 817).to_le_bytes());
        assert_eq!(second[8..], [1, 0, 0, 0, 8, 0, 0, 0]);
        let encoded = table.finish().unwrap().unwrap();
        let header = encoded.header(1000, 20000);
        assert_eq!(header[..8], 1000_u64.to_le_bytes());
        assert_eq!(header[8..16], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header[16..], 20000_u64.to_le_bytes());
    }

    #[test]
    fn without_attributes_there_is_no_table() {
        assert!(XattrTable::new(&Stored).finish().unwrap().is_none());
    }
}
