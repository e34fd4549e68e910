//! AppArmor and SELinux: whether they have a say over launches.

use super::finding::Finding;
use super::machine::Machine;
use squall::lsm::{Host, SelinuxMode};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![modules(machine), apparmor(machine), selinux(machine)]
}

fn modules(machine: &Machine) -> Finding {
    match machine.text("/sys/kernel/security/lsm") {
        Ok(list) if !list.is_empty() => Finding::ok("modules", list.replace(',', " ")),
        _ => Finding::unknown("modules", "/sys/kernel/security/lsm cannot be read"),
    }
}

fn apparmor(machine: &Machine) -> Finding {
    const NAME: &str = "AppArmor";
    if !host(machine).has_apparmor() {
        return Finding::ok(NAME, "not there");
    }
    let own = machine.text("/proc/self/attr/apparmor/current").or_else(|_| machine.text("/proc/self/attr/current"));
    match own.as_deref() {
        Ok("unconfined") => Finding::ok(
            NAME,
            "on; this process is not confined, and its workers are by the profiles that their specs name",
        ),
        Ok(profile) => Finding::limited(
            NAME,
            format!("on; this process is confined by {profile}, which may deny mounts, and its workers are too"),
            "run it unconfined (docker: --security-opt apparmor=unconfined)",
        ),
        Err(error) => Finding::unknown(NAME, format!("on; by what this process is confined cannot be read: {error}")),
    }
}

fn selinux(machine: &Machine) -> Finding {
    const NAME: &str = "SELinux";
    match host(machine).selinux() {
        None => Finding::ok(NAME, "not there"),
        Some(SelinuxMode::Permissive) => Finding::ok(NAME, "permissive: it denies nothing"),
        Some(SelinuxMode::Enforcing) => Finding::limited(
            NAME,
            "enforcing: Squall labels workers whose specs name a label, and no files, so that the policy may deny workers their own layers",
            "give the service or its workers a domain that may read them, or setenforce 0 to see whether it matters",
        ),
    }
}

fn host(machine: &Machine) -> Host {
    Host { top: machine.path("/") }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn what_confines_us_is_a_limit_and_what_does_not_is_none() {
        let on = ("/sys/module/apparmor/parameters/enabled", "Y\n");
        let table = [
            (vec![], State::Ok, State::Ok),
            (vec![on, ("/proc/self/attr/current", "unconfined\n")], State::Ok, State::Ok),
            (vec![on, ("/proc/self/attr/current", "docker-default (enforce)\n")], State::Limited, State::Ok),
            (vec![("/sys/fs/selinux/enforce", "1")], State::Ok, State::Limited),
            (vec![("/sys/fs/selinux/enforce", "0")], State::Ok, State::Ok),
        ];
        for (files, first, second) in table {
            let (_top, made) = machine(&files);
            assert_eq!((apparmor(&made).state, selinux(&made).state), (first, second), "{files:?}");
        }
    }
}
