//! Trees that are deeper than any stack and any table of descriptors.

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const LEVELS: usize = 10_000;

#[test]
fn a_deep_tree_takes_few_descriptors() {
    in_process_of_its_own(&[], "tree::tests::deep::a_deep_tree_and_few_descriptors");
}

#[test]
#[ignore = "in a process of its own, by the test above"]
fn a_deep_tree_and_few_descriptors() {
    let place = Place::new();
    let open = |at: &rustix::fd::OwnedFd, name: &str| {
        openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = place.path("top");
    directory(&top, SUPERVISOR, 0o755);
    let mut here = openat(CWD, &top, flags, Mode::empty()).unwrap();
    for _ in 0..LEVELS {
        mkdirat(&here, "a-directory", Mode::from_raw_mode(0o755)).unwrap();
        here = open(&here, "a-directory");
    }
    let held = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(held + 6), ..limit }).unwrap();
    permit_at(&top, Access::Write).unwrap();
    let stat = rustix::fs::fstat(&here).unwrap();
    assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777), (USER, GROUP, 0o2770));
    let levels = std::iter::successors(Some(here), |here| Some(open(here, ".."))).skip(1).take(LEVELS);
    for level in levels {
        assert_eq!(rustix::fs::fstat(&level).unwrap().st_uid, USER);
    }
    remove_at(&top).unwrap();
    assert!(top.symlink_metadata().is_err());
}
