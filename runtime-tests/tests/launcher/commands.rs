//! The commands that need no container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use runtime_tests::{Bed, Call, cases, host};

use crate::cluster::{ALICE, LAUNCHER, Node};

cases![
    trees_get_their_owners_and_modes,
    what_is_removed_is_gone,
    a_script_runs_as_the_user,
    signals_reach_the_users_own_processes
];

fn mode(path: &std::path::Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    format!("{:o} {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

fn trees_get_their_owners_and_modes(bed: &Bed) {
    let node = Node::new(bed);
    for (command, directory, file) in
        [("code-dir", "2570", "560"), ("blob", "2570", "560"), ("artifacts-dir", "2770", "760")]
    {
        let files = node.worker();
        fs::create_dir(files.artifacts.join("d")).unwrap();
        let inner = files.artifacts.join("d/f");
        fs::write(&inner, "").unwrap();
        fs::set_permissions(&inner, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::set_permissions(inner.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", files.artifacts.join("link")).unwrap();
        let output = node.launcher(&["alice", command, files.artifacts.to_str().unwrap()]).ok();
        assert!(output.text().contains(&format!("NOOP: {}/link", files.artifacts.display())), "{output}");
        assert_eq!(mode(inner.parent().unwrap()), format!("{directory} {ALICE}:{LAUNCHER}"));
        assert_eq!(mode(&inner), format!("{file} {ALICE}:{LAUNCHER}"));
        let missing = node.launcher(&["alice", command, "/nowhere"]).output();
        assert_eq!(missing.code(), 21, "{missing}");
    }
}

fn what_is_removed_is_gone(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    let work = files.work.to_str().unwrap();
    node.launcher(&["alice", "artifacts-dir", work]).ok();
    node.launcher(&["alice", "rmr", work]).ok();
    assert!(!files.work.exists());
    assert!(files.artifacts.exists(), "a link is not followed");
    node.launcher(&["alice", "rmr", work]).ok();
}

fn a_script_runs_as_the_user(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    let script = files.work.join("storm-worker-script.sh");
    fs::write(&script, "#!/bin/sh\nid -u; id -G; umask; pwd; echo $MINE; exit 7\n").unwrap();
    let work = files.work.to_str().unwrap();
    let output = node.launcher(&["alice", "worker", work, script.to_str().unwrap()]).env("MINE", "yes").output();
    assert_eq!(output.code(), 7, "{output}");
    let text = output.text();
    let said: Vec<&str> = text.lines().skip_while(|line| *line != ALICE.to_string()).collect();
    assert_eq!(said, ["21901", "21901 21904", "0027", work, "yes"], "{output}");
}

fn signals_reach_the_users_own_processes(bed: &Bed) {
    let node = Node::new(bed);
    let sleeper = |user: u32| {
        let id = user.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "setsid", "sleep", "600"]);
        Call::new(command).into_command().spawn().unwrap()
    };
    let mut own = sleeper(ALICE);
    let pid = own.id().to_string();
    runtime_tests::until("it sleeps", || (host::status(own.id(), "Name") == "sleep").then_some(()));
    let output = node.launcher(&["alice", "signal", &pid, "15"]).ok();
    assert!(output.text().ends_with(&format!("Killing process group {pid} with 15")), "{output}");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&own.wait().unwrap()), Some(15));
    for (pid, number, code) in
        [("x", "15", 1), ("0", "15", 9), ("-1", "15", 9), (&*pid, "15", 9), ("1", "9", 255), ("99999999999", "9", 9)]
    {
        let output = node.launcher(&["alice", "signal", pid, number]).output();
        assert_eq!(output.code(), code, "{pid}: {output}");
    }
}
