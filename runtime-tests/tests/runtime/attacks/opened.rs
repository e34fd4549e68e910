//! A program that launches for others, and a user who would have it open, show or write what the
//! user could not.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use runtime_tests::bed::text;
use runtime_tests::{Bed, cases};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use squall::OpenedSpec;
use squall::record::Exit;
use squall::request::{AbsolutePath, Builder, HostDirectory, Identity, LaunchSpec, RootMode};
use squall::{Ended, ErrorKind, Running, Spawner, Squall, Stdio};

cases![
    what_the_user_cannot_reach_is_refused_though_root_could,
    no_link_of_proc_leads_to_what_the_program_has_open,
    a_path_that_is_swapped_after_it_was_opened_changes_nothing,
    a_pid_file_is_taken_back_where_it_was_made_and_as_the_user,
    a_pid_file_that_the_user_could_not_make_or_replace_is_refused_before_the_worker_runs,
    a_writable_directory_has_to_be_the_users_own,
    no_other_thread_ever_has_the_users_ids,
    without_image_roots_nothing_is_launched_for_others,
    a_file_system_that_never_answers_does_not_hold_up_who_opens,
];

/// The user that the program works for, and its worker's user: a group of its own and one more.
pub const USER: (u32, u32, u32) = (4711, 4712, 4713);

pub fn user() -> Identity {
    Identity::new(USER.0, USER.1, [USER.2]).unwrap()
}

/// A spec of the probe.
pub fn spec(bed: &Bed, id: &str, probe: &[&str]) -> Builder {
    let args = [&["/bin/probe"], probe].concat();
    LaunchSpec::builder(id).layers([bed.probe()]).args(args).user(user()).cgroup(format!("{}/{id}", bed.cgroup()))
}

/// The library with image roots, forking by itself and by a spawner. To be made while the test has
/// one thread.
pub fn libraries(bed: &Bed) -> [(&'static str, Squall); 2] {
    bed.probe();
    let library = || bed.library().image_roots([bed.images()]);
    let spawner = Spawner::fork().unwrap();
    [("direct", library().build().unwrap()), ("spawned", library().spawner(spawner).build().unwrap())]
}

/// A directory of this owner, group and mode.
pub fn directory(path: impl AsRef<Path>, owner: u32, group: u32, mode: u32) -> PathBuf {
    let path = path.as_ref();
    fs::create_dir_all(path).unwrap();
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    path.to_owned()
}

fn own_directory(path: impl AsRef<Path>) -> PathBuf {
    directory(path, USER.0, USER.1, 0o700)
}

/// Launches with standard output to a file.
pub fn launch(bed: &Bed, squall: &Squall, opened: OpenedSpec) -> squall::Result<(Running, String)> {
    let path = bed.file(&format!("output-{}", opened.spec().id));
    let mut stdio = Stdio::null().unwrap();
    stdio.streams[1] = File::create(&path).unwrap().into();
    Ok((squall.launch_opened(opened, stdio)?, path))
}

/// Waits for the end; the code. Nothing is kept of it.
pub fn code_of(running: Running) -> u8 {
    let ended = running.wait().unwrap();
    let Ended::Exited(exited) = &ended else { panic!("{ended:?}") };
    let Exit::Code { code } = exited.exit().exit else { panic!("{ended:?}") };
    ended.remove().unwrap();
    code
}

/// What the probe says; its code is 0.
pub fn said(bed: &Bed, squall: &Squall, opened: OpenedSpec) -> String {
    let (running, path) = launch(bed, squall, opened).unwrap_or_else(|error| panic!("{error}"));
    let code = code_of(running);
    let said = fs::read_to_string(path).unwrap();
    assert_eq!(code, 0, "{said}");
    said
}

/// The fields that are refused for the user, with the reasons.
fn refused(spec: &LaunchSpec, user: &Identity) -> BTreeMap<String, String> {
    let error = OpenedSpec::open_as(spec, user).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.problems().iter().map(|problem| (problem.field.clone(), problem.reason.clone())).collect()
}

fn what_the_user_cannot_reach_is_refused_though_root_could(bed: &Bed) {
    let closed = directory(bed.file("closed"), 0, 0, 0o700);
    fs::write(closed.join("secret"), "root's").unwrap();
    directory(closed.join("below"), USER.0, USER.1, 0o777);
    let layer = bed.images().join("closed-layer");
    fs::copy(bed.probe(), &layer).unwrap();
    fs::set_permissions(&layer, Permissions::from_mode(0o600)).unwrap();
    symlink(closed.join("below"), bed.file("link")).unwrap();
    let readable = directory(bed.file("readable"), 0, 0, 0o755);
    let of_root = |builder: Builder| {
        let builder = builder.layers([text(&layer)]).bind(&text(&closed.join("secret")), "/mnt/a", &[]);
        let builder = builder.bind(&bed.file("link"), "/mnt/b", &[]).bind(&text(&readable), "/mnt/c", &[]);
        let builder = builder.bind(&bed.file("missing"), "/mnt/d", &[]);
        let builder = builder.pid_file(readable.join("pid")).root(RootMode::Directory(host_directory(&closed)));
        builder.build().unwrap()
    };
    let spec = of_root(spec(bed, "refused", &["exit", "0"]));
    let refusals = refused(&spec, &user());
    let expected = [
        ("layers[1]", "may not be read by user 4711"),
        ("mounts[0].source", "may not be reached by user 4711"),
        ("mounts[1].source", "may not be reached by user 4711"),
        ("mounts[3].source", "does not exist"),
        ("pid_file", "may not be written to by user 4711"),
        ("root", "belongs to user 0"),
    ];
    let fields: Vec<&str> = refusals.keys().map(String::as_str).collect();
    assert_eq!(fields, expected.map(|(field, _)| field), "{refusals:?}");
    for (field, reason) in expected {
        assert!(refusals[field].contains(reason), "{field}: {}", refusals[field]);
    }
    // Root is refused only what is not there.
    for opened in [OpenedSpec::open(&spec), OpenedSpec::open_as(&spec, &Identity::new(0, 0, []).unwrap())] {
        let error = opened.unwrap_err();
        assert_eq!((error.problems().len(), error.problems()[0].field.as_str()), (1, "mounts[3].source"), "{error}");
    }
    fs::remove_file(&layer).unwrap();
}

fn host_directory(path: &Path) -> HostDirectory {
    AbsolutePath::new(path).unwrap().into()
}

/// Each process may follow its own, and a privileged one everybody's.
fn no_link_of_proc_leads_to_what_the_program_has_open(bed: &Bed) {
    let closed = directory(bed.file("closed"), 0, 0, 0o700);
    let held = File::open(directory(closed.join("held"), 0, 0, 0o755)).unwrap();
    let (this, number) = (std::process::id(), held.as_raw_fd());
    let links = [
        format!("/proc/self/fd/{number}"),
        format!("/proc/thread-self/fd/{number}"),
        format!("/proc/{this}/fd/{number}"),
        format!("/proc/{this}/cwd"),
        format!("/proc/self/root{}", closed.join("held").display()),
        "/proc/1/root/etc".to_owned(),
    ];
    symlink(&links[0], bed.file("link")).unwrap();
    for link in links.into_iter().chain([bed.file("link")]) {
        let spec = spec(bed, "refused", &["exit", "0"]).bind(&link, "/mnt", &[]).build().unwrap();
        let refusals = refused(&spec, &user());
        let reason = &refusals["mounts[0].source"];
        assert!(["link in /proc", "may not be reached"].iter().any(|words| reason.contains(words)), "{link}: {reason}");
        // Even root is told so of what is its own; what it is told of another process's is the
        // kernel's affair.
        let told = OpenedSpec::open(&spec).unwrap_err().to_string();
        assert!(told.contains("link in /proc") || link.starts_with("/proc/1/"), "{link}: {told}");
    }
    // The same of everything else that a spec names; each of these the user could read or write to.
    let image = File::open(bed.probe()).unwrap();
    let open_to_all = File::open(directory(closed.join("open"), USER.0, USER.1, 0o777)).unwrap();
    let below = format!("/proc/self/fd/{}", open_to_all.as_raw_fd());
    let builder = spec(bed, "refused", &["exit", "0"]).layers([format!("/proc/self/fd/{}", image.as_raw_fd())]);
    let builder = builder.root(RootMode::Directory(host_directory(Path::new(&below)))).pid_file(format!("{below}/pid"));
    let refusals = refused(&builder.build().unwrap(), &user());
    assert_eq!(refusals.keys().collect::<Vec<_>>(), ["layers[1]", "pid_file", "root"], "{refusals:?}");
    assert!(refusals.values().all(|reason| reason.contains("link in /proc")), "{refusals:?}");
    // An ordinary link of /proc is one like any other.
    let spec = spec(bed, "accepted", &["exit", "0"]).bind("/proc/self/status", "/mnt", &[]).build().unwrap();
    let opened = OpenedSpec::open_as(&spec, &user()).unwrap();
    assert_eq!(opened.binds().next().unwrap().1.resolved().as_str(), format!("/proc/{this}/status"));
}

fn a_path_that_is_swapped_after_it_was_opened_changes_nothing(bed: &Bed) {
    for (name, squall) in libraries(bed) {
        let (home, victim) =
            (own_directory(bed.file(name)), directory(bed.file(&format!("{name}-victim")), 0, 0, 0o755));
        for part in ["data", "pids", "above"] {
            own_directory(home.join(part));
            directory(victim.join(part), 0, 0, 0o755);
        }
        fs::write(home.join("data/mark"), "the user's").unwrap();
        fs::write(victim.join("data/mark"), "root's").unwrap();
        chown(home.join("data/mark"), Some(USER.0), None).unwrap();
        let builder = spec(bed, name, &["try", "read", "/mnt/mark"]).bind(&text(&home.join("data")), "/mnt", &[]);
        let builder = builder.root(RootMode::Directory(host_directory(&home.join("above"))));
        let opened = OpenedSpec::open_as(&builder.pid_file(home.join("pids/pid")).build().unwrap(), &user()).unwrap();
        for part in ["data", "pids", "above"] {
            fs::rename(home.join(part), home.join(format!("{part}-moved"))).unwrap();
            symlink(victim.join(part), home.join(part)).unwrap();
        }
        let said = said(bed, &squall, opened);
        assert!(said.contains("the user's"), "{name}: {said}");
        let pid_file = fs::metadata(home.join("pids-moved/pid")).unwrap();
        let seen = (pid_file.uid(), pid_file.gid(), pid_file.mode() & 0o7777, pid_file.nlink());
        assert_eq!(seen, (USER.0, USER.1, 0o644, 1), "{name}");
        assert!(home.join("above-moved/overlay").exists(), "{name}");
        for part in ["pids", "above"] {
            assert_eq!(names(&victim.join(part)), [""; 0], "{name}: {part}");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// By the launch process itself, and by somebody who finds what a killed one has noted, when the
/// path leads elsewhere already.
fn a_pid_file_is_taken_back_where_it_was_made_and_as_the_user(bed: &Bed) {
    for (name, squall) in libraries(bed) {
        let (pids, victim) =
            (own_directory(bed.file(name)), directory(bed.file(&format!("{name}-victim")), 0, 0, 0o755));
        // Found missing after the pid was written; only its name is not there yet.
        let builder = spec(bed, name, &[]).args(["/bin/missing"]).pid_file(pids.join("pid"));
        let opened = OpenedSpec::open_as(&builder.build().unwrap(), &user()).unwrap();
        fs::rename(&pids, bed.file(&format!("{name}-moved"))).unwrap();
        symlink(&victim, &pids).unwrap();
        let error = launch(bed, &squall, opened).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProgramNotFound, "{name}: {error}");
        for directory in [&victim, Path::new(&bed.file(&format!("{name}-moved")))] {
            assert_eq!(names(directory), [""; 0], "{name}: {}", directory.display());
        }
    }
    let (own, victim) = (own_directory(bed.file("own")), directory(bed.file("victim"), 0, 0, 0o755));
    let (to_own, to_victim) = (bed.file("to-own"), bed.file("to-victim"));
    symlink(&own, &to_own).unwrap();
    symlink(&victim, &to_victim).unwrap();
    for (id, path, directory) in [("first", &to_victim, &victim), ("second", &to_own, &own)] {
        fs::write(directory.join("pid"), "4242\n").unwrap();
        fs::write(directory.join(".temporary"), "").unwrap();
        ["pid", ".temporary"].iter().for_each(|name| chown(directory.join(name), Some(USER.0), Some(USER.1)).unwrap());
        let container = bed.run_root().join("containers").join(id);
        fs::create_dir_all(&container).unwrap();
        let notes = serde_json::json!({
            "cgroup": format!("{}/{id}", bed.cgroup()), "pid_file": format!("{path}/pid"), "temporary": ".temporary",
            "pid": 4242, "pid_file_user": { "uid": USER.0, "gid": USER.1, "groups": [USER.1] },
        });
        fs::write(container.join("claim"), format!("{notes}\n")).unwrap();
    }
    // What the user may not unlink is an error, and stays; the rest goes.
    let reaped = bed.squall(&["reap"]).output();
    assert!(reaped.to_string().contains("pid file"), "{reaped}");
    assert_eq!((names(&victim).len(), names(&own).len()), (2, 0), "{reaped}");
    fs::remove_file(&to_victim).unwrap();
    bed.squall(&["reap"]).ok();
    assert!(!bed.run_root().join("containers/first").exists());
}

fn a_pid_file_that_the_user_could_not_make_or_replace_is_refused_before_the_worker_runs(bed: &Bed) {
    let marks = directory(bed.file("marks"), USER.0, USER.1, 0o700);
    let sticky = directory(bed.file("sticky"), 0, 0, 0o1777);
    fs::write(sticky.join("pid"), "1\n").unwrap();
    let own = own_directory(bed.file("own"));
    symlink("nowhere", own.join("link")).unwrap();
    let builder = |id: &str| {
        let builder = spec(bed, id, &["try", "create", "/mnt/mark", "x"]);
        builder.bind(&text(&marks), "/mnt", &["rw"])
    };
    for (name, squall) in libraries(bed) {
        for path in [sticky.join("pid"), own.join("link")] {
            let opened = OpenedSpec::open_as(&builder(name).pid_file(&path).build().unwrap(), &user()).unwrap();
            let error = launch(bed, &squall, opened).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exists, "{name}: {error}");
            assert!(error.to_string().contains(&text(&path)), "{name}: {error}");
        }
        // May be written to when it was opened, and not any more.
        let opened = OpenedSpec::open_as(&builder(name).pid_file(own.join("pid")).build().unwrap(), &user()).unwrap();
        directory(&own, 0, 0, 0o755);
        let error = launch(bed, &squall, opened).unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{name}: {error}");
        own_directory(&own);
        assert_eq!((names(&marks), names(&own), names(&sticky)), (vec![], vec!["link".into()], vec!["pid".into()]));
        // Its own it may replace, in both.
        for directory in [&sticky, &own] {
            for _ in 0..2 {
                let opened = builder(name).pid_file(directory.join("mine")).build().unwrap();
                said(bed, &squall, OpenedSpec::open_as(&opened, &user()).unwrap());
            }
            fs::remove_file(directory.join("mine")).unwrap();
        }
        fs::remove_file(marks.join("mark")).unwrap();
    }
}

/// Its project quota would be that of everybody who writes there.
fn a_writable_directory_has_to_be_the_users_own(bed: &Bed) {
    let of_group = directory(bed.file("group"), 0, USER.2, 0o2775);
    let of_all = directory(bed.file("all"), 0, 0, 0o1777);
    let read_only = directory(bed.file("read-only"), USER.0, USER.1, 0o500);
    let file = bed.file("file");
    fs::write(&file, "").unwrap();
    let table = [
        (of_group, "expected a directory of user 4711's own"),
        (of_all, "expected a directory of user 4711's own"),
        (read_only, "may not be written to by user 4711"),
        (file.into(), "is not a directory"),
    ];
    for (path, reason) in table {
        let spec = spec(bed, "refused", &["exit", "0"]).root(RootMode::Directory(host_directory(&path)));
        let refusals = refused(&spec.build().unwrap(), &user());
        assert!(refusals["root"].contains(reason), "{}: {refusals:?}", path.display());
    }
}

/// All lines of a thread's status that tell of its credentials.
fn credentials(thread: &str) -> Option<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    let of_credentials = |line: &&str| ["Uid", "Gid", "Groups", "Cap"].iter().any(|word| line.starts_with(word));
    Some(status.lines().filter(of_credentials).map(str::to_owned).collect())
}

fn threads() -> Vec<String> {
    names(Path::new("/proc/self/task"))
}

fn no_other_thread_ever_has_the_users_ids(bed: &Bed) {
    let own = own_directory(bed.file("own"));
    let spec = spec(bed, "opened", &["exit", "0"]).bind(&text(&own), "/mnt", &[]).build().unwrap();
    let seen_as_user = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // The threads that there are before anything is opened, and after: this one and the
            // first.
            let known = [std::process::id().to_string(), rustix::thread::gettid().as_raw_pid().to_string()];
            let of_known = || known.each_ref().map(|thread| credentials(thread));
            let before = of_known();
            assert!(before.iter().flatten().flatten().all(|line| !line.contains("4711")), "{before:?}");
            while !over.load(Ordering::Relaxed) {
                assert_eq!(of_known(), before);
                let others = threads().into_iter().filter(|thread| !known.contains(thread));
                let of_user = |lines: &Vec<String>| lines.iter().any(|line| line.ends_with("\t4711"));
                let seen = others.filter_map(|thread| credentials(&thread)).filter(of_user).count();
                seen_as_user.fetch_add(seen, Ordering::Relaxed);
            }
        });
        // Until both have had their turns; the bound is for a thread that never has the ids.
        for round in 0..5000 {
            OpenedSpec::open_as(&spec, &user()).unwrap();
            if round > 100 && seen_as_user.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
    });
    assert!(seen_as_user.into_inner() > 0, "the thread that opens has the user's ids");
}

fn without_image_roots_nothing_is_launched_for_others(bed: &Bed) {
    let spec = spec(bed, "refused", &["exit", "0"]).build().unwrap();
    let squall = bed.library().build().unwrap();
    let error = launch(bed, &squall, OpenedSpec::open_as(&spec, &user()).unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Invalid, "image roots"), "{error}");
    assert!(!bed.run_root().exists());
    let elsewhere = bed.library().image_roots([bed.work()]).build().unwrap();
    let error = launch(bed, &elsewhere, OpenedSpec::open_as(&spec, &user()).unwrap()).unwrap_err();
    assert_eq!(error.problems()[0].field, "layers[0]", "{error}");
    assert!(!bed.run_root().exists());
}

/// A FUSE file system that nobody serves: whoever looks into it waits.
fn a_file_system_that_never_answers_does_not_hold_up_who_opens(bed: &Bed) {
    let at = text(&own_directory(bed.file("hanging")));
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let options = std::ffi::CString::new(options).unwrap();
    mount("hanging", at.as_str(), "fuse", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()).unwrap();
    let spec = spec(bed, "hanging", &["exit", "0"]).bind(&format!("{at}/file"), "/mnt", &[]).build().unwrap();
    let error = OpenedSpec::open_as(&spec, &user()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("does not answer"), "{error}");
    drop(device);
    unmount(at.as_str(), UnmountFlags::DETACH).unwrap();
    // The thread that was left behind is told that there is nobody, and ends.
    runtime_tests::until("the thread ends", || (threads().len() == 1).then_some(()));
}
