//! What an image should hold, and what is seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use squall::squashfs::{Attributes, DeviceKind};

/// The time of images and implied directories.
pub const IMAGE_TIME: u32 = 1_600_000_000;

#[derive(Debug, Clone)]
pub enum Entry {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    Device(DeviceKind, u32, u32),
    Fifo,
    Socket,
}

#[derive(Debug, Clone)]
pub enum What {
    New(Entry, Attributes),
    LinkTo(PathBuf),
}

/// A second, naive opinion on what a sequence of entries means: a flat map of paths.
#[derive(Debug)]
pub struct Model {
    pub names: BTreeMap<PathBuf, usize>,
    pub nodes: Vec<(Entry, Attributes)>,
}

impl Model {
    pub fn new() -> Model {
        Model { names: BTreeMap::from([(PathBuf::new(), 0)]), nodes: vec![Model::implied()] }
    }

    pub fn implied() -> (Entry, Attributes) {
        (Entry::Directory, Attributes { modification_time: IMAGE_TIME, ..Attributes::new(0o755) })
    }

    pub fn is_directory(&self, path: &Path) -> bool {
        self.names.get(path).is_some_and(|node| matches!(self.nodes[*node].0, Entry::Directory))
    }

    /// Whether the entry is acceptable; if so it is added.
    pub fn apply(&mut self, path: &Path, what: &What) -> bool {
        let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
        ancestors.reverse();
        let is_directory = matches!(what, What::New(Entry::Directory, _));
        let blocked = ancestors.iter().any(|a| self.names.contains_key(*a) && !self.is_directory(a));
        if blocked || (path == Path::new("") && !is_directory) {
            return false;
        }
        let node = match what {
            What::LinkTo(existing) if self.is_directory(existing) => return false,
            What::LinkTo(existing) => match self.names.get(existing) {
                Some(node) => *node,
                None => return false,
            },
            What::New(entry, attributes) => {
                if is_directory && self.is_directory(path) {
                    self.nodes[self.names[path]].1 = attributes.clone();
                    return true;
                }
                self.nodes.push((entry.clone(), attributes.clone()));
                self.nodes.len() - 1
            }
        };
        self.names.retain(|name, _| !name.starts_with(path));
        for ancestor in ancestors {
            if !self.names.contains_key(ancestor) {
                self.nodes.push(Model::implied());
                self.names.insert(ancestor.to_owned(), self.nodes.len() - 1);
            }
        }
        self.names.insert(path.to_owned(), node);
        true
    }

    pub fn seen(&self) -> BTreeMap<PathBuf, Seen> {
        let names_of = |node: usize| self.names.iter().filter(move |(_, other)| **other == node).map(|(name, _)| name);
        let mut all = BTreeMap::new();
        let mut subdirectories: BTreeMap<&Path, u64> = BTreeMap::new();
        let mut links: BTreeMap<usize, u64> = BTreeMap::new();
        for (path, node) in &self.names {
            *links.entry(*node).or_default() += 1;
            if let (Some(parent), true) = (path.parent(), self.is_directory(path)) {
                *subdirectories.entry(parent).or_default() += 1;
            }
        }
        for (path, node) in &self.names {
            let (entry, attributes) = &self.nodes[*node];
            let first = if links[node] > 1 { names_of(*node).next().unwrap().clone() } else { path.clone() };
            let mut seen = Seen::of(entry, attributes, first);
            seen.links = match entry {
                Entry::Directory => 2 + subdirectories.get(path.as_path()).copied().unwrap_or(0),
                _ => links[node],
            };
            all.insert(path.clone(), seen);
        }
        all
    }
}

/// All that can be seen of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: char,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub time: i64,
    pub links: u64,
    /// The first path with the same inode.
    pub same_as: PathBuf,
    pub device: (u32, u32),
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Seen {
    pub fn of(entry: &Entry, attributes: &Attributes, same_as: PathBuf) -> Seen {
        let (kind, device, content) = match entry {
            Entry::Directory => ('d', (0, 0), Vec::new()),
            Entry::File(content) => ('-', (0, 0), content.clone()),
            Entry::Symlink(target) => ('l', (0, 0), target.clone().into_bytes()),
            Entry::Device(DeviceKind::Character, major, minor) => ('c', (*major, *minor), Vec::new()),
            Entry::Device(DeviceKind::Block, major, minor) => ('b', (*major, *minor), Vec::new()),
            Entry::Fifo => ('p', (0, 0), Vec::new()),
            Entry::Socket => ('s', (0, 0), Vec::new()),
        };
        Seen {
            kind,
            mode: if kind == 'l' { 0o777 } else { attributes.mode },
            uid: attributes.uid,
            gid: attributes.gid,
            time: attributes.modification_time.into(),
            links: 0,
            same_as,
            device,
            content,
            xattrs: attributes.xattrs.iter().filter(|(name, _)| is_readable(kind, name)).cloned().collect(),
        }
    }

    pub fn read(path: &Path, same_as: PathBuf) -> Seen {
        let stat = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let (kind, content) = match stat.file_type() {
            t if t.is_dir() => ('d', Vec::new()),
            t if t.is_file() => ('-', fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))),
            t if t.is_symlink() => ('l', fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
            t if t.is_char_device() => ('c', Vec::new()),
            t if t.is_block_device() => ('b', Vec::new()),
            t if t.is_fifo() => ('p', Vec::new()),
            t if t.is_socket() => ('s', Vec::new()),
            other => panic!("{path:?}: {other:?}"),
        };
        if kind == '-' || kind == 'l' {
            assert_eq!(stat.size(), content.len() as u64, "{path:?}");
        }
        Seen {
            kind,
            mode: stat.mode() & 0o7777,
            uid: stat.uid(),
            gid: stat.gid(),
            time: stat.mtime(),
            links: stat.nlink(),
            same_as,
            device: (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev())),
            content,
            xattrs: read_xattrs(path, kind),
        }
    }
}

/// The kernel shows attributes of users on files and directories only (xattr(7)), whatever the
/// image has.
pub fn is_readable(kind: char, name: &[u8]) -> bool {
    kind == '-' || kind == 'd' || !name.starts_with(b"user.")
}

pub fn read_xattrs(path: &Path, kind: char) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        // An image in which nothing has attributes has no table of them.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => panic!("{path:?}: listxattr: {error}"),
    };
    let names = &names[..length];
    let mut value = vec![0; 65536];
    let read = |name: &[u8]| {
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)
            .unwrap_or_else(|error| panic!("{path:?}: getxattr {name:?}: {error}"));
        (name.to_vec(), value[..length].to_vec())
    };
    // LSMs may add names of their own to the list; none of these tests uses theirs.
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux");
    names.filter(|name| is_readable(kind, name)).map(read).collect()
}

/// Everything below a directory, by path relative to it.
pub fn walk(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut paths = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(root.join(&path)).unwrap().is_dir() {
            paths.extend(fs::read_dir(root.join(&path)).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
    }
    paths.sort();
    let mut first_of = BTreeMap::new();
    let read = |path: PathBuf| {
        let inode = fs::symlink_metadata(root.join(&path)).unwrap().ino();
        let first = first_of.entry(inode).or_insert_with(|| path.clone()).clone();
        let seen = Seen::read(&root.join(&path), first);
        (path, seen)
    };
    let count = paths.len();
    let seen: BTreeMap<_, _> = paths.into_iter().map(read).collect();
    assert_eq!(seen.len(), count, "a path is listed twice");
    seen
}

/// Compares path by path, so that a failure shows one path and not ten thousand.
pub fn assert_same(found: &BTreeMap<PathBuf, Seen>, expected: &BTreeMap<PathBuf, Seen>) {
    let paths = |all: &BTreeMap<PathBuf, Seen>| all.keys().cloned().collect::<BTreeSet<_>>();
    let (missing, extra) = (&paths(expected) - &paths(found), &paths(found) - &paths(expected));
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, too many {extra:?}");
    for (path, expected) in expected {
        let found = &found[path];
        assert!(found.content == expected.content, "content of {path:?} differs");
        let bare = |seen: &Seen| Seen { content: Vec::new(), ..seen.clone() };
        assert_eq!(bare(found), bare(expected), "{path:?}");
    }
}
