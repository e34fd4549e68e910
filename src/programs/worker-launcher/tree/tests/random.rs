//! Random trees, changed at random during walks and removals.

use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// How long it goes on.
const SPAN: Duration = Duration::from_secs(5);

/// Marsaglia's xorshift: what it gives only has to be different.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A path in the tree, at most four levels deep; few names, so that they meet.
    fn path(&mut self, tree: &Path) -> PathBuf {
        (0..=self.below(4)).fold(tree.to_owned(), |path, _| path.join(format!("{}", self.below(3))))
    }
}

/// One change by the user, who may also change nothing.
fn change(random: &mut Random, tree: &Path, protected: &Path) {
    let (one, two) = (random.path(tree), random.path(tree));
    let owned = |path: &Path| drop(lchown(path, Some(USER), Some(USER)));
    match random.below(9) {
        0 | 1 => fs::create_dir(&one).is_ok().then(|| owned(&one)),
        2 => fs::File::create_new(&one).is_ok().then(|| owned(&one)),
        3 => std::os::unix::fs::symlink(protected, &one).is_ok().then(|| owned(&one)),
        4 => fs::hard_link(protected.join("secret"), &one).ok(),
        5 => fs::rename(&one, &two).ok(),
        6 => renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).ok(),
        7 => fs::hard_link(&one, &two).ok(),
        _ => fs::remove_file(&one).or_else(|_| fs::remove_dir(&one)).ok(),
    };
}

/// What the kinds of entries have to be after an undisturbed walk.
fn check(directory: &Path, seed: u64) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let expected = match metadata.file_type() {
            kind if kind.is_dir() => (USER, GROUP, 0o2770),
            kind if kind.is_file() && metadata.uid() == USER => (USER, GROUP, 0o660),
            kind if kind.is_file() => (0, 0, 0o600),
            _ => continue,
        };
        assert_eq!(state(&path), expected, "{}, seed {seed}", path.display());
        if metadata.is_dir() {
            check(&path, seed);
        }
    }
}

#[test]
fn whatever_a_user_does_meanwhile_nothing_else_is_touched() {
    let began = Instant::now();
    let mut seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut rounds = 0;
    while began.elapsed() < SPAN || rounds == 0 {
        seed |= 1;
        rounds += 1;
        let place = Place::new();
        let top = place.path("worker");
        directory(&top, USER, 0o755);
        let mut random = Random(seed);
        (0..200).for_each(|_| change(&mut random, &top, &place.protected));
        let untouched = || {
            let all = [("inner", true), ("public", true), ("secret", false)];
            all.map(|(name, whole)| match (place.protected.join(name), whole) {
                (path, true) => snapshot(&path),
                // Its ctime changes with its links.
                (path, false) => vec![format!("{:?} {}", state(&path), fs::read_to_string(&path).unwrap())],
            })
        };
        let before = untouched();
        let racing = std::sync::Mutex::new(random);
        let disturb = |_| change(&mut racing.lock().unwrap(), &top, &place.protected);
        meanwhile(disturb, |_| (0..20).for_each(|_| drop(permit_at(&top, Access::Write))));
        assert_eq!(untouched(), before, "seed {seed}");
        permit_at(&top, Access::Write).unwrap();
        check(&top, seed);
        meanwhile(disturb, |_| drop(remove_at(&top)));
        remove_at(&top).unwrap();
        assert!(top.symlink_metadata().is_err(), "seed {seed}");
        assert_eq!(untouched(), before, "seed {seed}");
        seed = seed.wrapping_mul(6_364_136_223_846_793_005);
    }
}
