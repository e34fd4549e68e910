//! Inode numbers, link counts and the order in which inodes are written.
//!
//! Numbers go down from the root, the entries of one directory one after the other, so that
//! listings need few runs. No recursion: how deep the tree is was decided by a stranger's archive.

use super::error::Fault;
use super::tree::{NodeId, ROOT, Tree};

/// What a node got. Number 0 is a node without a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// From 1, the root's, on without gaps.
    pub(super) number: u32,
    /// As `stat` shows them: names, and for directories 2 and the directories in them.
    pub(super) links: u32,
    /// The number of the directory that a directory is in; the root's own for the root.
    pub(super) parent: u32,
}

/// The numbers of a whole tree.
#[derive(Debug)]
pub(super) struct Numbering {
    slots: Vec<Slot>,
    /// Every directory before the directories in it.
    pub(super) directories: Vec<NodeId>,
    /// How many inodes there are; the last number too.
    pub(super) count: u32,
}

impl Numbering {
    pub(super) fn new(tree: &Tree) -> Result<Numbering, Fault> {
        let root = Slot { number: 1, links: 2, parent: 1 };
        let mut numbering = Numbering { slots: vec![Slot::default(); tree.len()], directories: vec![ROOT], count: 1 };
        numbering.slots[ROOT.0] = root;
        let mut next = 0;
        while let Some(directory) = numbering.directories.get(next).copied() {
            for child in tree.names(directory).into_iter().flat_map(|names| names.values()) {
                numbering.visit(tree, directory, *child)?;
            }
            next += 1;
        }
        Ok(numbering)
    }

    /// What a node got.
    pub(super) fn slot(&self, id: NodeId) -> Slot {
        self.slots[id.0]
    }

    fn visit(&mut self, tree: &Tree, directory: NodeId, child: NodeId) -> Result<(), Fault> {
        if self.slots[child.0].number == 0 {
            self.count = self.count.checked_add(1).ok_or(Fault::TooManyInodes)?;
            self.slots[child.0].number = self.count;
        }
        if tree.names(child).is_some() {
            self.slots[child.0].links = 2;
            self.slots[child.0].parent = self.slots[directory.0].number;
            self.slots[directory.0].links += 1;
            self.directories.push(child);
        } else {
            // More than 2^32 names of one node would have ended in `TooManyInodes` or in want of
            // memory long before.
            self.slots[child.0].links += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::tree::tests::tree;

    #[test]
    fn numbers_have_no_gaps_and_links_are_counted() {
        // Nodes in the order of the lines, behind the root: b, its b/x, a, c; the second line's b/x
        // is replaced by the last one.
        let tree = tree(&["b/", "b/x", "a", "b/l=a", "b/c/", "b/x"]).unwrap();
        let numbering = Numbering::new(&tree).unwrap();
        let slots: Vec<_> =
            (0..tree.len()).map(|id| numbering.slot(NodeId(id))).map(|s| (s.number, s.links, s.parent)).collect();
        assert_eq!(slots, [(1, 3, 1), (3, 3, 1), (0, 0, 0), (2, 2, 0), (4, 2, 3), (5, 1, 0)]);
        assert_eq!(numbering.count, 5);
        assert_eq!(numbering.directories, [ROOT, NodeId(1), NodeId(4)]);
    }

    #[test]
    fn a_very_deep_tree_needs_no_stack() {
        let deep = "d/".repeat(2047) + "/";
        let tree = tree(&[deep.trim_end_matches('/').to_owned().as_str(), "a"]).unwrap();
        assert_eq!(Numbering::new(&tree).unwrap().count, 2049);
    }
}
