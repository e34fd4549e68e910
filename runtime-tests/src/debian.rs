//! The image of real programs.

use std::fs;
use std::path::PathBuf;

/// The newest image that `runtime-tests/debian-image` made, which `runtime-tests/run` calls first.
pub fn image() -> PathBuf {
    // <target>/<profile>/deps/<this program>
    let target = std::env::current_exe().ok().and_then(|this| this.ancestors().nth(3).map(PathBuf::from));
    let directory = target.unwrap_or_default().join("debian-image");
    let images = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let images = images.filter(|path| path.extension().is_some_and(|ending| ending == "sqsh"));
    let newest = images.max_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
    newest.unwrap_or_else(|| panic!("no image in {}: run runtime-tests/debian-image first", directory.display()))
}
