//! Layers made by somebody who means harm.

use std::fs;

use runtime_tests::bed::{ImageWriter, add_probe};
use runtime_tests::{Bed, cases};
use squall::squashfs::{Attributes, DeviceKind};

cases![
    device_nodes_setuid_files_and_capabilities_in_a_layer_give_nothing,
    links_in_place_of_system_directories_stay_inside_or_are_refused,
    a_program_that_is_a_link_to_itself_is_nothing_of_the_hosts,
    a_worker_that_is_root_gets_no_user_namespace,
    a_link_does_not_lead_a_bind_onto_system_directories,
    links_on_the_way_of_a_bind_stay_inside,
    overlay_attributes_of_a_layer_redirect_nowhere,
    whiteouts_hide_what_is_below,
    a_user_database_that_is_none_tells_nothing_and_holds_nothing_up,
    control_characters_in_names_do_not_reach_the_terminal,
    five_hundred_layers_are_one_root,
    the_same_layer_twice_is_as_good_as_once,
    a_hundred_thousand_entries_cost_a_launch_nothing,
    a_file_that_is_no_image_is_refused_and_named,
];

/// `VFS_CAP_REVISION_2` with every capability permitted and effective.
const ALL_CAPABILITIES: [u8; 20] = [1, 0, 0, 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 255, 1, 0, 0];

fn with_xattr(mode: u32, name: &str, value: &[u8]) -> Attributes {
    Attributes { xattrs: vec![(name.as_bytes().to_vec(), value.to_vec())], ..Attributes::new(mode) }
}

fn device_nodes_setuid_files_and_capabilities_in_a_layer_give_nothing(bed: &Bed) {
    let layer = bed.image("hostile", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        add_probe(writer, "bin/setuid", 0o6755);
        let capable = with_xattr(0o755, "security.capability", &ALL_CAPABILITIES);
        writer.file("bin/capable", &capable, squall_cli::demo::PROBE).unwrap();
        let disk = rustix::fs::stat("/").unwrap().st_dev;
        let open = Attributes::new(0o666);
        writer.device("disk", &open, DeviceKind::Block, rustix::fs::major(disk), rustix::fs::minor(disk)).unwrap();
        writer.device("kmsg", &open, DeviceKind::Character, 1, 11).unwrap();
        writer.device("null", &open, DeviceKind::Character, 1, 3).unwrap();
    });
    let run = |flags: &[&str], argv: &[&str]| bed.run_layers(&[&layer], &[&["--rm"], flags].concat(), argv).json();
    for user in ["65534:65534", "0:0"] {
        for device in ["/disk", "/kmsg", "/null"] {
            let answer = run(&["--user", user], &["/bin/probe", "try", "read", device]);
            assert_eq!(answer["errno"], libc::EACCES, "{device} as {user}: {answer}");
        }
    }
    for program in ["/bin/setuid", "/bin/capable"] {
        for argv in [&[program, "report"][..], &["/bin/probe", "try", "run", program, "report"]] {
            let answer = run(&["--user", "4711:4711"], argv);
            let report = match answer["ok"].as_str() {
                Some(text) => serde_json::from_str(text).unwrap(),
                None => answer,
            };
            assert_eq!(report["status"]["Uid"], "4711\t4711\t4711\t4711", "{argv:?}");
            assert_eq!(report["status"]["CapEff"], "0000000000000000", "{argv:?}");
        }
    }
}

fn links_in_place_of_system_directories_stay_inside_or_are_refused(bed: &Bed) {
    let victim = bed.file("victim");
    fs::create_dir(&victim).unwrap();
    let targets =
        ["/elsewhere", "../../../elsewhere", "/", ".", "..", "loop", victim.as_str(), "/proc/1/root", "missing/deep"];
    let mut problems = Vec::new();
    for place in ["proc", "dev", "sys", "tmp", "run", "dev/shm", "sys/fs/cgroup", "dev/pts", "var/tmp", "var"] {
        for (index, target) in targets.iter().enumerate() {
            let target = if *target == "loop" { place.rsplit('/').next().unwrap_or(place) } else { target };
            let layer = bed.image(&format!("{}-{index}", place.replace('/', "-")), |writer| {
                add_probe(writer, "bin/probe", 0o755);
                writer.symlink(place, &Attributes::new(0o777), target).unwrap();
            });
            let output = bed.run_layers(&[&layer], &["--rm"], &["/bin/probe", "exit", "3"]).output();
            let refused = output.code() == 125 && output.stderr.lines().count() == 1;
            let named = output.stderr.contains(&format!("'/{}", place.split('/').next().unwrap_or(place)));
            let must_be_refused = ["proc", "dev", "sys"].contains(&place);
            let right = if must_be_refused { refused && named } else { (refused && named) || output.code() == 3 };
            problems.extend(
                (!right).then(|| format!("{place} -> {target}: {} {}", output.status, output.stderr.trim_end())),
            );
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

/// The program that launched is the host's, and its owner, its group (0775, as an installation with
/// umask 002 has it) or somebody whom a list names may write to it: an image whose program is a
/// link to `/proc/self/exe`, and which brings a dynamic loader of its own, must not get hold of it,
/// whether by itself or as an interpreter, whoever the worker is.
fn a_program_that_is_a_link_to_itself_is_nothing_of_the_hosts(bed: &Bed) {
    let layer = bed.image("self", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.file("lib64/ld-linux-x86-64.so.2", &Attributes::new(0o755), &loader()[..]).unwrap();
        writer.symlink("bin/link", &Attributes::new(0o777), "/proc/self/exe").unwrap();
        writer.file("bin/script", &Attributes::new(0o755), &b"#!/proc/self/exe\n"[..]).unwrap();
    });
    for user in ["0:0", "4711:4712", "65534:65534"] {
        for program in ["/bin/link", "/bin/script"] {
            // The host's program would answer this with its version; the image's loader, run in its
            // place, says that it was.
            let output = bed.run_layers(&[&layer], &["--rm", "--user", user], &[program, "--version"]).output();
            assert_ne!(output.code(), 0, "{program} as {user}: {output}");
            assert!(output.stdout.is_empty(), "{program} as {user}: {output}");
        }
    }
}

/// A program for x86_64 that says "taken" and ends, without any library: what an attacker has in
/// the place of the dynamic loader. Elsewhere the name is not the loader's.
fn loader() -> Vec<u8> {
    const CODE: [u8; 33] = [
        0xb8, 1, 0, 0, 0, // mov $1, %eax: write
        0xbf, 1, 0, 0, 0, // mov $1, %edi
        0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea 16(%rip), %rsi: behind the code
        0xba, 6, 0, 0, 0, // mov $6, %edx
        0x0f, 0x05, // syscall
        0xb8, 231, 0, 0, 0, // mov $231, %eax: exit_group
        0x31, 0xff, // xor %edi, %edi
        0x0f, 0x05, // syscall
    ];
    const HEADERS: u64 = 64 + 56;
    let length = HEADERS + CODE.len() as u64 + 6;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Elf64_Ehdr: a shared object for x86_64, its entry behind the headers, one program header.
    for half in [3_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // Elf64_Phdr: the whole file, readable and executable.
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes());
    }
    for word in [0, 0, 0, length, length, 4096] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file.extend(b"taken\n");
    file
}

/// A user namespace would give root its capabilities back, and with them the host's cgroups to
/// mount.
fn a_worker_that_is_root_gets_no_user_namespace(bed: &Bed) {
    const NEWUSER: &str = "268435456";
    let layer = bed.image("base", |writer| add_probe(writer, "bin/probe", 0o755));
    let argv = ["/bin/probe", "try", "unshare", "none", NEWUSER];
    let answer = bed.run_layers(&[&layer], &["--rm", "--user", "0:0"], &argv).output().json();
    assert_eq!(answer["errno"], libc::EPERM, "{answer}");
}

/// What libcontainer makes in /dev afterwards would be made in the caller's directory.
fn a_link_does_not_lead_a_bind_onto_system_directories(bed: &Bed) {
    let shared = bed.file("shared");
    fs::create_dir(&shared).unwrap();
    for target in ["/dev", "/proc", "/sys"] {
        let layer = bed.image(&target[1..], |writer| {
            add_probe(writer, "bin/probe", 0o755);
            writer.symlink("data", &Attributes::new(0o777), target).unwrap();
        });
        let volume = format!("{shared}:/data");
        let output = bed.run_layers(&[&layer], &["--rm", "-v", &volume], &["/bin/probe", "exit", "0"]).output();
        assert_eq!(output.code(), 125, "{target}: {output}");
        assert!(output.stderr.contains("mount point '/data'"), "{target}: {output}");
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 0, "{target}: something was made in the caller's directory");
    }
}

fn links_on_the_way_of_a_bind_stay_inside(bed: &Bed) {
    let victim = bed.file("victim");
    let shared = bed.file("shared");
    for path in [&victim, &shared] {
        fs::create_dir(path).unwrap();
    }
    fs::write(format!("{shared}/file"), "shared").unwrap();
    let up = format!("../../../../../../../..{victim}");
    let table: [(&str, &str, Option<&str>); 6] = [
        ("absolute", &victim, Some("inside")),
        ("relative", "inner", Some("inside")),
        ("up", &up, Some("inside")),
        ("dangling", "/not/there/yet", Some("inside")),
        ("circle", "circle", None),
        ("magic", "/proc/self/root", None),
    ];
    let layer = bed.image("links", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.directory("links/inner", &Attributes::new(0o755)).unwrap();
        for (name, target, _) in table {
            writer.symlink(format!("links/{name}"), &Attributes::new(0o777), target).unwrap();
        }
    });
    for (name, target, outcome) in table {
        let volume = format!("{shared}:/links/{name}/below");
        let argv = ["/bin/probe", "try", "read", &format!("/links/{name}/below/file")];
        let output = bed.run_layers(&[&layer], &["--rm", "-v", &volume], &argv).output();
        match outcome {
            Some(_) => assert_eq!(output.json()["ok"], "shared", "{name} -> {target}: {output}"),
            None => {
                let refused = output.code() == 125 && output.stderr.contains(&format!("/links/{name}"));
                assert!(refused || output.json()["ok"] == "shared", "{name} -> {target}: {output}");
            }
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{name} -> {target} reached the host");
    }
    assert!(!std::path::Path::new("/not/there/yet").exists());
}

fn overlay_attributes_of_a_layer_redirect_nowhere(bed: &Bed) {
    let base = bed.image("base", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.directory("private", &Attributes::new(0o700)).unwrap();
        writer.file("private/secret", &Attributes::new(0o644), &b"secret"[..]).unwrap();
        writer.file("opaque/low", &Attributes::new(0o644), &b"low"[..]).unwrap();
    });
    let top = bed.image("top", |writer| {
        writer.directory("open", &with_xattr(0o755, "trusted.overlay.redirect", b"/private")).unwrap();
        writer.directory("up", &with_xattr(0o755, "trusted.overlay.redirect", b"../../../etc")).unwrap();
        let attributes = [("trusted.overlay.metacopy", &b""[..]), ("trusted.overlay.redirect", b"/private/secret")];
        let xattrs = attributes.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).to_vec();
        writer.file("copied", &Attributes { xattrs, ..Attributes::new(0o644) }, &b""[..]).unwrap();
        writer.directory("opaque", &with_xattr(0o755, "trusted.overlay.opaque", b"y")).unwrap();
    });
    let run =
        |what: &[&str]| bed.run_layers(&[&base, &top], &["--rm"], &[&["/bin/probe", "try"], what].concat()).json();
    for path in ["/open/secret", "/up/passwd", "/opaque/low"] {
        let answer = run(&["read", path]);
        // A directory that redirects is not entered at all: EPERM, or EINVAL where the text is none
        // that the kernel takes.
        assert!(answer["errno"].is_i64(), "{path}: {answer}");
    }
    let copied = run(&["read", "/copied"]);
    assert_ne!(copied["ok"], "secret", "{copied}");
}

fn whiteouts_hide_what_is_below(bed: &Bed) {
    let base = bed.image("base", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.file("gone", &Attributes::new(0o644), &b"x"[..]).unwrap();
        writer.file("changed", &Attributes::new(0o644), &b"old"[..]).unwrap();
    });
    let top = bed.image("top", |writer| {
        writer.device("gone", &Attributes::new(0), DeviceKind::Character, 0, 0).unwrap();
        writer.file("changed", &Attributes::new(0o644), &b"new"[..]).unwrap();
    });
    let run =
        |what: &[&str]| bed.run_layers(&[&base, &top], &["--rm"], &[&["/bin/probe", "try"], what].concat()).json();
    assert_eq!(run(&["read", "/gone"])["errno"], libc::ENOENT);
    assert_eq!(run(&["read", "/changed"])["ok"], "new");
}

/// As many layers as asked for, the probe in the first, and one file each.
fn layers(bed: &Bed, count: usize) -> Vec<String> {
    let write = |index: usize| {
        move |writer: &mut ImageWriter| {
            if index == 0 {
                add_probe(writer, "bin/probe", 0o755);
            }
            writer.file(format!("layers/{index}"), &Attributes::new(0o644), index.to_string().as_bytes()).unwrap();
            writer.file("last", &Attributes::new(0o644), index.to_string().as_bytes()).unwrap();
        }
    };
    (0..count).map(|index| bed.image(&format!("layer-{index}"), write(index))).collect()
}

/// Of the line of `/etc/passwd` that has the worker's uid its HOME is made, by an init that is
/// root.
fn a_user_database_that_is_none_tells_nothing_and_holds_nothing_up(bed: &Bed) {
    use std::os::unix::fs::PermissionsExt;
    let secret = bed.work().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "x:x:65534:65534::/the-secret:\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let volume = format!("{}:/data", secret.display());
    let plain = Attributes::new(0o644);
    type Write = fn(&mut ImageWriter, &Attributes);
    let table: [(&str, Write); 8] = [
        ("bound", |writer, plain| writer.symlink("etc/passwd", plain, "/data/file").unwrap()),
        ("directory-bound", |writer, plain| writer.symlink("etc", plain, "/data").unwrap()),
        ("up", |writer, plain| writer.symlink("etc/passwd", plain, "../../../../../../etc/passwd").unwrap()),
        ("init", |writer, plain| writer.symlink("etc/passwd", plain, "/proc/1/environ").unwrap()),
        ("magic", |writer, plain| writer.symlink("etc/passwd", plain, "/proc/self/root/etc/passwd").unwrap()),
        ("fifo", |writer, plain| writer.fifo("etc/passwd", plain).unwrap()),
        ("directory", |writer, plain| writer.directory("etc/passwd", plain).unwrap()),
        ("device", |writer, plain| writer.device("etc/passwd", plain, DeviceKind::Character, 1, 5).unwrap()),
    ];
    for (name, write) in table {
        let layer = bed.image(name, |writer| {
            add_probe(writer, "bin/probe", 0o755);
            write(writer, &plain);
        });
        let report = bed.run_layers(&[&layer], &["--rm", "-v", &volume], &["/bin/probe", "report"]).json();
        let home = report["env"][1].as_str().unwrap_or_default();
        // What the host has for its own user 65534.
        assert!(["HOME=/nonexistent", "HOME=/"].contains(&home), "{name}: {home}");
    }
}

/// A name that clears the screen, forges a line, and writes backwards; and one that begins a
/// control sequence in one character.
const ODD: &str = "\x1b[2J\nok\r\u{202e}x\u{9b}31m\x7f";

fn control_characters_in_names_do_not_reach_the_terminal(bed: &Bed) {
    let layer = bed.image(ODD, |writer| add_probe(writer, "bin/probe", 0o755));
    let odd_image = bed.work().join(ODD);
    fs::write(&odd_image, "no image").unwrap();
    let odd_image = odd_image.to_str().unwrap();
    let parent = bed.cgroup();
    let start = [
        "run",
        "-d",
        "--name",
        "odd",
        "--cgroup-parent",
        &parent,
        "--layer",
        &layer,
        "--",
        "/bin/probe",
        "sleep",
        "600000",
    ];
    bed.squall(&start).ok();
    let absent = format!("/bin/{ODD}");
    let below = &format!("--cgroup-parent={parent}");
    let calls: [&[&str]; 14] = [
        &["layers"],
        &["layers", "--json"],
        &["ps"],
        &["inspect", "odd"],
        &["inspect", "--json", "odd"],
        &["plan", "--layer", &layer, "--", "/bin/probe"],
        &["plan", "--json", "--layer", &layer, "--", "/bin/probe"],
        &["run", below, "--layer", odd_image, "--", "/bin/probe"],
        &["run", below, "--layer", &layer, "--", &absent],
        &["run", below, "--layer", &layer, "--volume", &format!("/{ODD}:/data"), "--", "/bin/probe"],
        &["run", below, "--layer", &layer, "-w", &format!("/{ODD}"), "--", "/bin/probe"],
        &["run", &format!("--{ODD}")],
        &[ODD],
        &["reap", "--dry-run"],
    ];
    for call in calls {
        let output = bed.squall(call).output();
        for text in [String::from_utf8_lossy(&output.stdout).as_ref(), &output.stderr] {
            let shown = |character: char| character == '\n' || (!character.is_control() && character != '\u{202e}');
            assert!(text.chars().all(shown), "{call:?}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("ok")), "{call:?}: a forged line: {text:?}");
        }
        assert!(output.stdout.len() + output.stderr.len() > 0, "{call:?}");
    }
    assert_eq!(bed.squall(&["layers", "--json"]).json()[0]["file"], *layer, "JSON has the very name");
    bed.worker("odd").kill();
}

fn five_hundred_layers_are_one_root(bed: &Bed) {
    let layers = layers(bed, 501);
    for count in [1, 120, 500] {
        let run = |path: &str| bed.run_layers(&layers[..count], &["--rm"], &["/bin/probe", "try", "read", path]).json();
        let top = (count - 1).to_string();
        assert_eq!(run("/last")["ok"], top.as_str());
        assert_eq!(run(&format!("/layers/{top}"))["ok"], top.as_str());
        assert_eq!(run("/layers/0")["ok"], "0");
    }
    let beyond = bed.run_layers(&layers, &["--rm"], &["/bin/probe", "exit", "0"]).output();
    assert_eq!((beyond.code(), beyond.stderr.lines().count()), (125, 1), "{beyond}");
    assert!(beyond.stderr.contains("--layer") && beyond.stderr.contains("500"), "{beyond}");
}

fn the_same_layer_twice_is_as_good_as_once(bed: &Bed) {
    let layers = layers(bed, 3);
    for order in [&[0, 0][..], &[0, 1, 2, 1], &[1, 0, 1, 1, 0]] {
        let chosen: Vec<&str> = order.iter().map(|index| layers[*index].as_str()).collect();
        let answer = bed.run_layers(&chosen, &["--rm"], &["/bin/probe", "try", "read", "/last"]).json();
        assert_eq!(answer["ok"], order.last().unwrap().to_string(), "{order:?}");
    }
}

fn a_file_that_is_no_image_is_refused_and_named(bed: &Bed) {
    let good = fs::read(bed.probe()).unwrap();
    let cut = &good[..good.len() / 2];
    let mut scrambled = good.clone();
    // The superblock's offsets of all tables (squashfs_fs.h), pointing far outside.
    scrambled[48..96].fill(0x77);
    // What its first bytes tell is refused before the kernel sees it; for the rest there is the
    // kernel.
    let table: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "request"),
        ("text", b"not an image at all", "request"),
        ("zeros", &[0; 8192], "request"),
        ("cut", cut, "request"),
        ("scrambled", &scrambled, "layers"),
    ];
    for (name, content, stage) in table {
        let path = bed.file(name);
        fs::write(&path, content).unwrap();
        let output = bed.run_layers(&[&path], &["--rm"], &["/bin/probe", "exit", "0"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains(&path), "{output}");
        assert!(output.stderr.starts_with(&format!("squall: {stage}: ")), "{output}");
    }
}

fn a_hundred_thousand_entries_cost_a_launch_nothing(bed: &Bed) {
    const ENTRIES: usize = 100_000;
    let layer = bed.image("many", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        for index in 0..ENTRIES {
            writer.file(format!("many/{index:06}"), &Attributes::new(0o644), &b""[..]).unwrap();
        }
        writer.symlink("many/tmp", &Attributes::new(0o777), "/proc/self").unwrap();
    });
    let listed = bed.run_layers(&[&layer], &["--rm"], &["/bin/probe", "try", "list", "/many"]).json();
    assert_eq!(listed["ok"].as_str().unwrap().matches("\",\"").count(), ENTRIES, "one less comma than entries");
    let last = bed.run_layers(&[&layer], &["--rm"], &["/bin/probe", "try", "stat", "/many/099999"]).json();
    assert_eq!(last["ok"], "100644 0 0");
}
