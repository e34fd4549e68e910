//! Layers that are EROFS: the same path as squashfs, with images that mkfs.erofs made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use runtime_tests::{Bed, Call, bed, cases};
use squall::squashfs::{Attributes, DeviceKind};

use crate::layers::unmount_pins;

cases![
    an_erofs_layer_of_every_compression_that_can_be_made_runs_the_worker,
    layers_of_both_formats_mix_in_either_order,
    a_whiteout_of_one_format_hides_what_is_in_the_other,
    two_containers_of_one_erofs_layer_share_its_loop_device_and_superblock,
    an_erofs_layer_with_blocks_greater_than_a_page_is_a_clear_error,
];

/// An EROFS image of what `fill` puts into a directory, made with these options.
fn image(bed: &Bed, name: &str, options: &[&str], fill: impl FnOnce(&Path)) -> String {
    let tree = bed.work().join(format!("{name}.tree"));
    fs::create_dir(&tree).unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
    fill(&tree);
    let path = bed::text(&bed.images().join(format!("{name}.erofs")));
    let mut command = Command::new("mkfs.erofs");
    command.args(["--quiet", "--all-root", "-T0"]).args(options).arg(&path).arg(&tree);
    Call::new(command).ok();
    path
}

fn add_probe(tree: &Path) {
    fs::create_dir(tree.join("bin")).unwrap();
    fs::set_permissions(tree.join("bin"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("bin/probe"), squall_cli::demo::PROBE).unwrap();
    fs::set_permissions(tree.join("bin/probe"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn add_file(tree: &Path, name: &str, content: &str) {
    fs::write(tree.join(name), content).unwrap();
    fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o644)).unwrap();
}

/// The compressions of this mkfs.erofs, from its own help; the kernel has to know them all.
fn compressions() -> Vec<String> {
    let help = Command::new("mkfs.erofs").arg("--help").output().unwrap();
    let text = [help.stdout, help.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let known = ["lz4", "lz4hc", "lzma", "deflate", "libdeflate", "zstd"];
    let words: Vec<&str> = text.split(|character: char| !character.is_ascii_alphanumeric()).collect();
    known.into_iter().filter(|name| words.contains(name)).map(|name| format!("-z{name}")).collect()
}

/// What runs is the image's copy of the probe, which a compressed image holds in compressed
/// clusters.
fn an_erofs_layer_of_every_compression_that_can_be_made_runs_the_worker(bed: &Bed) {
    let compressions = compressions();
    assert!(compressions.iter().any(|option| option == "-zlz4"), "mkfs.erofs makes lz4: {compressions:?}");
    let plain = image(bed, "plain", &[], add_probe);
    let uncompressed_bytes = fs::metadata(&plain).unwrap().len();
    let mut images = vec![plain];
    for option in &compressions {
        let path = image(bed, &option[2..], &[option.as_str()], add_probe);
        assert!(fs::metadata(&path).unwrap().len() < uncompressed_bytes, "{option} compresses nothing");
        images.push(path);
    }
    for path in images {
        let output = bed.run_layers(&[&path], &["--rm"], &["/bin/probe", "exit", "7"]).output();
        assert_eq!(output.code(), 7, "{output}");
        let plan = bed.squall(&["plan", "--json", "--cgroup-parent", &bed.cgroup(), "--layer", &path]);
        assert_eq!(plan.args(["--", "/bin/probe"]).json()["layers"][0]["format"], "erofs");
    }
}

/// Base, middle and top; each layer says which it is, and hides the one below.
fn layers_of_both_formats_mix_in_either_order(bed: &Bed) {
    let squashfs = bed.image("one", |writer| {
        bed::add_probe(writer, "bin/probe", 0o755);
        writer.file("top", &Attributes::new(0o644), &b"squashfs"[..]).unwrap();
        writer.file("of-squashfs", &Attributes::new(0o644), &b"squashfs"[..]).unwrap();
    });
    let erofs = image(bed, "two", &["-zlz4hc"], |tree| {
        add_probe(tree);
        add_file(tree, "top", "erofs");
        add_file(tree, "of-erofs", "erofs");
    });
    for (layers, top) in [([&squashfs, &erofs], "erofs"), ([&erofs, &squashfs], "squashfs")] {
        let read = |path: &str| bed.run_layers(&layers, &["--rm"], &["/bin/probe", "try", "read", path]).json();
        assert_eq!(read("/top")["ok"], top);
        assert_eq!(read("/of-squashfs")["ok"], "squashfs");
        assert_eq!(read("/of-erofs")["ok"], "erofs");
    }
}

fn a_whiteout_of_one_format_hides_what_is_in_the_other(bed: &Bed) {
    let in_squashfs = bed.image("files", |writer| {
        bed::add_probe(writer, "bin/probe", 0o755);
        writer.file("gone", &Attributes::new(0o644), &b"here"[..]).unwrap();
    });
    let hides_in_squashfs = bed.image("whiteout", |writer| {
        writer.device("gone", &Attributes::new(0), DeviceKind::Character, 0, 0).unwrap();
    });
    let in_erofs = image(bed, "files", &[], |tree| {
        add_probe(tree);
        add_file(tree, "gone", "here");
    });
    let hides_in_erofs = image(bed, "whiteout", &[], |tree| {
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, tree.join("gone"), kind, 0.into(), 0).unwrap();
    });
    for (base, top) in [(&in_squashfs, &hides_in_erofs), (&in_erofs, &hides_in_squashfs)] {
        let read =
            |layers: &[&String]| bed.run_layers(layers, &["--rm"], &["/bin/probe", "try", "read", "/gone"]).json();
        assert_eq!(read(&[base])["ok"], "here");
        assert_eq!(read(&[base, top])["errno"], libc::ENOENT, "{top} over {base}");
    }
}

/// The loop devices that are bound to a file, by name.
fn devices_of(path: &str) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let bound = devices.filter(|device| {
        fs::read_to_string(device.path().join("loop/backing_file")).is_ok_and(|file| file.trim_end() == path)
    });
    bound.map(|device| device.file_name().to_string_lossy().into_owned()).collect()
}

/// By the pin, and by the bound device where the pin is gone. EROFS has a directory in
/// `/sys/fs/erofs` for each superblock, named after its device: one device means one superblock.
fn two_containers_of_one_erofs_layer_share_its_loop_device_and_superblock(bed: &Bed) {
    let layer = image(bed, "shared", &[], add_probe);
    let start = |name: &str| {
        bed.run_layers(&[&layer], &["--detach", "--name", name], &["/bin/probe", "sleep", "600000"]).ok();
        let worker = bed.worker(name);
        (worker.inspect()["layers"][0]["source"].as_str().unwrap_or_default().to_owned(), worker)
    };
    let (first, one) = start("one");
    let (second, two) = start("two");
    assert_eq!((first.as_str(), second.as_str()), ("attached", "pin"));
    unmount_pins(bed);
    let (third, three) = start("three");
    assert_eq!(third, "loop-device");
    let devices = devices_of(&layer);
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert!(Path::new("/sys/fs/erofs").join(&devices[0]).exists(), "{devices:?}");
    for worker in [one, two, three] {
        worker.kill();
    }
}

/// The superblock at 1024 has the block size as a power of two at 12, the number of blocks at 36,
/// and its checksum at 4, which bit 0 of the features at 8 tells to be believed (erofs_fs.h).
fn an_erofs_layer_with_blocks_greater_than_a_page_is_a_clear_error(bed: &Bed) {
    let good = image(bed, "good", &[], add_probe);
    let mut content = fs::read(&good).unwrap();
    let bits = u8::try_from(rustix::param::page_size().trailing_zeros()).unwrap();
    content[1024 + 8] &= !1;
    let unchecked = bed.file("unchecked");
    fs::write(&unchecked, &content).unwrap();
    let run = |path: &str| bed.run_layers(&[path], &["--rm"], &["/bin/probe", "exit", "7"]).output();
    assert_eq!(run(&unchecked).code(), 7, "without a checksum it is as good");
    content[1024 + 12] = bits + 1;
    content[1024 + 36..1024 + 40].copy_from_slice(&1_u32.to_le_bytes());
    let large = bed.file("large");
    fs::write(&large, &content).unwrap();
    let output = run(&large);
    assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
    assert!(output.stderr.starts_with(&format!("squall: layers: layer '{large}': ")), "{output}");
    assert!(output.stderr.contains("blocks greater than a page"), "{output}");
}
