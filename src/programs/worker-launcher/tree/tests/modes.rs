//! What a walk leaves behind where nobody disturbs it, and where it may begin.

use super::*;

#[test]
fn every_mode_becomes_what_storm_expects() {
    // Old mode, then the new one where the user may read, and write.
    let files = [
        (0o755, 0o560, 0o760),
        (0o644, 0o460, 0o660),
        (0o400, 0o460, 0o660),
        (0o000, 0o060, 0o260),
        (0o111, 0o160, 0o360),
        (0o7777, 0o560, 0o760),
        (0o4711, 0o560, 0o760),
    ];
    let directories = [
        (0o755, 0o2570, 0o2770),
        (0o700, 0o2570, 0o2770),
        (0o1777, 0o2570, 0o2770),
        (0o7777, 0o2570, 0o2770),
        (0o300, 0o2170, 0o2370),
        (0o000, 0o2070, 0o2270),
    ];
    for access in [Access::Read, Access::Write] {
        let place = Place::new();
        let new = |(old, read, write): (u32, u32, u32)| (old, if access == Access::Read { read } else { write });
        let mut expected = Vec::new();
        for (old, new) in files.map(new) {
            for owner in [SUPERVISOR, USER] {
                let path = place.path(&format!("file-{owner}-{old:o}"));
                file(&path, owner, old);
                expected.push((path, new));
            }
        }
        for (old, new) in directories.map(new) {
            let path = place.path(&format!("directory-{old:o}"));
            fs::create_dir(&path).unwrap();
            file(&path.join("inside"), SUPERVISOR, 0o640);
            give(&path, SUPERVISOR);
            set_mode(&path, old);
            expected.push((path.join("inside"), if access == Access::Read { 0o460 } else { 0o660 }));
            expected.push((path, new));
        }
        expected.push((place.tree.clone(), if access == Access::Read { 0o2570 } else { 0o2770 }));
        for walk in 0..2 {
            place.permit(access).unwrap();
            for (path, mode) in &expected {
                assert_eq!(state(path), (USER, GROUP, *mode), "{} {access:?}, walk {walk}", path.display());
            }
        }
    }
}

#[test]
fn what_a_program_of_root_left_for_the_user_is_given() {
    let place = Place::new();
    let (pid, own) = (place.path("pid"), place.path("own"));
    file(&pid, 0, 0o644);
    file(&own, 0, 0o600);
    lchown(&own, None, Some(GROUP)).unwrap();
    place.permit(Access::Write).unwrap();
    assert_eq!([state(&pid), state(&own)], [(USER, GROUP, 0o660); 2]);
}

#[test]
fn a_single_file_is_given() {
    let place = Place::new();
    file(&place.path("blob"), SUPERVISOR, 0o755);
    permit_at(&place.path("blob"), Access::Read).unwrap();
    assert_eq!(state(&place.path("blob")), (USER, GROUP, 0o560));
    assert_eq!(state(&place.tree), (SUPERVISOR, SUPERVISOR, 0o755));
}

#[test]
fn the_temporary_directory_of_a_worker_has_no_setgid() {
    let place = Place::new();
    directory(&place.path("tmp"), SUPERVISOR, 0o755);
    directory(&place.path("tmp/inner"), SUPERVISOR, 0o2755);
    directory(&place.path("artifacts"), SUPERVISOR, 0o755);
    file(&place.path("tmp/file"), SUPERVISOR, 0o644);
    work_directory(&place).unwrap();
    for (name, mode) in [("", 0o2770), ("artifacts", 0o2770), ("tmp", 0o770), ("tmp/inner", 0o770), ("tmp/file", 0o660)]
    {
        assert_eq!(state(&place.path(name)), (USER, GROUP, mode), "'{name}'");
    }
}

#[test]
fn a_worker_needs_a_temporary_directory_of_its_own() {
    let place = Place::new();
    assert_eq!(code(work_directory(&place)), Some(Code::NoSuchPath));
    let before = snapshot(&place.protected);
    link(&place.protected, &place.path("tmp"), USER);
    assert_eq!(code(work_directory(&place)), Some(Code::Other));
    assert_eq!(snapshot(&place.protected), before);
}

fn work_directory(place: &Place) -> Result<()> {
    permit::work_directory(&parties(), &AbsolutePath::new(&place.tree).unwrap())
}

#[test]
fn a_walk_begins_only_where_the_supervisor_could_have_made_something() {
    let place = Place::new();
    let before = snapshot(&place.protected);
    directory(&place.path("others"), OTHER, 0o777);
    directory(&place.path("closed"), 0, 0o700);
    directory(&place.path("closed/inner"), SUPERVISOR, 0o755);
    make_fifo(&place.path("fifo"));
    for (path, expected) in [
        (place.path("missing"), Code::NoSuchPath),
        (place.path("fifo/below"), Code::NoSuchPath),
        (place.path("fifo"), Code::Other),
        (place.path("others"), Code::Other),
        (place.path("closed/inner"), Code::Other),
        (place.protected.clone(), Code::Other),
        (place.protected.join("secret"), Code::Other),
        (place.protected.join("public"), Code::Other),
    ] {
        assert_eq!(code(permit_at(&path, Access::Write)), Some(expected), "{}", path.display());
    }
    for path in ["/", "relative", "", "/tmp/../etc"] {
        assert_eq!(code(super::super::absolute(Path::new(path))), Some(Code::Other), "'{path}'");
    }
    assert_eq!(snapshot(&place.protected), before);
    assert_eq!(state(&place.path("closed/inner")), (SUPERVISOR, SUPERVISOR, 0o755));
}

#[test]
fn a_link_on_the_way_is_followed_unless_it_is_the_users() {
    let place = Place::new();
    directory(&place.path("real"), SUPERVISOR, 0o755);
    directory(&place.path("real/inner"), SUPERVISOR, 0o755);
    link("../tree/./real", &place.path("supervisors"), SUPERVISOR);
    link(place.path("supervisors"), &place.path("roots"), 0);
    link("real", &place.path("users"), USER);
    link("loop", &place.path("loop"), SUPERVISOR);
    for name in ["users/inner", "loop/inner"] {
        assert_eq!(code(permit_at(&place.path(name), Access::Read)), Some(Code::Other), "{name}");
    }
    assert_eq!(state(&place.path("real/inner")), (SUPERVISOR, SUPERVISOR, 0o755));
    // Itself it is left alone, whoever made it.
    permit_at(&place.path("supervisors"), Access::Read).unwrap();
    assert_eq!(state(&place.path("real")), (SUPERVISOR, SUPERVISOR, 0o755));
    permit_at(&place.path("roots/inner"), Access::Read).unwrap();
    assert_eq!(state(&place.path("real/inner")), (USER, GROUP, 0o2570));
}

pub fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}
