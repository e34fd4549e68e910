//! What init tells the launch process: how far it got, when, and why it failed.
//!
//! One close-on-exec pipe carries it. End of file without an error means that the workload runs;
//! the time of each stage comes along. Of a container that is only created, the launch process
//! reads as far as init's word that it is ready, and the monitor has the rest.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::init::workload::refused;
use super::job::Goal;
use crate::crash::{self, Role};
use crate::error::{Context, Error, Result};
use crate::host::monotonic_ns;
use crate::lsm::Confinement;
use crate::request::LaunchSpec;
use crate::seccomp;
use crate::stage::Stage;
use crate::sys;
use crate::wait::is_readable_by;

const STAGE_RECORD: usize = 1 + 8;
const ERROR_MARK: u8 = 0xff;
/// An errno follows, of execve, seccomp, looking at `/proc`, opening and writing the attribute that
/// confines the worker: what the program between init and the workload has to say
/// (`exec_stub/main.rs`).
const EXECVE_MARK: u8 = 0xfe;
const SECCOMP_MARK: u8 = 0xfd;
const PROC_MARK: u8 = 0xfc;
const ATTRIBUTE_MARK: u8 = 0xfb;
const LABEL_MARK: u8 = 0xfa;
/// Nothing is left to do but to become the workload.
const READY_MARK: u8 = 0xf9;

/// The writing end, held by init.
pub(crate) struct Reporter<'a>(pub(crate) BorrowedFd<'a>);

impl Reporter<'_> {
    /// A stage begins. Without a launch process nobody would ever watch this container, so init
    /// ends with it.
    pub(crate) fn enter(&self, stage: Stage) {
        crash::point(Role::Init, stage);
        let mut record = [0; STAGE_RECORD];
        record[0] = stage as u8;
        record[1..].copy_from_slice(&monotonic_ns().to_le_bytes());
        if rustix::io::write(self.0, &record) == Err(rustix::io::Errno::PIPE) {
            sys::exit_now(1);
        }
    }

    /// All that is left is the exec.
    pub(crate) fn ready(&self) {
        let _ = rustix::io::write(self.0, &[READY_MARK]);
    }

    /// Init cannot go on.
    pub(crate) fn fail(&self, error: &Error) {
        let mut text = vec![ERROR_MARK];
        text.extend(serde_json::to_vec(error).unwrap_or_default());
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(self.0, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// How init's first steps ended.
pub(crate) enum Outcome {
    /// The pipe closed at exec.
    Executed,
    /// Init was ready to become the workload, and did not.
    Ready,
    /// Init said why it stopped.
    Failed(Error),
    /// The pipe closed before exec, without a word: init was killed, at this stage.
    Vanished(Stage),
}

/// The stages init passed and when each began, and how it ended.
pub(crate) struct Report {
    pub(crate) entered: Vec<(Stage, u64)>,
    pub(crate) outcome: Outcome,
}

/// Reads until init has become the workload, or is ready to where that is the goal; or has failed
/// or died; at most until the deadline.
pub(crate) fn read_report(pipe: &OwnedFd, spec: &LaunchSpec, goal: Goal, patience: Duration) -> Result<Report> {
    let bytes = read_to_goal(pipe, goal, patience)?;
    Ok(parse(&bytes, Some(spec)))
}

/// Why a container that was created could not be started, by what init reported from then on. The
/// spec is for names in the error.
pub(crate) fn start_failure(said: &[u8], spec: Option<&LaunchSpec>) -> Error {
    match parse(said, spec).outcome {
        Outcome::Failed(error) => error,
        _ => Error::process_ended(Stage::Become, "init", "wait", None, "it was killed before it became the workload"),
    }
}

fn parse(bytes: &[u8], spec: Option<&LaunchSpec>) -> Report {
    let mut entered = Vec::new();
    let mut ready = false;
    let mut rest = bytes;
    while let [mark, ..] = rest {
        if *mark == ERROR_MARK {
            let error = serde_json::from_slice(&rest[1..]).unwrap_or_else(|_| cut_short());
            return Report { entered, outcome: Outcome::Failed(error) };
        }
        if *mark == READY_MARK {
            (ready, rest) = (true, &rest[1..]);
            continue;
        }
        if let [mark @ LABEL_MARK..=EXECVE_MARK, a, b, c, d] = rest {
            let error = said_in_between(*mark, i32::from_le_bytes([*a, *b, *c, *d]), spec);
            return Report { entered, outcome: Outcome::Failed(error) };
        }
        let (Some(stage), Some(instant)) = (Stage::from_byte(*mark), rest.get(1..STAGE_RECORD)) else { break };
        let instant = u64::from_le_bytes(instant.try_into().unwrap_or_default());
        entered.push((stage, instant));
        rest = &rest[STAGE_RECORD..];
    }
    let outcome = match entered.last() {
        Some((Stage::Become, _)) => Outcome::Executed,
        _ if ready => Outcome::Ready,
        Some((stage, _)) => Outcome::Vanished(*stage),
        None => Outcome::Vanished(Stage::Clone),
    };
    Report { entered, outcome }
}

/// The error behind a mark of the program between init and the workload.
fn said_in_between(mark: u8, errno: i32, spec: Option<&LaunchSpec>) -> Error {
    let confinement = spec.and_then(Confinement::of);
    match (mark, confinement) {
        (PROC_MARK, Some(confinement)) if errno == 0 => confinement.no_procfs(),
        (PROC_MARK, Some(confinement)) => confinement.not_applied("openat(/proc)", errno),
        (ATTRIBUTE_MARK, Some(confinement)) => {
            confinement.not_applied(&format!("openat(/proc/{})", confinement.attribute()), errno)
        }
        (LABEL_MARK, Some(confinement)) => {
            confinement.not_applied(&format!("write(/proc/{})", confinement.attribute()), errno)
        }
        (SECCOMP_MARK, _) => seccomp::refused(std::io::Error::from_raw_os_error(errno)),
        (_, confinement) => {
            let program = spec.map_or("", |spec| spec.args[0].as_str());
            let program = CString::new(program).unwrap_or_default();
            let error = refused(&program, "execve", std::io::Error::from_raw_os_error(errno));
            confinement.map_or(error.clone(), |confinement| confinement.explain(error))
        }
    }
}

fn read_to_goal(pipe: &OwnedFd, goal: Goal, patience: Duration) -> Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    const OBJECT: &str = "init's report";
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        if !is_readable_by(pipe.as_fd(), Some(deadline)).at(Stage::Clone, OBJECT, "poll")? {
            return Err(too_slow(&bytes, patience));
        }
        match rustix::io::read(pipe.as_fd(), &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(length) => {
                bytes.extend_from_slice(&buffer[..length]);
                // It says no more before it is let go.
                if goal == Goal::Create && matches!(parse(&bytes, None).outcome, Outcome::Ready) {
                    return Ok(bytes);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Stage::Clone, OBJECT, "read"),
        }
    }
}

fn too_slow(bytes: &[u8], patience: Duration) -> Error {
    let stage = bytes.chunks_exact(STAGE_RECORD).filter_map(|record| Stage::from_byte(record[0])).next_back();
    let stage = stage.unwrap_or(Stage::Clone);
    Error::timed_out(stage, "init", "poll", patience, "it did not get any further in time")
}

fn cut_short() -> Error {
    Error::process_ended(Stage::Init, "init", "read", None, "it ended while reporting an error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::monitor::handover::has_started;

    fn spec() -> LaunchSpec {
        let user = crate::request::Identity::new(1, 1, [1]).unwrap();
        LaunchSpec::builder("a").layers(["/a"]).args(["/program"]).user(user).cgroup("/a").build().unwrap()
    }

    #[test]
    fn an_errno_of_the_program_in_between_is_the_workloads() {
        let report = report_of(|reporter| {
            reporter.enter(Stage::Become);
            let _ = rustix::io::write(reporter.0, &[EXECVE_MARK, libc::ENOEXEC as u8, 0, 0, 0]);
        });
        let Outcome::Failed(error) = report.outcome else { panic!("it did not fail") };
        assert_eq!((error.kind(), error.errno()), (ErrorKind::ProgramNotExecutable, Some(libc::ENOEXEC)));
        assert_eq!(error.object(), "program '/program'");
    }

    #[test]
    fn what_could_not_be_applied_is_named_with_its_call() {
        let spec = LaunchSpec::try_from(crate::request::Fields {
            apparmor: crate::request::AppArmor::new("x").unwrap(),
            ..spec().into_fields()
        });
        let spec = spec.unwrap();
        for (mark, errno, call) in [
            (PROC_MARK, 0, "fstatfs(/proc)"),
            (PROC_MARK, libc::ENOENT, "openat(/proc)"),
            (ATTRIBUTE_MARK, libc::EXDEV, "openat(/proc/self/attr/apparmor/exec)"),
            (LABEL_MARK, libc::EACCES, "write(/proc/self/attr/apparmor/exec)"),
        ] {
            let error = said_in_between(mark, errno, Some(&spec));
            assert_eq!((error.object(), error.call()), ("AppArmor profile 'x'", call));
            assert_eq!((error.stage(), error.errno().unwrap_or(0)), (Stage::Become, errno), "{error}");
        }
    }

    fn report_of(write: impl FnOnce(&Reporter<'_>)) -> Report {
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        write(&Reporter(writing.as_fd()));
        drop(writing);
        read_report(&reading, &spec(), Goal::Start, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn end_of_file_after_the_exec_stage_is_success() {
        let report = report_of(|reporter| {
            reporter.enter(Stage::Root);
            reporter.enter(Stage::Become);
        });
        assert!(matches!(report.outcome, Outcome::Executed));
        assert_eq!(report.entered.iter().map(|(stage, _)| *stage).collect::<Vec<_>>(), [Stage::Root, Stage::Become]);
    }

    #[test]
    fn a_created_one_is_read_up_to_its_word_that_it_is_ready_and_the_rest_is_the_monitors() {
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        let reporter = Reporter(writing.as_fd());
        reporter.enter(Stage::Init);
        reporter.ready();
        let report = read_report(&reading, &spec(), Goal::Create, Duration::from_secs(5)).unwrap();
        assert!(matches!(report.outcome, Outcome::Ready));
        let rest = || {
            let mut bytes = [0; 256];
            let length = rustix::io::read(&reading, &mut bytes).unwrap();
            bytes[..length].to_vec()
        };
        reporter.enter(Stage::Become);
        let started = rest();
        assert!(has_started(&started), "{started:?}");
        let _ = rustix::io::write(reporter.0, &[EXECVE_MARK, libc::ENOEXEC as u8, 0, 0, 0]);
        let failed = [started, rest()].concat();
        assert!(!has_started(&failed));
        assert_eq!(start_failure(&failed, Some(&spec())).errno(), Some(libc::ENOEXEC));
        let killed = start_failure(&[], None);
        assert_eq!((killed.kind(), killed.stage()), (ErrorKind::System, Stage::Become));
    }

    #[test]
    fn an_early_end_names_the_stage_it_happened_in() {
        let report = report_of(|reporter| reporter.enter(Stage::Init));
        assert!(matches!(report.outcome, Outcome::Vanished(Stage::Init)));
    }

    #[test]
    fn an_error_arrives_as_it_was() {
        let error = Error::system(Stage::Mounts, "/data", "move_mount", crate::error::Errno(libc::EINVAL));
        let report = report_of(|reporter| {
            reporter.enter(Stage::Mounts);
            reporter.fail(&error);
        });
        assert!(matches!(report.outcome, Outcome::Failed(found) if found == error));
    }

    #[test]
    fn a_silent_init_is_given_up_after_the_patience_asked_for() {
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        Reporter(writing.as_fd()).enter(Stage::Mounts);
        let error = read_report(&reading, &spec(), Goal::Start, Duration::from_millis(1)).err().unwrap();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::TimedOut, Stage::Mounts));
    }
}
