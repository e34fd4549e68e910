//! The rules of a request beyond what its types already hold: numbers that the kernel refuses,
//! sizes that no launch survives.
//!
//! A bound stands here only where the kernel would refuse the value or where a worker could never
//! start; the source of each is beside it.

use std::time::Duration;

use serde_json::Value;

use super::apparmor::AppArmor;
use super::environment::Environment;
use super::log::Log;
use super::mount::Mount;
use super::path::{AbsolutePath, LayerPath};
use super::resources::{ExclusiveCpus, MemoryPromise};
use super::seccomp::{ProfileDocument, Seccomp};
use super::selinux::Selinux;
use super::spec::{Fields, HostDirectory, RootMode};
use crate::cgroup::{CgroupPath, Limits, Manager, Scope, SwapLimit};
use crate::document::Capped;
use crate::error::Problem;

/// Most layers of one overlay: the kernel's `OVL_MAX_STACK`.
pub(crate) const MAX_LAYERS: usize = 500;

/// Longest argument or variable in bytes, without its NUL: the kernel's `MAX_ARG_STRLEN`, 32 pages
/// of 4 KiB.
pub(crate) const MAX_STRING_BYTES: usize = 32 * 4096 - 1;

/// Most bytes of all arguments and variables, each with its NUL and its pointer: a quarter of the
/// usual stack limit of 8 MiB, which is what execve(2) and `getconf ARG_MAX` allow.
const MAX_COMMAND_BYTES: usize = 2 << 20;

/// Least memory limit. The kernel would take less; this is a choice: below it init is killed before
/// it can become a workload, so the number is a mistake (a limit meant in KiB or MiB, mostly).
const MIN_MEMORY_BYTES: u64 = 512 << 10;

/// Least CPU quota and period: the kernel's `min_cfs_quota_period`, 1 ms.
const MIN_CPU_US: u64 = 1000;

/// Greatest CPU period: the kernel's `max_cfs_quota_period`, 1 s.
const MAX_PERIOD_US: u64 = 1_000_000;

/// Greatest CPU quota: the kernel's `max_cfs_runtime`, `MAX_BW` = 2^44 - 1 microseconds.
const MAX_QUOTA_US: u64 = (1 << 44) - 1;

/// CPU shares: the kernel's `MIN_SHARES` and `MAX_SHARES`.
pub(crate) const SHARES: std::ops::RangeInclusive<u64> = 2..=1 << 18;

/// Most processes: the kernel's `PID_MAX_LIMIT` on 64-bit machines.
const MAX_PIDS: u64 = 1 << 22;

/// Block I/O weight: the range of the OCI runtime specification.
const BLKIO_WEIGHT: std::ops::RangeInclusive<u16> = 10..=1000;

/// Greatest size of anything: the kernel counts in signed 64 bits.
const MAX_BYTES: u64 = i64::MAX as u64;

/// Least size of a tmpfs: a page. 0 would mean "no limit" to the kernel.
const MIN_TMPFS_BYTES: u64 = 4096;

/// Longest time limit: 100 years, so that a deadline in nanoseconds fits 64 bits.
const MAX_TIMEOUT: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Deepest nesting of a seccomp profile: a real one has 6 levels, serde_json reads 128.
pub(crate) const MAX_SECCOMP_DEPTH: usize = 32;

/// What the rules look at. A field is `None` while a builder has not been given it.
pub(crate) struct Rules<'a> {
    pub(crate) layers: Option<&'a [LayerPath]>,
    pub(crate) args: Option<&'a [String]>,
    pub(crate) env: &'a Environment,
    pub(crate) root: &'a RootMode,
    pub(crate) mounts: &'a [Mount],
    /// The cgroup, where systemd is to make it.
    pub(crate) scope: Option<&'a CgroupPath>,
    pub(crate) limits: &'a Limits,
    /// Pid file and exit file.
    pub(crate) files: [Option<&'a AbsolutePath>; 2],
    pub(crate) timeout: Option<Duration>,
    pub(crate) stop_signal: i32,
    pub(crate) seccomp: &'a Seccomp,
    pub(crate) apparmor: &'a AppArmor,
    pub(crate) selinux: &'a Selinux,
    pub(crate) exclusive_cpus: Option<ExclusiveCpus>,
    pub(crate) memory_promise: MemoryPromise,
    pub(crate) log: Option<&'a Log>,
}

impl<'a> Rules<'a> {
    /// The rules' view of all fields.
    pub(crate) fn of(fields: &'a Fields) -> Rules<'a> {
        Rules {
            layers: Some(&fields.layers),
            args: Some(&fields.args),
            env: &fields.env,
            root: &fields.root,
            mounts: &fields.mounts,
            scope: Some(&fields.cgroup).filter(|_| fields.cgroup_manager == Manager::Systemd),
            limits: &fields.limits,
            files: [fields.pid_file.as_ref(), fields.exit_file.as_ref()],
            timeout: fields.timeout,
            stop_signal: fields.stop_signal,
            seccomp: &fields.seccomp,
            apparmor: &fields.apparmor,
            selinux: &fields.selinux,
            exclusive_cpus: fields.exclusive_cpus,
            memory_promise: fields.memory_promise,
            log: fields.log.as_ref(),
        }
    }

    /// Everything that breaks a rule, in the order of the fields.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Found::default();
        self.layers.into_iter().for_each(|layers| found.layers(layers));
        self.args.into_iter().for_each(|args| found.args(args));
        found.strings(self.args.unwrap_or_default(), self.env);
        match self.root {
            RootMode::Writable { size_bytes: Some(size) } => found.tmpfs_size("root.size_bytes", *size),
            RootMode::Directory(HostDirectory { size_bytes: Some(0), .. }) => {
                found.add("root.size_bytes", "nothing could be written: expected at least 1 byte");
            }
            _ => {}
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            found.0.extend(mount_problems(index, mount));
        }
        if let Some(path) = self.scope.filter(|path| Scope::of(path).is_none()) {
            found.add("cgroup", format!("'{path}' is not a scope's: expected /….slice/squall-ID.scope/container"));
        }
        found.memory(self.limits);
        found.cpu(self.limits);
        found.counts(self.limits);
        found.resources(self.exclusive_cpus, self.memory_promise, self.limits);
        if matches!(self.files, [Some(pid_file), Some(exit_file)] if pid_file == exit_file) {
            found.add("exit_file", "it is the pid file");
        }
        found.timeout(self.timeout);
        if !(1..=64).contains(&self.stop_signal) {
            found.add("stop_signal", format!("{} is no signal: expected 1 to 64", self.stop_signal));
        }
        found.seccomp(self.seccomp);
        // AppArmor and SELinux exclude each other (LSM_FLAG_EXCLUSIVE): one of the two could never
        // be applied.
        if let (AppArmor::Profile(profile), Selinux::Label(_)) = (self.apparmor, self.selinux) {
            found.add(
                "selinux",
                format!("the AppArmor profile '{profile}' is named as well: a kernel has one of the two in force"),
            );
        }
        found.0.extend(self.log.into_iter().flat_map(Log::problems));
        found.0.into_problems("request")
    }
}

/// The problems found so far.
#[derive(Default)]
struct Found(Capped<Problem>);

impl Found {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem { field: field.into(), reason: reason.into() });
    }

    fn layers(&mut self, layers: &[LayerPath]) {
        match layers.len() {
            0 => self.add("layers", "no layer is given: expected at least one"),
            1..=MAX_LAYERS => {}
            count => self.add("layers", format!("{count} layers are given: an overlay takes at most {MAX_LAYERS}")),
        }
    }

    fn args(&mut self, args: &[String]) {
        match args.first() {
            None => self.add("args", "no program is given: expected a program and its arguments"),
            Some(program) if program.is_empty() => self.add("args[0]", "the program's name is empty"),
            Some(_) => {}
        }
        for (index, arg) in args.iter().enumerate().filter(|(_, arg)| arg.contains('\0')) {
            self.add(
                format!("args[{index}]"),
                format!("contains a NUL byte at {}", arg.find('\0').unwrap_or_default()),
            );
        }
    }

    /// What execve(2) would answer with E2BIG. A single variable's length is checked by its type.
    fn strings(&mut self, args: &[String], env: &Environment) {
        for (index, arg) in args.iter().enumerate().filter(|(_, arg)| arg.len() > MAX_STRING_BYTES) {
            let reason = format!("has {} bytes: the kernel takes {MAX_STRING_BYTES} (MAX_ARG_STRLEN)", arg.len());
            self.add(format!("args[{index}]"), reason);
        }
        let variables = env.variables().iter().map(|variable| variable.as_str());
        let strings = args.iter().map(String::as_str).chain(variables);
        let total: usize = strings.map(|text| text.len() + 1 + size_of::<usize>()).sum();
        if total > MAX_COMMAND_BYTES {
            let reason =
                format!("arguments and environment need {total} bytes: the kernel takes {MAX_COMMAND_BYTES} (ARG_MAX)");
            self.add("args", reason);
        }
    }

    fn tmpfs_size(&mut self, field: &str, size: u64) {
        if !(MIN_TMPFS_BYTES..=MAX_BYTES).contains(&size) {
            self.add(field, format!("{size} bytes cannot be a size: expected {MIN_TMPFS_BYTES} to {MAX_BYTES}"));
        }
    }

    fn memory(&mut self, limits: &Limits) {
        self.bytes("limits.memory_bytes", limits.memory_bytes);
        self.bytes("limits.memory_reservation_bytes", limits.memory_reservation_bytes);
        let field = "limits.memory_swap_bytes";
        match (limits.memory_swap_bytes, limits.memory_bytes) {
            (Some(SwapLimit::Total(_)), None) => {
                self.add(field, "needs a memory limit: it bounds memory and swap together")
            }
            (Some(SwapLimit::Total(total)), Some(memory)) if total < memory || total > MAX_BYTES => {
                let range = format!("expected {memory} (the memory limit, so no swap) to {MAX_BYTES}");
                self.add(field, format!("{total} bytes of memory and swap together cannot be a limit: {range}"));
            }
            _ => {}
        }
    }

    fn bytes(&mut self, field: &str, bytes: Option<u64>) {
        match bytes {
            Some(bytes) if !(MIN_MEMORY_BYTES..=MAX_BYTES).contains(&bytes) => {
                let range =
                    format!("expected {MIN_MEMORY_BYTES} (less than that no process can start in) to {MAX_BYTES}");
                self.add(field, format!("{bytes} bytes of memory cannot be a limit: {range}"));
            }
            _ => {}
        }
    }

    fn cpu(&mut self, limits: &Limits) {
        let quota = limits.cpu_quota_us.map(|quota| (quota, u64::try_from(quota).unwrap_or_default()));
        if let Some((quota, _)) = quota.filter(|(_, us)| !(MIN_CPU_US..=MAX_QUOTA_US).contains(us)) {
            let reason = format!("{quota} us cannot be a quota: the kernel takes {MIN_CPU_US} to {MAX_QUOTA_US}");
            self.add("limits.cpu_quota_us", reason);
        }
        if let Some(period) = limits.cpu_period_us.filter(|us| !(MIN_CPU_US..=MAX_PERIOD_US).contains(us)) {
            let reason = format!("{period} us cannot be a period: the kernel takes {MIN_CPU_US} to {MAX_PERIOD_US}");
            self.add("limits.cpu_period_us", reason);
        }
        if let Some(shares) = limits.cpu_shares.filter(|shares| !SHARES.contains(shares)) {
            let reason =
                format!("{shares} cannot be CPU shares: the kernel takes {} to {}", SHARES.start(), SHARES.end());
            self.add("limits.cpu_shares", reason);
        }
    }

    fn counts(&mut self, limits: &Limits) {
        if let Some(pids) = limits.pids.filter(|pids| !(1..=MAX_PIDS).contains(pids)) {
            self.add(
                "limits.pids",
                format!("{pids} cannot be a number of processes: the kernel takes 1 to {MAX_PIDS}"),
            );
        }
        if let Some(weight) = limits.blkio_weight.filter(|weight| !BLKIO_WEIGHT.contains(weight)) {
            let reason =
                format!("{weight} cannot be a weight: OCI has {} to {}", BLKIO_WEIGHT.start(), BLKIO_WEIGHT.end());
            self.add("limits.blkio_weight", reason);
        }
    }

    fn resources(&mut self, cpus: Option<ExclusiveCpus>, promise: MemoryPromise, limits: &Limits) {
        let given = limits.cpuset_cpus.as_ref();
        match (cpus.map(|cpus| usize::from(cpus.count)), given) {
            (Some(0), _) => self.add("exclusive_cpus", "0 processors are asked for: expected 1 or more"),
            (Some(count), Some(list)) if list.count() != count => {
                self.add("exclusive_cpus", format!("{count} processors are asked for, and {list} are named"));
            }
            _ => {}
        }
        if promise == MemoryPromise::Limit && limits.memory_bytes.is_none() {
            self.add("memory_promise", "needs a memory limit: so much is promised");
        }
    }

    fn timeout(&mut self, timeout: Option<Duration>) {
        match timeout {
            Some(Duration::ZERO) => self.add("timeout", "no time at all is given: expected more than 0 seconds"),
            Some(timeout) if timeout > MAX_TIMEOUT => {
                let reason =
                    format!("{} seconds are too many: expected {} at most", timeout.as_secs(), MAX_TIMEOUT.as_secs());
                self.add("timeout", reason);
            }
            _ => {}
        }
    }

    fn seccomp(&mut self, seccomp: &Seccomp) {
        let Seccomp::Profile(document) = seccomp else { return };
        match document.value() {
            value @ Value::Object(_) if is_deeper_than(value, MAX_SECCOMP_DEPTH) => {
                self.add("seccomp", format!("is nested more than {MAX_SECCOMP_DEPTH} levels deep: no profile is"));
            }
            Value::Object(_) => self.profile(document),
            _ => self.add("seccomp", "is not an object: expected an OCI seccomp profile"),
        }
    }

    /// What is wrong within a profile has its place below the field.
    fn profile(&mut self, document: &ProfileDocument) {
        let problems = match document.profile() {
            Ok(profile) => profile.lets_execute().err().into_iter().collect(),
            Err(error) => error.problems().to_vec(),
        };
        for problem in problems {
            self.add(format!("seccomp.{}", problem.field), problem.reason);
        }
    }
}

/// What is wrong with limits, under the names that they have in a request.
pub(crate) fn limit_problems(limits: &Limits) -> Vec<Problem> {
    let mut found = Found::default();
    found.memory(limits);
    found.cpu(limits);
    found.counts(limits);
    found.0.into_problems("request")
}

/// What is wrong with the numbers of one mount.
pub(crate) fn mount_problems(index: usize, mount: &Mount) -> Vec<Problem> {
    let mut found = Found::default();
    if let Mount::Tmpfs(tmpfs) = mount {
        if let Some(size) = tmpfs.size_bytes {
            found.tmpfs_size(&format!("mounts[{index}].size_bytes"), size);
        }
        if tmpfs.mode > 0o7777 {
            found.add(
                format!("mounts[{index}].mode"),
                format!("{:o} is not a mode: expected 0 to 7777 (octal)", tmpfs.mode),
            );
        }
        if tmpfs.inodes == Some(0) {
            found.add(format!("mounts[{index}].inodes"), "0 would mean no limit to the kernel: expected 1 or more");
        }
    }
    found.0.into_problems("request")
}

/// Looks no deeper than it has to, so that a hostile depth costs no stack.
fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let mut inside: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(values) => Box::new(values.iter()),
        Value::Object(values) => Box::new(values.values()),
        _ => return false,
    };
    levels == 0 || inside.any(|value| is_deeper_than(value, levels - 1))
}

#[cfg(test)]
mod tests;
