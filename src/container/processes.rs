//! The processes of a container, as the host sees them.
//!
//! They are found by the container's cgroup, so those count that left init's session, were executed
//! into it, or stand still. Each is looked at through one descriptor of its directory in `/proc`:
//! all that is told is of one process, whoever gets its pid afterwards.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::param::{clock_ticks_per_second, page_size};
use serde::Serialize;

use super::{Container, Running};
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::phase::Phase;
use crate::process::after_name;
use crate::stage::Stage;

/// How much of a command line is read: a worker may have made it as long as it likes.
const COMMAND_LIMIT: u64 = 4096;

/// Longer than the kernel's other files of a process that are read here, except for very deep
/// cgroups.
const FILE_LIMIT: u64 = 64 * 1024;

/// Names what is done here in errors.
const CALL: &str = "list processes";

/// One process of a container. What its names hold is the worker's to choose:
/// [`OneLine`](crate::OneLine) shows them on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ContainerProcess {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// Its pid inside the container; `None` for a process that is not in the container's pid
    /// namespace.
    pub pid_inside: Option<i32>,
    /// Its effective uid.
    pub uid: u32,
    /// The kernel's letter for its first thread's state, as in proc_pid_stat(5): `R` runs, `S` and
    /// `D` wait, `T` is stopped, `Z` has ended.
    pub state: char,
    /// How many threads it has.
    pub threads: u64,
    /// Processor time of all its threads, in microseconds, in steps of a clock tick (mostly 10 ms).
    pub cpu_us: u64,
    /// Memory of its that is in RAM, shared pages included, in bytes.
    pub rss_bytes: u64,
    /// The name that it gave itself, or else that of the program's file: 15 bytes at most.
    pub name: String,
    /// Its command line: program and arguments, as the process itself shows them; the first 4 KiB.
    /// Empty for a process that has ended, and for one that made it so.
    pub command: Vec<String>,
}

impl Container {
    /// Its processes, those inside its pid namespace first, by their pids there. Also of one that
    /// is paused or only created. One that ends meanwhile may be left out.
    ///
    /// A command line is read from the process's own memory: a worker that has mapped a file of a
    /// file system which does not answer over it can make the call wait, until a signal comes.
    ///
    /// # Errors
    /// [`Phase`](crate::ErrorKind::Phase) when it has ended, or was not launched yet. Needs root
    /// where `/proc` is mounted with `hidepid`; processes that cannot be read are left out.
    pub fn processes(&self) -> Result<Vec<ContainerProcess>> {
        let object = format!("container '{}'", self.id());
        match self.living() {
            Some(running) => running.processes(),
            None => Err(Error::wrong_phase(Stage::Watch, object, CALL, self.phase(), Phase::Running)),
        }
    }
}

impl Running {
    /// As [`Container::processes`].
    fn processes(&self) -> Result<Vec<ContainerProcess>> {
        let layout = Layout::detect()?;
        let cgroup = match self.own_cgroup(&layout)? {
            Some(cgroup) => cgroup,
            // Records of early versions do not tell the cgroup from another of its path.
            None if self.record.cgroup_inode.is_none() => Cgroup::open(&layout, &self.cgroup()?)?,
            None => return Err(self.ended_before(CALL)),
        };
        let members = cgroup.members().at(Stage::Watch, self.object(), "read(cgroup.procs)");
        let members = self.unless_ended(CALL, members)?;
        let depth = Directory::of(self.record.init.pid).and_then(|init| Some(init.pids()?.len()));
        let mut processes: Vec<ContainerProcess> =
            members.into_iter().filter_map(|pid| Directory::of(pid)?.process(pid, &cgroup, depth)).collect();
        processes.sort_by_key(|process| (process.pid_inside.is_none(), process.pid_inside, process.pid));
        processes.dedup_by_key(|process| process.pid);
        Ok(processes)
    }
}

/// The directory of one process in `/proc`. Once that has ended nothing can be read through it any
/// more, whoever gets the pid.
struct Directory(OwnedFd);

impl Directory {
    fn of(pid: i32) -> Option<Directory> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok().map(Directory)
    }

    fn read(&self, name: &str, limit: u64) -> Option<String> {
        let file = openat(self.0.as_fd(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(limit).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its pid in each pid namespace, the caller's first.
    fn pids(&self) -> Option<Vec<i32>> {
        pids_of(&self.read("status", FILE_LIMIT)?)
    }

    /// What is to be told of the process if it is in the cgroup, and not another one that has got
    /// its pid.
    fn process(&self, pid: i32, cgroup: &Cgroup, depth: Option<usize>) -> Option<ContainerProcess> {
        if !cgroup.is_membership_of(&self.read("cgroup", FILE_LIMIT)?) {
            return None;
        }
        let (stat, status) = (self.read("stat", FILE_LIMIT)?, self.read("status", FILE_LIMIT)?);
        // Absent for a process whose memory is gone.
        let command = self.read("cmdline", COMMAND_LIMIT).unwrap_or_default();
        parse(pid, &stat, &status, &command, depth)
    }
}

/// Puts together what the kernel's files say. `depth` is how many pids the container's init has:
/// one for each pid namespace down to the container's.
fn parse(pid: i32, stat: &str, status: &str, command: &str, depth: Option<usize>) -> Option<ContainerProcess> {
    let name = stat.split_once('(')?.1.rsplit_once(") ")?.0;
    // Numbered as in proc_pid_stat(5), where the state is field 3.
    let fields: Vec<&str> = after_name(stat)?.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)?.saturating_add(number(15)?);
    let pids = pids_of(status)?;
    Some(ContainerProcess {
        pid,
        pid_inside: depth.and_then(|depth| pids.get(depth.checked_sub(1)?).copied()),
        uid: line_of(status, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        threads: number(20)?,
        cpu_us: ticks.saturating_mul(1_000_000) / clock_ticks_per_second().max(1),
        rss_bytes: number(24)?.saturating_mul(page_size() as u64),
        name: name.to_owned(),
        command: command.split_terminator('\0').map(str::to_owned).collect(),
    })
}

fn pids_of(status: &str) -> Option<Vec<i32>> {
    line_of(status, "NSpid")?.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
}

fn line_of<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 shows a process; the name is one that a worker might choose.
    const STAT: &str = "4711 (a) R (b) S 1 4711 4711 0 -1 4194560 120 0 0 0 250 50 0 0 20 0 3 0 105213 2703360 211 \
                        18446744073709551615 94 94 140 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 94 94 94 140 140 140 140 0\n";
    const STATUS: &str = "Name:\ta) R (b\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nPid:\t4711\nPPid:\t1\n\
                          Uid:\t65534\t1000\t65534\t65534\nGid:\t0\t0\t0\t0\nNStgid:\t4711\t5\nNSpid:\t4711\t5\t1\n";

    #[test]
    fn a_process_is_what_its_files_say() {
        let process = parse(4711, STAT, STATUS, "/bin/a\0-x\0\0y z\0", Some(2)).unwrap();
        let expected = ContainerProcess {
            pid: 4711,
            pid_inside: Some(5),
            uid: 1000,
            state: 'S',
            threads: 3,
            cpu_us: 3_000_000,
            rss_bytes: 211 * page_size() as u64,
            name: "a) R (b".into(),
            command: vec!["/bin/a".into(), "-x".into(), String::new(), "y z".into()],
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_is_outside_of_the_pid_namespace_has_no_pid_inside() {
        for (depth, inside) in
            [(Some(1), Some(4711)), (Some(3), Some(1)), (Some(4), None), (None, None), (Some(0), None)]
        {
            assert_eq!(parse(4711, STAT, STATUS, "", depth).unwrap().pid_inside, inside, "{depth:?}");
        }
        assert_eq!(parse(4711, STAT, STATUS, "", None).unwrap().command, Vec::<String>::new());
    }

    #[test]
    fn files_that_are_cut_off_are_no_process() {
        for length in [0, 4, 20, 60] {
            assert_eq!(parse(4711, &STAT[..length], STATUS, "", None), None, "{length}");
        }
        assert_eq!(parse(4711, STAT, &STATUS[..80], "", None), None);
    }
}
