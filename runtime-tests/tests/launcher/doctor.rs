//! `squall doctor --storm`: a node that is right has nothing to be mended, and each thing that is
//! wrong with one is found, by its name and with what mends it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use runtime_tests::{Bed, Output, cases};
use rustix::mount::{MountFlags, mount_remount};
use serde_json::Value;

use crate::cluster::{ALICE, LAUNCHER, Node, SUPERVISOR};

cases![
    a_node_that_is_right_has_nothing_to_be_mended,
    a_program_that_is_installed_wrongly_is_named_with_the_command_that_mends_it,
    a_configuration_that_cannot_be_used_is_named_and_the_rest_of_the_page_is_there,
    what_the_configuration_names_and_is_not_as_it_has_to_be_is_found,
    somebody_without_privileges_learns_what_can_be_seen,
    a_program_that_others_can_replace_is_not_executed_as_root,
];

const CONFIG: &str = "/etc/storm/worker-launcher.cfg";

fn doctor(node: &Node<'_>, more: &[&str]) -> (Output, Value) {
    let program = node.program().to_str().unwrap();
    let output = node.bed.squall(&[&["doctor", "--json", "--storm", "--launcher", program], more].concat()).output();
    let page = output.json();
    (output, page)
}

/// All findings about a thing.
fn about<'a>(page: &'a Value, area: &str, name: &str) -> Vec<&'a Value> {
    let all = page["findings"].as_array().unwrap().iter();
    all.filter(|one| one["area"] == format!("storm {area}") && one["name"] == name).collect()
}

/// That a thing is in this state, was seen so, and is mended so.
#[track_caller]
fn expect(page: &Value, (area, name): (&str, &str), state: &str, seen: &str, advice: &str) {
    let all = about(page, area, name);
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let is_it = |one: &&&Value| {
        one["state"] == state && text(one, "seen").contains(seen) && text(one, "advice").contains(advice)
    };
    assert!(all.iter().any(|one| is_it(&one)), "{area}, {name}: expected {state}, '{seen}', '{advice}': {all:#?}");
}

/// A configuration that leaves nothing to be said: profiler and all.
fn whole(node: &Node<'_>) -> String {
    let text = node.configuration();
    let profiler = node.local.join("profiler");
    fs::write(&profiler, "#!/bin/sh\n").unwrap();
    text.replace(
        "worker.profiler.script.path=/bin/probe",
        &format!("worker.profiler.script.path={}", profiler.display()),
    )
}

fn a_node_that_is_right_has_nothing_to_be_mended(bed: &Bed) {
    let node = Node::new(bed);
    node.configure(&whole(&node));
    let (output, page) = doctor(&node, &[]);
    let wrong: Vec<&Value> = page["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["area"].as_str().unwrap().starts_with("storm") && one["state"] != "ok")
        .filter(|one| one["name"] != "memory use" && one["name"] != "protected_hardlinks")
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(output.code() < 2, "{output}");
    expect(&page, ("config", "supervisor"), "ok", "user 'sup' (21900) in group 'launch'", "");
    expect(&page, ("program", "owner and mode"), "ok", "root:launch", "");
    expect(&page, ("program", "--checksetup"), "ok", "as sup: Using configuration file /etc/storm", "");
    // The run root that is looked at is the node's.
    let text = page.to_string();
    assert!(text.contains(bed.run_root().to_str().unwrap()), "{text}");
    // Capabilities of the file do as well.
    node.install_with_capabilities(&[0, 1, 3, 4, 5, 6, 7, 8, 21, 27]);
    let (_, page) = doctor(&node, &["--user", "sup", "--config", CONFIG]);
    expect(&page, ("program", "owner and mode"), "ok", "root:launch", "");
    expect(&page, ("program", "--checksetup"), "ok", "as sup", "");
    assert!(about(&page, "program", "capabilities").is_empty());
}

/// A group without members leaves no supervisor to ask as.
fn a_program_that_others_can_replace_is_not_executed_as_root(bed: &Bed) {
    let node = Node::new(bed);
    let text = whole(&node);
    let group = text.lines().find(|line| line.starts_with("storm.worker-launcher.group=")).unwrap();
    node.configure(&text.replace(group, "storm.worker-launcher.group=root"));
    let mark = bed.work().join("executed");
    fs::remove_file(node.program()).unwrap();
    fs::write(node.program(), format!("#!/bin/sh\n: >{}\n", mark.display())).unwrap();
    fs::set_permissions(node.program(), fs::Permissions::from_mode(0o755)).unwrap();
    let (_, page) = doctor(&node, &[]);
    assert!(mark.exists(), "root's own is: {page:#}");
    fs::remove_file(&mark).unwrap();
    chown(node.program(), Some(SUPERVISOR), None).unwrap();
    let (_, page) = doctor(&node, &[]);
    expect(&page, ("program", "--checksetup"), "unknown", "it was not executed as root", "--user NAME");
    assert!(!mark.exists());
}

fn a_program_that_is_installed_wrongly_is_named_with_the_command_that_mends_it(bed: &Bed) {
    let node = Node::new(bed);
    node.configure(&whole(&node));
    let mode = ("program", "owner and mode");
    let mend = format!("chown root:launch '{0}' && chmod 6550 '{0}'", node.program().display());
    for (owner, group, bits, seen, said) in [
        (0, SUPERVISOR, 0o6555, "its group is 21900 instead of 21903", "its group is 21900"),
        (0, LAUNCHER, 0o6555, "others may read, write or execute it", "others may"),
        (0, LAUNCHER, 0o0550, "neither a setuid bit nor capabilities", "neither setuid root"),
        (SUPERVISOR, LAUNCHER, 0o4550, "it belongs to uid 21900", "status 22"),
        (0, 0, 0o4550, "its group is 0 instead of 21903", "Permission denied"),
    ] {
        node.install(owner, group, bits);
        let (output, page) = doctor(&node, &[]);
        assert_eq!(output.code(), 2, "{bits:o}: {output}");
        expect(&page, mode, "missing", seen, &mend);
        expect(&page, ("program", "--checksetup"), "missing", said, "");
    }
    node.install_with_capabilities(&[0, 1, 3, 4, 5, 6, 7, 8, 21]);
    let (_, page) = doctor(&node, &[]);
    expect(&page, ("program", "capabilities"), "missing", "it lacks cap_mknod", "setcap cap_chown,");
    node.install(0, LAUNCHER, 0o6550);

    let above = node.program().parent().unwrap();
    fs::set_permissions(above, fs::Permissions::from_mode(0o775)).unwrap();
    let mend = format!("chmod go-w '{}'", above.display());
    mount_remount(above, MountFlags::NOSUID, "").unwrap();
    let (_, page) = doctor(&node, &[]);
    expect(&page, ("program", "directories above"), "missing", "others can write to it (mode 0775)", &mend);
    expect(&page, ("program", "file system"), "missing", "mounted nosuid", "remount,suid");
    mount_remount(above, MountFlags::empty(), "").unwrap();

    fs::remove_file(node.program()).unwrap();
    let (_, page) = doctor(&node, &[]);
    expect(&page, ("program", "file"), "missing", "No such file", "--launcher FILE");
}

fn a_configuration_that_cannot_be_used_is_named_and_the_rest_of_the_page_is_there(bed: &Bed) {
    let node = Node::new(bed);
    let text = whole(&node);
    let file = ("config", "file");
    node.configure(&(text.clone() + "banned.users\n"));
    let (output, page) = doctor(&node, &[]);
    expect(&page, file, "missing", "there is no '=': 'banned.users'", "mend what is named");
    expect(&page, ("directories", "all"), "unknown", "cannot be used", "");
    assert_eq!(output.code(), 2, "{output}");
    node.configure(&text);

    fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o664)).unwrap();
    let (_, page) = doctor(&node, &[]);
    expect(&page, file, "missing", "others than root can write to it", &format!("chmod go-w '{CONFIG}'"));
    expect(&page, ("program", "--checksetup"), "missing", "status 24", "");
    fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o644)).unwrap();

    chown("/etc/storm", Some(ALICE), None).unwrap();
    let (_, page) = doctor(&node, &[]);
    expect(&page, file, "missing", "'/etc/storm': it belongs to uid 21901", "chown root:root '/etc/storm'");
    chown("/etc/storm", Some(0), None).unwrap();

    node.configure(&text.replace("group=launch", "group=nobodys"));
    let (_, page) = doctor(&node, &[]);
    expect(&page, ("config", "group"), "missing", "there is no group 'nobodys'", "groupadd");
    expect(&page, ("config", "supervisor"), "limited", "none was named", "--user USER");
    node.configure(&text);

    // Another file than the one that the program reads.
    fs::copy(CONFIG, "/etc/storm/new.cfg").unwrap();
    let (_, page) = doctor(&node, &["--config", "/etc/storm/new.cfg"]);
    expect(
        &page,
        ("program", "--checksetup"),
        "limited",
        "what is examined here is /etc/storm/new.cfg",
        "put it there",
    );

    for (user, state, seen, advice) in [
        ("alice", "missing", "user 'alice' is not in group 'launch'", "usermod -aG launch alice"),
        ("nobodys", "missing", "user 'nobodys'", "useradd"),
        ("root", "limited", "'root' is root", "run them as storm"),
    ] {
        let (_, page) = doctor(&node, &["--user", user]);
        expect(&page, ("config", "supervisor"), state, seen, advice);
    }

    fs::remove_file(CONFIG).unwrap();
    let (_, page) = doctor(&node, &[]);
    expect(&page, file, "missing", "No such file", "worker-launcher.cfg");
}

fn what_the_configuration_names_and_is_not_as_it_has_to_be_is_found(bed: &Bed) {
    let node = Node::new(bed);
    let local = node.local.display();
    let docker = node.local.join("docker");
    fs::copy("/bin/true", &docker).unwrap();
    chown(&docker, Some(ALICE), None).unwrap();
    let closed = node.local.join("closed");
    fs::create_dir_all(closed.join("images")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o750)).unwrap();
    let written = node.local.join("written");
    fs::create_dir(&written).unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o777)).unwrap();
    let filter = Path::new("/etc/storm/filter.json");
    fs::write(filter, r#"{"defaultAction":"SCMP_ACT_NONE"}"#).unwrap();
    node.configure(&format!(
        "storm.worker-launcher.group=launch\n\
         min.user.id=many\n\
         worker.launcher.oci.run-root={}\n\
         worker.launcher.oci.image.roots={local}/images,{local}/none,{local}/closed/images,{local}/written,{}\n\
         worker.launcher.oci.allowed.mount.source.dirs=/etc/hosts,{local}/lost\n\
         worker.launcher.oci.seccomp.default={}\n\
         worker.launcher.oci.apparmor.profile=squall-no-such-profile\n\
         worker.launcher.oci.pids.limit=lots\n\
         worker.launcher.oci.allowed.mount.dirs=/etc\n\
         storm.worker-launcher.group=other\n\
         worker.launcher.docker.binary={}\n",
        bed.run_root().display(),
        docker.display(),
        filter.display(),
        docker.display(),
    ));
    let (output, page) = doctor(&node, &[]);
    assert_eq!(output.code(), 2, "{output}");
    let root = ("directories", "image root");
    expect(&page, root, "ok", "/images: users can search it", "");
    expect(&page, root, "missing", "/none: No such file", "mkdir -p");
    expect(&page, root, "missing", "/closed': users may not search it", &format!("chmod o+x '{}'", closed.display()));
    expect(&page, root, "missing", "/written': others can write to it (mode 0777)", "chmod go-w");
    expect(&page, root, "missing", "/docker: it is no directory", "worker.launcher.oci.image.roots");
    expect(&page, ("directories", "mount sources"), "limited", "/lost' (No such file", "take them out");
    let value = ("config", "value");
    expect(&page, value, "missing", "worker.launcher.oci.seccomp.default", "mend the value");
    expect(&page, value, "missing", "worker.launcher.oci.pids.limit: 'lots' is no whole number", "mend the value");
    expect(&page, ("config", "users"), "missing", "min.user.id", "min.user.id=1000");
    expect(&page, ("config", "key"), "limited", "no key 'worker.launcher.oci.allowed.mount.dirs'", "correct its name");
    expect(
        &page,
        ("config", "key"),
        "limited",
        "storm.worker-launcher.group is there more than once",
        "the first holds",
    );
    expect(&page, ("workers", "AppArmor"), "missing", "'squall-no-such-profile'", "take the key out");
    expect(&page, ("workers", "profiler"), "limited", "none is configured", "worker.profiler.script.path=");
    expect(&page, ("workers", "docker"), "missing", "/docker': it belongs to uid 21901", "chown root:root");

    node.configure(&(node.configuration() + "worker.launcher.oci.seccomp.default=unconfined\n"));
    let (_, page) = doctor(&node, &[]);
    expect(&page, ("workers", "filter"), "limited", "any system call", "the default profile holds then");
    expect(&page, ("workers", "profiler"), "limited", "/bin/probe: No such file", "unless images have it");
    expect(&page, ("workers", "docker"), "ok", "not configured", "");
}

fn somebody_without_privileges_learns_what_can_be_seen(bed: &Bed) {
    let node = Node::new(bed);
    let program = node.program().to_str().unwrap();
    let call = bed.squall(&["doctor", "--json", "--storm", "--launcher", program]);
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let page = call.under(&nobody).output().json();
    expect(&page, ("program", "owner and mode"), "ok", "root:launch", "");
    expect(&page, ("program", "--checksetup"), "unknown", "Permission denied", "run this as root");
    let refused = bed.squall(&["doctor", "--user", "sup"]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("--storm"), "{refused}");
}
