//! Bytes to the parser of worker-launcher's configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use worker_launcher::config_text::parse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = parse(bytes) else { return };
    let text: String = entries.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    // What was taken is what comes out, so nothing is read in two ways.
    assert_eq!(parse(text.as_bytes()).expect("what came out is taken again"), entries);
    assert!(entries.iter().all(|(key, _)| !key.is_empty() && !key.contains(['=', ' ', '\n'])));
});
