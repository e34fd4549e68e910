//! Text to the parser of docker command lines in Storm's launcher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall::request::Identity;
use worker_launcher::docker_line::{Command, DockerLine};

fuzz_target!(|text: &str| {
    let Ok(line) = DockerLine::parse(text) else { return };
    let user = Identity::new(1001, 1002, [1003]).expect("a user");
    if line.check(&user).is_err() || line.mount_sources().is_err() {
        return;
    }
    let words = line.words();
    // What was taken is what comes out, so nothing is read in two ways.
    let again = DockerLine::parse(&words.join(" ")).expect("what came out is taken again");
    assert_eq!(again.words(), words);
    let dangerous = ["--privileged", "--cap-add", "--device", "--pid", "--ipc", "--userns", "--entrypoint", "--env"];
    let is_option = |word: &String| dangerous.contains(&word.split('=').next().unwrap_or_default());
    assert!(!words.iter().any(is_option), "{words:?}");
    if line.command == Command::Run {
        let joined = words.join(" ");
        assert!(joined.contains("--user=1001:1002") || joined.contains("--user 1001:1002"), "{words:?}");
    }
});
