//! The layers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use runtime_tests::Bed;
use runtime_tests::bed::{self, add_probe};
use squall::squashfs::Attributes;

use crate::Outcome;
use crate::command::timed;

/// Where images have mount points, so that nobody has to make them.
const DIRECTORIES: [&str; 9] = ["dev", "etc", "proc", "run", "sys", "tmp", "var", "var/tmp", "work"];

/// So many layers of this name, base first. The base holds the program and the mount points, the
/// others a file each.
pub fn write(bed: &Bed, name: &str, count: usize) -> Vec<String> {
    let base = bed.image(&format!("{name}-0"), |writer| {
        for directory in DIRECTORIES {
            writer.directory(directory, &Attributes::new(0o755)).expect("an image in memory");
        }
        add_probe(writer, "bin/probe", 0o755);
    });
    let further = (1..count).map(|index| {
        bed.image(&format!("{name}-{index}"), |writer| {
            let text = format!("layer {index} of {name}\n");
            let file = writer.file(format!("etc/{index}"), &Attributes::new(0o644), text.as_bytes());
            file.expect("an image in memory");
        })
    });
    std::iter::once(base).chain(further).collect()
}

/// An image of one layer with the program and `/data`, which holds these bytes: as squashfs.
pub fn write_with_data(bed: &Bed, name: &str, data: &[u8]) -> String {
    bed.image(name, |writer| {
        for directory in DIRECTORIES {
            writer.directory(directory, &Attributes::new(0o755)).expect("an image in memory");
        }
        add_probe(writer, "bin/probe", 0o755);
        writer.file("data", &Attributes::new(0o644), data).expect("an image in memory");
    })
}

/// The same as EROFS.
pub fn write_erofs_with_data(bed: &Bed, name: &str, data: &[u8]) -> Outcome<String> {
    let (tree, image) = (bed.work().join(name), bed.images().join(format!("{name}.erofs")));
    for directory in DIRECTORIES.into_iter().chain(["bin"]) {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::write(tree.join("bin/probe"), squall_cli::demo::PROBE)?;
    fs::set_permissions(tree.join("bin/probe"), fs::Permissions::from_mode(0o755))?;
    fs::write(tree.join("data"), data)?;
    let mut make = Command::new("mkfs.erofs");
    make.arg("--quiet").arg(&image).arg(&tree);
    timed(make)?;
    fs::remove_dir_all(tree)?;
    Ok(bed::text(&image))
}

/// Takes the files away again.
pub fn remove(layers: &[String]) {
    layers.iter().for_each(|layer| drop(fs::remove_file(layer)));
}
