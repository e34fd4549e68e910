//! Loop devices: what layers are bound to.

use rustix::fs::{Mode, OFlags, open};

use super::finding::Finding;
use super::machine::Machine;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![control(machine), devices(machine)]
}

/// Opening it makes no device.
fn control(machine: &Machine) -> Finding {
    const PATH: &str = "/dev/loop-control";
    match open(machine.path(PATH), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Finding::ok("loop-control", format!("{PATH} can be opened")),
        Err(rustix::io::Errno::NOENT) => {
            let advice =
                "modprobe loop; in a container: give it /dev/loop-control and the devices (docker: --privileged)";
            Finding::missing("loop-control", format!("there is no {PATH}"), advice)
        }
        Err(errno) => {
            let advice = "run as root; in a container: allow the device in its cgroup (10:237)";
            Finding::missing("loop-control", format!("{PATH}: {errno}"), advice)
        }
    }
}

fn devices(machine: &Machine) -> Finding {
    let names: Vec<String> = machine.names("/sys/block").into_iter().filter(|name| is_loop(name)).collect();
    let bound = |name: &&String| machine.exists(format!("/sys/block/{name}/loop/backing_file"));
    let used = names.iter().filter(bound).count();
    let most = match machine.number("/sys/module/loop/parameters/max_loop") {
        Some(0) | None => "made on demand".to_owned(),
        Some(number) => format!("max_loop {number} made beforehand, more on demand"),
    };
    if !machine.exists("/sys/block") {
        return Finding::unknown("devices", "there is no /sys/block");
    }
    let without: Vec<&String> = names.iter().filter(|name| !machine.exists(format!("/dev/{name}"))).collect();
    let seen = format!("{used} in use, {} free, {most}", names.len() - used);
    match without.first() {
        Some(name) => {
            let advice = "mount devtmpfs on /dev, or make the nodes (mknod /dev/loopN b 7 N)";
            Finding::limited(
                "devices",
                format!("{seen}; {} without a node in /dev ({name} for one)", without.len()),
                advice,
            )
        }
        None => Finding::ok("devices", seen),
    }
}

fn is_loop(name: &str) -> bool {
    name.strip_prefix("loop")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn devices_are_counted_and_those_without_a_node_are_told() {
        let files = [
            ("/sys/block/loop0/loop/backing_file", "/a"),
            ("/sys/block/loop1/ro", "0"),
            ("/sys/block/sda/ro", "0"),
            ("/sys/module/loop/parameters/max_loop", "8"),
            ("/dev/loop0", ""),
            ("/dev/loop1", ""),
        ];
        let (_top, whole) = machine(&files);
        let found = devices(&whole);
        assert_eq!(
            (found.state, found.seen.as_str()),
            (State::Ok, "1 in use, 1 free, max_loop 8 made beforehand, more on demand")
        );
        let (_top, bare) = machine(&files[..5]);
        assert_eq!(devices(&bare).state, State::Limited);
        assert_eq!(control(&bare).state, State::Missing);
    }
}
