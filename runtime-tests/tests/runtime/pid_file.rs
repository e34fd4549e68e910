//! The pid file; and that whatever can be refused is refused before the worker runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use runtime_tests::{Bed, Output, cases};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

cases![
    a_pid_file_holds_digits_and_an_old_one_is_replaced,
    a_pid_file_that_cannot_be_written_is_refused_before_the_worker_runs,
    everybody_may_read_a_pid_file_whatever_the_umask,
    a_failed_launch_leaves_the_old_pid_file_and_no_other,
    a_pid_file_never_writes_to_what_was_there_before,
    a_run_root_without_room_is_refused_before_the_worker_runs,
];

/// A caller without any privilege.
const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

fn a_pid_file_holds_digits_and_an_old_one_is_replaced(bed: &Bed) {
    let file = bed.file("pid");
    for old in [None, Some("1\n"), Some(""), Some("no pid at all")] {
        old.map_or(Ok(()), |text| fs::write(&file, text)).unwrap();
        let worker = bed.start(&["--pidfile", &file], &["sleep", "600000"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", worker.pid()), "over {old:?}");
        assert_eq!(fs::metadata(&file).unwrap().nlink(), 1);
        worker.kill();
        assert_eq!(names(&bed.work()), ["pid"]);
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// `squall run` of a worker that leaves a mark when it runs.
pub fn marking(bed: &Bed, flags: &[&str]) -> Output {
    let marks = bed.file("marks");
    fs::create_dir_all(&marks).unwrap();
    fs::set_permissions(&marks, Permissions::from_mode(0o777)).unwrap();
    let volume = format!("{marks}:/mnt");
    let output =
        bed.run(&[&["--rm", "--volume", &volume], flags].concat(), &["try", "create", "/mnt/mark", "x"]).output();
    let ran = Path::new(&marks).join("mark").exists();
    fs::remove_dir_all(&marks).unwrap();
    assert_eq!(ran, output.code() != 125, "refused after the worker has run: {output}");
    output
}

fn a_pid_file_that_cannot_be_written_is_refused_before_the_worker_runs(bed: &Bed) {
    let work = bed.work();
    let at = |name: &str| work.join(name);
    fs::write(at("file"), "1\n").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("nowhere", at("link")).unwrap();
    symlink("file", at("link-to-file")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    mknodat(CWD, at("device"), FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 3)).unwrap();
    let read_only = bed.file("read-only");
    fs::create_dir(&read_only).unwrap();
    mount("ro", read_only.as_str(), "tmpfs", MountFlags::RDONLY, None).unwrap();
    let deep = format!("read-only/{}", "n".repeat(255));
    let table = [
        ("missing/pid", true),
        ("file/pid", true),
        ("directory", true),
        ("link", true),
        ("link-to-file", true),
        ("fifo", true),
        ("device", true),
        ("read-only/pid", true),
        (deep.as_str(), true),
        // What only trying shows.
        ("/proc/pid", false),
        ("/sys/pid", false),
    ];
    for (name, foreseen) in table {
        let path = work.join(name).into_os_string().into_string().unwrap();
        for times in 0..5 {
            let output = marking(bed, &["--pidfile", &path]);
            assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{name}, {times}: {output}");
            assert!(output.stderr.contains(&path), "{name}: {output}");
        }
        let plan =
            bed.squall(&["plan", "--json", "--pidfile", &path, "--layer", bed.probe(), "--", "/bin/probe"]).json();
        assert_eq!(plan["obstacles"].to_string().contains(&path), foreseen, "{name}: {}", plan["obstacles"]);
    }
    unmount(read_only.as_str(), UnmountFlags::DETACH).unwrap();
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "1\n");
    assert_eq!(names(&work), ["device", "directory", "fifo", "file", "link", "link-to-file", "read-only"]);
}

fn everybody_may_read_a_pid_file_whatever_the_umask(bed: &Bed) {
    let file = bed.file("pid");
    for (umask, old) in [("077", None), ("0", None), ("777", Some(0o600))] {
        if let Some(mode) = old {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        let set = format!("umask {umask}; exec \"$@\"");
        let run = bed.run(&["--detach", "--pidfile", &file], &["sleep", "600000"]);
        let worker = bed.worker(&run.under(&["sh", "-c", &set, "sh"]).ok().text());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644, "{umask}");
        let read = runtime_tests::Call::new(std::process::Command::new("cat")).args([&file]).under(&NOBODY).ok();
        assert_eq!(read.text(), worker.pid().to_string());
        worker.kill();
    }
}

fn a_failed_launch_leaves_the_old_pid_file_and_no_other(bed: &Bed) {
    for old in [None, Some("1\n")] {
        let file = bed.file("pid");
        old.map_or(Ok(()), |text| fs::write(&file, text)).unwrap();
        let failed = bed.run_layers(&[bed.probe()], &["--pidfile", &file], &["/bin/missing"]).output();
        assert_eq!((failed.code(), fs::read_to_string(&file).ok().as_deref()), (127, old), "{failed}");
        assert_eq!(names(&bed.work()).len(), old.iter().count());
    }
}

/// Somebody who may write to the directory has made the old pid file a further name of a file of
/// the host's.
fn a_pid_file_never_writes_to_what_was_there_before(bed: &Bed) {
    let (victim, file) = (bed.file("victim"), bed.file("pid"));
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&victim, &file).unwrap();
    bed.run(&["--rm", "--pidfile", &file], &["exit", "0"]).ok();
    let metadata = fs::metadata(&victim).unwrap();
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), metadata.mode() & 0o777), ("precious", 0o600));
    assert_ne!(fs::metadata(&file).unwrap().ino(), metadata.ino());
}

/// Each size of the run root's file system, from one in which nothing fits to one in which all
/// does.
fn a_run_root_without_room_is_refused_before_the_worker_runs(bed: &Bed) {
    let run_root = bed.run_root();
    fs::create_dir(&run_root).unwrap();
    let mut refused = 0;
    for pages in 1.. {
        let size = std::ffi::CString::new(format!("size={}k,mode=700", pages * 4)).unwrap();
        mount("small", &run_root, "tmpfs", MountFlags::empty(), size.as_c_str()).unwrap();
        let output = marking(bed, &[]);
        bed.squall(&["reap"]).ok();
        unmount(&run_root, UnmountFlags::DETACH).unwrap();
        if output.code() == 0 {
            break;
        }
        refused += 1;
        assert!(output.code() == 125 && pages < 100, "{pages} pages: {output}");
    }
    assert!(refused > 3, "of {refused} sizes only");
}
