//! Opening the files of layers and looking at them before anything is mounted.
//!
//! The calling thread's ids count: a launcher that serves other users makes an
//! [`OpenedSpec`](crate::opened::OpenedSpec). A descriptor that comes out of here stands for the
//! file that was checked, whatever happens to the path afterwards.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_setfl, fstat, openat2};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::document::quoted;
use crate::error::{Error, Problem, Result};
use crate::host::{kind_of_file, little_endian, read_head};
use crate::host_files::host_file::LOOP_OR_MAGIC;
use crate::request::{LaunchSpec, LayerPath};
use crate::stage::Stage;
use crate::sys;

/// Where EROFS keeps its superblock (`EROFS_SUPER_OFFSET`).
const EROFS_OFFSET: usize = 1024;

/// As much of a file's beginning as both superblocks need.
const HEAD_BYTES: usize = EROFS_OFFSET + 128;

/// Size of squashfs 4.0's superblock.
const SQUASHFS_HEAD_BYTES: u64 = 96;

/// A loop device shows whole sectors only: what follows the last full one cannot be read through
/// it.
const SECTOR_BYTES: u64 = 512;

/// Greatest block of EROFS, 64 KiB, as a power of two: the largest page of any machine.
const EROFS_MAX_BLOCK_BITS: u8 = 16;

/// A file system that can be a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LayerFormat {
    /// squashfs 4.0
    Squashfs,
    /// EROFS
    Erofs,
}

/// What a layer's file is, whatever it is called: two paths with equal identities are one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerIdentity {
    /// Number of the file system's device.
    pub device: u64,
    /// Number in that file system.
    pub inode: u64,
    /// Length of the file.
    pub size_bytes: u64,
    /// When it was last changed, nanoseconds since 1970: the kernel's own time (`st_ctime`), which
    /// a write sets and nobody can set back. A new mode, owner or name sets it as well, and makes
    /// the file another layer for those who open it from then on.
    pub ctime_ns: i64,
}

impl LayerIdentity {
    /// Device and inode, which are enough to tell two files apart while both are open.
    fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A layer's file, open for reading (`O_CLOEXEC`) and checked.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenLayer {
    /// The path it was opened by.
    pub path: LayerPath,
    /// The file.
    pub file: OwnedFd,
    /// What it is.
    pub identity: LayerIdentity,
    /// What is in it.
    pub format: LayerFormat,
}

/// Opens every layer of a spec, in its order. Never blocks, whatever stands at a path. Needs no
/// privilege but the right to read the files; symbolic links are followed.
///
/// Errors: `Invalid` with every layer that is missing, not readable, not a regular file, empty, not
/// a file system that can be a layer, or shorter than its superblock says. The problems' fields are
/// `layers[N]`. `Exhausted` where this process may not have as many open files: that says nothing
/// about the layer.
pub fn check_layers(spec: &LaunchSpec) -> Result<Vec<OpenLayer>> {
    let (layers, problems) = open_layers(spec, ResolveFlags::empty())?;
    if problems.is_empty() { Ok(layers) } else { Err(Error::invalid(format!("container '{}'", spec.id), problems)) }
}

/// As [`check_layers`], with paths resolved as `resolve` says, and the problems apart.
pub(crate) fn open_layers(spec: &LaunchSpec, resolve: ResolveFlags) -> Result<(Vec<OpenLayer>, Vec<Problem>)> {
    let mut layers = Vec::new();
    let mut problems = Vec::new();
    for (index, path) in spec.layers.iter().enumerate() {
        match open_layer(path, resolve) {
            Ok(layer) => layers.push(layer),
            Err(Unfit::Unknown(error)) => return Err(error),
            Err(Unfit::Because(reason)) => {
                let reason = format!("{} {reason}", quoted(path.as_str()));
                problems.push(Problem { field: format!("layers[{index}]"), reason });
            }
        }
    }
    Ok((layers, problems))
}

/// The layers without those that occur again further up. The order stays.
///
/// An overlay refuses two lower layers on one superblock (ELOOP, "overlapping lowerdir"), and
/// images do list a layer twice. Of equal layers the upper one says everything that the lower one
/// could say: each name of a layer is decided, or its directory merged, by the upper copy first. So
/// leaving out the lower one changes nothing that can be seen.
pub fn without_repeats(layers: Vec<OpenLayer>) -> Vec<OpenLayer> {
    let mut above = HashSet::new();
    let mut kept: Vec<_> = layers.into_iter().rev().filter(|layer| above.insert(layer.identity.file())).collect();
    kept.reverse();
    kept
}

/// Why a file does not become a layer.
enum Unfit {
    /// What is wrong with it.
    Because(String),
    /// It could not be looked at, for a reason that lies elsewhere.
    Unknown(Error),
}

impl From<String> for Unfit {
    fn from(reason: String) -> Unfit {
        Unfit::Because(reason)
    }
}

/// Opens and checks one layer, or says what is wrong with it.
fn open_layer(path: &LayerPath, resolve: ResolveFlags) -> std::result::Result<OpenLayer, Unfit> {
    // O_NONBLOCK: a FIFO or a device must not make us wait. O_NOCTTY: a terminal must not become
    // ours.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = openat2(CWD, path.as_path(), flags, Mode::empty(), resolve);
    let fd = opened.map_err(|errno| unopenable(errno, path, resolve))?;
    let stat = fstat(&fd).map_err(|errno| format!("fstat: {errno}"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(format!("is {}: expected a regular file", kind_of_file(other)).into()),
    }
    fcntl_setfl(&fd, OFlags::RDONLY).map_err(|errno| format!("fcntl(F_SETFL): {errno}"))?;
    let identity = identity(&stat);
    let file = File::from(fd);
    let mut head = [0; HEAD_BYTES];
    let filled = read_head(&file, &mut head).map_err(|error| format!("cannot be read: {error}"))?;
    let format = format_of(&head[..filled], identity.size_bytes)?;
    Ok(OpenLayer { path: path.clone(), file: file.into(), identity, format })
}

/// A device on a file system without devices, and what nobody can open, are told by what they are.
fn unopenable(errno: Errno, path: &LayerPath, resolve: ResolveFlags) -> Unfit {
    if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM) {
        return Unfit::Unknown(Error::system(Stage::Request, format!("layer '{}'", path.as_str()), "open", errno));
    }
    let found = rustix::fs::stat(path.as_path()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let reason = match errno {
        Errno::ACCESS | Errno::PERM | Errno::NXIO if found.is_ok_and(|file| file != FileType::RegularFile) => {
            format!("is {}: expected a regular file", found.map_or("something else", kind_of_file))
        }
        Errno::NOENT => "does not exist".into(),
        Errno::NOTDIR => "does not exist: a part of the path is not a directory".into(),
        Errno::ACCESS => format!("may not be read by user {}", sys::fs_ids().0),
        Errno::LOOP if resolve.contains(ResolveFlags::NO_MAGICLINKS) => LOOP_OR_MAGIC.into(),
        Errno::LOOP => "is a loop of symbolic links".into(),
        errno => format!("cannot be opened: {errno}"),
    };
    Unfit::Because(reason)
}

/// The casts: the fields' types differ between architectures; sizes are not negative.
#[allow(clippy::unnecessary_cast)]
fn identity(stat: &Stat) -> LayerIdentity {
    let seconds = stat.st_ctime as i64;
    LayerIdentity {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size_bytes: stat.st_size as u64,
        ctime_ns: seconds.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64),
    }
}

/// Which file system begins so, if the file holds all of it.
fn format_of(head: &[u8], size_bytes: u64) -> std::result::Result<LayerFormat, String> {
    if head.is_empty() {
        return Err("is empty".into());
    }
    let (format, used) = if head.starts_with(b"hsqs") {
        (LayerFormat::Squashfs, squashfs_bytes(head)?)
    } else if number::<4>(head, EROFS_OFFSET) == Some(0xE0F5_E1E2) {
        (LayerFormat::Erofs, erofs_bytes(head)?)
    } else {
        return Err("is neither squashfs nor EROFS: the magic number is missing".into());
    };
    let shown = size_bytes - size_bytes % SECTOR_BYTES;
    if used > size_bytes {
        return Err(format!("is cut off: it has {size_bytes} bytes, its superblock says {used}"));
    }
    if used > shown {
        return Err(format!(
            "ends within a sector, so a loop device shows {shown} of its {used} bytes: pad the file to a multiple of {SECTOR_BYTES}"
        ));
    }
    Ok(format)
}

/// `bytes_used` of a squashfs superblock of the one version that the kernel mounts.
fn squashfs_bytes(head: &[u8]) -> std::result::Result<u64, String> {
    match (number::<2>(head, 28), number::<2>(head, 30), number::<8>(head, 40)) {
        (Some(4), Some(0), Some(used)) if used >= SQUASHFS_HEAD_BYTES => Ok(used),
        (Some(4), Some(0), Some(used)) => Err(format!("is damaged: its superblock says {used} bytes are used")),
        (Some(major), Some(minor), Some(_)) => Err(format!("is squashfs {major}.{minor}: the kernel mounts 4.0 only")),
        _ => Err("is cut off within its superblock".into()),
    }
}

/// Blocks times their size of an EROFS superblock; 0 blocks means that nobody counted them.
fn erofs_bytes(head: &[u8]) -> std::result::Result<u64, String> {
    match (head.get(EROFS_OFFSET + 12), number::<4>(head, EROFS_OFFSET + 36)) {
        (Some(bits), Some(blocks)) if (9..=EROFS_MAX_BLOCK_BITS).contains(bits) => Ok(blocks << bits),
        (Some(bits), Some(_)) => Err(format!("is damaged: its superblock says blocks of 2^{bits} bytes")),
        _ => Err("is cut off within its superblock".into()),
    }
}

/// A little-endian number of `BYTES` bytes.
fn number<const BYTES: usize>(head: &[u8], offset: usize) -> Option<u64> {
    let bytes = head.get(offset..offset + BYTES)?;
    Some(little_endian(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use rustix::fs::{CWD, fcntl_getfl, mknodat};

    use super::*;
    use crate::error::ErrorKind;
    use crate::request::Identity;

    fn spec(paths: &[&Path]) -> LaunchSpec {
        let user = Identity::new(1000, 1000, []).unwrap();
        LaunchSpec::builder("x").layers(paths).args(["a"]).user(user).cgroup("/x").build().unwrap()
    }

    fn squashfs(size: usize, used: u64) -> Vec<u8> {
        let mut image = vec![0; size];
        image[..4].copy_from_slice(b"hsqs");
        image[28] = 4;
        image[40..48].copy_from_slice(&used.to_le_bytes());
        image
    }

    fn erofs(size: usize, bits: u8, blocks: u32) -> Vec<u8> {
        let mut image = vec![0; size];
        image[1024..1028].copy_from_slice(&0xE0F5_E1E2_u32.to_le_bytes());
        image[1036] = bits;
        image[1060..1064].copy_from_slice(&blocks.to_le_bytes());
        image
    }

    #[test]
    fn both_formats_are_known_by_their_superblocks() {
        let table = [
            (squashfs(4096, 4096), Ok(LayerFormat::Squashfs)),
            (squashfs(4096, 97), Ok(LayerFormat::Squashfs)),
            (erofs(8192, 12, 2), Ok(LayerFormat::Erofs)),
            (erofs(2048, 9, 0), Ok(LayerFormat::Erofs)),
            (squashfs(4096, 4097), Err("is cut off")),
            (squashfs(4096, u64::MAX), Err("is cut off")),
            (squashfs(4096, 0), Err("is damaged")),
            (squashfs(600, 600), Err("ends within a sector")),
            (squashfs(97, 97), Err("ends within a sector")),
            (squashfs(4096, 100)[..40].to_vec(), Err("is cut off within")),
            (erofs(8192, 12, 3), Err("is cut off")),
            (erofs(8192, 200, 1), Err("is damaged")),
            (erofs(1100, 12, 0)[..1040].to_vec(), Err("is cut off within")),
            (vec![0; 8192], Err("neither")),
            (b"h".to_vec(), Err("neither")),
            (Vec::new(), Err("is empty")),
        ];
        for (image, expected) in table {
            let size = image.len() as u64;
            let head = &image[..image.len().min(HEAD_BYTES)];
            match (format_of(head, size), expected) {
                (Ok(format), Ok(expected)) => assert_eq!(format, expected),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
                (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
            }
        }
        let mut old = squashfs(4096, 4096);
        old[28] = 3;
        assert!(format_of(&old[..HEAD_BYTES], 4096).unwrap_err().contains("squashfs 3.0"));
    }

    #[test]
    fn good_layers_come_back_open_in_order_with_their_identity() {
        let dir = tempfile::tempdir().unwrap();
        let (base, top, link) = (dir.path().join("base"), dir.path().join("top"), dir.path().join("link"));
        std::fs::write(&base, squashfs(4096, 4000)).unwrap();
        std::fs::write(&top, erofs(4096, 12, 1)).unwrap();
        symlink(&base, &link).unwrap();
        let layers = check_layers(&spec(&[&base, &top, &link])).unwrap();
        assert_eq!(layers[0].format, LayerFormat::Squashfs);
        assert_eq!(layers[1].format, LayerFormat::Erofs);
        assert_eq!(layers[0].identity, layers[2].identity);
        assert_ne!(layers[0].identity, layers[1].identity);
        let meta = std::fs::metadata(&top).unwrap();
        let seen = layers[1].identity;
        assert_eq!((seen.device, seen.inode, seen.size_bytes), (meta.dev(), meta.ino(), 4096));
        assert_eq!(seen.ctime_ns, meta.ctime() * 1_000_000_000 + meta.ctime_nsec());
        assert!(!fcntl_getfl(&layers[0].file).unwrap().contains(OFlags::NONBLOCK));
        let kept = without_repeats(check_layers(&spec(&[&base, &top, &link])).unwrap());
        let paths: Vec<_> = kept.iter().map(|layer| layer.path.as_path()).collect();
        assert_eq!(paths, [&top, &link]);
        assert!(rustix::io::fcntl_getfd(&layers[0].file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn every_bad_layer_is_named_and_none_makes_us_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (good, empty, fifo) = (dir.path().join("good"), dir.path().join("empty"), dir.path().join("fifo"));
        let socket = dir.path().join("socket");
        std::fs::write(&good, squashfs(4096, 4096)).unwrap();
        std::fs::write(&empty, "").unwrap();
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let missing = dir.path().join("missing");
        let below = good.join("below");
        let paths = [&good, dir.path(), &fifo, Path::new("/dev/null"), &socket, &empty, &missing, &below];
        let started = std::time::Instant::now();
        let error = check_layers(&spec(&paths)).unwrap_err();
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let expected = [
            "a directory",
            "a FIFO",
            "a character device",
            "a socket",
            "is empty",
            "does not exist",
            "not a directory",
        ];
        assert_eq!(error.problems().len(), expected.len(), "{error}");
        for (index, (problem, reason)) in error.problems().iter().zip(expected).enumerate() {
            assert_eq!(problem.field, format!("layers[{}]", index + 1));
            assert!(problem.reason.contains(reason), "{problem}");
        }
    }
}
