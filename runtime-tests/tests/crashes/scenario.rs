//! What is played while a fault strikes, and how it is judged afterwards.

use std::time::{Duration, Instant};

use runtime_tests::{host, until};
use rustix::process::{Pid, Signal, kill_process};
use squall::record::{Exit, ExitRecord};
use squall::{Container, Running};

use crate::fault::Fault;
use crate::monitor;
use crate::parts::CODE;
use crate::scene::{Ended, Scene};
use crate::verdict::Verdict;

/// Longer than a launch process waits for its init.
const SETTLING: Duration = Duration::from_secs(40);

/// A piece of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A program with one thread launches.
    Launch,
    /// A program launches by its spawner.
    LaunchBySpawner,
    /// A program creates a container, and then starts it.
    CreateAndStart,
    /// A further program is executed in a running container.
    Exec,
    /// A running container is waited for.
    Wait,
    /// A running container is stopped.
    Stop,
    /// An ended container is removed.
    Remove,
    /// A running container is removed by force.
    RemoveRunning,
    /// Reaping, of a launch that was killed half way, a container that was lost, and idle layers.
    Reap,
    /// The monitor begins.
    MonitorStarts,
    /// The monitor stops its container.
    MonitorStops,
    /// The monitor's container ends by itself.
    MonitorSeesTheEnd,
    /// The same, and nothing is to be kept.
    MonitorKeepsNothing,
}

impl Scenario {
    pub const ALL: [Scenario; 13] = [
        Scenario::Launch,
        Scenario::LaunchBySpawner,
        Scenario::CreateAndStart,
        Scenario::Exec,
        Scenario::Wait,
        Scenario::Stop,
        Scenario::Remove,
        Scenario::RemoveRunning,
        Scenario::Reap,
        Scenario::MonitorStarts,
        Scenario::MonitorStops,
        Scenario::MonitorSeesTheEnd,
        Scenario::MonitorKeepsNothing,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scenario::Launch => "launch:",
            Scenario::LaunchBySpawner => "launch by spawner:",
            Scenario::CreateAndStart => "create and start:",
            Scenario::Exec => "exec:",
            Scenario::Wait => "wait:",
            Scenario::Stop => "stop:",
            Scenario::Remove => "remove:",
            Scenario::RemoveRunning => "remove by force:",
            Scenario::Reap => "reap:",
            Scenario::MonitorStarts => "monitor starts:",
            Scenario::MonitorStops => "monitor stops:",
            Scenario::MonitorSeesTheEnd => "monitor sees the end:",
            Scenario::MonitorKeepsNothing => "monitor keeps nothing:",
        }
    }

    /// Whether it is the monitor that is struck, from outside.
    pub fn is_monitors(self) -> bool {
        use Scenario::{MonitorKeepsNothing, MonitorSeesTheEnd, MonitorStarts, MonitorStops};
        matches!(self, MonitorStarts | MonitorStops | MonitorSeesTheEnd | MonitorKeepsNothing)
    }

    /// The part in which the fault strikes, of those that are not the monitor's.
    fn part(self) -> &'static str {
        match self {
            Scenario::LaunchBySpawner => "launch-by-spawner",
            Scenario::CreateAndStart => "create-and-start",
            Scenario::Exec => "exec",
            Scenario::Wait => "wait",
            Scenario::Stop => "stop",
            Scenario::Remove | Scenario::RemoveRunning => "remove",
            Scenario::Reap => "reap",
            _ => "launch",
        }
    }

    /// What has happened before.
    fn prepare(self, scene: &Scene) -> Verdict {
        let mut verdict = Verdict::default();
        let mut play = |part: &str| {
            let ended = scene.play(part, None);
            verdict.other.extend((!ended.success).then(|| format!("{part} before the fault: {}", ended.text)));
            if let Ok(Some(Container::Running(running))) = scene.container() {
                scene.listens(running.record().init.pid);
            }
        };
        match self {
            Scenario::Exec | Scenario::Wait | Scenario::Stop | Scenario::RemoveRunning => play("launch"),
            Scenario::Remove => {
                play("launch");
                play("stop");
            }
            Scenario::Reap => self.leave_a_mess(scene),
            _ => {}
        }
        verdict
    }

    /// A launch that died after its init had become the workload, and a container that was lost.
    fn leave_a_mess(self, scene: &Scene) {
        let half = scene.id.replacen('c', "h", 1);
        scene.play_as(&half, "launch", Some("launch record 1 kill"));
        scene.forget_passed();
        scene.play("launch", None);
        if let Ok(Some(Container::Running(running))) = scene.container() {
            for pid in [running.record().monitor.pid, running.record().init.pid] {
                kill(pid, Signal::KILL);
                until("it is dead", || (!host::is_alive(pid as u32)).then_some(()));
            }
        }
    }

    /// Plays the part in which the fault strikes. Who is waited for is told to end once the waiter
    /// waits.
    fn play(self, scene: &Scene, order: &str) -> Ended {
        let waited_for = match scene.container() {
            Ok(Some(Container::Running(running))) if self == Scenario::Wait => running.record().init.pid,
            _ => return scene.play(self.part(), Some(order)),
        };
        let child = scene.part(self.part(), Some(order)).spawn().expect("this program can be started");
        until("it has come to wait", || (!scene.passed().is_empty()).then_some(()));
        scene.listens(waited_for);
        kill(waited_for, Signal::TERM);
        scene.end_of(child)
    }

    /// The points that it passes.
    pub fn points(self) -> Vec<String> {
        let scene = Scene::new();
        let mut points = if self.is_monitors() {
            monitor::play(&scene, self, None).points
        } else {
            self.prepare(&scene);
            self.play(&scene, "trace");
            scene.passed()
        };
        // What this scenario is about, and nothing that another one is.
        if self == Scenario::LaunchBySpawner {
            points.retain(|point| point.starts_with("spawner") || point.starts_with("caller"));
        }
        if self == Scenario::CreateAndStart {
            let differs = ["init init", "init become", "launch become", "launch record", "launch watch", "caller"];
            points.retain(|point| differs.iter().any(|part| point.starts_with(part)));
        }
        points.sort();
        points.dedup();
        if let Ok(Some(Container::Running(running))) = scene.container() {
            let _ = running.kill_tree();
        }
        assert!(!points.is_empty(), "{self:?} passes no point: {}", scene.said());
        points
    }

    /// Plays it, with this fault at this point.
    ///
    /// Which of two things the monitor sees first, the end of its client or that of init, differs
    /// from time to time: where a point was not passed for that reason, it is played again. A point
    /// that is not passed again either was one of a rare order: the case is counted as missed.
    pub fn run(self, point: &str, fault: Fault) -> Verdict {
        const TRIES: u32 = 8;
        for _ in 1..TRIES {
            let verdict = self.run_once(point, fault);
            if !(self.is_monitors() && verdict.missed) {
                return verdict;
            }
        }
        self.run_once(point, fault)
    }

    fn run_once(self, point: &str, fault: Fault) -> Verdict {
        let scene = Scene::new();
        let mut verdict = self.prepare(&scene);
        let ended = if self.is_monitors() {
            let played = monitor::play(&scene, self, Some((point, fault)));
            if !played.struck {
                verdict.missed = true;
            }
            played.ended
        } else {
            let ended = self.play(&scene, &format!("{point} {}", fault.name()));
            if !scene.comes_to_pass(point) {
                verdict.other.push(format!("the point was not passed: {:?}\n{}", scene.passed(), ended.text));
            }
            ended
        };
        // A monitor that lacks room or whose container's files cannot be read goes on watching.
        let monitor_struck = self.is_monitors() && fault.ends_its_victim();
        let about = About {
            launched: self.launches() && ended.success,
            worker_may_die: fault == Fault::Eio,
            told_to_end: self.tells_to_end(),
            watcher_struck: monitor_struck || self == Scenario::Reap || point.starts_with("launch watch"),
            may_be_gone: self.may_leave_no_record(),
            may_be_created: self == Scenario::CreateAndStart && !ended.success,
        };
        self.check_success(point, fault, &ended, &mut verdict);
        judge(&scene, about, verdict)
    }

    /// A part that was not itself the victim, and was not hindered, has to succeed.
    fn check_success(self, point: &str, fault: Fault, ended: &Ended, verdict: &mut Verdict) {
        let forks = self.launches() || self == Scenario::Exec;
        let hindered = point.starts_with("caller") && fault.ends_its_victim() || forks;
        if !hindered && !ended.success && fault != Fault::Eio {
            verdict.other.push(format!("it failed: {}", ended.text));
        }
    }

    /// Whether the container is launched in it.
    fn launches(self) -> bool {
        matches!(self, Scenario::Launch | Scenario::LaunchBySpawner | Scenario::CreateAndStart)
    }

    /// Whether there may be no record afterwards: of a launch that failed, or because it is what
    /// was wanted.
    fn may_leave_no_record(self) -> bool {
        use Scenario::{MonitorKeepsNothing, Reap, Remove, RemoveRunning};
        self.launches() || matches!(self, Remove | RemoveRunning | Reap | MonitorKeepsNothing)
    }

    /// Whether the worker is told to end in it.
    pub fn tells_to_end(self) -> bool {
        !self.launches() && !matches!(self, Scenario::Exec | Scenario::MonitorStarts)
    }
}

/// What has to be known of a case to judge it.
struct About {
    /// The caller was told that it runs.
    launched: bool,
    /// The worker may die of the fault itself.
    worker_may_die: bool,
    told_to_end: bool,
    /// Nobody watched from then on, so the end may be lost.
    watcher_struck: bool,
    /// There may be no record of it.
    may_be_gone: bool,
    /// It may not have been started.
    may_be_created: bool,
}

/// Ends what runs, removes what ended, reaps once, and looks.
fn judge(scene: &Scene, about: About, mut verdict: Verdict) -> Verdict {
    scene.wait_for_parts();
    let mut nothing_came_of_it = false;
    match settled(scene) {
        Err(error) => verdict.other.push(format!("it cannot be looked at: {error}")),
        // A pid file is its caller's to remove, but not that of a launch that came to nothing.
        Ok(None | Some(Container::Launching(_))) => {
            nothing_came_of_it = !about.told_to_end;
            if about.launched {
                verdict.false_exits.push("its caller was told that it runs, and there is no container".to_owned());
            }
        }
        Ok(Some(Container::Running(running))) => end(scene, &running, &about, &mut verdict),
        Ok(Some(Container::Created(_))) => {
            if !about.may_be_created {
                verdict.false_exits.push("its caller was told that it runs, and it is only created".to_owned());
            }
            let stopped = scene.play("stop", None);
            verdict.other.extend((!stopped.success).then(|| format!("it cannot be stopped: {}", stopped.text)));
        }
        Ok(Some(Container::Exited(exited))) if about.may_be_created && exited.start_error().is_some() => {}
        // What is only created ends with who watches it.
        Ok(Some(Container::Lost(_))) if about.may_be_created && about.watcher_struck => {}
        Ok(Some(ended)) => {
            if !about.told_to_end && !about.worker_may_die {
                verdict.false_exits.push(format!("nobody told it to end, and it is {:?}", ended.phase()));
            }
        }
    }
    check_end(scene, &about, &mut verdict);
    check_exit_file(scene, &about, &mut verdict);
    scene.end_faults();
    if let Ok(Some(Container::Exited(_))) = scene.container() {
        let removed = scene.play("remove", None);
        verdict.other.extend((!removed.success).then(|| format!("it cannot be removed: {}", removed.text)));
    }
    let reaped = scene.play("reap", None);
    verdict.other.extend((!reaped.success).then(|| format!("reaping failed: {}", reaped.text)));
    verdict.leaks.extend(scene.left());
    if nothing_came_of_it && scene.pid_file().exists() {
        verdict.leaks.push("the pid file of a container that is not there".to_owned());
    }
    if !verdict.problems().is_empty() {
        verdict.other.push(format!("what was said: {}", scene.said()));
    }
    verdict
}

fn settled(scene: &Scene) -> squall::Result<Option<Container>> {
    match scene.container()? {
        Some(Container::Launching(launching)) => match launching.settle(SETTLING) {
            Err(error) if error.kind() == squall::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        },
        other => Ok(other),
    }
}

/// A running worker has to run as a whole, and to end when it is told to.
fn end(scene: &Scene, running: &Running, about: &About, verdict: &mut Verdict) {
    if !running.is_alive() && !about.worker_may_die && !about.told_to_end {
        verdict.false_exits.push("it is said to run, and does not".to_owned());
    }
    scene.listens(running.record().init.pid);
    let stopped = scene.play("stop", None);
    verdict.other.extend((!stopped.success).then(|| format!("it cannot be stopped: {}", stopped.text)));
}

/// The end that is told.
fn check_end(scene: &Scene, about: &About, verdict: &mut Verdict) {
    match scene.container() {
        Err(error) => verdict.other.push(format!("it cannot be looked at: {error}")),
        Ok(None | Some(Container::Launching(_))) if about.may_be_gone => {}
        Ok(None | Some(Container::Launching(_))) => verdict.false_exits.push("its record is gone".to_owned()),
        Ok(Some(Container::Running(running))) => {
            verdict.other.push(format!("it still runs: {:?}", running.record().init));
        }
        // What never ran tells no code of the worker's.
        Ok(Some(Container::Exited(exited))) if about.may_be_created && exited.exit().started_unix_ns.is_none() => {}
        Ok(Some(Container::Exited(exited))) => match exited.exit().exit {
            Exit::Code { code: CODE } => {}
            Exit::Signal { signal: 7 | 9 | 11, .. } if about.worker_may_die => {}
            Exit::Signal { signal: 9, .. } if about.told_to_end => {}
            exit => verdict.false_exits.push(format!("it returned {CODE} and is said to have ended with {exit:?}")),
        },
        Ok(Some(Container::Lost(lost))) => {
            verdict.lost = true;
            if !about.watcher_struck {
                verdict.false_exits.push("its end is lost, and its monitor was not struck".to_owned());
            }
            if host::is_alive(lost.record().init.pid as u32) {
                verdict.false_exits.push("it is said to be lost, and runs".to_owned());
            }
        }
        Ok(Some(other)) => verdict.other.push(format!("it is still there: {:?}", other.phase())),
    }
}

/// The exit file, which is there where the monitor came to its end, says what the record says.
fn check_exit_file(scene: &Scene, about: &About, verdict: &mut Verdict) {
    let container = scene.container();
    if let Ok(Some(Container::Exited(exited))) = &container {
        let monitor = exited.record().monitor.pid as u32;
        until("the monitor has ended", || (!host::is_alive(monitor)).then_some(()));
    }
    verdict.leaks.extend(scene.half_exit_files());
    match (scene.exit_file(), &container) {
        (Some(text), container) => match (serde_json::from_str::<ExitRecord>(&text), container) {
            (Err(error), _) => verdict.false_exits.push(format!("half an exit file: {error}")),
            // Of a run root that is full the record may be short.
            (Ok(told), Ok(Some(Container::Exited(exited)))) if told.exit != exited.exit().exit => {
                verdict.false_exits.push(format!("the exit file says {:?}", told.exit));
            }
            (Ok(_), Ok(Some(Container::Lost(_)))) => verdict.false_exits.push("an exit file of a lost end".to_owned()),
            _ => {}
        },
        (None, Ok(Some(Container::Exited(_)))) if !about.watcher_struck => {
            verdict.false_exits.push("an end without an exit file".to_owned());
        }
        (None, _) => {}
    }
}

/// Moments spread over the time that the scenario takes, for each process that can be killed from
/// outside.
pub fn random_instants() -> Vec<(Scenario, &'static str, Duration)> {
    const EACH: u64 = 12;
    let victims = [
        (Scenario::Launch, "caller", 30_000),
        (Scenario::Launch, "launch", 30_000),
        (Scenario::LaunchBySpawner, "launch", 30_000),
        (Scenario::LaunchBySpawner, "spawner", 20_000),
        (Scenario::Stop, "caller", 12_000),
        (Scenario::Stop, "monitor", 12_000),
        (Scenario::RemoveRunning, "caller", 20_000),
        (Scenario::Remove, "caller", 8_000),
        (Scenario::Reap, "caller", 30_000),
    ];
    let began = Instant::now();
    let mut random = std::process::id() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut instants = Vec::new();
    for (scenario, victim, longest) in victims {
        for _ in 0..EACH {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(began.elapsed().as_nanos() as u64 | 1);
            instants.push((scenario, victim, Duration::from_micros((random >> 33) % longest)));
        }
    }
    instants
}

/// Plays it, and kills the victim at that moment, if it is there.
pub fn run_at_random(scenario: Scenario, victim: &str, moment: Duration) -> Verdict {
    let scene = Scene::new();
    let mut verdict = scenario.prepare(&scene);
    let watcher = match scene.container() {
        Ok(Some(Container::Running(running))) => Some(running.record().monitor.pid),
        _ => None,
    };
    let child = scene.part(scenario.part(), None).spawn().expect("this program can be started");
    std::thread::sleep(moment);
    let caller = child.id() as i32;
    let below = descendants(caller);
    let pid = match (victim, scenario) {
        ("caller", _) => Some(caller),
        ("monitor", _) => watcher,
        // Keeper, spawner, launch process; or launch process.
        ("launch", Scenario::Launch) => below.first().copied(),
        ("launch", _) => below.get(2).copied(),
        _ => below.get(1).copied(),
    };
    verdict.struck_at_random = pid.is_some_and(|pid| is_at_work(pid) && kill(pid, Signal::KILL));
    let _ = scene.end_of(child);
    let about = About {
        launched: false,
        worker_may_die: false,
        told_to_end: scenario.tells_to_end(),
        // A launch process may have been the monitor already.
        watcher_struck: matches!(victim, "launch" | "monitor") || scenario == Scenario::Reap,
        may_be_gone: scenario.may_leave_no_record(),
        may_be_created: false,
    };
    judge(&scene, about, verdict)
}

/// Whether the process has not ended yet, as far as can be told before it is killed.
fn is_at_work(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

/// A process's first child, that one's first child, and so on.
fn descendants(pid: i32) -> Vec<i32> {
    let child_of = |pid: &i32| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|pid| pid.parse().ok())
    };
    std::iter::successors(child_of(&pid), child_of).take(8).collect()
}

/// Whether there was somebody to be sent the signal.
pub fn kill(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}
