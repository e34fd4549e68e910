//! Entries that come, go and move during a walk.

use super::*;

#[test]
fn entries_that_vanish_and_appear_are_borne() {
    let place = Place::new();
    for number in 0..50 {
        file(&place.path(&format!("stays-{number}")), SUPERVISOR, 0o644);
    }
    let disturb = |round| {
        let path = place.path(&format!("comes-{}", round % 7));
        directory(&path, SUPERVISOR, 0o755);
        file(&path.join("file"), SUPERVISOR, 0o644);
        fs::remove_dir_all(&path).unwrap();
    };
    disturbed(500, disturb, || place.permit(Access::Read).unwrap());
    for number in 0..50 {
        assert_eq!(state(&place.path(&format!("stays-{number}"))), (USER, GROUP, 0o460));
    }
}

#[test]
fn directories_that_are_moved_neither_lead_out_nor_hold_a_walk_for_ever() {
    let place = Place::new();
    let outside = place.protected.join("outside");
    directory(&outside, USER, 0o755);
    let deep = place.path("a/b/c/d");
    fs::create_dir_all(&deep).unwrap();
    for number in 0..20 {
        fs::create_dir_all(deep.join(format!("{number}/x"))).unwrap();
        fs::create_dir_all(place.path(&format!("last-{number}/x"))).unwrap();
    }
    assert!(Command::new("chown").args(["-R", "21001"]).arg(&place.tree).status().unwrap().success());
    file(&outside.join("not-in-the-tree"), USER, 0o644);
    let before = snapshot(&place.protected.join("inner"));
    // Out of the tree from far below, and back.
    let (inside, out) = (place.path("a/b"), outside.join("b"));
    let disturb = |round: u64| match round % 2 {
        0 => fs::rename(&inside, &out).unwrap(),
        _ => fs::rename(&out, &inside).unwrap(),
    };
    disturbed(2000, disturb, || drop(place.permit(Access::Write)));
    assert_eq!(snapshot(&place.protected.join("inner")), before);
    assert_eq!(state(&outside.join("not-in-the-tree")), (USER, USER, 0o644));
    assert_eq!(state(&outside), (USER, USER, 0o755));
    if out.exists() {
        fs::rename(&out, &inside).unwrap();
    }
    place.permit(Access::Write).unwrap();
    assert_eq!(state(&place.path("a/b/c/d/7/x")), (USER, GROUP, 0o2770));
}

#[test]
fn what_was_moved_away_is_left_and_the_rest_is_done() {
    use crate::tree::trail::{Left, Trail, open_entry};

    let place = Place::new();
    fs::create_dir_all(place.path("a/b/c")).unwrap();
    let top = fs::File::open(&place.tree).unwrap().into();
    let mut trail = Trail::new(&place.tree, top).unwrap();
    for name in [c"a", c"b", c"c"] {
        let (entry, stat) = open_entry(trail.here(), name).unwrap();
        trail.enter(name.to_owned(), entry, &stat);
    }
    assert_eq!(trail.shown(c"file"), place.path("a/b/c/file").to_string_lossy());
    fs::rename(place.path("a/b/c"), place.path("c")).unwrap();
    // `..` is the top now: the way to a/b is taken again.
    assert!(matches!(trail.leave().unwrap(), Left::Lost(1)));
    assert_eq!(trail.shown(c""), place.path("a/b/").to_string_lossy());
    fs::rename(place.path("a"), place.path("d")).unwrap();
    assert!(matches!(trail.leave().unwrap(), Left::Up(name) if name.as_c_str() == c"b"));
    fs::create_dir(place.path("d/e")).unwrap();
    let (entry, stat) = open_entry(trail.here(), c"e").unwrap();
    trail.enter(c"e".to_owned(), entry, &stat);
    fs::rename(place.path("d/e"), place.path("e")).unwrap();
    // `a` has another name by now, so all that is left is the top.
    assert!(matches!(trail.leave().unwrap(), Left::Lost(2)));
    assert!(matches!(trail.leave().unwrap(), Left::Top));
}
