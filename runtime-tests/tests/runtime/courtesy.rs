//! What a program that embeds Squall need not put up with: nothing of the process is changed by any
//! call, and the ends of its own children are its own business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, Call, cases, host};
use rustix::process::{WaitOptions, dumpable_behavior, umask, wait};
use serde_json::{Value, json};
use squall::record::Exit;
use squall::request::{ExecSpec, Identity, LaunchSpec};
use squall::{Ended, ExecEnd, Running, Spawner, Squall, Stdio, Trim, WindowSize};

cases![
    no_call_changes_anything_of_the_program,
    a_program_that_reaps_every_child_learns_every_end,
    the_handles_can_be_shared_between_threads,
];

pub const ROLES: &[Role] = &[("courtesy", live)];

/// What the kernel tells of this process and could be changed by a careless library.
fn state() -> Value {
    let own = std::process::id();
    let status = ["SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Threads", "Umask"];
    let status: BTreeMap<&str, String> = status.into_iter().map(|key| (key, host::status(own, key))).collect();
    let mask = umask(rustix::fs::Mode::empty());
    umask(mask);
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    json!({
        "status": status,
        "umask": mask.bits(),
        "directory": std::env::current_dir().unwrap(),
        "environment": environment,
        "dumpable": format!("{:?}", dumpable_behavior().unwrap()),
        "descriptors": host::open_fds(&own.to_string()),
        "session": nix::unistd::getsid(None).unwrap().as_raw(),
        "mounts": std::fs::read_link("/proc/self/ns/mnt").unwrap(),
    })
}

/// Everything that there is to call.
fn use_all_of_it(squall: &Squall, layer: &str, cgroup: &str) {
    let null = || Stdio::null().unwrap();
    let user = Identity::new(4711, 4711, []).unwrap();
    let spec = |id: &str, argv: &[&str]| {
        let builder = LaunchSpec::builder(id).layers([layer]).args(argv.iter().copied()).user(user.clone());
        builder.cgroup(format!("{cgroup}/{id}")).build().unwrap()
    };
    let code = |ended: Ended| {
        let Ended::Exited(exited) = ended else { panic!("it is lost") };
        let exit = exited.exit().exit;
        exited.remove().unwrap();
        exit
    };
    squall.plan(&spec("plan", &["/bin/probe"])).unwrap();
    squall.launch(&spec("missing", &["/bin/none"]), null()).unwrap_err();
    let ending = squall.launch(&spec("ending", &["/bin/probe", "exit", "7"]), null()).unwrap();
    assert_eq!(code(ending.wait().unwrap()), Exit::Code { code: 7 });
    let running: Running =
        squall.create(&spec("lasting", &["/bin/probe", "sleep", "600000"]), null()).unwrap().start().unwrap();
    let execute = |argv: &[&str], stdio: Stdio| squall.exec(&running, &ExecSpec::new(argv.iter().copied()), stdio);
    let session = execute(&["/bin/probe", "exit", "9"], null()).unwrap();
    assert!(matches!(session.wait().unwrap(), ExecEnd::Exited(exit) if exit.exit == Exit::Code { code: 9 }));
    session.remove().unwrap();
    execute(&["/bin/none"], null()).unwrap_err();
    let (stdio, end) = Stdio::terminal(WindowSize { rows: 2, columns: 3 }).unwrap();
    let at_terminal = execute(&["/bin/probe", "sleep", "600000"], stdio).unwrap();
    drop(end.receive().unwrap());
    assert!(matches!(at_terminal.wait().unwrap(), ExecEnd::Exited(_)));
    running.pause().unwrap().resume().unwrap();
    running.usage().unwrap();
    assert!(running.wait_for(Duration::from_millis(1)).unwrap().is_none());
    squall.containers().unwrap();
    squall.attach("lasting").unwrap().exec_sessions().unwrap();
    assert!(matches!(code(running.stop(libc::SIGTERM, Duration::ZERO).unwrap()), Exit::Signal { signal: 9, .. }));
    squall.reap(0, Trim::Do).unwrap();
}

/// The program: with threads, and a working directory and mask of its own.
fn live(args: &[String]) {
    let [kind, spawner, layer, cgroup, monitors, run_root, program] = args else { panic!("{args:?}") };
    std::env::set_current_dir("/usr").unwrap();
    umask(rustix::fs::Mode::from_raw_mode(0o007));
    let spawner = if spawner == "program" { Spawner::program(program) } else { Spawner::fork() };
    let squall = Squall::builder().run_root(run_root).monitors(monitors).spawner(spawner.unwrap()).build().unwrap();
    let squall = Arc::new(squall);
    let over = Arc::new(AtomicBool::new(false));
    let reaper = (kind == "reaping").then(|| {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // Whoever ends, whose child it is meant to be or not.
                if !matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        })
    });
    let other = std::thread::spawn(|| std::thread::park_timeout(Duration::from_secs(600)));
    // What the library makes once, and keeps.
    use_all_of_it(&squall, layer, cgroup);
    let before = state();
    for _ in 0..3 {
        use_all_of_it(&squall, layer, cgroup);
    }
    let after = state();
    over.store(true, Ordering::Relaxed);
    reaper.into_iter().for_each(|reaper| reaper.join().unwrap());
    other.thread().unpark();
    println!("{}", json!({ "before": before, "after": after }));
}

fn run(bed: &Bed, kind: &str, spawner: &str) -> Value {
    let mut command = roles::command("courtesy");
    command.args([kind, spawner, bed.probe(), &bed.cgroup(), &bed.monitors()]).arg(bed.run_root()).arg(bed.program());
    Call::new(command).json()
}

fn no_call_changes_anything_of_the_program(bed: &Bed) {
    for spawner in ["forked", "program"] {
        let told = run(bed, "plain", spawner);
        assert_eq!(told["before"], told["after"], "{spawner}");
        assert_eq!((&told["after"]["directory"], &told["after"]["umask"]), (&json!("/usr"), &json!(0o007)));
        assert_eq!(told["after"]["dumpable"], "Dumpable");
    }
}

fn a_program_that_reaps_every_child_learns_every_end(bed: &Bed) {
    for spawner in ["forked", "program"] {
        let told = run(bed, "reaping", spawner);
        assert_eq!(told["before"], told["after"], "{spawner}");
    }
}

/// A compiler's test: it holds when this is compiled.
fn the_handles_can_be_shared_between_threads(_: &Bed) {
    fn shared<T: Send + Sync>() {}
    shared::<Squall>();
    shared::<squall::Container>();
    shared::<squall::Created>();
    shared::<squall::Paused>();
    shared::<squall::ExecSession>();
    shared::<squall::Stdio>();
    shared::<squall::Error>();
}
