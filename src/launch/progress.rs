//! The line between a launch process and its caller: how far the launch has got, and what came of
//! it.
//!
//! ```text
//! launch → caller   0xfe | u32 pid, a byte for each stage that begins (`Stage`'s number), and at the end
//!                   0xff | u32 length | the answer as text
//! caller → launch   one byte: given up
//! ```
//!
//! So a launch that hangs, in a file system that does not answer for example, is known by its
//! stage, and its caller need not hang with it. A caller that dies gives nothing up: the container
//! lives on without it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::{Deserialize, Serialize};

use super::PATIENCE;
use crate::crash::{self, Role};
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::stage::Stage;
use crate::state::record::LaunchRecord;
use crate::wait::is_readable_by;

/// Before an answer.
const ANSWER_MARK: u8 = 0xff;

/// Before the launch process's pid.
const PID_MARK: u8 = 0xfe;

/// How long a caller hears nothing before it gives up, while the launch process works alone:
/// opening or mounting a layer is what takes long, on a cold network file system for example.
const SILENCE: Duration = Duration::from_secs(25);

/// So often a silence is borne once more where the launch process is not waiting for anything but a
/// processor: on a machine with very much to do.
const TIMES_MORE: u32 = 3;

/// The same once there is an init: longer than the launch process itself waits for it, because its
/// own word says more.
const SILENCE_WITH_INIT: Duration = PATIENCE.saturating_add(Duration::from_secs(5));

/// What came of a launch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Its spec is null where it is the caller's own.
    Launched(Box<LaunchRecord>),
    Failed(Error),
}

/// The launch process's end.
pub(crate) struct Line(OwnedFd);

impl Line {
    pub(crate) fn new(socket: OwnedFd) -> Line {
        crash::point(Role::Launch, Stage::Request);
        let mut hello = [PID_MARK, 0, 0, 0, 0];
        hello[1..].copy_from_slice(&std::process::id().to_le_bytes());
        let _ = send(&socket, &hello, SendFlags::NOSIGNAL);
        Line(socket)
    }

    /// A stage begins.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: the caller has given the launch up, so it is to be taken back.
    pub(crate) fn enter(&self, stage: Stage) -> Result<()> {
        self.announce(stage);
        let mut word = [0];
        match recv(&self.0, &mut word, RecvFlags::DONTWAIT) {
            Ok((1.., _)) => Err(Error::new(ErrorKind::TimedOut, stage, "launch process", "recv", Cause::GivenUp)),
            // A caller that has died, or is simply waiting.
            _ => Ok(()),
        }
    }

    /// As [`Line::enter`], where there is no way back, or this is it.
    pub(crate) fn announce(&self, stage: Stage) {
        self.go_on(stage);
        crash::point(Role::Launch, stage);
    }

    /// The stage takes longer, and something of it is done.
    pub(crate) fn go_on(&self, stage: Stage) {
        let _ = send(&self.0, &[stage as u8], SendFlags::NOSIGNAL);
    }

    /// The last word.
    pub(crate) fn answer(self, answer: &Answer) {
        let text = serde_json::to_vec(answer).expect("an answer is plain data");
        let mut message = vec![ANSWER_MARK];
        message.extend((text.len() as u32).to_le_bytes());
        message.extend(text);
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            match send(&self.0, rest, SendFlags::NOSIGNAL) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                // The caller has gone, and the container lives on without it.
                Err(_) => return,
            }
        }
    }
}

/// The caller's side: waits for the answer. The launch process's death without one is an error of
/// its own, and so is its silence, after which it takes back what it has made as soon as it can.
pub(crate) fn receive(socket: OwnedFd) -> Result<LaunchRecord> {
    receive_within(socket, |at| if at < Stage::Clone { SILENCE } else { SILENCE_WITH_INIT })
}

fn receive_within(socket: OwnedFd, silence: impl Fn(Stage) -> Duration) -> Result<LaunchRecord> {
    const OBJECT: &str = "launch process";
    let mut at = Stage::Request;
    let mut stream = File::from(socket);
    let (mut pid, mut silences) = (None, 0);
    loop {
        let deadline = Instant::now() + silence(at);
        if !is_readable_by(stream.as_fd(), Some(deadline)).at(at, OBJECT, "poll")? {
            silences += 1;
            if silences <= TIMES_MORE && pid.is_some_and(is_at_work) {
                continue;
            }
            let _ = send(&stream, &[0], SendFlags::NOSIGNAL);
            return Err(silent(at, silence(at) * silences, pid));
        }
        silences = 0;
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|_| died(at))?;
        match (byte[0], Stage::from_byte(byte[0])) {
            (PID_MARK, _) => {
                let mut number = [0; 4];
                stream.read_exact(&mut number).map_err(|_| died(at))?;
                pid = Some(u32::from_le_bytes(number));
            }
            (_, Some(stage)) => at = stage,
            (_, None) => break,
        }
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(|_| died(at))?;
    let mut text = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut text).map_err(|_| died(at))?;
    match serde_json::from_slice(&text) {
        Ok(Answer::Launched(record)) => Ok(*record),
        Ok(Answer::Failed(error)) => Err(error),
        Err(error) => Err(Error::malformed(at, OBJECT, "parse", error)),
    }
}

fn died(at: Stage) -> Error {
    let text =
        "it died without an answer; `squall ps` tells whether the worker runs, `squall reap` clears what else is left";
    Error::process_ended(at, "launch process", "read", None, text)
}

fn silent(at: Stage, silence: Duration, pid: Option<u32>) -> Error {
    let what = match at {
        Stage::Request | Stage::Layers => "the file system that holds a layer does not answer, perhaps",
        Stage::Binds => "the file system of a bind's source does not answer, perhaps",
        _ => "a file system or device that it needs does not answer, perhaps",
    };
    let place = pid.and_then(waits_in).map_or_else(String::new, |place| format!(" (it waits in the kernel's {place})"));
    let text = format!("no progress: {what}{place}");
    let pid = pid.and_then(|pid| pid.try_into().ok());
    Error::timed_out(at, "launch process", "read", silence, text).of_process(pid)
}

/// Whether a thread of the process is running, or would if it had a processor.
fn is_at_work(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // The state comes after the name, which may contain anything.
    let state = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'));
    threads.map(|thread| std::fs::read_to_string(thread.path().join("stat"))).any(|stat| stat.is_ok_and(state))
}

/// The function of the kernel that the process sleeps in, where the kernel tells.
fn waits_in(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok().filter(|name| !name.is_empty() && name != "0")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Line, OwnedFd) {
        let (launch, caller) = UnixStream::pair().unwrap();
        (Line::new(launch.into()), caller.into())
    }

    #[test]
    fn an_error_arrives_after_the_stages_before_it() {
        let (line, caller) = pair();
        let error = Error::system(Stage::Layers, "layer '/a'", "fsconfig", crate::error::Errno(libc::EINVAL));
        line.enter(Stage::Claim).unwrap();
        line.enter(Stage::Layers).unwrap();
        line.answer(&Answer::Failed(error.clone()));
        assert_eq!(receive(caller).unwrap_err(), error);
    }

    #[test]
    fn a_death_without_an_answer_names_the_stage() {
        let (line, caller) = pair();
        line.enter(Stage::Cgroup).unwrap();
        drop(line);
        let error = receive(caller).unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::System, Stage::Cgroup));
    }

    #[test]
    fn a_silent_launch_is_given_up_with_its_stage_and_learns_of_it() {
        let (line, caller) = pair();
        line.enter(Stage::Layers).unwrap();
        let error = receive_within(caller, |_| Duration::from_millis(1)).unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::TimedOut, Stage::Layers));
        assert_eq!(line.enter(Stage::Cgroup).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn who_waits_is_told_from_who_works() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut idle = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        // The first moments are those of the shell's own beginning.
        let settled = |at_work: bool, pid| (0..20).all(|_| is_at_work(pid) == at_work);
        while !(settled(true, busy.id()) && settled(false, idle.id())) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let seen = (is_at_work(busy.id()), is_at_work(idle.id()), waits_in(idle.id()));
        for child in [&mut busy, &mut idle] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!((seen.0, seen.1), (true, false));
        assert!(!is_at_work(u32::MAX) && waits_in(u32::MAX).is_none());
        // Only with CONFIG_KALLSYMS is there a name.
        assert!(seen.2.is_none_or(|name| name.contains("sleep")));
    }

    #[test]
    fn a_caller_that_died_has_given_nothing_up() {
        let (line, caller) = pair();
        drop(caller);
        line.enter(Stage::Layers).unwrap();
        line.answer(&Answer::Failed(died(Stage::Layers)));
    }
}
