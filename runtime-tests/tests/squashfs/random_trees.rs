//! Random sequences of entries.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use squall::squashfs::{Attributes, DeviceKind, Stored};

use crate::images::{Both, noise, owned};
use crate::model::{Entry, Seen, What, assert_same, walk};
use crate::surroundings::{Mounted, isolated};

/// Few names, so that paths meet; no white space, so that a listing can be parsed.
fn any_path() -> impl Strategy<Value = PathBuf> {
    let name = prop_oneof![
        6 => prop::sample::select(vec![&b"a"[..], b"b", b"c", b"dir"]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(prop_oneof![b'!'..=b'.', b'0'..=b'~', 0xa1_u8..=0xff], 1..=60)
            .prop_filter("names of directories themselves", |name| name != b"." && name != b".."),
    ];
    prop::collection::vec(name, 0..4).prop_map(|names| names.iter().map(|name| OsStr::from_bytes(name)).collect())
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let id = prop_oneof![Just(0_u32), Just(1000), 0..u32::MAX];
    let value = prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..20), 1 => Just(vec![5; 9000])];
    let name = prop::sample::select(vec!["user.a", "user.b", "trusted.overlay.opaque", "trusted.t"]);
    let xattrs = prop::collection::btree_map(name.prop_map(|name| name.as_bytes().to_vec()), value, 0..3);
    let time = prop::sample::select(vec![0, 1_700_000_000, u32::MAX]);
    (0_u32..=0o7777, id.clone(), id, time, xattrs).prop_map(|(mode, uid, gid, time, xattrs)| Attributes {
        xattrs: xattrs.into_iter().collect(),
        ..owned(mode, uid, gid, time)
    })
}

fn any_what() -> impl Strategy<Value = What> {
    let length = prop_oneof![Just(0), 1_usize..100, Just(4096), Just(8192), 4000_usize..20_000];
    let file = (any::<u64>(), length, any::<bool>())
        .prop_map(|(seed, length, zeros)| Entry::File(if zeros { vec![0; length] } else { noise(seed, length) }));
    let kind = prop::sample::select(vec![DeviceKind::Character, DeviceKind::Block]);
    let entry = prop_oneof![
        4 => Just(Entry::Directory),
        4 => file,
        1 => "[a-z/]{1,30}".prop_map(Entry::Symlink),
        1 => (kind, 0_u32..4096, 0_u32..1_048_576).prop_map(|(kind, major, minor)| Entry::Device(kind, major, minor)),
        1 => Just(Entry::Fifo),
        1 => Just(Entry::Socket),
    ];
    prop_oneof![
        4 => (entry, any_attributes()).prop_map(|(entry, attributes)| What::New(entry, attributes)),
        1 => any_path().prop_map(What::LinkTo),
    ]
}

/// Writes random trees and has each looked at.
pub fn for_random_trees(image: &Path, cases: u32, check: impl Fn(&BTreeMap<PathBuf, Seen>)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let entries = prop::collection::vec((any_path(), any_what()), 0..40);
    let result = TestRunner::new(config).run(&entries, |entries| {
        let mut both = Both::new(image, 4096, Box::new(Stored));
        for (path, what) in &entries {
            both.apply(path, what);
        }
        check(&both.finish(image));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_kernel_shows_random_trees_as_they_were_written() {
    isolated("random_trees::the_kernel_shows_random_trees_as_they_were_written", |directory| {
        let image = directory.join("image.sqsh");
        for_random_trees(&image, 150, |expected| {
            let mounted = Mounted::new(&image, &directory.join("mnt"));
            let found = walk(&mounted.0);
            assert_same(&found, expected);
        });
    });
}
