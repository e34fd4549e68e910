//! A host with many other mounts: every copy of its mount namespace has to copy them.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use squall::cgroup::{Hierarchy, Layout};

use super::Bench;
use crate::command::{timed, within};
use crate::floor::Floor;
use crate::ground::Ground;
use crate::peers::{Kind, Peer};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, interleave};
use crate::{Outcome, container, namespace};

/// How many others.
const COUNTS: [usize; 3] = [0, 100, 500];

/// A mount namespace with so many mounts more, and what runs in it.
struct Host<'g> {
    ground: &'g Ground,
    count: usize,
    namespace: OwnedFd,
    run_root: PathBuf,
    floor: Floor<'g>,
    peers: Vec<(Kind, Peer<'g>)>,
}

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let hosts = COUNTS.iter().map(|count| Host::make(bench, *count)).collect::<Outcome<Vec<_>>>()?;
    let mut candidates = Vec::new();
    for host in &hosts {
        candidates.push(Candidate::new(host.row("floor"), || host.time(host.floor.whole())));
        candidates.push(Candidate::new(host.row("squall run --rm"), || host.time(host.squall())));
        for (kind, peer) in &host.peers {
            let name = host.row(kind.title());
            candidates.push(Candidate::new(name, || host.time(peer.whole_anywhere())));
        }
    }
    let order: Vec<String> = candidates.iter().map(|candidate| candidate.name.clone()).collect();
    let series = interleave(candidates, bench.paced(20), &mut bench.shuffle);
    let floor_of = |row: &str| row.split_once(',').map(|(count, _)| format!("{count}, floor"));
    let title = "A container from start to end, by the host's other mounts, paced";
    let section = Section::new("mounts", title, Unit::Microseconds, series, floor_of).in_order_of(&order);
    Ok(vec![section.note(
        "each in a mount namespace of its own, with the unified hierarchy taken off for everybody, for crun's sake",
    )])
}

impl<'g> Host<'g> {
    fn make(bench: &Bench<'g>, count: usize) -> Outcome<Host<'g>> {
        let ground = bench.ground;
        let directory = ground.bed.work().join(format!("mounts-{count}"));
        let namespace = namespace::copy_with(|| {
            if ground.without_unified.is_some() {
                namespace::take_unified_off()?;
            }
            namespace::add_mounts(count, &directory)
        })?;
        let run_root = ground.bed.directory().join(format!("run-mounts-{count}"));
        let id = format!("mounts-floor-{count}");
        let floor = Floor::among(&layout(ground), ground, &id, &ground.pins(&run_root), container::EXIT)?;
        let peer = |kind: Kind| Peer::new(ground, kind, &format!("mounts-{}-{count}", kind.name()), container::EXIT);
        let peers =
            Kind::runtimes(bench.args).into_iter().map(|kind| Ok((kind, peer(kind)?))).collect::<Outcome<Vec<_>>>()?;
        let host = Host { ground, count, namespace, run_root, floor, peers };
        // Its first launch pins the layers here.
        host.time(host.squall())?;
        Ok(host)
    }

    fn row(&self, name: &str) -> String {
        format!("{} other mounts, {name}", self.count)
    }

    fn squall(&self) -> Command {
        let id = format!("mounts-squall-{}", self.count);
        self.ground.squall_run(&self.run_root, &["--rm"], &id, container::EXIT)
    }

    fn time(&self, command: Command) -> Outcome<f64> {
        Ok(timed(within(command, Some(&self.namespace))?)?.microseconds)
    }
}

/// The hierarchies that are left there.
fn layout(ground: &Ground) -> Layout {
    let all = ground.layout.hierarchies().iter();
    let left = all.filter(|hierarchy| ground.without_unified.is_none() || !hierarchy.is_v2());
    Layout::new(left.cloned().collect::<Vec<Hierarchy>>(), ground.layout.procfs())
}
