//! Where stores are: `--hdfs-root`, and the working directory.

use std::path::PathBuf;

use squall_images::store::Store;
use squall_images::{Cause, Error, Result, Step};

use crate::args::Common;

/// The store of this URL, which has to be there, unless `--bootstrap` makes it.
pub fn open(common: &Common, root: &str) -> Result<Store> {
    if common.bootstrap {
        return create(common, root);
    }
    Store::open_with(directory(root)?, &common.image_tag_to_hash)
}

/// The store of this URL, made if it is not there.
pub fn create(common: &Common, root: &str) -> Result<Store> {
    Store::create_with(directory(root)?, &common.image_tag_to_hash)
}

/// The directory of a store.
pub fn directory(root: &str) -> Result<PathBuf> {
    match root.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(_) => Err(Error::invalid(Step::Request, root, "an absolute path is wanted: file:///DIRECTORY")),
        None => {
            let reason = "stores other than local directories (file:///DIRECTORY)".to_owned();
            Err(Error::new(Step::Request, root, Cause::Unsupported(reason)))
        }
    }
}

/// Where `pull-build` leaves what `push-update` takes.
pub fn working_directory(common: &Common) -> PathBuf {
    let given = &common.working_dir;
    // One that is a store already is what an earlier pull-build has left there.
    let is_store = given.join(squall_images::store::layout::TAGS).exists();
    if given.is_dir() && !is_store { given.join("docker-to-squash") } else { given.clone() }
}
