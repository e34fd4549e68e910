//! Images that share some of their layers.

use runtime_tests::Bed;
use runtime_tests::bed::add_probe;
use squall::squashfs::Attributes;

/// Each image by its layers, base first: `p` and `q` hold the program, the others a file each.
const IMAGES: [&str; 8] = ["p", "q", "pa", "pab", "qcd", "pace", "qabcd", "pabcde"];

/// How many there are.
pub const COUNT: usize = IMAGES.len();

/// Writes every layer; the answer is each image's layers, base first.
pub fn write(bed: &Bed) -> Vec<Vec<String>> {
    let layers: Vec<(char, String)> = "pqabcde".chars().map(|name| (name, write_layer(bed, name))).collect();
    let path_of = |name: char| layers.iter().find(|(layer, _)| *layer == name).map(|(_, path)| path.clone());
    IMAGES.iter().map(|image| image.chars().filter_map(path_of).collect()).collect()
}

fn write_layer(bed: &Bed, name: char) -> String {
    bed.image(&format!("layer-{name}"), |writer| {
        if matches!(name, 'p' | 'q') {
            add_probe(writer, "bin/probe", 0o755);
            writer.directory("data", &Attributes::new(0o777)).expect("an image in memory");
        }
        // Without a difference two layers would be equal files; they are different layers all the
        // same.
        let text = format!("layer {name}\n");
        let file = writer.file(format!("etc/{name}"), &Attributes::new(0o644), text.as_bytes());
        file.expect("an image in memory");
    })
}
