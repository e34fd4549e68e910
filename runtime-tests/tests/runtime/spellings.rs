//! What people type who come from docker and podman: where it means the same, it works.

use std::fs;

use runtime_tests::bed::text;
use runtime_tests::{Bed, Call, cases};
use serde_json::Value;

cases![
    the_words_of_podman_that_mean_the_same_are_taken,
    everything_behind_the_program_is_the_programs,
    paths_of_the_host_may_be_relative_and_lead_up,
    a_variable_without_a_value_is_the_callers,
    what_has_no_effect_is_said_to_have_none,
    no_limit_is_asked_for_as_in_podman,
    a_volume_below_another_is_seen_whatever_their_order,
    a_path_with_a_colon_is_mounted_by_keys,
    a_tmpfs_is_what_dockers_options_say,
    output_may_go_to_the_null_device,
    an_id_that_is_no_host_name_gives_one_all_the_same,
];

fn the_words_of_podman_that_mean_the_same_are_taken(bed: &Bed) {
    let table: &[&[&str]] = &[
        &["--net", "host"],
        &["--net=none"],
        &["--volume=/tmp:/data"],
        &["--env=A=1"],
        &["--cpus", ".5"],
        &["--interactive"],
        &["-i"],
        &["--tmpfs=/t"],
    ];
    for flags in table {
        assert_eq!(bed.run(&[&["--rm"], *flags].concat(), &["exit", "7"]).output().code(), 7, "{flags:?}");
    }
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let report = bed.report(&["--rm", "--net", "host"]);
    assert_eq!(report["namespaces"]["net"], *text(&host), "{report}");
}

fn everything_behind_the_program_is_the_programs(bed: &Bed) {
    let argv = ["/bin/probe", "say", "--net", "-x", "--", "--rm"];
    let by_layer = bed.squall(&["run", "--rm", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe()]);
    let by_image = bed.squall(&["run", "--rm", "--cgroup-parent", &bed.cgroup(), bed.probe()]);
    for call in [by_layer.args(argv), by_image.args(argv)] {
        assert_eq!(call.ok().text(), "--net -x -- --rm");
    }
}

/// The call, made in the test's working directory.
fn here(bed: &Bed, call: Call) -> Call {
    let mut command = call.into_command();
    command.current_dir(bed.work());
    Call::new(command)
}

fn paths_of_the_host_may_be_relative_and_lead_up(bed: &Bed) {
    fs::create_dir_all(bed.work().join("far/below")).unwrap();
    fs::create_dir(bed.work().join("up")).unwrap();
    fs::write(bed.work().join("far/file"), "far").unwrap();
    std::os::unix::fs::symlink("far/below", bed.work().join("link")).unwrap();
    let layer = "../images/probe.sqsh";
    bed.probe();
    let parent = bed.cgroup();
    let run = |flags: &[&str], probe: &[&str]| {
        let fixed = ["run", "--rm", "--cgroup-parent", &parent, "--layer", layer];
        here(bed, bed.squall(&fixed).args(flags).args(["--", "/bin/probe"]).args(probe)).ok().text()
    };
    let read = |flags: &[&str], path: &str| serde_json::from_str::<Value>(&run(flags, &["try", "read", path])).unwrap();
    assert_eq!(read(&["-v", "./far:/data"], "/data/file")["ok"], "far");
    assert_eq!(read(&["-v", "./link/..:/data"], "/data/file")["ok"], "far", "the way up is the link's target's");
    run(
        &["--pidfile", "link/../pid", "--exit-file", "./link/../exit", "--stdout", "link/../out", "--writable=up"],
        &["exit", "0"],
    );
    assert!(bed.work().join("far/pid").exists() && bed.work().join("far/out").exists());
    assert!(fs::read_dir(bed.work().join("up")).unwrap().next().is_some(), "what is written lies there");
}

fn a_variable_without_a_value_is_the_callers(bed: &Bed) {
    let flags = ["--rm", "-e", "GIVEN", "-e", "MISSING_7F3A", "-e", "EMPTY", "-e", "GIVEN=no", "-e", "GIVEN"];
    let report = bed.run(&flags, &["report"]).env("GIVEN", "a=b c").env("EMPTY", "").json();
    let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(env.contains(&"GIVEN=a=b c") && env.contains(&"EMPTY="), "{env:?}");
    assert!(!env.iter().any(|variable| variable.starts_with("MISSING")), "{env:?}");
}

fn what_has_no_effect_is_said_to_have_none(bed: &Bed) {
    let volume = format!("{}:/data:Z,ro", text(&bed.work()));
    let output = bed.run(&["--rm", "-v", &volume], &["exit", "7"]).output();
    assert_eq!(output.code(), 7, "{output}");
    assert_eq!(output.stderr, "squall: warning: --volume[0]: 'Z' has no effect here\n");
}

fn no_limit_is_asked_for_as_in_podman(bed: &Bed) {
    for flags in [["--memory", "0"], ["--pids-limit", "-1"], ["--pids-limit", "0"], ["--cpus", "0"]] {
        let planned = bed.squall(&["plan", "--json", "--layer", bed.probe()]).args(flags).args(["/bin/probe"]).json();
        let limits = &planned["oci"]["linux"]["resources"];
        for limit in ["memory", "pids", "cpu"] {
            assert!(limits[limit].is_null(), "{flags:?}: {limits}");
        }
    }
}

fn a_volume_below_another_is_seen_whatever_their_order(bed: &Bed) {
    let directory = |name: &str| {
        let path = bed.work().join(name);
        fs::create_dir_all(path.join("inner")).unwrap();
        fs::write(path.join("file"), name).unwrap();
        text(&path)
    };
    let (outer, inner) = (directory("outer"), directory("other"));
    let above = ["-v".to_owned(), format!("{outer}:/data")];
    let below = ["--mount".to_owned(), format!("type=bind,src={inner},dst=/data/inner")];
    for order in [[&above, &below], [&below, &above]] {
        let flags: Vec<&str> = ["--rm"].into_iter().chain(order.into_iter().flatten().map(String::as_str)).collect();
        for (path, found) in [("/data/file", "outer"), ("/data/inner/file", "other")] {
            assert_eq!(bed.attempt(&flags, &["read", path])["ok"], *found, "{flags:?} {path}");
        }
    }
}

fn a_path_with_a_colon_is_mounted_by_keys(bed: &Bed) {
    let odd = bed.work().join("a:b");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("file"), "x").unwrap();
    let mount = format!("type=bind,src={},dst=/c:d,readonly", text(&odd));
    let flags = ["--rm", "--user", "0:0", "--mount", &mount];
    assert_eq!(bed.attempt(&flags, &["read", "/c:d/file"])["ok"], "x");
    assert_eq!(bed.attempt(&flags, &["create", "/c:d/new", "x"])["errno"], rustix::io::Errno::ROFS.raw_os_error());
}

/// The mount table's line for a mount point.
fn mount_of(report: &Value, point: &str) -> String {
    let lines = report["mountinfo"].as_array().unwrap().iter().filter_map(Value::as_str);
    let line = lines.into_iter().find(|line| line.split(' ').nth(4) == Some(point));
    line.unwrap_or_else(|| panic!("nothing at {point}: {report}")).to_owned()
}

fn a_tmpfs_is_what_dockers_options_say(bed: &Bed) {
    let docker = "/t:rw,noexec,nosuid,size=65536k,uid=7,gid=8,nr_inodes=4k,mode=0750";
    let report = bed.report(&["--rm", "--tmpfs", docker, "--mount", "type=tmpfs,dst=/r,ro,noatime"]);
    let line = mount_of(&report, "/t");
    for word in ["rw,", "nosuid", "nodev", "noexec", "size=65536k", "uid=7", "gid=8", "nr_inodes=4096", "mode=750"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let line = mount_of(&report, "/r");
    assert!(line.contains(" ro,") && line.contains("noatime") && !line.contains("noexec"), "{line}");
}

fn output_may_go_to_the_null_device(bed: &Bed) {
    // Not where the bed is: file systems in memory are mounted without devices.
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let null = directory.path().join("null");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &null,
        rustix::fs::FileType::CharacterDevice,
        0o666.into(),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    for path in ["/dev/null", &text(&null)] {
        let output = bed.run(&["--rm", "--stdout", path, "--stderr", path], &["say", "to", "both"]).ok();
        assert_eq!((output.text(), output.stderr.as_str()), (String::new(), ""));
    }
}

fn an_id_that_is_no_host_name_gives_one_all_the_same(bed: &Bed) {
    for (id, hostname) in [("job-", "job"), ("a..b_", "a.b")] {
        assert_eq!(bed.report(&["--rm", "--name", id])["hostname"], hostname, "{id}");
    }
}
