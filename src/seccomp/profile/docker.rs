//! The format of docker's and podman's profile files, which is not OCI's: rules apply only under
//! conditions on capabilities, architecture and kernel, which the engine resolves before a runtime
//! sees the profile. Here Squall is the engine.
//!
//! A document is resolved as well: a runtime that ignores the conditions, as runc does, would apply
//! the rules for privileged containers to everybody.

use super::Place;
use super::architecture::NATIVE;

/// What the conditions are resolved against. A worker has no capability, ever.
#[derive(Debug, Clone, Copy)]
pub(in crate::seccomp) struct Surroundings {
    /// Major and minor number of the kernel.
    pub(in crate::seccomp) kernel: (u64, u64),
}

impl Surroundings {
    /// This machine.
    pub(in crate::seccomp) fn here() -> Surroundings {
        let uname = rustix::system::uname();
        // A release without two numbers is older than any kernel that a profile asks for.
        Surroundings { kernel: uname.release().to_str().ok().and_then(version).unwrap_or_default() }
    }

    /// As a person reads it.
    pub(in crate::seccomp) fn describe(&self) -> String {
        format!("a process without capabilities on {}, kernel {}.{}", NATIVE.go_name, self.kernel.0, self.kernel.1)
    }
}

/// `6.18.44-fc` and `4.8` alike.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether this profile, or a rule of it, is in that format.
pub(in crate::seccomp) fn is_docker(profile: &Place<'_, '_>) -> bool {
    const OF_PROFILE: [&str; 2] = ["archMap", "defaultErrno"];
    const OF_RULES: [&str; 4] = ["includes", "excludes", "name", "errno"];
    let has_one = |place: &Place<'_, '_>, keys: &[&str]| keys.iter().any(|key| place.has(key));
    let rules = profile.given("syscalls").filter(Place::is_array);
    has_one(profile, &OF_PROFILE) || rules.is_some_and(|rules| rules.elements().any(|rule| has_one(&rule, &OF_RULES)))
}

/// Whether a rule applies; what is wrong with its conditions is noted.
pub(in crate::seccomp) fn applies(rule: &Place<'_, '_>, here: Surroundings) -> bool {
    let included = rule.given("includes").is_none_or(|condition| Met::read(&condition, here).all());
    let excluded = rule.given("excludes").is_some_and(|condition| Met::read(&condition, here).any());
    included && !excluded
}

/// Which of three conditions are met; `None` for one that is not made.
struct Met {
    caps: Option<bool>,
    arches: Option<bool>,
    kernel: Option<bool>,
}

impl Met {
    fn read(condition: &Place<'_, '_>, here: Surroundings) -> Met {
        if !condition.is_object() {
            return Met { caps: None, arches: None, kernel: None };
        }
        condition.only(&["caps", "arches", "minKernel"]);
        let kernel = condition.given("minKernel").and_then(|place| {
            let text = place.text()?;
            let least = version(text);
            if least.is_none() {
                place.problem("is no kernel version: expected one such as 4.8");
            }
            Some(here.kernel >= least?)
        });
        Met {
            caps: any_of(condition, "caps", |_| false),
            arches: any_of(condition, "arches", |name| name == NATIVE.go_name),
            kernel,
        }
    }

    fn each(&self) -> impl Iterator<Item = bool> {
        [self.caps, self.arches, self.kernel].into_iter().flatten()
    }

    fn all(&self) -> bool {
        self.each().all(|met| met)
    }

    fn any(&self) -> bool {
        self.each().any(|met| met)
    }
}

/// Whether one of the texts of a member is as it should be; an empty list is no condition.
fn any_of(condition: &Place<'_, '_>, key: &str, is: impl Fn(&str) -> bool) -> Option<bool> {
    let member = condition.given(key)?;
    let texts: Vec<_> = member.elements().filter_map(|place| place.text()).collect();
    (!texts.is_empty()).then(|| texts.into_iter().any(is))
}

/// Whether the profile has an entry for this machine in its `archMap`; that is what `architectures`
/// is to an OCI profile.
pub(in crate::seccomp) fn check_arch_map(profile: &Place<'_, '_>) -> Option<bool> {
    let map = profile.given("archMap")?;
    let mut entries = 0;
    let mut found = false;
    for entry in map.elements() {
        entries += 1;
        entry.only(&["architecture", "subArchitectures"]);
        let name = entry.needed("architecture").and_then(|place| place.text());
        found |= name.is_some_and(crate::seccomp::profile::architecture::is_native);
        if let Some(list) = entry.given("subArchitectures") {
            for place in list.elements() {
                let _ = place.text();
            }
        }
    }
    (entries > 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_release_is_two_numbers() {
        assert_eq!(
            (version("6.18.44-fc"), version("4.8"), version("5.10-rc1")),
            (Some((6, 18)), Some((4, 8)), Some((5, 10)))
        );
        assert_eq!((version("x"), version("4"), version("")), (None, None, None));
        assert!(Surroundings::here().kernel > (3, 17));
    }
}
