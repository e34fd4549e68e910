//! Entries that a layer may have.

use super::archive::Head;
use super::*;

const OPAQUE: &str = "trusted.overlay.opaque";

fn is_whiteout(inode: &Inode) -> bool {
    (inode.kind, inode.device) == ('c', 0)
}

fn is_opaque(inode: &Inode) -> bool {
    inode.kind == 'd' && inode.xattrs.get(OPAQUE).is_some_and(|value| value == b"y")
}

#[test]
fn every_kind_of_entry_comes_through() {
    let (image, notes) = layer(
        Tar::new()
            .directory("./")
            .directory("d/")
            .with(Head { mode: 0o104755, uid: b"0001750", gid: b"0000144", ..Head::new("d/f", b'0') }, b"content")
            .symlink("d/l", "../nowhere")
            .link("h", "d/f")
            .head(&Head { device: (8, 257), ..Head::new("b", b'4') })
            .head(&Head { device: (1, 3), ..Head::new("c", b'3') })
            .head(&Head::new("p", b'6'))
            .file("empty", ""),
    );
    assert_eq!(notes, [""; 0]);
    assert_eq!(image.paths(), ["b", "c", "d", "d/f", "d/l", "empty", "h", "p"]);
    let file = image.at("d/f");
    assert_eq!((file.kind, file.mode, file.uid, file.gid, file.time, file.links), ('f', 0o4755, 1000, 100, 5, 2));
    assert_eq!(file.content, b"content");
    assert_eq!(image.at("h"), file);
    assert_eq!((image.at("d/l").kind, image.at("d/l").content.as_slice()), ('l', &b"../nowhere"[..]));
    assert_eq!((image.at("b").kind, image.at("b").device), ('b', 0x10_0801));
    assert_eq!((image.at("c").kind, image.at("c").device), ('c', 0x103));
    assert_eq!(image.at("p").kind, 'p');
    assert_eq!((image.at("").mode, image.at("d").mode), (0o700, 0o700));
    assert!(image.at("empty").content.is_empty());
}

#[test]
fn whiteouts_have_the_owner_of_their_header() {
    let (image, _) = layer(Tar::new().directory("d").head(&Head { uid: b"0000007", ..Head::new("d/.wh.gone", b'0') }));
    let gone = image.at("d/gone");
    assert!(is_whiteout(gone));
    assert_eq!((gone.uid, gone.time, gone.mode), (7, 5, 0));
}

#[test]
fn a_whiteout_hides_only_what_lower_layers_have() {
    for first in [true, false] {
        let entries = |tar: Tar| tar.file("file", "new").directory("dir").file("dir/x", "x").file("on/the/way", "");
        let whiteouts = |tar: Tar| tar.file(".wh.file", "").file(".wh.dir", "").file("on/.wh.the", "");
        let tar = if first { entries(whiteouts(Tar::new())) } else { whiteouts(entries(Tar::new())) };
        let (image, _) = layer(tar);
        assert_eq!(image.at("file").content, b"new");
        assert!(is_opaque(image.at("dir")) && is_opaque(image.at("on/the")), "whiteouts first: {first}");
        assert!(!is_opaque(image.at("on")));
        assert_eq!(image.paths(), ["dir", "dir/x", "file", "on", "on/the", "on/the/way"]);
    }
}

#[test]
fn an_opaque_directory_may_be_listed_before_its_mark_after_it_or_never() {
    let mark = |tar: Tar, path: &str| tar.file(&format!("{path}.wh..wh..opq"), "");
    let tar = mark(Tar::new().pax(&[("SCHILY.xattr.user.a", b"1")]).directory("before"), "before/");
    let tar = mark(tar, "after/").directory("after").file("after/x", "");
    let (image, notes) = layer(mark(mark(tar, "never/"), ""));
    for path in ["before", "after", "never", ""] {
        assert!(is_opaque(image.at(path)), "{path:?}");
    }
    assert_eq!(image.at("before").xattrs["user.a"], b"1");
    assert_eq!((image.at("after").mode, image.at("never").mode), (0o700, 0o755));
    assert_eq!(notes, ["directories never listed made as 0755 root:root: 1, first \"never\""]);
}

#[test]
fn a_mark_whose_directory_was_replaced_means_nothing() {
    let (image, _) = layer(Tar::new().file("a/.wh.x", "").file("b/.wh..wh..opq", "").file("a", "").file("b", ""));
    assert_eq!(image.paths(), ["a", "b"]);
    assert!(image.at("b").xattrs.is_empty());
}

#[test]
fn other_names_of_aufs_are_left_out() {
    let tar = Tar::new().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "").file("a", "");
    let (image, notes) = layer(tar);
    assert_eq!(image.paths(), ["a"]);
    assert_eq!(notes, ["aufs names skipped: 3, first \".wh..wh.plnk\""]);
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let tar = Tar::new().file("a", "1").file("a", "2").directory("d").file("d/x", "").directory("d").symlink("s", "d");
    let (image, _) = layer(tar.directory("s").file("d", "now a file").directory("e").file("e/kept", "").directory("e"));
    assert_eq!(image.paths(), ["a", "d", "e", "e/kept", "s"]);
    assert_eq!(image.at("a").content, b"2");
    assert_eq!((image.at("d").kind, image.at("s").kind), ('f', 'd'));
}

#[test]
fn paths_are_normalised() {
    let (image, _) = layer(Tar::new().file("/abs", "").file("./dot", "").file("a//b/./c", "").file("old/", ""));
    assert_eq!(image.paths(), ["a", "a/b", "a/b/c", "abs", "dot", "old"]);
    assert_eq!(image.at("old").kind, 'd', "before there was a letter for directories");
}

#[test]
fn entries_below_a_symlink_go_where_it_leads() {
    let tar = Tar::new().directory("usr").directory("usr/lib").symlink("lib", "usr/lib").symlink("usr/up", "/../lib");
    let (image, _) = layer(
        tar.file("lib/x", "1")
            .file("usr/up/y", "2")
            .symlink("new", "made/for/it")
            .file("new/z", "3")
            .link("lib/h", "usr/up/x")
            .file("lib/.wh.gone", ""),
    );
    assert_eq!(
        (image.at("usr/lib/x").content.as_slice(), image.at("usr/lib/y").content.as_slice()),
        (&b"1"[..], &b"2"[..])
    );
    assert_eq!(image.at("made/for/it/z").content, b"3");
    assert_eq!(image.at("usr/lib/h").number, image.at("usr/lib/x").number);
    assert!(is_whiteout(image.at("usr/lib/gone")));
    assert_eq!(image.at("lib").kind, 'l');
}

#[test]
fn attributes_are_kept_dropped_or_refused_by_their_name() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let (image, notes) = layer(
        Tar::new()
            .pax(&[
                ("SCHILY.xattr.security.capability", capability),
                ("SCHILY.xattr.user.empty", b""),
                ("SCHILY.xattr.user.lines", b"1\n2\0"),
                ("LIBARCHIVE.xattr.user.b64", b"QUI"),
                ("SCHILY.xattr.trusted.other", b"1"),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.security.selinux", b"label"),
                ("SCHILY.xattr.system.posix_acl_access", b"acl"),
                ("SCHILY.xattr.com.apple.x", b"1"),
                ("comment", b"nothing"),
            ])
            .file("f", ""),
    );
    let xattrs: Vec<_> = image.at("f").xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(
        xattrs,
        [
            ("security.capability", &capability[..]),
            ("trusted.other", b"1"),
            ("user.b64", b"AB"),
            ("user.empty", b""),
            ("user.lines", b"1\n2\0"),
        ]
    );
    assert_eq!(
        notes,
        [
            "POSIX ACLs dropped: 1, first \"f\"",
            "trusted.overlay attributes dropped: 1, first \"f\"",
            "SELinux labels dropped: 1, first \"f\"",
            "unknown extended attributes dropped: 1, first \"f\"",
        ]
    );
}

#[test]
fn long_names_come_in_three_ways() {
    let long = "n".repeat(200);
    let (prefix, deep) = ("p".repeat(150), format!("dir/{}", "d".repeat(180)));
    let tar = Tar::new()
        .with(Head { magic: b"ustar  \0", ..Head::new("././@LongLink", b'L') }, format!("{long}\0").as_bytes())
        .with(Head { magic: b"ustar  \0", ..Head::new("././@LongLink", b'K') }, format!("{deep}\0").as_bytes())
        .symlink("cut", "cut")
        .head(&Head { prefix: prefix.as_bytes(), ..Head::new("ustar", b'0') })
        .pax(&[("path", deep.as_bytes())])
        .file("cut", "")
        .pax(&[("linkpath", deep.as_bytes())])
        .link("hard", "cut");
    let (image, _) = layer(tar);
    assert_eq!(image.at(&long).content, deep.as_bytes());
    assert_eq!(image.at(&format!("{prefix}/ustar")).kind, 'f');
    assert_eq!(image.at(&deep).number, image.at("hard").number);
}

#[test]
fn large_ids_come_in_base_256_and_in_pax() {
    let tar = Tar::new()
        .head(&Head { uid: b"\x80\0\0\0\xff\xff\xff\xfe", ..Head::new("binary", b'0') })
        .pax(&[("uid", b"3000000000"), ("gid", b"4294967294")])
        .file("pax", "");
    let (image, _) = layer(tar);
    assert_eq!(image.at("binary").uid, 4_294_967_294);
    assert_eq!((image.at("pax").uid, image.at("pax").gid), (3_000_000_000, 4_294_967_294));
}

#[test]
fn times_are_clamped_and_rounded_down_with_a_note() {
    let tar = Tar::new()
        .head(&Head { time: b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", ..Head::new("binary", b'0') })
        .pax(&[("mtime", b"-0.5")])
        .file("before", "")
        .pax(&[("mtime", b"1700000000.999")])
        .file("fraction", "")
        .pax(&[("mtime", b"4294967296")])
        .file("late", "");
    let (image, notes) = layer(tar);
    let times = ["binary", "before", "fraction", "late"].map(|path| image.at(path).time);
    assert_eq!(times, [0, 0, 1_700_000_000, u32::MAX]);
    assert_eq!(
        notes,
        [
            "times outside 1970 to 2106 clamped: 3, first \"binary\"",
            "fractions of a second dropped: 2, first \"before\"",
        ]
    );
}

#[test]
fn global_headers_and_volume_labels_are_passed_over() {
    let global = [archive::record("uid", b"7"), archive::record("path", b"everywhere")].concat();
    let tar = Tar::new().head(&Head::new("label", b'V')).with(Head::new("global", b'g'), &global).file("a", "");
    let (image, notes) = layer(tar);
    assert_eq!(image.paths(), ["a"]);
    assert_eq!(image.at("a").uid, 0);
    assert_eq!(notes, ["global PAX headers ignored: 1, first \"global\"", "volume labels skipped: 1, first \"label\""]);
}

#[test]
fn a_size_means_nothing_for_what_has_no_content() {
    let size = b"00000000777";
    let tar = Tar::new()
        .file("a", "content")
        .head(&Head { size, link: b"a", ..Head::new("h", b'1') })
        .head(&Head { size, link: b"a", ..Head::new("l", b'2') })
        .head(&Head { size, ..Head::new("d", b'5') });
    assert_eq!(layer(tar).0.paths(), ["a", "d", "h", "l"]);
}

#[test]
fn equal_files_are_stored_once_and_holes_are_not_stored() {
    let large = "large ".repeat(3000);
    let zeros = "\0".repeat(10_000);
    let (image, _) = layer(Tar::new().file("a", &large).file("z", &zeros).file("b", &large).file("c", "other"));
    assert_eq!(image.at("a").start, image.at("b").start);
    assert_eq!(image.at("b").content, large.as_bytes());
    assert_ne!(image.at("a").number, image.at("b").number);
    assert_eq!((image.at("z").holes, image.at("z").content.len()), (10_000, 10_000));
    assert_eq!(image.at("c").content, b"other");
}
