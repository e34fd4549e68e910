//! What a caller can get wrong on the command line: told in one line, by the flag's name, before
//! anything is touched.

use std::fs;

use runtime_tests::{Bed, cases, host};

cases![
    every_wrong_flag_is_named_and_nothing_is_touched,
    a_layer_that_is_no_file_is_named,
    an_unknown_flag_or_command_is_an_error_of_its_own,
    an_unknown_option_is_named_with_the_nearest_one_and_is_never_a_file,
    a_name_that_is_not_text_is_said_to_be_none,
    ids_never_lead_out_of_the_run_root,
    a_run_root_of_somebody_else_is_refused,
    without_privilege_it_says_which_one_is_missing,
];

const FLAGS: &[(&[&str], &str)] = &[
    (&["--name", ""], "--name"),
    (&["--name", "a/b"], "--name"),
    (&["--name", ".."], "--name"),
    (&["--name", "a b"], "--name"),
    (&["--name", "ä"], "--name"),
    (&["--memory", "1"], "--memory"),
    (&["--memory", "much"], "--memory"),
    (&["--memory=-1"], "--memory"),
    (&["--memory", "99999999999999999999"], "--memory"),
    (&["--memory-swap", "64m"], "--memory-swap"),
    (&["--memory", "64m", "--memory-swap", "32m"], "--memory-swap"),
    (&["--cpus=-1"], "--cpus"),
    (&["--cpus", "nan"], "--cpus"),
    (&["--cpus", "1e9"], "--cpus"),
    (&["--pids-limit", "99999999999"], "--pids-limit"),
    (&["--pids-limit", "-2"], "--pids-limit"),
    (&["-it", "--detach-keys", "ctrl-A"], "--detach-keys"),
    (&["--cpuset-cpus", "3-1"], "--cpuset-cpus"),
    (&["--cpuset-cpus", "x"], "--cpuset-cpus"),
    (&["--cpuset-cpus", ""], "--cpuset-cpus"),
    (&["--cpuset-mems", "0,,1"], "--cpuset-mems"),
    (&["--timeout", "-1"], "--timeout"),
    (&["--timeout", "soon"], "--timeout"),
    (&["--user", "no-such-user-here"], "--user"),
    (&["--user", "1:2:3"], "--user"),
    (&["--user", "4294967295"], "--user"),
    (&["--user=-1"], "--user"),
    (&["--workdir", "relative"], "--workdir"),
    (&["--workdir", "/a/../b"], "--workdir"),
    (&["--env", "GOOD=1", "--env", "=x"], "--env[1]"),
    (&["--env", ""], "--env[0]"),
    (&["--layer", "\u{1}/../x"], "--layer[1]"),
    (&["--hostname", "a b"], "--hostname"),
    (&["--network", "bridge"], "--network"),
    (&["--volume", "/tmp"], "--volume"),
    (&["--volume", "/tmp:/a", "--volume", "/tmp"], "--volume[1]"),
    (&["--volume", "/tmp:/a", "--tmpfs", "/a"], "--tmpfs[0]: '/a' is where --volume[0] is mounted already"),
    (&["--volume", "/tmp:/a:/b"], "--mount"),
    (&["--volume", "./no/../such:/a"], "--volume[0]"),
    (&["--mount", "type=volume,src=a,dst=/b"], "--mount[0]"),
    (&["--mount", "type=bind,src=/tmp"], "--mount[0]"),
    (&["--tmpfs", "/dev/../x"], "--tmpfs[0]"),
    (&["--tmpfs", "/a", "--volume", "/tmp:/dev/null"], "--volume[0]"),
    (&["--volume", "relative:/data"], "--volume"),
    (&["--volume", "/tmp:data"], "--volume"),
    (&["--volume", "/tmp:/a/../b"], "--volume"),
    (&["--volume", "/tmp:/data:bogus"], "--volume"),
    (&["--volume", "/tmp:/"], "--volume"),
    (&["--tmpfs", "scratch"], "--tmpfs"),
    (&["--tmpfs", "/scratch:size=0"], "--tmpfs"),
    (&["--tmpfs", "/scratch:bogus=1"], "--tmpfs"),
    (&["--writable=lots"], "--writable"),
    (&["--writable=0"], "--writable"),
    (&["--writable=/tmp,size=0"], "--writable"),
    (&["--writable=/tmp,size=much"], "--writable"),
];

fn every_wrong_flag_is_named_and_nothing_is_touched(bed: &Bed) {
    let long_name = "n".repeat(300);
    let long_host = "h".repeat(65);
    let more: [(&[&str], &str); 4] = [
        (&["--name", &long_name], "--name"),
        (&["--hostname", &long_host], "--hostname"),
        (&["--cgroup-parent", "relative"], "--cgroup-parent"),
        (&["--cgroup-parent", "/a/../b"], "--cgroup-parent"),
    ];
    let layer = bed.probe();
    let mut problems = Vec::new();
    for (flags, named) in FLAGS.iter().copied().chain(more) {
        let output =
            bed.squall(&["run", "--layer", layer]).args(flags).args(["--", "/bin/probe", "exit", "0"]).output();
        let right = output.code() == 125 && output.stderr.lines().count() == 1 && output.stderr.contains(named);
        problems.extend((!right).then(|| format!("{flags:?}: {} {}", output.status, output.stderr)));
        if output.code() != 125 {
            // Not to stand in the way of the next one.
            bed.squall(&["rm", "--force"]).args(output.text().lines()).output();
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(!bed.run_root().exists() && host::cgroup_directories(&bed.cgroup()).is_empty());
    let several = bed
        .run(&["--memory", "much", "--cpus", "0.001", "--user", "no-such-user-here", "--name", "a/b"], &["exit", "0"])
        .output();
    assert!(
        ["--memory", "--cpus", "--user", "--name"].iter().all(|flag| several.stderr.contains(flag)),
        "not all are named: {several}"
    );
}

fn a_layer_that_is_no_file_is_named(bed: &Bed) {
    fs::write(bed.work().join("empty"), "").unwrap();
    fs::create_dir(bed.work().join("directory")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bed.work().join("fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let paths = ["missing", "empty", "fifo", "directory", "empty/below"]
        .map(|name| bed.file(name))
        .into_iter()
        .chain(["/dev/null".to_owned(), "/dev/zero".to_owned()]);
    for path in paths {
        for layers in [vec![path.as_str()], vec![bed.probe(), &path]] {
            let output = bed.run_layers(&layers, &[], &["/bin/probe", "exit", "0"]).output();
            assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
            assert!(output.stderr.contains(&path), "{output}");
        }
    }
    assert!(!bed.run_root().exists());
    let none = bed.squall(&["run"]).output();
    assert_eq!(none.code(), 125, "{none}");
}

fn an_unknown_flag_or_command_is_an_error_of_its_own(bed: &Bed) {
    let table: [(&[&str], &str); 8] = [
        (&["--nonsense"], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["run", "--nonsense", "x"], "--nonsense"),
        (&["run", "--spec", "x", "--memory", "64m"], "--memory"),
        (&["reap", "--keep", "-1"], "-1"),
        (&["ps", "extra"], "extra"),
        (&["stop", "--time", "soon", "x"], "--time"),
        (&["kill", "--signal", "NONSENSE", "x"], "--signal"),
    ];
    for (args, named) in table {
        let output = bed.squall(args).output();
        assert!(output.code() == 125 && output.stderr.contains(named), "{output}");
    }
    assert!(!bed.run_root().exists());
    bed.squall(&["--help"]).ok();
    bed.squall(&["run", "--help"]).ok();
    bed.squall(&["--version"]).ok();
}

fn an_unknown_option_is_named_with_the_nearest_one_and_is_never_a_file(bed: &Bed) {
    let image = bed.probe();
    let table: [(&[&str], &str); 7] = [
        (&["run", "--memroy", "64m", image], "unknown option --memroy: did you mean --memory?"),
        (&["run", "--rm", "--privileged", image, "/bin/probe"], "unknown option --privileged"),
        (&["run", "--layer", image, "--netwrok", "host", "--", "/bin/probe"], "did you mean --network?"),
        (&["run", "--layer", image, "-x", "--", "/bin/probe"], "unknown option -x"),
        (&["plan", "--jsno", image], "did you mean --json?"),
        (&["ps", "--al"], "did you mean --all?"),
        (&["stop", "--tiem", "1", "x"], "did you mean --time?"),
    ];
    for (args, said) in table {
        let output = bed.squall(args).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains(said), "{said}: {output}");
    }
    assert!(!bed.run_root().exists());
}

fn a_name_that_is_not_text_is_said_to_be_none(bed: &Bed) {
    use std::os::unix::ffi::OsStrExt;
    let odd = bed.work().join(std::ffi::OsStr::from_bytes(b"b\xff.sqsh"));
    fs::copy(bed.probe(), &odd).unwrap();
    let run = || bed.squall(&["run", "--rm"]);
    let calls = [
        run().args(["--layer".as_ref(), odd.as_os_str()]).args(["--", "/bin/probe", "exit", "0"]),
        run().args([odd.as_os_str()]),
        run().args(["--layer", bed.probe(), "--", "/bin/probe"]).args([odd.as_os_str()]),
    ];
    for call in calls {
        let output = call.output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains("is not UTF-8") && !output.stderr.contains("no layer"), "{output}");
    }
}

fn ids_never_lead_out_of_the_run_root(bed: &Bed) {
    bed.run(&["--rm"], &["exit", "0"]).ok();
    fs::write(bed.work().join("precious"), "x").unwrap();
    for id in ["..", ".", "", "../layers", "../../work", "/", "a/../../..", "x\n"] {
        for command in ["inspect", "wait", "stop", "kill", "rm", "stats"] {
            let output = bed.squall(&[command, id]).output();
            assert_eq!(output.code(), 125, "{command} {id:?}: {output}");
        }
        assert_eq!(bed.squall(&["rm", "--force", id]).output().code(), 125, "{id:?}");
    }
    assert!(bed.work().join("precious").exists() && bed.run_root().join("layers").exists());
}

fn a_run_root_of_somebody_else_is_refused(bed: &Bed) {
    fs::create_dir(bed.run_root()).unwrap();
    std::os::unix::fs::chown(bed.run_root(), Some(4711), Some(4711)).unwrap();
    let run = || bed.run(&["--rm"], &["exit", "0"]).output();
    assert_eq!(run().code(), 125);
    std::os::unix::fs::chown(bed.run_root(), Some(0), Some(0)).unwrap();
    fs::set_permissions(bed.run_root(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let refused = run();
    assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
    fs::remove_dir(bed.run_root()).unwrap();
    std::os::unix::fs::symlink(bed.work(), bed.run_root()).unwrap();
    assert_eq!(run().code(), 125, "a link is not a run root of ours");
    fs::remove_file(bed.run_root()).unwrap();
    assert_eq!(run().code(), 0);
}

fn without_privilege_it_says_which_one_is_missing(bed: &Bed) {
    let caller = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let output = bed.run(&["--rm"], &["exit", "0"]).under(&caller).output();
    assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
    assert!(output.stderr.contains("CAP_SYS_ADMIN") && output.stderr.contains("root"), "{output}");
}
