use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::*;
use crate::testing::*;

/// Puts something wrong in its place.
type Change = fn(&Path);

const ID: &str = "0f9a1b2c-33d4-4e5f-8a6b-7c8d9e0f1a2b";

#[test]
#[ignore = "run by others, in a process of its own"]
fn own_process() {
    let config = "docker.binary=/nowhere\nworker.launcher.docker.binary=DIR/docker\n\
                  worker.launcher.oci.allowed.mount.source.dirs=DIR/work,DIR/other\n";
    as_launcher(config, launch, &["DIR/work", "DIR/command"]);
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn own_process_without_list() {
    as_launcher("docker.binary=DIR/docker\n", run, &["DIR/work", "DIR/command"]);
}

fn made(line: &str) -> tempfile::TempDir {
    let directory = directory();
    recorder(&directory.path().join("docker"));
    std::fs::create_dir(directory.path().join("other")).unwrap();
    std::fs::write(directory.path().join("command"), line.replace("DIR", directory.path().to_str().unwrap())).unwrap();
    directory
}

fn run_line(more: &str) -> String {
    format!(
        "run --name={ID} --user={UID}:{GID} -d --net=host --read-only -v DIR/work:DIR/work -v DIR/other:/tmp \
         --group-add {GROUP} --workdir=DIR/work --cidfile=DIR/work/container.cid --cap-drop=ALL \
         --security-opt no-new-privileges --cpus=0.5 {more} image bash DIR/work/script.sh\nignored ;\n"
    )
}

fn launched(directory: &tempfile::TempDir, test: &str) -> (Option<i32>, String) {
    let output = in_own_process(&format!("docker::tests::{test}"), directory.path());
    (output.status.code(), said(&output))
}

#[test]
fn docker_gets_the_line_the_ids_of_storm_and_nothing_of_the_caller() {
    let line = run_line("--memory=256m");
    let directory = made(&line);
    let (code, said) = launched(&directory, "own_process");
    assert_eq!(code, Some(3), "{said}");
    let record = record(directory.path());
    let path = directory.path().to_str().unwrap();
    let first = line.lines().next().unwrap().replace("DIR", path);
    let mut expected: Vec<String> = vec![format!("argument {path}/docker")];
    expected.extend(first.split_whitespace().map(|word| format!("argument {word}")));
    expected.extend([
        format!("uids 0 {UID} {UID}"),
        format!("gids {LAUNCHER_GROUP} {GID} {GID}"),
        format!("groups {GID} {GROUP}"),
        "descriptors 0 1 2".into(),
    ]);
    let recorded: Vec<&str> = record.lines().collect();
    assert_eq!(recorded[..expected.len()], expected, "{record}");
    assert!(record.contains("sigpipe default\nsession own\n"), "{record}");
    let variables: Vec<&str> = recorded.iter().copied().filter(|line| line.starts_with("variable")).collect();
    assert_eq!(variables.len(), 2, "{record}");
    assert!(record.contains("variable HOME=/\n") && record.contains("variable PATH=/usr/local/sbin:"), "{record}");
    assert!(said.contains(&format!("command: {path}/docker run --name={ID}")), "{said}");
}

#[test]
fn command_files_that_others_can_write_are_refused() {
    let cases: [(&str, Change, i32); 8] = [
        ("the user's", |file| chown(file, Some(UID), None).unwrap(), 30),
        ("writable by all", |file| mode(file, 0o646), 30),
        ("writable by a group", |file| mode(file, 0o664), 30),
        (
            "writable by the launcher's group",
            |file| {
                chown(file, None, Some(LAUNCHER_GROUP)).unwrap();
                mode(file, 0o664);
            },
            3,
        ),
        (
            "a link",
            |file| {
                std::fs::rename(file, file.with_extension("real")).unwrap();
                symlink(file.with_extension("real"), file).unwrap();
            },
            30,
        ),
        (
            "a directory",
            |file| {
                std::fs::remove_file(file).unwrap();
                std::fs::create_dir(file).unwrap();
            },
            30,
        ),
        ("endless", |file| std::fs::write(file, "x".repeat((1 << 20) + 1)).unwrap(), 31),
        ("no text", |file| std::fs::write(file, b"ps \xff\n").unwrap(), 31),
    ];
    for (name, make, expected) in cases {
        let directory = made(&format!("rm {ID}\n"));
        make(&directory.path().join("command"));
        let (code, said) = launched(&directory, "own_process");
        assert_eq!(code, Some(expected), "{name}: {said}");
    }
}

fn mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn sources_are_followed_before_they_are_compared() {
    for (more, expected) in [
        ("-v DIR/link:/x", 39),
        ("-v DIR/otherwise:/x", 39),
        ("-v DIR/missing:/x", 39),
        ("-v DIR/work/inside:/x", 3),
        ("--security-opt seccomp=DIR/profile", 3),
        ("--security-opt seccomp=DIR/work/profile", 39),
    ] {
        let directory = made(&run_line(more));
        let at = |name: &str| -> PathBuf { directory.path().join(name) };
        symlink("/etc", at("link")).unwrap();
        symlink(at("other"), at("work/inside")).unwrap();
        std::fs::create_dir(at("otherwise")).unwrap();
        std::fs::write(at("profile"), "{}").unwrap();
        std::fs::write(at("work/profile"), "{}").unwrap();
        let (code, said) = launched(&directory, "own_process");
        assert_eq!(code, Some(expected), "{more}: {said}");
    }
}

#[test]
fn without_a_list_all_of_the_host_and_sockets_are_refused() {
    for (more, expected) in [("-v /etc:/x", 3), ("-v /:/x", 39), ("-v DIR/root:/x", 39), ("-v DIR/socket:/x", 39)] {
        let directory = made(&run_line(more));
        symlink("/", directory.path().join("root")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let (code, said) = launched(&directory, "own_process_without_list");
        assert_eq!(code, Some(expected), "{more}: {said}");
    }
}

#[test]
fn a_docker_or_a_configuration_that_is_not_roots_alone_is_refused() {
    let cases: [(&str, Change, &str, i32); 5] = [
        ("the user's docker", |top| chown(top.join("docker"), Some(UID), None).unwrap(), "ps\n", 29),
        ("docker writable", |top| mode(&top.join("docker"), 0o777), "ps\n", 29),
        ("docker no program", |top| mode(&top.join("docker"), 0o644), "ps\n", 29),
        ("its directory writable", |top| mode(top, 0o777), "ps\n", 29),
        ("the user's configuration", |_| (), "--config=DIR/work ps\n", 39),
    ];
    for (name, make, line, expected) in cases {
        let directory = made(line);
        make(directory.path());
        let (code, said) = launched(&directory, "own_process_without_list");
        assert_eq!(code, Some(expected), "{name}: {said}");
    }
    let directory = made("--config=DIR/other ps\n");
    assert_eq!(launched(&directory, "own_process_without_list").0, Some(3));
    let directory = made("pull A\n");
    assert_eq!(launched(&directory, "own_process_without_list").0, Some(40));
}
