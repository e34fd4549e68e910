//! Converts a layer's blob, or a directory, to a squashfs image, and says what was read and written.
//!
//! ```sh
//! cargo run --release -p squall-images --example convert -- LAYER IMAGE [COMPRESSION [THREADS]]
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use squall_images::convert::{ConvertOptions, DirectoryOptions, convert, convert_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layer, image, rest @ ..] = arguments.as_slice() else {
        return Err("LAYER IMAGE [COMPRESSION [THREADS]]".into());
    };
    let mut options = ConvertOptions::default();
    if let Some(compression) = rest.first() {
        options.compression = compression.parse()?;
    }
    if let Some(threads) = rest.get(1) {
        options.threads = threads.parse()?;
    }
    let out = File::create(image)?;
    let (out, converted) = if fs::metadata(layer)?.is_dir() {
        convert_directory(Path::new(layer), DirectoryOptions::default(), &options, out)?
    } else {
        convert(File::open(layer)?, &options, out)?
    };
    out.set_len(converted.squashfs_size)?;
    println!("blob     {} {} bytes", converted.blob_digest, converted.blob_size);
    println!("diffID   {} {} bytes", converted.diff_id, converted.expanded_size);
    println!("image    {} bytes, {}", converted.squashfs_size, options.writer());
    println!("entries  {}", converted.entries);
    for note in &converted.notes {
        println!("note     {note}");
    }
    Ok(())
}
