//! Who the worker is, and what it may do: nothing that root can.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, Worker, cases, host};
use squall::squashfs::Attributes;

cases![
    user_and_groups_are_the_ones_asked_for_and_no_others,
    no_two_workers_that_root_names_no_user_for_are_one_user,
    a_writable_directory_or_volume_is_its_workers_again,
    a_user_of_its_own_is_planned_recorded_and_shown,
    a_user_by_name_has_all_groups_that_nss_knows,
    home_is_what_image_or_host_say_unless_it_is_given,
    every_capability_set_is_empty_whoever_the_user_is,
    a_worker_of_uid_0_can_do_nothing_that_takes_a_capability,
    the_proc_entry_belongs_to_the_user_as_soon_as_the_launch_is_answered,
];

/// `Uid:` or `Gid:` when all four are the same.
fn four_times(id: u32) -> String {
    format!("{id}\t{id}\t{id}\t{id}")
}

fn user_and_groups_are_the_ones_asked_for_and_no_others(bed: &Bed) {
    let table: [(&[&str], u32, u32, &str); 4] = [
        (&["--rm", "--user", "auto", "--own-users", "5000000-5000000"], 5_000_000, 5_000_000, "5000000"),
        (&["--rm", "--user", "4711:4712"], 4711, 4712, "4712"),
        (&["--rm", "--user", "0:0"], 0, 0, "0"),
        (&["--rm", "--user", "4294967294:4294967294"], 4_294_967_294, 4_294_967_294, "4294967294"),
    ];
    for (flags, uid, gid, groups) in table {
        // The caller's own groups are not the worker's.
        let called = bed.run(flags, &["report"]).under(&["setpriv", "--groups", "7,1000,4000"]);
        let status = called.json()["status"].clone();
        assert_eq!(status["Uid"], four_times(uid), "{flags:?}");
        assert_eq!(status["Gid"], four_times(gid), "{flags:?}");
        assert_eq!(status["Groups"].as_str().unwrap().trim(), groups, "{flags:?}");
    }
}

fn uid_of(worker: &Worker<'_>) -> u64 {
    worker.inspect()["spec"]["user"]["uid"].as_u64().unwrap()
}

fn no_two_workers_that_root_names_no_user_for_are_one_user(bed: &Bed) {
    let range = ["--own-users", "5000000-5000002"];
    let workers: Vec<Worker<'_>> = (0..3).map(|_| bed.start(&range, &["sleep", "600000"])).collect();
    let mut uids: Vec<u64> = workers.iter().map(uid_of).collect();
    uids.sort_unstable();
    assert_eq!(uids, [5_000_000, 5_000_001, 5_000_002]);
    for worker in &workers {
        assert_eq!(u64::from(fs::metadata(format!("/proc/{}", worker.pid())).unwrap().uid()), uid_of(worker));
    }
    let refused = bed.run(&range, &["exit", "0"]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("5000000-5000002"), "{refused}");
    // The uid stays taken while the container's directory is there, and is free after that.
    let freed = uid_of(&workers[1]);
    workers[1].kill();
    assert_eq!(bed.run(&range, &["exit", "0"]).output().code(), 125);
    bed.squall(&["rm", &workers[1].id]).ok();
    let next = bed.start(&range, &["sleep", "600000"]);
    assert_eq!(uid_of(&next), freed);
    [&workers[0], &workers[2], &next].into_iter().for_each(Worker::kill);
}

/// What one worker left is neither a stranger's nor lost to the next.
fn a_writable_directory_or_volume_is_its_workers_again(bed: &Bed) {
    let upper = bed.work().join("upper");
    fs::create_dir(&upper).unwrap();
    let volume = bed.work().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let data = format!("--volume={}:/data:rw", bed.file("volume"));
    let run = |what: &[&str]| bed.attempt(&["--rm", &data], what);
    assert_eq!(run(&["create", "/data/file", "mine"])["ok"], "");
    assert_ne!(bed.report(&["--rm"])["status"]["Uid"], bed.report(&["--rm"])["status"]["Uid"]);
    assert_eq!(run(&["write", "/data/file", "again"])["ok"], "");
    let writable = format!("--writable={}", bed.file("upper"));
    let uid = || bed.report(&["--rm", &writable])["status"]["Uid"].clone();
    let first = uid();
    assert_ne!(bed.report(&["--rm"])["status"]["Uid"], first);
    // A restart of the machine takes the run root's memory with it.
    fs::remove_dir_all(bed.run_root().join("users")).unwrap();
    assert_eq!(uid(), first);
}

fn a_user_of_its_own_is_planned_recorded_and_shown(bed: &Bed) {
    let first = bed.start(&["--name", "first"], &["sleep", "600000"]);
    let plan = bed.squall(&["plan", "--cgroup-parent", &bed.cgroup(), "--json", bed.probe(), "/bin/probe"]).json();
    let second = bed.start(&["--name", "second"], &["sleep", "600000"]);
    assert_eq!(plan["user"]["uid"], uid_of(&second));
    let notes = second.inspect()["notes"].to_string();
    assert!(
        notes.contains(&format!("uid {} is the container's own, of 2100000000-2100065535", uid_of(&second))),
        "{notes}"
    );
    let page = bed.squall(&["ps"]).ok().text();
    for worker in [&first, &second] {
        let line = page.lines().find(|line| line.starts_with(&worker.id)).unwrap();
        assert!(line.contains(&uid_of(worker).to_string()), "{page}");
        worker.kill();
    }
}

fn a_user_by_name_has_all_groups_that_nss_knows(bed: &Bed) {
    let known = fs::read_to_string("/etc/group").unwrap();
    let more = "squall-one:x:47111:nobody\nsquall-two:x:47112:daemon,nobody\nsquall-three:x:47113:daemon\n";
    fs::write(bed.work().join("group"), format!("{known}{more}")).unwrap();
    // Only the caller sees the file; the worker has no /etc at all.
    let script = format!("mount --bind {} /etc/group && exec \"$@\"", bed.file("group"));
    let caller = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let status = bed.run(&["--rm", "--user", "nobody"], &["report"]).under(&caller).json()["status"].clone();
    let mut groups: Vec<&str> = status["Groups"].as_str().unwrap().split_whitespace().collect();
    groups.sort_unstable();
    assert_eq!(groups, ["47111", "47112", "65534"]);
}

fn home_is_what_image_or_host_say_unless_it_is_given(bed: &Bed) {
    let layer = bed.image("with-users", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        let users = b"root:x:0:0:root:/image-root:/bin/sh\napp:x:4711:4711::/srv/app:/bin/sh\n";
        writer.file("usr/lib/passwd", &Attributes::new(0o644), &users[..]).unwrap();
        // Within the image a link is nothing unusual.
        writer.symlink("etc/passwd", &Attributes::new(0o777), "../usr/lib/passwd").unwrap();
    });
    let table: [(&[&str], Option<&str>); 6] = [
        (&["-u", "0:0"], Some("HOME=/image-root")),
        (&["-u", "4711:4712"], Some("HOME=/srv/app")),
        (&["-u", "3987654321:1"], Some("HOME=/")),
        (&["-u", "4711:4712", "-e", "HOME=/given"], Some("HOME=/given")),
        (&["-u", "4711:4712", "-e", "HOME="], Some("HOME=")),
        (&["-u", "4711:4712", "-e", "HOME=/x", "-e", "A=1"], Some("HOME=/x")),
    ];
    for (flags, home) in table {
        let flags = [&["--rm"], flags].concat();
        let report = bed.run_layers(&[&layer], &flags, &["/bin/probe", "report"]).json();
        let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(|text| text.as_str()).collect();
        let found: Vec<&str> = env.iter().copied().filter(|text| text.starts_with("HOME=")).collect();
        assert_eq!(found, home.into_iter().collect::<Vec<_>>(), "{flags:?}: {env:?}");
    }
    let of_host = bed.report(&["--rm", "-u", "0:0"]);
    assert_eq!(of_host["env"][1], "HOME=/root", "an image without users");
}

fn every_capability_set_is_empty_whoever_the_user_is(bed: &Bed) {
    let caller = ["setpriv", "--inh-caps", "+net_bind_service,+chown", "--ambient-caps", "+net_bind_service,+chown"];
    for user in ["0:0", "65534:65534"] {
        let report = bed.run(&["--rm", "--user", user], &["report"]).under(&caller).json();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(report["status"][set], "0000000000000000", "{set} of {user}");
        }
        assert_eq!(report["status"]["NoNewPrivs"], "1", "{user}");
        assert_eq!(report["securebits"], 0, "{user}");
    }
}

fn a_worker_of_uid_0_can_do_nothing_that_takes_a_capability(bed: &Bed) {
    let namespaces = (libc::CLONE_NEWNS | libc::CLONE_NEWNET).to_string();
    let table: [&[&str]; 4] =
        [&["mount", "/tmp"], &["mknod", "/tmp/disk"], &["chroot", "/tmp"], &["unshare", "-", &namespaces]];
    for what in table {
        let answer = bed.attempt(&["--rm", "--user", "0:0"], what);
        assert_eq!(answer["errno"], libc::EPERM, "{what:?}: {answer}");
    }
    let answer = bed.attempt(&["--rm", "--user", "4711:4711"], &["setuid", ""]);
    assert_eq!(answer["errno"], libc::EPERM);
}

fn the_proc_entry_belongs_to_the_user_as_soon_as_the_launch_is_answered(bed: &Bed) {
    for _ in 0..5 {
        let worker = bed.start(&["--user", "4711:4712", "--pidfile", &bed.file("pid")], &["sleep", "600000"]);
        let text = fs::read_to_string(bed.work().join("pid")).unwrap();
        let pid: u32 = text.trim_end().parse().unwrap();
        assert_eq!(text, format!("{pid}\n"), "digits and a line end, nothing else");
        let entry = fs::metadata(format!("/proc/{pid}")).unwrap();
        assert_eq!((entry.uid(), entry.gid()), (4711, 4712));
        assert_eq!(worker.pid(), pid);
        worker.kill();
        assert!(!host::is_alive(pid));
        fs::remove_file(bed.work().join("pid")).unwrap();
    }
}
