//! What surrounds a launch on the host: /proc, the process that gets orphans, the run root, and who
//! knows users by name.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access, statfs};

use super::finding::Finding;
use super::machine::Machine;
use squall::child_task;
use squall::request::Identity;

/// What statfs(2) calls a tmpfs (<linux/magic.h>).
const TMPFS: u64 = 0x0102_1994;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![proc(machine), reaper(machine), run_root_file_system(machine), run_root_owner(machine), users(machine)]
}

/// Pids mean nothing where /proc shows another pid namespace than ours.
fn proc(machine: &Machine) -> Finding {
    match std::fs::read_link(machine.path("/proc/self")) {
        Ok(shown) if shown.as_os_str() == std::process::id().to_string().as_str() => {
            Finding::ok("/proc", "it is this pid namespace's")
        }
        Ok(shown) => Finding::missing(
            "/proc",
            format!(
                "it calls this process {}, and it is {}: it is another pid namespace's",
                shown.display(),
                std::process::id()
            ),
            "mount the /proc of this pid namespace (unshare --mount-proc)",
        ),
        Err(error) => Finding::missing("/proc", format!("/proc/self: {error}"), "mount -t proc proc /proc"),
    }
}

/// Monitors become children of pid 1 when their caller has gone. One that ends and is never reaped
/// stays as a zombie.
fn reaper(machine: &Machine) -> Finding {
    const NAME: &str = "pid 1";
    /// A living pid 1 needs no longer than this for a dead child, on a busy machine.
    const MOMENT: Duration = Duration::from_millis(300);
    let Ok(name) = machine.text("/proc/1/comm") else {
        return Finding::unknown(NAME, "/proc/1 cannot be read");
    };
    let before = orphaned_zombies(machine);
    if before.is_empty() {
        return Finding::ok(NAME, format!("{name}; no dead child of it waits"));
    }
    std::thread::park_timeout(MOMENT);
    let after = orphaned_zombies(machine);
    match before.iter().filter(|pid| after.contains(pid)).count() {
        0 => Finding::ok(NAME, format!("{name}; it reaps")),
        count => Finding::limited(
            NAME,
            format!("{name}; it does not reap: {count} dead children of it stay, and every monitor will be one more"),
            "in a container: start it with an init (docker run --init)",
        ),
    }
}

fn orphaned_zombies(machine: &Machine) -> Vec<String> {
    let pids = machine.names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter(|pid| machine.text(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_orphaned_zombie(&stat))).collect()
}

/// State and parent come behind the name, which may hold anything.
fn is_orphaned_zombie(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().take(2).eq(["Z", "1"])
}

/// The run root, or what is there of the way to it.
fn existing(machine: &Machine) -> PathBuf {
    let wanted = machine.path(&machine.run_root);
    wanted.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn run_root_file_system(machine: &Machine) -> Finding {
    const NAME: &str = "run root's file system";
    let path = existing(machine);
    match statfs(&path).map(|kind| kind.f_type as u64) {
        Ok(TMPFS) => Finding::ok(NAME, format!("{} is on a tmpfs", machine.run_root.display())),
        Ok(kind) => Finding::limited(
            NAME,
            format!(
                "{} is not on a tmpfs (type {kind:#x}): each launch waits for its disk, and records outlive the machine's restart",
                machine.run_root.display()
            ),
            "mount a tmpfs on /run, or choose a run root in memory (--root /dev/shm/squall)",
        ),
        Err(errno) => Finding::unknown(NAME, format!("{}: {errno}", path.display())),
    }
}

/// What a launch demands of its run root, before it is one.
fn run_root_owner(machine: &Machine) -> Finding {
    const NAME: &str = "run root";
    let (wanted, existing) = (machine.path(&machine.run_root), existing(machine));
    let shown = machine.run_root.display();
    if wanted != existing {
        return match (wanted.parent() == Some(&existing), access(&existing, Access::WRITE_OK | Access::EXEC_OK)) {
            (true, Ok(())) => Finding::ok(NAME, format!("{shown} is not there yet, and can be made")),
            (true, Err(errno)) => {
                let seen = format!("{shown} is not there, and cannot be made: {errno}");
                Finding::missing(NAME, seen, "run it as root, or choose another (--root)")
            }
            (false, _) => {
                let seen = format!("{shown} is not there, and neither is the directory above it");
                Finding::missing(NAME, seen, "make the directory above it; a launch makes the last component only")
            }
        };
    }
    match std::fs::symlink_metadata(&wanted) {
        Ok(found) if !found.is_dir() => {
            Finding::missing(NAME, format!("{shown} is not a directory"), "choose another (--root)")
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            let seen = format!("{shown} belongs to uid {}", found.uid());
            Finding::missing(NAME, seen, "run it as that user (root), or choose another (--root)")
        }
        Ok(found) if found.mode() & 0o022 != 0 => {
            Finding::missing(NAME, format!("others may write to {shown}"), format!("chmod 0700 {shown}"))
        }
        Ok(_) => Finding::ok(NAME, format!("{shown} is ours alone")),
        Err(error) => Finding::unknown(NAME, format!("{shown}: {error}")),
    }
}

/// Users by name come from the host's NSS. A directory service may take its time: the deadline of
/// the area is its own.
fn users(machine: &Machine) -> Finding {
    const NAME: &str = "NSS";
    let sources = machine.field("/etc/nsswitch.conf", "passwd");
    let sources = sources.map_or("its own default (no /etc/nsswitch.conf)".to_owned(), |sources| {
        sources.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    let asked =
        child_task::run(super::PATIENCE / 2, || Identity::of_user_name("root").map_err(|error| error.to_string()));
    match asked {
        Ok(Ok(_)) => Finding::ok(NAME, format!("passwd: {sources}; it knows root")),
        Ok(Err(error)) => Finding::limited(
            NAME,
            format!("passwd: {sources}; it does not know root: {error}"),
            "name users by number (--user UID:GID), or mend /etc/passwd and /etc/nsswitch.conf",
        ),
        Err(failure) => Finding::limited(
            NAME,
            format!("passwd: {sources}; asked for root: {failure}"),
            "name users by number (--user UID:GID), or mend the directory service",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn a_zombie_of_pid_1_that_stays_says_that_it_does_not_reap() {
        let one = ("/proc/1/comm", "sleep\n");
        for (stat, expected) in [
            ("7 (x) Z 1 7 7", State::Limited),
            ("7 (a) Z 1) S 1 7 7", State::Ok),
            ("7 (x) S 1 7 7", State::Ok),
            ("7 (x) Z 12 7 7", State::Ok),
            ("", State::Ok),
        ] {
            let (_top, made) = machine(&[one, ("/proc/7/stat", stat)]);
            assert_eq!(reaper(&made).state, expected, "{stat}");
        }
    }

    #[test]
    fn a_run_root_that_a_launch_would_refuse_is_missing() {
        let (_top, made) = machine(&[("/run/x", "")]);
        assert_eq!(run_root_owner(&made).state, State::Ok);
        std::fs::write(made.path("/run/squall"), "").unwrap();
        assert_eq!(run_root_owner(&made).state, State::Missing, "a file");
        std::fs::remove_file(made.path("/run/squall")).unwrap();
        std::fs::create_dir(made.path("/run/squall")).unwrap();
        std::fs::set_permissions(made.path("/run/squall"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        assert_eq!(run_root_owner(&made).state, State::Missing, "everybody's");
        let (_top, bare) = machine(&[]);
        assert_eq!(run_root_owner(&bare).state, State::Missing, "no /run");
    }
}
