//! Writes squashfs 4.0 images in one pass.
//!
//! The module owns the format: inodes, directory listings, xattr, id and export tables, the
//! superblock. It turns a sequence of entries, in whatever order a tar archive has them, into an
//! image that the kernel mounts. It never reads an image, never touches the file system (paths are
//! names inside the image, nothing is opened by them) and never follows a symlink. It runs in the
//! process of whoever builds images; no container process and no setuid program has a use for it.
//! No privilege is needed.
//!
//! Content goes to the output as it comes, block by block, so memory grows with the number of
//! entries (and 4 bytes per block of content), not with their size. [`Options::threads`] compress it. What describes the entries is
//! written by [`Writer::finish`], because an entry may still be replaced or linked to by a later
//! one. The superblock is written last: an unfinished image starts with zeros and no kernel mounts
//! it.
//!
//! The same calls with the same [`Options`] give the same bytes: nothing is taken from the clock,
//! the machine, a hash order or the number of threads.
//!
//! | in the image | chosen here | why |
//! |---|---|---|
//! | fragments | none | tails of files would have to be collected over many files; costs at most one block lookup more per file |
//! | blocks of zeros | not stored | sparse files stay sparse |
//! | files with the same content | stored once | image layers are full of them |
//! | export table | always | lets overlayfs identify a file of the lower layer by handle; 8 bytes per inode |
//! | extended inodes | only where the basic form cannot say it | smaller tables |
//!
//! Sources of all numbers: the kernel's `fs/squashfs/squashfs_fs.h`, and what `mksquashfs` 4.5.1
//! writes. Squashfs 4.0 is mounted by kernels from 2.6.29 on, with xattrs from 2.6.35 on.
//!
//! ```
//! use squall::squashfs::{Attributes, DeviceKind, Options, Writer};
//!
//! let mut writer = Writer::new(std::io::Cursor::new(Vec::new()), Options::default())?;
//! writer.file("etc/motd", &Attributes::new(0o644), &b"hello\n"[..])?;
//! // A whiteout of overlayfs hides what a lower layer has under that name …
//! writer.device("etc/hosts", &Attributes::new(0), DeviceKind::Character, 0, 0)?;
//! // … and an opaque directory hides all that lower layers have in it.
//! let opaque = (b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
//! writer.directory("srv", &Attributes { xattrs: vec![opaque], ..Attributes::new(0o755) })?;
//! let (image, summary) = writer.finish()?;
//! assert_eq!(image.get_ref().len() as u64, summary.bytes);
//! assert_eq!(summary.inodes, 5);
//! # Ok::<(), squall::squashfs::SquashfsError>(())
//! ```

mod attributes;
mod batch;
mod compress;
mod content;
mod crew;
mod directory;
mod entry_path;
mod error;
mod ids;
mod inode;
mod metadata;
mod numbering;
mod output;
mod superblock;
mod tables;
mod tree;
mod writer;
mod xattrs;

pub use attributes::{Attributes, DeviceKind};
pub use compress::{Compress, CompressorId, Stored};
pub use error::{Fault, Object, SquashfsError};
pub use writer::{Options, Present, Summary, Writer};
