//! Workers of images.

use std::fs;

use runtime_tests::{Bed, cases, host, until};
use serde_json::{Value, json};

use crate::place::Place;

cases![
    a_worker_is_what_its_images_config_says,
    flags_come_before_the_images_config,
    a_user_is_found_in_the_images_own_files,
    links_in_an_image_lead_nowhere_else,
    the_images_signal_stops_it,
    an_image_is_never_pulled_where_that_is_said,
    wrong_flags_are_said_before_an_image_is_pulled,
    a_plan_pulls_nothing_and_needs_no_privilege,
];

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

fn a_worker_is_what_its_images_config_says(bed: &Bed) {
    let place = Place::new(bed);
    let config = bed.file("config.json");
    let text = json!({
        "User": "app", "Env": ["A=1", "B=2"], "Entrypoint": ["/bin/probe"], "Cmd": ["report"], "WorkingDir": "/srv",
        "Volumes": { "/data": {} }, "ExposedPorts": { "80/tcp": {} }, "Healthcheck": { "Test": ["NONE"] },
    });
    fs::write(&config, text.to_string()).unwrap();
    place.build(&place.tree("a"), "example/app:1", &["--config", &config]);
    let said = place.run(&["--rm"], &["app:1"]).ok();
    let report = said.json();
    assert_eq!(report["status"]["Uid"], "1234\t1234\t1234\t1234");
    assert_eq!(report["status"]["Gid"], "1235\t1235\t1235\t1235");
    assert_eq!(report["status"]["Groups"], "44 50 1235");
    assert_eq!(report["cwd"], "/srv");
    let env = strings(&report["env"]);
    for variable in ["A=1", "B=2", "HOME=/srv"] {
        assert!(env.contains(&variable), "{variable}: {env:?}");
    }
    let mounts = strings(&report["mountinfo"]);
    assert!(mounts.iter().any(|line| line.contains(" /data ") && line.contains("- tmpfs ")), "{mounts:?}");
    for says in ["ports (80/tcp) are not published", "health check is not run"] {
        assert!(said.stderr.contains(says), "{said}");
    }
}

fn flags_come_before_the_images_config(bed: &Bed) {
    let place = Place::new(bed);
    place.build(
        &place.tree("a"),
        "app",
        &["--entrypoint", "/bin/none", "--cmd", "none", "--env", "A=1", "--user", "app", "--workdir", "/srv"],
    );
    let file = bed.file("variables");
    fs::write(&file, "# a comment\n\nB=of the file\nA=of the file\n").unwrap();
    let flags =
        ["--rm", "--entrypoint", "/bin/probe", "-u", "7:8", "-w", "/etc", "--env-file", &file, "-e", "A=of the flag"];
    let report = place.run(&flags, &["app", "--", "report"]).json();
    assert_eq!((&report["status"]["Uid"], &report["cwd"]), (&json!("7\t7\t7\t7"), &json!("/etc")));
    let env = strings(&report["env"]);
    assert!(env.contains(&"A=of the flag") && env.contains(&"B=of the file"), "{env:?}");
    let words = place.run(&["--rm", "--entrypoint", r#"["/bin/probe", "report"]"#], &["app"]).json();
    assert_eq!(words["args"], json!(["/bin/probe", "report"]), "another entry point has no command of the image's");
    let auto = place.run(&["--rm", "-u", "auto", "--entrypoint", "/bin/probe"], &["app", "report"]).json();
    assert_ne!(auto["status"]["Uid"].as_str().unwrap().split('\t').next(), Some("1234"));
}

fn a_user_is_found_in_the_images_own_files(bed: &Bed) {
    let place = Place::new(bed);
    place.build(&place.tree("a"), "app", &["--entrypoint", "/bin/probe"]);
    for (user, uid, gid, groups) in [
        ("app", 1234, 1235, "44 50 1235"),
        ("1234", 1234, 1235, "44 50 1235"),
        ("app:staff", 1234, 50, "50"),
        ("99", 99, 0, "0"),
        ("99:video", 99, 44, "44"),
        ("root", 0, 0, "0"),
    ] {
        let status = &place.run(&["--rm", "-u", user], &["app", "report"]).json()["status"];
        let four = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
        assert_eq!((status["Uid"].as_str(), status["Gid"].as_str()), (Some(&*four(uid)), Some(&*four(gid))), "{user}");
        assert_eq!(status["Groups"], groups, "{user}");
    }
    for (user, says) in [("daemon", "no user \"daemon\""), ("app:none", "no group \"none\"")] {
        let said = place.run(&["--rm", "-u", user], &["app", "report"]).output();
        assert_eq!(said.code(), 125, "{user}");
        assert!(said.stderr.contains(says), "{user}: {said}");
    }
    // By a file's layer alone the user is the host's, as ever.
    assert_eq!(bed.run(&["--rm", "-u", "daemon"], &["report"]).json()["status"]["Uid"], "1\t1\t1\t1");
}

/// `/etc/passwd` of the image is a link to a file of the host's, or leads up out of it: what is read
/// is what the worker would see there.
fn links_in_an_image_lead_nowhere_else(bed: &Bed) {
    let place = Place::new(bed);
    let secret = bed.file("secret");
    fs::write(&secret, "app:x:0:0::/:\n").unwrap();
    for (number, target) in
        [&*secret, "../../../../../../../../etc/passwd", "/proc/self/root/etc/passwd"].iter().enumerate()
    {
        let tree = place.tree(&format!("tree-{number}"));
        fs::remove_file(format!("{tree}/etc/passwd")).unwrap();
        std::os::unix::fs::symlink(target, format!("{tree}/etc/passwd")).unwrap();
        place.build(&tree, "evil", &["--entrypoint", "/bin/probe", "--user", "app"]);
        let said = place.run(&["--rm"], &["evil", "report"]).output();
        assert_eq!(said.code(), 125, "{target}: {said}");
        assert!(said.stderr.contains("no user \"app\""), "{target}: {said}");
    }
    // A link inside it is followed.
    let tree = place.tree("inside");
    fs::rename(format!("{tree}/etc/passwd"), format!("{tree}/srv/users")).unwrap();
    std::os::unix::fs::symlink("/srv/users", format!("{tree}/etc/passwd")).unwrap();
    place.build(&tree, "inside", &["--entrypoint", "/bin/probe", "--user", "app"]);
    assert_eq!(place.run(&["--rm"], &["inside", "report"]).json()["status"]["Uid"], "1234\t1234\t1234\t1234");
}

fn the_images_signal_stops_it(bed: &Bed) {
    let place = Place::new(bed);
    place.build(&place.tree("a"), "app", &["--entrypoint", "/bin/probe", "--stop-signal", "SIGQUIT"]);
    for (flags, stop, code) in
        [(&[][..], &[][..], 3), (&["--stop-signal", "HUP"], &[], 1), (&[], &["--signal", "INT"], 2)]
    {
        let id = place.run(&[&["-d"], flags].concat(), &["app", "exit-on-signal", "600000"]).ok().text();
        let worker = bed.worker(&id);
        until("it catches signals", || host::catches(worker.pid(), 15).then_some(()));
        bed.squall(&[&["stop", "-t", "20"], stop, &[&*id]].concat()).ok();
        assert_eq!(worker.wait(), code, "{flags:?} {stop:?}");
    }
}

fn an_image_is_never_pulled_where_that_is_said(bed: &Bed) {
    let place = Place::new(bed);
    place.image(&["bootstrap"]).ok();
    let said = place.run(&["--pull", "never"], &["localhost:1/none:1"]).output();
    assert_eq!(said.code(), 125, "{said}");
    assert!(said.stderr.contains("no image of this name"), "{said}");
    let said = place.run(&[], &["localhost:1/none:1"]).output();
    assert_eq!(said.code(), 125, "{said}");
    assert!(said.stderr.contains("localhost:1/none:1"), "{said}");
}

fn a_plan_pulls_nothing_and_needs_no_privilege(bed: &Bed) {
    let place = Place::new(bed);
    let plan = |words: &[&str]| bed.squall(&["plan", "--json", "--store"]).args([&place.store]).args(words);
    let said = plan(&["localhost:1/none:1"]).output();
    assert!(said.code() == 125 && said.stderr.contains("no image store"), "{said}");
    place.build(&place.tree("a"), "app", &["--entrypoint", "/bin/probe", "--user", "app"]);
    let said = plan(&["localhost:1/none:1"]).output();
    assert!(said.code() == 125 && said.stderr.contains("no image of this name"), "{said}");
    assert_eq!(plan(&["app"]).ok().json()["user"]["uid"], 1234);
    let nobody = plan(&["app"]).under(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]).ok();
    assert!(nobody.stderr.contains("the image's user 'app' is found at the launch"), "{nobody}");
}

fn wrong_flags_are_said_before_an_image_is_pulled(bed: &Bed) {
    let place = Place::new(bed);
    let said = place.run(&["--memory", "much"], &["localhost:1/none:1"]).output();
    assert_eq!(said.code(), 125, "{said}");
    assert!(said.stderr.contains("--memory") && !said.stderr.contains("pull"), "{said}");
    assert!(!place.store.exists());
}
