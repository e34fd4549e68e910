//! Storm's command file, from the supervisor's document to the kernel's own files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, cases, host, until};
use serde_json::{Value, json};

use crate::mounts::{Line, mounts};

cases![
    every_field_of_storms_command_file_is_in_force,
    what_storm_leaves_out_is_left_out,
    every_wrong_field_of_a_command_file_is_named_and_nothing_is_touched,
    a_document_that_is_no_document_is_refused_at_once,
];

const ID: &str = "6700-0f7f0ac5-4b9c-4f4b-9d8e-2f1c2a3b4c5d";

/// A worker directory as a supervisor makes it.
pub fn worker_directory(bed: &Bed) -> String {
    let directory = bed.file(ID);
    for path in [directory.clone(), format!("{directory}/artifacts"), format!("{directory}/tmp")] {
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = "#!/bin/bash\nexport 'MARK=from the script';\n\numask 0027\n/opt/probe report > report.json.new && mv report.json.new report.json\nexec '/opt/probe' 'exit-on-signal' '600000';\n";
    fs::write(format!("{directory}/storm-worker-script.sh"), script).unwrap();
    directory
}

fn bind(source: &str, destination: &str, access: &str) -> Value {
    json!({ "type": "bind", "source": source, "destination": destination, "options": [access, "rbind", "rprivate"] })
}

/// The document of Storm's contract, with its paths made real: the programs of the host stand in
/// for an image's.
pub fn document(bed: &Bed, directory: &str) -> Value {
    let programs = ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|path| fs::metadata(path).is_ok());
    let mut mounts: Vec<Value> = programs.map(|path| bind(path, path, "ro")).collect();
    mounts.push(bind("/etc/hosts", "/etc/hosts", "ro"));
    mounts.push(bind("/sys/fs/cgroup", "/sys/fs/cgroup", "ro"));
    mounts.push(bind(&text(bed), &text(bed), "ro"));
    mounts.push(bind(directory, directory, "rw"));
    mounts.push(bind(&format!("{directory}/tmp"), "/tmp", "rw"));
    let layer = bed.image("worker", |writer| add_probe(writer, "opt/probe", 0o755));
    json!({
        "version": "0.1", "username": "nobody", "containerId": ID,
        "pidFile": format!("{directory}/artifacts/container-ID.pid"),
        "containerScriptPath": format!("{directory}/storm-worker-script.sh"), "reapLayerKeepCount": 100,
        "layers": [{ "mediaType": "application/vnd.squashfs", "path": layer }],
        "ociRuntimeConfig": {
            "mounts": mounts,
            "process": {
                "cwd": directory, "env": ["PATH=/usr/bin:/bin", "A=1", "A=2"],
                "args": ["bash", format!("{directory}/storm-worker-script.sh")]
            },
            "linux": {
                "cgroupsPath": format!("{}/{ID}", bed.cgroup()),
                "resources": { "memory": { "limit": 1_073_741_824 }, "cpu": { "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" } }
            }
        }
    })
}

fn text(bed: &Bed) -> String {
    bed.work().to_string_lossy().into_owned()
}

pub fn write(bed: &Bed, document: &Value) -> String {
    let path = bed.file("oci-config.json");
    fs::write(&path, document.to_string()).unwrap();
    path
}

fn every_field_of_storms_command_file_is_in_force(bed: &Bed) {
    let directory = worker_directory(bed);
    let spec = write(bed, &document(bed, &directory));
    let launched = bed.squall(&["run", "--detach", "--spec", &spec]).ok();
    assert_eq!(launched.text(), ID);
    let worker = bed.worker(ID);

    let pid_file = fs::read_to_string(format!("{directory}/artifacts/container-ID.pid")).unwrap();
    let pid: u32 = pid_file.lines().next().unwrap().parse().unwrap();
    assert_eq!((pid, fs::metadata(format!("/proc/{pid}")).unwrap().uid()), (worker.pid(), 65534));
    let report = until("the script has reported", || fs::read_to_string(format!("{directory}/report.json")).ok());
    let report: Value = serde_json::from_str(&report).unwrap();
    the_process_is_storms(&report, &directory);
    the_mounts_are_storms(&report, &directory);

    let proc = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert!(
        proc("cgroup").lines().all(|line| line.ends_with(&format!(":{}/{ID}", bed.cgroup()))),
        "{}",
        proc("cgroup")
    );
    let limits = [
        ("memory.limit_in_bytes", "memory.max", "1073741824"),
        ("cpu.cfs_quota_us", "cpu.max", "50000"),
        ("cpu.cfs_period_us", "cpu.max", "100000"),
        ("cpuset.cpus", "cpuset.cpus", "0"),
        ("cpuset.mems", "cpuset.mems", "0"),
    ];
    for (v1, v2, value) in limits {
        let found = worker.cgroup_file(v1).or_else(|| worker.cgroup_file(v2)).unwrap();
        assert!(found.split(' ').any(|word| word == value), "{v1}: {found}");
    }
    let record = worker.inspect();
    assert_eq!(record["layers"][0]["path"], bed.images().join("worker.sqsh").to_str().unwrap());

    // The supervisor's way to end it: a signal to the process, as its user. The shell has one built
    // in; `kill` is a package of its own.
    let mut signal = std::process::Command::new("setpriv");
    signal.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", &format!("kill -TERM {pid}")]);
    runtime_tests::Call::new(signal).ok();
    assert_eq!(worker.wait(), 15);
    until("its entry in /proc is gone", || (!host::is_alive(pid)).then_some(()));
}

fn the_process_is_storms(report: &Value, directory: &str) {
    assert_eq!(report["args"], json!(["/opt/probe", "report"]));
    assert_eq!(report["cwd"], directory);
    let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for variable in ["PATH=/usr/bin:/bin", "A=2", "MARK=from the script"] {
        assert!(env.contains(&variable), "{variable}: {env:?}");
    }
    assert!(!env.contains(&"A=1"), "{env:?}");
    let status = &report["status"];
    assert_eq!(
        (&status["NoNewPrivs"], &status["CapBnd"], &status["Umask"]),
        (&json!("1"), &json!("0000000000000000"), &json!("0027"))
    );
    assert_eq!(status["Uid"], "65534\t65534\t65534\t65534");
    assert_eq!(status["Cpus_allowed_list"], "0");
    let namespace = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned();
    for (kind, is_hosts) in
        [("net", true), ("user", true), ("pid", false), ("ipc", false), ("uts", false), ("mnt", false)]
    {
        assert_eq!(report["namespaces"][kind] == namespace(kind).as_str(), is_hosts, "{kind}");
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(report["hostname"], name.trim_end(), "Storm's workers have the host's name");
}

fn the_mounts_are_storms(report: &Value, directory: &str) {
    let found = mounts(report);
    let at = |point: &str| -> &Line {
        found.iter().rfind(|line| line.point == point).unwrap_or_else(|| panic!("nothing at {point}"))
    };
    let tmp = format!("{directory}/tmp");
    for (point, access) in
        [("/", "ro"), ("/usr", "ro"), ("/etc/hosts", "ro"), (directory, "rw"), ("/tmp", "rw"), ("/sys/fs/cgroup", "ro")]
    {
        assert!(at(point).options.contains(access) && at(point).propagation.is_empty(), "{point}: {:?}", at(point));
    }
    // The cgroups that Storm binds cover the container's own, with every hierarchy of the host
    // below them.
    let hierarchies = host::hierarchies().len();
    let below = found.iter().filter(|line| line.point.starts_with("/sys/fs/cgroup/")).collect::<Vec<_>>();
    assert!(below.len() + 1 >= hierarchies && below.iter().all(|line| line.options.contains("ro")), "{below:?}");
    assert!(!found.iter().any(|line| line.point == tmp), "{tmp} is bound to /tmp only");
}

fn what_storm_leaves_out_is_left_out(bed: &Bed) {
    let directory = worker_directory(bed);
    let mut command = document(bed, &directory);
    command.as_object_mut().unwrap().remove("reapLayerKeepCount");
    command["ociRuntimeConfig"]["hostname"] = json!("ignored");
    command["ociRuntimeConfig"]["root"] = json!({ "path": "/", "readonly": false });
    command["ociRuntimeConfig"]["hooks"] = json!({ "prestart": [{ "path": "/bin/false" }] });
    command["ociRuntimeConfig"]["process"]["user"] = json!({ "uid": 0 });
    command["ociRuntimeConfig"]["process"]["noNewPrivileges"] = json!(false);
    command["ociRuntimeConfig"]["process"]["args"] = json!(["/opt/probe", "report"]);
    command["ociRuntimeConfig"]["linux"]["resources"] = json!({});
    let report = bed.squall(&["run", "--rm", "--spec", &write(bed, &command)]).json();
    assert_eq!((&report["status"]["NoNewPrivs"], &report["pid"]), (&json!("1"), &json!(1)));
    assert_eq!(report["status"]["Uid"], "65534\t65534\t65534\t65534");
    assert!(mounts(&report)[0].options.contains("ro"));
}

/// A change of the document, and the place that its error has to name.
type Change = (fn(&mut Value), &'static str);

const CHANGES: [Change; 29] = [
    (|d| d["username"] = json!("no-such-user-here"), "username"),
    (|d| d["username"] = json!(7), "username"),
    (|d| d["containerId"] = json!("../../etc"), "containerId"),
    (|d| d["containerId"] = json!("6700-short"), "containerId"),
    (|d| d["pidFile"] = json!("relative.pid"), "pidFile"),
    (|d| d["pidFile"] = json!("/tmp/../tmp/x.pid"), "pidFile"),
    (|d| d["containerScriptPath"] = Value::Null, "containerScriptPath"),
    (|d| d["reapLayerKeepCount"] = json!(-1), "reapLayerKeepCount"),
    (|d| d["reapLayerKeepCount"] = json!("100"), "reapLayerKeepCount"),
    (|d| d["layers"] = json!([]), "layers"),
    (|d| d["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar"), "layers[0].mediaType"),
    (|d| d["layers"][0]["path"] = json!("/no/such/layer.sqsh"), "/no/such/layer.sqsh"),
    (|d| d["layers"][0]["path"] = json!("/tmp"), "/tmp"),
    (|d| d["layers"][0]["path"] = json!("layer.sqsh"), "layers[0].path"),
    (|d| d["ociRuntimeConfig"]["mounts"][0]["type"] = json!("tmpfs"), "ociRuntimeConfig.mounts[0].type"),
    (|d| d["ociRuntimeConfig"]["mounts"][0]["more"] = json!(1), "ociRuntimeConfig.mounts[0].more"),
    (
        |d| d["ociRuntimeConfig"]["mounts"][0]["options"] = json!(["ro", "rprivate"]),
        "ociRuntimeConfig.mounts[0].options",
    ),
    (
        |d| d["ociRuntimeConfig"]["mounts"][0]["options"] = json!(["ro", "rbind", "rprivate", "bogus"]),
        "ociRuntimeConfig.mounts[0].options",
    ),
    (
        |d| d["ociRuntimeConfig"]["mounts"][0]["destination"] = json!("/a/../b"),
        "ociRuntimeConfig.mounts[0].destination",
    ),
    (|d| d["ociRuntimeConfig"]["mounts"][0]["source"] = json!("usr"), "ociRuntimeConfig.mounts[0].source"),
    (|d| d["ociRuntimeConfig"]["process"]["cwd"] = json!("workers"), "ociRuntimeConfig.process.cwd"),
    (|d| d["ociRuntimeConfig"]["process"]["env"][0] = json!("NAME"), "ociRuntimeConfig.process.env[0]"),
    (|d| d["ociRuntimeConfig"]["process"]["args"] = json!([]), "ociRuntimeConfig.process.args"),
    (|d| d["ociRuntimeConfig"]["process"]["args"][1] = json!({}), "ociRuntimeConfig.process.args[1]"),
    (|d| d["ociRuntimeConfig"]["linux"]["namespaces"] = json!([]), "ociRuntimeConfig.linux.namespaces"),
    (|d| d["ociRuntimeConfig"]["linux"]["cgroupsPath"] = json!("/a/../../b"), "ociRuntimeConfig.linux.cgroupsPath"),
    (
        |d| d["ociRuntimeConfig"]["linux"]["resources"]["devices"] = json!([]),
        "ociRuntimeConfig.linux.resources.devices",
    ),
    (
        |d| d["ociRuntimeConfig"]["linux"]["resources"]["memory"]["limit"] = json!(5),
        "ociRuntimeConfig.linux.resources.memory.limit",
    ),
    (
        |d| d["ociRuntimeConfig"]["linux"]["resources"]["cpu"]["quota"] = json!("all"),
        "ociRuntimeConfig.linux.resources.cpu.quota",
    ),
];

fn every_wrong_field_of_a_command_file_is_named_and_nothing_is_touched(bed: &Bed) {
    let directory = worker_directory(bed);
    let good = document(bed, &directory);
    for (change, place) in CHANGES {
        let mut command = good.clone();
        change(&mut command);
        let output = bed.squall(&["run", "--spec", &write(bed, &command)]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{place}: {output}");
        assert!(output.stderr.contains(place), "{place} is not named: {output}");
    }
    let mut several = good.clone();
    several["ociRuntimeConfig"]["mounts"][1]["type"] = json!("x");
    several["ociRuntimeConfig"]["linux"]["namespaces"] = json!([]);
    let output = bed.squall(&["run", "--spec", &write(bed, &several)]).output();
    assert!(
        ["mounts[1].type", "linux.namespaces"].iter().all(|place| output.stderr.contains(place)),
        "not all are named: {output}"
    );
    assert!(!bed.run_root().exists() && host::cgroup_directories(&bed.cgroup()).is_empty());
    assert!(!std::path::Path::new(&format!("{directory}/artifacts/container-ID.pid")).exists());
}

fn a_document_that_is_no_document_is_refused_at_once(bed: &Bed) {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"version\":\"{}\"}}", "x".repeat(50 << 20));
    let table = [
        ("deep", deep),
        ("large", large),
        ("empty", String::new()),
        ("half", "{\"version\":".into()),
        ("two", "{} {}".into()),
    ];
    for (name, content) in &table {
        fs::write(bed.work().join(name), content).unwrap();
    }
    rustix::fs::mknodat(rustix::fs::CWD, bed.work().join("fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    std::os::unix::fs::symlink("empty", bed.work().join("link")).unwrap();
    let names = table.iter().map(|(name, _)| *name).chain(["fifo", "link", ".", "missing"]);
    for path in names.map(|name| bed.file(name)).chain(["/dev/zero".to_owned()]) {
        let began = std::time::Instant::now();
        let output = bed.squall(&["run", "--spec", &path]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains(&path) && output.stderr.len() < 2000, "{output}");
        assert!(began.elapsed().as_secs() < 10, "{path} took {:?}", began.elapsed());
    }
    assert!(!bed.run_root().exists());
}
