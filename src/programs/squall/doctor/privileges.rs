//! What this process may do, and what each missing capability costs.

use caps::{CapSet, CapsHashSet};
use squall::privilege::{Capability, LOOPBACK, NEEDED};

use super::finding::Finding;
use super::machine::Machine;

/// Capabilities that a launch does without, and what is lost.
const USEFUL: [(Capability, &str); 2] = [
    (
        Capability::CAP_SYS_RESOURCE,
        "no hard limit can be raised to the host's own, and no oom_score_adj lowered: the monitor is not \
                                    the last to be killed",
    ),
    (Capability::CAP_SYS_NICE, "a caller's priority and scheduling policy stay with its workers"),
];

pub(super) fn findings(_: &Machine) -> Vec<Finding> {
    match caps::read(None, CapSet::Effective) {
        Ok(held) => judged(&held),
        Err(error) => vec![Finding::unknown("capabilities", error.to_string())],
    }
}

fn judged(held: &CapsHashSet) -> Vec<Finding> {
    let uid = rustix::process::geteuid().as_raw();
    let needed = NEEDED.iter().chain([&LOOPBACK]);
    let (has, lacks): (Vec<_>, Vec<_>) = needed.partition(|(capability, _)| held.contains(capability));
    let mut findings = vec![Finding::ok(
        "user",
        format!("uid {uid}, with {} of {} needed capabilities", has.len(), has.len() + lacks.len()),
    )];
    findings.extend(lacks.into_iter().map(|(capability, purpose)| {
        let advice = "run it as root (sudo); in a container: --cap-add, or --privileged";
        Finding::missing(capability.to_string(), format!("not held: {purpose}"), advice)
    }));
    findings.extend(USEFUL.iter().map(|(capability, cost)| match held.contains(capability) {
        true => Finding::ok(capability.to_string(), "held"),
        false => {
            let advice = "give it to the service or container that starts Squall, if that matters";
            Finding::limited(capability.to_string(), format!("not held: {cost}"), advice)
        }
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn each_missing_capability_is_named_with_what_it_costs() {
        let none = judged(&CapsHashSet::new());
        let missing = none.iter().filter(|finding| finding.state == State::Missing).count();
        assert_eq!(missing, NEEDED.len() + 1);
        assert_eq!(none.iter().filter(|finding| finding.state == State::Limited).count(), USEFUL.len());
        assert!(judged(&caps::all()).iter().all(|finding| finding.state == State::Ok));
    }
}
