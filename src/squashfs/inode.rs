//! The encoding of inodes: seven kinds, each in a basic and an extended form.

use super::attributes::DeviceKind;
use super::directory::Listing;
use super::error::Fault;
use super::metadata::Position;
use super::tree::FileData;

/// "No fragment", "no extended attributes" (`SQUASHFS_INVALID_FRAG`, `SQUASHFS_INVALID_XATTR`).
const NONE: u32 = u32::MAX;
/// From a kind's basic number to its extended one.
const EXTENDED: u16 = 7;
/// What the kernel adds to the length of a listing for `.` and `..`.
const DOTS: u64 = 3;

/// The kinds of inodes, with the numbers of their basic forms; directory entries use these too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    Directory = 1,
    File = 2,
    Symlink = 3,
    BlockDevice = 4,
    CharacterDevice = 5,
    Fifo = 6,
    Socket = 7,
}

impl From<DeviceKind> for Kind {
    fn from(kind: DeviceKind) -> Kind {
        match kind {
            DeviceKind::Character => Kind::CharacterDevice,
            DeviceKind::Block => Kind::BlockDevice,
        }
    }
}

/// What inodes of every kind have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) mode: u16,
    /// Places in the id table.
    pub(super) uid: u16,
    pub(super) gid: u16,
    pub(super) modification_time: u32,
    /// From 1 on.
    pub(super) number: u32,
    pub(super) links: u32,
    /// The number of the set of extended attributes.
    pub(super) xattrs: Option<u32>,
}

impl Common {
    fn head(&self, number_of_form: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        for field in [number_of_form, self.mode, self.uid, self.gid] {
            bytes.extend(field.to_le_bytes());
        }
        put(&mut bytes, &[self.modification_time, self.number]);
        bytes
    }

    fn xattr_number(&self) -> u32 {
        self.xattrs.unwrap_or(NONE)
    }

    /// A directory. Extended for attributes, for a listing beyond 16 bits of length, and for one
    /// with an index.
    pub(super) fn directory(&self, listing: &Listing, parent: u32) -> Result<Vec<u8>, Fault> {
        let Position { block, offset } = listing.start;
        let size = u32::try_from(listing.length + DOTS).map_err(|_| Fault::DirectoryTooLarge)?;
        if let (None, true, Ok(size)) = (self.xattrs, listing.index.is_empty(), u16::try_from(size)) {
            let mut bytes = self.head(Kind::Directory as u16);
            put(&mut bytes, &[block, self.links]);
            bytes.extend(size.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            put(&mut bytes, &[parent]);
            return Ok(bytes);
        }
        let mut bytes = self.head(Kind::Directory as u16 + EXTENDED);
        put(&mut bytes, &[self.links, size, block, parent]);
        bytes.extend((listing.index.len() as u16).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        put(&mut bytes, &[self.xattr_number()]);
        for entry in &listing.index {
            put(&mut bytes, &[entry.at, entry.block, entry.name.len() as u32 - 1]);
            bytes.extend(entry.name);
        }
        Ok(bytes)
    }

    /// A regular file. Extended for attributes, hard links, holes, and for a size or place beyond
    /// 32 bits.
    pub(super) fn file(&self, data: &FileData) -> Vec<u8> {
        let basic = self.xattrs.is_none() && self.links == 1 && data.holes == 0;
        let mut bytes = match (u32::try_from(data.start), u32::try_from(data.size)) {
            (Ok(start), Ok(size)) if basic => {
                let mut bytes = self.head(Kind::File as u16);
                put(&mut bytes, &[start, NONE, 0, size]);
                bytes
            }
            _ => {
                let mut bytes = self.head(Kind::File as u16 + EXTENDED);
                for field in [data.start, data.size, data.holes] {
                    bytes.extend(field.to_le_bytes());
                }
                put(&mut bytes, &[self.links, NONE, 0, self.xattr_number()]);
                bytes
            }
        };
        put(&mut bytes, &data.blocks);
        bytes
    }

    /// A symlink.
    pub(super) fn symlink(&self, target: &[u8]) -> Vec<u8> {
        let mut bytes = self.head(Kind::Symlink as u16 + self.extension());
        put(&mut bytes, &[self.links, target.len() as u32]);
        bytes.extend(target);
        self.end(bytes)
    }

    /// A device node with its encoded number.
    pub(super) fn device(&self, kind: DeviceKind, number: u32) -> Vec<u8> {
        let mut bytes = self.head(Kind::from(kind) as u16 + self.extension());
        put(&mut bytes, &[self.links, number]);
        self.end(bytes)
    }

    /// A fifo or socket.
    pub(super) fn endpoint(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = self.head(kind as u16 + self.extension());
        put(&mut bytes, &[self.links]);
        self.end(bytes)
    }

    /// All kinds but directories and files are extended for attributes alone, and have those last.
    fn extension(&self) -> u16 {
        self.xattrs.map_or(0, |_| EXTENDED)
    }

    fn end(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend(self.xattrs.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, fields: &[u32]) {
    bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
}

/// A device number as the kernel's `new_encode_dev` lays it out: 12 bits major between the low 8
/// and the high 12 bits minor.
pub(super) fn device_number(major: u32, minor: u32) -> Result<u32, Fault> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Fault::Device { major, minor });
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::directory::IndexEntry;

    const COMMON: Common =
        Common { mode: 0o644, uid: 1, gid: 2, modification_time: 0x01020304, number: 5, links: 1, xattrs: None };

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn form(bytes: &[u8]) -> u8 {
        assert_eq!(bytes[1], 0);
        bytes[0]
    }

    #[test]
    fn a_basic_file_is_48_bytes_with_one_block() {
        let data = FileData { start: 96, size: 3, holes: 0, blocks: vec![1 << 24 | 3] };
        #[rustfmt::skip]
        let expected = [
            2, 0, 0xa4, 1, 1, 0, 2, 0, 4, 3, 2, 1, 5, 0, 0, 0,
            96, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 1,
        ];
        assert_eq!(COMMON.file(&data), expected);
    }

    #[test]
    fn a_file_is_extended_when_the_basic_form_cannot_say_it() {
        let small = FileData { start: 96, size: 3, holes: 0, blocks: Vec::new() };
        let limit = FileData { start: u64::from(u32::MAX), size: u64::from(u32::MAX), ..small.clone() };
        for (why, common, data, expected) in [
            ("nothing", COMMON, small.clone(), 2),
            ("largest basic start and size", COMMON, limit, 2),
            ("links", Common { links: 2, ..COMMON }, small.clone(), 9),
            ("attributes", Common { xattrs: Some(0), ..COMMON }, small.clone(), 9),
            ("holes", COMMON, FileData { holes: 1, ..small.clone() }, 9),
            ("size", COMMON, FileData { size: 1 << 32, ..small.clone() }, 9),
            ("start", COMMON, FileData { start: 1 << 32, ..small.clone() }, 9),
        ] {
            assert_eq!(form(&common.file(&data)), expected, "{why}");
        }
        let bytes =
            Common { links: 3, xattrs: Some(7), ..COMMON }.file(&FileData { size: 1 << 33, holes: 4096, ..small });
        assert_eq!(bytes[16..40], [96_u64, 1 << 33, 4096].map(u64::to_le_bytes).concat());
        assert_eq!([40, 44, 48, 52].map(|at| word(&bytes, at)), [3, NONE, 0, 7]);
        assert_eq!(bytes.len(), 56);
    }

    #[test]
    fn a_directory_is_extended_for_length_index_or_attributes() {
        let listing = |length, index| Listing { start: Position { block: 8194, offset: 10 }, length, index };
        let basic = COMMON.directory(&listing(65532, vec![]), 9).unwrap();
        assert_eq!(basic[16..], [2, 32, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 10, 0, 9, 0, 0, 0]);
        let long = COMMON.directory(&listing(65533, vec![]), 9).unwrap();
        assert_eq!(form(&long), 8);
        assert_eq!([16, 20, 24, 28].map(|at| word(&long, at)), [1, 65536, 8194, 9]);
        assert_eq!(long[32..], [0, 0, 10, 0, 255, 255, 255, 255]);
        let index = vec![IndexEntry { at: 20, block: 30, name: b"abc" }];
        let indexed = COMMON.directory(&listing(100, index), 9).unwrap();
        assert_eq!(form(&indexed), 8);
        assert_eq!(indexed[32..34], [1, 0]);
        assert_eq!(indexed[40..], *b"\x14\0\0\0\x1e\0\0\0\x02\0\0\0abc");
        let attributes = Common { xattrs: Some(1), ..COMMON }.directory(&listing(0, vec![]), 9).unwrap();
        assert_eq!(form(&attributes), 8);
        let too_long = COMMON.directory(&listing(u64::from(u32::MAX) - 2, vec![]), 9);
        assert!(matches!(too_long, Err(Fault::DirectoryTooLarge)));
    }

    #[test]
    fn the_other_kinds_have_their_attributes_last() {
        let with = Common { xattrs: Some(6), ..COMMON };
        for (bytes, kind, body) in [
            (COMMON.symlink(b"to"), 3, &b"\x01\0\0\0\x02\0\0\0to"[..]),
            (with.symlink(b"to"), 10, b"\x01\0\0\0\x02\0\0\0to\x06\0\0\0"),
            (COMMON.device(DeviceKind::Block, 0x801), 4, b"\x01\0\0\0\x01\x08\0\0"),
            (with.device(DeviceKind::Block, 0x801), 11, b"\x01\0\0\0\x01\x08\0\0\x06\0\0\0"),
            (COMMON.device(DeviceKind::Character, 0), 5, b"\x01\0\0\0\0\0\0\0"),
            (with.device(DeviceKind::Character, 0), 12, b"\x01\0\0\0\0\0\0\0\x06\0\0\0"),
            (COMMON.endpoint(Kind::Fifo), 6, b"\x01\0\0\0"),
            (with.endpoint(Kind::Fifo), 13, b"\x01\0\0\0\x06\0\0\0"),
            (COMMON.endpoint(Kind::Socket), 7, b"\x01\0\0\0"),
            (with.endpoint(Kind::Socket), 14, b"\x01\0\0\0\x06\0\0\0"),
        ] {
            assert_eq!(form(&bytes), kind);
            assert_eq!(bytes[16..], *body, "kind {kind}");
        }
    }

    #[test]
    fn device_numbers_are_laid_out_as_the_kernel_does() {
        for (major, minor, number) in
            [(0, 0, 0), (1, 3, 0x103), (8, 1, 0x801), (259, 0, 0x10300), (8, 256, 0x100800), (4095, 1048575, u32::MAX)]
        {
            assert_eq!(device_number(major, minor).unwrap(), number, "{major}:{minor}");
        }
        for (major, minor) in [(4096, 0), (0, 1048576)] {
            assert!(device_number(major, minor).is_err(), "{major}:{minor}");
        }
    }
}
