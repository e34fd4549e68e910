//! A program that embeds Squall, for tests to command and to kill.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio as ProcessStdio};

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, host, until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use squall::request::{Identity, LaunchSpec};
use squall::{Spawner, Squall, Stdio};

pub const ROLES: &[Role] = &[("embedder", embed), ("asking", ask)];

/// Its spawner is forked first in `main`.
pub const FORKED: &str = "forked";
/// Its spawner is the command line program.
pub const PROGRAM: &str = "program";
/// As [`FORKED`], and it was started with SIGCHLD ignored, as some daemons start what they start.
pub const CHILDLESS: &str = "childless";

/// How long a pipe may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The program, as its test has it.
pub struct Embedder {
    kind: String,
    program: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The end of a pipe whose other end the program inherited: not close-on-exec, as a careless
    /// program leaves it.
    careless: OwnedFd,
}

impl Embedder {
    /// Starts it; its spawner is there.
    pub fn start(bed: &Bed, kind: &str) -> Embedder {
        let (careless, inherited) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let inherited_number = inherited.as_raw_fd().to_string();
        fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
        let mut command = roles::command("embedder");
        command.args([kind, &inherited_number, bed.probe(), &bed.cgroup(), &bed.monitors()]);
        command.arg(bed.run_root()).arg(bed.program()).process_group(0);
        let mut program = command.stdin(ProcessStdio::piped()).stdout(ProcessStdio::piped()).spawn().unwrap();
        drop(inherited);
        let answers = BufReader::new(program.stdout.take().expect("it is a pipe"));
        let mut embedder = Embedder { kind: kind.to_owned(), orders: program.stdin.take(), program, answers, careless };
        embedder.expect("ready");
        embedder
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Has it launch the probe, which sleeps so many milliseconds.
    pub fn launch(&mut self, id: &str, milliseconds: &str) {
        self.order(&format!("launch {id} {milliseconds}"));
        self.expect("launched");
    }

    /// What it forked or started: keeper and spawner, or the spawner program. To be asked before it
    /// launches anything.
    pub fn helpers(&self) -> Vec<u32> {
        let expected = if self.kind == PROGRAM { 1 } else { 2 };
        until("its spawner is there", || Some(descendants(self.pid())).filter(|found| found.len() == expected))
    }

    /// Has it close its ends of both pipes, and says whether they end. It can answer nothing from
    /// then on.
    pub fn pipes_end_when_the_program_closes_them(&mut self) -> bool {
        self.order("close");
        let mut rest = Vec::new();
        let ends = |fd: &dyn AsFd| poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], Some(&PATIENCE)).unwrap() > 0;
        ends(&self.careless) && ends(self.answers.get_ref()) && self.answers.read_to_end(&mut rest).is_ok()
    }

    /// Sends its process group SIGINT, as a terminal does; the program itself ignores it.
    pub fn interrupt(&self) {
        kill_process_group(Pid::from_child(&self.program), Signal::INT).unwrap();
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().expect("it takes orders"), "{order}").unwrap();
    }

    fn expect(&mut self, answer: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), answer);
    }
}

/// The children of a process, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let is_child = |child: &u32| host::status(*child, "PPid") == pid.to_string();
    let children: Vec<u32> = host::processes().into_iter().filter(is_child).collect();
    children.iter().flat_map(|child| [vec![*child], descendants(*child)].concat()).collect()
}

/// The program's own part.
fn embed(args: &[String]) {
    let [kind, careless, layer, cgroup, monitors, run_root, squall] = args else { panic!("{args:?}") };
    if kind == CHILDLESS {
        dispose(libc::SIGCHLD);
    }
    let spawner = if kind == PROGRAM { Spawner::program(squall) } else { Spawner::fork() };
    let squall = Squall::builder().run_root(run_root).monitors(monitors).spawner(spawner.unwrap()).build().unwrap();
    // After the spawner was made: it has to look after itself.
    dispose(libc::SIGINT);
    println!("ready");
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        match order.split(' ').collect::<Vec<_>>().as_slice() {
            ["launch", id, milliseconds] => {
                launch(&squall, layer, cgroup, id, milliseconds);
                println!("launched");
            }
            ["close"] => close([1, careless.parse().unwrap()]),
            other => panic!("{other:?}"),
        }
    }
}

fn launch(squall: &Squall, layer: &str, cgroup: &str, id: &str, milliseconds: &str) {
    let user = Identity::new(4711, 4711, []).unwrap();
    let builder = LaunchSpec::builder(id).layers([layer]).args(["/bin/probe", "sleep", milliseconds]).user(user);
    let spec = builder.cgroup(format!("{cgroup}/{id}")).build().unwrap();
    squall.launch(&spec, Stdio::null().unwrap()).unwrap_or_else(|error| panic!("{error}"));
}

/// Asks a program to be the spawner, and prints the refusal.
fn ask(args: &[String]) {
    println!("{}", Spawner::program(&args[0]).unwrap_err());
}

/// A call of it.
pub fn asking(program: &str) -> Command {
    let mut command = roles::command("asking");
    command.arg(program);
    command
}

fn dispose(signal: i32) {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

fn close(descriptors: [i32; 2]) {
    for descriptor in descriptors {
        // SAFETY: the test owns neither in this program: one is standard output, which nothing is
        // written to any more, the other inherited.
        unsafe { libc::close(descriptor) };
    }
}
