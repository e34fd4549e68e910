//! Paths of the host in a container.

use std::fs;
use std::process::Command;

use runtime_tests::{Bed, Call, cases};

use crate::mounts::{Line, mounts};

cases![
    a_read_only_bind_can_be_read_and_a_writable_one_written,
    what_is_mounted_below_a_read_only_bind_is_read_only_too,
    a_writable_bind_below_a_read_only_one_wins,
    missing_mount_points_are_made_and_files_go_onto_files,
    a_bind_brings_no_devices_and_no_setuid_unless_asked_for,
    mounts_of_the_host_arrive_only_through_a_slave_bind,
    a_bind_that_cannot_be_made_is_named,
];

fn volume(source: &str, rest: &str) -> String {
    format!("{source}:{rest}")
}

fn directory(bed: &Bed, name: &str) -> String {
    let path = bed.file(name);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    path
}

fn a_read_only_bind_can_be_read_and_a_writable_one_written(bed: &Bed) {
    let shared = directory(bed, "shared");
    fs::write(format!("{shared}/file"), "of the host").unwrap();
    for (rest, writable) in
        [("/data", true), ("/data:rw", true), ("/data:ro", false), ("/data:ro,rbind,rprivate", false)]
    {
        let flags = ["--rm", "-v", &volume(&shared, rest)];
        assert_eq!(bed.attempt(&flags, &["read", "/data/file"])["ok"], "of the host");
        let answer = bed.attempt(&flags, &["create", "/data/new", rest]);
        assert_eq!(answer["errno"] != libc::EROFS, writable, "{rest}: {answer}");
        let there = fs::read_to_string(format!("{shared}/new")).unwrap_or_default();
        assert_eq!(there == rest, writable, "{rest}");
    }
}

/// Mounts a tmpfs and gives back how to take it away.
fn host_mount(path: &str) {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "mode=777", "none", path]);
    Call::new(mount).ok();
}

fn host_unmount(path: &str) {
    let mut unmount = Command::new("umount");
    unmount.arg(path);
    Call::new(unmount).ok();
}

fn what_is_mounted_below_a_read_only_bind_is_read_only_too(bed: &Bed) {
    let shared = directory(bed, "shared");
    let below = directory(bed, "shared/below");
    host_mount(&below);
    let flags = ["--rm", "-v", &volume(&shared, "/data:ro")];
    assert_eq!(bed.attempt(&flags, &["create", "/data/below/file", "x"])["errno"], libc::EROFS);
    let single = ["--rm", "-v", &volume(&shared, "/data:rw,bind")];
    assert_eq!(bed.attempt(&single, &["create", "/data/below/file", "x"])["ok"], "");
    assert!(fs::read_dir(&below).unwrap().next().is_none(), "a plain bind leaves out what is mounted below");
    host_unmount(&below);
}

fn a_writable_bind_below_a_read_only_one_wins(bed: &Bed) {
    let (outer, inner) = (directory(bed, "outer"), directory(bed, "inner"));
    directory(bed, "outer/work");
    let (outer, inner) = (volume(&outer, "/data:ro"), volume(&inner, "/data/work:rw"));
    let flags = ["--rm", "-v", &outer, "-v", &inner];
    assert_eq!(bed.attempt(&flags, &["create", "/data/work/file", "x"])["ok"], "");
    assert_eq!(bed.attempt(&flags, &["create", "/data/file", "x"])["errno"], libc::EROFS);
    assert!(bed.work().join("inner/file").exists());
    // On a command line the order means nothing: what lies above is mounted first.
    let the_other_way_round = ["--rm", "-v", &inner, "-v", &outer];
    assert_eq!(bed.attempt(&the_other_way_round, &["create", "/data/work/file", "x"])["ok"], "");
}

fn missing_mount_points_are_made_and_files_go_onto_files(bed: &Bed) {
    let shared = directory(bed, "shared");
    let file = bed.file("shared/file");
    fs::write(&file, "text").unwrap();
    let volumes = [volume(&shared, "/a/b/c:ro"), volume(&file, "/etc/hosts:ro"), volume(&file, "/bin/other:ro")];
    let flags = ["--rm", "-v", &volumes[0], "-v", &volumes[1], "-v", &volumes[2]];
    for path in ["/a/b/c/file", "/etc/hosts", "/bin/other"] {
        assert_eq!(bed.attempt(&flags, &["read", path])["ok"], "text", "{path}");
    }
    assert_eq!(bed.attempt(&flags, &["stat", "/a/b"])["ok"], "40755 0 0");
    assert_eq!(bed.attempt(&flags, &["list", "/bin"])["ok"], "[\"other\",\"probe\"]");
}

fn a_bind_brings_no_devices_and_no_setuid_unless_asked_for(bed: &Bed) {
    let shared = directory(bed, "shared");
    for (rest, expected) in
        [("/data", [true, true]), ("/data:dev,suid", [false, false]), ("/data:ro,noexec", [true, true])]
    {
        let found = mounts(&bed.report(&["--rm", "-v", &volume(&shared, rest)]));
        let line = found.iter().find(|line| line.point == "/data").unwrap();
        assert_eq!(["nodev", "nosuid"].map(|option| line.options.contains(option)), expected, "{rest}: {line:?}");
        assert_eq!(line.options.contains("noexec"), rest.contains("noexec"));
    }
}

fn mounts_of_the_host_arrive_only_through_a_slave_bind(bed: &Bed) {
    let shared = directory(bed, "shared");
    host_mount(&shared);
    let mut share = Command::new("mount");
    share.args(["--make-shared", &shared]);
    Call::new(share).ok();
    let below = directory(bed, "shared/below");
    let volumes = [volume(&shared, "/slave:rslave"), volume(&shared, "/private:rprivate"), volume(&shared, "/default")];
    let flags = ["-v", &volumes[0], "-v", &volumes[1], "-v", &volumes[2]];
    let worker = bed.start(&flags, &["sleep", "600000"]);
    host_mount(&below);
    let text = fs::read_to_string(format!("/proc/{}/mountinfo", worker.pid())).unwrap();
    let points: Vec<String> =
        text.lines().map(|line| Line::of(line).point).filter(|point| point.ends_with("below")).collect();
    assert_eq!(points, ["/slave/below"]);
    host_unmount(&below);
    worker.kill();
    host_unmount(&shared);
}

fn a_bind_that_cannot_be_made_is_named(bed: &Bed) {
    let shared = directory(bed, "shared");
    let missing = bed.file("missing");
    let file = bed.file("file");
    fs::write(&file, "").unwrap();
    let read_only = volume(&shared, "/data:ro");
    let table: [(Vec<String>, &str); 4] = [
        (vec![volume(&missing, "/data")], &missing),
        (vec![volume(&shared, "/bin/probe")], "/bin/probe"),
        (vec![volume(&file, "/bin")], "/bin"),
        (vec![read_only, volume(&shared, "/data/not/there")], "/data/not/there"),
    ];
    for (volumes, named) in table {
        let flags: Vec<&str> = volumes.iter().flat_map(|volume| ["-v", volume]).collect();
        let output = bed.run(&flags, &["report"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains(named), "{named} is not named: {output}");
    }
}
