//! Which of the three ways a launch would take to a layer's mount now, found without opening a
//! device.
//!
//! The same questions in the same order as [`LayerStore::mount_all`] asks them; where the launch
//! asks the device, this reads what sysfs shows of it. What it says can be untrue a moment later:
//! anybody may take away the pin.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{HINT, LayerSource, LayerStore, OpenLayer, PIN};

/// The way, if it can be known, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerPreview {
    pub(crate) way: Option<LayerSource>,
    pub(crate) why: String,
}

impl LayerPreview {
    fn known(way: LayerSource, why: impl Into<String>) -> LayerPreview {
        LayerPreview { way: Some(way), why: why.into() }
    }

    fn unknown(why: impl Into<String>) -> LayerPreview {
        LayerPreview { way: None, why: why.into() }
    }
}

impl LayerStore {
    /// What [`LayerStore::mount_all`] would do for this layer.
    pub(crate) fn preview(&self, layer: &OpenLayer) -> LayerPreview {
        self.preview_by(layer, Path::new("/sys/block"))
    }

    fn preview_by(&self, layer: &OpenLayer, sysfs: &Path) -> LayerPreview {
        let directory = self.directory.join(layer.identity.layer_id());
        match fs::symlink_metadata(&directory) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return unhinted(layer, sysfs, "the run root knows no such layer");
            }
            Err(error) => return LayerPreview::unknown(format!("the run root cannot be looked into: {error}")),
        }
        let kind = rustix::fs::statfs(directory.join(PIN)).map(|kind| kind.f_type as u64);
        if kind == Ok(layer.format.magic()) {
            return LayerPreview::known(LayerSource::Pin, "it is pinned");
        }
        let hint = match fs::read_to_string(directory.join(HINT)) {
            Ok(hint) => hint,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return unhinted(layer, sysfs, "no loop device is noted for it");
            }
            Err(error) => return LayerPreview::unknown(format!("the run root cannot be looked into: {error}")),
        };
        match hint.trim().parse() {
            Ok(number) => match bound(number, layer, sysfs) {
                LayerPreview { way: Some(LayerSource::Attached), why } => unhinted(layer, sysfs, &why),
                known => known,
            },
            Err(_) => unhinted(layer, sysfs, "no loop device is noted for it"),
        }
    }
}

/// Without a hint the launch asks every bound device.
fn unhinted(layer: &OpenLayer, sysfs: &Path, why: &str) -> LayerPreview {
    let names = fs::read_dir(sysfs).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_prefix("loop")?.parse().ok());
    let found = numbers.map(|number| bound(number, layer, sysfs)).find(|way| way.way == Some(LayerSource::LoopDevice));
    found.unwrap_or_else(|| LayerPreview::known(LayerSource::Attached, why))
}

/// Whether the device shows the layer's whole file, read-only.
fn bound(number: u32, layer: &OpenLayer, sysfs: &Path) -> LayerPreview {
    let device = sysfs.join(format!("loop{number}"));
    let read = |file: &str| fs::read_to_string(device.join(file)).map(|text| text.trim_end().to_owned());
    let Ok(file) = read("loop/backing_file") else {
        return LayerPreview::known(
            LayerSource::Attached,
            format!("loop{number}, noted for it, is not bound any more"),
        );
    };
    let whole = ["loop/offset", "loop/sizelimit"].iter().all(|file| read(file).is_ok_and(|number| number == "0"));
    let as_ours = whole && read("ro").is_ok_and(|flag| flag == "1");
    match fs::metadata(&file) {
        Ok(found) if (found.dev(), found.ino()) == (layer.identity.device, layer.identity.inode) && as_ours => {
            LayerPreview::known(LayerSource::LoopDevice, format!("loop{number} is bound to it"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => LayerPreview::unknown(format!(
            "loop{number}, noted for it, is bound to '{file}', which has no path to ask by"
        )),
        Err(error) => {
            LayerPreview::unknown(format!("loop{number} is bound to '{file}', which cannot be looked at: {error}"))
        }
        Ok(_) => {
            LayerPreview::known(LayerSource::Attached, format!("loop{number}, noted for it, is bound to '{file}' now"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{LayerFormat, LayerIdentity};
    use crate::request::LayerPath;

    /// A store, a layer, and a sysfs, all in one directory.
    fn scene() -> (tempfile::TempDir, LayerStore, OpenLayer) {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("layer");
        fs::write(&path, "x").unwrap();
        let found = fs::metadata(&path).unwrap();
        let identity = LayerIdentity { device: found.dev(), inode: found.ino(), size_bytes: 1, ctime_ns: 0 };
        let layer = OpenLayer {
            path: LayerPath::new(&path).unwrap(),
            file: fs::File::open(&path).unwrap().into(),
            identity,
            format: LayerFormat::Squashfs,
        };
        let store = LayerStore::new(top.path().join("layers"), 1);
        (top, store, layer)
    }

    #[test]
    fn a_hint_counts_only_while_its_device_shows_the_whole_file_read_only() {
        let (top, store, layer) = scene();
        let way = || store.preview_by(&layer, top.path());
        assert_eq!(way().way, Some(LayerSource::Attached), "no run root at all");
        let slot = top.path().join("layers").join(layer.identity.layer_id());
        fs::create_dir_all(slot.join("mnt")).unwrap();
        assert_eq!(way().way, Some(LayerSource::Attached), "an empty slot");
        fs::write(slot.join("loop"), "5").unwrap();
        assert_eq!(way().way, Some(LayerSource::Attached), "no such device");
        let device = top.path().join("loop5/loop");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("backing_file"), format!("{}\n", layer.path.as_str())).unwrap();
        fs::write(device.join("offset"), "0\n").unwrap();
        fs::write(device.join("sizelimit"), "0\n").unwrap();
        fs::write(top.path().join("loop5/ro"), "0\n").unwrap();
        assert_eq!(way().way, Some(LayerSource::Attached), "an administrator's, writable");
        fs::write(top.path().join("loop5/ro"), "1\n").unwrap();
        assert_eq!(way().way, Some(LayerSource::LoopDevice));
        fs::write(device.join("offset"), "512\n").unwrap();
        assert_eq!(way().way, Some(LayerSource::Attached), "a part of the file");
        fs::write(device.join("backing_file"), "/memfd:x (deleted)\n").unwrap();
        assert_eq!(way().way, None, "a file without a path");
    }
}
