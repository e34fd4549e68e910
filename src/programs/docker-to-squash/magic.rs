//! The magic file: a file that an image must have in one of its layers.

use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

use backhand::{FilesystemReader, InnerNode};
use squall_images::pull::Pulled;
use squall_images::store::Store;
use squall_images::{Cause, Error, Result, Step};

/// Looks for the file in the layers, base first.
///
/// # Errors
/// `NotFound` where no layer has it.
pub fn check(store: &Store, pulled: &Pulled, path: &str) -> Result<()> {
    let wanted = absolute(path);
    for layer in &pulled.layers {
        let file = store.layer_path(&layer.digest);
        if has(&file, &wanted)? {
            debug!("Found magic file {path} in layer {}", layer.digest.hex());
            return Ok(());
        }
    }
    let reason = format!("magic file {path}, in each of its {} layers", pulled.layers.len());
    Err(Error::new(Step::Verify, pulled.digest.hex(), Cause::NotFound(reason)))
}

fn has(layer: &Path, wanted: &Path) -> Result<bool> {
    let file = File::open(layer).map_err(|error| Error::system(Step::Verify, layer.display(), "open", error))?;
    let image = FilesystemReader::from_reader(BufReader::new(file))
        .map_err(|error| Error::invalid(Step::Verify, layer.display(), error.to_string()))?;
    Ok(image.files().any(|node| node.fullpath == wanted && matches!(node.inner, InnerNode::File(_))))
}

/// As the image has it, without `.` and `..`.
fn absolute(path: &str) -> PathBuf {
    let parts = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    Path::new("/").join(parts.collect::<PathBuf>())
}
