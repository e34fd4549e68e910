//! Images as `unsquashfs` reads them, and the writer without any file.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use squall::squashfs::{Options, Stored, Writer};

use crate::images::{Both, one_of_each};
use crate::model::Seen;
use crate::random_trees::for_random_trees;
use crate::surroundings::run;

/// The line of `unsquashfs -lln` as words, without the size of directories: the format leaves it to
/// the writer.
fn listing_line(path: &Path, seen: &Seen) -> Vec<Vec<u8>> {
    let time = match seen.time {
        0 => "1970-01-01 00:00",
        1_600_000_000 => "2020-09-13 12:26",
        1_700_000_000 => "2023-11-14 22:13",
        4_294_967_295 => "2106-02-07 06:28",
        other => panic!("{other}"),
    };
    let mut words = vec![permissions(seen).into_bytes(), format!("{}/{}", seen.uid, seen.gid).into_bytes()];
    match seen.kind {
        'd' => {}
        'c' | 'b' => {
            // unsquashfs 4.5.1 lists the encoded number as a signed one of 8 low bits for the minor
            // and the rest for the major, whatever it is; the kernel's tests look at the real
            // numbers.
            let (major, minor) = seen.device;
            let shown_as_major = (major << 8 | (minor >> 8) << 20) as i32 >> 8;
            words.push(format!("{shown_as_major},{}", minor & 0xff).into_bytes());
        }
        _ => words.push(seen.content.len().to_string().into_bytes()),
    }
    words.extend(time.split(' ').map(|word| word.as_bytes().to_vec()));
    words.push(path.as_os_str().as_bytes().to_vec());
    if seen.kind == 'l' {
        words.extend([b"->".to_vec(), seen.content.clone()]);
    }
    words
}

fn permissions(seen: &Seen) -> String {
    let mut text: Vec<char> = vec![seen.kind];
    for (bits, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let rwx = seen.mode >> bits;
        text.push(if rwx & 4 != 0 { 'r' } else { '-' });
        text.push(if rwx & 2 != 0 { 'w' } else { '-' });
        text.push(match (rwx & 1 != 0, seen.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text.into_iter().collect()
}

fn listed(image: &Path) -> BTreeSet<Vec<Vec<u8>>> {
    let output = run(Command::new("unsquashfs").args(["-lln", "-d", ""]).arg(image).env("TZ", "UTC"));
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut words: Vec<Vec<u8>> =
                line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect();
            match words[0][0] {
                b'd' => drop(words.remove(2)),
                // "1,  3" or "259,70000"
                b'c' | b'b' if words[2].ends_with(b",") => {
                    let minor = words.remove(3);
                    words[2].extend(minor);
                }
                _ => {}
            }
            let path_at = if words[0][0] == b'd' { 4 } else { 5 };
            match words.get_mut(path_at) {
                Some(path) => *path = path.strip_prefix(b"/").map_or(path.clone(), <[u8]>::to_vec),
                None => words.push(Vec::new()),
            }
            words
        })
        .collect()
}

#[test]
fn unsquashfs_lists_random_trees_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image.sqsh");
    for_random_trees(&image, 60, |expected| {
        let expected: BTreeSet<_> = expected.iter().map(|(path, seen)| listing_line(path, seen)).collect();
        assert_eq!(listed(&image), expected);
    });
}

#[test]
fn unsquashfs_prints_the_content_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image.sqsh");
    let mut both = Both::new(&image, 1 << 17, Box::new(Stored));
    one_of_each(&mut both);
    let expected = both.finish(&image);
    for path in ["empty", "large", "exactly two blocks", "holes", "zeros", "linked/b/c", "a/b/c/d/e/f"] {
        let found = run(Command::new("unsquashfs").arg("-cat").arg(&image).arg(path));
        assert!(found == expected[Path::new(path)].content, "{path}");
    }
}

#[test]
fn writing_needs_no_file() {
    let (image, summary) = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap().finish().unwrap();
    assert_eq!(image.into_inner().len() as u64, summary.bytes);
}
