//! Crash points: in test builds (feature `crash-points`), a process of ours ends at a stage, or its
//! surroundings fail there.
//!
//! Every process calls [`point`] where a stage begins for it. Without the feature that is nothing
//! at all. With it, the environment says what happens: `SQUALL_CRASH` holds role, stage, occurrence
//! (from 1) and fault, and `SQUALL_CRASH_DIR` a directory that serves the fault
//! (`runtime-tests/tests/crashes` makes both). The faults are real: the signal, the full file
//! system, the memory limit, the truncated layer come from the kernel.
//!
//! The monitor has no such points: it is tested as it is shipped, by a tracer that strikes at its
//! system calls.

/// Which process passes a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that calls the library.
    Caller,
    /// What forks launches for a program with threads.
    Spawner,
    /// What makes a container.
    Launch,
    /// The container's first process, up to its exec.
    Init,
}

#[cfg(not(feature = "crash-points"))]
pub(crate) use self::disarmed::{descriptors, point, variables};

#[cfg(feature = "crash-points")]
pub(crate) use self::armed::{descriptors, point, variables};

#[cfg(not(feature = "crash-points"))]
mod disarmed {
    use super::Role;
    use crate::stage::Stage;

    #[inline(always)]
    pub(crate) fn point(_: Role, _: Stage) {}

    /// What a program that is started without an environment still has to be told.
    pub(crate) fn variables() -> [(&'static str, String); 0] {
        []
    }

    pub(crate) fn descriptors<'fd>() -> impl Iterator<Item = std::os::fd::BorrowedFd<'fd>> {
        std::iter::empty()
    }
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::process::{Signal, getpid, kill_process};

    use super::Role;
    use crate::stage::Stage;

    /// What the environment asks for.
    struct Order {
        /// `role stage passing fault`, or `trace`.
        text: String,
        directory: PathBuf,
    }

    /// What a fault needs, open: init has no path to it any more.
    struct Means {
        directory: OwnedFd,
        /// `cgroup.procs` of a cgroup with a small memory limit.
        memory: Option<OwnedFd>,
        /// The file of a layer, to be truncated.
        layer: Option<OwnedFd>,
    }

    /// Read once, before a launch process clears its environment.
    static ORDER: OnceLock<Option<Order>> = OnceLock::new();

    /// Opened by a launch process for its init, and by every other process when it strikes.
    static MEANS: OnceLock<Option<Means>> = OnceLock::new();

    /// How often each stage was passed by this process or the ones that it was forked from.
    static PASSED: [AtomicU32; Stage::ALL.len() + 1] = [const { AtomicU32::new(0) }; Stage::ALL.len() + 1];

    /// What a program that is started without an environment still has to be told.
    pub(crate) fn variables() -> impl Iterator<Item = (&'static str, String)> {
        ["SQUALL_CRASH", "SQUALL_CRASH_DIR"].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)))
    }

    fn order() -> Option<&'static Order> {
        let read = || {
            let text = std::env::var("SQUALL_CRASH").ok()?;
            Some(Order { text, directory: std::env::var_os("SQUALL_CRASH_DIR")?.into() })
        };
        ORDER.get_or_init(read).as_ref()
    }

    fn means(order: &Order) -> Option<&'static Means> {
        let open = || {
            let path = |name: &str| order.directory.join(name);
            let writable = |name: &str| openat(CWD, path(name), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok();
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(CWD, &order.directory, flags, Mode::empty()).ok()?;
            Some(Means { directory, memory: writable("memory"), layer: writable("layer") })
        };
        MEANS.get_or_init(open).as_ref()
    }

    /// What an init has to keep for its faults.
    pub(crate) fn descriptors<'fd>() -> impl Iterator<Item = BorrowedFd<'fd>> {
        let opened = MEANS.get().and_then(Option::as_ref);
        let all =
            opened.into_iter().flat_map(|means| [Some(&means.directory), means.memory.as_ref(), means.layer.as_ref()]);
        all.flatten().map(|fd| -> BorrowedFd<'fd> { fd.as_fd() })
    }

    /// A stage begins in this process.
    pub(crate) fn point(role: Role, stage: Stage) {
        let Some(order) = order() else { return };
        let role = match role {
            Role::Caller => "caller",
            Role::Spawner => "spawner",
            Role::Launch => "launch",
            Role::Init => "init",
        };
        let passing = PASSED[stage as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let here = format!("{role} {stage} {passing}");
        if role == "launch" {
            means(order);
        }
        if order.text == "trace" {
            note(order, &here);
        }
        if let Some(fault) = order.text.strip_prefix(&here).and_then(|rest| rest.strip_prefix(' ')) {
            note(order, &here);
            strike(order, fault);
        }
    }

    /// The test sees by it that the point was passed.
    fn note(order: &Order, here: &str) {
        if let Some(mut file) = file(order, "passed") {
            let _ = file.write_all(format!("{here}\n").as_bytes());
        }
    }

    fn file(order: &Order, name: &str) -> Option<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&means(order)?.directory, name, flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
    }

    fn strike(order: &Order, fault: &str) {
        match fault {
            "kill" => drop(kill_process(getpid(), Signal::KILL)),
            "abort" => std::process::abort(),
            // For a tracer that waits for it.
            "stop" => drop(kill_process(getpid(), Signal::STOP)),
            "enospc" => fill(order),
            "memory" => exceed(order),
            "eio" => {
                let layer = means(order).and_then(|means| means.layer.as_ref()).expect("the test names a layer");
                rustix::fs::ftruncate(layer, 0).expect("it can be truncated");
            }
            other => panic!("there is no fault '{other}'"),
        }
    }

    /// Leaves no room on the file system that holds the directory.
    fn fill(order: &Order) {
        let Some(mut file) = file(order, "ballast") else { return };
        for block in [&[0_u8; 65536][..], &[0; 1]] {
            while file.write(block).is_ok_and(|written| written > 0) {}
        }
    }

    /// Goes into a cgroup with a small memory limit, and uses more.
    fn exceed(order: &Order) {
        let memory = means(order).and_then(|means| means.memory.as_ref()).expect("the test names a cgroup");
        rustix::io::write(memory, b"0").expect("it can be joined");
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        // More than any limit that a test sets.
        while hoard.len() < 4096 {
            hoard.push(vec![1; 1 << 20]);
        }
    }
}
