//! Storm walks one tree from several threads at once.

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

/// The kernel reads mode, owner and group one after the other and lets them change meanwhile. Two
/// looks that see the same have seen what was there between them: no value comes back in a change.
#[test]
fn nobody_has_more_on_the_way_than_before_or_after() {
    for (old, new) in [(0o4755, 0o560), (0o2664, 0o460), (0o644, 0o460)] {
        let place = Place::new();
        let path = place.path("file");
        file(&path, SUPERVISOR, old);
        let look = |_| {
            let seen = state(&path);
            if state(&path) != seen {
                return;
            }
            let (owner, group, mode) = seen;
            let bound = match (owner, group) {
                (SUPERVISOR, SUPERVISOR) => old,
                // chown(2) changes the owner first.
                (USER, SUPERVISOR) => new & old,
                (USER, GROUP) => new,
                other => panic!("owner and group are {other:?}"),
            };
            assert!(mode & !bound == 0, "{mode:o} of {owner}");
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
