//! Bytes as the blob of a layer: plain, or compressed where they say so.
#![no_main]

use std::io::Cursor;
use std::num::NonZeroUsize;

use libfuzzer_sys::fuzz_target;
use squall_images::convert::{Compression, ConvertOptions, Limits, convert};

fuzz_target!(|blob: &[u8]| {
    let options = ConvertOptions {
        compression: Compression::None,
        block_size: 4096,
        threads: NonZeroUsize::MIN,
        limits: Limits { entries: 100, expanded: 1 << 20, header: 4096, metadata: 1 << 16, depth: 30 },
    };
    if let Ok((out, converted)) = convert(blob, &options, Cursor::new(Vec::new())) {
        assert_eq!(converted.blob_size, blob.len() as u64);
        assert!(out.get_ref().len() as u64 >= converted.squashfs_size);
        assert!(out.get_ref().len() < 4 << 20, "the image is as bounded as the layer");
    }
});
