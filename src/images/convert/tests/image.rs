//! Reads an image of which nothing is compressed, and of which nothing is large.

use std::collections::BTreeMap;

const METADATA: usize = 8192;

/// What an inode says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Inode {
    pub(super) number: u32,
    /// `d`, `f`, `l`, `b`, `c`, `p`.
    pub(super) kind: char,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) time: u32,
    pub(super) links: u32,
    /// Content of a file, target of a symlink.
    pub(super) content: Vec<u8>,
    /// Bytes of content that are not stored.
    pub(super) holes: u64,
    pub(super) start: u64,
    pub(super) device: u32,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

/// All paths; the root's is empty.
pub(super) struct Image(pub(super) BTreeMap<String, Inode>);

impl Image {
    pub(super) fn read(bytes: &[u8]) -> Image {
        let reader = Reader(bytes);
        let mut inodes = BTreeMap::new();
        let mut open = vec![(String::new(), reader.long(32))];
        while let Some((path, reference)) = open.pop() {
            let (inode, names) = reader.inode(reference);
            for (name, child) in names {
                open.push((if path.is_empty() { name } else { format!("{path}/{name}") }, child));
            }
            inodes.insert(path, inode);
        }
        Image(inodes)
    }

    pub(super) fn at(&self, path: &str) -> &Inode {
        self.0.get(path).unwrap_or_else(|| panic!("no {path:?} in {:?}", self.paths()))
    }

    pub(super) fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|path| !path.is_empty()).collect()
    }
}

struct Reader<'a>(&'a [u8]);

type Names = Vec<(String, u64)>;

impl Reader<'_> {
    fn long(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// A metadata stream from a block's place and an offset in it on.
    fn stream(&self, mut at: usize, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < offset + length {
            let size = usize::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]));
            assert!(size & 0x8000 != 0, "compressed");
            let size = size & 0x7fff;
            bytes.extend(&self.0[at + 2..at + 2 + size]);
            at += 2 + size;
            if size < METADATA {
                break;
            }
        }
        bytes.split_off(offset)
    }

    fn id(&self, place: u16) -> u32 {
        word(&self.stream(self.long(self.long(48) as usize) as usize, usize::from(place) * 4, 4), 0)
    }

    fn inode(&self, reference: u64) -> (Inode, Names) {
        let table = self.long(64) as usize;
        let bytes = self.stream(table + (reference >> 16) as usize, (reference & 0xffff) as usize, 70_000);
        let form = half(&bytes, 0);
        let mut inode = Inode {
            mode: half(&bytes, 2),
            uid: self.id(half(&bytes, 4)),
            gid: self.id(half(&bytes, 6)),
            time: word(&bytes, 8),
            number: word(&bytes, 12),
            ..Inode::default()
        };
        let mut names = Vec::new();
        let mut xattrs = u32::MAX;
        match form {
            1 => {
                inode.links = word(&bytes, 20);
                names = self.names(word(&bytes, 16), half(&bytes, 26), u32::from(half(&bytes, 24)));
            }
            8 => {
                inode.links = word(&bytes, 16);
                names = self.names(word(&bytes, 24), half(&bytes, 34), word(&bytes, 20));
                xattrs = word(&bytes, 36);
            }
            2 => {
                inode.links = 1;
                (inode.start, inode.content) =
                    self.content(u64::from(word(&bytes, 16)), u64::from(word(&bytes, 28)), &bytes[32..]);
            }
            9 => {
                let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                inode.holes = long(32);
                inode.links = word(&bytes, 40);
                xattrs = word(&bytes, 52);
                (inode.start, inode.content) = self.content(long(16), long(24), &bytes[56..]);
            }
            3 | 10 => {
                inode.links = word(&bytes, 16);
                let end = 24 + word(&bytes, 20) as usize;
                inode.content = bytes[24..end].to_vec();
                xattrs = if form == 10 { word(&bytes, end) } else { xattrs };
            }
            4 | 5 | 11 | 12 => {
                inode.links = word(&bytes, 16);
                inode.device = word(&bytes, 20);
                xattrs = if form > 7 { word(&bytes, 24) } else { xattrs };
            }
            _ => {
                inode.links = word(&bytes, 16);
                xattrs = if form > 7 { word(&bytes, 20) } else { xattrs };
            }
        }
        inode.kind = b" dflbcps"[usize::from(if form > 7 { form - 7 } else { form })].into();
        if xattrs != u32::MAX {
            inode.xattrs = self.xattrs(xattrs);
        }
        (inode, names)
    }

    fn content(&self, start: u64, size: u64, blocks: &[u8]) -> (u64, Vec<u8>) {
        let block_size = u64::from(word(self.0, 12));
        let (mut content, mut at) = (Vec::new(), start as usize);
        for block in blocks.chunks(4).take(size.div_ceil(block_size) as usize) {
            let length = (size - content.len() as u64).min(block_size) as usize;
            match word(block, 0) {
                0 => content.resize(content.len() + length, 0),
                stored => {
                    assert_eq!(stored, length as u32 | 1 << 24);
                    content.extend(&self.0[at..at + length]);
                    at += length;
                }
            }
        }
        (start, content)
    }

    fn names(&self, block: u32, offset: u16, size: u32) -> Names {
        let size = size as usize - 3;
        let bytes = self.stream(self.long(72) as usize + block as usize, usize::from(offset), size);
        let (mut at, mut names) = (0, Vec::new());
        while at < size {
            let (count, inodes) = (word(&bytes, at) + 1, word(&bytes, at + 4));
            at += 12;
            for _ in 0..count {
                let end = at + 8 + usize::from(half(&bytes, at + 6)) + 1;
                let name = String::from_utf8_lossy(&bytes[at + 8..end]).into_owned();
                names.push((name, u64::from(inodes) << 16 | u64::from(half(&bytes, at))));
                at = end;
            }
        }
        names
    }

    fn xattrs(&self, number: u32) -> BTreeMap<String, Vec<u8>> {
        let header = self.long(56) as usize;
        let sets = self.long(header) as usize;
        let descriptor = self.stream(self.long(header + 16) as usize, number as usize * 16, 16);
        let place = u64::from_le_bytes(descriptor[..8].try_into().unwrap());
        let bytes = self.stream(sets + (place >> 16) as usize, (place & 0xffff) as usize, 70_000);
        let (mut at, mut xattrs) = (0, BTreeMap::new());
        for _ in 0..word(&descriptor, 8) {
            let prefix = ["user.", "trusted.", "security."][usize::from(half(&bytes, at))];
            let name = at + 4..at + 4 + usize::from(half(&bytes, at + 2));
            let value = name.end + 4..name.end + 4 + word(&bytes, name.end) as usize;
            at = value.end;
            xattrs.insert(format!("{prefix}{}", String::from_utf8_lossy(&bytes[name])), bytes[value].to_vec());
        }
        xattrs
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}
