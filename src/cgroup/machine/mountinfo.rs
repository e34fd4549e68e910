//! The cgroup lines of `/proc/self/mountinfo`, as hierarchies.
//!
//! A pure parser: it opens nothing and ignores every line that it does not understand. Any process
//! may use it.

use std::borrow::Cow;

use super::layout::{Hierarchy, Kind};

/// Options of a v1 mount that are no controllers (`kernel/cgroup/cgroup-v1.c`,
/// `cgroup1_show_options`).
const PLAIN_OPTIONS: [&str; 9] =
    ["rw", "ro", "none", "all", "noprefix", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods"];

/// One mount of a hierarchy.
struct Mount<'t> {
    /// Device number: the same for every mount of one hierarchy.
    device: &'t str,
    hierarchy: Hierarchy,
}

/// The hierarchies in `text`, each once, in the order of their first mount. Of several mounts of
/// one hierarchy the best is taken: one that shows the root cgroup, then one below
/// `/sys/fs/cgroup`, then the first. The controllers of v2 are not in mountinfo and stay empty.
pub fn hierarchies_in_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Mount<'_>> = Vec::new();
    for mount in text.lines().filter_map(mount) {
        match found.iter_mut().find(|other| other.device == mount.device) {
            None => found.push(mount),
            Some(other) if rank(&mount.hierarchy) > rank(&other.hierarchy) => *other = mount,
            Some(_) => {}
        }
    }
    found.into_iter().map(|mount| mount.hierarchy).collect()
}

fn rank(hierarchy: &Hierarchy) -> (bool, bool) {
    let usual_place = hierarchy.mount_point == "/sys/fs/cgroup" || hierarchy.mount_point.starts_with("/sys/fs/cgroup/");
    (hierarchy.root == "/", usual_place)
}

fn mount(line: &str) -> Option<Mount<'_>> {
    // Spaces within fields are escaped, so the separator is unambiguous; most lines end here.
    let (before, after) = line.split_once(" - cgroup")?;
    let mut fields = before.split(' ').skip(2);
    let (device, root, mount_point) = (fields.next()?, fields.next()?, fields.next()?);
    let mut tail = after.split(' ');
    let kind = match tail.next()? {
        "" => v1(tail.nth(1)?),
        "2" => Kind::V2 { controllers: Vec::new() },
        _ => return None,
    };
    let mount_point = unescape(mount_point)?.into_owned();
    let root = unescape(root)?.into_owned();
    Some(Mount { device, hierarchy: Hierarchy { mount_point, root, kind } })
}

fn v1(options: &str) -> Kind {
    let mut controllers = Vec::new();
    let mut name = None;
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("name", value)) => name = Some(value.to_owned()),
            Some(_) => {}
            None if PLAIN_OPTIONS.contains(&option) || option.is_empty() => {}
            None => controllers.push(option.to_owned()),
        }
    }
    Kind::V1 { controllers, name }
}

/// Undoes the kernel's octal escapes (space, tab, newline, backslash, `#`). `None` for a text that
/// is not absolute or not UTF-8 afterwards.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    // A replacement character means that the bytes were not UTF-8: such a place could never be
    // opened under this name.
    if !text.starts_with('/') || text.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    if !text.contains('\\') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(octal_byte);
        plain.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8(plain).ok().map(Cow::Owned)
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    let value = digits
        .iter()
        .try_fold(0u32, |value, digit| matches!(digit, b'0'..=b'7').then(|| value * 8 + u32::from(digit - b'0')))?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(text: &str) -> Vec<(String, Kind)> {
        hierarchies_in_mountinfo(text).into_iter().map(|hierarchy| (hierarchy.mount_point, hierarchy.kind)).collect()
    }

    fn v1_of(controllers: &[&str], name: Option<&str>) -> Kind {
        Kind::V1 {
            controllers: controllers.iter().map(|name| name.to_string()).collect(),
            name: name.map(str::to_owned),
        }
    }

    const V2: Kind = Kind::V2 { controllers: Vec::new() };

    #[test]
    fn each_layout_is_recognised() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 master:1 - cgroup cgroup rw,xattr,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected = [
            ("/sys/fs/cgroup/cpu".into(), v1_of(&["cpu"], None)),
            ("/sys/fs/cgroup/systemd".into(), v1_of(&[], Some("systemd"))),
            ("/sys/fs/cgroup/unified".into(), V2),
        ];
        assert_eq!(places(hybrid), expected);

        let together = "35 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
                        36 25 0:32 / /sys/fs/cgroup/memory rw shared:12 - cgroup none rw,memory,clone_children,release_agent=/sbin/x\n";
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct".into(), v1_of(&["cpu", "cpuacct"], None)),
            ("/sys/fs/cgroup/memory".into(), v1_of(&["memory"], None)),
        ];
        assert_eq!(places(together), expected);
        assert_eq!(places("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"), [("/sys/fs/cgroup".into(), V2)]);
    }

    #[test]
    fn of_several_mounts_of_a_hierarchy_the_best_is_taken() {
        let first = "1 0 0:29 /docker/a /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let second = "2 0 0:29 / /mnt/cpu rw - cgroup cgroup rw,cpu\n";
        let third = "3 0 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let fourth = "4 0 0:29 / /srv/chroot/sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        for (text, mount_point) in [
            ([first, second].concat(), "/mnt/cpu"),
            ([second, third, fourth].concat(), "/sys/fs/cgroup/cpu"),
            ([fourth, third, first].concat(), "/sys/fs/cgroup/cpu"),
            ([second, fourth].concat(), "/mnt/cpu"),
            (first.to_owned(), "/sys/fs/cgroup/cpu"),
        ] {
            let found = hierarchies_in_mountinfo(&text);
            assert_eq!((found.len(), found[0].mount_point.as_str()), (1, mount_point), "{text}");
        }
        assert_eq!(hierarchies_in_mountinfo(first)[0].root, "/docker/a");
    }

    #[test]
    fn escapes_are_undone_and_broken_lines_are_ignored() {
        assert_eq!(places("1 0 0:9 / /a\\040b\\134040c\\011 rw - cgroup2 x rw"), [("/a b\\040c\t".into(), V2)]);
        for line in [
            "",
            " - cgroup",
            " - cgroup2 x rw",
            "1 0 0:9 / /m rw - cgroup",
            "1 0 0:9 / /m rw - cgroup x",
            "1 0 0:9 / /m rw - cgroup3 x rw",
            "1 0 0:9 / relative rw - cgroup2 x rw",
            "1 0 0:9 / /bad\u{fffd}bytes rw - cgroup2 x rw",
            "1 0 0:9 / /\\377 rw - cgroup2 x rw",
            "1 0 0:9 / /m rw - fuse.cgroup x rw",
            "1 0 0:9 / /cgroup rw - ext4 /dev/sda rw",
        ] {
            assert_eq!(places(line), [], "{line}");
        }
        for text in ["/a\\04", "/a\\", "/a\\048", "/a\\777"] {
            assert_eq!(unescape(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_thousand_other_mounts_do_not_hide_the_one() {
        let mut text = "50 1 7:0 / /run/layers/x ro,nodev shared:4 - squashfs /dev/loop0 ro\n".repeat(1000);
        text.push_str("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(hierarchies_in_mountinfo(&text).len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9 /\\\\a-c,=:-]|cgroup2?| - cgroup2? |\n){0,60}") {
            for hierarchy in hierarchies_in_mountinfo(&text) {
                prop_assert!(hierarchy.mount_point.starts_with('/'));
            }
        }
    }
}
