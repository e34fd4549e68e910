//! An AppArmor profile and an SELinux label: applied where the host has them, refused before
//! anything is touched where it has not.

pub mod selinux;

use std::fs;
use std::path::Path;
use std::process::Command;

use runtime_tests::{Bed, cases, host, needs};
use serde_json::json;
use squall::request::{AppArmor, AppArmorProfile, Identity, LaunchSpec, SelinuxLabel};
use squall::squashfs::Attributes;
use squall::{ErrorKind, Stdio};

use crate::storm;

cases![
    what_the_host_cannot_apply_is_refused_before_anything_is_touched,
    a_default_that_the_host_cannot_apply_is_refused_as_well,
    a_document_that_names_a_profile_or_a_label_is_not_launched_without_it,
    an_option_that_names_none_is_refused_with_what_would_be_right,
    what_asks_for_nothing_changes_nothing,
    a_worker_runs_under_the_profile_that_its_launch_names,
    a_default_profile_confines_whoever_names_none,
    a_profile_that_is_taken_away_is_refused_by_name,
];

/// A profile that nobody loads.
const UNKNOWN: &str = "squall-test-that-nobody-loads";

/// A label of a type that no host's policy has.
const LABEL: &str = "system_u:system_r:squall_unknown_t:s0:c1,c2";

/// As the kernel says it.
fn apparmor_is_on() -> bool {
    needs::has(
        "apparmor",
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|flag| flag.trim() == "Y"),
    )
}

/// What is said of a profile that is not loaded.
fn why_no_profile() -> &'static str {
    if apparmor_is_on() { "no profile of that name is loaded" } else { "AppArmor is not enabled on this host" }
}

/// What is said of the label.
fn why_no_label() -> &'static str {
    match Path::new("/sys/fs/selinux/enforce").exists() {
        true => "the policy of this host does not know it",
        false => "SELinux is not enabled on this host",
    }
}

/// What a launch names, by its option and as errors call it, and why it is refused.
fn refused() -> [(String, String, &'static str); 2] {
    [
        (format!("apparmor={UNKNOWN}"), format!("AppArmor profile '{UNKNOWN}'"), why_no_profile()),
        (format!("label=context:{LABEL}"), format!("SELinux label '{LABEL}'"), why_no_label()),
    ]
}

fn nothing_is_touched(bed: &Bed) {
    assert!(!bed.run_root().exists(), "a run root was made");
    assert_eq!(host::cgroup_directories(&bed.cgroup()), Vec::<std::path::PathBuf>::new());
}

fn what_the_host_cannot_apply_is_refused_before_anything_is_touched(bed: &Bed) {
    for (option, object, why) in refused() {
        let flags = ["--security-opt", option.as_str(), "--pidfile", &bed.file("pid")];
        let output = bed.run(&flags, &["exit", "0"]).output();
        assert_eq!(output.code(), 125, "{output}");
        assert!(output.stderr.contains(&format!("request: {object}: check: {why}")), "{output}");
        let plan = bed.squall(&["plan", "--json", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe()]);
        let plan = plan.args(flags).args(["--", "/bin/probe"]).json();
        let obstacles = plan["obstacles"].to_string();
        assert!(obstacles.contains(&object) && obstacles.contains(why), "{obstacles}");
        assert!(object.ends_with(&format!("'{}'", plan["confinement"]["name"].as_str().unwrap())), "{plan}");
    }
    assert!(!Path::new(&bed.file("pid")).exists());
    nothing_is_touched(bed);
}

fn a_default_that_the_host_cannot_apply_is_refused_as_well(bed: &Bed) {
    let user = Identity::new(1000, 1000, []).unwrap();
    let spec = LaunchSpec::builder("w").layers([bed.probe()]).args(["/bin/probe"]).user(user);
    let spec = spec.cgroup(format!("{}/w", bed.cgroup())).build().unwrap();
    let profile = bed.library().default_apparmor(AppArmorProfile::new(UNKNOWN).unwrap());
    let label = bed.library().default_selinux(SelinuxLabel::new(LABEL).unwrap());
    for (builder, (_, object, why)) in [profile, label].into_iter().zip(refused()) {
        let squall = builder.build().unwrap();
        let error = squall.launch(&spec, Stdio::null().unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.object()), (ErrorKind::Unsupported, object.as_str()));
        assert!(error.to_string().contains(why), "{error}");
        let obstacles = squall.plan(&spec).unwrap().obstacles;
        assert!(obstacles.iter().any(|obstacle| obstacle.contains(why)), "{obstacles:?}");
    }
    nothing_is_touched(bed);
}

fn a_document_that_names_a_profile_or_a_label_is_not_launched_without_it(bed: &Bed) {
    let directory = storm::worker_directory(bed);
    let plain = storm::document(bed, &directory);
    let run = |document| bed.squall(&["run", "--spec", &storm::write(bed, &document)]).output();
    let names = [("apparmorProfile", UNKNOWN), ("selinuxLabel", LABEL)];
    for ((key, name), (_, object, why)) in names.into_iter().zip(refused()) {
        let mut document = plain.clone();
        document["ociRuntimeConfig"]["process"][key] = json!(name);
        let output = run(document);
        assert_eq!(output.code(), 125, "{output}");
        assert!(output.stderr.contains(&format!("{object}: check: {why}")), "{output}");
    }
    let mut document = plain;
    document["ociRuntimeConfig"]["linux"]["mountLabel"] = json!(LABEL);
    let output = run(document);
    assert_eq!(output.code(), 125, "{output}");
    assert!(output.stderr.contains("ociRuntimeConfig.linux.mountLabel: mounts are given no label"), "{output}");
    nothing_is_touched(bed);
}

fn an_option_that_names_none_is_refused_with_what_would_be_right(bed: &Bed) {
    let long = format!("apparmor={}", "x".repeat(5000));
    let table = [
        ("apparmor=", "is not a profile's name"),
        ("apparmor= x", "is not a profile's name"),
        ("apparmor=a\nb", "is not a profile's name"),
        (&long, "is not a profile's name"),
        ("apparmor", "is not known: expected"),
        ("label=type:container_t", "label=context:USER:ROLE:TYPE"),
        ("label=level:s0:c1,c2", "label=context:USER:ROLE:TYPE"),
        ("label=context:container_t", "is not a label"),
        ("label=context:a:b:c d", "is not a label"),
        ("label=nested", "is not known: expected"),
        ("no-new-privileges=false", "is not known: expected"),
        ("no-new-privilegesx", "is not known: expected"),
        ("mask=/proc/x", "is not known: expected"),
    ];
    for (option, reason) in table {
        let output = bed.run(&["--security-opt", option], &["exit", "0"]).output();
        assert_eq!(output.code(), 125, "{option:?}: {output}");
        assert!(output.stderr.contains("--security-opt") && output.stderr.contains(reason), "{option:?}: {output}");
    }
    let both = ["--security-opt", "apparmor=x", "--security-opt", &format!("label=context:{LABEL}")];
    let output = bed.run(&both, &["exit", "0"]).output();
    assert!(output.stderr.contains("--security-opt label: the AppArmor profile 'x' is named as well"), "{output}");
    nothing_is_touched(bed);
}

fn what_asks_for_nothing_changes_nothing(bed: &Bed) {
    let options = ["apparmor=unconfined", "label=disable", "no-new-privileges", "no-new-privileges:true"];
    for option in options {
        bed.run(&["--rm", "--security-opt", option], &["exit", "0"]).ok();
    }
    let flags: Vec<&str> = options.iter().flat_map(|option| ["--security-opt", option]).collect();
    let worker = bed.start(&flags, &["sleep", "600000"]);
    let record = worker.inspect();
    assert_eq!(
        (record["spec"]["apparmor"].as_str(), record["spec"]["selinux"].as_str()),
        (Some("unconfined"), Some("disable"))
    );
    assert_eq!(record.get("confined_by"), None, "{record}");
    worker.kill();
}

/// A profile of AppArmor, taken away in the end.
struct Profile {
    name: String,
    file: String,
}

impl Profile {
    /// Lets everything be done but reading `/etc/denied`.
    fn load(bed: &Bed) -> Profile {
        let name = format!("squall-test-{}", bed.tag());
        let file = bed.file("profile");
        let rules = "file, signal, network, unix, ptrace, deny /etc/denied r,";
        fs::write(&file, format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{rules}\n}}\n"))
            .unwrap();
        let profile = Profile { name, file };
        profile.parser("--add");
        profile
    }

    fn parser(&self, what: &str) {
        let output = Command::new("apparmor_parser").args([what, "--skip-cache", &self.file]).output().unwrap();
        assert!(output.status.success(), "apparmor_parser {what}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn is_loaded(&self) -> bool {
        let list = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
        list.lines().any(|line| line.starts_with(&format!("{} (", self.name)))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if self.is_loaded() {
            self.parser("--remove");
        }
    }
}

/// As root and as an ordinary user, with a filter and without; with no_new_privs always, as every
/// worker has it.
fn a_worker_runs_under_the_profile_that_its_launch_names(bed: &Bed) {
    if !apparmor_is_on() {
        return;
    }
    let profile = Profile::load(bed);
    let files = bed.image("files", |writer| {
        writer.file("etc/denied", &Attributes::new(0o644), &b"secret"[..]).unwrap();
        writer.file("etc/open", &Attributes::new(0o644), &b"open"[..]).unwrap();
    });
    let layers = [bed.probe().to_owned(), files];
    let confined = format!("apparmor={}", profile.name);
    let in_force = format!("{} (enforce)", profile.name);
    for (user, filter) in
        [("0:0", "default"), ("1000:1000", "default"), ("0:0", "unconfined"), ("1000:1000", "unconfined")]
    {
        let filter = format!("seccomp={filter}");
        let plain = ["--user", user, "--security-opt", &filter];
        let flags = [&plain[..], &["--security-opt", &confined]].concat();
        let attempt = |flags: &[&str], path| {
            bed.run_layers(&layers, &[&["--rm"], flags].concat(), &["/bin/probe", "try", "read", path]).json()
        };
        assert_eq!(attempt(&plain, "/etc/denied")["ok"], "secret", "without the profile");
        assert_eq!(attempt(&flags, "/etc/denied")["errno"], libc::EACCES, "{flags:?}");
        assert_eq!(attempt(&flags, "/etc/open")["ok"], "open", "{flags:?}");
        assert_eq!(attempt(&flags, "/proc/self/attr/current")["ok"], format!("{in_force}\n"), "{flags:?}");
        let id = bed.run_layers(&layers, &[&["--detach"], &flags[..]].concat(), &["/bin/probe", "sleep", "600000"]);
        let worker = bed.worker(&id.ok().text());
        let pid = worker.pid();
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap().trim_end(), in_force, "{flags:?}");
        assert_eq!(host::status(pid, "NoNewPrivs"), "1");
        assert_eq!(worker.inspect()["confined_by"], *in_force);
        worker.kill();
    }
    let plan = bed.squall(&["plan", "--json", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe()]);
    let plan = plan.args(["--security-opt", &confined, "--", "/bin/probe"]).json();
    assert_eq!(plan["obstacles"], json!([]));
    assert_eq!(plan["confinement"]["text"], format!("exec {}", profile.name));
}

/// As a program has it that launches for others.
fn a_default_profile_confines_whoever_names_none(bed: &Bed) {
    if !apparmor_is_on() {
        return;
    }
    let profile = Profile::load(bed);
    let squall = bed.library().default_apparmor(AppArmorProfile::new(&profile.name).unwrap()).build().unwrap();
    let user = Identity::new(1000, 1000, []).unwrap();
    let in_force = format!("{} (enforce)", profile.name);
    for (id, apparmor, expected) in
        [("none", AppArmor::Default, in_force.as_str()), ("own", AppArmor::Unconfined, "unconfined")]
    {
        let spec = LaunchSpec::builder(id).layers([bed.probe()]).args(["/bin/probe", "sleep", "600000"]);
        let spec = spec.user(user.clone()).cgroup(format!("{}/{id}", bed.cgroup())).apparmor(apparmor).build().unwrap();
        let running = squall.launch(&spec, Stdio::null().unwrap()).unwrap();
        let pid = running.record().init.pid;
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap().trim_end(), expected);
        drop(running);
        bed.worker(id).kill();
    }
}

fn a_profile_that_is_taken_away_is_refused_by_name(bed: &Bed) {
    if !apparmor_is_on() {
        return;
    }
    let profile = Profile::load(bed);
    let option = format!("apparmor={}", profile.name);
    let flags = ["--rm", "--security-opt", option.as_str()];
    bed.run(&flags, &["exit", "0"]).ok();
    profile.parser("--remove");
    assert!(!profile.is_loaded());
    let output = bed.run(&flags, &["exit", "0"]).output();
    assert_eq!(output.code(), 125, "{output}");
    let said = format!("AppArmor profile '{}': check: no profile of that name is loaded", profile.name);
    assert!(output.stderr.contains(&said), "{output}");
    // Without the list of profiles it is the kernel that refuses, at the exec, and nothing of the
    // launch is left.
    let hidden = ["unshare", "--mount", "sh", "-ec", "umount -l /sys/kernel/security; exec \"$0\" \"$@\""];
    let output = bed.run(&flags, &["exit", "0"]).under(&hidden).output();
    assert_eq!(output.code(), 125, "{output}");
    let said = format!(
        "become: AppArmor profile '{}': write(/proc/self/attr/apparmor/exec): No such file or directory",
        profile.name
    );
    assert!(output.stderr.contains(&said), "{output}");
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]));
}
