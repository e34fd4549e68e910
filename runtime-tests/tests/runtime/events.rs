//! What happens to containers, as a stream.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtime_tests::{Bed, Call, Worker, cases, host, until};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::{Value, json};
use squall::record::{EndReason, Exit};
use squall::{Change, ErrorKind, Event, Events};

cases![
    every_step_of_a_life_is_told_in_order_with_its_facts,
    steps_that_nobody_was_there_to_see_are_told_all_the_same,
    what_runs_out_of_memory_is_told_before_it_ends,
    a_pause_by_somebody_else_is_told,
    what_ends_without_its_monitor_is_told_as_lost,
    what_is_removed_with_its_end_tells_its_end_first,
    a_launch_that_fails_is_told_with_its_removal,
    what_is_there_is_told_first_and_once,
    a_reader_that_begins_amid_launches_misses_none_and_is_told_none_twice,
    a_late_reader_is_told_what_came_and_went,
    a_reader_that_is_too_slow_is_told_so_and_what_is_different_now,
    an_id_that_is_used_again_is_another_container,
    nothing_wakes_it_while_nothing_happens,
    a_limit_that_is_reached_is_named_and_the_stream_goes_on,
    a_damaged_record_is_told_and_hides_no_other_container,
    a_run_root_that_is_not_there_is_made_and_one_that_goes_is_told,
    the_command_prints_lines_that_a_filter_chooses,
];

/// How long an event may take to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream, and what it has told.
struct Reader {
    events: Events,
    told: Vec<Event>,
}

impl Reader {
    fn of(bed: &Bed) -> Reader {
        Reader { events: bed.library().build().unwrap().events().unwrap(), told: Vec::new() }
    }

    /// Reads until this is told of a container.
    fn until(&mut self, id: &str, name: &str) -> Event {
        self.until_told(|event| event.id == id && event.change.name() == name, &format!("{name} of {id}"))
    }

    fn until_told(&mut self, is_it: impl Fn(&Event) -> bool, what: &str) -> Event {
        let deadline = Instant::now() + host::bound(PATIENCE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(event) = self.events.next_timeout(left).unwrap() else {
                panic!("not told: {what}; told: {:#?}", self.lines());
            };
            self.told.push(event.clone());
            if is_it(&event) {
                return event;
            }
        }
    }

    /// Reads what there is.
    fn rest(&mut self) {
        while let Some(event) = self.events.next_timeout(Duration::ZERO).unwrap() {
            self.told.push(event);
        }
    }

    /// The names of what was told of one container.
    fn names(&self, id: &str) -> Vec<&'static str> {
        self.told.iter().filter(|event| event.id == id).map(|event| event.change.name()).collect()
    }

    fn lines(&self) -> Vec<String> {
        let line = |event: &Event| format!("{} {} {}", event.id, event.change.name(), event.snapshot);
        self.told.iter().map(line).collect()
    }
}

fn create<'a>(bed: &'a Bed, flags: &[&str], probe: &[&str]) -> Worker<'a> {
    let call = ["create", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe()];
    let call = bed.squall(&call).args(flags.iter().copied()).args(["--", "/bin/probe"]).args(probe.iter().copied());
    bed.worker(&call.ok().text())
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

fn every_step_of_a_life_is_told_in_order_with_its_facts(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let worker = create(bed, &["--name", "one"], &["exit-on-signal", "600000"]);
    let Change::Created(created) = reader.until("one", "created").change else { unreachable!() };
    assert_eq!(created.record().init.pid, worker.pid() as i32);
    bed.squall(&["start", "one"]).ok();
    let started = reader.until("one", "started");
    let Change::Started(Some(running)) = &started.change else { panic!("{started:?}") };
    assert_eq!(running.record().init.pid, worker.pid() as i32);
    until("it takes signals", || host::catches(worker.pid(), libc::SIGTERM).then_some(()));
    for _ in 0..2 {
        bed.squall(&["pause", "one"]).ok();
        let Change::Paused(paused) = reader.until("one", "paused").change else { unreachable!() };
        assert_eq!(paused.record().id, "one");
        bed.squall(&["resume", "one"]).ok();
        reader.until("one", "resumed");
    }
    bed.squall(&["stop", "one"]).ok();
    let exited = reader.until("one", "exited");
    let Change::Exited(exit) = &exited.change else { unreachable!() };
    assert_eq!((exit.exit, exit.reason), (Exit::Code { code: 15 }, EndReason::Stopped));
    assert_eq!(json!(exit), worker.inspect()["exit"], "the facts are those of the record");
    assert_eq!(exited.time_unix_ns, exit.ended_unix_ns);
    bed.squall(&["rm", "one"]).ok();
    reader.until("one", "removed");
    let names = ["launching", "created", "started", "paused", "resumed", "paused", "resumed", "exited", "removed"];
    assert_eq!(reader.names("one"), names);
    assert!(reader.told.iter().all(|event| !event.snapshot), "{:?}", reader.lines());
    assert!(reader.told.is_sorted_by_key(|event| event.time_unix_ns), "{:?}", reader.told);
}

fn steps_that_nobody_was_there_to_see_are_told_all_the_same(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let lives = create(bed, &["--name", "lives"], &["sleep", "600000"]);
    let paused = bed.start(&["--name", "paused"], &["sleep", "600000"]);
    let ended = create(bed, &["--name", "ended"], &["exit", "3"]);
    create(bed, &["--name", "never"], &["exit", "0"]);
    bed.squall(&["start", "lives", "ended"]).ok();
    bed.squall(&["pause", "paused"]).ok();
    bed.squall(&["stop", "never"]).ok();
    assert_eq!(ended.wait(), 3);
    reader.rest();
    let table: [(&str, &[&str]); 4] = [
        ("lives", &["launching", "created", "started"]),
        ("paused", &["launching", "started", "paused"]),
        ("ended", &["launching", "created", "started", "exited"]),
        ("never", &["launching", "created", "exited"]),
    ];
    for (id, names) in table {
        assert_eq!(reader.names(id), names, "{id}");
    }
    assert!(reader.told.iter().all(|event| !event.snapshot), "{:?}", reader.lines());
    lives.kill();
    paused.kill();
}

/// A child is killed, and init goes on.
fn what_runs_out_of_memory_is_told_before_it_ends(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let limits = ["--name", "eater", "--memory", "32m", "--memory-swap", "32m"];
    let greedy = [&["--detach"], &limits[..]].concat();
    bed.run(&greedy, &["child", "allocate", "268435456"]).ok();
    let Change::OutOfMemory { kills } = reader.until("eater", "oom").change else { unreachable!() };
    assert_eq!(kills, 1);
    reader.until("eater", "exited");
    assert_eq!(reader.names("eater"), ["launching", "started", "oom", "exited"]);
    // One that lives on, so that nothing but the kernel's notice tells.
    let limits = ["--name", "host", "--memory", "32m", "--memory-swap", "32m"];
    bed.run(&[&["--detach"], &limits[..]].concat(), &["shell", "allocate", "268435456"]).ok();
    reader.until("host", "oom");
    // Its neighbour below the same parent is not meant.
    reader.until("host", "exited");
    assert_eq!(reader.names("host"), ["launching", "started", "oom", "exited"]);
    assert_eq!(reader.names("eater").len(), 4);
}

fn a_pause_by_somebody_else_is_told(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let mut reader = Reader::of(bed);
    let directories = host::cgroup_directories(&worker.cgroup());
    let find = |name: &str| directories.iter().map(|one| one.join(name)).find(|file| file.exists());
    let v1 = find("freezer.state").map(|file| (file, "FROZEN", "THAWED"));
    let (file, frozen, thawed) = v1.or_else(|| Some((find("cgroup.freeze")?, "1", "0"))).unwrap();
    fs::write(&file, frozen).unwrap();
    reader.until(&worker.id, "paused");
    fs::write(&file, thawed).unwrap();
    reader.until(&worker.id, "resumed");
    bed.squall(&["pause", &worker.id]).ok();
    reader.until(&worker.id, "paused");
    worker.kill();
    reader.until(&worker.id, "exited");
    assert_eq!(reader.names(&worker.id), ["started", "paused", "resumed", "paused", "exited"]);
}

fn what_ends_without_its_monitor_is_told_as_lost(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let worker = bed.start(&["--name", "orphan"], &["sleep", "600000"]);
    let pid = worker.pid();
    kill(worker.monitor());
    until("its monitor is gone", || worker.inspect()["watched"].eq(&json!(false)).then_some(()));
    reader.rest();
    assert_eq!(reader.names("orphan"), ["launching", "started"], "it runs on");
    kill(pid);
    let Change::Lost(lost) = reader.until("orphan", "lost").change else { unreachable!() };
    assert_eq!(lost.record().init.pid, pid as i32);
    bed.squall(&["rm", "orphan"]).ok();
    reader.until("orphan", "removed");
    assert_eq!(reader.names("orphan"), ["launching", "started", "lost", "removed"]);
    // A restart of the stream finds what a restart of the program would.
    let worker = create(bed, &["--name", "other"], &["exit", "0"]);
    kill(worker.monitor());
    reader.until("other", "lost");
    let mut second = Reader::of(bed);
    assert!(second.until("other", "lost").snapshot);
}

fn what_is_removed_with_its_end_tells_its_end_first(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let whole = ["launching", "started", "exited", "removed"];
    for (id, flags) in [("a", &["--rm"][..]), ("b", &["--rm"]), ("c", &[])] {
        let worker = bed.start(&[flags, &["--name", id]].concat(), &["sleep", "600000"]);
        reader.until(id, "started");
        match flags {
            [] => drop(bed.squall(&["rm", "--force", id]).ok()),
            _ => worker.kill(),
        }
        let Change::Exited(exit) = reader.until(id, "exited").change else { unreachable!() };
        assert_eq!(exit.exit, Exit::Signal { signal: 9, core_dumped: false });
        reader.until(id, "removed");
        assert_eq!(reader.names(id), whole);
    }
}

fn a_launch_that_fails_is_told_with_its_removal(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let call = ["run", "--name", "bad", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe(), "--", "/bin/missing"];
    assert_eq!(bed.squall(&call).output().code(), 127);
    reader.until("bad", "removed");
    assert_eq!(reader.names("bad"), ["launching", "removed"]);
}

fn what_is_there_is_told_first_and_once(bed: &Bed) {
    let ended = bed.start(&["--name", "ended"], &["exit", "7"]);
    ended.wait();
    let workers = [
        create(bed, &["--name", "created"], &["sleep", "600000"]),
        bed.start(&["--name", "started"], &["sleep", "600000"]),
        bed.start(&["--name", "paused"], &["sleep", "600000"]),
    ];
    bed.squall(&["pause", "paused"]).ok();
    let mut reader = Reader::of(bed);
    reader.rest();
    let mut lines = reader.lines();
    lines.sort();
    let expected = ["created created true", "ended exited true", "paused paused true", "started started true"];
    assert_eq!(lines, expected);
    bed.squall(&["resume", "paused"]).ok();
    reader.until("paused", "resumed");
    bed.squall(&["start", "created"]).ok();
    reader.until("created", "started");
    bed.squall(&["rm", "ended"]).ok();
    reader.until("ended", "removed");
    for worker in workers {
        worker.kill();
        reader.until(&worker.id, "exited");
    }
    let changes = reader.told.iter().filter(|event| !event.snapshot).count();
    assert_eq!((reader.told.len(), changes), (10, 6), "{:?}", reader.lines());
}

/// Every container of many is told from the beginning or from where it stood, to its end, once.
fn a_reader_that_begins_amid_launches_misses_none_and_is_told_none_twice(bed: &Bed) {
    const AT_A_TIME: usize = 3;
    const EACH: usize = 8;
    // So that some reader begins while one runs.
    let lingers = host::bound(Duration::from_millis(100)).as_millis().to_string();
    let launch = |thread: usize| {
        for number in 0..EACH {
            bed.run(&["--name", &format!("w{thread}-{number}")], &["exit-after", &lingers, "0"]).ok();
        }
    };
    bed.probe();
    let mut readers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|thread| scope.spawn(move || launch(thread))).collect();
        let mut readers = Vec::new();
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            readers.push(Reader::of(bed));
            // In the midst of things, and not all at the same: time passing is what is tested.
            std::thread::sleep(Duration::from_millis(40));
            readers.iter_mut().for_each(Reader::rest);
            readers.truncate(30);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // Before they are removed.
        readers.iter_mut().for_each(Reader::rest);
        readers
    });
    let ids: Vec<String> = readers[0].told.iter().map(|event| event.id.clone()).collect();
    let ids: std::collections::BTreeSet<String> = ids.into_iter().collect();
    assert_eq!((ids.len(), readers.len() > 3), (AT_A_TIME * EACH, true), "{}", readers.len());
    ids.iter().for_each(|id| drop(bed.squall(&["rm", id]).ok()));
    let whole = ["launching", "started", "exited", "removed"];
    let mut amid = 0;
    for reader in &mut readers {
        reader.rest();
        let mut told: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
        for event in &reader.told {
            told.entry(&event.id).or_default().push((event.change.name(), event.snapshot));
        }
        assert_eq!(told.len(), ids.len(), "none is missed");
        for (id, told) in told {
            let names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
            assert!(whole.ends_with(&names) && names.len() > 1, "{id}: {names:?}: {:#?}", reader.lines());
            let snapshots: Vec<bool> = told.iter().map(|(_, snapshot)| *snapshot).collect();
            assert!(!snapshots[1..].contains(&true), "{id}: {told:?}");
            assert!(snapshots[0] || names.len() == whole.len(), "{id}: {told:?}");
            amid += usize::from(snapshots[0] && names.len() > 2);
        }
    }
    assert!(amid > 0, "some were found on their way");
}

/// Its queue holds all notices, and the containers are gone. Of those that were removed with their
/// end that is known.
fn a_late_reader_is_told_what_came_and_went(bed: &Bed) {
    let mut reader = Reader::of(bed);
    for number in 0..12_u8 {
        let id = format!("w{number}");
        let probe = ["exit", &number.to_string()];
        if number % 3 == 0 {
            bed.run(&["--name", &id], &probe).output();
            bed.squall(&["rm", &id]).ok();
        } else {
            bed.start(&["--rm", "--name", &id], &probe);
        }
    }
    until("all are gone", || (bed.squall(&["ps", "--all", "--json"]).json() == json!([])).then_some(()));
    reader.rest();
    for number in 0..12_u8 {
        let id = format!("w{number}");
        if number % 3 == 0 {
            assert_eq!(reader.names(&id), ["launching", "removed"], "nobody was there to read its record");
            continue;
        }
        assert_eq!(reader.names(&id), ["launching", "started", "exited", "removed"]);
        let code = reader.told.iter().find_map(|event| match &event.change {
            Change::Exited(exit) if event.id == id => Some(exit.exit),
            _ => None,
        });
        assert_eq!(code, Some(Exit::Code { code: number }), "{id}");
    }
    bed.squall(&["reap"]).ok();
}

fn a_reader_that_is_too_slow_is_told_so_and_what_is_different_now(bed: &Bed) {
    let leaves = bed.start(&["--name", "leaves"], &["sleep", "600000"]);
    let stays = bed.start(&["--name", "stays"], &["sleep", "600000"]);
    let mut reader = Reader::of(bed);
    reader.rest();
    // More notices than the kernel keeps for it.
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let [one, other] = ["one", "other"].map(|name| bed.run_root().join("containers").join(format!(".claim-{name}")));
    fs::create_dir(&one).unwrap();
    for _ in 0..most / 4 + 1 {
        // Two notices each.
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }
    fs::remove_dir(&one).unwrap();
    leaves.kill();
    bed.squall(&["rm", "leaves"]).ok();
    bed.squall(&["pause", "stays"]).ok();
    bed.run(&["--name", "new", "--detach"], &["sleep", "600000"]).ok();
    bed.run(&["--name", "passed", "--rm"], &["exit", "0"]).ok();
    let before = reader.told.len();
    let lagged = reader.until_told(|event| matches!(event.change, Change::Lagged { .. }), "that it lagged");
    reader.rest();
    let differences: Vec<String> =
        reader.lines().split_off(before).into_iter().filter(|line| !line.starts_with(' ')).collect();
    let expected =
        ["leaves exited true", "leaves removed true", "stays paused true", "new started true"].map(str::to_owned);
    // The end of a process is told by itself, and may be so before the queue is found full.
    let normal: Vec<String> =
        differences.iter().map(|line| line.replace("leaves exited false", "leaves exited true")).collect();
    assert_eq!(normal, expected);
    let Change::Lagged { missed } = lagged.change else { unreachable!() };
    let marked = differences.iter().filter(|line| line.ends_with("true")).count() as u64;
    assert!(missed == marked && lagged.id.is_empty(), "{missed}: {differences:?}");
    // It goes on as before.
    bed.squall(&["resume", "stays"]).ok();
    assert!(!reader.until("stays", "resumed").snapshot);
    stays.kill();
    bed.worker("new").kill();
    assert!(!reader.until("new", "exited").snapshot);
}

fn an_id_that_is_used_again_is_another_container(bed: &Bed) {
    let mut reader = Reader::of(bed);
    for code in ["1", "2", "3"] {
        bed.run(&["--name", "same"], &["exit", code]).output();
        reader.until("same", "exited");
        bed.squall(&["rm", "same"]).ok();
        reader.until("same", "removed");
    }
    let one = ["launching", "started", "exited", "removed"];
    assert_eq!(reader.names("same"), [one, one, one].concat());
    // Without the reader in between: what is told may be less, and never wrong.
    for code in ["4", "5", "6"] {
        bed.run(&["--name", "same"], &["exit", code]).output();
        bed.squall(&["rm", "same"]).ok();
    }
    let worker = bed.start(&["--name", "same"], &["sleep", "600000"]);
    reader.until("same", "started");
    worker.kill();
    reader.until("same", "exited");
    let names = reader.names("same").split_off(12);
    assert!(names.ends_with(&["launching", "started", "exited"]), "{names:?}");
    assert!(names[..names.len() - 3].chunks(2).all(|pair| pair == ["launching", "removed"]), "{names:?}");
}

/// Wake-ups as the kernel counts them.
fn nothing_wakes_it_while_nothing_happens(bed: &Bed) {
    let workers: Vec<_> = (0..5).map(|_| bed.start(&[], &["sleep", "600000"])).collect();
    bed.squall(&["pause", &workers[0].id]).ok();
    let mut reader = Reader::of(bed);
    reader.rest();
    let wakeups = || host::status(std::process::id(), "voluntary_ctxt_switches").parse::<u64>().unwrap();
    // What the launches above left to the kernel's workers may come yet.
    until("it is quiet", || {
        let before = wakeups();
        assert!(reader.events.next_timeout(Duration::from_millis(500)).unwrap().is_none());
        // The wait itself sleeps once, and its deadline is the one wake-up.
        (wakeups() - before <= 1).then_some(())
    });
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    assert_eq!(threads, 1);
    workers.iter().for_each(Worker::kill);
}

fn a_limit_that_is_reached_is_named_and_the_stream_goes_on(bed: &Bed) {
    let mut reader = Reader::of(bed);
    let before = getrlimit(Resource::Nofile);
    let used = host::open_fds("self").len() as u64;
    let first = bed.start(&["--name", "first"], &["sleep", "600000"]);
    let second = bed.start(&["--name", "second"], &["sleep", "600000"]);
    // Room for what a look needs, and not for what two containers need.
    setrlimit(Resource::Nofile, Rlimit { current: Some(used + 4), maximum: before.maximum }).unwrap();
    let mut told = Vec::new();
    let error = loop {
        match reader.events.next_timeout(host::bound(PATIENCE)) {
            Ok(event) => told.push(event.expect("something is to be told").id),
            Err(error) => break error,
        }
    };
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(error.kind() == ErrorKind::Exhausted && error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    reader.until("second", "started");
    for worker in [first, second] {
        worker.kill();
        reader.until(&worker.id, "exited");
    }
}

fn a_damaged_record_is_told_and_hides_no_other_container(bed: &Bed) {
    let worker = bed.start(&["--name", "sound"], &["sleep", "600000"]);
    let damaged = bed.run_root().join("containers/damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("record.json"), "{").unwrap();
    let mut reader = Reader::of(bed);
    let Change::Unreadable(error) = reader.until("damaged", "unreadable").change else { unreachable!() };
    assert!(error.to_string().contains("record.json"), "{error}");
    reader.rest();
    assert_eq!(reader.names("sound"), ["started"]);
    fs::remove_dir_all(&damaged).unwrap();
    reader.until("damaged", "removed");
    worker.kill();
    reader.until("sound", "exited");
    assert_eq!(reader.names("damaged"), ["unreadable", "removed"]);
}

fn a_run_root_that_is_not_there_is_made_and_one_that_goes_is_told(bed: &Bed) {
    assert!(!bed.run_root().exists());
    let mut reader = Reader::of(bed);
    let worker = bed.start(&["--name", "one"], &["exit", "0"]);
    reader.until("one", "exited");
    worker.wait();
    bed.squall(&["rm", "one"]).ok();
    bed.squall(&["reap"]).ok();
    reader.until("one", "removed");
    fs::remove_dir_all(bed.run_root().join("containers")).unwrap();
    let Reader { mut events, .. } = reader;
    let error = events.next().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("removed or renamed"), "{error}");
    assert!(events.next().is_none());
    let mut elsewhere = Command::new(bed.program());
    elsewhere.args(["--root", &bed.file("no/where"), "events"]);
    let missing = Call::new(elsewhere).output();
    assert!(missing.code() == 125 && missing.stderr.contains("no/where"), "{missing}");
}

fn the_command_prints_lines_that_a_filter_chooses(bed: &Bed) {
    let there = bed.start(&["--name", "there"], &["sleep", "600000"]);
    let start = |flags: &[&str]| {
        let mut command = bed.squall(&["events"]).args(flags.iter().copied()).into_command();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    };
    let (mut all, mut all_lines) = start(&["--json"]);
    let (mut text, mut text_lines) = start(&["--since-now", "--filter", "container=there"]);
    let (mut ends, mut end_lines) =
        start(&["--json", "-f", "event=exited", "-f", "event=removed", "-f", "container=w"]);
    let mut next = || -> Value { serde_json::from_str(&all_lines.next().unwrap()).unwrap() };
    let first = next();
    assert_eq!(
        (&first["id"], &first["event"], &first["snapshot"], &first["pid"]),
        (&json!("there"), &json!("started"), &json!(true), &json!(there.pid()))
    );
    assert!(first["time"].as_str().unwrap().ends_with('Z') && first["time_unix_ns"].is_u64(), "{first}");
    // The two others have begun when their descriptors wait, which the first one's line tells of
    // that one alone.
    for child in [&text, &ends] {
        until("it waits", || host::status(child.id(), "State").starts_with('S').then_some(()));
        until("it watches", || {
            host::open_fds(&child.id().to_string()).values().any(|fd| fd.contains("inotify")).then_some(())
        });
    }
    bed.run(&["--name", "w"], &["exit", "3"]).output();
    let told: Vec<Value> = (0..3).map(|_| next()).collect();
    let names: Vec<&str> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["launching", "started", "exited"]);
    assert_eq!((&told[2]["code"], &told[2]["exit"]["exit"]), (&json!(3), &json!({ "code": 3 })));
    bed.squall(&["rm", "w"]).ok();
    assert_eq!(next()["event"], "removed");
    for expected in ["exited", "removed"] {
        let event: Value = serde_json::from_str(&end_lines.next().unwrap()).unwrap();
        assert_eq!((&event["id"], &event["event"]), (&json!("w"), &json!(expected)));
    }
    there.kill();
    let line = text_lines.find(|line| !line.ends_with("(snapshot)")).unwrap();
    assert!(line.ends_with("Z there exited signal 9 (killed-after-grace)"), "{line}");
    for child in [&mut all, &mut text, &mut ends] {
        kill_process(Pid::from_child(child), Signal::INT).unwrap();
        assert!(!child.wait().unwrap().success());
    }
    let refused = bed.squall(&["events", "--filter", "event=born"]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("--filter: 'born' is no event"), "{refused}");
}
