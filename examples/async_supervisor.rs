//! An asynchronous supervisor: launches two workers, waits for both and for what happens in the run
//! root, in one thread of tokio.
//!
//! ```console
//! # async_supervisor /run/squall /squall/example base.sqsh /bin/true
//! ```
//!
//! The arguments: run root, cgroup of the workers, layer file, program and its arguments.

use std::error::Error;
use std::sync::Arc;

use squall::request::{Identity, LaunchSpec};
use squall::{Change, Ended, Spawner, Squall, Stdio};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const IDS: [&str; 2] = ["left", "right"];

pub(crate) fn main() -> Outcome<()> {
    // First of all: the spawner is a copy of this program while it has one thread.
    let spawner = Spawner::fork()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run_root, cgroup, layer, program @ ..] = arguments.as_slice() else {
        return Err("usage: async_supervisor RUN_ROOT CGROUP LAYER PROGRAM [ARG…]".into());
    };
    let builder = Squall::builder().run_root(run_root).monitors(format!("{cgroup}/monitors")).spawner(spawner);
    let squall = Arc::new(builder.build()?);
    let mut specs = Vec::new();
    for id in IDS {
        let spec = LaunchSpec::builder(id).layers([layer]).args(program).cgroup(format!("{cgroup}/{id}"));
        specs.push(spec.user(Identity::new(65534, 65534, [])?).build()?);
    }
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(supervise(squall, specs))
}

async fn supervise(squall: Arc<Squall>, specs: Vec<LaunchSpec>) -> Outcome<()> {
    let mut events = squall.events()?;
    let workers: Vec<_> = specs.into_iter().map(|spec| tokio::spawn(run(Arc::clone(&squall), spec))).collect();
    // Whatever happens in this run root, whoever makes it happen.
    let mut ended = 0;
    while ended < IDS.len() {
        let event = events.next_async().await?;
        println!("{}: {}", event.id, event.change.name());
        let is_end = matches!(event.change, Change::Exited(_) | Change::Lost(_));
        ended += usize::from(is_end && IDS.contains(&event.id.as_str()));
    }
    for worker in workers {
        match worker.await?? {
            Ended::Exited(exited) => {
                println!("{}: {:?}", exited.record().id, exited.exit().exit);
                exited.remove()?;
            }
            Ended::Lost(lost) => println!("{}: nobody saw it end", lost.record().id),
        }
    }
    Ok(())
}

/// A launch takes some milliseconds and blocks; waiting does not.
async fn run(squall: Arc<Squall>, spec: LaunchSpec) -> Outcome<Ended> {
    let launched = tokio::task::spawn_blocking(move || squall.launch(&spec, Stdio::null()?)).await??;
    Ok(launched.wait_async().await?)
}
