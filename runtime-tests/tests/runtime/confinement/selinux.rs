//! An SELinux label, where the host's policy has the types of `vagrant/squall_test.cil` and is
//! enforced: the machine `selinux` of `vagrant/`. What is refused elsewhere is in the module above.

use std::fs;
use std::path::Path;

use runtime_tests::{Bed, cases, host, needs};
use serde_json::{Value, json};
use squall::request::{Identity, LaunchSpec, Selinux, SelinuxLabel};
use squall::squashfs::Attributes;
use squall::{ErrorKind, Stdio};

use crate::storm;

cases![
    a_worker_runs_under_the_label_that_its_launch_names,
    a_default_label_confines_whoever_names_none,
    a_document_names_a_label,
    categories_keep_two_workers_apart,
    a_transition_that_the_policy_denies_is_refused_by_name,
    a_worker_may_not_give_itself_another_label,
    doctor_says_that_the_policy_is_enforced,
];

/// The worker's label; another level may follow.
const WORKER: &str = "unconfined_u:unconfined_r:squall_test_t:s0";
/// Files that the worker's domain may read.
const OPEN: &str = "system_u:object_r:squall_test_file_t:s0";
/// Files that it may not.
const SECRET: &str = "system_u:object_r:squall_test_secret_t:s0";
/// Files that it may read with the category 1 alone.
const FIRST: &str = "system_u:object_r:squall_test_file_t:s0:c1";

/// Whether the policy is enforced and has the tests' types.
fn selinux_is_enforced() -> bool {
    let enforces = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|flag| flag.trim() == "1");
    needs::has("selinux", enforces && fs::write("/sys/fs/selinux/context", WORKER).is_ok())
}

/// With the label that the file system gives it.
fn labelled(mode: u32, label: &str) -> Attributes {
    let value = [label.as_bytes(), b"\0"].concat();
    Attributes { xattrs: vec![(b"security.selinux".to_vec(), value)], ..Attributes::new(mode) }
}

/// An image in which everything has a label: the probe, and in `/etc` a file of each kind.
fn image(bed: &Bed) -> String {
    bed.image("labelled", |writer| {
        for directory in [".", "bin", "etc"] {
            writer.directory(directory, &labelled(0o755, OPEN)).unwrap();
        }
        writer.file("bin/probe", &labelled(0o755, OPEN), squall_cli::demo::PROBE).unwrap();
        for (name, label) in [("open", OPEN), ("secret", SECRET), ("first", FIRST)] {
            writer.file(format!("etc/{name}"), &labelled(0o644, label), name.as_bytes()).unwrap();
        }
    })
}

fn option(label: &str) -> String {
    format!("label=context:{label}")
}

/// What a worker says that tries something.
fn attempt(bed: &Bed, image: &str, flags: &[&str], what: &[&str]) -> Value {
    let command = [&["/bin/probe", "try"], what].concat();
    bed.run_layers(&[image], &[&["--rm"], flags].concat(), &command).json()
}

fn label_of(pid: u32) -> String {
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// As root and as an ordinary user, with a filter and without; with no_new_privs always, as every
/// worker has it.
fn a_worker_runs_under_the_label_that_its_launch_names(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let image = image(bed);
    let confined = option(WORKER);
    for (user, filter) in
        [("0:0", "default"), ("1000:1000", "default"), ("0:0", "unconfined"), ("1000:1000", "unconfined")]
    {
        let filter = format!("seccomp={filter}");
        let plain = ["--user", user, "--security-opt", &filter];
        let flags = [&plain[..], &["--security-opt", &confined]].concat();
        assert_eq!(attempt(bed, &image, &plain, &["read", "/etc/secret"])["ok"], "secret", "without the label");
        assert_eq!(attempt(bed, &image, &flags, &["read", "/etc/secret"])["errno"], libc::EACCES, "{flags:?}");
        assert_eq!(attempt(bed, &image, &flags, &["read", "/etc/open"])["ok"], "open", "{flags:?}");
        let own = attempt(bed, &image, &flags, &["read", "/proc/self/attr/current"]);
        assert_eq!(own["ok"].as_str().unwrap().trim_end_matches('\0'), WORKER, "{flags:?}");
        let sleep = ["/bin/probe", "sleep", "600000"];
        let id = bed.run_layers(&[image.as_str()], &[&["--detach"], &flags[..]].concat(), &sleep);
        let worker = bed.worker(&id.ok().text());
        let pid = worker.pid();
        assert_eq!(label_of(pid), WORKER, "{flags:?}");
        assert_eq!(host::status(pid, "NoNewPrivs"), "1");
        assert_eq!(worker.inspect()["confined_by"], WORKER);
        worker.kill();
    }
    let plan = bed.squall(&["plan", "--json", "--cgroup-parent", &bed.cgroup(), "--layer", &image]);
    let plan = plan.args(["--security-opt", &confined, "--", "/bin/probe"]).json();
    assert_eq!(plan["obstacles"], json!([]));
    let asked = json!({ "module": "SELinux", "name": WORKER, "file": "/proc/self/attr/exec", "text": WORKER });
    assert_eq!(plan["confinement"], asked);
}

/// As a program has it that launches for others.
fn a_default_label_confines_whoever_names_none(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let image = image(bed);
    let own = label_of(std::process::id());
    let squall = bed.library().default_selinux(SelinuxLabel::new(WORKER).unwrap()).build().unwrap();
    for (id, selinux, expected) in [("none", Selinux::Default, WORKER), ("own", Selinux::Disable, own.as_str())] {
        let spec = LaunchSpec::builder(id).layers([&image]).args(["/bin/probe", "sleep", "600000"]);
        let spec = spec.user(Identity::new(1000, 1000, []).unwrap()).selinux(selinux);
        let spec = spec.cgroup(format!("{}/{id}", bed.cgroup())).build().unwrap();
        let running = squall.launch(&spec, Stdio::null().unwrap()).unwrap();
        assert_eq!(label_of(running.record().init.pid.try_into().unwrap()), expected);
        drop(running);
        bed.worker(id).kill();
    }
}

fn a_document_names_a_label(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let directory = storm::worker_directory(bed);
    let mut document = storm::document(bed, &directory);
    document["layers"][0]["path"] = json!(image(bed));
    document["ociRuntimeConfig"]["mounts"] = json!([]);
    document["ociRuntimeConfig"]["process"]["cwd"] = json!("/");
    document["ociRuntimeConfig"]["process"]["args"] = json!(["/bin/probe", "try", "read", "/proc/self/attr/current"]);
    document["ociRuntimeConfig"]["process"]["selinuxLabel"] = json!(WORKER);
    let output = bed.squall(&["run", "--spec", &storm::write(bed, &document)]).ok();
    assert!(output.text().contains(WORKER), "{output}");
}

/// Of two workers of one type, each reads what has its own category.
fn categories_keep_two_workers_apart(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let image = image(bed);
    let read = |categories: &str| {
        let confined = option(&format!("{WORKER}:{categories}"));
        attempt(bed, &image, &["--user", "0:0", "--security-opt", &confined], &["read", "/etc/first"])
    };
    for categories in ["c1", "c1,c2"] {
        assert_eq!(read(categories)["ok"], "first", "{categories}");
    }
    for categories in ["c2", "c2,c3"] {
        assert_eq!(read(categories)["errno"], libc::EACCES, "{categories}");
    }
}

/// Types that the policy knows, each without one of the permissions that a launch needs.
fn a_transition_that_the_policy_denies_is_refused_by_name(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let image = image(bed);
    for (lacking, errno) in
        [("transition", libc::EACCES), ("entrypoint", libc::EACCES), ("nnp", libc::EPERM), ("nosuid", libc::EPERM)]
    {
        let label = format!("unconfined_u:unconfined_r:squall_test_no_{lacking}_t:s0");
        let confined = option(&label);
        let flags = ["--security-opt", confined.as_str(), "--pidfile", &bed.file("pid")];
        let output = bed.run_layers(&[image.as_str()], &flags, &["/bin/probe", "exit", "0"]).output();
        assert_eq!(output.code(), 126, "{lacking}: {output}");
        for said in [format!("perhaps by the SELinux label '{label}'"), "nnp_transition and nosuid_transition".into()] {
            assert!(output.stderr.contains(&said), "{lacking}: {output}");
        }
        let spec = LaunchSpec::builder("w").layers([&image]).args(["/bin/probe", "exit", "0"]);
        let spec = spec.user(Identity::new(1000, 1000, []).unwrap()).cgroup(format!("{}/w", bed.cgroup()));
        let spec = spec.selinux(Selinux::Label(SelinuxLabel::new(&label).unwrap())).build().unwrap();
        let error = bed.library().build().unwrap().launch(&spec, Stdio::null().unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::ProgramNotExecutable, Some(errno)), "{lacking}: {error}");
        assert!(!Path::new(&bed.file("pid")).exists());
        assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]));
    }
}

/// Neither now nor from its next exec on.
fn a_worker_may_not_give_itself_another_label(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let image = image(bed);
    let confined = option(WORKER);
    let flags = ["--user", "0:0", "--security-opt", confined.as_str(), "--security-opt", "seccomp=unconfined"];
    for attribute in ["current", "exec"] {
        let file = format!("/proc/self/attr/{attribute}");
        let other = "unconfined_u:unconfined_r:unconfined_t:s0";
        assert_eq!(attempt(bed, &image, &flags, &["write", &file, other])["errno"], libc::EACCES, "{attribute}");
    }
}

fn doctor_says_that_the_policy_is_enforced(bed: &Bed) {
    if !selinux_is_enforced() {
        return;
    }
    let output = bed.squall(&["doctor"]).output();
    let text = output.text();
    let line = text.lines().find(|line| line.contains("SELinux:")).unwrap_or_default();
    assert!(line.contains("enforcing: Squall labels workers whose specs name a label"), "{output}");
}
