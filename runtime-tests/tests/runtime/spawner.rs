//! The spawner: launches from programs with threads, and what becomes of it and of the containers
//! when somebody is killed.

use std::fs;
use std::sync::mpsc::channel;
use std::time::Duration;

use runtime_tests::{Bed, Call, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use squall::record::Exit;
use squall::request::{Identity, LaunchSpec};
use squall::{Container, Ended, ErrorKind, Running, Spawner, Squall, Stdio};

use crate::embedder::{self, Embedder};

cases![
    eight_threads_launch_forty_containers_through_one_forked_spawner,
    eight_threads_launch_forty_containers_through_one_spawner_program,
    a_program_with_threads_can_neither_fork_a_spawner_nor_launch_directly,
    after_a_forked_spawner_was_killed_the_next_launch_works,
    without_keeper_and_spawner_a_launch_says_so_and_containers_go_on,
    after_a_spawner_program_was_killed_the_next_launch_works,
    a_program_that_is_no_spawner_is_refused,
    a_program_that_never_answers_is_given_up,
    a_companion_that_is_nowhere_is_looked_for_beside_the_program_and_in_libexec,
    the_spawner_holds_nothing_of_its_program,
    containers_outlive_their_program_and_the_spawner_does_not,
    a_signal_to_the_programs_group_does_not_end_the_spawner,
    a_spawner_has_left_the_programs_session_before_it_is_there,
    a_program_that_ignores_its_children_can_have_a_spawner,
];

/// How the spawner of a test comes about.
const KINDS: [&str; 2] = [embedder::FORKED, embedder::PROGRAM];

fn spec(bed: &Bed, id: &str, probe: &[&str]) -> LaunchSpec {
    let args = [&["/bin/probe"], probe].concat();
    let user = Identity::new(4711, 4711, []).unwrap();
    let builder = LaunchSpec::builder(id).layers([bed.probe()]).args(args).user(user);
    builder.cgroup(format!("{}/{id}", bed.cgroup())).build().unwrap()
}

fn launch(bed: &Bed, squall: &Squall, id: &str, probe: &[&str]) -> Running {
    let launched = squall.launch(&spec(bed, id, probe), Stdio::null().unwrap());
    launched.unwrap_or_else(|error| panic!("{id}: {error}"))
}

/// Waits for the end; the code. Nothing is kept of it.
fn code_of(running: Running) -> u8 {
    let ended = running.wait().unwrap();
    let Ended::Exited(exited) = &ended else { panic!("{ended:?}") };
    let Exit::Code { code } = exited.exit().exit else { panic!("{ended:?}") };
    ended.remove().unwrap();
    code
}

fn is_running(running: &Running) -> bool {
    running.is_watched() && matches!(running.refresh().unwrap(), Container::Running(_))
}

fn end(running: Running) {
    running.stop(15, Duration::ZERO).unwrap().remove().unwrap();
}

fn children(pid: u32) -> Vec<u32> {
    let is_child = |child: &u32| host::status(*child, "PPid") == pid.to_string() && host::is_alive(*child);
    host::processes().into_iter().filter(is_child).collect()
}

fn only_child(of: u32) -> u32 {
    until(&format!("{of} has one child"), || <[u32; 1]>::try_from(children(of)).ok())[0]
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    until(&format!("{pid} is dead"), || (!host::is_alive(pid)).then_some(()));
}

fn forty_containers(bed: &Bed, squall: &Squall) {
    bed.probe();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            // The bed keeps its image in a cell of its own: a second view of it for each thread.
            let specs: Vec<LaunchSpec> = (0..5).map(|turn| forty_spec(bed, thread * 5 + turn)).collect();
            scope.spawn(move || {
                for (turn, spec) in specs.iter().enumerate() {
                    let running = squall.launch(spec, Stdio::null().unwrap()).unwrap_or_else(|error| panic!("{error}"));
                    assert_eq!(usize::from(code_of(running)), usize::from(thread) * 5 + turn);
                }
            });
        }
    });
}

fn forty_spec(bed: &Bed, number: u8) -> LaunchSpec {
    spec(bed, &format!("c{number}"), &["exit", &number.to_string()])
}

fn eight_threads_launch_forty_containers_through_one_forked_spawner(bed: &Bed) {
    let spawner = Spawner::fork().unwrap();
    forty_containers(bed, &bed.library().spawner(spawner).build().unwrap());
}

fn eight_threads_launch_forty_containers_through_one_spawner_program(bed: &Bed) {
    let spawner = Spawner::program(bed.program()).unwrap();
    forty_containers(bed, &bed.library().spawner(spawner).build().unwrap());
}

fn a_program_with_threads_can_neither_fork_a_spawner_nor_launch_directly(bed: &Bed) {
    let spec = spec(bed, "refused", &["exit", "0"]);
    let squall = bed.library().build().unwrap();
    let (done, wait) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || wait.recv());
        let error = Spawner::fork().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Phase, "{error}");
        let error = squall.launch(&spec, Stdio::null().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Phase, "{error}");
        drop(done);
    });
    let nothing = squall.containers().unwrap();
    assert!(nothing.containers.is_empty(), "{nothing:?}");
}

fn after_a_forked_spawner_was_killed_the_next_launch_works(bed: &Bed) {
    let squall = bed.library().spawner(Spawner::fork().unwrap()).build().unwrap();
    let keeper = only_child(std::process::id());
    let before = launch(bed, &squall, "before", &["sleep", "600000"]);
    for turn in 0..5 {
        kill(only_child(keeper));
        assert_eq!(code_of(launch(bed, &squall, "after", &["exit", &turn.to_string()])), turn);
        assert!(is_running(&before), "a container from before the {turn}th kill");
    }
    end(before);
}

fn without_keeper_and_spawner_a_launch_says_so_and_containers_go_on(bed: &Bed) {
    let squall = bed.library().spawner(Spawner::fork().unwrap()).build().unwrap();
    let keeper = only_child(std::process::id());
    let spawner = only_child(keeper);
    let before = launch(bed, &squall, "before", &["sleep", "600000"]);
    kill(keeper);
    assert_eq!(code_of(launch(bed, &squall, "keeperless", &["exit", "3"])), 3, "the spawner works without its keeper");
    kill(spawner);
    let error = squall.launch(&spec(bed, "after", &["exit", "0"]), Stdio::null().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Phase, "spawner"), "{error}");
    assert!(is_running(&before));
    end(before);
}

fn after_a_spawner_program_was_killed_the_next_launch_works(bed: &Bed) {
    let squall = bed.library().spawner(Spawner::program(bed.program()).unwrap()).build().unwrap();
    let before = launch(bed, &squall, "before", &["sleep", "600000"]);
    for turn in 0..3 {
        kill(only_child(std::process::id()));
        assert_eq!(code_of(launch(bed, &squall, "after", &["exit", &turn.to_string()])), turn);
        assert!(is_running(&before), "a container from before the {turn}th kill");
    }
    end(before);
}

fn a_program_that_is_no_spawner_is_refused(_: &Bed) {
    for (program, kind) in [("/bin/true", ErrorKind::Unsupported), ("/no/such/program", ErrorKind::System)] {
        let error = Spawner::program(program).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(program), "{error}");
    }
}

/// `yes spawner` runs for ever, and reads and writes nothing on the socket.
fn a_program_that_never_answers_is_given_up(bed: &Bed) {
    let mut asking = embedder::asking("/usr/bin/yes");
    asking.env("SQUALL_TEST", bed.tag());
    let output = Call::new(asking).output();
    assert!(output.text().contains("/usr/bin/yes"), "{output}");
}

/// This test's own program stands where no `squall` does.
fn a_companion_that_is_nowhere_is_looked_for_beside_the_program_and_in_libexec(_: &Bed) {
    let error = Spawner::companion().unwrap_err();
    let beside = std::env::current_exe().unwrap().with_file_name("squall");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for place in [beside.display().to_string(), format!("{}/squall", squall::LIBEXEC)] {
        assert!(error.to_string().contains(&place), "{error}");
    }
}

fn the_spawner_holds_nothing_of_its_program(bed: &Bed) {
    for kind in KINDS {
        let mut embedder = Embedder::start(bed, kind);
        embedder.launch("worker", "600000");
        assert!(embedder.pipes_end_when_the_program_closes_them(), "{kind}: somebody holds a pipe of the program's");
        assert!(!children(embedder.pid()).is_empty(), "{kind}: and the spawner is there");
        embedder.kill();
        bed.worker("worker").kill();
        bed.squall(&["rm", "worker"]).ok();
    }
}

fn containers_outlive_their_program_and_the_spawner_does_not(bed: &Bed) {
    for kind in KINDS {
        let mut embedder = Embedder::start(bed, kind);
        let helpers = embedder.helpers();
        embedder.launch("worker", "1500");
        embedder.kill();
        assert_eq!(bed.worker("worker").phase(), "running", "{kind}");
        for helper in helpers {
            until(&format!("{kind}: {helper} has ended with its program"), || (!host::is_alive(helper)).then_some(()));
        }
        assert_eq!(bed.worker("worker").wait(), 0, "{kind}");
        bed.squall(&["rm", "worker"]).ok();
    }
}

fn a_signal_to_the_programs_group_does_not_end_the_spawner(bed: &Bed) {
    for kind in KINDS {
        let mut embedder = Embedder::start(bed, kind);
        let helpers = embedder.helpers();
        embedder.interrupt();
        embedder.launch("worker", "0");
        let alive: Vec<u32> = helpers.iter().copied().filter(|pid| host::is_alive(*pid)).collect();
        assert_eq!(alive, helpers, "{kind}: Ctrl-C is the program's to handle");
        embedder.kill();
        assert_eq!(bed.worker("worker").wait(), 0, "{kind}");
        bed.squall(&["rm", "worker"]).ok();
    }
}

/// It says that it is there and leaves its program's session: in another order a signal in between
/// would end it. Each round is a chance to see it in between.
fn a_spawner_has_left_the_programs_session_before_it_is_there(bed: &Bed) {
    let mut before = children(std::process::id());
    for round in 0..100 {
        let spawner = squall::Spawner::program(bed.program()).unwrap();
        let there = fs::read_to_string("/proc/thread-self/children").unwrap();
        let pids = there.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
        let new: Vec<u32> = pids.filter(|pid| !before.contains(pid)).collect();
        let sessions: Vec<String> = new.iter().map(|pid| host::status(*pid, "NSsid")).collect();
        assert_eq!(sessions, new.iter().map(u32::to_string).collect::<Vec<_>>(), "round {round}");
        before.extend(new);
        drop(spawner);
    }
}

fn a_program_that_ignores_its_children_can_have_a_spawner(bed: &Bed) {
    let mut embedder = Embedder::start(bed, embedder::CHILDLESS);
    kill(only_child(only_child(embedder.pid())));
    embedder.launch("worker", "0");
    embedder.kill();
    assert_eq!(bed.worker("worker").wait(), 0);
    bed.squall(&["rm", "worker"]).ok();
}
