//! Who may have written the configuration, how the program has to be installed, and for whom it
//! acts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use runtime_tests::{Bed, cases};

use crate::cluster::{LAUNCHER, Node, SUPERVISOR};

cases![
    the_set_up_is_right_and_says_which_file_it_uses,
    a_program_with_another_owner_group_or_mode_does_nothing,
    a_configuration_that_somebody_else_could_have_written_is_refused,
    a_configuration_that_is_not_whole_is_refused_with_its_line,
    users_that_the_rules_leave_out_are_refused,
    arguments_that_are_too_few_too_many_or_unknown_have_codes_of_their_own,
];

const CHECK: &[&str] = &["--checksetup"];

fn the_set_up_is_right_and_says_which_file_it_uses(bed: &Bed) {
    let node = Node::new(bed);
    let said = String::from_utf8(node.launcher(CHECK).ok().stdout).unwrap();
    assert_eq!(said, "Using configuration file /etc/storm/worker-launcher.cfg \n");
    fs::rename("/etc/storm/worker-launcher.cfg", "/etc/storm/real.cfg").unwrap();
    symlink("real.cfg", "/etc/storm/worker-launcher.cfg").unwrap();
    assert!(node.launcher(CHECK).ok().text().ends_with("/etc/storm/real.cfg"));
}

fn a_program_with_another_owner_group_or_mode_does_nothing(bed: &Bed) {
    let node = Node::new(bed);
    for (owner, group, mode, problem) in [
        (0, SUPERVISOR, 0o6550, "its group is 21900"),
        (0, LAUNCHER, 0o4555, "others may"),
        (0, LAUNCHER, 0o4551, "others may"),
        (0, LAUNCHER, 0o0550, "neither setuid root"),
    ] {
        node.install(owner, group, mode);
        // Somebody who may execute it, whatever its group.
        let output = node.launcher(CHECK).output();
        assert_eq!(output.code(), 22, "{mode:o}: {output}");
        assert!(output.to_string().contains(problem), "{mode:o}: {output}");
    }
    node.install(0, LAUNCHER, 0o4750);
    node.launcher(CHECK).ok();
}

fn a_configuration_that_somebody_else_could_have_written_is_refused(bed: &Bed) {
    let node = Node::new(bed);
    let path = "/etc/storm/worker-launcher.cfg";
    let refused = |what: &str| {
        let output = node.launcher(CHECK).output();
        assert!(output.code() == 24 && output.stderr.contains(what), "{output}");
    };
    for (mode, file) in [(0o664, path), (0o646, path), (0o775, "/etc/storm")] {
        let before = fs::metadata(file).unwrap().permissions();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        refused("others than root can write to it");
        fs::set_permissions(file, before).unwrap();
    }
    for file in [path, "/etc/storm"] {
        chown(file, Some(SUPERVISOR), None).unwrap();
        refused("belongs to uid 21900 instead of root");
        chown(file, Some(0), None).unwrap();
    }
    node.launcher(CHECK).ok();
    fs::remove_file(path).unwrap();
    refused("No such file");
    fs::create_dir(path).unwrap();
    refused("no regular file");
}

fn a_configuration_that_is_not_whole_is_refused_with_its_line(bed: &Bed) {
    let node = Node::new(bed);
    for (text, problem) in [
        ("", "storm.worker-launcher.group: it is missing"),
        ("storm.worker-launcher.group=nobodys\n", "there is no group 'nobodys'"),
        ("storm.worker-launcher.group=launch\nbanned.users\n", "line 2: there is no '='"),
    ] {
        node.configure(text);
        let output = node.launcher(CHECK).output();
        assert!(output.code() == 24 && output.stderr.contains(problem), "{output}");
    }
    node.configure("\u{feff}# by hand\r\n  storm.worker-launcher.group = launch \r\n\r\n");
    node.launcher(CHECK).ok();
}

fn users_that_the_rules_leave_out_are_refused(bed: &Bed) {
    let node = Node::new(bed);
    let refused = |user: &str, why: &str| {
        let output = node.launcher(&[user, "signal", "1", "0"]).output();
        assert!(output.code() == 255 && output.text().contains(why), "{output}");
    };
    refused("root", "no command is run for root");
    refused("daemon", "the smallest allowed is 1000");
    refused("nobodys", "nobodys");
    refused("--checksetup", "refused");
    node.configure(&(node.configuration() + "banned.users = bob, alice\n"));
    refused("alice", "banned");
    node.configure(&(node.configuration() + "min.user.id=21902\n"));
    refused("alice", "the smallest allowed is 21902");
    node.configure(&(node.configuration() + "min.user.id=a lot\n"));
    refused("alice", "min.user.id");
}

fn arguments_that_are_too_few_too_many_or_unknown_have_codes_of_their_own(bed: &Bed) {
    let node = Node::new(bed);
    for few in [&[][..], &["alice"]] {
        let output = node.launcher(few).output();
        assert!(output.code() == 1 && output.text().starts_with("Usage: worker-launcher"), "{output}");
    }
    let output = node.launcher(&["alice", "no-such", "x"]).output();
    assert_eq!(output.text(), "main : command provided no-such\nmain : user is alice");
    assert_eq!(output.code(), 3);
    for (command, arguments) in [
        ("code-dir", 1),
        ("BLOB", 1),
        ("artifacts-dir", 1),
        ("rmr", 1),
        ("worker", 2),
        ("profiler", 2),
        ("Signal", 2),
        ("run-oci-container", 3),
        ("reap-oci-container", 2),
        ("profile-oci-container", 2),
        ("launch-docker-container", 2),
        ("run-docker-cmd", 2),
        ("profile-docker-container", 2),
    ] {
        for wrong in [arguments - 1, arguments + 1] {
            let given = vec!["/nowhere"; wrong];
            let output = node.launcher(&[&["alice", command], given.as_slice()].concat()).output();
            assert_eq!(output.code(), 1, "{output}");
            let expected =
                format!("{} arguments with program, user and command: expected {}", wrong + 3, arguments + 3);
            assert!(output.stderr.contains(&expected), "{output}");
        }
    }
}
