//! Directories as layers.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::convert::{DirectoryOptions, DirectoryTar, convert_directory};

fn directory_layer(path: &Path, modification_time: Option<u32>) -> Result<(Vec<u8>, Converted)> {
    let (out, converted) =
        convert_directory(path, DirectoryOptions { modification_time }, &options(), Cursor::new(Vec::new()))?;
    let mut image = out.into_inner();
    image.truncate(converted.squashfs_size as usize);
    Ok((image, converted))
}

#[test]
fn a_directory_comes_through_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    let long = "n".repeat(150);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/file"), "content".repeat(1000)).unwrap();
    fs::write(at("sub/empty"), "").unwrap();
    fs::write(at(&long), "long").unwrap();
    fs::hard_link(at("sub/file"), at("hard")).unwrap();
    symlink(format!("/{long}"), at("sub/link")).unwrap();
    symlink("sub", at("to-directory")).unwrap();
    let socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    let mode = |path: &str, mode| fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).unwrap();
    mode("sub/file", 0o4711);
    mode("sub", 0o1777);
    mode("", 0o751);
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    File::open(at("sub/file")).unwrap().set_modified(time).unwrap();
    File::open(at("sub/empty")).unwrap().set_modified(UNIX_EPOCH - Duration::from_secs(3)).unwrap();

    let (bytes, converted) = directory_layer(directory.path(), None).unwrap();
    drop(socket);
    let image = Image::read(&bytes);
    let mut paths = vec!["fifo", "hard", &long, "sub", "sub/empty", "sub/file", "sub/link", "to-directory"];
    paths.sort_unstable();
    assert_eq!(image.paths(), paths);
    let file = image.at("sub/file");
    assert_eq!((file.mode, file.links, file.time), (0o4711, 2, 1_700_000_000));
    assert_eq!(file.content, "content".repeat(1000).as_bytes());
    assert_eq!(image.at("hard"), file);
    assert_eq!((image.at("").mode, image.at("sub").mode), (0o751, 0o1777));
    assert_eq!(image.at("sub/link").content, format!("/{long}").as_bytes());
    assert_eq!((image.at("to-directory").kind, image.at("fifo").kind), ('l', 'p'));
    let notes: Vec<String> = converted.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["sockets skipped: 1, first \"socket\"", "times outside 1970 to 2106 clamped: 1, first \"sub/empty\""]
    );
    assert!(bytes == directory_layer(directory.path(), None).unwrap().0);
}

#[test]
fn a_fixed_time_leaves_no_trace_of_the_clock() {
    let image = || {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        directory_layer(directory.path(), Some(77)).unwrap().0
    };
    let first = image();
    assert!(first == image());
    assert!(Image::read(&first).0.values().all(|inode| inode.time == 77));
}

#[test]
fn attributes_come_along_where_the_file_system_has_them() {
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    rustix::fs::setxattr(&file, "user.note", b"\0\xff", rustix::fs::XattrFlags::empty()).expect("user attributes");
    let (bytes, _) = directory_layer(directory.path(), None).unwrap();
    assert_eq!(Image::read(&bytes).at("file").xattrs["user.note"], b"\0\xff");
}

#[test]
fn what_is_no_directory_or_becomes_shorter_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, vec![1; 100_000]).unwrap();
    let error = directory_layer(&file, None).unwrap_err();
    assert!(error.object().ends_with("/file"), "{error}");
    let mut tar = DirectoryTar::new(directory.path(), DirectoryOptions::default()).unwrap();
    // The root's header, and the first byte of the file's.
    std::io::Read::read_exact(&mut tar, &mut [0; 513]).unwrap();
    File::options().write(true).open(&file).unwrap().set_len(10).unwrap();
    let error = std::io::copy(&mut tar, &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().ends_with("the file became shorter while it was read"), "{error}");
}
