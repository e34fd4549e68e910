//! Two ways to the same container: ours, and libcontainer's own `ContainerBuilder` with the
//! document of `squall::testing::oci`.
//!
//! Everything that the kernel says of both is compared, from within the container and from the
//! host. What differs on purpose stands in [`intended`] with its reason; any other difference fails
//! the test.

mod builder;
mod caller;
mod facts;
mod intended;
mod mount_table;
mod ours;

use std::collections::BTreeSet;
use std::fs;

use runtime_tests::{Bed, cases};
use squall::cgroup::{Limits, SwapLimit};
use squall::request::{Builder, Identity, LaunchSpec, Network, RootMode};
use squall::testing::oci;

pub use builder::ROLES;
use facts::{Caller, Facts, seen_from_outside};
use intended::Difference;

cases![
    the_plainest_container_is_the_same_both_ways,
    a_writable_root_is_the_same_both_ways,
    the_hosts_network_is_the_same_both_ways,
    a_user_with_groups_is_the_same_both_ways,
    root_itself_is_the_same_both_ways,
    binds_are_the_same_both_ways,
    tmpfs_mounts_are_the_same_both_ways,
    limits_are_the_same_both_ways,
    a_hostname_a_directory_and_variables_are_the_same_both_ways,
    a_container_with_everything_is_the_same_and_every_intended_difference_is_one,
    a_difference_in_the_document_is_found,
];

/// The least that can be asked for. The oracle needs a PATH.
fn plain(bed: &Bed) -> Builder {
    let user = Identity::new(4711, 4711, []).unwrap();
    LaunchSpec::builder("ours")
        .layers([bed.probe()])
        .args(["/bin/probe"])
        .env(["PATH=/bin"])
        .user(user)
        .cgroup(bed.cgroup() + "/ours")
}

/// What both ways make of a spec.
struct Both {
    ours: Facts,
    oracle: Facts,
}

impl Both {
    /// Launches both, the oracle with the document of another spec where one is given.
    fn of(bed: &Bed, spec: Builder, other: Option<Builder>) -> Both {
        caller::be_unclean();
        let caller = Caller::of_this_process();
        let other = other.unwrap_or_else(|| spec.clone()).cgroup(bed.cgroup() + "/oracle");
        let with = |builder: &Builder, command| builder.clone().args(["/bin/probe", command]).build().unwrap();
        let document = |command| oci::document(&with(&other, command), &builder::root(bed)).unwrap();

        let report = ours::launch(bed, &with(&spec, "report")).output();
        let mut ours = caller.seen_inside(&serde_json::from_str(&report).unwrap());
        let worker = ours::launch(bed, &with(&spec, "copy"));
        ours.extend(seen_from_outside(worker.pid(), &(bed.cgroup() + "/ours")));
        worker.output();

        let report = builder::launch(bed, &document("report")).output();
        let mut oracle = caller.seen_inside(&serde_json::from_str(&report).unwrap());
        let worker = builder::launch(bed, &document("copy"));
        oracle.extend(seen_from_outside(worker.pid, &(bed.cgroup() + "/oracle")));
        worker.output();
        remove_cgroups(bed);
        Both { ours, oracle }
    }

    /// What differs: the fact, ours, the oracle's.
    fn differences(&self) -> Vec<Difference<'_>> {
        let names: BTreeSet<&String> = self.ours.keys().chain(self.oracle.keys()).collect();
        let value = |facts: &'_ Facts, name: &String| facts.get(name).cloned();
        let all = names.into_iter().map(|name| Difference {
            name,
            ours: value(&self.ours, name),
            oracle: value(&self.oracle, name),
        });
        all.filter(|difference| difference.ours != difference.oracle).collect()
    }

    /// What differs and should not.
    fn unintended(&self) -> Vec<String> {
        let differences = self.differences().into_iter().filter(|difference| intended::reason(difference).is_none());
        let mut differences: Vec<String> = differences.map(|difference| difference.to_string()).collect();
        differences.sort();
        differences
    }
}

fn check(bed: &Bed, spec: Builder) {
    let unintended = Both::of(bed, spec, None).unintended();
    assert!(unintended.is_empty(), "{}", unintended.join("\n"));
}

/// The oracle removes its own cgroup and leaves the parent.
fn remove_cgroups(bed: &Bed) {
    for directory in runtime_tests::host::cgroup_directories(&bed.cgroup()) {
        let _ = fs::remove_dir(directory);
    }
}

fn the_plainest_container_is_the_same_both_ways(bed: &Bed) {
    check(bed, plain(bed));
}

fn a_writable_root_is_the_same_both_ways(bed: &Bed) {
    check(bed, plain(bed).root(RootMode::Writable { size_bytes: Some(1 << 20) }));
}

fn the_hosts_network_is_the_same_both_ways(bed: &Bed) {
    check(bed, plain(bed).network(Network::Host));
}

fn a_user_with_groups_is_the_same_both_ways(bed: &Bed) {
    check(bed, plain(bed).user(Identity::new(1000, 1001, [27, 44, 1001]).unwrap()));
}

/// But for a second filter: even without one of its own, a worker that is root must not have
/// capabilities again in a user namespace.
fn root_itself_is_the_same_both_ways(bed: &Bed) {
    let both = Both::of(bed, plain(bed).user(Identity::new(0, 0, []).unwrap()), None);
    let (filter, other): (Vec<String>, Vec<String>) =
        both.unintended().into_iter().partition(|difference| difference.starts_with("status/Seccomp"));
    assert_eq!(filter.len(), 1, "the number of filters: {filter:?}");
    assert!(other.is_empty(), "{}", other.join("\n"));
}

fn with_binds(bed: &Bed, spec: Builder) -> Builder {
    let (directory, file) = (bed.file("bound"), bed.file("bound file"));
    fs::create_dir_all(format!("{directory}/within")).unwrap();
    fs::write(&file, "bound").unwrap();
    spec.bind(&directory, "/mnt/read only", &["ro"])
        .bind(&directory, "/mnt/writable", &["rw"])
        .bind(&file, "/etc/one file", &["ro", "bind"])
        .bind(&directory, "/mnt/special", &["rw", "noexec", "suid", "dev", "noatime", "slave"])
        .bind(&directory, "/mnt/writable/within", &["rro"])
        .bind(&directory, "/mnt/without links", &["nosymfollow"])
}

fn binds_are_the_same_both_ways(bed: &Bed) {
    check(bed, with_binds(bed, plain(bed)));
}

fn tmpfs_mounts_are_the_same_both_ways(bed: &Bed) {
    check(
        bed,
        plain(bed).tmpfs("/tmp", Some(1 << 20), 0o700).tmpfs("/data", None, 0o1777).tmpfs(
            "/data/deep/er",
            Some(8192),
            0o755,
        ),
    );
}

fn limits() -> Limits {
    Limits {
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(200_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".parse().unwrap()),
        cpuset_mems: Some("0".parse().unwrap()),
        memory_bytes: Some(64 << 20),
        memory_swap_bytes: Some(SwapLimit::Total(64 << 20)),
        memory_reservation_bytes: Some(32 << 20),
        pids: Some(40),
        ..Limits::default()
    }
}

fn limits_are_the_same_both_ways(bed: &Bed) {
    check(bed, plain(bed).limits(limits()));
}

fn with_surroundings(spec: Builder) -> Builder {
    spec.hostname("worker-7").cwd("/tmp").env(["EMPTY=", "TEXT=a = b\nc", "PATH2=x"])
}

fn a_hostname_a_directory_and_variables_are_the_same_both_ways(bed: &Bed) {
    check(bed, with_surroundings(plain(bed)));
}

fn a_container_with_everything_is_the_same_and_every_intended_difference_is_one(bed: &Bed) {
    let users = bed.file("users");
    fs::write(&users, "worker:x:4711:4711::/home/worker:/bin/false\n").unwrap();
    let spec = with_surroundings(with_binds(bed, plain(bed))).limits(limits()).tmpfs("/data", Some(1 << 20), 0o1777);
    let spec = spec.bind(&users, "/etc/passwd", &["ro"]);
    let both = Both::of(bed, spec, None);
    assert!(both.unintended().is_empty(), "{}", both.unintended().join("\n"));
    let differences = both.differences();
    // On other layouts there is less to differ in.
    if !std::path::Path::new("/sys/fs/cgroup/unified").exists() {
        return;
    }
    let stale = intended::stale(&differences);
    assert!(stale.is_empty(), "these are the same now, so they are no differences to be explained: {stale:#?}");
}

fn a_difference_in_the_document_is_found(bed: &Bed) {
    let spec = |mode, pids, name| {
        let limits = Limits { pids: Some(pids), ..Limits::default() };
        plain(bed).hostname(name).limits(limits).tmpfs("/data", Some(8192), mode)
    };
    let both = Both::of(
        bed,
        spec(0o700, 40, "a"),
        Some(spec(0o755, 41, "b").network(Network::Host).bind("/", "/host", &["ro"])),
    );
    let found = both.unintended().join("\n");
    for expected in ["mount/data", "limit/pids.max", "process/hostname", "namespace/net", "mount/host", "process/root"]
    {
        assert!(found.contains(expected), "{expected} is not among\n{found}");
    }
}
