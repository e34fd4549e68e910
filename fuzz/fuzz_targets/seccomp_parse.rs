//! Bytes to the door for profile files. What is taken must compile, or say why not, and be able to explain and list itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall::seccomp::Profile;

fuzz_target!(|text: &[u8]| {
    let Ok(profile) = Profile::parse(text) else { return };
    let _ = profile.listing().to_string();
    let Ok(filter) = profile.compile() else { return };
    for number in [0, 41, 59, 435, 10_000, u32::MAX] {
        for args in [[0; 6], [u64::MAX; 6]] {
            let decided = filter.decide(number, &args).expect("a program that the kernel takes");
            assert_eq!(decided, profile.explain(number, &args).action);
        }
    }
});
