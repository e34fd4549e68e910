//! Images without a registry: of directories and tar archives.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::convert::{self, ConvertOptions, DirectoryOptions, DirectoryTar};
use crate::digest::{Content, Digest};
use crate::error::{Error, Result, Step};
use crate::manifest::{Manifest, Platform};
use crate::pull::{ROUNDS, removed_again};
use crate::store::documents::LayerDescription;
use crate::store::new_file::NewFile;
use crate::store::{NewImage, Store, content_of, tags};

/// How an image is built.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Of what its layers are made, base first: directories, tar archives (compressed or not), and
    /// squashfs files, which are taken as they are.
    pub layers: Vec<PathBuf>,
    /// The part `config` of the image's config, in OCI's words: `{"Env": ["A=1"]}`.
    pub config: Value,
    /// What it runs on.
    pub platform: Platform,
    /// How layers become squashfs.
    pub convert: ConvertOptions,
    /// Its names.
    pub tags: Vec<String>,
}

/// A layer that was built.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// Of what.
    pub path: PathBuf,
    /// Its name: the digest of the archive. A directory's is that of the tar that it would be.
    pub digest: Digest,
    /// Bytes of the squashfs file.
    pub squashfs_size: u64,
    /// What of it could not be kept as it was.
    pub notes: Vec<String>,
    diff_id: Digest,
    blob_size: u64,
}

/// Makes an image and stores it. The same content gives the same image: there is no time in it but
/// those of the files.
///
/// # Errors
/// `Invalid` and `Limit` for what cannot be a layer or a config, `System`; `Conflict` where somebody
/// removes from the store, again and again, what was stored. Layers that were complete
/// by then stay in the store.
pub fn build(store: &Store, options: &BuildOptions) -> Result<(Digest, Vec<BuiltLayer>)> {
    for tag in &options.tags {
        tags::check(tag).map_err(|reason| Error::invalid(Step::Request, "tag", reason))?;
    }
    if options.layers.is_empty() {
        return Err(Error::invalid(Step::Request, "image", "it needs a layer"));
    }
    for _ in 0..ROUNDS {
        let layers =
            options.layers.iter().map(|path| layer(store, path, &options.convert)).collect::<Result<Vec<_>>>()?;
        let config = config(options, &layers);
        let blobs: Vec<Content> =
            layers.iter().map(|layer| Content { digest: layer.digest, size: layer.blob_size }).collect();
        let manifest = Manifest::for_storm(Content { digest: Digest::of(&config), size: config.len() as u64 }, &blobs)?;
        let image = NewImage { manifest: &manifest, config: &config, origin: None, tags: &options.tags, comments: &[] };
        if store.change()?.publish(&image)? {
            return Ok((manifest.digest(), layers));
        }
    }
    Err(removed_again("image"))
}

/// The first bytes of a squashfs image (`SQUASHFS_MAGIC`, fs/squashfs/squashfs_fs.h).
const SQUASHFS_MAGIC: &[u8] = b"hsqs";

fn layer(store: &Store, path: &Path, options: &ConvertOptions) -> Result<BuiltLayer> {
    let failed = |call| move |error| Error::system(Step::Convert, path.display(), call, error);
    let metadata = std::fs::metadata(path).map_err(failed("stat"))?;
    let mut new = NewFile::create(store.directory())?;
    let description = if metadata.is_dir() {
        converted(DirectoryTar::new(path, DirectoryOptions::default())?, options, &new)
    } else {
        let mut file = File::open(path).map_err(failed("open"))?;
        let mut head = Vec::new();
        (&mut file).take(SQUASHFS_MAGIC.len() as u64).read_to_end(&mut head).map_err(failed("read"))?;
        match head == SQUASHFS_MAGIC {
            true => {
                io::copy(&mut head.chain(file), &mut new.file).map_err(failed("write"))?;
                as_it_is(&new)
            }
            false => converted(head.chain(file), options, &new),
        }
    };
    let description = description.map_err(|error| error.about(path.display()))?;
    store.place_layer(new, &description)?;
    Ok(BuiltLayer {
        path: path.to_owned(),
        digest: description.blob.digest,
        squashfs_size: description.squashfs.size,
        // A config has to have one for each layer: what is there instead of a tar.
        diff_id: description.diff_id.unwrap_or(description.squashfs.digest),
        blob_size: description.blob.size,
        notes: description.notes,
    })
}

fn converted(tar: impl Read, options: &ConvertOptions, new: &NewFile) -> Result<LayerDescription> {
    let failed = |call| move |error| Error::system(Step::Convert, "", call, error);
    let (_, converted) = convert::convert(tar, options, &new.file)?;
    new.file.set_len(converted.squashfs_size).map_err(failed("ftruncate"))?;
    let squashfs = content_of(&new.file).map_err(failed("read"))?;
    Ok(LayerDescription::of_tar(squashfs, &converted, options))
}

fn as_it_is(new: &NewFile) -> Result<LayerDescription> {
    let content = content_of(&new.file).map_err(|error| Error::system(Step::Convert, "", "read", error))?;
    Ok(LayerDescription::of_squashfs(content))
}

fn config(options: &BuildOptions, layers: &[BuiltLayer]) -> Vec<u8> {
    let mut config = json!({
        "architecture": options.platform.architecture,
        "config": options.config,
        "os": options.platform.os,
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>() },
    });
    if let Some(variant) = &options.platform.variant {
        config["variant"] = json!(variant);
    }
    // Keys come sorted: the same bytes for the same image.
    config.to_string().into_bytes()
}
