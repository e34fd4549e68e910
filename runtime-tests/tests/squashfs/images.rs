//! Making images, each with the model of what it should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use squall::squashfs::{Attributes, Compress, DeviceKind, Options, Writer};

use crate::model::{Entry, IMAGE_TIME, Model, Seen, What};

/// Writes an image and, in parallel, the model of it.
pub struct Both {
    pub writer: Writer<File>,
    pub model: Model,
}

impl Both {
    pub fn new(image: &Path, block_size: u32, compression: Box<dyn Compress>) -> Both {
        // That their number leaves no trace is a test of the writer's own.
        let threads = NonZeroUsize::new(3).unwrap();
        let options = Options { block_size, modification_time: IMAGE_TIME, compression, threads };
        let file = File::options().read(true).write(true).create(true).truncate(true).open(image).unwrap();
        Both { writer: Writer::new(file, options).unwrap(), model: Model::new() }
    }

    /// Both have to agree on whether the entry is acceptable.
    pub fn apply(&mut self, path: &Path, what: &What) -> bool {
        let expected = self.model.apply(path, what);
        let writer = &mut self.writer;
        let result = match what {
            What::LinkTo(existing) => writer.hard_link(path, existing),
            What::New(entry, attributes) => match entry {
                Entry::Directory => writer.directory(path, attributes),
                Entry::File(content) => writer.file(path, attributes, &content[..]).map(|_| ()),
                Entry::Symlink(target) => writer.symlink(path, attributes, target),
                Entry::Device(kind, major, minor) => writer.device(path, attributes, *kind, *major, *minor),
                Entry::Fifo => writer.fifo(path, attributes),
                Entry::Socket => writer.socket(path, attributes),
            },
        };
        assert_eq!(result.is_ok(), expected, "{path:?} {what:?}: {result:?}");
        expected
    }

    pub fn add(&mut self, path: impl AsRef<Path>, entry: Entry, attributes: Attributes) {
        assert!(self.apply(path.as_ref(), &What::New(entry, attributes)), "{:?}", path.as_ref());
    }

    pub fn link(&mut self, path: &str, existing: &str) {
        assert!(self.apply(Path::new(path), &What::LinkTo(existing.into())), "{path}");
    }

    pub fn finish(self, image: &Path) -> BTreeMap<PathBuf, Seen> {
        let (file, summary) = self.writer.finish().unwrap();
        assert!(fs::metadata(image).unwrap().len() >= summary.bytes);
        file.set_len(summary.bytes).unwrap();
        assert_eq!(summary.bytes % 4096, 0);
        let expected = self.model.seen();
        let inodes: BTreeSet<_> = expected.values().map(|seen| &seen.same_as).collect();
        assert_eq!(inodes.len(), summary.inodes as usize);
        expected
    }
}

/// Bytes without long repetitions, different for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn xattr(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.to_vec())
}

pub fn owned(mode: u32, uid: u32, gid: u32, modification_time: u32) -> Attributes {
    Attributes { mode, uid, gid, modification_time, xattrs: Vec::new() }
}

/// `VFS_CAP_REVISION_2` with cap_net_raw, effective: what `setcap cap_net_raw=ep` stores.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// One of each, and the extremes of each.
pub fn one_of_each(both: &mut Both) {
    let plain = owned(0o644, 1000, 1001, 1_700_000_000);
    both.add("", Entry::Directory, owned(0o1755, 7, 8, 9));
    both.add("empty", Entry::File(vec![]), owned(0o400, 0, 0, 0));
    both.add("large", Entry::File(noise(1, 300 * 1024)), plain.clone());
    both.add("exactly two blocks", Entry::File(noise(2, 2 << 17)), plain.clone());
    let mut holes = vec![0; 1 << 20];
    holes[600_000] = 1;
    both.add("holes", Entry::File(holes), plain.clone());
    both.add("zeros", Entry::File(vec![0; 200_001]), plain.clone());
    both.add("setuid", Entry::File(b"#!".to_vec()), owned(0o6755, 0, 0, u32::MAX));
    both.add("far owner", Entry::File(b"x".to_vec()), owned(0o600, 3_000_000, u32::MAX - 1, 1));
    let capability = vec![xattr("security.capability", &CAPABILITY)];
    both.add("bin/ping", Entry::File(b"ping".to_vec()), Attributes { xattrs: capability, ..plain.clone() });
    let three = vec![xattr("user.b", b""), xattr("trusted.overlay.x", b"y"), xattr("user.a", &noise(3, 40_000))];
    let special = Attributes { xattrs: three, ..plain.clone() };
    both.add("attributes/file", Entry::File(b"x".to_vec()), special.clone());
    both.add("attributes/same", Entry::File(b"y".to_vec()), special.clone());
    both.add("attributes", Entry::Directory, special.clone());
    let trusted = Attributes { xattrs: vec![xattr("trusted.t", b"1")], ..plain.clone() };
    for (name, entry) in [
        ("link", Entry::Symlink("../target of é".into())),
        ("longest link", Entry::Symlink("t".repeat(4095))),
        ("null", Entry::Device(DeviceKind::Character, 1, 3)),
        ("whiteout", Entry::Device(DeviceKind::Character, 0, 0)),
        ("disk", Entry::Device(DeviceKind::Block, 259, 70_000)),
        ("last device", Entry::Device(DeviceKind::Block, 4095, 1_048_575)),
        ("fifo", Entry::Fifo),
        ("socket", Entry::Socket),
    ] {
        both.add(format!("plain/{name}"), entry.clone(), plain.clone());
        both.add(format!("attributes/{name}"), entry, trusted.clone());
    }
    for (name, existing) in [("linked/a", "large"), ("linked/b/c", "linked/a"), ("linked/fifo", "plain/fifo")] {
        both.link(name, existing);
    }
    both.link("linked/symlink", "plain/link");
    both.add("a/b/c/d/e/f", Entry::File(b"deep".to_vec()), plain.clone());
    both.add("d/".repeat(300) + "deeper", Entry::File(b"deeper".to_vec()), plain.clone());
    for length in [255, 256] {
        both.add(format!("names/{}", "n".repeat(length)), Entry::File(vec![1]), plain.clone());
    }
    for name in [&b"\xff\xfe"[..], b"\x01", b"new\nline", "größer".as_bytes(), b"..."] {
        both.add(Path::new("names").join(OsStr::from_bytes(name)), Entry::File(name.to_vec()), plain.clone());
    }
}
