use std::os::unix::fs::PermissionsExt;

use crate::testing::*;

/// Puts something wrong in its place.
type Change = fn(&std::path::Path);

#[test]
#[ignore = "run by others, in a process of its own"]
fn own_process() {
    as_launcher("", super::worker, &["DIR/work", "DIR/script"]);
}

const OWN_PROCESS: &str = "script::tests::own_process";

#[test]
fn the_script_is_the_user_for_good_and_has_the_callers_environment() {
    let directory = directory();
    let recorder_path = directory.path().join("recorder");
    recorder(&recorder_path);
    let text = format!("#!/bin/sh\nexec {} \"$0\"\n", recorder_path.display());
    std::fs::write(directory.path().join("script"), text).unwrap();
    let output = in_own_process(OWN_PROCESS, directory.path());
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let record = record(directory.path());
    let copy = directory.path().join("work/launch_container.sh");
    for line in [
        format!("argument {}", copy.display()),
        format!("uids {UID} {UID} {UID}"),
        format!("gids {GID} {GID} {GID}"),
        format!("groups {GID} {GROUP}"),
        "descriptors 0 1 2".into(),
        "umask 027".into(),
        "sigpipe default".into(),
        "session own".into(),
        "variable LD_LIBRARY_PATH=/topology".into(),
    ] {
        assert!(record.lines().any(|recorded| recorded == line), "{line}: {record}");
    }
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    // A second time the copy is there already.
    let output = in_own_process(OWN_PROCESS, directory.path());
    assert_eq!(output.status.code(), Some(255), "{}", said(&output));
}

#[test]
fn what_is_no_script_is_refused_with_its_code() {
    let cases: [(&str, Change, i32); 5] = [
        ("nothing", |_| (), 255),
        ("a directory", |script| std::fs::create_dir(script).unwrap(), 255),
        ("a FIFO", |script| assert!(std::process::Command::new("mkfifo").arg(script).status().unwrap().success()), 255),
        ("no interpreter", |script| std::fs::write(script, "#!/nowhere\n").unwrap(), 7),
        (
            "a link in its place",
            |script| {
                std::fs::write(script, "#!/bin/sh\n").unwrap();
                std::os::unix::fs::symlink("/tmp/x", script.with_file_name("work/launch_container.sh")).unwrap();
            },
            255,
        ),
    ];
    for (name, make, code) in cases {
        let directory = directory();
        make(&directory.path().join("script"));
        let output = in_own_process(OWN_PROCESS, directory.path());
        assert_eq!(output.status.code(), Some(code), "{name}: {}", said(&output));
    }
    let without_work = tempfile::tempdir().unwrap();
    let output = in_own_process(OWN_PROCESS, without_work.path());
    assert_eq!(output.status.code(), Some(21), "{}", said(&output));
}
