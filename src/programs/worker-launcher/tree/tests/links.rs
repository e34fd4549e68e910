//! Files with several names: a user can give a foreign file a name in its own tree.

use super::*;
use crate::tree::grant::Grant;
use crate::tree::start::{Found, Start};

fn found(path: &Path) -> Found {
    match Start::open(&parties(), &AbsolutePath::new(path).unwrap()).unwrap() {
        Start::There(found) => found,
        Start::Missing | Start::Closed => panic!("{} cannot be opened", path.display()),
    }
}

fn walk(place: &Place, links_are_protected: bool) -> u64 {
    let grant = Grant { links_are_protected, ..Grant::new(&parties(), Access::Write, Setgid::Yes) };
    let report = permit::walked(&grant, &place.tree, &found(&place.tree)).unwrap();
    let left = report.number_left();
    assert_eq!(report.end(), 0);
    left
}

#[test]
fn a_link_to_a_foreign_file_gives_nothing_away() {
    let place = Place::new();
    for (number, owner) in [0, OTHER, SUPERVISOR].into_iter().enumerate() {
        for mode in [0o600, 0o644, 0o4755] {
            let path = place.protected.join(format!("{number}-{mode:o}"));
            file(&path, owner, mode);
            fs::hard_link(&path, place.path(&format!("{number}-{mode:o}"))).unwrap();
        }
    }
    let before = snapshot(&place.protected);
    assert_eq!([walk(&place, true), walk(&place, false)], [9, 9]);
    assert_eq!(snapshot(&place.protected), before);
}

#[test]
fn the_users_own_files_may_have_several_names() {
    let place = Place::new();
    file(&place.path("one"), USER, 0o644);
    fs::hard_link(place.path("one"), place.path("two")).unwrap();
    assert_eq!(walk(&place, true), 0);
    assert_eq!(state(&place.path("two")), (USER, GROUP, 0o660));
}

#[test]
fn what_was_moved_into_the_tree_stays_whose_it_is_unless_all_may_read_it() {
    let place = Place::new();
    file(&place.path("secret"), OTHER, 0o640);
    file(&place.path("of-root"), 0, 0o700);
    directory(&place.path("closed"), OTHER, 0o700);
    file(&place.path("closed/public"), OTHER, 0o644);
    file(&place.path("public"), OTHER, 0o644);
    assert_eq!(walk(&place, true), 3);
    assert_eq!(state(&place.path("secret")), (OTHER, OTHER, 0o640));
    assert_eq!(state(&place.path("of-root")), (0, 0, 0o700));
    assert_eq!(state(&place.path("closed")), (OTHER, OTHER, 0o700));
    assert_eq!(state(&place.path("closed/public")), (OTHER, OTHER, 0o644));
    assert_eq!(state(&place.path("public")), (USER, GROUP, 0o660));
}

#[test]
fn a_file_that_is_linked_and_unlinked_all_the_time_is_not_given() {
    let place = Place::new();
    let (secret, name) = (place.protected.join("supervisors"), place.path("name"));
    file(&secret, SUPERVISOR, 0o600);
    let disturb = |_| {
        fs::hard_link(&secret, &name).unwrap();
        fs::remove_file(&name).unwrap();
    };
    disturbed(60, disturb, || assert!(walk(&place, false) <= 1));
    assert_eq!(state(&secret), (SUPERVISOR, SUPERVISOR, 0o600));
}

#[test]
fn a_new_file_is_given_where_links_are_not_protected() {
    let place = Place::new();
    file(&place.path("new"), SUPERVISOR, 0o640);
    assert_eq!(walk(&place, false), 0);
    assert_eq!(state(&place.path("new")), (USER, GROUP, 0o660));
}
