//! Our way: the library.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};

use runtime_tests::{Bed, call};
use squall::record::Exit;
use squall::request::LaunchSpec;
use squall::{Ended, Running, Stdio};

/// A container of ours.
pub struct Launched {
    running: Running,
    output: File,
    stdin: Option<OwnedFd>,
}

/// Launches it. It goes on when the input that it is given ends.
pub fn launch(bed: &Bed, spec: &LaunchSpec) -> Launched {
    let squall = bed.library().build().unwrap();
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let output = call::memory_file("output").unwrap();
    let streams =
        [reading, output.try_clone().unwrap().into(), std::io::stderr().as_fd().try_clone_to_owned().unwrap()];
    let running = squall.launch(spec, Stdio::new(streams)).unwrap_or_else(|error| panic!("{error}"));
    Launched { running, output, stdin: Some(writing) }
}

impl Launched {
    /// Its init, on the host.
    pub fn pid(&self) -> u32 {
        self.running.record().init.pid as u32
    }

    /// Waits for its end; what it wrote.
    pub fn output(mut self) -> String {
        drop(self.stdin.take());
        let ended = self.running.wait().unwrap();
        let Ended::Exited(exited) = &ended else { panic!("{ended:?}") };
        assert_eq!(exited.exit().exit, Exit::Code { code: 0 }, "{ended:?}");
        ended.remove().unwrap();
        let mut text = String::new();
        self.output.rewind().and_then(|()| self.output.read_to_string(&mut text)).unwrap();
        text
    }
}
