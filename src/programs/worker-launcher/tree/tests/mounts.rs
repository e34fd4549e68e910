//! What is mounted in a tree is no part of it.

use super::*;

#[test]
fn mounts_are_left_alone() {
    in_process_of_its_own(&["unshare", "--mount"], "tree::tests::mounts::in_a_mount_namespace");
}

#[test]
#[ignore = "in a process of its own, by the test above"]
fn in_a_mount_namespace() {
    let place = Place::new();
    let top = place.path("top");
    directory(&top, SUPERVISOR, 0o755);
    directory(&top.join("directory"), SUPERVISOR, 0o755);
    directory(&top.join("tmpfs"), SUPERVISOR, 0o755);
    directory(&top.join("tmp"), SUPERVISOR, 0o755);
    file(&top.join("file"), SUPERVISOR, 0o644);
    // The same device, even the user's own: still mounts.
    directory(&place.path("source"), USER, 0o755);
    file(&place.path("source/inside"), USER, 0o644);
    let mount = |arguments: &[&str], on: &str| {
        assert!(Command::new("mount").args(arguments).arg(top.join(on)).status().unwrap().success());
    };
    mount(&["--bind", place.path("source").to_str().unwrap()], "directory");
    mount(&["--bind", place.path("source/inside").to_str().unwrap()], "file");
    mount(&["-t", "tmpfs", "-o", "uid=21001,mode=755", "none"], "tmpfs");
    let before = snapshot(&place.path("source"));
    permit_at(&top, Access::Write).unwrap();
    assert_eq!(code(remove_at(&top)), Some(Code::Other));
    assert_eq!(code(remove_at(&top.join("file"))), Some(Code::Other));
    assert_eq!(code(remove_at(&top.join("directory"))), Some(Code::Other));
    assert_eq!(snapshot(&place.path("source")), before);
    assert_eq!(state(&top.join("tmpfs")), (USER, 0, 0o755));
    assert_eq!(state(&top), (USER, GROUP, 0o2770));
    // What could be removed is.
    assert!(top.join("tmp").symlink_metadata().is_err());
    for name in ["directory", "file", "tmpfs"] {
        assert!(Command::new("umount").arg(top.join(name)).status().unwrap().success());
    }
    remove_at(&top).unwrap();
}
