//! A supervisor that may be killed at any moment: started again, it finds its worker, running or
//! ended, and says how it ended.
//!
//! ```console
//! # reattach /run/squall /squall/example base.sqsh /bin/sleep 1000
//! ```
//!
//! The arguments: run root, cgroup of the worker, layer file, program and its arguments.

use std::error::Error;
use std::time::Duration;

use squall::request::{Identity, LaunchSpec};
use squall::{Container, Ended, ErrorKind, Squall, Stdio};

const ID: &str = "kept";

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run_root, cgroup, layer, program @ ..] = arguments.as_slice() else {
        return Err("usage: reattach RUN_ROOT CGROUP LAYER PROGRAM [ARG…]".into());
    };
    let squall = Squall::builder().run_root(run_root).monitors(format!("{cgroup}/monitors")).build()?;
    let container = match squall.attach(ID) {
        Ok(container) => {
            println!("found {}", container.phase().name());
            container
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let spec = LaunchSpec::builder(ID).layers([layer]).args(program).cgroup(format!("{cgroup}/{ID}"));
            let spec = spec.user(Identity::new(65534, 65534, [])?).build()?;
            let running = squall.launch(&spec, Stdio::null()?)?;
            println!("launched");
            Container::Running(running)
        }
        Err(error) => return Err(error.into()),
    };
    let ended = end_of(container)?;
    match &ended {
        Ended::Exited(exited) => println!("it ended: {:?}", exited.exit().exit),
        Ended::Lost(_) => println!("nobody saw it end"),
    }
    ended.remove()?;
    Ok(())
}

/// Waits for the end of a container, in whatever phase it was found.
fn end_of(container: Container) -> Result<Ended, Box<dyn Error>> {
    Ok(match container {
        // Of a launch that was killed with this program, `abandon` clears away what is there.
        Container::Launching(launching) => match launching.settle(Duration::from_secs(40))? {
            Container::Launching(_) => return Err("its launch died half way".into()),
            settled => end_of(settled)?,
        },
        Container::Created(created) => created.start()?.wait()?,
        Container::Running(running) => running.wait()?,
        Container::Paused(paused) => paused.resume()?.wait()?,
        Container::Exited(exited) => Ended::Exited(exited),
        Container::Lost(lost) => Ended::Lost(lost),
        other => return Err(format!("a later version knows what {} is", other.phase().name()).into()),
    })
}
