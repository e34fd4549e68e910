//! The local store: images as a manifest, a config and squashfs layers, exactly as Apache Storm
//! reads them, with a tag file that names them.
//!
//! Readers need no lock and see a complete state at any moment, after a crash too: every file is
//! written under another name, synced and renamed ([`new_file`]), an image's layers and config are
//! there before its manifest, and its manifest before its tags; they go in the opposite order. What
//! changes the tag file or removes something holds a lock for that moment (`tag_file`); converting
//! and downloading do not.

pub mod documents;
mod image;
pub mod layout;
pub mod new_file;
mod prune;
mod publish;
mod tag_file;
pub mod tags;
mod verify;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::digest::{Content, Digest, Hashing};
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{CONFIG_LENGTH, MANIFEST_LENGTH, Manifest};
use documents::LayerDescription;
pub use image::{Image, Layer};
use new_file::NewFile;
pub use prune::{Pruned, Removed};
pub use publish::NewImage;
pub use tag_file::{Changing, TagFile};
pub use verify::{Damage, Verified};

/// Where root's images are.
pub const DEFAULT_STORE: &str = "/var/lib/squall/images";

/// A store in a local directory.
#[derive(Debug, Clone)]
pub struct Store {
    top: PathBuf,
    tag_file: String,
}

impl Store {
    /// The store of whoever calls: root's is [`DEFAULT_STORE`], another user's
    /// `$XDG_DATA_HOME/squall/images`, or `~/.local/share/squall/images`.
    #[must_use]
    pub fn default_directory() -> PathBuf {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from(DEFAULT_STORE);
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        data.map_or_else(|| PathBuf::from(DEFAULT_STORE), |data| data.join("squall/images"))
    }

    /// A store that is there.
    ///
    /// # Errors
    /// `NotFound` where the directory has no tag file, else `System`.
    pub fn open(top: impl Into<PathBuf>) -> Result<Store> {
        Store::open_with(top, layout::TAGS)
    }

    /// As [`Store::open`], with a tag file of another name.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(top: impl Into<PathBuf>, tag_file: &str) -> Result<Store> {
        let top = top.into();
        match fs::metadata(top.join(tag_file)) {
            Ok(_) => Ok(Store { top, tag_file: tag_file.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let cause = Cause::NotFound(format!("there is no image store (no file {tag_file})"));
                Err(Error::new(Step::Store, top.display(), cause))
            }
            Err(error) => Err(new_file::system(&top, "stat", error)),
        }
    }

    /// A store that is made if it is not there, and swept of what dead writers have left.
    ///
    /// # Errors
    /// `System`.
    pub fn create(top: impl Into<PathBuf>) -> Result<Store> {
        Store::create_with(top, layout::TAGS)
    }

    /// As [`Store::create`], with a tag file of another name.
    ///
    /// # Errors
    /// `System`.
    pub fn create_with(top: impl Into<PathBuf>, tag_file: &str) -> Result<Store> {
        let top = top.into();
        fs::create_dir_all(&top).map_err(|error| new_file::system(&top, "mkdir", error))?;
        for name in layout::DIRECTORIES {
            new_file::directory(&top.join(name))?;
        }
        new_file::sweep(&top)?;
        let tags = top.join(tag_file);
        if !tags.exists() {
            NewFile::create(&top)?.place(&tags)?;
        }
        Ok(Store { top, tag_file: tag_file.to_owned() })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.top
    }

    /// An image's manifest.
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` where the file is not what its name says.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let path = layout::manifest(&self.top, digest);
        let bytes = self.named(&path, digest, MANIFEST_LENGTH)?;
        Manifest::parse(&bytes, &path.display().to_string())
    }

    /// An image's config, as it is.
    ///
    /// # Errors
    /// As [`Store::manifest`].
    pub fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.named(&layout::config(&self.top, digest), digest, CONFIG_LENGTH)
    }

    /// Where the squashfs file of a layer is, or would be.
    #[must_use]
    pub fn layer_path(&self, digest: &Digest) -> PathBuf {
        layout::layer(&self.top, digest)
    }

    /// Gives a layer's file its name, and its description.
    ///
    /// # Errors
    /// `System`.
    pub fn place_layer(&self, new: NewFile, description: &LayerDescription) -> Result<()> {
        let text = serde_json::to_vec_pretty(description).expect("a document of texts and numbers");
        let blob = &description.blob.digest;
        // First what the file is: one without a description would be another tool's.
        NewFile::with(&self.top, &text)?.replace(&layout::description(&self.top, blob))?;
        new.replace(&self.layer_path(blob))
    }

    /// What is on record about a layer; `None` where another tool has written it.
    ///
    /// # Errors
    /// `Invalid` for a document that is none, else `System`.
    pub fn layer_description(&self, digest: &Digest) -> Result<Option<LayerDescription>> {
        document(&layout::description(&self.top, digest))
    }

    /// Where an image came from; `None` where another tool has stored it.
    ///
    /// # Errors
    /// As [`Store::layer_description`].
    pub fn origin(&self, digest: &Digest) -> Result<Option<documents::Origin>> {
        document(&layout::origin(&self.top, digest))
    }

    /// A file that is named by its digest.
    fn named(&self, path: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let bytes = read(path, limit)?
            .ok_or_else(|| Error::new(Step::Store, path.display(), Cause::NotFound("in the store".to_owned())))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            let cause = Cause::Mismatch { expected: digest.to_string(), found: found.to_string() };
            return Err(Error::new(Step::Store, path.display(), cause));
        }
        Ok(bytes)
    }
}

/// Reads a new file once more: its writer has gone back in it.
///
/// # Errors
/// What the kernel says.
pub fn content_of(mut file: &File) -> io::Result<Content> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = Hashing::new(file);
    io::copy(&mut reader, &mut io::sink())?;
    let (digest, size, _) = reader.finish();
    Ok(Content { digest, size })
}

/// A file's content, up to a bound; `None` where it is not there.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| new_file::system(path, "open", error))?,
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| new_file::system(path, "read", error))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(Step::Store, path.display(), Cause::Limit { what: "bytes".to_owned(), limit }));
    }
    Ok(Some(bytes))
}

fn document<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path, CONFIG_LENGTH)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| Error::invalid(Step::Store, path.display(), error.to_string()))
}
