//! What the machine can do: a useful page for root, for nobody, and in odd surroundings; never a
//! panic, never a hang, never a trace.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use runtime_tests::{Bed, Output, cases, host};
use serde_json::Value;

cases![
    root_learns_that_workers_can_be_launched_and_nothing_is_left,
    nobody_learns_which_privileges_are_missing_and_how_to_get_them,
    root_of_a_user_namespace_without_cgroups_learns_why_it_cannot_launch,
    a_machine_without_proc_or_with_anothers_still_gets_a_page,
    a_file_that_hangs_costs_its_area_and_no_more,
    the_page_for_people_says_what_the_one_for_machines_says,
];

/// A caller that owns nothing, and can get nothing back.
const NOBODY: [&str; 8] =
    ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"];

const AREAS: [&str; 13] = [
    "kernel",
    "cgroups",
    "loop devices",
    "file systems",
    "user namespaces",
    "memory",
    "seccomp",
    "limits",
    "privileges",
    "security modules",
    "clock",
    "host",
    "launch",
];

/// The page for machines, whole: every area, every state, and advice wherever something is wrong.
fn page(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{output}");
    let page = output.json();
    let findings = page["findings"].as_array().unwrap_or_else(|| panic!("{output}"));
    for area in AREAS {
        assert!(findings.iter().any(|finding| finding["area"] == area), "nothing about {area}: {output}");
    }
    for finding in findings {
        let state = finding["state"].as_str().unwrap_or_default();
        assert!(["ok", "limited", "missing", "unknown"].contains(&state), "{finding}");
        assert!(!finding["seen"].as_str().unwrap_or_default().is_empty(), "{finding}");
        assert!(finding["advice"].is_string() || ["ok", "unknown"].contains(&state), "{finding}");
    }
    let expected = ["full", "limited", "cannot"].iter().position(|verdict| page["verdict"] == *verdict);
    assert_eq!(expected.map(|code| code as i32), Some(output.code()), "{output}");
    page
}

fn finding<'a>(page: &'a Value, area: &str, name: &str) -> &'a Value {
    let found = page["findings"].as_array().unwrap().iter().find(|one| one["area"] == area && one["name"] == name);
    found.unwrap_or_else(|| panic!("nothing about {area}, {name}: {page}"))
}

/// `squall doctor` below a shell that first changes what it sees, in a mount namespace of its own.
fn after(bed: &Bed, unshare: &[&str], change: &str) -> Output {
    let script = format!("{change} && exec \"$@\"");
    let wrapper = [&["unshare"], unshare, &["sh", "-c", &script, "sh"]].concat();
    bed.squall(&["doctor", "--json"]).under(&wrapper).output()
}

fn root_learns_that_workers_can_be_launched_and_nothing_is_left(bed: &Bed) {
    let mut command = bed.squall(&["doctor", "--json"]).into_command();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let tag = format!("squall-doctor-{}", child.id());
    let done = child.wait_with_output().unwrap();
    let output = Output {
        call: "doctor".to_owned(),
        status: done.status,
        stdout: done.stdout,
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    };
    let page = page(&output);
    let missing: Vec<&Value> =
        page["findings"].as_array().unwrap().iter().filter(|finding| finding["state"] == "missing").collect();
    assert!(output.code() < 2 && missing.is_empty(), "{missing:#?}");
    let trial = finding(&page, "launch", "trial");
    assert_eq!(trial["state"], "ok", "{trial}");
    for part in ["returned code 7", "32 MiB", "mounts 0, loop devices 0, cgroups 0, processes 0, files 0"] {
        assert!(trial["seen"].as_str().unwrap().contains(part), "{part}: {trial}");
    }
    assert!(!bed.run_root().exists(), "the trial has a run root of its own");
    assert!(["/run", "/dev/shm"].iter().all(|base| !Path::new(base).join(&tag).exists()));
    assert!(host::cgroup_directories(&format!("/{tag}")).is_empty());
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(&tag));
}

fn nobody_learns_which_privileges_are_missing_and_how_to_get_them(bed: &Bed) {
    let output = bed.squall(&["doctor", "--json"]).under(&NOBODY).output();
    let page = page(&output);
    assert_eq!(output.code(), 2, "{output}");
    for capability in ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_MKNOD", "CAP_NET_ADMIN"] {
        let found = finding(&page, "privileges", capability);
        assert!(found["state"] == "missing" && found["advice"].as_str().unwrap().contains("sudo"), "{found}");
    }
    let trial = finding(&page, "launch", "trial");
    assert_eq!(trial["state"], "unknown", "{trial}");
    assert!(trial["seen"].as_str().unwrap().starts_with("not tried"), "{trial}");
    assert_eq!(finding(&page, "kernel", "clone3")["state"], "ok");
    assert!(!bed.run_root().exists());
}

fn root_of_a_user_namespace_without_cgroups_learns_why_it_cannot_launch(bed: &Bed) {
    let output = after(bed, &["--user", "--map-root-user", "--mount"], "mount -t tmpfs none /sys/fs/cgroup");
    let page = page(&output);
    assert_eq!(output.code(), 2, "{output}");
    assert_eq!(finding(&page, "user namespaces", "own")["state"], "missing");
    assert_ne!(finding(&page, "launch", "trial")["state"], "ok");
}

fn a_machine_without_proc_or_with_anothers_still_gets_a_page(bed: &Bed) {
    for (unshare, change) in [
        (["--mount", "--propagation=private"], "umount -l /proc"),
        (["--pid", "--fork"], "true"),
        (
            ["--mount", "--propagation=private"],
            "mount --bind /dev/null /proc/filesystems && mount -t tmpfs none /proc/sys",
        ),
        (["--mount", "--propagation=private"], "mount -t tmpfs -o ro none /sys"),
        (["--mount", "--propagation=private"], "mount -t tmpfs none /dev"),
    ] {
        let output = after(bed, &unshare, change);
        let page = page(&output);
        let own_proc = finding(&page, "host", "/proc")["state"] == "ok";
        assert_eq!(own_proc, !change.contains("umount") && unshare[0] != "--pid", "{change}: {output}");
        assert!(own_proc || output.code() == 2, "{change}: {output}");
    }
}

fn a_file_that_hangs_costs_its_area_and_no_more(bed: &Bed) {
    let fifo = bed.file("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let change = format!("mount --bind {fifo} /etc/nsswitch.conf");
    let output = after(bed, &["--mount", "--propagation=private"], &change);
    let page = page(&output);
    let host = finding(&page, "host", "host");
    assert!(host["state"] == "unknown" && host["seen"].as_str().unwrap().contains("no answer within"), "{host}");
    assert_eq!(finding(&page, "launch", "trial")["state"], "ok");
}

fn the_page_for_people_says_what_the_one_for_machines_says(bed: &Bed) {
    // The machine may change between two looks: memory fills, pid 1 is late. So one is taken before and
    // one after.
    let for_machines = || page(&bed.squall(&["doctor", "--json"]).under(&NOBODY).output());
    let before = for_machines();
    let text = bed.squall(&["doctor"]).under(&NOBODY).output();
    let after = for_machines();
    assert_eq!(text.code(), 2, "{text}");
    let page = text.text();
    for seen in before["findings"].as_array().unwrap() {
        let (area, name) = (seen["area"].as_str().unwrap(), seen["name"].as_str().unwrap());
        let place = format!("{area:17} {name}: ");
        let line = page.lines().find(|line| line.contains(&place));
        let states = [&seen["state"], &finding(&after, area, name)["state"]];
        let agrees = |line: &str| states.iter().any(|state| line.starts_with(state.as_str().unwrap()));
        assert!(line.is_some_and(agrees), "{area}, {name}: {text}");
    }
    assert!(page.ends_with("what is missing stands above"), "{text}");
}
