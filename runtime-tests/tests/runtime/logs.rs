//! What a worker writes, in files: straight, rotated, with timestamps; with those who copy it
//! killed, the disk full, the file gone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, cases, host, until};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::log::{LogStatus, Query};
use squall::request::{AbsolutePath, Identity, LaunchSpec, Log, OnExit};
use squall::{Container, ContainerLog, Ended, ErrorKind, OpenedSpec, Running, Spawner, Squall, Stdio};

cases![
    a_straight_log_is_added_to_by_the_worker_itself,
    a_rotated_log_has_files_of_the_size_asked_for_and_no_byte_lost_or_doubled,
    of_more_files_than_asked_for_the_oldest_go,
    a_copier_that_is_killed_loses_and_doubles_nothing,
    a_keeper_that_is_killed_is_replaced_by_its_copier,
    with_both_killed_at_once_the_worker_waits_and_whoever_looks_mends_it,
    a_full_disk_hangs_no_worker_and_every_lost_byte_is_counted_and_said,
    a_file_that_is_deleted_or_renamed_is_made_anew,
    a_slow_copier_slows_the_worker_down_and_loses_nothing,
    a_follower_shows_all_over_rotations_and_ends_with_the_container,
    timestamps_tell_streams_and_instants_and_leave_every_byte_as_it_is,
    what_is_removed_with_its_end_leaves_nothing_in_the_run_root,
    a_worker_whose_caller_is_killed_is_logged_to_its_end,
    a_program_with_a_spawner_and_threads_gets_the_same,
    a_launch_process_that_is_killed_leaves_nothing_that_reaping_does_not_clear,
    a_launch_that_fails_leaves_no_log,
    what_cannot_be_a_log_is_refused_and_no_link_is_followed,
    processes_of_a_log_have_nothing_of_their_caller,
];

/// Programs that a test has killed while they launch.
pub const ROLES: &[Role] = &[("launch-logged", launch_logged)];

/// Launches a worker with a log through the library, which has crash points here.
fn launch_logged(args: &[String]) {
    let [run_root, monitors, layer, cgroup, file] = args else { panic!("{args:?}") };
    let squall = Squall::builder().run_root(run_root).monitors(monitors).build().unwrap();
    let user = Identity::new(65534, 65534, []).unwrap();
    let builder = LaunchSpec::builder("logged").layers([layer]).user(user).cgroup(cgroup);
    let log = Log::in_file(AbsolutePath::new(file).unwrap()).with_timestamps();
    let spec = builder.args(["/bin/probe", "sleep", "600000"]).log(log).build().unwrap();
    let _ = squall.launch(&spec, Stdio::null().unwrap());
}

/// Least size of a file.
const SIZE: u64 = 128 << 10;

/// A worker that copies what it is fed.
struct Fed {
    running: Running,
    input: Option<File>,
}

impl Fed {
    fn launch(bed: &Bed, id: &str, log: Log) -> Fed {
        Fed::launch_by(&bed.library().build().unwrap(), &spec(bed, id, log))
    }

    fn launch_by(squall: &Squall, spec: &LaunchSpec) -> Fed {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let [_, stdout, stderr] = Stdio::null().unwrap().streams;
        let stdio = Stdio::new([read, stdout, stderr]);
        let running = squall.launch(spec, stdio).unwrap();
        Fed { running, input: Some(File::from(write)) }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn log(&self) -> ContainerLog {
        self.running.log().unwrap()
    }

    fn status(&self) -> LogStatus {
        self.log().status().unwrap()
    }

    /// Lets the worker come to its end, and waits for all to be written.
    fn finish(&mut self) -> LogStatus {
        drop(self.input.take());
        let Ended::Exited(exited) = self.running.wait().unwrap() else { panic!("it is lost") };
        assert_eq!(exited.exit().exit, squall::record::Exit::Code { code: 0 });
        complete(&self.log())
    }

    fn remove(self) {
        self.running.wait().unwrap().remove().unwrap();
    }
}

fn spec(bed: &Bed, id: &str, log: Log) -> LaunchSpec {
    let builder = LaunchSpec::builder(id).layers([bed.probe()]).args(["/bin/probe", "copy"]);
    let builder = builder.user(Identity::new(65534, 65534, []).unwrap()).cgroup(format!("{}/{id}", bed.cgroup()));
    builder.log(log).build().unwrap()
}

fn complete(log: &ContainerLog) -> LogStatus {
    until("everything is copied", || log.status().filter(|status| status.complete))
}

fn in_file(bed: &Bed, name: &str) -> Log {
    Log::in_file(AbsolutePath::new(bed.file(name)).unwrap())
}

/// So many, and fewer on a machine that is emulated.
fn megabytes(count: usize) -> usize {
    (count << 20) / host::bound(Duration::from_secs(1)).as_secs() as usize
}

/// A twentieth of the longest output.
fn file_size() -> u64 {
    SIZE.max(megabytes(1) as u64)
}

/// Numbered lines, as many bytes or a few more.
fn lines(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 100);
    let mut number = 0;
    while text.len() < bytes {
        writeln!(text, "{number:09} {}", "x".repeat(number % 97)).unwrap();
        number += 1;
    }
    text
}

/// The files of a log after each other.
fn content(log: &ContainerLog) -> Vec<u8> {
    log.files().iter().flat_map(|file| fs::read(file).unwrap()).collect()
}

/// The same as the worker wrote it, from whatever format.
fn output(log: &ContainerLog) -> Vec<u8> {
    let mut bytes = Vec::new();
    log.read(&Query::default(), |entry| {
        bytes.extend_from_slice(entry.text);
        bytes.extend(entry.ended.then_some(b'\n'));
        Ok(())
    })
    .unwrap();
    bytes
}

/// Where two texts begin to differ, rather than both.
fn assert_same(found: &[u8], expected: &[u8]) {
    let differs = found.iter().zip(expected).position(|(one, other)| one != other);
    let from = differs.unwrap_or(found.len().min(expected.len())).saturating_sub(40);
    let part = |bytes: &[u8]| String::from_utf8_lossy(&bytes[from..bytes.len().min(from + 120)]).into_owned();
    assert!(
        found == expected,
        "{} of {} bytes; at {from}: {:?} instead of {:?}",
        found.len(),
        expected.len(),
        part(found),
        part(expected)
    );
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn a_straight_log_is_added_to_by_the_worker_itself(bed: &Bed) {
    let file = bed.file("a.log");
    for _ in 0..2 {
        bed.run(&["--rm", "--user", "1000:1000", "--log-file", &file], &["say", "to", "both"]).ok();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "to both\n".repeat(4), "nothing is overwritten");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 1000, 1000));
    let worker = bed.start(&["--log-file", &file], &["say", "once", "more"]);
    worker.wait();
    let shown = bed.squall(&["logs", "--tail", "3", &worker.id]).ok();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), "to both\nonce more\nonce more\n");
    let log = &worker.inspect()["log"];
    assert_eq!((&log["path"], &log["timestamps"], &log["lost_bytes"]), (&json!(file), &json!(false), &Value::Null));
    assert!(!bed.run_root().join("logs").exists(), "there is no copier");
    let own = bed.file("own.log");
    let with_own_user = bed.start(&["--log-file", &own], &["say", "a"]);
    with_own_user.wait();
    let uid = &with_own_user.inspect()["spec"]["user"]["uid"];
    assert_eq!(uid, fs::metadata(&own).unwrap().uid(), "the user of its own has it");
    let none = bed.start(&[], &["exit", "0"]);
    none.wait();
    let refused = bed.squall(&["logs", &none.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("it has no log"), "{refused}");
}

fn a_rotated_log_has_files_of_the_size_asked_for_and_no_byte_lost_or_doubled(bed: &Bed) {
    let expected = lines(megabytes(20));
    // No multiple of what a pipe holds: a copier that is always given full pipes, as on a busy
    // machine, would have each file full where a pipe's content ends, in the middle of a line.
    let size = file_size() + 10_007;
    for (id, log) in [("plain", Log::in_run_root(size, 64)), ("stamped", Log::in_run_root(size, 64).with_timestamps())]
    {
        let mut fed = Fed::launch(bed, id, log);
        fed.feed(&expected);
        assert_eq!(fed.finish().lost_bytes, 0);
        let log = fed.log();
        let sizes: Vec<u64> = log.files().iter().map(|file| file.metadata().unwrap().len()).collect();
        assert!(sizes.len() > 10 && sizes.iter().all(|length| *length <= size), "{sizes:?}");
        assert!(sizes[..sizes.len() - 1].iter().all(|length| *length > size - 1024), "they are full: {sizes:?}");
        assert_same(&output(&log), &expected);
        if id == "plain" {
            assert_same(&content(&log), &expected);
            // Not where a line's end came only after its beginning had been written.
            let between = log.files().iter().filter(|file| fs::read(file).unwrap().ends_with(b"\n")).count();
            assert!(between * 2 > sizes.len(), "rotated between lines: {between} of {}", sizes.len());
        }
        fed.remove();
    }
}

fn of_more_files_than_asked_for_the_oldest_go(bed: &Bed) {
    let expected = lines(10 * SIZE as usize);
    let mut fed = Fed::launch(bed, "few", in_file(bed, "a.log").rotated(SIZE, 3));
    fed.feed(&expected);
    assert_eq!(fed.finish().lost_bytes, 0, "what was rotated away is none of it");
    let log = fed.log();
    let names = ["a.log.2", "a.log.1", "a.log"].map(|name| PathBuf::from(bed.file(name)));
    assert_eq!(log.files(), names);
    assert_eq!(fs::read_dir(bed.work()).unwrap().count(), 3);
    let content = content(&log);
    assert!(content.len() as u64 > 2 * SIZE && expected.ends_with(&content));
    fed.remove();
    assert_eq!(fs::read_dir(bed.work()).unwrap().count(), 3, "a log in a file stays");
}

/// Killed again and again while the worker writes, at moments that nobody chose.
fn a_copier_that_is_killed_loses_and_doubles_nothing(bed: &Bed) {
    let expected = lines(megabytes(20));
    for (id, log) in [
        ("plain", in_file(bed, "p.log").rotated(file_size(), 64)),
        ("stamped", in_file(bed, "s.log").with_timestamps()),
    ] {
        let mut fed = Fed::launch(bed, id, log);
        let mut copiers = Vec::new();
        for part in expected.chunks(expected.len() / 40 + 1) {
            fed.feed(part);
            let copier = fed.status().copier.unwrap().pid;
            if host::is_alive(copier as u32) && !copiers.contains(&copier) {
                signal(copier, Signal::KILL);
                copiers.push(copier);
            }
        }
        assert!(copiers.len() > 2, "it was killed {} times", copiers.len());
        assert_eq!(fed.finish().lost_bytes, 0);
        assert_same(&output(&fed.log()), &expected);
        fed.remove();
    }
}

fn a_keeper_that_is_killed_is_replaced_by_its_copier(bed: &Bed) {
    let expected = lines(4 << 20);
    let mut fed = Fed::launch(bed, "kept", in_file(bed, "a.log").with_timestamps());
    let mut former = until("the copier says who it is", || fed.status().keeper.zip(fed.status().copier));
    let parts: Vec<&[u8]> = expected.chunks(expected.len() / 3 + 1).collect();
    for part in &parts[..2] {
        signal(former.0.pid, Signal::KILL);
        former = until("the copier is the keeper", || {
            let status = fed.status();
            status.keeper.zip(status.copier).filter(|now| now.0 == former.1 && now.1 != former.1)
        });
        fed.feed(part);
    }
    fed.feed(parts[2]);
    assert_eq!(fed.finish().lost_bytes, 0);
    assert_same(&output(&fed.log()), &expected);
    fed.remove();
}

fn with_both_killed_at_once_the_worker_waits_and_whoever_looks_mends_it(bed: &Bed) {
    let expected = lines(300 << 10);
    let (first, second) = expected.split_at(20 << 10);
    for (id, mend) in [("by-logs", &["logs", "by-logs"][..]), ("by-reap", &["reap"][..])] {
        let mut fed = Fed::launch(bed, id, in_file(bed, id).rotated(SIZE, 9));
        fed.feed(first);
        let status = until("the copier says who it is", || Some(fed.status()).filter(|status| status.keeper.is_some()));
        let (keeper, copier) = (status.keeper.unwrap(), status.copier.unwrap());
        // At one instant: neither sees the other's death.
        signal(keeper.pid, Signal::STOP);
        signal(copier.pid, Signal::KILL);
        signal(keeper.pid, Signal::KILL);
        until("both are gone", || (!keeper.is_alive() && !copier.is_alive()).then_some(()));
        std::thread::scope(|scope| {
            let feeding = scope.spawn(|| fed.input.as_mut().unwrap().write_all(second).unwrap());
            std::thread::sleep(Duration::from_millis(300)); // it has to be seen to wait
            assert!(!feeding.is_finished() && fed.running.is_alive());
            let said = bed.squall(mend).ok();
            let words = if id == "by-logs" { "its copier was killed" } else { "another one goes on" };
            assert!([said.stderr.clone(), said.text()].concat().contains(words), "{said}");
            feeding.join().unwrap();
        });
        assert_eq!(fed.finish().lost_bytes, 0);
        assert_same(&output(&fed.log()), &expected);
        fed.remove();
    }
}

fn a_full_disk_hangs_no_worker_and_every_lost_byte_is_counted_and_said(bed: &Bed) {
    let disk = PathBuf::from(bed.file("disk"));
    for (id, timestamps) in [("plain", false), ("stamped", true)] {
        fs::create_dir_all(&disk).unwrap();
        mount("small", &disk, "tmpfs", MountFlags::empty(), Some(c"size=1m")).unwrap();
        let mut log = Log::in_file(AbsolutePath::new(disk.join("a.log")).unwrap()).rotated(SIZE, 2);
        log.max_bytes = Some(1 << 30);
        log.timestamps = timestamps;
        let mut fed = Fed::launch(bed, id, log);
        let first = lines(4 << 20);
        fed.feed(&first);
        let lost = until("bytes were lost", || Some(fed.status()).filter(|status| status.lost_bytes > 2 << 20));
        assert!(lost.why.unwrap().contains("No space left"));
        until("the worker has written all", || {
            let before = fed.status().lost_bytes;
            std::thread::sleep(Duration::from_millis(200)); // nothing tells that nothing comes
            (fed.status().lost_bytes == before).then_some(())
        });
        let lost = fed.status().lost_bytes;
        // Room again: the file is taken away, as an administrator would do.
        let kept = output(&fed.log());
        assert_eq!(kept.len() as u64 + lost, first.len() as u64, "every byte is written or counted");
        assert!(first.starts_with(&kept) && kept.len() > 500 << 10, "{} bytes", kept.len());
        fs::remove_file(disk.join("a.log")).unwrap();
        fed.feed(b"room again\n");
        assert_eq!(fed.finish().lost_bytes, lost);
        let said = String::from_utf8(output(&fed.log())).unwrap();
        let expected =
            format!("squall: {lost} bytes of output lost: No space left on device (os error 28)\nroom again\n");
        assert_eq!(said, expected);
        let shown = bed.squall(&["inspect", "--json", id]).json();
        assert_eq!((&shown["log"]["lost_bytes"], &shown["log"]["complete"]), (&json!(lost), &json!(true)), "{shown}");
        fed.remove();
        unmount(&disk, UnmountFlags::empty()).unwrap();
    }
}

fn a_file_that_is_deleted_or_renamed_is_made_anew(bed: &Bed) {
    let path = PathBuf::from(bed.file("a.log"));
    let mut fed = Fed::launch(bed, "gone", in_file(bed, "a.log").with_timestamps());
    let holds =
        |file: &Path, text: &str| fs::read_to_string(file).is_ok_and(|content| content.contains(text)).then_some(());
    fed.feed(b"first\n");
    until("it is written", || holds(&path, "first"));
    fs::remove_file(&path).unwrap();
    fed.feed(b"second\n");
    until("there is a new file", || holds(&path, "second"));
    fs::rename(&path, path.with_extension("old")).unwrap();
    fed.feed(b"third\n");
    until("there is a new file", || holds(&path, "third"));
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
    // What is no file there is not written to; the worker goes on.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fed.feed(b"fourth\n");
    until("it is counted", || (fed.status().lost_bytes == 7).then_some(()));
    fs::remove_dir(&path).unwrap();
    fed.feed(b"fifth\n");
    fed.finish();
    let said = String::from_utf8(output(&fed.log())).unwrap();
    assert!(said.starts_with("squall: 7 bytes of output lost: ") && said.ends_with("\nfifth\n"), "{said}");
    fed.remove();
}

fn a_slow_copier_slows_the_worker_down_and_loses_nothing(bed: &Bed) {
    let expected = lines(3 << 20);
    let mut fed = Fed::launch(bed, "slow", in_file(bed, "a.log").rotated(1 << 20, 9));
    let copier = until("the copier says who it is", || fed.status().copier).pid;
    signal(copier, Signal::STOP);
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| fed.input.as_mut().unwrap().write_all(&expected).unwrap());
        std::thread::sleep(Duration::from_millis(300)); // it has to be seen to wait
        assert!(!feeding.is_finished());
        signal(copier, Signal::CONT);
        feeding.join().unwrap();
    });
    assert_eq!(fed.finish().lost_bytes, 0);
    assert_same(&content(&fed.log()), &expected);
    fed.remove();
}

fn follow(bed: &Bed, id: &str, name: &str, flags: &[&str]) -> (Child, PathBuf) {
    let path = PathBuf::from(bed.file(name));
    let mut command = bed.squall(&[&["logs", "--follow"], flags, &[id]].concat()).into_command();
    let child = command.stdin(ProcessStdio::null()).stdout(File::create(&path).unwrap()).spawn().unwrap();
    (child, path)
}

fn a_follower_shows_all_over_rotations_and_ends_with_the_container(bed: &Bed) {
    let expected = lines(megabytes(6));
    for (id, log) in [
        ("plain", Log::in_run_root(file_size(), 64)),
        ("stamped", in_file(bed, "s.log").rotated(file_size(), 64).with_timestamps()),
        ("straight", in_file(bed, "straight.log")),
    ] {
        let mut fed = Fed::launch(bed, id, log);
        fed.feed(b"before\n");
        let (mut follower, shown) = follow(bed, id, &format!("{id}.shown"), &[]);
        until("it shows what was there", || (fs::read(&shown).unwrap() == b"before\n").then_some(()));
        for part in expected.chunks(200 << 10) {
            fed.feed(part);
        }
        assert_eq!(follower.try_wait().unwrap(), None, "the container runs");
        drop(fed.input.take());
        let _ = fed.running.wait().unwrap();
        assert!(follower.wait().unwrap().success());
        assert_same(&fs::read(&shown).unwrap(), &[b"before\n", &expected[..]].concat());
        // Of one that has ended it shows what there is, and ends.
        let (mut follower, shown) = follow(bed, id, &format!("{id}.again"), &["--tail", "1"]);
        assert!(follower.wait().unwrap().success());
        assert!(expected.ends_with(&fs::read(&shown).unwrap()));
        fed.remove();
    }
}

fn timestamps_tell_streams_and_instants_and_leave_every_byte_as_it_is(bed: &Bed) {
    let file = bed.file("both.log");
    let flags = ["--log-file", &file, "--log-opt", "timestamps"];
    let worker = bed.start(&flags, &["say", "to", "both"]);
    worker.wait();
    until("everything is copied", || (worker.inspect()["log"]["complete"] == true).then_some(()));
    let text = fs::read_to_string(&file).unwrap();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    // Standard error is not buffered: the newline may come by itself.
    let [first, second] = ["stdout", "stderr"].map(|stream| {
        let lines: Vec<_> = words.iter().filter(|line| line[1] == stream).collect();
        assert_eq!(lines.iter().map(|line| line[3]).collect::<String>(), "to both", "{text}");
        let (last, before) = lines.split_last().unwrap();
        assert!(last[2] == "F" && before.iter().all(|line| line[2] == "P"), "{text}");
        lines[0][0]
    });
    assert!(
        [first, second].iter().all(|time| time.len() == 30 && time.starts_with("20") && time.ends_with('Z')),
        "{text}"
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0, "the worker cannot change what it has said");
    let shown = bed.squall(&["logs", "--timestamps", &worker.id]).ok();
    assert_eq!(shown.text(), format!("{first} to both"));
    assert_eq!(shown.stderr, format!("{second} to both\n"));
    let since = |instant: &str| bed.squall(&["logs", "--since", instant, &worker.id]).ok().text();
    assert_eq!((since("1h"), since("2999-01-01")), ("to both".to_owned(), String::new()));
    let until_then = bed.squall(&["logs", "--until", "1h", &worker.id]).ok();
    assert_eq!(until_then.text(), "");

    // Lines without an end, long ones, and bytes that are no text.
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut fed = Fed::launch(bed, "bytes", in_file(bed, "bytes.log").with_timestamps());
    for part in [&b"half a line"[..], b", the rest\n\n", &bytes, &vec![b'y'; 40_000], b"\nend"] {
        fed.feed(part);
        std::thread::sleep(Duration::from_millis(20)); // so that they come apart
    }
    assert_eq!(fed.finish().lost_bytes, 0);
    let expected = [&b"half a line, the rest\n\n"[..], &bytes, &vec![b'y'; 40_000], b"\nend"].concat();
    assert_same(&output(&fed.log()), &expected);
    assert_same(&bed.squall(&["logs", "bytes"]).ok().stdout, &expected);
    fed.remove();
}

fn what_is_removed_with_its_end_leaves_nothing_in_the_run_root(bed: &Bed) {
    let file = bed.file("a.log");
    let flags = ["--rm", "--name", "short", "--log-file", &file, "--log-opt", "timestamps"];
    let worker = bed.start(&flags, &["say", "to", "both"]);
    worker.wait();
    let logs = bed.run_root().join("logs");
    until("the copier has cleared up", || (fs::read_dir(&logs).unwrap().count() == 0).then_some(()));
    let full = |text: String| text.lines().filter(|line| line.ends_with("both") || line.ends_with(" F ")).count();
    assert!(full(fs::read_to_string(&file).unwrap()) >= 2);
    // The same of a log that is in the run root itself.
    let mut spec = spec(bed, "reaped", Log::in_run_root(SIZE, 2)).into_fields();
    spec.on_exit = OnExit::Remove;
    let spec = LaunchSpec::try_from(spec).unwrap();
    let running = bed.library().build().unwrap().launch(&spec, Stdio::null().unwrap()).unwrap();
    let _ = running.wait();
    until("it is gone", || (fs::read_dir(&logs).unwrap().count() == 0).then_some(()));
    // What nobody could clear up, reaping does.
    fs::create_dir(logs.join("orphan")).unwrap();
    let said = bed.squall(&["reap", "--dry-run"]).ok().text();
    assert!(said.contains("orphan") && logs.join("orphan").exists(), "{said}");
    bed.squall(&["reap"]).ok();
    assert!(!logs.join("orphan").exists());
}

fn a_worker_whose_caller_is_killed_is_logged_to_its_end(bed: &Bed) {
    let flags = ["--name", "alone", "--log-opt", "max-size=1m"];
    let mut command = bed.run(&flags, &["exit-on-signal", "600000"]).into_command();
    let mut caller = command.stdin(ProcessStdio::null()).spawn().unwrap();
    let worker = bed.worker("alone");
    until("it runs", || (bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running").then_some(()));
    signal(caller.id() as i32, Signal::KILL);
    caller.wait().unwrap();
    let before = worker.inspect();
    assert_eq!((&before["phase"], &before["log"]["complete"]), (&json!("running"), &json!(false)));
    let copier = before["log"]["copier"]["pid"].as_u64().unwrap() as u32;
    assert!(host::is_alive(copier));
    let until_then = Instant::now();
    worker.kill();
    until("the copier has ended", || (!host::is_alive(copier)).then_some(()));
    assert!(until_then.elapsed() < host::bound(Duration::from_secs(5)));
    assert_eq!(worker.inspect()["log"]["complete"], true);
    bed.squall(&["rm", "alone"]).ok();
}

fn a_program_with_a_spawner_and_threads_gets_the_same(bed: &Bed) {
    let expected = lines(1 << 20);
    let squall = bed.library().spawner(Spawner::program(bed.program()).unwrap()).build().unwrap();
    let launch = |id: &str| {
        let mut fed = Fed::launch_by(&squall, &spec(bed, id, Log::in_run_root(SIZE, 100)));
        fed.feed(&expected);
        assert_eq!(fed.finish().lost_bytes, 0);
        assert_same(&content(&fed.log()), &expected);
        fed.remove();
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = ["one", "two", "three"].map(|id| scope.spawn(move || launch(id))).into();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn a_launch_process_that_is_killed_leaves_nothing_that_reaping_does_not_clear(bed: &Bed) {
    let scene = bed.file("scene");
    fs::create_dir(&scene).unwrap();
    let logs = bed.run_root().join("logs");
    let stages = ["claim", "layers", "cgroup", "clone", "join", "monitor", "become", "pid-file", "record", "watch"];
    for (number, stage) in stages.iter().enumerate() {
        let mut command = roles::command("launch-logged");
        let cgroup = format!("{}/logged", bed.cgroup());
        command.arg(bed.run_root()).args([&bed.monitors(), bed.probe(), &cgroup, &bed.file("a.log")]);
        command.env("SQUALL_CRASH", format!("launch {stage} 1 kill")).env("SQUALL_CRASH_DIR", &scene);
        command.status().unwrap();
        let passed = || fs::read_to_string(Path::new(&scene).join("passed")).unwrap_or_default();
        // After its record it has answered its caller, who does not wait for it any more.
        until("it is killed there", || (passed().lines().count() == number + 1).then_some(()));
        bed.squall(&["rm", "--force", "logged"]).output();
        let is_clear = || fs::read_dir(&logs).into_iter().flatten().count() == 0;
        until("nothing is left", || (bed.squall(&["reap"]).output().code() == 0 && is_clear()).then_some(()));
        assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]), "{stage}");
    }
}

fn a_launch_that_fails_leaves_no_log(bed: &Bed) {
    for options in [&[][..], &["--log-opt", "timestamps"]] {
        let file = bed.file("a.log");
        let flags = [&["--log-file", &file], options].concat();
        let failed = bed.run_layers(&[bed.probe()], &flags, &["/bin/missing"]).output();
        assert_eq!(failed.code(), 127, "{failed}");
        assert!(!Path::new(&file).exists());
        let left = fs::read_dir(bed.run_root().join("logs")).into_iter().flatten().count();
        assert_eq!(left, 0);
        fs::write(&file, "before\n").unwrap();
        bed.run_layers(&[bed.probe()], &flags, &["/bin/missing"]).output();
        assert_eq!(fs::read_to_string(&file).unwrap(), "before\n", "what was there stays");
        fs::remove_file(&file).unwrap();
    }
}

fn what_cannot_be_a_log_is_refused_and_no_link_is_followed(bed: &Bed) {
    let (file, victim) = (bed.file("a.log"), bed.file("victim"));
    let table: [(&[&str], &str); 7] = [
        (&["--log-opt", "timestamps"], "--log-file"),
        (&["--log-file", &file, "--log-opt", "max-size=1k"], "--log-opt max-size"),
        (&["--log-file", &file, "--log-opt", "max-file=3"], "--log-opt max-file"),
        (&["--log-file", &file, "--log-opt", "max-size=1m", "--log-opt", "max-file=0"], "--log-opt max-file"),
        (&["--log-file", &file, "--log-opt", "colour"], "is not a log option"),
        (&["--log-file", &file, "--stdout", &victim], "cannot be used with"),
        (&["--log-file", &bed.file("none/a.log")], "No such file"),
    ];
    for (flags, words) in table {
        let refused = bed.run(flags, &["exit", "0"]).output();
        assert!(refused.code() == 125 && refused.stderr.contains(words), "{flags:?}: {refused}");
    }
    // A program that launches for others opens nothing by a path of theirs.
    let squall = bed.library().image_roots([bed.images()]).build().unwrap();
    let opened = OpenedSpec::open(&spec(bed, "opened", in_file(bed, "a.log"))).unwrap();
    let error = squall.launch_opened(opened, Stdio::null().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.problems()[0].field.as_str()), (ErrorKind::Invalid, "log.file"));
    assert!(!Path::new(&file).exists());
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, &file).unwrap();
    for options in [&[][..], &["--log-opt", "timestamps"]] {
        let refused = bed.run(&[&["--log-file", &file], options].concat(), &["say", "a"]).output();
        assert!(refused.code() == 125 && refused.stderr.contains("symbolic link"), "{refused}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    fs::remove_file(&file).unwrap();

    let mut fed = Fed::launch(bed, "first", in_file(bed, "a.log").with_timestamps());
    until("it is being copied", || fed.status().copier);
    fed.feed(b"mine\n");
    until("it has the file", || fs::read_to_string(&file).is_ok_and(|text| !text.is_empty()).then_some(()));
    let squall = bed.library().build().unwrap();
    let second = spec(bed, "second", in_file(bed, "a.log").rotated(SIZE, 2));
    let error = squall.launch(&second, Stdio::null().unwrap()).unwrap_err();
    assert!(error.kind() == ErrorKind::Exists && error.to_string().contains("another container's log"), "{error}");
    fed.finish();
    let Container::Exited(_) = squall.attach("first").unwrap() else { panic!("it has not ended") };
    fed.remove();
}

/// Of the caller they have neither descriptors nor session, cgroup nor working directory.
fn processes_of_a_log_have_nothing_of_their_caller(bed: &Bed) {
    let mut fed = Fed::launch(bed, "apart", in_file(bed, "a.log").with_timestamps());
    let status = until("the copier says who it is", || Some(fed.status()).filter(|status| status.keeper.is_some()));
    fed.feed(b"a\n");
    let own_session = nix::unistd::getsid(None).unwrap();
    for process in [status.keeper.unwrap(), status.copier.unwrap()] {
        let pid = process.pid as u32;
        let fds = host::open_fds(&pid.to_string());
        let bed_directory = bed.directory().to_string_lossy();
        let kinds = ["pipe:", "pidfd:", "anon_inode:[pidfd]", "/dev/null", &bed_directory];
        let known = |link: &String| kinds.iter().any(|kind| link.starts_with(kind));
        assert!(fds.values().all(known) && fds.len() < 20, "{fds:?}");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
        let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(process.pid))).unwrap();
        assert_ne!(session, own_session);
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let monitors = fs::read_to_string(format!("/proc/{}/cgroup", fed.running.record().monitor.pid)).unwrap();
        assert_eq!(groups, monitors);
        assert_eq!(host::status(pid, "Name"), "squall-log");
    }
    fed.finish();
    fed.remove();
}
