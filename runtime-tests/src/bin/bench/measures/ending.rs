//! From a signal, or `stop`, until a container is gone.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use runtime_tests::call::wait_for_end;
use runtime_tests::host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use squall::{Ended, Running};

use super::Bench;
use crate::command::{timed, within};
use crate::conmon::{self, Conmon};
use crate::floor::Floor;
use crate::ground::Ground;
use crate::peers::{Kind, Peer};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, interleave};
use crate::{Outcome, container};

const FLOOR: &str = "floor, TERM to gone";
const ID: &str = "ending";
const GRACE: Duration = Duration::from_secs(10);

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let pins = ground.pins(&ground.bed.run_root());
    let floor = Floor::new(ground, "ending-floor", &pins, container::STAY)?;
    let peers = Kind::runtimes(bench.args)
        .into_iter()
        .map(|kind| Ok((kind, Peer::new(ground, kind, &format!("ending-{}", kind.name()), container::STAY)?)))
        .collect::<Outcome<Vec<_>>>()?;
    let conmon = Conmon::new(bench.args, ground, "ending-conmon")?;
    let mut candidates = vec![
        Candidate::new(FLOOR, || end_floor(&floor)),
        Candidate::new("squall stop", || stop_by_program(ground)),
        Candidate::new("squall, Running::stop", || stop_by_library(ground)),
        Candidate::new("squall, KILL to exit.json", || kill_until_recorded(ground)),
        Candidate::new("squall, KILL to Running::wait", || kill_until_waited(ground)),
    ];
    for (kind, peer) in &peers {
        candidates.push(Candidate::new(format!("{} delete --force", kind.name()), || delete(peer)));
    }
    if let Some(conmon) = &conmon {
        candidates.push(Candidate::new("conmon, KILL to its exit file", || conmon_records(conmon)));
        candidates.push(Candidate::new("conmon, KILL to its own end", || conmon_ends(conmon)));
    }
    let pace = bench.paced(30);
    let series = interleave(candidates, pace, &mut bench.shuffle);
    let title = "Ending a worker that ends at TERM, until it is gone";
    let section = Section::new("ending", title, Unit::Microseconds, series, |_| Some(FLOOR.to_owned())).sorted();
    let section = section.note(conmon::NOTE).note("KILL: of the worker; to its exit file: as podman waits");
    let section = section.note("gone: cgroups removed; squall: its exit is on record too, and its monitor has ended");
    Ok(vec![section.note("delete --force kills; runc looks every 100 ms whether it has")])
}

fn start(ground: &Ground) -> Outcome<Running> {
    let running = ground.launch(ID, &ground.layers, container::STAY)?;
    let pid = u32::try_from(running.record().init.pid)?;
    host::until("the worker can be told to end", || catches_term(pid).then_some(()));
    Ok(running)
}

fn exited(ended: Ended) -> Outcome<()> {
    match ended {
        Ended::Exited(exited) => Ok(exited.remove()?),
        Ended::Lost(_) => Err("it was lost".into()),
    }
}

fn stop_by_program(ground: &Ground) -> Outcome<f64> {
    let running = start(ground)?;
    let done = timed(within(ground.squall(&ground.bed.run_root(), &["stop", ID]), None)?)?;
    exited(running.wait()?)?;
    Ok(done.microseconds)
}

fn stop_by_library(ground: &Ground) -> Outcome<f64> {
    let running = start(ground)?;
    span(|| Ok(running.stop(libc::SIGTERM, GRACE)?)).and_then(|(span, ended)| exited(ended).map(|()| span))
}

fn kill_until_waited(ground: &Ground) -> Outcome<f64> {
    let running = start(ground)?;
    let pid = Pid::from_raw(running.record().init.pid).ok_or("no pid")?;
    let wait = || {
        kill_process(pid, Signal::KILL)?;
        Ok(running.wait()?)
    };
    span(wait).and_then(|(span, ended)| exited(ended).map(|()| span))
}

fn kill_until_recorded(ground: &Ground) -> Outcome<f64> {
    let running = start(ground)?;
    let pid = Pid::from_raw(running.record().init.pid).ok_or("no pid")?;
    let directory = ground.bed.run_root().join("containers").join(ID);
    let span = kill_until_there(pid, &directory, "exit.json")?;
    exited(running.wait()?)?;
    Ok(span)
}

fn conmon_records(conmon: &Conmon<'_>) -> Outcome<f64> {
    let watched = conmon.start()?;
    let span = kill_until_there(watched.worker, conmon.exits(), conmon.id());
    conmon.remove(&watched)?;
    span
}

fn conmon_ends(conmon: &Conmon<'_>) -> Outcome<f64> {
    let watched = conmon.start()?;
    let pidfd = pidfd_open(watched.conmon, PidfdFlags::empty())?;
    let (span, ()) = span(|| {
        kill_process(watched.worker, Signal::KILL)?;
        wait_readable(&pidfd)
    })?;
    conmon.remove(&watched)?;
    Ok(span)
}

/// Kills a worker; until a file of this name is in the directory.
fn kill_until_there(worker: Pid, directory: &Path, name: &str) -> Outcome<f64> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, directory, inotify::WatchFlags::MOVED_TO)?;
    let (span, ()) = span(|| {
        kill_process(worker, Signal::KILL)?;
        wait_for(&watch, &directory.join(name))
    })?;
    Ok(span)
}

/// Nothing else is renamed into the directory of a container that runs.
fn wait_for(watch: &impl AsFd, file: &Path) -> Outcome<()> {
    wait_readable(watch)?;
    if file.exists() { Ok(()) } else { Err(format!("{} did not come", file.display()).into()) }
}

fn wait_readable(fd: &impl AsFd) -> Outcome<()> {
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&patience))? {
        0 => Err("nothing came in time".into()),
        _ => Ok(()),
    }
}

fn end_floor(floor: &Floor<'_>) -> Outcome<f64> {
    let mut program = floor.whole().spawn()?;
    let worker = worker_of(&program)?;
    let (span, status) = span(|| {
        kill_process(worker, Signal::TERM)?;
        Ok(wait_for_end(&mut program, GRACE)?)
    })?;
    if status.is_none() {
        kill_process(worker, Signal::KILL)?;
        return Err("the floor did not end".into());
    }
    Ok(span)
}

/// The floor's worker, once it can be told to end.
fn worker_of(floor: &Child) -> Outcome<Pid> {
    let parent = floor.id().to_string();
    let is_worker = |pid: &u32| host::status(*pid, "PPid") == parent && catches_term(*pid);
    let found = host::until("the floor's worker can be told to end", || host::processes().into_iter().find(is_worker));
    Ok(Pid::from_raw(found as i32).ok_or("no pid")?)
}

/// The first process of a pid namespace never hears a signal that it does not catch.
fn catches_term(pid: u32) -> bool {
    host::catches(pid, libc::SIGTERM)
}

fn delete(peer: &Peer<'_>) -> Outcome<f64> {
    timed(peer.detached()?.ok_or("it detaches nothing")?)?;
    let pid = Pid::from_raw(peer.pid()?).ok_or("no pid")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // Its runtime waits until it is gone, and it is ours to reap.
    let reaper = std::thread::spawn(move || {
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    });
    let deleted = timed(peer.delete()?);
    reaper.join().map_err(|_| "a thread panicked")?;
    Ok(deleted?.microseconds)
}

fn span<T>(call: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let began = Instant::now();
    let answer = call()?;
    Ok((began.elapsed().as_secs_f64() * 1e6, answer))
}
