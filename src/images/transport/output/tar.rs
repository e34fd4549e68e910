//! Writing tar archives of images: few regular files, the same bytes each time.

use std::io::{self, BufWriter, IsTerminal as _, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::Staged;
use crate::error::{Error, Result, Step};
use crate::transport::ArchivePath;

/// Where an archive is written: a file that shows when it is complete, or standard output.
pub(crate) struct ArchiveFile {
    out: BufWriter<Box<dyn Write + Send>>,
    staged: Option<Staged>,
}

impl ArchiveFile {
    /// Begins an archive. `name` is what errors call it.
    pub(crate) fn create(path: &ArchivePath, name: &str) -> Result<ArchiveFile> {
        let system = |call| move |error| Error::system(Step::Push, name, call, error);
        let plain = |out: std::fs::File| ArchiveFile { out: BufWriter::new(Box::new(out)), staged: None };
        match path {
            ArchivePath::Standard if io::stdout().is_terminal() => {
                Err(Error::invalid(Step::Request, name, "standard output is a terminal: no archive is written to it"))
            }
            ArchivePath::Standard => {
                Ok(plain(io::stdout().as_fd().try_clone_to_owned().map_err(system("dup"))?.into()))
            }
            // A pipe with a name, or a device.
            ArchivePath::File(path) if is_special(path) => {
                Ok(plain(std::fs::OpenOptions::new().write(true).open(path).map_err(system("open"))?))
            }
            ArchivePath::File(path) => {
                let staged = Staged::create(path)?;
                let out = staged.writer().map_err(system("dup"))?;
                Ok(ArchiveFile { out: BufWriter::new(Box::new(out)), staged: Some(staged) })
            }
        }
    }

    /// Makes the archive visible.
    pub(crate) fn commit(mut self, name: &str) -> Result<()> {
        self.out.flush().map_err(|error| Error::system(Step::Push, name, "write", error))?;
        self.staged.map_or(Ok(()), Staged::commit)
    }
}

fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

impl Write for ArchiveFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const BLOCK: usize = 512;

/// A tar archive in the making.
pub(crate) struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> TarWriter<W> {
        TarWriter { out }
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.out.write_all(&header(path, b'5', 0o755, 0)?)
    }

    /// Adds a file of `size` bytes; `content` must yield just these.
    pub(crate) fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.out.write_all(&header(path, b'0', 0o644, size)?)?;
        let written = io::copy(content, &mut self.out)?;
        if written != size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {written} bytes, not {size}")));
        }
        let filling = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(filling), &mut self.out)?;
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// POSIX's header, of nobody and no time.
fn header(path: &str, kind: u8, mode: u32, size: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    if path.len() > 100 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is longer than 100 bytes")));
    }
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        // GNU's way for more than 8 GiB, which everybody reads.
        put(124, &[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}
