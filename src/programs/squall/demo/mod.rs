//! The demonstration: one worker after the other, and what the kernel says about each.
//!
//! Every number is read back, from the kernel or from a container's record; none is printed from
//! the request. Everything that is made (run root, cgroups, image) is the demonstration's own, and
//! is gone afterwards, which is counted as well.

mod image;
mod leftovers;
pub(crate) mod trial;
mod worker;

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use self::image::{Image, LAYERED, WHITED_OUT};
use self::leftovers::Leftovers;
use self::worker::{Stage as Bench, Worker};
use squall::cgroup::Limits;
use squall::error::{ErrorKind, Result};
use squall::privilege;
use squall::record::{EndReason, Exit};
use squall::request::Network;

/// The probe: a static program that tells what it finds in its container. Its subcommands stand in
/// `probe.rs`.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-probe"));

/// One claim, what was measured, and whether they agree.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What it is about, in a word.
    pub name: &'static str,
    /// What was measured, for people.
    pub text: String,
    /// The same for machines.
    pub measured: Value,
    /// Whether it is as it should be.
    pub passed: bool,
}

/// What the demonstration found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In the order in which they were measured.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether every claim held.
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.passed)
    }
}

const MIB: u64 = 1 << 20;

/// Runs the demonstration; `program` is the command line program, one of which is killed on the
/// way. Each finding is handed to `tell` as soon as it is there.
///
/// # Errors
/// [`ErrorKind::Privilege`] names what is missing; others come from the launches.
pub fn run(program: &Path, mut tell: impl FnMut(&Finding)) -> Result<Report> {
    privilege::check(Network::None).map_err(|error| with_advice(error, program))?;
    let tag = format!("squall-demo-{}", std::process::id());
    let image = Image::write(&tag)?;
    let bench = Bench::set_up(&tag, &image)?;
    let steps: [fn(&Bench, &Path) -> Result<Finding>; 9] =
        [launch, inside, filter, layers, cpu, memory, pids, exit, survival];
    let mut findings = Vec::new();
    let mut record = |finding: Finding| {
        tell(&finding);
        findings.push(finding);
    };
    record(described(&image));
    let outcome = steps.into_iter().try_for_each(|step| step(&bench, program).map(&mut record));
    // Cleared away whatever happened; the first error is the one that counts.
    let left = bench.tear_down().and_then(|processes| Leftovers::count(&tag, &processes));
    outcome?;
    record(nothing_left(&left?));
    Ok(Report { findings })
}

fn with_advice(error: squall::Error, program: &Path) -> squall::Error {
    if error.kind() != ErrorKind::Privilege {
        return error;
    }
    squall::Error::found(
        ErrorKind::Privilege,
        error.stage(),
        error.object(),
        error.call(),
        format!("{}; for example: sudo {} demo", error.cause(), program.display()),
    )
}

fn described(image: &Image) -> Finding {
    let sizes: Vec<String> = image.bytes.iter().map(|bytes| format!("{} KiB", bytes / 1024)).collect();
    Finding {
        name: "image",
        text: format!("{} squashfs layers in memory: {}", image.layers.len(), sizes.join(" + ")),
        measured: json!({ "layer_bytes": image.bytes }),
        passed: image.layers.len() == 3,
    }
}

/// The second launch, whose layers are mounted already, next to the first.
fn launch(bench: &Bench, _: &Path) -> Result<Finding> {
    let first = bench.run(Worker::new("first", &["exit", "0"]))?;
    let second = bench.run(Worker::new("second", &["exit", "0"]))?;
    let stages: Vec<String> =
        second.record.stages.iter().map(|time| format!("{} {}", time.stage, time.microseconds)).collect();
    Ok(Finding {
        name: "launch",
        text: format!(
            "from call to exec: first {} µs, layers attached; then {} µs\n{}",
            first.record.launch_microseconds,
            second.record.launch_microseconds,
            format_args!("of these, in µs: {}", stages.join(", "))
        ),
        measured: json!({ "first": first.record.launch_microseconds, "second": second.record.launch_microseconds, "stages": second.record.stages }),
        passed: first.exit.exit == Exit::Code { code: 0 } && second.exit.exit == Exit::Code { code: 0 },
    })
}

fn inside(bench: &Bench, _: &Path) -> Result<Finding> {
    let seen = bench.run(Worker::new("inside", &["report"]))?.json();
    let status = |key: &str| seen["status"][key].as_str().unwrap_or_default().to_owned();
    let capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(&status);
    let none = capabilities.iter().all(|set| !set.is_empty() && set.bytes().all(|digit| digit == b'0'));
    let mounts = seen["mountinfo"].as_array().map_or(0, Vec::len);
    let descriptors = seen["fds"].as_object().map_or(0, serde_json::Map::len);
    let processes = seen["processes"].as_array().map_or(0, Vec::len);
    let (uid, gid) = (status("Uid"), status("Gid"));
    Ok(Finding {
        name: "inside",
        text: format!(
            "pid {} of {processes} process, uid {}, gid {}, groups {}; {} capabilities in 5 sets, no_new_privs {}\n{mounts} mounts, \
             {descriptors} descriptors, {} variables",
            seen["pid"],
            first_word(&uid),
            first_word(&gid),
            status("Groups"),
            if none { "no" } else { "SOME" },
            status("NoNewPrivs"),
            seen["env"].as_array().map_or(0, Vec::len),
        ),
        passed: seen["pid"] == 1
            && processes == 1
            && none
            && status("NoNewPrivs") == "1"
            && first_word(&uid) == "65534"
            && descriptors == 3,
        measured: seen,
    })
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// The same call twice: a new user namespace is what most attacks on the kernel begin with, and no
/// user needs a privilege for it.
fn filter(bench: &Bench, _: &Path) -> Result<Finding> {
    let call = ["try", "unshare", "", &libc::CLONE_NEWUSER.to_string()].map(str::to_owned);
    let call = call.each_ref().map(String::as_str);
    let denied = bench.run(Worker::new("filtered", &call))?.json();
    let without = bench.run(Worker::new("unfiltered", &call).unconfined())?.json();
    let mode = bench.run(Worker::new("mode", &["report"]))?.json()["status"]["Seccomp"].clone();
    let text = |answer: &Value| answer["error"].as_str().unwrap_or("done").to_owned();
    Ok(Finding {
        name: "filter",
        text: format!(
            "seccomp mode {}; unshare(CLONE_NEWUSER): {}; without the filter: {}",
            mode.as_str().unwrap_or_default(),
            text(&denied),
            text(&without)
        ),
        // 2 is SECCOMP_MODE_FILTER. What the host itself says of user namespaces is its own affair.
        passed: mode == "2" && denied["errno"] == libc::EPERM,
        measured: json!({ "mode": mode, "denied": denied, "without": without }),
    })
}

/// The topmost version of a file, and a file that a layer takes away.
fn layers(bench: &Bench, _: &Path) -> Result<Finding> {
    let read = bench.run(Worker::new("layered", &["try", "read", LAYERED]))?.json();
    let gone = bench.run(Worker::new("whiteout", &["try", "read", WHITED_OUT]))?.json();
    let write = bench.run(Worker::new("read-only", &["try", "create", LAYERED, "x"]))?.json();
    let text =
        |answer: &Value| answer["ok"].as_str().or(answer["error"].as_str()).unwrap_or_default().trim().to_owned();
    Ok(Finding {
        name: "layers",
        text: format!(
            "{LAYERED} comes from the {} layer; {WHITED_OUT}, whited out: {}; writing: {}",
            text(&read),
            text(&gone),
            text(&write)
        ),
        passed: text(&read) == "top" && gone["errno"] == libc::ENOENT && !write["errno"].is_null(),
        measured: json!({ "read": read, "whiteout": gone, "write": write }),
    })
}

fn cpu(bench: &Bench, _: &Path) -> Result<Finding> {
    let limits = Limits { cpu_quota_us: Some(30_000), cpu_period_us: Some(100_000), ..Limits::default() };
    let done = bench.run(Worker::new("cpu", &["burn", "1000"]).limits(limits))?;
    let quota = done.quota;
    let wall_ns = done.exit.wall_ns.unwrap_or_default();
    let used = done.exit.cpu_time_ns.unwrap_or_default() as f64 / wall_ns.max(1) as f64;
    Ok(Finding {
        name: "cpu",
        text: format!(
            "quota in force {:.2} CPUs; used {used:.2} over {:.2} s, throttled in {} of {} periods",
            quota.unwrap_or_default(),
            wall_ns as f64 / 1e9,
            done.exit.cpu_throttled_periods.unwrap_or_default(),
            done.exit.cpu_periods.unwrap_or_default(),
        ),
        measured: json!({ "quota_cpus": quota, "used_cpus": used, "exit": done.exit }),
        // The kernel hands the quota out in slices, and the last period may be a part of one.
        passed: quota == Some(0.3) && used < 0.3 * 1.25 && done.exit.cpu_throttled_periods > Some(0),
    })
}

fn memory(bench: &Bench, _: &Path) -> Result<Finding> {
    let limits = Limits { memory_bytes: Some(32 * MIB), ..Limits::default() };
    let done = bench.run(Worker::new("memory", &["allocate", &(64 * MIB).to_string()]).limits(limits))?;
    let limit = done.usage.memory_limit_bytes;
    let oom = done.exit.oom.as_ref();
    let (kills, own) = (oom.and_then(|oom| oom.kills), oom.and_then(|oom| oom.own));
    let peak = done.exit.memory_peak_bytes;
    Ok(Finding {
        name: "memory",
        text: format!(
            "limit in force {} MiB; allocating 64 MiB ended by {}: {} OOM kill, at its own limit {} time; peak {:.1} MiB",
            limit.unwrap_or_default() / MIB,
            ending(&done.exit.exit),
            kills.unwrap_or_default(),
            own.unwrap_or_default(),
            peak.unwrap_or_default() as f64 / MIB as f64,
        ),
        measured: json!({ "limit_bytes": limit, "exit": done.exit }),
        passed: limit == Some(32 * MIB)
            && kills == Some(1)
            && matches!(done.exit.exit, Exit::Signal { signal: 9, .. })
            && peak.is_none_or(|peak| peak <= 32 * MIB),
    })
}

fn ending(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("code {code}"),
        Exit::Signal { signal, .. } => format!("signal {signal}"),
    }
}

fn pids(bench: &Bench, _: &Path) -> Result<Finding> {
    let limits = Limits { pids: Some(16), ..Limits::default() };
    let done = bench.run(Worker::new("pids", &["fork", "1000"]).limits(limits))?;
    let told = done.json();
    let limit = done.usage.pids_limit;
    Ok(Finding {
        name: "pids",
        text: format!(
            "limit in force {}; {} forks, then {} ({} refused)",
            limit.unwrap_or_default(),
            told["forked"],
            told["refused"],
            done.exit.pids_limit_hits.unwrap_or_default()
        ),
        passed: limit == Some(16) && told["forked"] == 15 && done.exit.pids_limit_hits > Some(0),
        measured: json!({ "limit": limit, "told": told, "exit": done.exit }),
    })
}

fn exit(bench: &Bench, _: &Path) -> Result<Finding> {
    let done = bench.run(Worker::new("exit", &["exit", "7"]))?;
    Ok(Finding {
        name: "exit",
        text: format!("the worker returned 7; its record says {}", ending(&done.exit.exit)),
        measured: json!(done.exit),
        passed: done.exit.exit == Exit::Code { code: 7 } && done.exit.reason == EndReason::Exited,
    })
}

/// The program that launched is killed; the worker goes on, and its end is learnt all the same.
fn survival(bench: &Bench, program: &Path) -> Result<Finding> {
    let survived = bench.run_and_kill_launcher(program, Worker::new("survivor", &["exit-after", "400", "23"]))?;
    Ok(Finding {
        name: "survival",
        text: format!(
            "squall (pid {}) launched and was ended by signal {}; the worker {}; its record says {}",
            survived.launcher,
            survived.launcher_signal,
            if survived.ran_on { "ran on" } else { "DIED" },
            ending(&survived.exit.exit)
        ),
        passed: survived.ran_on
            && survived.launcher_signal == libc::SIGKILL
            && survived.exit.exit == Exit::Code { code: 23 },
        measured: json!({ "launcher_signal": survived.launcher_signal, "ran_on": survived.ran_on, "exit": survived.exit }),
    })
}

fn nothing_left(left: &Leftovers) -> Finding {
    Finding { name: "left", text: left.in_words(), measured: json!(left), passed: left.total() == 0 }
}
