use std::ffi::CString;

use super::*;
use proptest::prelude::*;

pub fn example() -> Handover<'static> {
    Handover {
        id: "worker-1",
        boot_id: "6f1c",
        pid: 77,
        pidfd: 4,
        directory: 5,
        socket: 6,
        gate: Some(7),
        report: Some(9),
        upper: Some(8),
        removal: Some(c"/run/squall/containers/worker-1"),
        exit_file: Some(ExitFile { directory: 10, user: Some((1000, 100)), name: c"worker 1.exit.json" }),
        owner_uid: 1000,
        terms: Terms { deadline: Some(9), timeout: Some(13), stop_signal: Signal::TERM, grace_ms: 10 },
        created_unix_ns: 10,
        started_unix_ns: 11,
        started_boot_ns: 12,
        watches: List::of(&[
            OomWatch { fd: 20, kind: OomKind::Eventfd, baseline: 0, ancestor: None },
            OomWatch { fd: 21, kind: OomKind::MemoryEvents, baseline: 3, ancestor: Some("/a b") },
        ]),
        cgroups: List::of(&[
            CgroupLeaf { kind: CgroupKind::Memory, path: c"/sys/fs/cgroup/memory/a b=c/x" },
            CgroupLeaf { kind: CgroupKind::Unified, path: c"/sys/fs/cgroup/unified/x" },
        ]),
        held: List::of(&[30, 31]),
    }
}

proptest! {
    #[test]
    fn a_handover_arrives_as_it_was_written(
        id in "[^\0]{1,80}", boot_id in "[^\0]{1,40}", pid in 1u32.., fds in proptest::array::uniform5(4..i32::MAX), owner_uid: u32,
        deadline: Option<u64>, timeout: Option<u64>, signal in 1u8..=64, grace_ms: u32, started: [u64; 3], gate: bool,
        ancestors in proptest::collection::vec(("/[^\0]{0,90}", 4..i32::MAX, any::<u64>()), 0..MAX_WATCHES),
        paths in proptest::collection::vec(("/[^\0]{0,90}", 0usize..7), 0..=MAX_CGROUPS),
        held in proptest::collection::vec(4..i32::MAX, 0..=MAX_HELD),
    ) {
        let paths: Vec<_> = paths.iter().map(|(path, kind)| (CString::new(path.as_str()).unwrap(), CgroupKind::ALL[*kind].0)).collect();
        let mut handover = Handover {
            id: &id, boot_id: &boot_id, pid, pidfd: fds[0], directory: fds[1], socket: fds[2],
            gate: gate.then_some(fds[3]), report: gate.then_some(fds[4]), upper: (!gate).then_some(fds[4]), removal: gate.then_some(c"/a"), owner_uid,
            exit_file: gate.then_some(ExitFile { directory: fds[4], user: timeout.map(|_| (owner_uid, grace_ms)), name: c"a" }),
            terms: Terms { deadline, timeout, stop_signal: Signal::new(signal).unwrap(), grace_ms },
            created_unix_ns: started[2], started_unix_ns: started[0], started_boot_ns: started[1], watches: List::new(), cgroups: List::new(), held: List::of(&held),
        };
        for (path, fd, baseline) in &ancestors {
            handover.watches.push(OomWatch { fd: *fd, kind: OomKind::MemoryEvents, baseline: *baseline, ancestor: Some(path) }).unwrap();
        }
        for (path, kind) in &paths {
            handover.cgroups.push(CgroupLeaf { kind: *kind, path }).unwrap();
        }
        let text = handover.encode().unwrap();
        prop_assert_eq!(Handover::decode(&text), Some(handover));
        prop_assert_eq!(Handover::decode(&text[..text.len() - 1]), None, "without its last NUL");
    }

    #[test]
    fn no_bytes_at_all_make_the_decoder_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut text = example().encode().unwrap();
        for (index, byte) in flips {
            let length = text.len();
            text[index.index(length)] = byte;
        }
        if let Some(handover) = Handover::decode(&text) {
            prop_assert!(handover.fds().iter().all(|fd| *fd > HANDOVER_FD));
        }
    }
}

#[test]
fn a_malformed_text_is_no_handover() {
    let good = String::from_utf8(example().encode().unwrap()).unwrap();
    let table = [
        ("squall-handover=1\0", "squall-handover=2\0"),
        ("squall-handover=1\0", ""),
        ("pid=77\0", ""),
        ("pid=77\0", "pid=0\0"),
        ("pid=77\0", "pid=-77\0"),
        ("pid=77\0", "pid=4294967296\0"),
        ("pidfd=4\0", "pidfd=3\0"),
        ("pidfd=4\0", "pidfd=2147483648\0"),
        ("socket=6\0", ""),
        ("directory=5\0", "directory=five\0"),
        ("stop-signal=15\0", "stop-signal=65\0"),
        ("oom=20 eventfd 0 \0", "oom=20 eventfd 0\0"),
        ("oom=20 eventfd 0 \0", "oom=20 eventfds 0 \0"),
        ("cgroup=memory /sys", "cgroup=memory sys"),
        ("cgroup=memory /sys", "cgroup=hugetlb /sys"),
        ("id=worker-1\0", "name=worker-1\0"),
        ("held=30\0", "held=3\0"),
        ("exit-file=10 1000", "exit-file=3 1000"),
        ("exit-file=10 1000 100 worker 1.exit.json", "exit-file=10 1000 100"),
        ("exit-file=10 1000 100", "exit-file=10 - 100"),
        ("exit-file=10 1000 100 worker", "exit-file=10 1000 100 ../worker"),
        ("id=worker-1\0", "id\0"),
    ];
    for (from, to) in table {
        assert!(good.contains(from), "{from:?}");
        assert_eq!(Handover::decode(good.replacen(from, to, 1).as_bytes()), None, "{from:?} -> {to:?}");
    }
    assert_eq!(Handover::decode(b""), None);
    assert_eq!(Handover::decode(&[0; MAX_BYTES + 1]), None);
}

#[test]
fn what_the_format_cannot_say_is_refused_when_it_is_written() {
    let long = "x".repeat(MAX_BYTES);
    let relative = List::of(&[CgroupLeaf { kind: CgroupKind::Other, path: c"x" }]);
    let table = [
        Handover { id: "a\0b", ..example() },
        Handover { id: "", ..example() },
        Handover { id: &long, ..example() },
        Handover { pidfd: -4, ..example() },
        Handover { gate: Some(2), ..example() },
        Handover { exit_file: Some(ExitFile { directory: 10, user: None, name: c"" }), ..example() },
        Handover { cgroups: relative, ..example() },
    ];
    for handover in table {
        assert!(handover.encode().is_err(), "{handover:?}");
    }
}
