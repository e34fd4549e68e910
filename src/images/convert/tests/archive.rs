//! A tar, block by block.

/// Header fields; what is not said is that of a small file.
pub(super) struct Head<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: u8,
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: &'a [u8],
    pub(super) gid: &'a [u8],
    pub(super) size: &'a [u8],
    pub(super) time: &'a [u8],
    pub(super) device: (u32, u32),
    pub(super) magic: &'a [u8],
    pub(super) prefix: &'a [u8],
    /// Bytes at other places.
    pub(super) extra: &'a [(usize, Vec<u8>)],
}

impl<'a> Head<'a> {
    pub(super) fn new(path: &'a str, kind: u8) -> Head<'a> {
        Head {
            path: path.as_bytes(),
            kind,
            link: b"",
            mode: 0o644,
            uid: b"0000000",
            gid: b"0000000",
            size: b"00000000000",
            time: b"00000000005",
            device: (0, 0),
            magic: b"ustar\x0000",
            prefix: b"",
            extra: &[],
        }
    }

    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, self.path);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, self.uid);
        put(116, self.gid);
        put(124, self.size);
        put(136, self.time);
        put(156, &[self.kind]);
        put(157, self.link);
        put(257, self.magic);
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        put(345, self.prefix);
        for (at, bytes) in self.extra {
            put(*at, bytes);
        }
        sum(&mut block);
        block
    }
}

/// Puts the right checksum into a header.
pub(super) fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An archive that grows.
#[derive(Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    pub(super) fn new() -> Tar {
        Tar::default()
    }

    pub(super) fn head(mut self, head: &Head<'_>) -> Tar {
        self.0.extend(head.block());
        self
    }

    /// A header with a body.
    pub(super) fn with(self, head: Head<'_>, content: &[u8]) -> Tar {
        let size = format!("{:011o}", content.len());
        self.head(&Head { size: size.as_bytes(), ..head }).body(content)
    }

    /// Content and its padding.
    pub(super) fn body(mut self, content: &[u8]) -> Tar {
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, path: &str, content: &str) -> Tar {
        self.with(Head::new(path, b'0'), content.as_bytes())
    }

    pub(super) fn directory(self, path: &str) -> Tar {
        self.head(&Head { mode: 0o700, ..Head::new(path, b'5') })
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Tar {
        self.head(&Head { link: target.as_bytes(), ..Head::new(path, b'2') })
    }

    pub(super) fn link(self, path: &str, target: &str) -> Tar {
        self.head(&Head { link: target.as_bytes(), ..Head::new(path, b'1') })
    }

    /// PAX records for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let body = records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<u8>>();
        self.with(Head::new("PaxHeaders/1", b'x'), &body)
    }

    /// With two blocks of zeros.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    // One to five digits that count themselves.
    let length = (1..6).map(|digits| rest + digits).find(|length| length.to_string().len() == length - rest);
    [format!("{} {key}=", length.expect("a short record")).as_bytes(), value, b"\n"].concat()
}
