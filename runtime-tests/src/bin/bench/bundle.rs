//! What the peers are given: the same layers as an overlay, mounted beforehand, and the library's
//! own document.

use std::ffi::CString;
use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, mount};
use serde_json::Value;

use crate::ground::Ground;
use crate::{Outcome, container};

/// Where the peers' root is mounted, once for all.
pub fn root(ground: &Ground) -> PathBuf {
    ground.bed.directory().join("root")
}

/// Mounts the image's pins as an overlay over a tmpfs, as a launch does.
pub fn mount_root(ground: &Ground) -> Outcome<()> {
    let above = ground.bed.directory().join("above");
    [&above, &root(ground)].into_iter().try_for_each(fs::create_dir)?;
    mount("tmpfs", &above, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, c"mode=755,size=4m")?;
    ["upper", "work"].iter().try_for_each(|name| fs::create_dir(above.join(name)))?;
    let lower: Vec<String> =
        ground.pins(&ground.bed.run_root()).iter().rev().map(|pin| pin.display().to_string()).collect();
    let above = above.display();
    let options = format!(
        "lowerdir={},upperdir={above}/upper,workdir={above}/work,redirect_dir=nofollow,metacopy=off,index=off",
        lower.join(":")
    );
    let options = CString::new(options)?;
    Ok(mount("overlay", root(ground), "overlay", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())?)
}

/// The document of a container.
pub fn document(ground: &Ground, id: &str, argv: &[&str]) -> Outcome<Value> {
    let spec = container::spec(ground, id, &ground.layers, argv)?;
    Ok(serde_json::to_value(squall::testing::oci::document(&spec, &root(ground))?)?)
}

/// A bundle of it.
pub fn write(ground: &Ground, id: &str, argv: &[&str]) -> Outcome<PathBuf> {
    let directory = ground.bed.work().join(format!("{id}.bundle"));
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("config.json"), serde_json::to_vec(&document(ground, id, argv)?)?)?;
    Ok(directory)
}
