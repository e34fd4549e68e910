//! Sub-commands on the tag file alone.

use std::fs;
use std::io::Write;

use squall_images::manifest::Platform;
use squall_images::pull::stored_manifest;
use squall_images::store::layout;
use squall_images::transport::Access;
use squall_images::{Error, ErrorKind, Result, Step};

use crate::args::Common;
use crate::{images, places};

/// `image-or-hash,tag…`: a tag, a hash, or an image of a registry that the store has.
pub fn add(common: &Common, arguments: &[String]) -> Result<()> {
    let arguments = arguments.iter().map(|argument| images::image_and_tags(argument)).collect::<Result<Vec<_>>>()?;
    let store = places::open(common, &common.hdfs_root)?;
    for (image, names) in arguments {
        let digest = match images::hash_of(&store, image) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let transport = images::transport(common, image)?;
                let source = transport.source(&Access::default(), &store.directory().join(layout::WORKING))?;
                let remote = stored_manifest(&source.manifest(&Platform::host())?)?.digest();
                images::hash_of(&store, &remote.hex()).map_err(|error| error.about(image))?
            }
            digest => digest?,
        };
        images::name(&store, &digest, &names, image)?;
        info!("Added tags {names:?} to {}", digest.hex());
    }
    Ok(())
}

/// A tag that nobody has is no error: nobody has it afterwards either.
pub fn remove(common: &Common, arguments: &[String]) -> Result<()> {
    let store = places::open(common, &common.hdfs_root)?;
    let removed = store.change()?.tags(|tags| {
        let names = arguments.iter().flat_map(|argument| argument.split(','));
        Ok(names.map(|name| (name.to_owned(), tags.remove(name))).collect::<Vec<_>>())
    })?;
    for (name, hash) in removed {
        match hash {
            Some(hash) => info!("Removed tag {name} of {hash}"),
            None => warning!("Not removing tag {name}: nobody has it"),
        }
    }
    Ok(())
}

/// The paths of each tag's files.
pub fn query(common: &Common, arguments: &[String]) -> Result<()> {
    let store = places::open(common, &common.hdfs_root)?;
    let mut failed = None;
    for name in arguments.iter().flat_map(|argument| argument.split(',')) {
        let found = images::hash_of(&store, name).and_then(|digest| Ok((digest, store.manifest(&digest)?)));
        let (digest, manifest) = match found {
            Ok(found) => found,
            Err(error) => {
                error!("{error}");
                failed = Some(Error::invalid(Step::Tag, name, "it has no image"));
                continue;
            }
        };
        info!("Image info for '{name}'");
        let top = store.directory();
        let mut paths = vec![layout::manifest(top, &digest), layout::config(top, &manifest.config.digest)];
        paths.extend(manifest.layers.iter().map(|layer| layout::layer(top, &layer.digest)));
        for path in paths {
            print(format!("{}\n", path.display()).as_bytes())?;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The file as it is.
pub fn list(common: &Common) -> Result<()> {
    let store = places::open(common, &common.hdfs_root)?;
    let path = store.tag_file();
    let text = fs::read(&path).map_err(|error| Error::system(Step::Tag, path.display(), "read", error))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    let written = output.write_all(text).and_then(|()| output.flush());
    written.map_err(|error| Error::system(Step::Request, "standard output", "write", error))
}
