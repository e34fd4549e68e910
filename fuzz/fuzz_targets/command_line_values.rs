//! Text to each parser of a command line value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall::request::values;

fuzz_target!(|text: &str| {
    let _ = values::size(text);
    let _ = values::cpus(text);
    let _ = values::seconds(text);
    let _ = values::volume(text);
    let _ = values::tmpfs(text);
    let _ = values::mount(text);
    let _ = values::variable(text);
});
