//! What the commands print for people.

use std::io::Write;
use std::time::Duration;

use squall::layer::LayerStatus;
use squall::record::{Exit, ExitRecord, LaunchRecord};
use squall::{Container, OneLine};

/// Says something on standard error, as one line.
macro_rules! tell {
    ($($arguments:tt)*) => { eprintln!("squall: {}", squall::OneLine(format_args!($($arguments)*))) };
}

/// Prints one line, whatever it holds: names come from files and workers. A reader that has gone
/// away ends the program the way SIGPIPE would; another failure is an error of the program's own.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::print::line(format_args!($($arguments)*)) };
}

/// Prints text of several lines.
pub fn lines(text: impl std::fmt::Display) {
    text.to_string().lines().for_each(|line| say!("{line}"));
}

/// What [`say!`] does.
pub fn line(text: std::fmt::Arguments<'_>) {
    raw(format_args!("{}\n", OneLine(text)));
}

/// Prints text as it is: whatever a terminal would act on in it is the program's own.
pub fn raw(text: std::fmt::Arguments<'_>) {
    let mut output = std::io::stdout().lock();
    // In one piece, so that a terminal shows no half of it.
    let text = text.to_string();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(128 + libc::SIGPIPE),
        Err(error) => {
            // What was to be printed may be all that the caller ever learns: an id, an exit code.
            tell!("standard output: write: {error} (it was: {})", text.trim_end());
            std::process::exit(crate::OWN_ERROR);
        }
    }
}

/// How a container ended, in a word or two.
pub fn exit(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("code {code}"),
        Exit::Signal { signal, .. } => format!("signal {signal}"),
    }
}

/// The code that a shell would give.
pub fn exit_code(exit: &Exit) -> i32 {
    match exit {
        Exit::Code { code } => i32::from(*code),
        Exit::Signal { signal, .. } => 128 + i32::from(*signal),
    }
}

/// What the kernel killed for want of memory, and whose limit that was; nothing where it killed
/// nothing.
pub fn out_of_memory(exit: &ExitRecord) -> Option<String> {
    let oom = exit.oom.as_ref()?;
    let kills = oom.kills.filter(|kills| *kills > 0)?;
    let times = |count: u64| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let own = oom.own.filter(|events| *events > 0).map(|events| format!("its own limit {}", times(events)));
    let above = oom.ancestors.iter().filter(|ancestor| ancestor.events > 0);
    let above = above.map(|ancestor| format!("that of cgroup {} {}", ancestor.cgroup, times(ancestor.events)));
    let limits: Vec<String> = own.into_iter().chain(above).collect();
    let whose = match limits.as_slice() {
        [] => "at no limit of a cgroup: the machine's own memory, perhaps".to_owned(),
        limits => format!("at {}", limits.join(" and ")),
    };
    let processes = if kills == 1 { "process" } else { "processes" };
    Some(format!("out of memory: the kernel killed {kills} {processes}, {whose}"))
}

/// For which system call a filter has killed it; nothing where the kernel does not say so.
pub fn killed_by_filter(exit: &ExitRecord) -> Option<String> {
    let kill = exit.seccomp_kill?;
    let call = kill.name().map_or_else(|| format!("{} of {:#x}", kill.syscall, kill.arch), str::to_owned);
    Some(format!("its seccomp filter killed it for the system call {call}"))
}

/// How often its limit of processes was met; nothing where it never was, or that has done no harm.
pub fn out_of_processes(exit: &ExitRecord) -> Option<String> {
    let hits = exit.pids_limit_hits.filter(|hits| *hits > 0 && exit.exit != Exit::Code { code: 0 })?;
    let forks = if hits == 1 { "fork" } else { "forks" };
    Some(format!("its limit of processes refused {hits} {forks}"))
}

/// One line of `ps`.
pub fn row(container: &Container) -> [String; 6] {
    let state = match container {
        Container::Exited(exited) => format!("exited ({})", exit(&exited.exit().exit)),
        Container::Running(running) if !running.record().monitor.is_alive() => "running (unwatched)".to_owned(),
        other => other.phase().name().to_owned(),
    };
    let record = container.record();
    let pid = match container {
        Container::Created(created) => created.record().init.pid.to_string(),
        Container::Running(running) => running.record().init.pid.to_string(),
        Container::Paused(paused) => paused.record().init.pid.to_string(),
        _ => "-".to_owned(),
    };
    let digest =
        record.and_then(LaunchRecord::image_digest).map_or("-".to_owned(), |digest| digest.chars().take(19).collect());
    let uid = record.and_then(LaunchRecord::uid).map_or("-".to_owned(), |uid| uid.to_string());
    let age = record.map_or("-".to_owned(), |record| age(record.created_unix_ns));
    [container.id().to_owned(), state, pid, uid, digest, age]
}

/// One line of `layers`. The first few containers are named; `--json` has all.
pub fn layer_row(layer: &LayerStatus) -> [String; 7] {
    const LISTED: usize = 3;
    let unknown = || "-".to_owned();
    let file = layer.file.clone().unwrap_or_else(|| layer.layer_id.clone());
    let users = match layer.users.as_slice() {
        [] => unknown(),
        few if few.len() <= LISTED => few.join(","),
        many => format!("{} and {} more", many[..LISTED].join(","), many.len() - LISTED),
    };
    [
        if layer.deleted { format!("{file} (deleted)") } else { file },
        layer.size_bytes.map_or_else(unknown, bytes),
        layer.last_use_unix_ns.map_or_else(unknown, age),
        layer.loop_device.map_or_else(unknown, |number| format!("loop{number}")),
        if layer.pinned { "yes" } else { "no" }.to_owned(),
        users,
        layer.digest.as_deref().map_or_else(unknown, |digest| digest.chars().take(19).collect()),
    ]
}

/// Prints columns as wide as their widest cell.
pub fn table<const COLUMNS: usize>(header: [&str; COLUMNS], rows: &[[String; COLUMNS]]) {
    table_lines(header, rows).iter().for_each(|line| say!("{line}"));
}

/// The lines of a table, the header first, each as a terminal may be given it.
pub fn table_lines<const COLUMNS: usize>(header: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> Vec<String> {
    // As they will be shown, or the columns would not be as wide.
    let rows: Vec<[String; COLUMNS]> =
        rows.iter().map(|row| row.each_ref().map(|cell| OneLine(cell).to_string())).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].len()).chain([header[column].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: [&str; COLUMNS]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(header)).chain(rows).collect()
}

/// A span since an instant, in its largest unit.
pub fn age(since_unix_ns: u64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seconds = now.saturating_sub(Duration::from_nanos(since_unix_ns)).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// Bytes in their largest binary unit.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number that may be unknown.
pub fn known(number: Option<u64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

/// One finding of the demonstration, further lines below the first.
pub fn finding(finding: &squall_cli::demo::Finding) {
    let mark = if finding.passed { "ok" } else { "NOT SO" };
    let mut lines = finding.text.lines();
    say!("{mark:6} {:9} {}", finding.name, lines.next().unwrap_or_default());
    for line in lines {
        say!("{:16} {line}", "");
    }
}

/// One finding about the machine, with what to do about it below.
pub fn examined(finding: &squall_cli::doctor::Finding) {
    say!("{:8} {:17} {}: {}", finding.state.name(), finding.area, finding.name, finding.seen);
    if let Some(advice) = &finding.advice {
        say!("{:26} -> {advice}", "");
    }
}

/// What follows from all findings.
pub fn verdict(verdict: squall_cli::doctor::Verdict) -> &'static str {
    use squall_cli::doctor::Verdict;
    match verdict {
        Verdict::Full => "this machine can launch workers, with everything in force",
        Verdict::Limited => "this machine can launch workers; what is limited, or could not be tried, stands above",
        Verdict::Cannot => "this machine cannot launch workers as it is: what is missing stands above",
    }
}
