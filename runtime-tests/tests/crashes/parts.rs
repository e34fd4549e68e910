//! The programs that embed Squall and are struck, or whose launch processes, spawners and inits
//! are.

use std::time::Duration;

use runtime_tests::roles::Role;
use squall::request::{ExecSpec, Identity, LaunchSpec, OnExit};
use squall::{Container, Ended, Spawner, Squall, Stdio, Trim};

pub const ROLES: &[Role] = &[
    ("launch", |args| launch(args, OnExit::Keep, Forked::Directly)),
    ("launch-unkept", |args| launch(args, OnExit::Remove, Forked::Directly)),
    ("create-and-start", create_and_start),
    ("launch-by-spawner", |args| launch(args, OnExit::Keep, Forked::BySpawner)),
    ("stop", stop),
    ("remove", remove),
    ("exec", exec),
    ("wait", wait),
    ("reap", reap),
];

/// What the worker returns when it is asked to end.
pub const CODE: u8 = 15;

/// The worker ends by itself after this long, should a test be killed.
const LONGEST: &str = "120000";

enum Forked {
    Directly,
    BySpawner,
}

struct Stage<'a> {
    squall: squall::SquallBuilder,
    cgroup: &'a str,
    id: &'a str,
    pid_file: &'a str,
    layers: &'a [String],
}

fn stage(args: &[String]) -> Stage<'_> {
    let [run_root, monitors, cgroup, id, pid_file, layers @ ..] = args else { panic!("{args:?}") };
    Stage { squall: Squall::builder().run_root(run_root).monitors(monitors), cgroup, id, pid_file, layers }
}

fn launch(args: &[String], on_exit: OnExit, forked: Forked) {
    let (squall, spec) = asked(stage(args), on_exit, forked);
    finish(squall.launch(&spec, Stdio::null().expect("there is /dev/null")).map(drop));
}

fn create_and_start(args: &[String]) {
    let (squall, spec) = asked(stage(args), OnExit::Keep, Forked::Directly);
    let created = squall.create(&spec, Stdio::null().expect("there is /dev/null"));
    finish(created.and_then(|created| created.start()).map(drop));
}

fn asked(stage: Stage<'_>, on_exit: OnExit, forked: Forked) -> (Squall, LaunchSpec) {
    let squall = match forked {
        Forked::Directly => stage.squall,
        Forked::BySpawner => stage.squall.spawner(Spawner::fork().unwrap_or_else(|error| panic!("{error}"))),
    };
    let user = Identity::new(4711, 4711, []).expect("these ids are fine");
    let builder = LaunchSpec::builder(stage.id).layers(stage.layers).args(["/bin/probe", "exit-on-signal", LONGEST]);
    let builder = builder.user(user).cgroup(format!("{}/{}", stage.cgroup, stage.id)).pid_file(stage.pid_file);
    let spec = builder
        .exit_file(format!("{}.exit", stage.pid_file))
        .on_exit(on_exit)
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    (squall.build().unwrap_or_else(|error| panic!("{error}")), spec)
}

fn stop(args: &[String]) {
    with_container(args, |container| match container {
        Container::Created(created) => created.stop().map(drop),
        Container::Running(running) => running.stop(15, Duration::from_secs(10)).map(drop),
        _ => Ok(()),
    });
}

/// A program that is there until its container ends.
fn exec(args: &[String]) {
    let stage = stage(args);
    let squall = stage.squall.build().unwrap_or_else(|error| panic!("{error}"));
    let spec = ExecSpec::new(["/bin/probe", "sleep", LONGEST]);
    finish(squall.attach(stage.id).and_then(|container| match container {
        Container::Running(running) => {
            squall.exec(&running, &spec, Stdio::null().expect("there is /dev/null")).map(drop)
        }
        other => panic!("{other:?}"),
    }));
}

fn wait(args: &[String]) {
    with_container(args, |container| match container {
        Container::Running(running) => running.wait().map(drop),
        _ => Ok(()),
    });
}

fn remove(args: &[String]) {
    with_container(args, |container| match container {
        Container::Exited(exited) => exited.remove(),
        Container::Lost(lost) => lost.remove(),
        Container::Created(created) => created.kill_tree().and_then(Ended::remove),
        Container::Running(running) => running.kill_tree().and_then(Ended::remove),
        Container::Launching(launching) => launching.abandon(),
        other => panic!("{other:?}"),
    });
}

fn with_container(args: &[String], act: impl FnOnce(Container) -> squall::Result<()>) {
    let stage = stage(args);
    finish(stage.squall.build().and_then(|squall| squall.attach(stage.id)).and_then(act));
}

fn reap(args: &[String]) {
    finish(stage(args).squall.build().and_then(|squall| squall.reap(0, Trim::Do)).map(|report| {
        for object in report {
            eprintln!("{object:?}");
        }
    }));
}

fn finish(outcome: squall::Result<()>) {
    if let Err(error) = outcome {
        eprintln!("failed: {error}");
        std::process::exit(1);
    }
}
