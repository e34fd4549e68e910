//! What the tests need of a machine. They do not skip: where something is missing they fail, and
//! say what.
//!
//! What some machines have and others do not is a feature. A test that expects something else
//! without it asks [`has`].

use std::fs;
use std::path::Path;

/// File systems, with the module that brings them.
const FILE_SYSTEMS: [&str; 5] = ["squashfs", "erofs", "overlay", "tmpfs", "mqueue"];

/// Programs that make a caller's circumstances, with Debian's package. `runtime-tests/run` installs
/// them.
const PROGRAMS: [(&str, &str); 15] = [
    ("nice", "coreutils"),
    ("env", "coreutils"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("losetup", "mount"),
    ("taskset", "util-linux"),
    ("ionice", "util-linux"),
    ("choom", "util-linux"),
    ("unsquashfs", "squashfs-tools"),
    ("mkfs.erofs", "erofs-utils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
];

/// The oldest kernel: `mount_setattr(2)`, which the container's read-only mounts need.
const KERNEL: (u32, u32) = (5, 12);

/// Names of the features that this machine has by its own word, as the machines of `vagrant/` give
/// it.
const FEATURES: &str = "SQUALL_TEST_FEATURES";

/// Whether the machine has a feature, by what the test has `found`. A test must not go the way of a
/// machine without it where the machine says that it has it.
pub fn has(feature: &str, found: bool) -> bool {
    let declared = std::env::var(FEATURES).unwrap_or_default();
    let declares = declared.split_whitespace().any(|name| name == feature);
    assert!(found || !declares, "this machine says that it has the feature '{feature}', and it is not found");
    found
}

/// Looks for all of it; the answer says what is missing.
pub fn check() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("these tests need root: run them with sudo, or as runtime-tests/run does".into());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release) < KERNEL {
        return Err(format!("these tests need Linux {}.{}, and this is {}", KERNEL.0, KERNEL.1, release.trim_end()));
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let knows = |name: &&str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
    if let Some(missing) = FILE_SYSTEMS.iter().find(|name| !knows(name)) {
        return Err(format!("these tests need a kernel with {missing}: try `modprobe {missing}`"));
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err(
            "these tests need /dev/loop-control: try `modprobe loop`, or in a chroot `mount --rbind /dev`".into()
        );
    }
    let search = std::env::var("PATH").unwrap_or_default();
    let found = |program: &str| search.split(':').any(|directory| Path::new(directory).join(program).exists());
    match PROGRAMS.iter().find(|(program, _)| !found(program)) {
        Some((program, package)) => {
            Err(format!("these tests need {program}: install {package}, as runtime-tests/run does"))
        }
        None => Ok(()),
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
