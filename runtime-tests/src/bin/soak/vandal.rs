//! What others do to a run root meanwhile: they reap, unmount pins, and remove hints. All of it is
//! allowed at any time.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime_tests::random::Random;
use rustix::mount::{UnmountFlags, unmount};

use crate::ground::Ground;
use crate::tally::Problem;

/// Longest time between two of them.
const PAUSE_MS: u64 = 150;

/// Disturbs until told to end; the answer is how often, and what went wrong.
pub fn run(ground: &Ground, seed: u64, over: &AtomicBool) -> (u64, Vec<Problem>) {
    let mut random = Random::new(seed, u64::MAX);
    let (mut count, mut problems) = (0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(random.below(PAUSE_MS)));
        match random.below(4) {
            0 => problems.extend(reap(ground, random.one_of(&["0", "2"]))),
            1 => remove_a_hint(ground, &mut random),
            _ => unmount_a_pin(ground, &mut random),
        }
        count += 1;
    }
    (count, problems)
}

fn reap(ground: &Ground, keep: &str) -> Option<Problem> {
    match ground.squall(&["reap", "--keep", keep]).attempt() {
        Ok(output) if output.code() == 0 => None,
        Ok(output) => Some(Problem::Command(output.to_string())),
        Err(text) => Some(Problem::Command(text)),
    }
}

/// As an administrator would with `umount -l`. There may be nothing to unmount.
fn unmount_a_pin(ground: &Ground, random: &mut Random) {
    if let Some(layer) = a_layer(ground, random) {
        let _ = unmount(layer.join("mnt"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn remove_a_hint(ground: &Ground, random: &mut Random) {
    if let Some(layer) = a_layer(ground, random) {
        let _ = fs::remove_file(layer.join("loop"));
    }
}

fn a_layer(ground: &Ground, random: &mut Random) -> Option<PathBuf> {
    let entries = fs::read_dir(ground.bed.run_root().join("layers")).ok()?;
    let mut layers: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    layers.sort();
    (!layers.is_empty()).then(|| random.one_of(&layers.iter().collect::<Vec<_>>()).clone())
}
