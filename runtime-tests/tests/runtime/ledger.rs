//! The node ledger: processors that a container has for itself, memory that is promised to it, and
//! when either is free again.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::thread;

use runtime_tests::{Bed, Output, Worker, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::request::{ExclusiveCpus, Identity, LaunchSpec, MemoryPromise, Placement};
use squall::{Cause, ErrorKind};

cases![
    a_container_has_processors_of_its_own,
    of_many_launches_at_once_as_many_win_as_there_are_processors,
    what_a_killed_container_had_is_free,
    what_an_unwatched_container_has_it_keeps,
    what_a_killed_launch_had_is_free,
    an_end_that_is_known_frees_what_was_held,
    named_processors_are_not_those_that_another_has_for_itself,
    what_a_container_has_for_itself_is_not_updated,
    an_update_takes_no_processor_that_another_has_for_itself,
    no_more_memory_is_promised_than_there_is,
    a_promise_follows_the_limit,
    two_run_roots_know_nothing_of_each_other,
    a_dry_run_tells_which_processors_and_what_is_in_the_way,
];

/// The processors that a container can have here.
fn all() -> BTreeSet<u32> {
    list(&host::status(std::process::id(), "Cpus_allowed_list"))
}

fn list(text: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        from.parse().unwrap()..=to.parse::<u32>().unwrap()
    };
    text.split(',').filter(|part| !part.is_empty()).flat_map(range).collect()
}

fn cpus_of(worker: &Worker<'_>) -> BTreeSet<u32> {
    list(&host::status(worker.pid(), "Cpus_allowed_list"))
}

fn count() -> String {
    format!("auto:{}", all().len())
}

fn one<'b>(bed: &'b Bed, name: &str, cpus: &str) -> Worker<'b> {
    bed.start(&["--name", name, "--cpuset-cpus", cpus], &["sleep", "600000"])
}

/// A launch that is refused, and nothing is left of it.
fn refused(bed: &Bed, flags: &[&str]) -> Output {
    let output = bed.run(&[&["--name", "refused", "--detach"], flags].concat(), &["sleep", "600000"]).output();
    assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json().to_string().matches("refused").count(), 0);
    output
}

fn resources(bed: &Bed) -> Value {
    bed.squall(&["ps", "--resources", "--json"]).json()
}

fn holders(bed: &Bed) -> Vec<String> {
    let shown = resources(bed);
    let ids = shown["containers"].as_array().unwrap().iter().map(|held| held["id"].as_str().unwrap().to_owned());
    ids.collect()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    until("it is dead", || (!host::is_alive(pid)).then_some(()));
}

fn a_container_has_processors_of_its_own(bed: &Bed) {
    let worker = one(bed, "own", "auto:1,numa");
    let (own, all) = (cpus_of(&worker), all());
    assert!(own.len() == 1 && own.is_subset(&all), "{own:?}");
    let record = worker.inspect();
    let first = own.first().unwrap().to_string();
    assert_eq!(record["spec"]["exclusive_cpus"], json!({ "count": 1, "placement": "one-node" }));
    assert_eq!(record["spec"]["limits"]["cpuset_cpus"], first.as_str());
    assert!(LaunchSpec::from_json(record["spec"].to_string().as_bytes()).is_ok());
    let mems = worker.cgroup_file("cpuset.mems").unwrap();
    assert_eq!(list(&mems).len(), 1, "{mems}");
    let shown = resources(bed);
    assert_eq!(shown["containers"][0]["id"], "own");
    assert_eq!((&shown["containers"][0]["cpus"], &shown["containers"][0]["exclusive"]), (&json!(first), &json!(true)));
    let free = list(shown["free_cpus"].as_str().unwrap_or_default());
    assert_eq!(free, all.difference(&own).copied().collect());
    let text = bed.squall(&["ps", "--resources"]).ok().text();
    assert!(
        text.contains("own") && text.contains("free of node 0: CPUs") && text.contains("free to promise"),
        "{text}"
    );
    worker.kill();
    assert_eq!(holders(bed), Vec::<String>::new());
}

fn of_many_launches_at_once_as_many_win_as_there_are_processors(bed: &Bed) {
    bed.probe();
    let names: Vec<String> = (0..all().len() + 4).map(|number| format!("w{number}")).collect();
    let outputs: Vec<(String, Output)> = thread::scope(|scope| {
        let launch = |name: &String| {
            let flags = ["--detach", "--name", name, "--cpuset-cpus", "auto:1"];
            let call = bed.run(&flags, &["sleep", "600000"]);
            let name = name.clone();
            scope.spawn(move || (name, call.output()))
        };
        let threads: Vec<_> = names.iter().map(launch).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = outputs.iter().partition(|(_, output)| output.code() == 0);
    assert_eq!((won.len(), lost.len()), (all().len(), 4), "{outputs:?}");
    let cpus: Vec<u32> = won.iter().flat_map(|(name, _)| cpus_of(&bed.worker(name))).collect();
    assert_eq!(cpus.iter().copied().collect::<BTreeSet<_>>(), all());
    assert_eq!(cpus.len(), all().len());
    for (_, output) in lost {
        let words = output.stderr.contains("1 processors are asked for, free are 0");
        assert!(
            words && won.iter().any(|(name, _)| output.stderr.contains(&format!("container '{name}' has"))),
            "{output}"
        );
    }
    assert_eq!(holders(bed).len(), all().len());
    won.iter().for_each(|(name, _)| bed.worker(name).kill());
}

fn what_a_killed_container_had_is_free(bed: &Bed) {
    let worker = one(bed, "first", &count());
    let said = refused(bed, &["--cpuset-cpus", "auto:1"]);
    assert!(said.stderr.contains("container 'first' has processor"), "{said}");
    let (monitor, init) = (worker.monitor(), worker.pid());
    kill(monitor);
    kill(init);
    assert_eq!(worker.phase(), "lost");
    let next = one(bed, "next", &count());
    assert_eq!(cpus_of(&next), all());
    next.kill();
}

/// What has lost its monitor works on.
fn what_an_unwatched_container_has_it_keeps(bed: &Bed) {
    let worker = one(bed, "first", &count());
    kill(worker.monitor());
    assert_eq!(holders(bed), ["first"]);
    refused(bed, &["--cpuset-cpus", "auto:1"]);
    worker.kill();
    assert_eq!(holders(bed), Vec::<String>::new());
}

/// Killed at one moment of its launch after the other.
fn what_a_killed_launch_had_is_free(bed: &Bed) {
    bed.probe();
    for moment in 0..8 {
        let flags = ["--detach", "--name", "killed", "--cpuset-cpus", &count()];
        let mut command = bed.run(&flags, &["sleep", "600000"]).into_command();
        let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(std::time::Duration::from_millis(3 * moment)); // a moment of the launch is what is tested
        // The launch process is its child, and every process of it.
        let launch = host::children(child.id());
        for pid in launch {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
        }
        child.wait().unwrap();
        let found = bed.squall(&["ps", "--all", "--json"]).json();
        if found.as_array().unwrap().iter().all(|container| container["phase"] == "launching") {
            // What is left of it, if anything, is not reaped yet.
            until("its processors are free", || holders(bed).is_empty().then_some(()));
        } else {
            // It was launched by then, and has lost its monitor at most.
            bed.squall(&["rm", "--force", "killed"]).ok();
        }
        let next = one(bed, "next", &count());
        next.kill();
        bed.squall(&["rm", "next"]).ok();
        bed.squall(&["rm", "--force", "killed"]).ok();
    }
}

/// However soon the next one comes.
fn an_end_that_is_known_frees_what_was_held(bed: &Bed) {
    for _ in 0..10 {
        let flags = ["--detach", "--rm", "--name", "short", "--cpuset-cpus", &count()];
        bed.run(&flags, &["exit", "0"]).ok();
        bed.squall(&["wait", "short"]).ok();
    }
    for number in 0..5 {
        let name = format!("kept{number}");
        bed.run(&["--name", &name, "--cpuset-cpus", &count()], &["exit", "0"]).ok();
    }
    assert_eq!(holders(bed), Vec::<String>::new());
}

fn named_processors_are_not_those_that_another_has_for_itself(bed: &Bed) {
    let shared = one(bed, "shared", "0");
    let also = one(bed, "also", "0");
    let said = refused(bed, &["--cpuset-cpus", &count()]);
    assert!(said.stderr.contains("container 'also' has processor 0, container 'shared' has processor 0"), "{said}");
    shared.kill();
    also.kill();
    let own = one(bed, "own", &count());
    let said = refused(bed, &["--cpuset-cpus", "0"]);
    assert!(said.stderr.contains("1 processors (0) are asked for, free are 0: container 'own' has"), "{said}");
    own.kill();
}

fn what_a_container_has_for_itself_is_not_updated(bed: &Bed) {
    let own = one(bed, "own", "auto:1");
    let before = (own.inspect(), resources(bed));
    for cpus in ["0", ""] {
        let said = bed.squall(&["update", "--cpuset-cpus", cpus, "own"]).output();
        assert!(said.code() == 125 && said.stderr.contains("for itself, and that stays so until its end"), "{said}");
    }
    assert_eq!((own.inspect(), resources(bed)), before);
    bed.squall(&["update", "--pids-limit", "50", "own"]).ok();
    assert_eq!(resources(bed), before.1);
    own.kill();
}

fn an_update_takes_no_processor_that_another_has_for_itself(bed: &Bed) {
    if all().len() < 2 {
        return;
    }
    let own = one(bed, "own", "auto:1");
    let taken = cpus_of(&own).first().copied().unwrap();
    let other = all().into_iter().find(|cpu| *cpu != taken).unwrap().to_string();
    let worker = bed.start(&["--name", "worker"], &["sleep", "600000"]);
    let said = bed.squall(&["update", "--cpuset-cpus", &taken.to_string(), "worker"]).output();
    assert!(said.code() == 125 && said.stderr.contains("container 'own' has processor"), "{said}");
    assert_eq!(cpus_of(&worker), all());
    bed.squall(&["update", "--cpuset-cpus", &other, "worker"]).ok();
    assert_eq!(holders(bed), ["own", "worker"]);
    // It names it from now on, so nobody gets it for himself.
    let said = refused(bed, &["--cpuset-cpus", &format!("auto:{}", all().len() - 1)]);
    assert!(said.stderr.contains("container 'worker' has processor"), "{said}");
    bed.squall(&["update", "--cpuset-cpus", "", "worker"]).ok();
    assert_eq!(holders(bed), ["own"]);
    own.kill();
    worker.kill();
}

fn promised(id: &str, bed: &Bed, bytes: u64) -> LaunchSpec {
    let limits = squall::cgroup::Limits { memory_bytes: Some(bytes), ..Default::default() };
    let builder = LaunchSpec::builder(id).layers([bed.probe()]).args(["/bin/probe", "sleep", "600000"]);
    let builder = builder.user(Identity::new(65534, 65534, []).unwrap()).cgroup(format!("{}/{id}", bed.cgroup()));
    builder.limits(limits).memory_promise(MemoryPromise::Limit).build().unwrap()
}

fn no_more_memory_is_promised_than_there_is(bed: &Bed) {
    let squall = bed.library().memory_capacity(100 << 20).build().unwrap();
    let launch = |id: &str, bytes| squall.launch(&promised(id, bed, bytes), squall::Stdio::null().unwrap());
    launch("a", 60 << 20).unwrap();
    let error = launch("b", 41 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    let Cause::Taken { asked, free, holders, .. } = error.cause() else { panic!("{error}") };
    assert_eq!((*asked, *free, holders[0].container.as_str()), (41 << 20, 40 << 20, "a"));
    launch("b", 40 << 20).unwrap();
    let shown = squall.resources().unwrap();
    assert_eq!((shown.memory_capacity_bytes, shown.free_memory_bytes), (100 << 20, 0));
    bed.worker("a").kill();
    assert_eq!(squall.resources().unwrap().free_memory_bytes, 60 << 20);
    bed.worker("b").kill();
    // By flags, of all that the machine has.
    let said = refused(bed, &["--memory", "1000t", "--memory-promised"]);
    assert!(said.stderr.contains("bytes of memory are asked for, free are"), "{said}");
    let said = refused(bed, &["--memory-promised"]);
    assert!(said.stderr.contains("--memory-promised: needs a memory limit"), "{said}");
}

fn a_promise_follows_the_limit(bed: &Bed) {
    let squall = bed.library().memory_capacity(100 << 20).build().unwrap();
    for (id, bytes) in [("a", 40 << 20), ("b", 40 << 20)] {
        squall.launch(&promised(id, bed, bytes), squall::Stdio::null().unwrap()).unwrap();
    }
    let free = || squall.resources().unwrap().free_memory_bytes >> 20;
    assert_eq!(free(), 20);
    bed.squall(&["update", "--memory", "60m", "a"]).ok();
    assert_eq!(free(), 0);
    let said = bed.squall(&["update", "--memory", "41m", "b"]).output();
    assert!(said.code() == 125 && said.stderr.contains("container 'a' has 62914560 bytes"), "{said}");
    let said = bed.squall(&["update", "--memory", "0", "b"]).output();
    assert!(said.code() == 125 && said.stderr.contains("--memory: it is promised"), "{said}");
    bed.squall(&["update", "--memory", "30m", "b"]).ok();
    assert_eq!(free(), 10);
    bed.worker("a").kill();
    bed.worker("b").kill();
    assert_eq!(free(), 100);
}

fn two_run_roots_know_nothing_of_each_other(bed: &Bed) {
    let own = one(bed, "own", &count());
    let elsewhere = bed.work().join("run");
    let squall = bed.library().run_root(&elsewhere).build().unwrap();
    let cpus = ExclusiveCpus { count: 1, placement: Placement::Anywhere };
    let builder = LaunchSpec::builder("own").layers([bed.probe()]).args(["/bin/probe", "sleep", "600000"]);
    let builder = builder.user(Identity::new(65534, 65534, []).unwrap()).cgroup(format!("{}/elsewhere", bed.cgroup()));
    let spec = builder.exclusive_cpus(cpus).build().unwrap();
    let running = squall.launch(&spec, squall::Stdio::null().unwrap()).unwrap();
    assert_eq!(squall.resources().unwrap().containers.len(), 1);
    running.kill_tree().unwrap().remove().unwrap();
    squall.reap(0, squall::Trim::Do).unwrap();
    own.kill();
}

fn a_dry_run_tells_which_processors_and_what_is_in_the_way(bed: &Bed) {
    let plan = |cpus: &str| {
        let flags = ["plan", "--json", "--cgroup-parent", &bed.cgroup(), "--cpuset-cpus", cpus, "--layer", bed.probe()];
        bed.squall(&[&flags[..], &["--", "/bin/probe", "exit", "0"]].concat()).json()
    };
    let text = plan("auto:1").to_string();
    let first = all().first().unwrap().to_string();
    assert!(text.contains(&format!(r#""cpus":"{first}""#)), "{text}");
    assert_eq!(holders(bed), Vec::<String>::new());
    let own = one(bed, "own", &count());
    let obstacles = plan("auto:1")["obstacles"].to_string();
    assert!(obstacles.contains("container 'own' has"), "{obstacles}");
    own.kill();
}
