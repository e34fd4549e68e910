//! The kernel's version, and each feature of the table, tried.

use super::finding::Finding;
use super::machine::Machine;
use squall::child_task;
use squall::kernel::{FEATURES, Feature, Presence, Release, Without};

/// The oldest kernel with everything that a launch cannot do without.
const OLDEST: Release = Release(5, 12);

pub(super) fn findings(_: &Machine) -> Vec<Finding> {
    let release = Release::running();
    let features = FEATURES.iter().map(|feature| finding(feature, release));
    std::iter::once(version(release)).chain(features).collect()
}

fn version(release: Option<Release>) -> Finding {
    let seen = rustix::system::uname().release().to_string_lossy().into_owned();
    match release {
        Some(release) if release >= OLDEST => Finding::ok("version", format!("{seen}; {OLDEST} or newer is needed")),
        Some(_) => Finding::missing("version", seen, format!("boot a kernel of {OLDEST} or newer")),
        None => Finding::unknown("version", format!("'{seen}' is no version as we know them")),
    }
}

/// Each in a process of its own: some take a mount namespace upon themselves.
fn finding(feature: &Feature, release: Option<Release>) -> Finding {
    let told = child_task::apart(super::PATIENCE, || match (feature.probe)() {
        Presence::Present => (0, String::new()),
        Presence::Absent(why) => (1, why),
        Presence::Untried(why) => (2, why),
    });
    let presence = match told {
        Ok((0, _)) => Presence::Present,
        Ok((1, why)) => Presence::Absent(why),
        Ok((_, why)) => Presence::Untried(why),
        Err(failure) => Presence::Untried(failure.to_string()),
    };
    judged(feature, feature.judge(presence, release))
}

fn judged(feature: &Feature, (presence, seen): (Presence, String)) -> Finding {
    let seen = format!("{}; {seen}", feature.used_for);
    match (presence, feature.without) {
        (Presence::Present, _) => Finding::ok(feature.name, seen),
        (Presence::Untried(_), _) => Finding::unknown(feature.name, seen),
        (Presence::Absent(_), Without::Instead(instead)) => {
            Finding::ok(feature.name, format!("{seen}; instead: {instead}"))
        }
        (Presence::Absent(_), Without::NoLaunch) => {
            let advice = format!("boot a kernel of {} or newer, or have the filter let it through", feature.since);
            Finding::missing(feature.name, seen, advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn only_what_a_launch_cannot_do_without_is_missing() {
        for feature in &FEATURES {
            let gone = judged(feature, (Presence::Absent("x".to_owned()), "y".to_owned()));
            let expected = if feature.without == Without::NoLaunch { State::Missing } else { State::Ok };
            assert_eq!(gone.state, expected, "{}", feature.name);
        }
    }
}
