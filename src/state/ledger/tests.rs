//! Claims against a machine of two nodes, with directories as launches make them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::*;
use crate::cgroup::Limits;
use crate::request::Identity;

struct Ground {
    _top: tempfile::TempDir,
    ledger: Ledger,
}

/// A container that is being launched, for as long as this lives.
struct Launching {
    claim: Claim,
    spec: LaunchSpec,
}

fn spec(id: &str, limits: Limits, exclusive: Option<&str>, promise: MemoryPromise) -> LaunchSpec {
    let nobody = Identity::new(1, 1, []).unwrap();
    let builder = LaunchSpec::builder(id).layers(["/a.sqsh"]).args(["a"]).user(nobody).cgroup("/squall/a");
    let builder = builder.limits(limits).memory_promise(promise);
    match exclusive {
        Some(cpus) => builder.exclusive_cpus(cpus.parse().unwrap()),
        None => builder,
    }
    .build()
    .unwrap()
}

fn auto(id: &str, cpus: &str) -> LaunchSpec {
    spec(id, Limits::default(), Some(cpus), MemoryPromise::Nothing)
}

fn named(id: &str, cpus: &str) -> LaunchSpec {
    let limits = Limits { cpuset_cpus: cpus.parse().ok(), ..Limits::default() };
    spec(id, limits, None, MemoryPromise::Nothing)
}

fn promised(id: &str, bytes: u64) -> LaunchSpec {
    spec(id, Limits { memory_bytes: Some(bytes), ..Limits::default() }, None, MemoryPromise::Limit)
}

fn no_layout() -> Layout {
    Layout::new(Vec::new(), "/proc")
}

impl Ground {
    fn new() -> Ground {
        let top = tempfile::tempdir().unwrap();
        let run_root = RunRoot::new(top.path().join("run")).unwrap();
        run_root.prepare().unwrap();
        let machine = Machine::fake(top.path(), &["0-3", "4-7"], 16 << 10);
        Ground { ledger: Ledger { run_root, capacity_bytes: None, machine }, _top: top }
    }

    fn launch(&self, spec: &LaunchSpec) -> Result<Launching> {
        let claim = Claim::make(&self.ledger.run_root, spec)?;
        let path = claim.path.clone();
        match self.ledger.claim(spec, &claim, &no_layout()) {
            Ok(given) => Ok(Launching { claim, spec: given.unwrap_or_else(|| spec.clone()) }),
            Err(error) => {
                fs::remove_dir_all(path).unwrap();
                Err(error)
            }
        }
    }

    fn directory(&self, id: &str) -> PathBuf {
        self.ledger.run_root.containers().join(id)
    }

    fn held(&self) -> Vec<String> {
        self.ledger.holders(None).unwrap().into_iter().map(|held| held.id).collect()
    }
}

impl Launching {
    fn cpus(&self) -> String {
        self.spec.limits.cpuset_cpus.as_ref().unwrap().to_string()
    }

    /// What is left of it when its launch process is killed.
    fn killed(self) -> OwnedFd {
        self.claim.directory
    }
}

fn who_has(error: &Error) -> Vec<String> {
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Exhausted, Stage::Claim), "{error}");
    let Cause::Taken { holders, .. } = error.cause() else { panic!("{error}") };
    holders.iter().map(|holder| holder.container.clone()).collect()
}

#[test]
fn each_container_has_processors_of_its_own_until_none_are_left() {
    let ground = Ground::new();
    let first = ground.launch(&auto("a", "auto:3")).unwrap();
    let second = ground.launch(&auto("b", "auto:2,numa")).unwrap();
    assert_eq!((first.cpus(), second.cpus()), ("0-2".into(), "4-5".into()));
    assert_eq!(second.spec.limits.cpuset_mems, CpuList::of([1]));
    let error = ground.launch(&auto("c", "auto:3,numa")).err().unwrap();
    assert_eq!(who_has(&error), ["a", "b"]);
    assert!(error.to_string().contains("3 processors of one memory node are asked for, free are 2:"), "{error}");
    let third = ground.launch(&auto("c", "auto:3")).unwrap();
    assert_eq!((third.cpus(), &third.spec.limits.cpuset_mems), ("3,6-7".into(), &None));
    let error = ground.launch(&auto("d", "auto:1")).err().unwrap();
    assert_eq!(who_has(&error), ["a", "b", "c"]);
    assert_eq!(ground.held(), ["a", "b", "c"]);
}

#[test]
fn what_a_dead_launch_or_container_had_is_free_at_once() {
    let ground = Ground::new();
    let first = ground.launch(&auto("a", "auto:8")).unwrap();
    assert_eq!(who_has(&ground.launch(&auto("b", "auto:1")).err().unwrap()), ["a"]);
    // Killed: its directory stays until somebody reaps.
    drop(first.killed());
    assert!(ground.directory("a").exists());
    assert_eq!(ground.held(), Vec::<String>::new());
    let second = ground.launch(&auto("b", "auto:8")).unwrap();
    // Ended: its monitor still holds the directory, and has written the end.
    fs::write(ground.directory("b").join("exit.json"), "{}").unwrap();
    assert_eq!(ground.launch(&auto("c", "auto:8")).unwrap().cpus(), "0-7");
    drop(second);
}

#[test]
fn a_container_without_a_monitor_keeps_what_it_has_while_its_init_lives() {
    let ground = Ground::new();
    let launching = ground.launch(&auto("a", "auto:8")).unwrap();
    let mut init = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut text: serde_json::Value = serde_json::from_str(include_str!("../record/frozen/record-1.json")).unwrap();
    text["boot_id"] = boot_id().unwrap().into();
    let process = crate::process::ProcessId::of(init.id() as i32).unwrap();
    text["init"] = serde_json::to_value(process).unwrap();
    fs::write(ground.directory("a").join("record.json"), text.to_string()).unwrap();
    drop(launching.killed());
    assert_eq!(ground.held(), ["a"]);
    text["boot_id"] = "another".into();
    fs::write(ground.directory("a").join("record.json"), text.to_string()).unwrap();
    assert_eq!(ground.held(), Vec::<String>::new(), "of an earlier boot");
    text["boot_id"] = boot_id().unwrap().into();
    fs::write(ground.directory("a").join("record.json"), text.to_string()).unwrap();
    init.kill().unwrap();
    let pidfd = process.open().unwrap();
    assert!(crate::wait::child_ends_by(pidfd.as_fd(), Instant::now() + Duration::from_secs(30)).unwrap());
    assert_eq!(ground.held(), Vec::<String>::new(), "a zombie has nothing");
    init.wait().unwrap();
}

#[test]
fn named_processors_may_be_shared_but_not_with_one_that_has_them_for_itself() {
    let ground = Ground::new();
    let shared = ground.launch(&named("a", "0-1")).unwrap();
    let also = ground.launch(&named("b", "1-2")).unwrap();
    let own = ground.launch(&auto("c", "auto:3")).unwrap();
    assert_eq!(own.cpus(), "4-6", "none that others name");
    let error = ground.launch(&named("d", "3-4")).err().unwrap();
    assert_eq!(who_has(&error), ["c"]);
    assert!(error.to_string().contains("2 processors (3-4) are asked for, free are 1:"), "{error}");
    assert!(error.to_string().contains("container 'c' has processors 4-6"), "{error}");
    // Of those that are named, for itself.
    let limits = || Limits { cpuset_cpus: "1,7".parse().ok(), ..Limits::default() };
    let both = spec("d", limits(), Some("auto:2"), MemoryPromise::Nothing);
    assert_eq!(who_has(&ground.launch(&both).err().unwrap()), ["a", "b"]);
    drop((shared.killed(), also.killed()));
    assert_eq!(ground.launch(&both).unwrap().cpus(), "1,7");
}

#[test]
fn no_more_memory_is_promised_than_there_is() {
    let ground = Ground::new();
    let first = ground.launch(&promised("a", 10 << 20)).unwrap();
    let error = ground.launch(&promised("b", 7 << 20)).err().unwrap();
    assert_eq!(who_has(&error), ["a"]);
    assert!(error.to_string().contains("7340032 bytes of memory are asked for, free are 6291456"), "{error}");
    let second = ground.launch(&promised("b", 6 << 20)).unwrap();
    // Limits without a promise are none of the ledger's business.
    let limits = Limits { memory_bytes: Some(1 << 30), ..Limits::default() };
    let third = ground.launch(&spec("c", limits, None, MemoryPromise::Nothing)).unwrap();
    let resources = ground.ledger.resources(&no_layout()).unwrap();
    assert_eq!((resources.memory_capacity_bytes, resources.free_memory_bytes), (16 << 20, 0));
    assert_eq!(ground.held(), ["a", "b"]);
    drop((first.killed(), third));
    assert_eq!(ground.ledger.resources(&no_layout()).unwrap().free_memory_bytes, 10 << 20);
    drop(second);
    let less = Ledger { capacity_bytes: Some(1 << 20), ..ground.ledger.clone() };
    assert!(less.check_memory("d", 2 << 20, &[]).is_err());
}

#[test]
fn what_is_shown_is_who_has_what_and_what_is_free() {
    let ground = Ground::new();
    let _first = ground.launch(&auto("a", "auto:3,numa")).unwrap();
    let _second = ground.launch(&named("b", "7")).unwrap();
    let shown = ground.ledger.resources(&no_layout()).unwrap();
    let line = |held: &Held| {
        let text = |list: &Option<CpuList>| list.as_ref().map(CpuList::to_string).unwrap_or_default();
        format!("{} {} {} {}", held.id, text(&held.cpus), held.exclusive, text(&held.nodes))
    };
    assert_eq!(shown.containers.iter().map(line).collect::<Vec<_>>(), ["a 0-2 true 0", "b 7 false "]);
    let free: Vec<_> = shown.nodes.iter().map(|node| node.free_cpus.as_ref().unwrap().to_string()).collect();
    assert_eq!((free, shown.free_cpus), (vec!["3".to_owned(), "4-6".to_owned()], "3-6".parse().ok()));
}

#[test]
fn what_is_foreseen_is_what_is_given_next_and_nothing_is_taken() {
    let ground = Ground::new();
    let _first = ground.launch(&auto("a", "auto:2")).unwrap();
    let foreseen = ground.ledger.preview(&auto("b", "auto:2"), &no_layout()).unwrap().unwrap();
    assert_eq!(ground.held(), ["a"]);
    let second = ground.launch(&auto("b", "auto:2")).unwrap();
    assert_eq!(second.spec.limits, foreseen.limits);
    assert!(ground.ledger.preview(&auto("c", "auto:5"), &no_layout()).is_err());
}

#[test]
fn a_change_holds_both_until_it_is_settled() {
    let ground = Ground::new();
    let shared = ground.launch(&named("a", "0")).unwrap();
    let _own = ground.launch(&auto("b", "auto:4,numa")).unwrap();
    let (directory, now) = (ground.directory("a"), Holding::of(&shared.spec));
    let wanted = |cpus: &str| Holding { cpus: cpus.parse().ok(), ..Holding::default() };
    let error = ground.ledger.extend("a", &directory, &now, &wanted("3-4")).err().unwrap();
    assert_eq!(who_has(&error), ["b"]);
    assert_eq!(holding_of(&directory).unwrap().unwrap(), now);
    ground.ledger.extend("a", &directory, &now, &wanted("2")).unwrap();
    assert_eq!(holding_of(&directory).unwrap().unwrap().cpus, "0,2".parse().ok());
    claim::note_holding(&directory, &wanted("2")).unwrap();
    assert_eq!(holding_of(&directory).unwrap().unwrap(), wanted("2"));
}
