//! A further program for a running container, as a caller asks for it.

use std::path::Path;
use std::time::Duration;

use super::environment::{Environment, Variable};
use super::identity::Identity;
use super::path::AbsolutePath;
use super::seccomp::Seccomp;
use super::spec::{LaunchSpec, OnExit};
use crate::document::{BadValue, Capped};
use crate::error::{Error, Problem, Result};

const OBJECT: &str = "exec spec";

/// A program to be executed in a running container ([`Squall::exec`](crate::Squall::exec)).
///
/// What is not said here is the container's own: user and groups, environment, working directory,
/// seccomp filter, AppArmor profile or SELinux label. In any case it has the container's namespaces,
/// root and cgroup, no capability, and no_new_privs.
///
/// ```
/// use squall::request::ExecSpec;
///
/// let spec = ExecSpec::new(["jstack", "1"]).env(["LANG=C"]).timeout(std::time::Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
pub struct ExecSpec {
    args: Vec<String>,
    env: Vec<Variable>,
    env_seen: usize,
    cwd: Option<AbsolutePath>,
    user: Option<Identity>,
    timeout: Option<Duration>,
    seccomp: Option<Seccomp>,
    problems: Capped<Problem>,
}

impl ExecSpec {
    /// A program and its arguments. A name without `/` is looked for in the environment's PATH,
    /// inside the container.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> ExecSpec {
        ExecSpec {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            env_seen: 0,
            cwd: None,
            user: None,
            timeout: None,
            seccomp: None,
            problems: Capped::default(),
        }
    }

    /// Further variables, `NAME=VALUE`: each is added to the container's, or takes the place of the
    /// one of its name.
    pub fn env<S: Into<String>>(mut self, variables: impl IntoIterator<Item = S>) -> ExecSpec {
        for text in variables {
            let field = format!("env[{}]", self.env_seen);
            self.env_seen += 1;
            let variable = self.noting(field, Variable::new(text));
            self.env.extend(variable);
        }
        self
    }

    /// The working directory, an absolute path inside the container.
    pub fn cwd(mut self, path: impl AsRef<Path>) -> ExecSpec {
        self.cwd = self.noting("cwd".to_owned(), AbsolutePath::new(path));
        self
    }

    /// Another user than the container's, with its groups. HOME is that user's where the container's
    /// own was looked up in the image ([`Home::OfImage`](super::Home::OfImage)).
    pub fn user(mut self, user: Identity) -> ExecSpec {
        self.user = Some(user);
        self
    }

    /// How long it may run: then it gets SIGTERM and, 10 seconds later, SIGKILL. Processes that it
    /// has left behind belong to the container, and stay.
    pub fn timeout(mut self, timeout: Duration) -> ExecSpec {
        self.timeout = Some(timeout);
        self
    }

    /// Another filter than the container's. [`Seccomp::Unconfined`] lets a debugger do what the
    /// worker may not; uid 0 is denied what it always is.
    pub fn seccomp(mut self, seccomp: Seccomp) -> ExecSpec {
        self.seccomp = Some(seccomp);
        self
    }

    /// The container's spec with this program in the place of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with every problem.
    pub(crate) fn applied_to(&self, container: &LaunchSpec) -> Result<LaunchSpec> {
        let mut fields = container.clone().into_fields();
        fields.args.clone_from(&self.args);
        let variables = fields.env.variables().iter().chain(&self.env);
        fields.env = variables.cloned().collect::<Environment>();
        if let Some(cwd) = &self.cwd {
            fields.cwd = cwd.clone();
        }
        if let Some(user) = &self.user {
            fields.user = user.clone();
        }
        if let Some(seccomp) = &self.seccomp {
            fields.seccomp = seccomp.clone();
        }
        fields.timeout = self.timeout;
        fields.pid_file = None;
        fields.exit_file = None;
        fields.on_exit = OnExit::Keep;
        fields.log = None;
        let mut problems = self.problems.clone().into_problems("exec spec");
        match LaunchSpec::try_from(fields) {
            Ok(spec) if problems.is_empty() => return Ok(spec),
            Ok(_) => {}
            Err(error) => problems.extend(error.problems().iter().cloned()),
        }
        Err(Error::invalid(OBJECT, problems))
    }

    fn noting<T>(&mut self, field: String, value: std::result::Result<T, BadValue>) -> Option<T> {
        value.map_err(|bad| self.problems.push(bad.at(field))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> LaunchSpec {
        let builder = LaunchSpec::builder("one").layers(["/a"]).args(["/bin/worker"]).cgroup("/squall/one");
        let builder = builder.env(["PATH=/bin", "A=1"]).cwd("/srv").user(Identity::new(7, 8, [9]).unwrap());
        builder.timeout(Duration::from_secs(5)).pid_file("/run/one.pid").build().unwrap()
    }

    #[test]
    fn what_is_not_said_is_the_containers_own() {
        let spec = ExecSpec::new(["ps"]).applied_to(&container()).unwrap();
        assert_eq!((spec.args.as_slice(), spec.cwd.as_str()), (&["ps".to_owned()][..], "/srv"));
        assert_eq!((&spec.user, &spec.env), (&container().user, &container().env));
        assert_eq!((spec.timeout, &spec.pid_file), (None, &None), "these are the worker's alone");
    }

    #[test]
    fn what_is_said_takes_its_place() {
        let user = Identity::new(1, 1, []).unwrap();
        let exec = ExecSpec::new(["ps", "-e"]).env(["A=2", "B=3"]).cwd("/tmp").user(user.clone());
        let spec = exec.seccomp(Seccomp::Unconfined).timeout(Duration::from_secs(1)).applied_to(&container()).unwrap();
        let variables: Vec<&str> = spec.env.variables().iter().map(|variable| variable.as_str()).collect();
        assert_eq!((variables.as_slice(), spec.cwd.as_str()), (&["PATH=/bin", "A=2", "B=3"][..], "/tmp"));
        assert_eq!((&spec.user, spec.timeout), (&user, Some(Duration::from_secs(1))));
        assert_eq!(spec.seccomp, Seccomp::Unconfined);
    }

    #[test]
    fn every_problem_is_named() {
        let exec = ExecSpec::new(Vec::<String>::new()).env(["A=1", "=2"]).cwd("tmp").timeout(Duration::ZERO);
        let error = exec.applied_to(&container()).unwrap_err();
        let fields: Vec<&str> = error.problems().iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["env[1]", "cwd", "args", "timeout"]);
    }
}
