//! The tables that describe the entries, made from the finished tree.

use super::compress::Compress;
use super::directory::{DirectoryEntry, write_listing};
use super::error::Fault;
use super::ids::IdTable;
use super::inode::{Common, Kind};
use super::metadata::{Metadata, MetadataWriter, Position, pack};
use super::numbering::Numbering;
use super::tree::{Content, Names, NodeId, Tree};
use super::xattrs::{EncodedXattrs, XattrTable};

/// All tables, not yet at their places in the image.
pub(super) struct Tables {
    pub(super) inodes: Metadata,
    pub(super) inode_count: u32,
    pub(super) root: Position,
    pub(super) directories: Metadata,
    /// For each inode number, from 1 on, where the inode is: what a file handle of NFS or overlayfs
    /// is resolved with.
    pub(super) exports: Metadata,
    pub(super) ids: Metadata,
    pub(super) id_count: u16,
    pub(super) xattrs: Option<EncodedXattrs>,
}

impl Tables {
    /// Encodes a tree. A listing needs the places of its inodes, so inodes are written bottom up,
    /// the root's last.
    pub(super) fn encode(tree: &Tree, compressor: &dyn Compress) -> Result<Tables, Fault> {
        let numbering = Numbering::new(tree)?;
        let mut encoder = Encoder {
            tree,
            numbering: &numbering,
            places: vec![None; tree.len()],
            inodes: MetadataWriter::new(compressor),
            directories: MetadataWriter::new(compressor),
            ids: IdTable::default(),
            xattrs: XattrTable::new(compressor),
        };
        let mut root = Position::default();
        for directory in numbering.directories.iter().rev() {
            root = encoder.directory(*directory)?;
        }
        Ok(Tables {
            exports: pack(compressor, &encoder.exports())?,
            ids: pack(compressor, encoder.ids.bytes())?,
            id_count: encoder.ids.count(),
            inodes: encoder.inodes.finish()?,
            inode_count: numbering.count,
            root,
            directories: encoder.directories.finish()?,
            xattrs: encoder.xattrs.finish()?,
        })
    }
}

struct Encoder<'a> {
    tree: &'a Tree,
    numbering: &'a Numbering,
    /// Where each node's inode is, once it is written.
    places: Vec<Option<Position>>,
    inodes: MetadataWriter<'a>,
    directories: MetadataWriter<'a>,
    ids: IdTable,
    xattrs: XattrTable<'a>,
}

impl<'a> Encoder<'a> {
    /// Writes the inodes of a directory's entries, its listing and its own inode. The directories
    /// in it are written already.
    fn directory(&mut self, id: NodeId) -> Result<Position, Fault> {
        let empty = Names::new();
        let names = self.tree.names(id).unwrap_or(&empty);
        let mut entries = Vec::with_capacity(names.len());
        for (name, child) in names {
            let inode = match self.places[child.0] {
                Some(place) => place,
                None => self.leaf(*child)?,
            };
            let kind = kind(&self.tree.node(*child).content);
            entries.push(DirectoryEntry { name, kind, number: self.numbering.slot(*child).number, inode });
        }
        let listing = write_listing(&mut self.directories, &entries)?;
        let inode = self.common(id)?.directory(&listing, self.numbering.slot(id).parent)?;
        self.place(id, &inode)
    }

    fn leaf(&mut self, id: NodeId) -> Result<Position, Fault> {
        let common = self.common(id)?;
        let inode = match &self.tree.node(id).content {
            // Not reached in the order of `encode`, and right if it were.
            Content::Directory(_) => return self.directory(id),
            Content::File(data) => common.file(data),
            Content::Symlink(target) => common.symlink(target),
            Content::Device { kind, number } => common.device(*kind, *number),
            Content::Fifo => common.endpoint(Kind::Fifo),
            Content::Socket => common.endpoint(Kind::Socket),
        };
        self.place(id, &inode)
    }

    fn common(&mut self, id: NodeId) -> Result<Common, Fault> {
        let attributes = &self.tree.node(id).attributes;
        let slot = self.numbering.slot(id);
        Ok(Common {
            mode: attributes.mode,
            uid: self.ids.place(attributes.uid)?,
            gid: self.ids.place(attributes.gid)?,
            modification_time: attributes.modification_time,
            number: slot.number,
            links: slot.links,
            xattrs: attributes.xattrs.as_ref().map(|set| self.xattrs.number(set)).transpose()?,
        })
    }

    fn place(&mut self, id: NodeId, inode: &[u8]) -> Result<Position, Fault> {
        let place = self.inodes.position();
        self.inodes.write(inode)?;
        self.places[id.0] = Some(place);
        Ok(place)
    }

    fn exports(&self) -> Vec<u8> {
        let mut by_number = vec![0; self.numbering.count as usize];
        for (node, place) in self.places.iter().enumerate() {
            if let Some(place) = place {
                by_number[self.numbering.slot(NodeId(node)).number as usize - 1] = place.reference();
            }
        }
        by_number.into_iter().flat_map(u64::to_le_bytes).collect()
    }
}

fn kind(content: &Content) -> Kind {
    match content {
        Content::Directory(_) => Kind::Directory,
        Content::File(_) => Kind::File,
        Content::Symlink(_) => Kind::Symlink,
        Content::Device { kind, .. } => Kind::from(*kind),
        Content::Fifo => Kind::Fifo,
        Content::Socket => Kind::Socket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::compress::Stored;
    use crate::squashfs::tree::tests::tree;

    #[test]
    fn exports_lead_from_every_number_to_the_inode_with_it() {
        let tree = tree(&["a/b/c", "a/d", "a/b/e=a/d", "f"]).unwrap();
        let tables = Tables::encode(&tree, &Stored).unwrap();
        assert_eq!(tables.inode_count, 6);
        let exports: Vec<u64> =
            tables.exports.bytes[2..].chunks(8).map(|place| u64::from_le_bytes(place.try_into().unwrap())).collect();
        for (place, number) in exports.iter().zip(1_u32..) {
            let at = 2 + *place as usize;
            assert_eq!(tables.inodes.bytes[at + 12..at + 16], number.to_le_bytes(), "inode {number}");
        }
        assert_eq!(exports[0], tables.root.reference());
    }
}
