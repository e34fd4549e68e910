//! Images as the kernel shows them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::Zlib;
use squall::squashfs::{Attributes, DeviceKind, Options, Stored, Writer};

use crate::images::{Both, one_of_each, owned, xattr};
use crate::model::{Entry, assert_same, walk};
use crate::surroundings::{Mounted, isolated, run};

#[test]
fn the_kernel_shows_every_kind_of_entry_as_it_was_written() {
    isolated("kernel::the_kernel_shows_every_kind_of_entry_as_it_was_written", |directory| {
        for block_size in [4096, 1 << 17, 1 << 20] {
            let image = directory.join(format!("{block_size}.sqsh"));
            let mut both = Both::new(&image, block_size, Box::new(Stored));
            one_of_each(&mut both);
            let expected = both.finish(&image);
            let mounted = Mounted::new(&image, &directory.join("mnt"));
            assert_same(&walk(&mounted.0), &expected);
            let holes = fs::metadata(mounted.0.join("zeros")).unwrap();
            assert_eq!(holes.blocks(), 0, "a file of zeros takes no space");
        }
    });
}

#[test]
fn the_kernel_finds_each_of_ten_thousand_names_in_one_directory() {
    isolated("kernel::the_kernel_finds_each_of_ten_thousand_names_in_one_directory", |directory| {
        let image = directory.join("image.sqsh");
        let mut writer = Writer::new(File::create(&image).unwrap(), Options::default()).unwrap();
        // First bytes of both halves, in an order that is not theirs; long names make a listing of
        // half a megabyte.
        let names = |count: u32, length: usize| {
            let name = move |index: u32| {
                let hash = index.wrapping_mul(0x9e37_79b9);
                let mut name = vec![(hash >> 24) as u8 | 1, b'-'];
                name.extend(format!("{index:0length$}").bytes());
                if name[0] == b'/' {
                    name[0] = b'x'
                };
                name
            };
            (0..count).map(name).collect::<Vec<_>>()
        };
        for (parent, count, length) in [("short", 10_000, 5), ("long", 2000, 254)] {
            for name in names(count, length) {
                let path = Path::new(parent).join(OsStr::from_bytes(&name));
                writer.file(&path, &Attributes::new(0o644), &name[..]).unwrap();
            }
        }
        writer.finish().unwrap();
        let mounted = Mounted::new(&image, &directory.join("mnt"));
        for (parent, count, length) in [("short", 10_000, 5), ("long", 2000, 254)] {
            let parent = mounted.0.join(parent);
            for name in names(count, length) {
                let content = fs::read(parent.join(OsStr::from_bytes(&name)));
                assert!(content.as_ref().is_ok_and(|content| *content == name), "{name:?}: {content:?}");
                let other = fs::symlink_metadata(parent.join(OsStr::from_bytes(&name[..name.len() - 1])));
                assert_eq!(other.unwrap_err().kind(), io::ErrorKind::NotFound);
            }
            let listed: BTreeSet<_> =
                fs::read_dir(&parent).unwrap().map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
            assert_eq!(listed, names(count, length).into_iter().collect());
        }
    });
}

#[test]
fn the_kernel_reads_a_file_over_4_gib() {
    isolated("kernel::the_kernel_reads_a_file_over_4_gib", |directory| {
        let image = directory.join("image.sqsh");
        let mut writer = Writer::new(File::create(&image).unwrap(), Options::default()).unwrap();
        let zeros = 4_u64 << 30;
        let content = b"start".chain(io::repeat(0).take(zeros)).chain(&b"end"[..]);
        assert_eq!(writer.file("large", &Attributes::new(0o644), content).unwrap(), zeros + 8);
        writer.file("next", &Attributes::new(0o644), &b"next"[..]).unwrap();
        let summary = writer.finish().unwrap().1;
        assert!(summary.bytes < 1 << 20, "{summary:?}");
        let mounted = Mounted::new(&image, &directory.join("mnt"));
        let file = File::open(mounted.0.join("large")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), zeros + 8);
        for (at, expected) in [(0, &b"start\0\0\0"[..]), (1 << 31, &[0; 8]), (zeros, b"\0\0\0\0\0end")] {
            let mut found = [9; 8];
            file.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, expected, "at {at}");
        }
        assert_eq!(fs::read(mounted.0.join("next")).unwrap(), b"next");
        drop(file);
    });
}

#[test]
fn the_kernel_reads_id_and_attribute_tables_of_several_blocks() {
    isolated("kernel::the_kernel_reads_id_and_attribute_tables_of_several_blocks", |directory| {
        let image = directory.join("image.sqsh");
        let mut both = Both::new(&image, 4096, Box::new(Stored));
        // 2048 ids and 512 descriptors of attributes fill a block.
        for index in 0..5000_u32 {
            let xattrs = vec![xattr("trusted.n", &(index / 2).to_le_bytes())];
            let attributes = Attributes { xattrs, ..owned(0o600, 100_000 + index, index % 3000, index) };
            both.add(format!("{}/{index}", index % 10), Entry::Fifo, attributes);
        }
        let expected = both.finish(&image);
        let mounted = Mounted::new(&image, &directory.join("mnt"));
        assert_same(&walk(&mounted.0), &expected);
    });
}

#[test]
fn the_kernel_tells_neighbours_with_far_inode_numbers_apart() {
    isolated("kernel::the_kernel_tells_neighbours_with_far_inode_numbers_apart", |directory| {
        let image = directory.join("image.sqsh");
        let mut writer = Writer::new(File::create(&image).unwrap(), Options::default()).unwrap();
        // Numbers are given from the first directory on, inodes are written from the last one on:
        // those of "b" lie side by side, and their numbers differ by more than the 16 bits of a
        // listing's entry.
        writer.symlink("a/first", &Attributes::new(0), "first").unwrap();
        for index in 0..70_000 {
            writer.fifo(format!("a/n{index}"), &Attributes::new(0o600)).unwrap();
        }
        writer.hard_link("b/first", "a/first").unwrap();
        writer.symlink("b/last", &Attributes::new(0), "last").unwrap();
        writer.finish().unwrap();
        let mounted = Mounted::new(&image, &directory.join("mnt"));
        let number = |path: &str| fs::symlink_metadata(mounted.0.join(path)).unwrap().ino();
        assert_eq!(number("b/first"), number("a/first"));
        assert!(number("b/last") > number("b/first") + 65_536);
        for name in ["first", "last"] {
            assert_eq!(fs::read_link(mounted.0.join("b").join(name)).unwrap(), Path::new(name));
        }
        assert_eq!(fs::read_dir(mounted.0.join("a")).unwrap().count(), 70_001);
        let listed = fs::read_dir(mounted.0.join("b")).unwrap().map(|entry| entry.unwrap());
        for entry in listed {
            assert_eq!(entry.ino(), entry.metadata().unwrap().ino(), "{entry:?}");
        }
    });
}

#[test]
fn the_kernel_decompresses_what_a_plugged_in_compressor_made() {
    isolated("kernel::the_kernel_decompresses_what_a_plugged_in_compressor_made", |directory| {
        let image = directory.join("image.sqsh");
        let mut both = Both::new(&image, 1 << 17, Box::new(Zlib));
        one_of_each(&mut both);
        let text: Vec<u8> = (0..60_000).flat_map(|line: u32| format!("line {line}\n").into_bytes()).collect();
        both.add("text", Entry::File(text), owned(0o644, 0, 0, 5));
        for index in 0..3000 {
            let attributes = Attributes {
                xattrs: vec![xattr("user.n", format!("{}", index % 700).as_bytes())],
                ..owned(0o644, index, 0, 0)
            };
            both.add(format!("many/{index:0100}"), Entry::File(vec![1; 10]), attributes);
        }
        let expected = both.finish(&image);
        let content: usize = expected.values().map(|seen| seen.content.len()).sum();
        assert!(fs::metadata(&image).unwrap().len() < content as u64, "nothing was compressed");
        let mounted = Mounted::new(&image, &directory.join("mnt"));
        assert_same(&walk(&mounted.0), &expected);
    });
}

#[test]
fn overlayfs_understands_whiteouts_and_opaque_directories() {
    isolated("kernel::overlayfs_understands_whiteouts_and_opaque_directories", |directory| {
        let plain = Attributes::new(0o644);
        let mount = |name: &str, fill: &dyn Fn(&mut Writer<File>)| {
            let image = directory.join(format!("{name}.sqsh"));
            let mut writer = Writer::new(File::create(&image).unwrap(), Options::default()).unwrap();
            fill(&mut writer);
            writer.finish().unwrap();
            Mounted::new(&image, &directory.join(name))
        };
        let lower = mount("lower", &|writer| {
            for path in ["kept", "gone", "merged/low", "opaque/low"] {
                writer.file(path, &plain, path.as_bytes()).unwrap();
            }
        });
        let upper = mount("upper", &|writer| {
            writer.device("gone", &Attributes::new(0), DeviceKind::Character, 0, 0).unwrap();
            let opaque = Attributes { xattrs: vec![xattr("trusted.overlay.opaque", b"y")], ..Attributes::new(0o755) };
            writer.directory("opaque", &opaque).unwrap();
            writer.file("opaque/up", &plain, &b"up"[..]).unwrap();
            writer.file("merged/up", &plain, &b"up"[..]).unwrap();
        });
        let merged = directory.join("overlay");
        fs::create_dir(&merged).unwrap();
        let layers = format!("lowerdir={}:{}", upper.0.display(), lower.0.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&merged));
        let found: Vec<_> = walk(&merged).into_keys().collect();
        let expected = ["", "kept", "merged", "merged/low", "merged/up", "opaque", "opaque/up"].map(PathBuf::from);
        assert_eq!(found, expected);
        run(Command::new("umount").arg(&merged));
    });
}
