//! The library in an asynchronous program: one thread, one runtime of tokio.

use std::fs;
use std::future::Future;
use std::time::{Duration, Instant};

use runtime_tests::{Bed, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use squall::record::{EndReason, Exit};
use squall::request::{Identity, LaunchSpec};
use squall::{Change, Container, Ended, ErrorKind, Events, Running, Squall, Stdio};

cases![
    one_thread_waits_for_fifty_workers_with_all_kinds_of_ends,
    a_wait_that_is_dropped_loses_nothing,
    what_is_removed_or_loses_its_monitor_is_learned_as_by_a_blocking_wait,
    created_and_paused_containers_and_launches_are_waited_for,
    events_are_read_beside_the_waits,
    outside_of_a_runtime_it_is_an_error,
];

const WORKERS: usize = 50;

fn in_one_thread<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

fn spec(bed: &Bed, id: &str, probe: &[&str]) -> LaunchSpec {
    let builder = LaunchSpec::builder(id).layers([bed.probe()]).args([&["/bin/probe"], probe].concat());
    let user = Identity::new(4711, 4711, []).unwrap();
    builder.user(user).cgroup(format!("{}/{id}", bed.cgroup())).build().unwrap()
}

fn launch(bed: &Bed, squall: &Squall, id: &str, probe: &[&str]) -> Running {
    squall.launch(&spec(bed, id, probe), Stdio::null().unwrap()).unwrap_or_else(|error| panic!("{error}"))
}

fn exit_of(ended: &Ended) -> (Exit, EndReason) {
    let Ended::Exited(exited) = ended else { panic!("{ended:?}") };
    (exited.exit().exit, exited.exit().reason)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn one_thread_waits_for_fifty_workers_with_all_kinds_of_ends(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    let killed = Exit::Signal { signal: 9, core_dumped: false };
    let mut expected = Vec::new();
    let mut running = Vec::new();
    for index in 0..WORKERS {
        let number = index.to_string();
        let (probe, end): (&[&str], _) = match index % 5 {
            0 => (&["exit", &number], (Exit::Code { code: index as u8 }, EndReason::Exited)),
            1 => (&["child", "exit", &number], (Exit::Code { code: index as u8 }, EndReason::Exited)),
            2 => (&["sleep", "600000"], (killed, EndReason::Exited)),
            3 => (&["sleep", "600000"], (killed, EndReason::KilledAfterGrace)),
            _ => (&["leave-main-thread", "10"], (Exit::Code { code: 0 }, EndReason::Exited)),
        };
        running.push(launch(bed, &squall, &format!("w{index}"), probe));
        expected.push(end);
    }
    in_one_thread(async {
        let wait = |running: Running| tokio::spawn(async move { running.wait_async().await });
        let waits: Vec<_> = running.iter().cloned().map(wait).collect();
        tokio::task::yield_now().await;
        for (index, running) in running.iter().enumerate() {
            match index % 5 {
                2 => kill(running.record().init.pid),
                3 => drop(running.stop(libc::SIGTERM, Duration::ZERO).unwrap()),
                _ => {}
            }
        }
        assert_eq!(fs::read_dir("/proc/self/task").unwrap().count(), 1, "one thread");
        for (index, wait) in waits.into_iter().enumerate() {
            let ended = wait.await.unwrap().unwrap();
            assert_eq!(exit_of(&ended), expected[index], "worker {index}");
            ended.remove().unwrap();
        }
    });
}

/// Whether a future is ready when it is polled a few times.
async fn is_ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..20 {
        let once = std::future::poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            std::task::Poll::Ready(match polled {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        });
        if let Some(value) = once.await {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

fn a_wait_that_is_dropped_loses_nothing(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    let running = launch(bed, &squall, "kept", &["sleep", "600000"]);
    let mut events = squall.events().unwrap();
    in_one_thread(async {
        let before = host::open_fds("self").len();
        for _ in 0..50 {
            assert!(is_ready(running.wait_async()).await.is_none());
        }
        assert_eq!(host::open_fds("self").len(), before, "nothing stays open");
        assert_eq!(events.next_async().await.unwrap().change.name(), "started");
        assert!(is_ready(events.next_async()).await.is_none());
        kill(running.record().init.pid);
        assert_eq!(exit_of(&running.wait_async().await.unwrap()).0, Exit::Signal { signal: 9, core_dumped: false });
        assert_eq!(events.next_async().await.unwrap().change.name(), "exited");
    });
}

fn what_is_removed_or_loses_its_monitor_is_learned_as_by_a_blocking_wait(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    let removed = launch(bed, &squall, "removed", &["sleep", "600000"]);
    let lost = launch(bed, &squall, "lost", &["sleep", "600000"]);
    let blocking = lost.clone();
    let waiter = std::thread::spawn(move || blocking.wait().unwrap());
    in_one_thread(async {
        let wait = |running: &Running| {
            let running = running.clone();
            tokio::spawn(async move { running.wait_async().await.unwrap() })
        };
        let (removal, loss) = (wait(&removed), wait(&lost));
        tokio::task::yield_now().await;
        bed.squall(&["rm", "--force", "removed"]).ok();
        let exit = exit_of(&removal.await.unwrap()).0;
        assert_eq!(exit, Exit::Signal { signal: 9, core_dumped: false }, "told although its directory is gone");
        assert_eq!(removed.wait_async().await.unwrap_err().kind(), ErrorKind::NotFound);
        kill(lost.record().monitor.pid);
        until("the monitor is gone", || (!lost.is_watched()).then_some(()));
        // Who has not seen that yet cannot learn from the kernel how init ends.
        let init = lost.record().init.pid;
        let deadline = Instant::now() + host::bound(Duration::from_secs(20));
        while pidfds_of(init) < 2 {
            assert!(Instant::now() < deadline, "both waiters look at init");
            tokio::task::yield_now().await;
        }
        assert!(!loss.is_finished(), "it runs on");
        kill(lost.record().init.pid);
        let (here, there) = (loss.await.unwrap(), waiter.join().unwrap());
        let (Ended::Lost(here), Ended::Lost(there)) = (here, there) else { panic!("it is lost") };
        assert_eq!(here.known(), there.known());
        here.remove().unwrap();
    });
}

/// How many descriptors of this process stand for that one.
fn pidfds_of(pid: i32) -> usize {
    let entries =
        fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    entries.filter(|info| info.lines().any(|line| line == format!("Pid:\t{pid}"))).count()
}

fn created_and_paused_containers_and_launches_are_waited_for(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    let created = squall.create(&spec(bed, "created", &["exit", "5"]), Stdio::null().unwrap()).unwrap();
    let paused = launch(bed, &squall, "paused", &["sleep", "600000"]).pause().unwrap();
    in_one_thread(async {
        let (waited, handle) = (created.clone(), paused.clone());
        let created_end = tokio::spawn(async move { waited.wait_async().await.unwrap() });
        let paused_end = tokio::spawn(async move { handle.wait_async().await.unwrap() });
        tokio::task::yield_now().await;
        drop(created.start().unwrap());
        assert_eq!(exit_of(&created_end.await.unwrap()).0, Exit::Code { code: 5 });
        assert!(!paused_end.is_finished());
        drop(paused.stop(libc::SIGTERM, Duration::ZERO).unwrap());
        assert_eq!(exit_of(&paused_end.await.unwrap()).1, EndReason::KilledAfterGrace);
    });
    // A launch that another program makes, from where it is first seen.
    let mut events = squall.events().unwrap();
    while events.next_timeout(Duration::ZERO).unwrap().is_some() {}
    let mut launching = bed.run(&["--name", "slow"], &["exit", "6"]).into_command().spawn().unwrap();
    let settled = in_one_thread(async {
        assert_eq!(events.next_async().await.unwrap().change.name(), "launching");
        match squall.attach("slow").unwrap() {
            Container::Launching(seen) => seen.settle_async().await.unwrap(),
            later => later,
        }
    });
    assert!(settled.record().is_some(), "{settled:?}");
    assert_eq!(launching.wait().unwrap().code(), Some(6));
}

fn events_are_read_beside_the_waits(bed: &Bed) {
    async fn until_exited(events: &mut Events) -> Vec<&'static str> {
        let mut names = Vec::new();
        loop {
            let event = events.next_async().await.unwrap();
            names.push(event.change.name());
            if matches!(event.change, Change::Exited(_)) {
                return names;
            }
        }
    }
    let squall = bed.library().build().unwrap();
    let mut events = squall.events().unwrap();
    let running = launch(bed, &squall, "one", &["sleep", "600000"]);
    let names = in_one_thread(async {
        let pid = running.record().init.pid;
        let wait = tokio::spawn(async move { running.wait_async().await.unwrap() });
        tokio::task::yield_now().await;
        kill(pid);
        let names = until_exited(&mut events).await;
        drop(wait.await.unwrap());
        names
    });
    assert_eq!(names, ["launching", "started", "exited"]);
}

fn outside_of_a_runtime_it_is_an_error(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    let running = launch(bed, &squall, "one", &["sleep", "600000"]);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut future = std::pin::pin!(running.wait_async());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        other => panic!("{other:?}"),
    }
    drop(running.kill_tree().unwrap());
}
