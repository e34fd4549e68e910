//! Names of images with their transport, as skopeo has them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Access, Sink, Source};
use crate::digest::Digest;
use crate::error::Result;
use crate::reference::Reference;

/// Where an image is, or is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// `docker://REFERENCE`, or the reference alone: in a registry.
    Registry(Reference),
    /// `docker-archive:PATH[:REFERENCE|:@INDEX]`: as `docker save` writes it.
    DockerArchive {
        /// The archive.
        path: ArchivePath,
        /// Which image of it.
        image: ArchiveImage,
    },
    /// `oci:DIRECTORY[:NAME|@DIGEST]`: an OCI layout.
    Oci {
        /// The layout's directory.
        path: PathBuf,
        /// Which image of it.
        image: LayoutImage,
    },
    /// `oci-archive:PATH[:NAME|@DIGEST]`: a tar of an OCI layout.
    OciArchive {
        /// The archive.
        path: ArchivePath,
        /// Which image of it.
        image: LayoutImage,
    },
    /// `dir:PATH`: a directory of one image, skopeo's own form.
    Dir(PathBuf),
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivePath {
    /// `-`: standard input, or standard output.
    Standard,
    /// A file.
    File(PathBuf),
}

/// Which image of an archive that `docker save` wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveImage {
    /// The only one.
    Only,
    /// The one with this tag.
    Tagged(Reference),
    /// The one at this place, from 0.
    At(usize),
}

/// Which image of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutImage {
    /// The only one.
    Only,
    /// The one whose `org.opencontainers.image.ref.name` this is.
    Named(String),
    /// The one with this digest.
    Digest(Digest),
}

/// The longest name of an image in an OCI layout that is taken. Tags have 128 characters at most,
/// references 255 and a registry.
const LAYOUT_NAME_LENGTH: usize = 1024;

impl Transport {
    /// Opens the image for reading. What has to be put down on the way, an archive from a pipe or
    /// a compressed one, goes into a file without a name in the directory `spool`.
    ///
    /// # Errors
    /// `NotFound` and `System` where there is none, `Invalid` where it is not what the name says.
    pub fn source(&self, access: &Access, spool: &Path) -> Result<Box<dyn Source>> {
        let name = self.to_string();
        Ok(match self {
            Transport::Registry(reference) => Box::new(super::registry::Registry::new(reference, access)?),
            Transport::DockerArchive { path, image } => {
                Box::new(super::docker_archive::Archive::open(name, path, image, spool)?)
            }
            Transport::Oci { path, image } => Box::new(super::layout::Layout::directory(name, path, image)?),
            Transport::OciArchive { path, image } => {
                Box::new(super::layout::Layout::archive(name, path, image, spool)?)
            }
            Transport::Dir(path) => Box::new(super::dir::Directory::open(name, path)?),
        })
    }

    /// Opens the place that an image is written to.
    ///
    /// # Errors
    /// `Invalid` where the name does not say all that it must, or something else is there.
    pub fn sink(&self, access: &Access) -> Result<Box<dyn Sink>> {
        let name = self.to_string();
        Ok(match self {
            Transport::Registry(reference) => Box::new(super::registry::Push::new(reference, access)?),
            Transport::DockerArchive { path, image } => {
                Box::new(super::docker_archive::ArchiveSink::create(name, path, image)?)
            }
            Transport::Oci { path, image } => Box::new(super::layout::LayoutSink::create(name, path, image)?),
            Transport::OciArchive { path, image } => {
                Box::new(super::layout::LayoutArchiveSink::create(name, path, image)?)
            }
            Transport::Dir(path) => Box::new(super::dir::DirectorySink::create(name, path)?),
        })
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Transport, String> {
        if let Some(reference) = text.strip_prefix("docker://") {
            return Ok(Transport::Registry(reference.parse()?));
        }
        let path = |path: &str, what: &str| match path {
            "" => Err(format!("{text:?}: {what} is missing")),
            path if path.contains('\0') => Err(format!("{text:?}: {what} with a NUL character")),
            path => Ok(PathBuf::from(path)),
        };
        let archive = |name: &str| match name {
            "-" => Ok(ArchivePath::Standard),
            name => path(name, "the archive's path").map(ArchivePath::File),
        };
        match text.split_once(':') {
            Some(("docker-archive", rest)) => {
                let (file, image) = rest.split_once(':').map_or((rest, None), |(file, image)| (file, Some(image)));
                Ok(Transport::DockerArchive { path: archive(file)?, image: archive_image(image)? })
            }
            Some(("oci", rest)) => {
                let (directory, image) = layout_image(rest)?;
                Ok(Transport::Oci { path: path(directory, "the layout's directory")?, image })
            }
            Some(("oci-archive", rest)) => {
                let (file, image) = layout_image(rest)?;
                Ok(Transport::OciArchive { path: archive(file)?, image })
            }
            Some(("dir", rest)) => Ok(Transport::Dir(path(rest, "the directory")?)),
            Some((other @ ("docker-daemon" | "containers-storage" | "ostree" | "sif" | "tarball" | "atomic"), _)) => {
                Err(format!(
                    "transport {other:?} is not supported: docker://, docker-archive:, oci:, oci-archive:, dir:"
                ))
            }
            // A scheme that is none of ours, not a host with its port.
            Some((other, rest)) if rest.starts_with("//") => Err(format!("{other:?} is no transport: docker:// is")),
            _ => text.parse().map(Transport::Registry),
        }
    }
}

fn archive_image(image: Option<&str>) -> Result<ArchiveImage, String> {
    match image {
        None => Ok(ArchiveImage::Only),
        Some(image) => match image.strip_prefix('@') {
            Some(index) => {
                let digits = index.bytes().all(|byte| byte.is_ascii_digit());
                let index = digits.then(|| index.parse().ok()).flatten();
                index
                    .map(ArchiveImage::At)
                    .ok_or_else(|| format!("{image:?}: the image's place is wanted, @0 for the first"))
            }
            None => {
                let reference: Reference = image.parse()?;
                match reference.digest() {
                    Some(_) => Err(format!("{image:?}: an archive of docker knows tags, not digests")),
                    None => Ok(ArchiveImage::Tagged(reference)),
                }
            }
        },
    }
}

fn layout_image(text: &str) -> Result<(&str, LayoutImage), String> {
    // The digest has a colon of its own.
    if let Some((path, hex)) = text.rsplit_once("@sha256:") {
        let digest =
            Digest::from_hex(hex).ok_or_else(|| format!("sha256:{hex}: 64 lower-case hex digits are wanted"))?;
        return Ok((path, LayoutImage::Digest(digest)));
    }
    let Some((path, name)) = text.split_once(':') else { return Ok((text, LayoutImage::Only)) };
    // What the image specification allows, and skopeo writes.
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:@/+".contains(c);
    if name.is_empty() || name.len() > LAYOUT_NAME_LENGTH || !name.chars().all(fits) {
        return Err(format!("image name {name:?} in a layout: letters, digits and -._:@/+ are wanted"));
    }
    Ok((path, LayoutImage::Named(name.to_owned())))
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Registry(reference) => write!(f, "docker://{}", reference.familiar()),
            Transport::DockerArchive { path, image } => write!(f, "docker-archive:{path}{image}"),
            Transport::Oci { path, image } => write!(f, "oci:{}{image}", path.display()),
            Transport::OciArchive { path, image } => write!(f, "oci-archive:{path}{image}"),
            Transport::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

impl fmt::Display for ArchivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchivePath::Standard => f.write_str("-"),
            ArchivePath::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for ArchiveImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveImage::Only => Ok(()),
            ArchiveImage::Tagged(reference) => write!(f, ":{}", reference.familiar()),
            ArchiveImage::At(index) => write!(f, ":@{index}"),
        }
    }
}

impl fmt::Display for LayoutImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutImage::Only => Ok(()),
            LayoutImage::Named(name) => write!(f, ":{name}"),
            LayoutImage::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_name_comes_out_as_it_went_in() {
        for name in [
            "docker://debian:12",
            "docker://localhost:5000/a/b:t",
            "docker-archive:/tmp/a.tar",
            "docker-archive:-",
            "docker-archive:a.tar:debian:12",
            "docker-archive:a.tar:localhost:5000/x:1",
            "docker-archive:a.tar:@3",
            "oci:/srv/layout",
            "oci:layout:v1.0",
            "oci:layout:registry.example/a:1",
            "oci-archive:-",
            "oci-archive:x.tar:latest",
            "dir:/srv/x:y",
        ] {
            assert_eq!(name.parse::<Transport>().unwrap().to_string(), name);
        }
        let name = format!("oci:layout@sha256:{HEX}");
        assert_eq!(name.parse::<Transport>().unwrap().to_string(), name);
    }

    #[test]
    fn a_reference_alone_is_in_a_registry() {
        for name in ["debian", "localhost:5000/x", "oci/x", "dir", "quay.io/a/b:1"] {
            assert!(matches!(name.parse().unwrap(), Transport::Registry(_)), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, part) in [
            ("", "image name"),
            ("docker://", "image name"),
            ("docker:debian:12", "components"),
            ("https://quay.io/a", "no transport"),
            ("docker-daemon:x", "not supported"),
            ("docker-archive:", "path is missing"),
            ("docker-archive:a.tar:", "image name"),
            ("docker-archive:a.tar:@x", "@0"),
            ("docker-archive:a.tar:@-1", "@0"),
            ("docker-archive:a.tar:UPPER", "upper-case"),
            ("oci:", "directory is missing"),
            ("oci:x:", "image name"),
            ("oci:x:a b", "image name"),
            ("oci:x@sha256:12", "64"),
            ("oci-archive::x", "path is missing"),
            ("dir:", "directory is missing"),
            ("dir:a\0b", "NUL"),
        ] {
            let error = name.parse::<Transport>().unwrap_err();
            assert!(error.contains(part), "{name:?}: {error}");
        }
    }
}
