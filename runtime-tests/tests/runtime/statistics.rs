//! What containers use: each figure beside what causes it, all of them at once, live, and the
//! processes inside.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime_tests::{Bed, Worker, call, cases, host, needs, until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

cases![
    processor_time_is_told_by_where_it_was_spent,
    what_a_quota_takes_is_counted,
    memory_is_told_by_its_kind,
    what_goes_to_a_block_device_is_counted_for_it,
    all_that_live_are_read_at_once_and_what_has_ended_is_left_out,
    what_ends_while_it_is_read_is_no_error,
    another_container_of_the_same_name_is_not_taken_for_the_one_listed,
    the_table_has_all_that_live_and_json_one_array_a_sample,
    what_does_not_live_has_no_figures,
    a_stream_goes_on_and_ends_with_the_containers_it_was_asked_for,
    on_a_terminal_each_sample_takes_the_place_of_the_one_before,
    processes_are_listed_from_the_host_whatever_phase_the_container_is_in,
    a_worker_does_not_drive_the_terminal_of_whoever_lists_its_processes,
];

/// The figures of one container.
fn figures(bed: &Bed, id: &str) -> Value {
    let sample = bed.squall(&["stats", "--no-stream", "--json", id]).json();
    assert_eq!(sample.as_array().map(Vec::len), Some(1), "{sample}");
    sample[0].clone()
}

fn number(figures: &Value, key: &str) -> u64 {
    figures[key].as_u64().unwrap_or_else(|| panic!("{key}: {figures}"))
}

fn processor_time_is_told_by_where_it_was_spent(bed: &Bed) {
    let worker = bed.start(&[], &["burn", "600000"]);
    let at_work =
        until("it works", || Some(figures(bed, &worker.id)).filter(|shown| number(shown, "cpu_user_us") > 200_000));
    assert!(at_work["cpu_percent"].as_f64().is_some_and(|percent| percent > 0.5 && percent < 150.0), "{at_work}");
    // What is read one after the other is of one moment only while nothing runs.
    bed.squall(&["pause", &worker.id]).ok();
    let shown = figures(bed, &worker.id);
    let sum = number(&shown, "cpu_user_us") + number(&shown, "cpu_system_us");
    assert!(sum.abs_diff(number(&shown, "cpu_usage_us")) <= 50_000, "{shown}");
    assert_eq!((&shown["phase"], shown["cpu_throttled_us"].as_u64().unwrap_or(0)), (&json!("paused"), 0), "{shown}");
    worker.kill();
}

fn what_a_quota_takes_is_counted(bed: &Bed) {
    let in_a_tree = || host::hierarchies().iter().any(|root| root.join("cpu.pressure").exists());
    let counted = needs::has("pressure", fs::read_to_string("/proc/pressure/cpu").is_ok() && in_a_tree());
    let worker = bed.start(&["--cpus", "0.1"], &["burn", "600000"]);
    let shown = until("it was throttled, and made to wait", || {
        let shown = figures(bed, &worker.id);
        let pressure = &shown["cpu_pressure"]["some"];
        let waited = pressure["avg10_percent"].as_f64() > Some(0.0) && pressure["total_us"].as_u64() > Some(0);
        (number(&shown, "cpu_throttled_periods") > 3 && (waited || !counted)).then_some(shown)
    });
    assert!(number(&shown, "cpu_periods") >= number(&shown, "cpu_throttled_periods"), "{shown}");
    assert!(number(&shown, "cpu_throttled_us") > 0, "{shown}");
    for resource in ["cpu_pressure", "memory_pressure", "io_pressure"] {
        assert_eq!(shown[resource]["some"]["total_us"].is_u64(), counted, "{resource}: {shown}");
        assert_eq!(shown[resource]["some"]["avg300_percent"].is_f64(), counted, "{resource}: {shown}");
    }
    for resource in ["memory_pressure", "io_pressure"] {
        assert_eq!(shown[resource]["full"]["avg60_percent"].is_f64(), counted, "{resource}: {shown}");
    }
    worker.kill();
}

fn memory_is_told_by_its_kind(bed: &Bed) {
    const HELD: u64 = 24 << 20;
    let flags = ["--memory", "64m", "--pids-limit", "20"];
    let worker = bed.start(&flags, &["hold", &HELD.to_string(), "/bin/probe", "/dev/shm/copy"]);
    let copied = squall_cli::demo::PROBE.len() as u64;
    let shown = until("it holds memory and a file in memory", || {
        let shown = figures(bed, &worker.id);
        let holds =
            shown["memory_anon_bytes"].as_u64() >= Some(HELD) && shown["memory_file_bytes"].as_u64() >= Some(copied);
        holds.then_some(shown)
    });
    assert!(number(&shown, "memory_anon_bytes") < HELD + (8 << 20), "{shown}");
    assert!(number(&shown, "memory_file_bytes") < HELD, "{shown}");
    let current = number(&shown, "memory_current_bytes");
    assert!(current >= HELD + copied && number(&shown, "memory_limit_bytes") == 64 << 20, "{shown}");
    assert!(number(&shown, "memory_kernel_bytes") > 0 && number(&shown, "memory_kernel_bytes") < HELD, "{shown}");
    assert!(shown["memory_peak_bytes"].as_u64().is_none_or(|peak| peak >= current), "{shown}");
    let stat = worker.cgroup_file("memory.stat").unwrap();
    let counted =
        stat.lines().any(|line| line.starts_with("total_swap ")) || worker.cgroup_file("memory.swap.current").is_some();
    assert_eq!(shown["memory_swap_bytes"].is_u64(), counted, "{shown}");
    assert_eq!((number(&shown, "pids_current"), number(&shown, "pids_limit")), (1, 20), "{shown}");
    worker.kill();
}

/// A file system of the test's own on a loop device: what is read from it and written to it is
/// known.
fn what_goes_to_a_block_device_is_counted_for_it(bed: &Bed) {
    const BYTES: u64 = 3 << 20;
    let (disk, image) = (bed.file("disk"), bed.file("image"));
    fs::create_dir(&disk).unwrap();
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let done = |call: &[&str]| assert!(Command::new(call[0]).args(&call[1..]).status().unwrap().success(), "{call:?}");
    let mount = || done(&["mount", "-o", "loop", &image, &disk]);
    done(&["mkfs.ext4", "-q", "-F", &image]);
    mount();
    fs::write(format!("{disk}/in"), vec![7; BYTES as usize]).unwrap();
    // Mounted anew, so that nothing of it is in memory.
    done(&["umount", &disk]);
    mount();
    let device = device_of(&disk);
    let volume = format!("{disk}:/data:rw");
    let call =
        ["create", "--cgroup-parent", &bed.cgroup(), "--user", "0:0", "-v", &volume, "--layer", bed.probe(), "--"];
    let created = bed.squall(&call).args(["/bin/probe", "hold", "4096", "/data/in", "/data/out"]).ok();
    let worker = bed.worker(&created.text());
    // Since Linux 6.10 v1 counts what has a limit; this is none in effect.
    let limits = ["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"];
    for file in host::cgroup_directories(&worker.cgroup()).iter().flat_map(|one| limits.map(|limit| one.join(limit))) {
        if file.exists() {
            fs::write(&file, format!("{device} 1099511627776")).unwrap();
        }
    }
    bed.squall(&["start", &worker.id]).ok();
    let shown = until("it has read and written the file", || {
        let shown = figures(bed, &worker.id);
        let devices = shown["io_devices"].as_array()?;
        let own = devices.iter().find(|one| format!("{}:{}", one["major"], one["minor"]) == device)?.clone();
        (own["read_bytes"].as_u64()? >= BYTES && own["written_bytes"].as_u64()? >= BYTES).then_some((shown, own))
    });
    let (shown, own) = shown;
    for key in ["read_bytes", "written_bytes"] {
        assert!(number(&own, key) < 2 * BYTES, "{key}: {own}");
        assert!(number(&shown, &format!("io_{key}")) >= number(&own, key), "{key}: {shown}");
    }
    for key in ["reads", "writes"] {
        assert!(number(&own, key) > 0 && number(&shown, &format!("io_{key}")) >= number(&own, key), "{key}: {shown}");
    }
    worker.kill();
    bed.squall(&["rm", &worker.id]).ok();
    done(&["umount", &disk]);
}

/// The device of a file system, as cgroup files name it.
fn device_of(directory: &str) -> String {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(directory).unwrap().dev();
    format!("{}:{}", libc::major(device), libc::minor(device))
}

fn create<'a>(bed: &'a Bed, name: &str) -> Worker<'a> {
    let call = ["create", "--name", name, "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe(), "--"];
    bed.worker(&bed.squall(&call).args(["/bin/probe", "sleep", "600000"]).ok().text())
}

/// One of each phase: created, running, paused, ended.
fn four(bed: &Bed) -> [Worker<'_>; 4] {
    let created = create(bed, "waits");
    let [running, paused, ended] =
        ["runs", "stands", "ended"].map(|name| bed.start(&["--name", name], &["sleep", "600000"]));
    bed.squall(&["pause", "stands"]).ok();
    ended.kill();
    [created, running, paused, ended]
}

fn end(bed: &Bed, workers: &[Worker<'_>]) {
    for worker in workers {
        bed.squall(&["rm", "--force", &worker.id]).ok();
    }
}

fn all_that_live_are_read_at_once_and_what_has_ended_is_left_out(bed: &Bed) {
    let workers = four(bed);
    let listing = bed.library().build().unwrap().containers().unwrap();
    let names = || -> Vec<(String, &str)> {
        listing.usages().unwrap().into_iter().map(|reading| (reading.id, reading.phase.name())).collect()
    };
    let expected = [("waits", "created"), ("runs", "running"), ("stands", "paused")];
    let found = names();
    assert_eq!(found.iter().map(|(id, phase)| (id.as_str(), *phase)).collect::<Vec<_>>(), expected);
    for reading in listing.usages().unwrap() {
        assert_eq!(reading.usage.pids_current, Some(1), "{reading:?}");
        assert!(reading.usage.memory_current_bytes > Some(0) && reading.usage.cpu_usage_us > Some(0), "{reading:?}");
        assert_eq!(reading.started_boot_ns.is_none(), reading.id == "waits", "{reading:?}");
        assert_eq!(reading.cpu_percent().is_none(), reading.id == "waits", "{reading:?}");
    }
    workers[1].kill();
    assert_eq!(names().iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["waits", "stands"], "one has ended");
    end(bed, &workers);
    assert_eq!(names(), []);
}

/// Containers come and go as fast as they can, and with each its cgroups.
fn what_ends_while_it_is_read_is_no_error(bed: &Bed) {
    let stays = bed.start(&["--name", "stays"], &["sleep", "600000"]);
    let squall = bed.library().build().unwrap();
    let mut looks = 0;
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| (0..20).for_each(|_| drop(bed.start(&["--rm"], &["exit", "0"]))));
        while !churn.is_finished() {
            let listing = squall.containers().unwrap();
            assert!(listing.unreadable.is_empty(), "{listing:?}");
            let readings = listing.usages().unwrap();
            assert_eq!(readings.iter().filter(|reading| reading.id == "stays").count(), 1, "{readings:?}");
            for reading in readings {
                assert!(reading.usage.pids_current.is_some() && reading.usage.cpu_usage_us.is_some(), "{reading:?}");
            }
            for container in &listing.containers {
                match container.processes() {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), squall::ErrorKind::Phase, "{error}"),
                }
            }
            looks += 1;
        }
    });
    assert!(looks > 5, "{looks}");
    stays.kill();
    until("nothing else is left", || {
        (bed.squall(&["ps", "--all", "--json"]).json().as_array()?.len() == 1).then_some(())
    });
}

fn another_container_of_the_same_name_is_not_taken_for_the_one_listed(bed: &Bed) {
    let worker = bed.start(&["--name", "one"], &["sleep", "600000"]);
    let listing = bed.library().build().unwrap().containers().unwrap();
    worker.kill();
    bed.squall(&["rm", "one"]).ok();
    let second = bed.start(&["--name", "one"], &["sleep", "600000"]);
    assert_eq!(listing.usages().unwrap(), []);
    assert!(listing.containers[0].processes().is_err());
    assert_eq!(figures(bed, "one")["id"], "one");
    second.kill();
}

fn the_table_has_all_that_live_and_json_one_array_a_sample(bed: &Bed) {
    assert_eq!(bed.squall(&["stats", "--no-stream", "--json"]).json(), json!([]));
    assert_eq!(bed.squall(&["stats", "--no-stream"]).ok().text().lines().count(), 1);
    let workers = four(bed);
    let table = bed.squall(&["stats", "--no-stream"]).ok().text();
    let ids: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["ID", "waits", "runs", "stands"], "{table}");
    assert!(!table.contains('\x1b'));
    let sample = bed.squall(&["stats", "--no-stream", "--json"]).json();
    let shown = |index: usize| (&sample[index]["id"], &sample[index]["phase"], sample[index]["cpu_percent"].is_f64());
    assert_eq!(shown(0), (&json!("waits"), &json!("created"), false), "{sample}");
    assert_eq!(shown(2), (&json!("stands"), &json!("paused"), true), "{sample}");
    let chosen = bed.squall(&["stats", "--no-stream", "--json", "stands", "waits"]).json();
    assert_eq!((&chosen[0]["id"], &chosen[1]["id"]), (&json!("stands"), &json!("waits")), "{chosen}");
    end(bed, &workers);
}

fn what_does_not_live_has_no_figures(bed: &Bed) {
    let ended = bed.start(&["--name", "ended"], &["exit", "0"]);
    ended.wait();
    let running = bed.start(&["--name", "runs"], &["sleep", "600000"]);
    for (ids, words) in
        [(&["ended"][..], "it does not run"), (&["runs", "absent"], "no container"), (&["runs", "ended"], "ended")]
    {
        let refused = bed.squall(&["stats", "--no-stream"]).args(ids).output();
        assert_eq!(
            (refused.code(), refused.stderr.lines().count(), refused.text()),
            (125, 1, String::new()),
            "{refused}"
        );
        assert!(refused.stderr.contains(words), "{refused}");
    }
    for interval in ["0", "-1", "soon"] {
        let refused = bed.squall(&["stats", "--interval", interval]).output();
        assert!(refused.code() == 125 && refused.stderr.contains("--interval"), "{refused}");
    }
    running.kill();
}

/// `squall stats`, its output into a pipe.
fn stream(bed: &Bed, flags: &[&str]) -> (Child, BufReader<impl Read + use<>>) {
    let call = bed.squall(&[&["stats", "--interval", "0.05"], flags].concat());
    let mut child = call.into_command().stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

fn a_stream_goes_on_and_ends_with_the_containers_it_was_asked_for(bed: &Bed) {
    let burner = bed.start(&["--name", "burns"], &["burn", "600000"]);
    let (mut child, mut output) = stream(bed, &["--json"]);
    let used: Vec<u64> = (0..4)
        .map(|_| {
            let sample: Value = serde_json::from_str(&line(&mut output)).unwrap();
            assert_eq!(sample.as_array().map(Vec::len), Some(1), "{sample}");
            number(&sample[0], "cpu_usage_us")
        })
        .collect();
    assert!(used.is_sorted() && used[0] < used[3], "{used:?}");
    burner.kill();
    until("none is left", || (line(&mut output) == "[]\n").then_some(()));
    interrupt(&child);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(2));

    let worker = bed.start(&["--name", "sleeps"], &["sleep", "600000"]);
    let (mut child, mut output) = stream(bed, &["sleeps"]);
    let header = line(&mut output);
    assert!(header.starts_with("ID ") && line(&mut output).starts_with("sleeps "), "{header}");
    assert_eq!(line(&mut output), header, "no terminal: sample after sample");
    worker.kill();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains('\x1b'), "{rest:?}");
    let status = call::wait_for_end(&mut child, Duration::from_secs(10)).unwrap().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// Both ends of a terminal of this size.
fn terminal(rows: u16, columns: u16) -> (OwnedFd, File) {
    let leader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&leader).unwrap();
    unlockpt(&leader).unwrap();
    let path = ptsname(&leader, Vec::new()).unwrap().into_string().unwrap();
    let follower = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
    tcsetwinsize(&follower, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (leader, follower)
}

fn on_a_terminal_each_sample_takes_the_place_of_the_one_before(bed: &Bed) {
    let workers = ["a", "b", "c"].map(|name| bed.start(&["--name", name], &["sleep", "600000"]));
    let (leader, follower) = terminal(4, 60);
    let before = tcgetattr(&follower).unwrap();
    let call = bed.squall(&["stats", "--interval", "0.05"]);
    let mut child = call.into_command().stdout(follower.try_clone().unwrap()).spawn().unwrap();
    let mut leader = File::from(leader);
    let mut screen = Screen::new(4, 60);
    let mut written = Vec::new();
    until("it has drawn some samples", || {
        let mut part = [0; 4096];
        let count = leader.read(&mut part).unwrap();
        written.extend_from_slice(&part[..count]);
        (written.windows(3).filter(|window| window == b"CPU").count() >= 12).then_some(())
    });
    interrupt(&child);
    child.wait().unwrap();
    drop(follower);
    // What was written until the end; then the other side is closed.
    let _ = leader.read_to_end(&mut written);
    let text = String::from_utf8(written).unwrap();
    screen.take(&text);
    assert_eq!(screen.scrolled, 0, "no sample goes into what can be scrolled back to: {text:?}");
    assert!(screen.lines[0].starts_with("ID ") && screen.lines[1].starts_with("a "), "{:?}", screen.lines);
    assert_eq!(screen.lines[2], "and 2 more", "{:?}", screen.lines);
    assert_eq!((screen.row, screen.column), (3, 0), "the cursor is below");
    assert_eq!(tcgetattr(terminal_again(&leader)).unwrap().local_modes, before.local_modes);
    workers.iter().for_each(Worker::kill);
}

/// The worker's end of a terminal whose other end this is.
fn terminal_again(leader: &File) -> File {
    let path = PathBuf::from(ptsname(leader, Vec::new()).unwrap().into_string().unwrap());
    File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap()
}

/// As much of a terminal as a sample may use. Anything else is a failure.
struct Screen {
    lines: Vec<String>,
    columns: usize,
    row: usize,
    column: usize,
    scrolled: usize,
}

impl Screen {
    fn new(rows: usize, columns: usize) -> Screen {
        Screen { lines: vec![String::new(); rows], columns, row: 0, column: 0, scrolled: 0 }
    }

    fn take(&mut self, text: &str) {
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                self.sequence(&sequence[..end], &sequence[end..=end]);
                rest = &sequence[end + 1..];
                continue;
            }
            match character {
                '\r' => self.column = 0,
                '\n' if self.row + 1 < self.lines.len() => self.row += 1,
                '\n' => self.scrolled += 1,
                other => self.put(other),
            }
            rest = &rest[character.len_utf8()..];
        }
    }

    fn put(&mut self, character: char) {
        assert!(!character.is_control() && self.column < self.columns, "{character:?} in column {}", self.column);
        let line: String = self.lines[self.row].chars().take(self.column).collect();
        let behind: String = self.lines[self.row].chars().skip(self.column + 1).collect();
        self.lines[self.row] = format!("{line}{character}{behind}");
        self.column += 1;
    }

    fn sequence(&mut self, number: &str, what: &str) {
        match (number, what) {
            (count, "A") => self.row = self.row.checked_sub(count.parse().unwrap()).expect("above the screen"),
            ("", "K") => self.lines[self.row] = self.lines[self.row].chars().take(self.column).collect(),
            ("", "J") => {
                let kept: String = self.lines[self.row].chars().take(self.column).collect();
                self.lines[self.row..].iter_mut().for_each(String::clear);
                self.lines[self.row] = kept;
            }
            other => panic!("a sequence that changes more than the lines of a sample: {other:?}"),
        }
    }
}

fn top(bed: &Bed, id: &str) -> Vec<Value> {
    let Value::Array(processes) = bed.squall(&["top", "--json", id]).json() else { panic!("no array") };
    processes
}

fn processes_are_listed_from_the_host_whatever_phase_the_container_is_in(bed: &Bed) {
    let worker = bed.start(&["--user", "4711:4712"], &["family", "600000"]);
    let (init, two) =
        until("there are two", || Some((worker.pid(), top(bed, &worker.id))).filter(|(_, two)| two.len() == 2));
    let child = host::children(init)[0];
    for (process, pid, inside) in [(&two[0], init, 1), (&two[1], child, 2)] {
        assert_eq!((&process["pid"], &process["pid_inside"]), (&json!(pid), &json!(inside)), "{process}");
        assert_eq!((&process["uid"], &process["state"], &process["threads"]), (&json!(4711), &json!("S"), &json!(1)));
        assert_eq!(process["command"], json!(["/bin/probe", "family", "600000"]), "{process}");
        assert!(number(process, "rss_bytes") > 0 && process["cpu_us"].is_u64(), "{process}");
        assert_eq!(process["name"], "probe");
    }
    bed.squall(&["pause", &worker.id]).ok();
    let pids = |processes: &[Value]| -> Vec<Value> { processes.iter().map(|process| process["pid"].clone()).collect() };
    assert_eq!(pids(&top(bed, &worker.id)), pids(&two), "also of a paused one");
    bed.squall(&["resume", &worker.id]).ok();
    let table = bed.squall(&["top", &worker.id]).ok().text();
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((cells[0], cells[1], cells[2]), (init.to_string().as_str(), "1", "4711"), "{table}");
    assert!(table.lines().nth(2).unwrap().ends_with("/bin/probe family 600000"), "{table}");
    worker.kill();
    let refused = bed.squall(&["top", &worker.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("it does not run"), "{refused}");

    let burner = bed.start(&[], &["burn", "600000"]);
    until("it works", || (number(&top(bed, &burner.id)[0], "cpu_us") > 50_000).then_some(()));
    burner.kill();
    let created = create(bed, "waits");
    let waiting = top(bed, "waits");
    assert_eq!((waiting.len(), &waiting[0]["pid"]), (1, &json!(created.pid())), "{waiting:?}");
    end(bed, &[created]);
}

fn a_worker_does_not_drive_the_terminal_of_whoever_lists_its_processes(bed: &Bed) {
    const ODD: &str = "\x1b[2J\nok\r\u{202e}x\u{9b}31m\x7f";
    let worker = bed.start(&[], &["sleep", "600000", ODD]);
    for flags in [&["top"][..], &["top", "--json"]] {
        let shown = bed.squall(flags).args([&worker.id]).ok().text();
        let harmless = |character: char| character == '\n' || (!character.is_control() && character != '\u{202e}');
        assert!(shown.chars().all(harmless), "{shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("ok")), "a forged line: {shown:?}");
    }
    assert_eq!(top(bed, &worker.id)[0]["command"][3], ODD, "JSON has the very words");
    worker.kill();
}
