//! The layers.

use std::fs;

use runtime_tests::Bed;
use runtime_tests::bed::add_probe;
use squall::squashfs::Attributes;

/// Where images have mount points, so that nobody has to make them.
const DIRECTORIES: [&str; 9] = ["dev", "etc", "proc", "run", "sys", "tmp", "var", "var/tmp", "work"];

/// So many layers of this name, base first. The base holds the program and the mount points, the others a file each.
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

/// Takes the files away again.
pub fn remove(layers: &[String]) {
    layers.iter().for_each(|layer| drop(fs::remove_file(layer)));
}
