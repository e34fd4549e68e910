//! Documents of images, credentials and answers of registries, as anybody may write them.
//! No panic; what is written of them is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| squall_images::transport::fuzzing::feed(bytes));
