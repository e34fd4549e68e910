//! The demonstration's image: three squashfs layers, written in memory.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};

use super::PROBE;
use squall::Stage;
use squall::error::{Context, Error, ErrorKind, Result};
use squall::squashfs::{Attributes, DeviceKind, Options, SquashfsError, Writer};

/// Where the probe stands in the image.
pub(super) const PROGRAM: &str = "/probe";

/// A file that each layer has in its own version.
pub(super) const LAYERED: &str = "/etc/layer";

/// A file of the base that the topmost layer takes away.
pub(super) const WHITED_OUT: &str = "/etc/hidden";

/// The layers, base first, each in a file without a name.
pub(super) struct Image {
    pub(super) layers: Vec<OwnedFd>,
    pub(super) bytes: Vec<u64>,
}

impl Image {
    /// Writes the image; `name` marks the files, so that the loop devices on them can be told from
    /// others.
    pub(super) fn write(name: &str) -> Result<Image> {
        let writers: [WriteLayer; 3] = [base, middle, top];
        let mut image = Image { layers: Vec::new(), bytes: Vec::new() };
        for write in writers {
            let file =
                File::from(memfd_create(name, MemfdFlags::CLOEXEC).at(Stage::Request, "image", "memfd_create")?);
            let mut writer = Writer::new(file, Options::default()).map_err(|error| unwritten(&error))?;
            write(&mut writer).map_err(|error| unwritten(&error))?;
            let (mut file, summary) = writer.finish().map_err(|error| unwritten(&error))?;
            file.set_len(summary.bytes).at(Stage::Request, "image", "ftruncate")?;
            file.seek(SeekFrom::Start(0)).at(Stage::Request, "image", "lseek")?;
            image.bytes.push(summary.bytes);
            image.layers.push(file.into());
        }
        Ok(image)
    }

    /// Paths by which any process of root can open the layers while this one lives.
    pub(super) fn paths(&self) -> Vec<String> {
        self.layers.iter().map(|layer| format!("/proc/{}/fd/{}", std::process::id(), layer.as_raw_fd())).collect()
    }
}

/// Writes the content of one layer.
type WriteLayer = fn(&mut Writer<File>) -> std::result::Result<(), SquashfsError>;

fn base(writer: &mut Writer<File>) -> std::result::Result<(), SquashfsError> {
    writer.directory("etc", &Attributes::new(0o755))?;
    writer.file("probe", &Attributes::new(0o755), PROBE)?;
    writer.file("etc/hidden", &Attributes::new(0o644), &b"not to be seen\n"[..])?;
    writer.file("etc/layer", &Attributes::new(0o644), &b"base\n"[..]).map(drop)
}

fn middle(writer: &mut Writer<File>) -> std::result::Result<(), SquashfsError> {
    writer.file("etc/layer", &Attributes::new(0o644), &b"middle\n"[..]).map(drop)
}

fn top(writer: &mut Writer<File>) -> std::result::Result<(), SquashfsError> {
    // What overlayfs takes for "this name is gone".
    writer.device("etc/hidden", &Attributes::new(0), DeviceKind::Character, 0, 0)?;
    writer.file("etc/layer", &Attributes::new(0o644), &b"top\n"[..]).map(drop)
}

fn unwritten(error: &SquashfsError) -> Error {
    Error::found(ErrorKind::System, Stage::Request, "image", "write", error.to_string())
}
