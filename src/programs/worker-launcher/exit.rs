//! Why a sub-command failed, and the exit code that Storm's Java and its administrators know it by.

/// The exit codes of Storm's own launcher. Those that it never uses are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Wrong number of arguments; a pid or signal that is no number; a container that could not be
    /// removed.
    Arguments = 1,
    /// There is no such sub-command.
    UnknownCommand = 3,
    /// The supervisor's user cannot open the container's script.
    ContainerScript = 5,
    /// The user's ids could not be taken.
    Ids = 6,
    /// The script could not be executed, or there is no container of that pid.
    Exec = 7,
    /// The user may not signal the process.
    SignalRefused = 8,
    /// There is no such process.
    NoSuchProcess = 9,
    /// `rmr`: the path cannot be looked at.
    Unreadable = 12,
    /// There is nothing to set permissions of.
    NoSuchPath = 21,
    /// The program's own file has the wrong owner or mode.
    Binary = 22,
    /// Configuration, run root or command file.
    Configuration = 24,
    /// The docker program could not be executed.
    DockerExec = 29,
    /// A command or output file cannot be opened.
    OpenFile = 30,
    /// A command file cannot be read.
    ReadFile = 31,
    /// A docker command line with an option that is not allowed.
    DockerCommand = 39,
    /// A docker image whose name is refused.
    DockerImage = 40,
    /// The docker command file could not be read as the supervisor.
    DockerUser = 43,
    /// The container was not started.
    ContainerStart = 44,
    /// Everything else: the original's internal -1.
    Other = 255,
}

/// A sub-command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code that it leads to.
    pub code: Code,
    /// For standard error, one line; empty where everything has been said already.
    pub text: String,
}

impl Failure {
    /// A failure with this text.
    pub fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }
}

/// What has a [`Failure`] for its error.
pub type Result<T> = std::result::Result<T, Failure>;

/// Names the exit code of another library's error.
pub trait WithCode<T> {
    /// The error as a failure with this code; `object` is what was being worked on.
    fn code(self, code: Code, object: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> WithCode<T> for std::result::Result<T, E> {
    fn code(self, code: Code, object: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(code, format!("{object}: {error}")))
    }
}
