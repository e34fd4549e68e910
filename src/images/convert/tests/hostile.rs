//! Layers that are refused, with the entry and the byte where it begins.

use super::archive::{Head, sum};
use super::*;

/// A directory of one block comes first, so that the offset is 512.
fn second(tar: impl FnOnce(Tar) -> Tar) -> (String, u64, String) {
    refused(&tar(Tar::new().directory("first")).end())
}

#[test]
fn bad_entries_are_refused_by_name_and_place() {
    let long = "n".repeat(300);
    let cases: Vec<(&str, (String, u64, String))> = vec![
        ("the path has the component '..'", second(|tar| tar.file("a/../b", ""))),
        ("\"first/f\" is not a directory", second(|tar| tar.file("first/f", "").file("first/f/x", ""))),
        ("the target of the symlink is empty", second(|tar| tar.symlink("l", ""))),
        ("the root can only be a directory", second(|tar| tar.file(".", ""))),
        ("the root can only be a directory", second(|tar| tar.link("./", "first"))),
        ("a whiteout without a name", second(|tar| tar.file("first/.wh.", ""))),
        ("a whiteout without a name", second(|tar| tar.file(".wh...", ""))),
        (
            "a name of 300 bytes, where the format holds 256",
            second(|tar| tar.pax(&[("path", long.as_bytes())]).file("f", "")),
        ),
        ("a NUL byte in the path", second(|tar| tar.pax(&[("path", b"a\0b")]).file("f", ""))),
        ("4294967295 is not a user or group id", second(|tar| tar.pax(&[("uid", b"4294967295")]).file("f", ""))),
        ("4294967296 is not a user id", second(|tar| tar.pax(&[("uid", b"4294967296")]).file("f", ""))),
        ("-1 is not a group id", second(|tar| tar.pax(&[("gid", b"-1")]).file("f", ""))),
        ("PAX record \"size\": -1 is negative", second(|tar| tar.pax(&[("size", b"-1")]).file("f", ""))),
        (
            "a PAX record that is not LENGTH KEY=VALUE",
            second(|tar| tar.with(Head::new("x", b'x'), b"9 a=b\n").file("f", "")),
        ),
        ("entries of the type 'Z' are not known", second(|tar| tar.head(&Head::new("z", b'Z')))),
        ("size: \"9\" is no number", second(|tar| tar.head(&Head { size: b"9\0", ..Head::new("f", b'0') }))),
        (
            "a hard link to \"missing\", which is not before it in this layer; squashfs cannot link to a lower layer",
            second(|tar| tar.link("l", "missing")),
        ),
        (
            "a hard link to \"later\", which is not before it in this layer; squashfs cannot link to a lower layer",
            second(|tar| tar.link("l", "later").file("later", "")),
        ),
        ("hard link to \"../out\": the path has the component '..'", second(|tar| tar.link("l", "../out"))),
        ("the entry \"first\" to link to is a directory", second(|tar| tar.link("l", "first"))),
        ("more than 40 symlinks on the way", second(|tar| tar.symlink("first/l", "l").file("first/l/x", ""))),
        ("two extension headers of one kind for one entry", second(|tar| tar.pax(&[]).pax(&[]).file("f", ""))),
        ("the archive ends behind an extension header", second(|tar| tar.pax(&[("uid", b"1")]))),
    ];
    for (expected, (_, offset, reason)) in &cases {
        assert_eq!(reason, expected);
        assert!([512, 1024].contains(offset), "{offset}: {reason}");
    }
    let (entry, offset, _) = second(|tar| tar.pax(&[("uid", b"4294967296")]).file("named", ""));
    assert_eq!((entry.as_str(), offset), ("named", 512), "where the extension header begins");
}

#[test]
fn a_wrong_checksum_is_found_where_it_is() {
    let mut tar = Tar::new().file("good", "x").file("bad", "").end();
    tar[1024] = b'B';
    let (entry, offset, reason) = refused(&tar);
    assert_eq!((entry.as_str(), offset), ("good", 1024));
    assert!(reason.starts_with("behind this entry: the checksum is "), "{reason}");
    // Programs that summed up signed bytes are believed.
    let mut block = Head::new("caf\u{e9}", b'0').block();
    let signed: i32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { i32::from(*byte as i8) })
        .sum();
    block[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    assert!(try_convert(&block).is_ok());
    block[0] = 0xff;
    assert!(try_convert(&block).is_err());
    sum(&mut block);
    assert!(try_convert(&block).is_ok());
}

#[test]
fn an_archive_cut_off_anywhere_but_between_entries_is_refused() {
    let tar = Tar::new().file("first", &"a".repeat(1000)).pax(&[("uid", b"7")]).file("second", "b").0;
    let between = [0, 1536, tar.len()];
    for length in 0..tar.len() {
        let result = try_convert(&tar[..length]);
        assert_eq!(result.is_ok(), between.contains(&length), "{length}: {result:?}");
    }
    let (entry, offset, reason) = refused(&tar[..1000]);
    assert_eq!((entry.as_str(), offset), ("first", 0));
    assert_eq!(reason, "the archive is cut off at byte 1000, in the content");
    let (entry, offset, reason) = refused(&tar[..1600]);
    assert_eq!((entry.as_str(), offset), ("first", 0));
    assert_eq!(reason, "the archive is cut off at byte 1600, in a header");
    let (entry, offset, _) = refused(&tar[..3072]);
    assert_eq!((entry.as_str(), offset), ("second", 1536));
}

#[test]
fn a_single_block_of_zeros_between_headers_is_refused() {
    let tar = [Tar::new().file("a", "").0, vec![0; 512], Tar::new().file("b", "").end()].concat();
    let (entry, offset, reason) = refused(&tar);
    assert_eq!((entry.as_str(), offset), ("a", 512));
    assert_eq!(reason, "behind this entry: a single block of zeros between headers");
}

#[test]
fn what_stays_in_memory_is_limited() {
    // Each claims far more than follows: the limit comes first.
    let gigabyte = b"10000000000";
    for kind in [b'x', b'L', b'K'] {
        let (entry, offset, reason) = second(|tar| tar.head(&Head { size: gigabyte, ..Head::new("ext", kind) }));
        assert_eq!((entry.as_str(), offset), ("ext", 512));
        assert_eq!(reason, "an extension header of 1073741824 bytes, over the limit of 65536");
    }
    // In 1.0 and in GNU's old form the map has as many ranges as it likes.
    let endless: Vec<u8> = (0..5000_u32).flat_map(|at| format!("{at}\n0\n").into_bytes()).collect();
    let records: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10000")];
    let body = [&b"5000\n"[..], &endless].concat();
    let (_, _, reason) = second(|tar| tar.pax(records).with(Head::new("f", b'0'), &body));
    assert_eq!(reason, "a sparse file of more than 4096 ranges");
    let range: Vec<u8> = [&b"00000000000\0"[..], b"00000000000\0"].concat();
    let (mut block, extra) = (range.repeat(21), [(386, range.repeat(4)), (482, vec![1])]);
    block.resize(512, 1);
    let head = Head { magic: b"ustar  \0", extra: &extra, ..Head::new("f", b'S') };
    let (_, _, reason) = second(|tar| tar.head(&head).body(&block.repeat(300)));
    assert_eq!(reason, "a sparse file of more than 4096 ranges");
}

#[test]
fn deep_paths_are_refused() {
    let deep = "a/".repeat(21);
    let (_, _, reason) = second(|tar| tar.file(&deep, ""));
    assert_eq!(reason, "a path of more than 20 components");
    // 10^5 components, in a PAX record.
    let deeper = b"a/".repeat(30_000);
    let (entry, _, reason) = second(|tar| tar.pax(&[("path", &deeper)]).file("f", ""));
    assert_eq!(reason, "a path of more than 20 components");
    assert!(entry.len() < 300, "shortened");
    // Symlinks that lead deeper and deeper.
    let tar =
        Tar::new().symlink("a", "b/c/d/e/f/g/h/i/j/a").symlink("b/c/d/e/f/g/h/i/j/a", "k/l/m/n/o/p/q/r/s/t/u/v/w");
    let (_, _, reason) = refused(&tar.file("a/x", "").end());
    assert_eq!(reason, "a path of more than 20 components");
}

#[test]
fn entries_and_their_metadata_are_limited() {
    let many = |entry: &dyn Fn(Tar, usize) -> Tar| {
        let tar = (0..2001).fold(Tar::new(), entry);
        try_convert(&tar.end()).unwrap_err()
    };
    assert_eq!(over_limit(&many(&|tar, index| tar.file(&format!("{index}"), ""))), 2000);
    assert_eq!(over_limit(&many(&|tar, _| tar.file("again", ""))), 2000, "replaced entries too");
    assert_eq!(over_limit(&many(&|tar, index| tar.file(&format!(".wh.{index}"), ""))), 2000);
    let implied = |tar: Tar, index| tar.file(&format!("{index}/b/c/d/e/f/g"), "");
    let tar = (0..300).fold(Tar::new(), implied);
    assert_eq!(over_limit(&try_convert(&tar.end()).unwrap_err()), 2000, "directories that are only implied too");
    let value = vec![b'v'; 60_000];
    let large = |tar: Tar, index: usize| tar.pax(&[("SCHILY.xattr.user.a", &value)]).file(&format!("{index}"), "");
    let tar = (0..20).fold(Tar::new(), large);
    assert_eq!(over_limit(&try_convert(&tar.end()).unwrap_err()), 1 << 20);
}

#[test]
fn the_time_that_symlinks_take_is_limited() {
    let link = |tar: Tar, index: usize| tar.symlink(&format!("{index}"), &format!("{}", index + 1));
    let tar = (0..30).fold(Tar::new(), link);
    let tar = (0..1900).fold(tar.directory("30"), |tar, index| tar.file(&format!("0/{index}"), ""));
    let error = try_convert(&tar.end()).unwrap_err();
    assert_eq!(over_limit(&error), 32_000, "{error}");
}

/// All that the walk over headers knows, to be damaged.
fn everything() -> Vec<u8> {
    let map = "2\n1\n1\n9\n1\n\0".to_owned() + &"\0".repeat(501) + "ab";
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"20")];
    Tar::new()
        .directory("d")
        .pax(&[("path", b"d/pax"), ("uid", b"7"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"1")])
        .file("cut", "content")
        .with(Head { magic: b"ustar  \0", ..Head::new("long", b'L') }, &b"n".repeat(120))
        .symlink("cut", "d")
        .pax(sparse)
        .file("sparse", &map)
        .head(&Head {
            extra: &[(386, b"00000000001\x0000000000002\0".to_vec()), (483, b"00000001000\0".to_vec())],
            size: b"00000000002",
            magic: b"ustar  \0",
            ..Head::new("old", b'S')
        })
        .body(b"ab")
        .link("hard", "d/pax")
        .file("d/.wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .end()
}

#[test]
fn undamaged_it_is_taken() {
    let (_, converted) = try_convert(&everything()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(converted.entries, 8);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Damage with right checksums, so that it is not found at once.
    #[test]
    fn damaged_layers_are_taken_or_refused_and_nothing_else(
        damage in proptest::collection::vec((0_usize..8000, proptest::num::u8::ANY), 0..6),
        length in 0_usize..20_000,
    ) {
        let mut tar = everything();
        for (at, byte) in damage {
            let at = at % tar.len();
            tar[at] = byte;
            let block = &mut tar[at / 512 * 512..][..512];
            if block[257..262] == *b"ustar" {
                sum(block);
            }
        }
        tar.truncate(length);
        match try_convert(&tar) {
            Ok((image, converted)) => {
                proptest::prop_assert_eq!(converted.blob_size, tar.len() as u64);
                Image::read(&image);
            }
            Err(error) => proptest::prop_assert_eq!(error.step(), crate::Step::Convert),
        }
    }
}
