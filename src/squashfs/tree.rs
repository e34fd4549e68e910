//! The entries of the image while they are collected.
//!
//! A name points to a node; hard links are several names of one node. A node that loses its last
//! name stays in memory, but gets no inode.

use std::collections::BTreeMap;
use std::path::Path;

use super::attributes::{Checked, DeviceKind};
use super::entry_path::EntryPath;
use super::error::Fault;
use super::xattrs::XattrSet;

/// A node's place in the tree's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) usize);

/// The root is always there.
pub(super) const ROOT: NodeId = NodeId(0);

/// The names of a directory, in the order of their bytes.
pub(super) type Names = BTreeMap<Box<[u8]>, NodeId>;

/// An entry without its name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) attributes: Checked,
    pub(super) content: Content,
}

/// What kind an entry is of, and what only this kind has.
#[derive(Debug)]
pub(super) enum Content {
    Directory(Names),
    File(FileData),
    Symlink(Box<[u8]>),
    Device { kind: DeviceKind, number: u32 },
    Fifo,
    Socket,
}

/// Where the content of a file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileData {
    /// Of the first stored block, in bytes from the start of the image; 0 if there is none.
    pub(super) start: u64,
    /// In bytes.
    pub(super) size: u64,
    /// How many of these bytes are zeros that are not stored.
    pub(super) holes: u64,
    /// For each block its stored length and whether it is compressed, as the format encodes it; 0
    /// for a hole.
    pub(super) blocks: Vec<u32>,
}

/// All entries.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Of directories that are only implied by the paths of others.
    implied_time: u32,
}

impl Tree {
    pub(super) fn new(implied_time: u32) -> Tree {
        let mut tree = Tree { nodes: Vec::new(), implied_time };
        tree.push(tree.implied_directory());
        tree
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The names in a directory; nothing for other nodes.
    pub(super) fn names(&self, id: NodeId) -> Option<&Names> {
        match &self.node(id).content {
            Content::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Where the content of a file is; nothing for other nodes.
    pub(super) fn file(&self, id: NodeId) -> Option<&FileData> {
        match &self.node(id).content {
            Content::File(data) => Some(data),
            _ => None,
        }
    }

    /// Says where the content of a file is, once it is written.
    pub(super) fn set_file(&mut self, id: NodeId, data: FileData) {
        self.nodes[id.0].content = Content::File(data);
    }

    /// Whether something other than a directory may get this path. Changes nothing.
    pub(super) fn check_place(&self, path: &EntryPath<'_>) -> Result<(), Fault> {
        let (_, parents) = path.names().split_last().ok_or(Fault::Root)?;
        let mut at = ROOT;
        for (depth, name) in parents.iter().enumerate() {
            match self.directory(at, path, depth)?.get(*name) {
                Some(child) => at = *child,
                None => return Ok(()),
            }
        }
        self.directory(at, path, parents.len()).map(|_| ())
    }

    /// Puts a directory at a path. One that is there already keeps its names and gets these
    /// attributes; anything else is replaced.
    pub(super) fn insert_directory(&mut self, path: &EntryPath<'_>, attributes: Checked) -> Result<(), Fault> {
        match self.find(path) {
            Some(id) if self.names(id).is_some() => self.nodes[id.0].attributes = attributes,
            _ => {
                self.insert(path, Node { attributes, content: Content::Directory(Names::new()) })?;
            }
        }
        Ok(())
    }

    /// Puts a node at a path, making missing parents. What is there, even a whole directory, is
    /// replaced.
    pub(super) fn insert(&mut self, path: &EntryPath<'_>, node: Node) -> Result<NodeId, Fault> {
        self.check_place(path)?;
        let id = self.push(node);
        self.name(path, id)?;
        Ok(id)
    }

    /// Gives the node at `existing` another name. `shown` is that path for messages.
    pub(super) fn link(&mut self, path: &EntryPath<'_>, existing: &EntryPath<'_>, shown: &Path) -> Result<(), Fault> {
        self.check_place(path)?;
        let id = self.find(existing).ok_or_else(|| Fault::LinkTargetMissing(shown.to_owned()))?;
        if self.names(id).is_some() {
            return Err(Fault::LinkTargetDirectory(shown.to_owned()));
        }
        self.name(path, id)
    }

    fn name(&mut self, path: &EntryPath<'_>, id: NodeId) -> Result<(), Fault> {
        let (name, parents) = path.names().split_last().ok_or(Fault::Root)?;
        let mut at = ROOT;
        for (depth, parent) in parents.iter().enumerate() {
            at = match self.directory(at, path, depth)?.get(*parent) {
                Some(child) => *child,
                None => {
                    let made = self.push(self.implied_directory());
                    self.directory_mut(at, path, depth)?.insert((*parent).into(), made);
                    made
                }
            };
        }
        self.directory_mut(at, path, parents.len())?.insert((*name).into(), id);
        Ok(())
    }

    /// The node at a path; no symlink is followed.
    pub(super) fn find(&self, path: &EntryPath<'_>) -> Option<NodeId> {
        path.names().iter().try_fold(ROOT, |at, name| self.names(at)?.get(*name).copied())
    }

    /// The names of the directory at the first `depth` names of `path`, which is node `id`.
    fn directory(&self, id: NodeId, path: &EntryPath<'_>, depth: usize) -> Result<&Names, Fault> {
        self.names(id).ok_or_else(|| Fault::NotDirectory(path.prefix(depth)))
    }

    /// Gives a node one more extended attribute.
    pub(super) fn set_xattr(&mut self, id: NodeId, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        let set = &mut self.nodes[id.0].attributes.xattrs;
        *set = Some(XattrSet::with(set.as_ref(), name, value)?);
        Ok(())
    }

    fn directory_mut(&mut self, id: NodeId, path: &EntryPath<'_>, depth: usize) -> Result<&mut Names, Fault> {
        match &mut self.nodes[id.0].content {
            Content::Directory(names) => Ok(names),
            _ => Err(Fault::NotDirectory(path.prefix(depth))),
        }
    }

    fn implied_directory(&self) -> Node {
        Node { attributes: Checked::implied_directory(self.implied_time), content: Content::Directory(Names::new()) }
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::squashfs::attributes::Attributes;

    /// A tree from a line each: `/` ends a directory, `=` gives a hard link its target, the rest
    /// are fifos.
    pub(in crate::squashfs) fn tree(lines: &[&str]) -> Result<Tree, Fault> {
        let mut tree = Tree::new(77);
        for (line, mode) in lines.iter().zip(1..) {
            let attributes = Checked::try_from(&Attributes::new(mode))?;
            if let Some((path, existing)) = line.split_once('=') {
                tree.link(&parse(path), &parse(existing), Path::new(existing))?;
            } else if let Some(path) = line.strip_suffix('/') {
                tree.insert_directory(&parse(path), attributes)?;
            } else {
                tree.insert(&parse(line), Node { attributes, content: Content::Fifo })?;
            }
        }
        Ok(tree)
    }

    fn parse(path: &str) -> EntryPath<'_> {
        EntryPath::parse(Path::new(path)).unwrap()
    }

    /// Every path with its node and the number of the line that made it, or its mode if no line
    /// did.
    fn paths(tree: &Tree) -> Vec<(String, u16)> {
        let mut found = Vec::new();
        let mut open = vec![(ROOT, String::new())];
        while let Some((id, path)) = open.pop() {
            found.push((path.clone(), tree.node(id).attributes.mode));
            for (name, child) in tree.names(id).into_iter().flatten() {
                open.push((*child, format!("{path}/{}", std::str::from_utf8(name).unwrap())));
            }
        }
        found.sort();
        found
    }

    /// Lines, and the paths with the modes that come of them.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, u16)]);

    #[test]
    fn later_entries_replace_earlier_ones_as_in_a_tar_archive() {
        let implied = 0o755;
        let cases: [Case; 9] = [
            (&[], &[("", implied)]),
            (&["/"], &[("", 1)]),
            (&["a/b/c"], &[("", implied), ("/a", implied), ("/a/b", implied), ("/a/b/c", 1)]),
            (&["a/b", "a/"], &[("", implied), ("/a", 2), ("/a/b", 1)]),
            (&["a", "a"], &[("", implied), ("/a", 2)]),
            (&["a", "a/"], &[("", implied), ("/a", 2)]),
            (&["a/b", "a/c", "a"], &[("", implied), ("/a", 3)]),
            (&["a", "b=a", "a"], &[("", implied), ("/a", 3), ("/b", 1)]),
            (&["a/b", "a=a/b"], &[("", implied), ("/a", 1)]),
        ];
        for (lines, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(path, mode)| (path.to_string(), *mode)).collect();
            assert_eq!(paths(&tree(lines).unwrap()), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_path_through_anything_but_a_directory_is_refused_with_what_is_in_the_way() {
        let cases: [(&[&str], &str); 8] = [
            (&["a", "a/b"], "NotDirectory(\"a\")"),
            (&["a", "a/b/c/"], "NotDirectory(\"a\")"),
            (&["a/b", "a/b/c/d"], "NotDirectory(\"a/b\")"),
            (&["a", "b=a", "b/c"], "NotDirectory(\"b\")"),
            (&["."], "Root"),
            (&["a", ".=a"], "Root"),
            (&["a=b"], "LinkTargetMissing(\"b\")"),
            (&["b/", "a=b"], "LinkTargetDirectory(\"b\")"),
        ];
        for (lines, fault) in cases {
            assert_eq!(format!("{:?}", tree(lines).unwrap_err()), fault, "{lines:?}");
        }
    }

    #[test]
    fn a_refused_entry_leaves_no_parents_behind() {
        let mut tree = tree(&["a"]).unwrap();
        let nodes = tree.len();
        assert!(tree.link(&parse("new/b"), &parse("missing"), Path::new("missing")).is_err());
        assert!(tree.check_place(&parse("a/b")).is_err());
        assert_eq!(tree.len(), nodes);
        assert_eq!(paths(&tree).len(), 2);
    }
}
