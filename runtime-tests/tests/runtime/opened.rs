//! Specs whose files on the host were opened before the launch, as a user: what that user may have
//! opened, the worker gets.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use runtime_tests::bed::text;
use runtime_tests::{Bed, cases};
use squall::OpenedSpec;
use squall::request::{AbsolutePath, Identity, RootMode};

use crate::attacks::opened::{USER, directory, libraries, said, spec, user};

cases![
    what_is_opened_as_the_user_is_what_the_worker_gets,
    a_supplementary_group_opens_what_is_the_groups,
    root_opens_for_itself_and_its_pid_file_is_its_own,
    a_bind_says_where_its_source_lies_and_a_directory_holds_whole_components,
    hundreds_of_files_reach_the_launch_process_through_the_spawner,
];

fn what_is_opened_as_the_user_is_what_the_worker_gets(bed: &Bed) {
    for (name, squall) in libraries(bed) {
        let home = directory(bed.file(name), USER.0, USER.1, 0o700);
        let [pids, above] = ["pids", "above"].map(|part| directory(home.join(part), USER.0, USER.1, 0o700));
        fs::write(home.join("file"), "a file").unwrap();
        let builder = spec(bed, name, &["try", "read", "/etc/one"]).bind(&text(&home.join("file")), "/etc/one", &[]);
        let builder = builder.tmpfs("/tmp", None, 0o1777).bind(&text(&home), "/home", &["ro"]);
        let builder = builder.root(RootMode::Directory(AbsolutePath::new(&above).unwrap().into()));
        let spec = builder.pid_file(pids.join("pid")).build().unwrap();
        let opened = OpenedSpec::open_as(&spec, &user()).unwrap();
        assert_eq!((opened.spec(), opened.user(), opened.layers().len()), (&spec, &user(), 1));
        assert_eq!(opened.pid_file_directory().unwrap().path().as_path(), pids);
        assert_eq!(opened.writable_directory().unwrap().resolved().as_path(), above);
        let kinds: Vec<_> = opened.binds().map(|(index, bind)| (index, bind.is_directory())).collect();
        assert_eq!(kinds, [(0, false), (2, true)]);
        assert!(said(bed, &squall, opened).contains("a file"), "{name}");
        let pid_file = fs::metadata(pids.join("pid")).unwrap();
        assert_eq!((pid_file.uid(), pid_file.mode() & 0o7777), (USER.0, 0o644));
    }
}

fn a_supplementary_group_opens_what_is_the_groups(bed: &Bed) {
    let closed = directory(bed.file("closed"), 0, USER.2, 0o750);
    fs::write(closed.join("file"), "the group's").unwrap();
    let pids = directory(bed.file("pids"), 0, USER.2, 0o770);
    for (name, squall) in libraries(bed) {
        let builder = spec(bed, name, &["try", "read", "/mnt"]).bind(&text(&closed.join("file")), "/mnt", &[]);
        let spec = builder.pid_file(pids.join("pid")).build().unwrap();
        let without = Identity::new(USER.0, USER.1, []).unwrap();
        let error = OpenedSpec::open_as(&spec, &without).unwrap_err();
        let fields: Vec<&str> = error.problems().iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["mounts[0].source", "pid_file"], "{error}");
        assert!(said(bed, &squall, OpenedSpec::open_as(&spec, &user()).unwrap()).contains("the group's"), "{name}");
    }
}

fn root_opens_for_itself_and_its_pid_file_is_its_own(bed: &Bed) {
    let closed = directory(bed.file("closed"), 0, 0, 0o700);
    fs::write(closed.join("file"), "root's").unwrap();
    for (name, squall) in libraries(bed) {
        let builder = spec(bed, name, &["try", "read", "/mnt"]).bind(&text(&closed.join("file")), "/mnt", &[]);
        let spec = builder.pid_file(closed.join("pid")).build().unwrap();
        let root = Identity::new(0, 0, []).unwrap();
        for opened in [OpenedSpec::open(&spec), OpenedSpec::open_as(&spec, &root)] {
            assert!(said(bed, &squall, opened.unwrap()).contains("root's"), "{name}");
            assert_eq!(fs::metadata(closed.join("pid")).unwrap().uid(), 0);
            fs::remove_file(closed.join("pid")).unwrap();
        }
    }
}

fn a_bind_says_where_its_source_lies_and_a_directory_holds_whole_components(bed: &Bed) {
    let shared = directory(bed.file("shared"), 0, 0, 0o755);
    directory(bed.file("shared-not"), 0, 0, 0o755);
    directory(shared.join("deep"), 0, 0, 0o755);
    symlink(shared.join("deep"), bed.file("link")).unwrap();
    symlink(&shared, bed.file("allowed")).unwrap();
    let sources = ["link", "shared", "shared-not"].map(|name| bed.file(name));
    let builder = sources.iter().enumerate().fold(spec(bed, "opened", &["exit", "0"]), |builder, (index, source)| {
        builder.bind(source, &format!("/mnt/{index}"), &[])
    });
    let opened = OpenedSpec::open_as(&builder.build().unwrap(), &user()).unwrap();
    let allowed = [AbsolutePath::new("/nonexistent/../".trim_end_matches("../")).unwrap()];
    assert!(opened.binds().next().unwrap().1.lies_within(&allowed).is_err(), "an allowed directory that is missing");
    let allowed = [AbsolutePath::new(bed.file("allowed")).unwrap()];
    let seen: Vec<_> = opened
        .binds()
        .map(|(_, bind)| {
            (bind.path().as_str(), bind.resolved().as_path().to_owned(), bind.lies_within(&allowed).unwrap())
        })
        .collect();
    let [link, whole, not] = sources.each_ref().map(String::as_str);
    let expected =
        [(link, shared.join("deep"), true), (whole, shared.clone(), true), (not, bed.work().join("shared-not"), false)];
    assert_eq!(seen, expected);
}

/// More than one message of the socket holds.
fn hundreds_of_files_reach_the_launch_process_through_the_spawner(bed: &Bed) {
    const BINDS: usize = 240;
    let layers: Vec<String> = (0..20)
        .map(|index| {
            bed.image(&format!("layer-{index}"), |writer| {
                let attributes = squall::squashfs::Attributes::new(0o644);
                writer.file(format!("etc/{index}"), &attributes, b"x".as_slice()).unwrap();
            })
        })
        .collect();
    let file = |index: usize| bed.file(&format!("file-{index}"));
    (0..BINDS).for_each(|index| fs::write(file(index), format!("file {index}.")).unwrap());
    for (name, squall) in libraries(bed) {
        for look in [0, 198, BINDS - 1] {
            let all = layers.iter().map(String::as_str).chain([bed.probe()]);
            let builder = spec(bed, name, &["try", "read", &format!("/mnt/{look}")]).layers(all);
            let builder =
                (0..BINDS).fold(builder, |builder, index| builder.bind(&file(index), &format!("/mnt/{index}"), &[]));
            let opened = OpenedSpec::open_as(&builder.build().unwrap(), &user()).unwrap();
            assert!(said(bed, &squall, opened).contains(&format!("file {look}.")), "{name}: {look}");
        }
    }
}
