//! A docker command line: the first line of the file that Storm writes, as docker is given it.
//!
//! Words are separated by runs of spaces, nothing is quoted. They are taken as getopt_long(3) takes
//! them: long options may be shortened as long as they stay unambiguous, and options and other
//! words may be mixed; options come out first. Who owns the file proves little about its text: a
//! user can move another file of the supervisor's, with words of the user's own in it, to that
//! place. So what is asked of docker is checked as well: the sub-commands and options that Storm
//! uses, and values that give a container no more than Storm's own ones do.

mod getopt;
mod image;
mod mount;
mod options;
mod values;

use std::fmt;

use squall::request::Identity;

pub use image::is_image;
pub use mount::MountSource;
pub use options::{Kind, KnownOption};
use options::{OPTIONS, Takes};

/// A docker command line whose words are all known and allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerLine {
    /// The directory of the client's configuration, where the line begins with `--config=`.
    pub config: Option<String>,
    /// The sub-command.
    pub command: Command,
    /// The options, in the order given.
    pub options: Vec<Given>,
    /// Everything else, in the order given: the image and the worker's command, or container ids.
    pub operands: Vec<String>,
}

/// The sub-commands of docker that Storm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `docker run`
    Run,
    /// `docker ps`
    Ps,
    /// `docker wait`
    Wait,
    /// `docker stop`
    Stop,
    /// `docker kill`
    Kill,
    /// `docker rm`
    Rm,
    /// `docker inspect`
    Inspect,
    /// `docker pull`
    Pull,
}

impl Command {
    const ALL: [(Command, &'static str); 8] = [
        (Command::Run, "run"),
        (Command::Ps, "ps"),
        (Command::Wait, "wait"),
        (Command::Stop, "stop"),
        (Command::Kill, "kill"),
        (Command::Rm, "rm"),
        (Command::Inspect, "inspect"),
        (Command::Pull, "pull"),
    ];

    /// An unknown one would make docker look for a plugin of that name.
    fn named(text: &str) -> Result<Command, Refused> {
        let known = Command::ALL.iter().find(|(_, name)| *name == text);
        known.map(|(command, _)| *command).ok_or_else(|| Refused::line(format!("'{text}' is no allowed sub-command")))
    }

    /// What docker calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Command::ALL.iter().find(|(command, _)| *command == self).map_or("", |(_, name)| name)
    }
}

/// An option as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Which one; shortened names are whole here.
    pub option: &'static KnownOption,
    /// Its value, where it has one.
    pub value: Option<String>,
    /// Whether the value follows after `=`; else it is a word of its own.
    pub joined: bool,
}

/// Why a line does not reach docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whether it is the image's name; else it is the line.
    pub image: bool,
    /// What is wrong, without the line.
    pub text: String,
}

impl Refused {
    /// The line is refused.
    #[must_use]
    pub fn line(text: impl Into<String>) -> Refused {
        Refused { image: false, text: text.into() }
    }

    fn image(name: &str) -> Refused {
        Refused { image: true, text: format!("'{name}' is no image name") }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl DockerLine {
    /// Takes a line apart, without its line end. Values are not looked at yet.
    ///
    /// # Errors
    /// A control character, an unknown sub-command, an option that this sub-command is not allowed,
    /// or a word that docker would take for an option where this takes it for another.
    pub fn parse(line: &str) -> Result<DockerLine, Refused> {
        if line.chars().any(char::is_control) {
            return Err(Refused::line("there is a control character in it"));
        }
        let mut words = line.split(' ').filter(|word| !word.is_empty()).peekable();
        let config = words.next_if(|word| word.starts_with("--config="));
        let config = config.and_then(|word| word.strip_prefix("--config=")).map(str::to_owned);
        let command = Command::named(words.next().ok_or_else(|| Refused::line("there is no sub-command"))?)?;
        let (options, operands) = getopt::sort(words)?;
        if let Some(other) = options.iter().find(|given| !given.option.commands.contains(&command)) {
            let text = format!("docker {} is not allowed '{}'", command.name(), other.option.name);
            return Err(Refused::line(text));
        }
        // Behind `--` they are no options here, but docker gets no `--`.
        if let Some(operand) = operands.iter().find(|operand| operand.starts_with('-')) {
            return Err(Refused::line(format!("'{operand}' is no option here, and would be one to docker")));
        }
        Ok(DockerLine { config, command, options, operands })
    }

    /// Checks all values but those that name something on the host: those are in
    /// [`DockerLine::mount_sources`], [`DockerLine::seccomp_profiles`] and [`DockerLine::config`].
    ///
    /// # Errors
    /// What the container would have more than Storm gives it: another user, a group that the user
    /// is not in, capabilities, devices, another container's network.
    pub fn check(&self, user: &Identity) -> Result<(), Refused> {
        for given in &self.options {
            let value = given.value.as_deref().unwrap_or_default();
            values::check(given.option, value, user).map_err(|problem| {
                Refused::line(format!("'{}={value}': {problem}", given.option.name.trim_start_matches('-')))
            })?;
        }
        self.check_operands()?;
        if self.command == Command::Run { self.check_run() } else { Ok(()) }
    }

    fn check_operands(&self) -> Result<(), Refused> {
        match (self.command, self.operands.as_slice()) {
            (Command::Run, [image, ..]) | (Command::Pull, [image]) => {
                if is_image(image) {
                    Ok(())
                } else {
                    Err(Refused::image(image))
                }
            }
            (Command::Run | Command::Pull, _) => Err(Refused::image("")),
            (Command::Ps, []) => Ok(()),
            (Command::Ps, [operand, ..]) => Err(Refused::line(format!("docker ps takes no '{operand}'"))),
            (_, []) => Err(Refused::line(format!("docker {} of no container", self.command.name()))),
            (_, containers) => match containers.iter().find(|id| !is_worker_id(id)) {
                Some(id) => Err(Refused::line(format!("'{id}' is no worker id"))),
                None => Ok(()),
            },
        }
    }

    /// A container that runs as root, or can become it, could leave setuid programs of root's in
    /// the directories that it shares with the host.
    fn check_run(&self) -> Result<(), Refused> {
        let has = |kind: Kind, wanted: fn(&str) -> bool| {
            self.options.iter().any(|given| given.option.kind == kind && given.value.as_deref().is_some_and(wanted))
        };
        let missing = [
            (!has(Kind::Name, |_| true), "--name"),
            (!has(Kind::User, |_| true), "--user"),
            (!has(Kind::CapDrop, |value| value.eq_ignore_ascii_case("all")), "--cap-drop=ALL"),
            (!has(Kind::SecurityOpt, values::is_no_new_privileges), "--security-opt no-new-privileges"),
        ];
        match missing.iter().find(|(missing, _)| *missing) {
            Some((_, option)) => Err(Refused::line(format!("docker run without '{option}'"))),
            None => Ok(()),
        }
    }

    /// What is mounted from the host.
    ///
    /// # Errors
    /// A value that is not `source:destination` or `source:destination:options`, with absolute
    /// paths and harmless options.
    pub fn mount_sources(&self) -> Result<Vec<MountSource>, Refused> {
        let volumes = self.options.iter().filter(|given| given.option.kind == Kind::Volume);
        volumes.map(|given| MountSource::parse(given.value.as_deref().unwrap_or_default())).collect()
    }

    /// The files that `--security-opt seccomp=` names, to be checked and replaced by what they lead
    /// to.
    pub fn seccomp_profiles(&mut self) -> impl Iterator<Item = &mut String> {
        let options = self.options.iter_mut().filter(|given| given.option.kind == Kind::SecurityOpt);
        options.filter_map(|given| given.value.as_mut()).filter(|value| value.starts_with(values::SECCOMP))
    }

    /// The words after `docker`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let config = self.config.iter().map(|directory| format!("--config={directory}"));
        let command = std::iter::once(self.command.name().to_owned());
        let options = self.options.iter().flat_map(Given::words);
        config.chain(command).chain(options).chain(self.operands.iter().cloned()).collect()
    }
}

impl Given {
    fn words(&self) -> Vec<String> {
        let name = self.option.name.to_owned();
        match &self.value {
            None => vec![name],
            Some(value) if self.joined => vec![format!("{name}={value}")],
            Some(value) => vec![name, value.clone()],
        }
    }
}

/// The path in a `seccomp=<path>`.
#[must_use]
pub fn seccomp_path(value: &str) -> &str {
    value.strip_prefix(values::SECCOMP).unwrap_or(value)
}

/// A `--security-opt` value for this path.
#[must_use]
pub fn seccomp_value(path: &str) -> String {
    format!("{}{path}", values::SECCOMP)
}

/// Whether this can be the id of a worker, which is the name of its container: hexadecimal digits
/// and dashes, at most 128, and nothing that could be an option.
#[must_use]
pub fn is_worker_id(id: &str) -> bool {
    let characters = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (1..=128).contains(&id.len()) && characters && !id.starts_with('-')
}

#[cfg(test)]
mod tests;
