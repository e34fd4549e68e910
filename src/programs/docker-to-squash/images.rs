//! Sub-commands that move images.

use std::fs;

use squall_images::copy;
use squall_images::digest::Digest;
use squall_images::pull::{ImageLimits, PullOptions, pull};
use squall_images::store::{Store, layout};
use squall_images::transport::{Access, Transport};
use squall_images::{Cause, Error, ErrorKind, Result, Step};

use crate::args::{Common, Copy};
use crate::{magic, places};

/// An argument `image,tag[,tag…]`.
pub fn image_and_tags(argument: &str) -> Result<(&str, Vec<String>)> {
    let mut parts = argument.split(',');
    let image = parts.next().unwrap_or_default();
    let tags: Vec<String> = parts.map(str::to_owned).collect();
    if image.is_empty() || tags.is_empty() || tags.iter().any(String::is_empty) {
        return Err(Error::invalid(Step::Request, format!("{argument:?}"), "an image and at least one tag are wanted"));
    }
    Ok((image, tags))
}

/// Where an image is pulled from.
pub fn transport(common: &Common, image: &str) -> Result<Transport> {
    let slashes = if common.pull_format == "docker" { "//" } else { "" };
    let name = format!("{}:{slashes}{image}", common.pull_format);
    name.parse().map_err(|reason: String| Error::invalid(Step::Request, name, reason))
}

/// All of it: nothing is kept in a working directory in between.
pub fn pull_build_push_update(common: &Common, images: &[String]) -> Result<()> {
    let images = images.iter().map(|image| image_and_tags(image)).collect::<Result<Vec<_>>>()?;
    let store = places::open(common, &common.hdfs_root)?;
    for (image, tags) in images {
        info!("Working on image {image} with tags {tags:?}");
        pull_one(common, &store, image, tags)?;
    }
    Ok(())
}

/// Into the working directory, from which nothing is removed.
pub fn pull_build(common: &Common, images: &[String]) -> Result<()> {
    let images = images.iter().map(|image| image_and_tags(image)).collect::<Result<Vec<_>>>()?;
    let work = Store::create(places::working_directory(common))?;
    for (image, tags) in images {
        info!("Working on image {image} with tags {tags:?}");
        // push-update looks for it by its name.
        pull_one(common, &work, image, vec![image.to_owned()])?;
    }
    info!("The images are in {}", work.directory().display());
    Ok(())
}

/// From the working directory, which is removed when everything is in the store.
pub fn push_update(common: &Common, images: &[String]) -> Result<()> {
    let images = images.iter().map(|image| image_and_tags(image)).collect::<Result<Vec<_>>>()?;
    let work = Store::open(places::working_directory(common))?;
    let store = places::open(common, &common.hdfs_root)?;
    for (image, tags) in images {
        info!("Working on image {image} with tags {tags:?}");
        let digest = hash_of(&work, image)?;
        copy_one(&work, &digest, &store, &tags, common.force)?;
    }
    fs::remove_dir_all(work.directory())
        .map_err(|error| Error::system(Step::Store, work.directory().display(), "rmdir", error))
}

/// From one store to another.
pub fn copy_update(common: &Common, arguments: &Copy) -> Result<()> {
    let from = Store::open_with(places::directory(&arguments.src_root)?, &common.image_tag_to_hash)?;
    let to = places::open(common, &arguments.dest_root)?;
    for argument in &arguments.images {
        let mut parts = argument.split(',').map(str::to_owned);
        let image = parts.next().unwrap_or_default();
        let mut tags: Vec<String> = parts.collect();
        if tags.is_empty() {
            debug!("Tag not given. Using image tag instead: {image}");
            tags.push(image.clone());
        }
        copy_one(&from, &hash_of(&from, &image)?, &to, &tags, common.force)?;
    }
    Ok(())
}

/// By tag or by hash. What is not there is no error: it is not there afterwards either.
pub fn remove(common: &Common, images: &[String]) -> Result<()> {
    let store = places::open(common, &common.hdfs_root)?;
    let changing = store.change()?;
    for name in images.iter().flat_map(|argument| argument.split(',')) {
        let digest = match hash_of(&store, name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                warning!("Not removing {name}: there is no such image");
                continue;
            }
            digest => digest?,
        };
        info!("Removing image {name}");
        let removed = changing.remove(&digest)?;
        info!("Removed {} with tags {:?} and {} layers", digest.hex(), removed.tags, removed.layers.len());
    }
    Ok(())
}

/// The image of a tag, or of a manifest's hash: nothing else is a name here.
pub fn hash_of(store: &Store, name: &str) -> Result<Digest> {
    let unknown = |reason: &str| Error::new(Step::Resolve, name, Cause::NotFound(reason.to_owned()));
    let tags = store.tags()?.tags;
    let digest = tags.hash_of(name).and_then(Digest::from_hex).or_else(|| Digest::from_hex(name));
    let digest = digest.ok_or_else(|| unknown("the tag file does not have it"))?;
    match layout::manifest(store.directory(), &digest).exists() {
        true => Ok(digest),
        false => Err(unknown("the store has no manifest of it")),
    }
}

fn pull_one(common: &Common, store: &Store, image: &str, tags: Vec<String>) -> Result<()> {
    let transport = transport(common, image)?;
    let source = transport.source(&Access::default(), &store.directory().join(layout::WORKING))?;
    let options = PullOptions {
        // An image that is refused for its content is not to be found under its name.
        tags: if common.check_magic_file { Vec::new() } else { tags.clone() },
        comment: Some(image.to_owned()),
        force: common.force,
        limits: ImageLimits { layers: common.max_layers, bytes: common.max_size },
        ..PullOptions::default()
    };
    let pulled = pull(source.as_ref(), store, &options, &())?;
    let new = pulled.layers.iter().filter(|layer| !layer.was_there).count();
    info!("Image {image} is manifest {}: {new} of {} layers are new", pulled.digest.hex(), pulled.layers.len());
    for (layer, note) in pulled.layers.iter().flat_map(|layer| layer.notes.iter().map(move |note| (layer, note))) {
        info!("Layer {}: {note}", layer.digest.hex());
    }
    if !common.check_magic_file {
        return Ok(());
    }
    magic::check(store, &pulled, &common.magic_file)?;
    name(store, &pulled.digest, &tags, image)
}

fn copy_one(from: &Store, digest: &Digest, to: &Store, tags: &[String], force: bool) -> Result<()> {
    let copied = copy::copy(from, digest, to, tags, force)?;
    info!("Copied manifest {} with {} layers, {} bytes", digest.hex(), copied.layers, copied.bytes);
    Ok(())
}

/// Gives an image tags. One that the cleanup was about to remove is as any other again.
pub fn name(store: &Store, digest: &Digest, names: &[String], comment: &str) -> Result<()> {
    for name in names {
        squall_images::store::tags::check(name).map_err(|reason| Error::invalid(Step::Request, "tag", reason))?;
    }
    let changing = store.change()?;
    changing.tags(|tags| {
        for name in names {
            if let Some(before) = tags.assign(name, &digest.hex()) {
                info!("Tag {name} was that of {before}");
            }
        }
        tags.comment(&digest.hex(), comment);
        Ok(())
    })?;
    changing.revive(digest)
}
