//! Storm walks one tree from several threads at once.

use rustix::fs::{AtFlags, CWD, statat};

use super::*;

fn fill(tree: &Path, depth: u32) {
    for number in 0..4 {
        file(&tree.join(format!("file-{number}")), SUPERVISOR, [0o644, 0o755, 0o600, 0o4555][number]);
        if depth > 0 {
            let below = tree.join(format!("directory-{number}"));
            directory(&below, SUPERVISOR, 0o755);
            fill(&below, depth - 1);
        }
    }
}

fn states(directory: &Path, tree: &Path) -> Vec<(PathBuf, (u32, u32, u32))> {
    let mut all = vec![(directory.strip_prefix(tree).unwrap().to_owned(), state(directory))];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(states(&path, tree)),
            false => all.push((path.strip_prefix(tree).unwrap().to_owned(), state(&path))),
        }
    }
    all.sort();
    all
}

#[test]
fn three_walks_at_once_leave_what_one_leaves() {
    for access in [Access::Read, Access::Write] {
        let alone = Place::new();
        fill(&alone.tree, 2);
        alone.permit(access).unwrap();
        let expected = states(&alone.tree, &alone.tree);
        for _ in 0..10 {
            let place = Place::new();
            fill(&place.tree, 2);
            std::thread::scope(|scope| {
                let walks = [(); 3].map(|()| scope.spawn(|| place.permit(access)));
                walks.into_iter().for_each(|walk| walk.join().unwrap().unwrap());
            });
            assert_eq!(states(&place.tree, &place.tree), expected, "{access:?}");
        }
    }
}

/// Owner and mode are read at one moment by statx(2), so each value that is seen was there.
#[test]
fn nobody_has_more_on_the_way_than_before_or_after() {
    for (old, new) in [(0o4755, 0o560), (0o2664, 0o460), (0o644, 0o460)] {
        let place = Place::new();
        let path = place.path("file");
        file(&path, SUPERVISOR, old);
        let look = |_| {
            let seen = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let mode = seen.st_mode & 0o7777;
            let bounds: &[u32] = match (seen.st_uid, seen.st_gid) {
                (SUPERVISOR, SUPERVISOR) => &[old],
                // chown(2) may be seen between its two ids.
                (USER, SUPERVISOR) => &[new & old],
                (USER, GROUP) => &[new],
                other => panic!("owner and group are {other:?}"),
            };
            assert!(bounds.iter().any(|bound| mode & !bound == 0), "{mode:o} of {}", seen.st_uid);
        };
        for _ in 0..300 {
            meanwhile(look, |_| permit_at(&path, Access::Read)).unwrap();
            assert_eq!(state(&path), (USER, GROUP, new));
            // First nobody's, so that the looks are right while it is put back.
            fs::remove_file(&path).unwrap();
            file(&path, SUPERVISOR, old);
        }
    }
}
