//! Faults that strike the monitor, which is the program as it is shipped: a tracer stops it at each
//! of its system calls.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use runtime_tests::{host, until};
use rustix::process::Signal;
use squall::Container;
use syscalls::Sysno;

use crate::fault::Fault;
use crate::scenario::{Scenario, kill};
use crate::scene::{Ended, Scene};

/// What the monitor returns where it cannot go on (`src/monitor/main.rs`).
const BUG: u64 = 70;

/// What came of a traced scenario.
pub struct Played {
    /// The points that the monitor passed.
    pub points: Vec<String>,
    pub struck: bool,
    /// The part that was played beside it.
    pub ended: Ended,
}

/// Plays the scenario with the monitor traced; the fault strikes when it enters the call of that
/// name.
pub fn play(scene: &Scene, scenario: Scenario, strike: Option<(&str, Fault)>) -> Played {
    let (part, order) = match scenario {
        Scenario::MonitorKeepsNothing => ("launch-unkept", None),
        // Stopped just before it becomes the monitor.
        Scenario::MonitorStarts => ("launch", Some("launch watch 1 stop")),
        _ => ("launch", None),
    };
    let launched = scene.play(part, order);
    let Ok(Some(Container::Running(running))) = scene.container() else {
        panic!("it does not run: {}", launched.text);
    };
    let (monitor, init) = (running.record().monitor.pid, running.record().init.pid);
    let pid = Pid::from_raw(monitor);
    scene.listens(init);
    if scenario != Scenario::MonitorStarts {
        until("the monitor waits", || (call_of(pid) == Some(Sysno::ppoll)).then_some(()));
    }
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC).expect("root may trace");
    if scenario == Scenario::MonitorStarts {
        kill(monitor, Signal::CONT);
    } else {
        ptrace::interrupt(pid).expect("it is traced");
    }
    let mut stopping = None;
    let mut tracer = Tracer::new(scene, scenario, strike);
    tracer.first_stop(pid);
    match scenario {
        Scenario::MonitorStops => stopping = scene.part("stop", None).spawn().ok(),
        Scenario::MonitorSeesTheEnd | Scenario::MonitorKeepsNothing => drop(kill(init, Signal::TERM)),
        _ => {}
    }
    tracer.follow(pid);
    if scenario.tells_to_end() && tracer.let_go {
        until("the monitor has ended", || (!host::is_alive(monitor as u32)).then_some(()));
    }
    let ended = stopping.map_or(Ended { success: true, text: String::new() }, |child| scene.end_of(child));
    Played { points: tracer.points, struck: tracer.struck, ended }
}

struct Tracer<'a> {
    scene: &'a Scene,
    scenario: Scenario,
    strike: Option<(&'a str, Fault)>,
    struck: bool,
    /// Whether the monitor goes on without being traced.
    let_go: bool,
    stage: &'static str,
    counts: HashMap<(&'static str, &'static str), u32>,
    points: Vec<String>,
    entering: bool,
    /// Whether it executes the monitor's program yet.
    is_monitor: bool,
}

/// Whether the monitor is traced still.
#[derive(PartialEq, Eq)]
enum Traced {
    Yes,
    No,
}

impl<'a> Tracer<'a> {
    fn new(scene: &'a Scene, scenario: Scenario, strike: Option<(&'a str, Fault)>) -> Tracer<'a> {
        let starts = scenario == Scenario::MonitorStarts;
        Tracer {
            scene,
            scenario,
            strike,
            struck: false,
            let_go: false,
            stage: if starts { "monitor" } else { "watch" },
            counts: HashMap::new(),
            points: Vec::new(),
            entering: true,
            is_monitor: !starts,
        }
    }

    fn first_stop(&mut self, pid: Pid) {
        waitpid(pid, Some(WaitPidFlag::__WALL)).expect("it is traced");
    }

    /// Until it is gone, or was let go.
    fn follow(&mut self, pid: Pid) {
        loop {
            if ptrace::syscall(pid, None).is_err() {
                // It was killed; whoever traces has to know it before it is gone.
                let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
                return;
            }
            match waitpid(pid, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::PtraceSyscall(_)) if !self.entering => self.entering = true,
                Ok(WaitStatus::PtraceSyscall(_)) => {
                    self.entering = false;
                    if self.is_monitor && self.entered(pid) == Traced::No {
                        return;
                    }
                }
                Ok(WaitStatus::PtraceEvent(_, _, event)) => {
                    // The stop of an exec comes within the call.
                    self.is_monitor |= event == nix::libc::PTRACE_EVENT_EXEC;
                }
                Ok(WaitStatus::Stopped(..)) => {}
                _ => return,
            }
        }
    }

    fn entered(&mut self, pid: Pid) -> Traced {
        let name = call_of(pid).map_or("unknown", |call| call.name());
        self.stage = match (self.stage, name) {
            ("watch", "pidfd_send_signal") => "stop",
            ("watch" | "stop", "waitid") => "exit",
            (stage, _) => stage,
        };
        let count = self.counts.entry((self.stage, name)).or_default();
        *count += 1;
        let point = format!("{} {name} {count}", self.stage);
        if self.stage == "exit" && name == "renameat" {
            self.stage = "remove";
        }
        // How often it looks at the clock differs from time to time, and nothing comes of it.
        if name == "clock_gettime" || self.stage == "watch" && name != "ppoll" {
            return Traced::Yes;
        }
        self.points.push(point.clone());
        match self.strike {
            Some((at, fault)) if at == point => {
                self.struck = true;
                self.strike(pid, fault)
            }
            // It has begun, and waits.
            _ if self.scenario == Scenario::MonitorStarts && name == "ppoll" => {
                let _ = ptrace::detach(pid, None);
                Traced::No
            }
            _ => Traced::Yes,
        }
    }

    fn strike(&mut self, pid: Pid, fault: Fault) -> Traced {
        match fault {
            Fault::Kill | Fault::Memory => {
                kill(pid.as_raw(), Signal::KILL);
                return Traced::Yes;
            }
            Fault::Abort => {
                end_as_by_a_bug(pid);
                return Traced::Yes;
            }
            Fault::Enospc => {
                if let Ok(mut file) = File::create(self.scene.means().join("ballast")) {
                    for block in [&[0_u8; 4096][..], &[0; 1]] {
                        while file.write(block).is_ok_and(|written| written > 0) {}
                    }
                }
            }
            Fault::Eio => {
                let layer = File::options().write(true).open(&self.scene.layers[0]);
                layer.and_then(|file| file.set_len(0)).expect("it can be truncated");
            }
        }
        let _ = ptrace::detach(pid, None);
        self.let_go = true;
        Traced::No
    }
}

/// The system call in which a process is.
fn call_of(pid: Pid) -> Option<Sysno> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    text.split(' ').next().and_then(|word| word.parse().ok()).and_then(Sysno::new)
}

/// The call that it is about to make becomes the exit of its panic handler: it blocks every signal
/// that could abort it.
#[cfg(target_arch = "x86_64")]
fn end_as_by_a_bug(pid: Pid) {
    let mut registers = ptrace::getregs(pid).expect("it is traced");
    registers.orig_rax = Sysno::exit_group.id() as u64;
    registers.rdi = BUG;
    ptrace::setregs(pid, registers).expect("it is traced");
}

#[cfg(not(target_arch = "x86_64"))]
fn end_as_by_a_bug(pid: Pid) {
    kill(pid.as_raw(), Signal::KILL);
}
