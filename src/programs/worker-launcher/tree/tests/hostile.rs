//! Entries of every other kind, and a user that changes the tree under a walk.

use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::modes::make_fifo;
use super::*;

#[test]
fn other_kinds_of_entries_stay_as_they_are_and_fail_nothing() {
    let place = Place::new();
    let odd = place.path("odd");
    directory(&odd, USER, 0o700);
    make_fifo(&odd.join("fifo"));
    let socket = UnixListener::bind(odd.join("socket")).unwrap();
    for (name, kind) in [("null", "c"), ("disk", "b")] {
        let path = odd.join(name);
        assert!(Command::new("mknod").arg(&path).args([kind, "1", "3"]).status().unwrap().success());
        set_mode(&path, 0o666);
    }
    link(place.protected.join("secret"), &odd.join("link"), USER);
    link("nowhere", &odd.join("dangling"), USER);
    file(&odd.join("name\n\u{1b}[2Jof\u{202e}control"), USER, 0o644);
    file(&odd.join("last"), USER, 0o644);
    let unchanged = || ["fifo", "socket", "null", "disk", "link", "dangling"].map(|name| snapshot(&odd.join(name)));
    let (before, protected) = (unchanged(), snapshot(&place.protected));
    place.permit(Access::Write).unwrap();
    assert_eq!((unchanged(), snapshot(&place.protected)), (before, protected));
    assert_eq!(state(&odd), (USER, GROUP, 0o2770));
    assert_eq!(state(&odd.join("last")), (USER, GROUP, 0o660));
    drop(socket);
}

/// A directory of the user's, and a link that takes its place.
fn swapped(tree: &Path, target: &Path) -> impl Fn(u64) + Sync + use<> {
    let (one, two) = (tree.join("one"), tree.join("two"));
    directory(&one, USER, 0o755);
    directory(&one.join("inner"), USER, 0o755);
    file(&one.join("inner/file"), USER, 0o644);
    file(&one.join("secret"), USER, 0o644);
    link(target, &two, USER);
    // One of them may have been removed.
    move |_| renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap_or(())
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let place = Place::new();
    let disturb = swapped(&place.tree, &place.protected);
    let before = snapshot(&place.protected);
    disturbed(2000, disturb, || place.permit(Access::Write).unwrap());
    assert_eq!(snapshot(&place.protected), before);
}

#[test]
fn a_file_that_becomes_a_link_leads_nowhere() {
    let place = Place::new();
    let (one, two) = (place.path("one"), place.path("two"));
    file(&one, USER, 0o644);
    link(place.protected.join("secret"), &two, USER);
    let before = snapshot(&place.protected);
    let disturb = |_| renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
    disturbed(2000, disturb, || place.permit(Access::Write).unwrap());
    assert_eq!(snapshot(&place.protected), before);
}

#[test]
fn a_removal_is_led_nowhere_either() {
    let place = Place::new();
    // Even the user could remove what is in here: it is not in the tree.
    let target = place.path("target");
    directory(&target, USER, 0o755);
    directory(&target.join("inner"), USER, 0o755);
    file(&target.join("inner/file"), USER, 0o644);
    file(&target.join("secret"), USER, 0o644);
    let before = snapshot(&target);
    for _ in 0..300 {
        let worker = place.path("worker");
        directory(&worker, USER, 0o755);
        meanwhile(swapped(&worker, &target), |_| remove_at(&worker)).unwrap();
        assert!(worker.symlink_metadata().is_err());
        assert_eq!(snapshot(&target), before);
    }
}
