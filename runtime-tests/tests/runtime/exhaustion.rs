//! Limits of the system that a launch runs into: the error says which limit it is, and nothing is
//! left.

use std::fs;
use std::path::{Path, PathBuf};

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, Output, cases, host};
use rustix::mount::{MountFlags, mount, mount_bind_recursive};
use squall::squashfs::Attributes;

use runtime_tests::roles::{self, Role};

cases![
    a_mount_namespace_without_room_is_named_as_the_limit,
    too_few_processes_are_named_as_the_limit,
    a_spawner_that_cannot_fork_says_so,
    too_few_open_files_for_the_layers_are_named_as_the_limit,
    a_dev_without_nodes_for_loop_devices_is_named,
    a_machine_without_cgroups_in_sight_is_named_where_limits_are_asked_for,
];

/// Its number (<linux/capability.h>).
const CAP_SYS_RESOURCE: u32 = 24;

/// Programs that make a caller's circumstances.
pub const ROLES: &[Role] = &[("fill-mounts", fill_mounts), ("launch-by-spawner", launch_by_spawner)];

/// One line of Squall's own that has all of these words.
fn assert_named(output: &Output, words: &[&str]) {
    assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
    assert!(output.stderr.starts_with("squall: "), "{output}");
    assert!(words.iter().all(|word| output.stderr.contains(word)), "not all of {words:?}: {output}");
}

/// Fills a mount namespace of its own with copies of a mount at a directory, until not one more
/// fits; then executes the rest of its arguments. A recursive bind of a mount below itself doubles
/// what is there.
fn fill_mounts(args: &[String]) {
    let (directory, rest) = args.split_first().unwrap();
    let directory = Path::new(directory);
    runtime_tests::namespace::own().unwrap();
    mount("fill", directory, "tmpfs", MountFlags::empty(), None).unwrap();
    let place = |number: usize| {
        let place = directory.join(number.to_string());
        fs::create_dir(&place).unwrap();
        place
    };
    // The first is one mount, each further one twice the one before.
    let mut doubled: Vec<PathBuf> = Vec::new();
    let mut count = 0;
    loop {
        count += 1;
        let next = place(count);
        match mount_bind_recursive(directory, &next) {
            Ok(()) => doubled.push(next),
            Err(rustix::io::Errno::NOSPC) => break,
            Err(errno) => panic!("after {count}: {errno}"),
        }
    }
    // What is left of the room, by ever smaller trees.
    for tree in doubled.iter().rev() {
        loop {
            count += 1;
            if mount_bind_recursive(tree, place(count)).is_err() {
                break;
            }
        }
    }
    let status = std::process::Command::new(&rest[0]).args(&rest[1..]).status().unwrap();
    std::process::exit(status.code().unwrap_or(255))
}

/// The limit is the machine's, and is not changed: 100,000 mounts are soon made.
fn a_mount_namespace_without_room_is_named_as_the_limit(bed: &Bed) {
    let limit: u32 = fs::read_to_string("/proc/sys/fs/mount-max").unwrap().trim().parse().unwrap();
    assert!(limit <= 1_000_000, "filled in a bearable time only if it is not raised: {limit}");
    let filled = bed.file("filled");
    fs::create_dir(&filled).unwrap();
    let filler = std::env::current_exe().unwrap();
    let under = [filler.to_str().unwrap(), &filled];
    let run = || bed.run(&["--rm"], &["exit", "7"]);
    let output = run().under(&under).env(roles::ROLE, "fill-mounts").output();
    assert_named(&output, &["squall: root: staging file system: move_mount", "fs.mount-max"]);
    assert_eq!(run().output().code(), 7, "elsewhere there is room");
}

/// A cgroup below the bed's that may hold so many processes.
fn cgroup_of_few(bed: &Bed) -> PathBuf {
    let has_pids = |root: &PathBuf| {
        let parent = root.join(&bed.cgroup()[1..]);
        fs::create_dir_all(&parent).unwrap();
        let _ = fs::write(root.join("cgroup.subtree_control"), "+pids");
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+pids");
        let few = parent.join("few");
        fs::create_dir(&few).unwrap();
        let found = few.join("pids.max").exists();
        if !found {
            fs::remove_dir(&few).unwrap();
        }
        found.then_some(few)
    };
    host::hierarchies().iter().find_map(has_pids).expect("a hierarchy has the pids controller")
}

/// Fork of the launch process, clone of init: which of them fails depends on how many fit, and on
/// whether init is born in its own cgroup.
fn too_few_processes_are_named_as_the_limit(bed: &Bed) {
    let few = cgroup_of_few(bed);
    let script = format!("echo $$ > '{}/cgroup.procs' && exec \"$@\"", few.display());
    let mut outcomes = Vec::new();
    for most in 1..=6 {
        fs::write(few.join("pids.max"), most.to_string()).unwrap();
        let output = bed.run(&["--rm"], &["exit", "7"]).under(&["sh", "-c", &script, "sh"]).output();
        if output.code() != 7 {
            assert_named(&output, &["squall: clone: ", "pids.max", "RLIMIT_NPROC", "kernel.threads-max"]);
        }
        outcomes.push(output.code());
    }
    fs::remove_dir(&few).unwrap();
    assert_eq!((outcomes[0], outcomes[5]), (125, 7), "{outcomes:?}");
}

/// Arguments: a run root, a cgroup for monitors, a layer, a cgroup for the worker, and the cgroup
/// whose limit is to be 1 process too few. The spawner is forked before it; keeper, spawner and
/// this program are three.
fn launch_by_spawner(args: &[String]) {
    let [run_root, monitors, layer, cgroup, few] = args else { panic!("{args:?}") };
    fs::write(Path::new(few).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    let spawner = squall::Spawner::fork().unwrap();
    fs::write(Path::new(few).join("pids.max"), "3").unwrap();
    let squall = squall::Squall::builder().run_root(run_root).monitors(monitors).spawner(spawner).build().unwrap();
    let user = squall::request::Identity::new(65534, 65534, []).unwrap();
    let builder = squall::request::LaunchSpec::builder("worker").layers([layer]).args(["/bin/probe"]).user(user);
    let spec = builder.cgroup(cgroup.as_str()).build().unwrap();
    let error = squall.launch(&spec, squall::Stdio::null().unwrap()).unwrap_err();
    println!("{error}");
}

fn a_spawner_that_cannot_fork_says_so(bed: &Bed) {
    let few = cgroup_of_few(bed);
    let mut command = roles::command("launch-by-spawner");
    command.arg(bed.run_root()).args([bed.monitors(), bed.probe().to_owned(), format!("{}/worker", bed.cgroup())]);
    command.arg(&few);
    let output = runtime_tests::Call::new(command).ok();
    assert!(output.text().contains("launch process: fork: ") && output.text().contains("pids.max"), "{output}");
    runtime_tests::until("its spawner has ended", || host::processes_in(&few).is_empty().then_some(()));
    fs::remove_dir(&few).unwrap();
}

/// Each layer is a descriptor in the caller, and two or three more in the launch process.
fn too_few_open_files_for_the_layers_are_named_as_the_limit(bed: &Bed) {
    let layer = |index: usize| {
        bed.image(&format!("layer-{index}"), |writer| {
            if index == 0 {
                add_probe(writer, "bin/probe", 0o755);
            }
            writer.file(format!("layers/{index}"), &Attributes::new(0o644), &b"x"[..]).unwrap();
        })
    };
    let layers: Vec<String> = (0..40).map(layer).collect();
    let run = |count: u32| {
        let limit = format!("--nofile={count}:{count}");
        bed.run_layers(&layers, &["--rm"], &["/bin/probe", "exit", "7"]).under(&["prlimit", &limit]).output()
    };
    let few = run(30);
    if host::has_capability(CAP_SYS_RESOURCE) {
        // The launch process puts its limits up to those of the host's init, and the caller's are
        // no matter.
        assert_eq!(few.code(), 7, "{few}");
        return;
    }
    assert_named(&few, &["squall: request: layer '", "RLIMIT_NOFILE", "ulimit -n"]);
    for count in [42, 44, 48, 52, 60, 80, 100, 140] {
        let output = run(count);
        if output.code() != 7 {
            assert_named(&output, &["RLIMIT_NOFILE"]);
        }
    }
    assert_eq!(run(256).code(), 7);
}

/// A `/dev` that was made by hand, as images of chroots and small containers have it.
fn a_dev_without_nodes_for_loop_devices_is_named(bed: &Bed) {
    let dev = bed.file("dev");
    fs::create_dir(&dev).unwrap();
    let script = format!(
        "set -e; mount -t tmpfs dev '{dev}'; cd '{dev}'
         mknod null c 1 3; mknod zero c 1 5; mknod full c 1 7; mknod random c 1 8; mknod urandom c 1 9; mknod tty c 5 0
         $CONTROL; chmod 666 *; mkdir shm; mount --rbind /dev/shm shm; mount --rbind '{dev}' /dev; cd /
         exec \"$@\""
    );
    let under = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    for (control, words) in [
        ("mknod loop-control c 10 237", ["squall: layers: /dev/loop", "open", "/dev has no node for it"]),
        ("true", ["squall: layers: /dev/loop-control", "open", "in a chroot mount it there"]),
    ] {
        let output = bed.run(&["--rm"], &["exit", "7"]).under(&under).env("CONTROL", control).output();
        assert_named(&output, &words);
    }
    assert_eq!(bed.run(&["--rm"], &["exit", "7"]).output().code(), 7, "elsewhere there are nodes");
}

/// As in a chroot without `/sys`.
fn a_machine_without_cgroups_in_sight_is_named_where_limits_are_asked_for(bed: &Bed) {
    let script = "umount -R -l /sys && exec \"$@\"";
    let under = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    let output = bed.run(&["--rm", "--cpus", "1"], &["exit", "7"]).under(&under).output();
    assert_named(&output, &["squall: cgroup: ", "'cpu'", "no cgroup hierarchy is mounted: in a chroot mount"]);
}
