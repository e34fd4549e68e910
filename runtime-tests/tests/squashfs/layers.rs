//! Layers converted from tar, as the kernel shows them, beside what `tar` unpacks.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::debian;
use squall_images::convert::{Compression, ConvertOptions, Converted, DirectoryOptions, convert, convert_directory};

use crate::model::{Seen, assert_same, walk};
use crate::surroundings::{Mounted, isolated, run};

fn sh(script: &str, directory: &Path) {
    run(Command::new("bash").args(["-euc", script]).current_dir(directory));
}

/// A tar of Debian's files, up to 32 KiB each, and of everything that files can be.
fn debian_layer(directory: &Path) -> PathBuf {
    let debian = Mounted::new(&debian::image(), &directory.join("debian"));
    let tree = directory.join("tree");
    fs::create_dir(&tree).unwrap();
    sh("find . -size -65 -print0 | tar -c --no-recursion --null -T - | tar -x -C ../tree", &debian.0);
    drop(debian);
    symlink("usr/lib", tree.join("a-link")).unwrap();
    sh(
        "mkdir -m 1777 special; cd special
         echo program > program; ln program hard; mkfifo -m 600 fifo; mknod -m 640 char c 1 3; mknod block b 259 1048575
         truncate -s 50M sparse; echo middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none; truncate -s 60M sparse
         seq 1000000 > large; cp large copy; : > empty; chmod 6755 empty; chown 3000000:4000000000 large
         n=$(printf 'n%.0s' $(seq 200)); mkdir -p $n/$n; echo deep > $n/$n/$n; ln -s $n/$n/$n/$n long-target; ln $n/$n/$n long-hard
         echo note > noted; cp program capable
         touch -d @4000000000 late; touch -h -d @86400 long-target; mkdir many; cd many; seq 5000 | xargs touch",
        &tree,
    );
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for (file, name, value) in [
        ("noted", "user.note", &b"text"[..]),
        ("noted", "trusted.own", b"\0\xff\n"),
        ("capable", "security.capability", capability),
    ] {
        let path = tree.join("special").join(file);
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let tar = directory.join("layer.tar");
    let flags =
        "--format=posix --pax-option=delete=atime,delete=ctime --sparse --xattrs --xattrs-include=* --sort=name";
    sh(&format!("tar -C tree {flags} -cf layer.tar ."), directory);
    tar
}

fn options(compression: &str, threads: usize) -> ConvertOptions {
    ConvertOptions {
        compression: compression.parse::<Compression>().unwrap(),
        threads: NonZeroUsize::new(threads).unwrap(),
        ..ConvertOptions::default()
    }
}

fn converted(tar: &Path, image: &Path, options: &ConvertOptions) -> Converted {
    let (out, converted) = convert(File::open(tar).unwrap(), options, File::create(image).unwrap()).unwrap();
    out.set_len(converted.squashfs_size).unwrap();
    converted
}

/// What the kernel has at a mount point, with whole seconds.
fn mounted(image: &Path, at: &Path) -> std::collections::BTreeMap<PathBuf, Seen> {
    walk(&Mounted::new(image, at).0)
}

#[test]
fn a_layer_of_debian_is_in_the_kernel_what_tar_unpacks() {
    isolated("layers::a_layer_of_debian_is_in_the_kernel_what_tar_unpacks", |directory| {
        let tar = debian_layer(directory);
        fs::remove_dir_all(directory.join("tree")).unwrap();
        let unpacked = directory.join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        sh("tar --xattrs --xattrs-include='*' --numeric-owner -p -xf ../layer.tar", &unpacked);
        let expected = walk(&unpacked);
        assert!(expected.len() > 8000, "{}", expected.len());
        let image = directory.join("layer.sqsh");
        for compression in ["zstd", "gzip:1", "lz4", "none"] {
            let made = converted(&tar, &image, &options(compression, 3));
            assert_eq!(made.blob_size, fs::metadata(&tar).unwrap().len());
            assert_eq!(made.diff_id, made.blob_digest, "a plain tar");
            let sum = run(Command::new("sha256sum").arg(&tar));
            assert!(sum.starts_with(made.diff_id.hex().as_bytes()));
            assert_same(&mounted(&image, &directory.join("mnt")), &expected);
            // The whole of it, by a second reader of the format.
            run(Command::new("unsquashfs").args(["-lls", "-d", "nowhere"]).arg(&image));
        }
    });
}

#[test]
fn the_kernel_reads_xz_with_the_dictionary_of_a_block() {
    isolated("layers::the_kernel_reads_xz_with_the_dictionary_of_a_block", |directory| {
        let tree = directory.join("tree");
        fs::create_dir(&tree).unwrap();
        sh("for i in $(seq 300); do seq $i 7 $((i * 400)) > $i; done; seq 300000 > large", &tree);
        let expected = walk(&tree);
        for block_size in [4096, 1 << 20] {
            let options = ConvertOptions { block_size, ..options("xz", 2) };
            let image = directory.join("layer.sqsh");
            let out = File::create(&image).unwrap();
            let (out, made) = convert_directory(&tree, DirectoryOptions::default(), &options, out).unwrap();
            out.set_len(made.squashfs_size).unwrap();
            assert_same(&mounted(&image, &directory.join("mnt")), &expected);
        }
    });
}

#[test]
fn a_directory_and_its_tar_give_the_same_tree_for_every_number_of_threads() {
    isolated("layers::a_directory_and_its_tar_give_the_same_tree_for_every_number_of_threads", |directory| {
        let tar = debian_layer(directory);
        let tree = directory.join("tree");
        let images: Vec<PathBuf> = [1, 2, 8]
            .map(|threads| {
                let image = directory.join(format!("{threads}.sqsh"));
                converted(&tar, &image, &options("zstd:1", threads));
                image
            })
            .to_vec();
        let first = fs::read(&images[0]).unwrap();
        assert!(images[1..].iter().all(|image| fs::read(image).unwrap() == first), "threads leave a trace");
        let image = directory.join("directory.sqsh");
        let out = File::create(&image).unwrap();
        let (out, made) = convert_directory(&tree, DirectoryOptions::default(), &options("zstd:1", 2), out).unwrap();
        out.set_len(made.squashfs_size).unwrap();
        let (mut of_directory, mut of_tar) =
            (mounted(&image, &directory.join("mnt")), mounted(&images[0], &directory.join("mnt")));
        // `trusted.` attributes are the machine's: a directory gives none.
        for seen in of_directory.values_mut().chain(of_tar.values_mut()) {
            seen.xattrs.retain(|name, _| !name.starts_with(b"trusted."));
        }
        assert_same(&of_directory, &of_tar);
    });
}

#[test]
fn the_kernel_finds_names_in_a_directory_of_a_million() {
    isolated("layers::the_kernel_finds_names_in_a_directory_of_a_million", |directory| {
        let image = directory.join("image.sqsh");
        let mut writer =
            squall::squashfs::Writer::new(File::create(&image).unwrap(), squall::squashfs::Options::default()).unwrap();
        let plain = squall::squashfs::Attributes::new(0o644);
        let count = 1_000_000_u32;
        for index in 0..count {
            writer.fifo(format!("d/{index}"), &plain).unwrap();
        }
        writer.finish().unwrap();
        let mounted = Mounted::new(&image, &directory.join("mnt"));
        let parent = mounted.0.join("d");
        assert_eq!(fs::read_dir(&parent).unwrap().count(), count as usize);
        for index in (0..count).step_by(997) {
            let found = fs::symlink_metadata(parent.join(index.to_string()));
            assert!(found.is_ok(), "{index}: {found:?}");
        }
        assert!(!parent.join("1000000").exists());
    });
}
