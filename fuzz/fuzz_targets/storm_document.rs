//! Bytes to the door for Storm's command file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let _ = squall::request::storm::parse(text);
});
