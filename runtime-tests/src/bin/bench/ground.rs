//! What the measures share: the bed, the embedded Squall, the image, the peers' root.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::{Bed, bed};
use squall::cgroup::Layout;
use squall::{Ended, Running, Spawner, Squall, Stdio};

use crate::args::Args;
use crate::{Outcome, bundle, container, floor, images, namespace};

/// As many layers as Storm's images have.
const LAYERS: usize = 7;

/// More pins than the measures make: none is given up on the way.
const KEEP_LAYERS: usize = 512;

/// What the measures share.
pub struct Ground {
    pub bed: Bed,
    /// Squall as a program embeds it, its spawner forked first.
    pub embedded: Squall,
    pub layout: Layout,
    /// The image, base first.
    pub layers: Vec<String>,
    /// What the store calls its layers.
    pub layer_ids: Vec<String>,
    /// The program of the floor.
    pub floor: PathBuf,
    /// Where crun can run.
    pub without_unified: Option<OwnedFd>,
}

/// The program `squall`.
pub fn program(args: &Args) -> Outcome<PathBuf> {
    let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("squall"));
    let path = args.squall.clone().map_or_else(beside, Ok)?;
    let found = path.canonicalize();
    found.map_err(|error| format!("{}: {error}: run runtime-tests/bench, which builds it", path.display()).into())
}

impl Ground {
    /// Makes everything. To be called first, while this process has one thread.
    pub fn make(args: &Args, tag: &str) -> Outcome<Ground> {
        runtime_tests::namespace::leave_the_machines()?;
        let spawner = Spawner::fork()?;
        become_subreaper()?;
        let bed = Bed::new(tag, &program(args)?);
        let embedded = bed.library().keep_layers(KEEP_LAYERS).spawner(spawner).build()?;
        fs::create_dir(shared(&bed))?;
        let layers = images::write(&bed, "image", LAYERS);
        let floor = floor::write_program(&bed)?;
        let layout = Layout::detect()?;
        let mut ground = Ground { bed, embedded, layout, layers, layer_ids: Vec::new(), floor, without_unified: None };
        ground.layer_ids = ground.warm_up()?;
        bundle::mount_root(&ground)?;
        ground.without_unified = namespace::without_unified()?;
        Ok(ground)
    }

    /// The directory that every container has at `/work`.
    pub fn shared(&self) -> String {
        bed::text(&shared(&self.bed))
    }

    /// A first launch: it attaches the layers, and makes the cgroup above all containers.
    fn warm_up(&self) -> Outcome<Vec<String>> {
        let running = self.launch("warm-up", &self.layers, container::EXIT)?;
        let ids = running.record().layers.iter().map(|layer| layer.layer_id.clone()).collect();
        remove(running)?;
        Ok(ids)
    }

    /// Launches by the library.
    pub fn launch(&self, id: &str, layers: &[String], argv: &[&str]) -> Outcome<Running> {
        self.launch_with(id, layers, argv, Stdio::null()?)
    }

    /// The same with streams of its own.
    pub fn launch_with(&self, id: &str, layers: &[String], argv: &[&str], stdio: Stdio) -> Outcome<Running> {
        let spec = container::spec(self, id, layers, argv)?;
        Ok(self.embedded.launch(&spec, stdio)?)
    }

    /// `squall` with our run root, or another.
    pub fn squall(&self, run_root: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(self.bed.program());
        command.arg("--root").arg(run_root).args(["--monitor-cgroup", &self.bed.monitors()]).args(args);
        command
    }

    /// `squall run` of the container.
    pub fn squall_run(&self, run_root: &Path, flags: &[&str], id: &str, argv: &[&str]) -> Command {
        let mut command = self.squall(run_root, &[&["run"], flags].concat());
        command.args(container::flags(self, id, &self.layers, argv));
        command
    }

    /// The pins of the image below a run root, base first.
    pub fn pins(&self, run_root: &Path) -> Vec<PathBuf> {
        self.layer_ids.iter().map(|id| pin(run_root, id)).collect()
    }
}

fn shared(bed: &Bed) -> PathBuf {
    bed.directory().join("shared")
}

/// Where a layer is pinned.
pub fn pin(run_root: &Path, layer_id: &str) -> PathBuf {
    run_root.join("layers").join(layer_id).join("mnt")
}

/// Waits for its end and removes what is kept of it.
pub fn remove(running: Running) -> Outcome<()> {
    match running.wait()? {
        Ended::Exited(exited) => Ok(exited.remove()?),
        Ended::Lost(lost) => Err(format!("container '{}' was lost", lost.record().id).into()),
    }
}

/// Kills it and removes what is kept of it.
pub fn remove_running(running: Running) -> Outcome<()> {
    match running.kill_tree()? {
        Ended::Exited(exited) => Ok(exited.remove()?),
        Ended::Lost(lost) => Err(format!("container '{}' was lost", lost.record().id).into()),
    }
}

/// Workers whose runtime has ended become ours: the host's init may take its time to reap them, and
/// peers wait for that.
fn become_subreaper() -> Outcome<()> {
    Ok(rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?)
}
