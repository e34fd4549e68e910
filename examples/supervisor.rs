//! The smallest supervisor: launches one worker, waits for it, and says how it ended.
//!
//! ```console
//! # supervisor /run/squall /squall/example base.sqsh /bin/true
//! ```
//!
//! The arguments: run root, cgroup of the worker, layer file, program and its arguments.

use std::error::Error;

use squall::request::{Identity, LaunchSpec};
use squall::{Ended, Squall, Stdio};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run_root, cgroup, layer, program @ ..] = arguments.as_slice() else {
        return Err("usage: supervisor RUN_ROOT CGROUP LAYER PROGRAM [ARG…]".into());
    };
    // A program with more than one thread makes a Spawner first; see the example async_supervisor.
    let squall = Squall::builder().run_root(run_root).monitors(format!("{cgroup}/monitors")).build()?;
    let spec = LaunchSpec::builder("supervised")
        .layers([layer])
        .args(program)
        .user(Identity::new(65534, 65534, [])?)
        .cgroup(format!("{cgroup}/supervised"))
        .build()?;
    let ended = squall.launch(&spec, Stdio::inherit()?)?.wait()?;
    match &ended {
        Ended::Exited(exited) => println!("it ended: {:?}, {:?}", exited.exit().exit, exited.exit().reason),
        Ended::Lost(_) => println!("nobody saw it end"),
    }
    ended.remove()?;
    Ok(())
}
