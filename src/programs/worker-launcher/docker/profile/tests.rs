use std::os::unix::process::CommandExt;

use super::*;
use crate::testing::*;

#[test]
fn dockers_answer_is_one_pid() {
    for (output, pid) in [("12\n", Some(12)), ("12", Some(12))] {
        assert_eq!(pid_of(output), pid, "{output:?}");
    }
    for output in ["", "\n", "0\n", "-1\n", "+1\n", "12\n\n", "12 13\n", "2147483648\n", "<no value>\n"] {
        assert_eq!(pid_of(output), None, "{output:?}");
    }
}

#[test]
fn all_ids_of_a_process_have_to_be_the_users() {
    assert!(is_of("Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t1\t1\t1\t1\n", 7));
    for status in ["", "Uid:\t7\t7\t7\n", "Uid:\t0\t7\t7\t7\n", "Uid:\t7\t7\t7\t8\n", "Name:\tUid:\t7\t7\t7\t7\n"] {
        assert!(!is_of(status, 7), "{status:?}");
    }
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn own_process() {
    let config = "docker.binary=DIR/docker\nworker.profiler.script.path=DIR/profiler\n";
    as_launcher(config, profile, &["0a-b1", "DIR/profile.sh"]);
}

/// A directory with a docker that says this pid, and a profiler that shows what it is.
fn made(pid: &str, line: &str) -> tempfile::TempDir {
    let directory = directory();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("docker", &format!("#!/bin/sh\n[ \"$*\" = 'inspect --format {{{{.State.Pid}}}} 0a-b1' ] && echo '{pid}'\n"));
    let profiler = "#!/bin/sh\necho \"profiler $* uid $(id -u) gids $(id -G) umask $(umask) self $$\"\n\
                    env | sort | tr '\\n' ';'\ngrep NoNewPrivs /proc/self/status\nexit 5\n";
    write("profiler", profiler);
    write("profile.sh", line);
    directory
}

fn profiled(directory: &tempfile::TempDir) -> (Option<i32>, String) {
    let output = in_own_process("docker::profile::tests::own_process", directory.path());
    (output.status.code(), said(&output))
}

#[test]
fn the_profiler_is_the_user_in_the_containers_namespaces_and_its_exit_code_counts() {
    let mut container = Command::new("unshare");
    container.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"]);
    let shell = format!("echo ready; exec setpriv --reuid {UID} --regid {GID} --clear-groups sleep 1000");
    let mut container = container.arg(shell).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut ready = [0; 6];
    container.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = first_child(container.id());
    await_user(pid);
    let directory = made(&pid.to_string(), " 1 jstack /artifacts");
    let (code, said) = profiled(&directory);
    // The first process of its namespace, with which the rest ends; unshare waits for it.
    let first = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    container.wait().unwrap();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&format!("profiler 1 jstack /artifacts uid {UID} gids {GID} umask 0027 self ")), "{said}");
    assert!(said.contains("NoNewPrivs:\t1") && !said.contains("LD_LIBRARY_PATH"), "{said}");
}

fn first_child(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

/// Until the process is the user's.
fn await_user(pid: u32) {
    while !is_of(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap(), UID) {
        std::thread::yield_now();
    }
}

#[test]
fn a_process_of_the_host_or_of_somebody_else_is_left_alone() {
    let mut own = Command::new("sleep").arg("1000").uid(UID).gid(GID).spawn().unwrap();
    let mut roots = Command::new("sleep").arg("1000").spawn().unwrap();
    let cases = [own.id(), roots.id()].map(|pid| profiled(&made(&pid.to_string(), "1 jstack")));
    for child in [&mut own, &mut roots] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let [(own, own_said), (roots, roots_said)] = cases;
    assert_eq!(own, Some(255), "{own_said}");
    assert!(own_said.contains("it is in a namespace of the host"), "{own_said}");
    assert_eq!(roots, Some(255), "{roots_said}");
    assert!(roots_said.contains("it does not run as user"), "{roots_said}");
}

#[test]
fn failures_have_the_codes_of_storm() {
    for (pid, line, expected) in [("0", "1 jstack", 7), ("x", "1 jstack", 7), ("12", "1;id", 255)] {
        let (code, said) = profiled(&made(pid, line));
        assert_eq!(code, Some(expected), "{pid} {line}: {said}");
    }
    let directory = made("12", "");
    std::fs::remove_file(directory.path().join("profile.sh")).unwrap();
    assert_eq!(profiled(&directory).0, Some(30));
}
