//! What `rmr` removes, and what it does not.

use super::modes::make_fifo;
use super::*;

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn a_users_tree_goes_whatever_is_in_it() {
    let place = Place::new();
    let top = place.path("worker");
    directory(&top, USER, 0o700);
    for (name, mode) in [("closed", 0o000), ("read-only", 0o500), ("not-to-read", 0o300)] {
        directory(&top.join(name), USER, 0o700);
        directory(&top.join(name).join("inner"), USER, 0o500);
        file(&top.join(name).join("file"), USER, 0o400);
        set_mode(&top.join(name), mode);
    }
    // Empty, so the user may remove it; and files of others in a directory of its own.
    directory(&top.join("supervisors"), SUPERVISOR, 0o755);
    file(&top.join("pid"), 0, 0o600);
    link(&place.protected, &top.join("link"), USER);
    link("nowhere", &top.join("dangling"), USER);
    make_fifo(&top.join("fifo"));
    fs::hard_link(place.protected.join("secret"), top.join("secret")).unwrap();
    let inner = snapshot(&place.protected.join("inner"));
    set_mode(&top, 0o000);
    remove_at(&top).unwrap();
    assert!(!is_there(&top));
    assert_eq!(snapshot(&place.protected.join("inner")), inner);
    assert_eq!(fs::read_to_string(place.protected.join("secret")).unwrap(), "content");
}

#[test]
fn nothing_there_is_no_error_and_a_closed_way_is() {
    let place = Place::new();
    for name in ["missing", "missing/below"] {
        remove_at(&place.path(name)).unwrap();
    }
    directory(&place.path("closed"), 0, 0o700);
    file(&place.path("closed/file"), USER, 0o644);
    for name in ["closed/file", "closed/missing"] {
        assert_eq!(code(remove_at(&place.path(name))), Some(Code::Unreadable), "{name}");
    }
}

#[test]
fn a_file_or_link_at_the_top_is_removed_itself() {
    let place = Place::new();
    file(&place.path("file"), SUPERVISOR, 0o644);
    link(place.protected.join("public"), &place.path("link"), SUPERVISOR);
    link("nowhere", &place.path("dangling"), USER);
    let before = snapshot(&place.protected);
    for name in ["file", "link", "dangling"] {
        remove_at(&place.path(name)).unwrap();
        assert!(!is_there(&place.path(name)), "{name}");
    }
    assert_eq!(snapshot(&place.protected), before);
}

#[test]
fn what_cannot_be_removed_is_a_failure_and_the_rest_goes() {
    let place = Place::new();
    let top = place.path("worker");
    directory(&top, USER, 0o755);
    directory(&top.join("supervisors"), SUPERVISOR, 0o755);
    file(&top.join("supervisors/file"), USER, 0o644);
    directory(&top.join("closed"), OTHER, 0o700);
    file(&top.join("own"), USER, 0o644);
    assert_eq!(code(remove_at(&top)), Some(Code::Other));
    assert!(is_there(&top.join("supervisors/file")) && is_there(&top.join("closed")) && !is_there(&top.join("own")));
    // Neither the user's nor the supervisor's to remove.
    for path in [place.protected.join("public"), place.protected.join("inner"), place.tree.clone()] {
        assert_eq!(code(remove_at(&path)), Some(Code::Other), "{}", path.display());
        assert!(is_there(&path));
    }
}

#[test]
fn a_tree_in_which_entries_appear_goes_in_the_end() {
    for _ in 0..50 {
        let place = Place::new();
        let top = place.path("worker");
        directory(&top, USER, 0o755);
        directory(&top.join("inner"), USER, 0o755);
        // Three entries at most; then nothing more appears.
        let appear = |round: u64| {
            if round < 3 && fs::write(top.join("inner").join(round.to_string()), "").is_ok() {
                std::thread::yield_now();
            }
        };
        meanwhile(appear, |_| remove_at(&top)).unwrap();
        assert!(!is_there(&top));
    }
}
