//! What is mounted in a container, and with which options.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, cases, needs};
use rustix::mount::{MountFlags, mount};
use serde_json::Value;
use squall::squashfs::Attributes;

cases![
    the_standard_mounts_come_first_in_order_and_with_their_options,
    dev_holds_the_standard_devices_and_nothing_else,
    masked_paths_are_empty_even_for_root,
    the_heat_of_a_processor_is_masked_where_the_machine_shows_it,
    read_only_paths_cannot_be_written_even_by_root,
    the_root_is_read_only_with_three_small_places_to_write,
    a_writable_root_takes_writes_up_to_its_size,
    a_writable_directory_keeps_what_was_written,
    a_size_for_a_writable_directory_is_refused_where_nothing_keeps_it,
    a_size_for_a_writable_directory_is_kept_by_a_quota_of_ext4,
    a_size_for_a_writable_directory_is_kept_by_a_quota_of_xfs,
    a_tmpfs_has_the_size_asked_for,
];

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub struct Line {
    pub point: String,
    pub kind: String,
    pub source: String,
    pub options: BTreeSet<String>,
    pub of_superblock: BTreeSet<String>,
    pub propagation: String,
}

impl Line {
    pub fn of(text: &str) -> Line {
        let (mount, superblock) = text.split_once(" - ").unwrap_or_else(|| panic!("{text}"));
        let words: Vec<&str> = mount.split(' ').collect();
        let (of_fs, options): (Vec<&str>, &str) = (superblock.split(' ').collect(), words[5]);
        let set = |text: &str| text.split(',').map(str::to_owned).collect();
        Line {
            point: words[4].to_owned(),
            kind: of_fs[0].to_owned(),
            source: of_fs[1].to_owned(),
            options: set(options),
            of_superblock: set(of_fs[2]),
            propagation: words[6..].join(" "),
        }
    }
}

/// The mounts of a report.
pub fn mounts(report: &Value) -> Vec<Line> {
    report["mountinfo"].as_array().unwrap().iter().map(|line| Line::of(line.as_str().unwrap())).collect()
}

/// Mount point, type, source, options of the mount and options of its file system (spec of Storm's
/// runtime configuration).
const STANDARD: [(&str, &str, &str, &str, &str); 8] = [
    ("/", "overlay", "overlay", "ro,nosuid,nodev", "redirect_dir=nofollow"),
    ("/proc", "proc", "proc", "rw,nosuid,nodev,noexec", ""),
    ("/dev", "tmpfs", "tmpfs", "rw,nosuid", "mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "rw,nosuid,noexec", "gid=5,mode=620,ptmxmode=666,max=256"),
    ("/dev/shm", "tmpfs", "shm", "rw,nosuid,nodev,noexec", "size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "rw,nosuid,nodev,noexec", ""),
    ("/sys", "sysfs", "sysfs", "ro,nosuid,nodev,noexec", ""),
    ("/sys/fs/cgroup", "", "", "ro,nosuid,nodev,noexec,relatime", ""),
];

fn the_standard_mounts_come_first_in_order_and_with_their_options(bed: &Bed) {
    let found = mounts(&bed.report(&["--rm"]));
    for ((point, kind, source, options, of_superblock), line) in STANDARD.into_iter().zip(&found) {
        assert_eq!(line.point, point);
        assert!(kind.is_empty() || (line.kind == kind && line.source == source), "{line:?}");
        assert!(options.split(',').all(|option| line.options.contains(option)), "{options}: {line:?}");
        let has = |option: &str| option.is_empty() || line.of_superblock.contains(option);
        assert!(of_superblock.split(',').all(has), "{of_superblock}: {line:?}");
    }
    assert!(!found[2].options.contains("relatime"), "strictatime: {:?}", found[2]);
    let cgroups: Vec<&Line> = found.iter().filter(|line| line.point.starts_with("/sys/fs/cgroup")).collect();
    assert!(cgroups.iter().all(|line| line.options.contains("ro")), "{cgroups:?}");
    assert!(found.iter().all(|line| line.propagation.is_empty()), "something is shared with the host: {found:?}");
    let of_the_host = found.iter().filter(|line| {
        !["overlay", "proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"].contains(&&*line.kind)
    });
    assert_eq!(of_the_host.count(), 0, "{found:?}");
}

fn dev_holds_the_standard_devices_and_nothing_else(bed: &Bed) {
    const DEVICES: [(&str, (u32, u32)); 6] = [
        ("null", (1, 3)),
        ("zero", (1, 5)),
        ("full", (1, 7)),
        ("random", (1, 8)),
        ("urandom", (1, 9)),
        ("tty", (5, 0)),
    ];
    const LINKS: [(&str, &str); 5] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    let worker = bed.start(&[], &["sleep", "600000"]);
    let dev = format!("/proc/{}/root/dev", worker.pid());
    for (name, (major, minor)) in DEVICES {
        let device = fs::symlink_metadata(format!("{dev}/{name}")).unwrap();
        assert!(device.file_type().is_char_device() && device.mode() & 0o7777 == 0o666, "{name}: {:o}", device.mode());
        assert_eq!((rustix::fs::major(device.rdev()), rustix::fs::minor(device.rdev())), (major, minor), "{name}");
    }
    for (name, target) in LINKS {
        assert_eq!(fs::read_link(format!("{dev}/{name}")).unwrap().to_str(), Some(target), "{name}");
    }
    let found: BTreeSet<String> =
        fs::read_dir(&dev).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known = DEVICES
        .iter()
        .map(|(name, _)| *name)
        .chain(LINKS.iter().map(|(name, _)| *name))
        .chain(["mqueue", "pts", "shm"])
        // A link to what is masked, on kernels that have it.
        .chain(fs::metadata("/proc/kcore").is_ok().then_some("kcore"));
    assert_eq!(found, known.map(str::to_owned).collect());
    worker.kill();
    for (device, errno) in [("/dev/null", None), ("/dev/full", Some(libc::ENOSPC))] {
        let answer = bed.attempt(&["--rm"], &["write", device, "text"]);
        assert_eq!(answer["errno"].as_i64(), errno.map(i64::from), "{device}: {answer}");
    }
}

fn masked_paths_are_empty_even_for_root(bed: &Bed) {
    // Storm's list, and what Docker masks today.
    let storm = [
        "/proc/kcore",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
    ];
    let docker = ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/keys", "/sys/devices/virtual/powercap"];
    // What only root may read, and a worker of uid 0 is for a file's mode.
    let roots =
        ["kpagecount", "kpageflags", "kpagecgroup", "slabinfo", "vmallocinfo", "pagetypeinfo", "kmsg", "vmcore"];
    let roots: Vec<String> = roots.iter().map(|name| format!("/proc/{name}")).collect();
    let roots = roots.iter().map(String::as_str).chain(["/sys/kernel/slab"]);
    let there: Vec<&str> =
        storm.into_iter().chain(docker).chain(roots).filter(|path| fs::metadata(path).is_ok()).collect();
    assert!(there.len() >= 3, "{there:?}");
    for path in there {
        let verb = if fs::metadata(path).unwrap().is_dir() { "list" } else { "read" };
        let answer = bed.attempt(&["--rm", "--user", "0:0"], &[verb, path]);
        assert!(answer["ok"] == "" || answer["ok"] == "[]", "{path}: {answer}");
        let answer = bed.attempt(&["--rm", "--user", "0:0"], &["create", &format!("{path}/file"), "x"]);
        assert!(answer["errno"].is_i64(), "{path}: {answer}");
    }
}

/// A virtual machine shows no heat, so this test brings its own; a container's own `/sys` would not
/// have it, and gets the machine's.
fn the_heat_of_a_processor_is_masked_where_the_machine_shows_it(bed: &Bed) {
    const CPUS: &str = "/sys/devices/system/cpu";
    runtime_tests::namespace::own().unwrap();
    mount("none", CPUS, "tmpfs", MountFlags::empty(), None).unwrap();
    for cpu in ["cpu0", "cpu1"] {
        let directory = format!("{CPUS}/{cpu}/thermal_throttle");
        fs::create_dir_all(&directory).unwrap();
        fs::write(format!("{directory}/core_throttle_count"), "7").unwrap();
    }
    let list = |path: &str| bed.attempt(&["--rm", "--user", "0:0", "-v", "/sys:/sys:ro"], &["list", path]);
    assert_eq!(list(&format!("{CPUS}/cpu0"))["ok"], r#"["thermal_throttle"]"#);
    for cpu in ["cpu0", "cpu1"] {
        let answer = list(&format!("{CPUS}/{cpu}/thermal_throttle"));
        assert_eq!(answer["ok"], "[]", "{cpu}: {answer}");
    }
}

fn read_only_paths_cannot_be_written_even_by_root(bed: &Bed) {
    let table = [
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
    ];
    for path in table.into_iter().filter(|path| fs::metadata(path).is_ok()) {
        let answer = bed.attempt(&["--rm", "--user", "0:0"], &["write", path, "0"]);
        let errno = answer["errno"].as_i64().unwrap_or_default() as i32;
        assert!([libc::EROFS, libc::EACCES, libc::EPERM].contains(&errno), "{path}: {answer}");
    }
    let found = mounts(&bed.report(&["--rm"]));
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        if fs::metadata(path).is_ok() {
            let line = found.iter().rfind(|line| line.point == path);
            assert!(line.is_some_and(|line| line.options.contains("ro")), "{path}: {line:?}");
        }
    }
}

fn the_root_is_read_only_with_three_small_places_to_write(bed: &Bed) {
    for path in ["/file", "/bin/file", "/sys/file", "/dev/file"] {
        let answer = bed.attempt(&["--rm", "--user", "0:0"], &["create", path, "x"]);
        let writable = path == "/dev/file";
        assert_eq!(
            answer["errno"] == libc::EROFS || answer["errno"] == libc::EACCES || answer["errno"] == libc::EPERM,
            !writable,
            "{path}: {answer}"
        );
    }
    for path in ["/tmp/file", "/var/tmp/file", "/dev/shm/file"] {
        let answer = bed.attempt(&["--rm"], &["create", path, "x"]);
        assert_eq!(answer["ok"], "", "{path}: {answer}");
    }
    let filled = bed.attempt(&["--rm"], &["fill", "/tmp/file"]);
    assert_eq!(filled["errno"], libc::ENOSPC, "{filled}");
}

fn a_writable_root_takes_writes_up_to_its_size(bed: &Bed) {
    let user = ["--rm", "--user", "0:0"];
    let answer = bed.attempt(&[&user[..], &["--writable"]].concat(), &["create", "/new", "x"]);
    assert_eq!(answer["ok"], "", "{answer}");
    let sized = [&user[..], &["--writable=2m"]].concat();
    assert_eq!(bed.attempt(&sized, &["fill", "/new", "1000000"])["ok"], "1048576");
    assert_eq!(bed.attempt(&sized, &["fill", "/new"])["errno"], libc::ENOSPC);
}

fn a_writable_directory_keeps_what_was_written(bed: &Bed) {
    let directory = bed.file("upper");
    fs::create_dir(&directory).unwrap();
    let flags = ["--rm", "--user", "0:0", &format!("--writable={directory}")];
    assert_eq!(bed.attempt(&flags, &["create", "/kept", "text"])["ok"], "");
    assert_eq!(bed.attempt(&flags, &["read", "/kept"])["ok"], "text");
    // That nothing bounds it is said, beforehand and afterwards.
    let worker = bed.start(&flags[1..], &["sleep", "600000"]);
    let plan = bed.squall(&["plan", "--json", flags[3], "--layer", bed.probe(), "--", "/bin/probe"]).json();
    for notes in [&plan["notes"], &worker.inspect()["notes"]] {
        assert!(
            notes
                .to_string()
                .contains(&format!("nothing bounds what is written to the host's directory '{directory}'"))
        );
    }
    worker.kill();
}

/// Of a file system in memory, and of an ext4 without quotas, made in a file and mounted for this
/// call alone.
fn a_size_for_a_writable_directory_is_refused_where_nothing_keeps_it(bed: &Bed) {
    let refused = |directory: &str, under: &[&str], words: &str| {
        let flag = format!("--writable={directory},size=1m");
        let object = format!("squall: root: writable directory '{directory}': ");
        let output = bed.run(&["--rm", &flag], &["exit", "7"]).under(under).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.starts_with(&object) && output.stderr.contains(words), "{output}");
        let plan = bed.squall(&["plan", "--json", "--cgroup-parent", &bed.cgroup(), &flag, "--layer", bed.probe()]);
        let obstacles = plan.args(["--", "/bin/probe"]).under(under).json()["obstacles"].to_string();
        assert!(obstacles.contains(words), "{obstacles}");
    };
    let (memory, disk) = (bed.file("upper"), bed.file("disk"));
    fs::create_dir(&memory).unwrap();
    fs::create_dir(&disk).unwrap();
    refused(&memory, &[], "has no project quotas");
    let image = bed.file("ext4");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let script = format!("mkfs.ext4 -q -F '{image}' && mount -o loop '{image}' '{disk}' && exec \"$@\"");
    let under = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    refused(&disk, &under, "project quotas of its ext4 are not switched on");
    assert_eq!(fs::read_dir(&memory).unwrap().count(), 0, "nothing is begun");
}

fn a_size_for_a_writable_directory_is_kept_by_a_quota_of_ext4(bed: &Bed) {
    size_is_kept(bed, "ext4", &["mkfs.ext4", "-q", "-F", "-O", "quota,project"], 64 << 20);
}

fn a_size_for_a_writable_directory_is_kept_by_a_quota_of_xfs(bed: &Bed) {
    // mkfs.xfs refuses less.
    size_is_kept(bed, "xfs", &["mkfs.xfs", "-q"], 300 << 20);
}

/// On a machine that keeps no project quotas for this kind of file system the bound is refused.
fn size_is_kept(bed: &Bed, kind: &str, mkfs: &[&str], bytes: u64) {
    let (disk, image) = (bed.file("disk"), bed.file("image"));
    fs::create_dir(&disk).unwrap();
    fs::File::create(&image).unwrap().set_len(bytes).unwrap();
    let succeeds =
        |call: &[&str]| Command::new(call[0]).args(&call[1..]).output().is_ok_and(|out| out.status.success());
    let mounted = succeeds(&[mkfs, &[&*image]].concat()) && succeeds(&["mount", "-o", "loop,prjquota", &image, &disk]);
    if !needs::has(&format!("quota-{kind}"), mounted) {
        let output = bed.run(&["--rm", &format!("--writable={disk},size=1m")], &["exit", "7"]).output();
        assert_eq!(output.code(), 125, "{output}");
        assert!(output.stderr.contains("its size cannot be bounded"), "{output}");
        return;
    }
    let open = bed.image("open", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.directory("open", &Attributes::new(0o1777)).unwrap();
    });
    let mib = |path: &str| fs::metadata(format!("{disk}/overlay/upper/open/{path}")).unwrap().blocks() as f64 / 2048.0;
    let fill = |size: &str, user: &str, name: &str| {
        let flags = ["--user", user, &format!("--writable={disk}{size}"), "--detach"];
        let path = format!("/open/{name}");
        let id = bed.run_layers(&[&open], &flags, &["/bin/probe", "fill-up", &path]).ok().text();
        let worker = bed.worker(&id);
        (worker.wait(), worker.inspect()["exit"].clone())
    };
    // Writes of root pass the quota of a file system, those of a container's root do not.
    for user in ["4711:4711", "0:0"] {
        let (code, exit) = fill(",size=10m", user, "file");
        assert!(code == libc::ENOSPC || code == libc::EDQUOT, "{user}: {code}");
        assert!((9.0..=10.0).contains(&mib("file")), "{user}: {}", mib("file"));
        let [used, all] = ["used_bytes", "size_bytes"].map(|key| exit["upper"][key].as_u64().unwrap() >> 20);
        assert!((9..=10).contains(&used) && all == 10, "{user}: {exit}");
        fs::remove_file(format!("{disk}/overlay/upper/open/file")).unwrap();
    }
    // What is there counts for another size; without a size there is no bound any more.
    fill(",size=10m", "4711:4711", "file");
    fill(",size=15m", "4711:4711", "more");
    assert!((4.0..=5.0).contains(&mib("more")), "{}", mib("more"));
    let (code, exit) = fill("", "4711:4711", "rest");
    assert!(code == libc::ENOSPC && mib("rest") > 20.0, "{code}, {}, {exit}", mib("rest"));
    assert!(succeeds(&["umount", &disk]));
}

fn a_tmpfs_has_the_size_asked_for(bed: &Bed) {
    let flags = ["--rm", "--tmpfs", "/scratch/deep:size=1m", "--tmpfs", "/tmp:size=8k"];
    let found = mounts(&bed.report(&flags));
    for (point, size) in [("/scratch/deep", "size=1024k"), ("/tmp", "size=8k")] {
        let line = found.iter().find(|line| line.point == point).unwrap_or_else(|| panic!("{found:?}"));
        let options = ["nosuid", "nodev"].map(|option| line.options.contains(option));
        assert!(line.kind == "tmpfs" && line.of_superblock.contains(size) && options == [true, true], "{line:?}");
    }
    assert_eq!(found.iter().filter(|line| line.point == "/tmp").count(), 1);
    assert_eq!(bed.attempt(&flags, &["fill", "/scratch/deep/file"])["errno"], libc::ENOSPC);
}
