//! Words to what Storm's launcher reads of its command line before it looks at anything else.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use worker_launcher::command::{Line, name_of};
use worker_launcher::words;

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let words: Vec<OsString> = [OsString::from("worker-launcher")].into_iter().chain(split).collect();
    let (name, arguments) = match Line::of(&words) {
        Line::CheckSetup => return assert!(words.len() == 2 && words[1] == "--checksetup"),
        Line::Usage => return assert!(words.len() < 3),
        Line::For(user, name, arguments) => {
            assert!(user == words[1] && name == words[2] && arguments == &words[3..]);
            (name, arguments)
        }
    };
    let Ok(found) = name_of(name, arguments.len()) else { return };
    assert!(name.eq_ignore_ascii_case(found));
    // One more or one less is refused.
    assert!(name_of(name, arguments.len() + 1).is_err());
    if let [first, second] = arguments {
        two(found, first, second);
    }
});

fn two(command: &str, first: &OsStr, second: &OsStr) {
    let text = first.to_string_lossy();
    match command {
        "signal" => {
            if let Ok((pid, signal)) = words::numbers(first, second) {
                assert!(pid > 0 && (0..=31).contains(&signal));
                assert_eq!(text.trim_start_matches('+').trim_start_matches('0'), pid.to_string());
            }
        }
        "reap-oci-container" => {
            let _ = words::count(&second.to_string_lossy());
            if words::is_container_id(&text) {
                assert!(!text.starts_with('-') && !text.contains(['/', '.', ' ', ';']) && text.len() <= 42);
            }
        }
        "profile-oci-container" => assert!(words::host_pid(first).is_none_or(|pid| pid > 0)),
        _ => {}
    }
}
