//! Everything of the host that a spec names, opened before the launch, with the file-system ids of
//! whoever asks for it.
//!
//! A program that launches for others, a setuid program above all, must not reach for its caller
//! what the caller could not, and must not look at a path now and use it later. So each path is
//! resolved once, as the user, and the launch works from descriptors.
//!
//! | named by a spec | who opens it |
//! |---|---|
//! | layers, bind sources, the writable directory, the directories of pid file and exit file | here, as the user |
//! | the pid file, and its removal when the launch fails | the launch process, in the directory that is held, as the user |
//! | the exit file | the monitor's last child, in the directory that is held, as the user; an old one is removed by the launch process |
//! | program, working directory, mount points, `HOME`'s user database | init, inside the container's root, which no link leaves |
//! | cgroup or scope | root, below the cgroup hierarchies; whether a user may have it is for the program to decide |
//! | standard streams | whoever made the [`Stdio`](crate::Stdio): they come as descriptors, and are checked as such |
//! | seccomp profile | the door that the spec came through: the spec holds its content |
//! | files of a user of its own | none: [`Squall::launch_as_own_user`](crate::Squall::launch_as_own_user) takes no opened spec |
//!
//! One thing goes by path still, and opens nothing: for a worker whose uid is in the range of
//! [`SquallBuilder::own_users`](crate::SquallBuilder::own_users) the run root remembers the
//! directories that it could write to, and asks later whether they exist. A program that launches
//! for others keeps its users out of that range.

use std::time::Duration;

use rustix::fs::ResolveFlags;

use crate::error::{Context, Error, Problem, Result};
use crate::host_files::as_user::{self, Task};
use crate::host_files::host_file::{Expected, HostFile, Refusal};
use crate::host_files::trace::shown;
use crate::layer::file::{OpenLayer, open_layers};
use crate::request::{AbsolutePath, Identity, LaunchSpec, Mount, RootMode};
use crate::stage::Stage;
use crate::sys;

/// How long opening may take: as long as a cold network file system, and shorter than a caller
/// waits for a launch.
const PATIENCE: Duration = Duration::from_secs(20);

/// A launch spec, and everything that it names on the host, open: for
/// [`Squall::launch_opened`](crate::Squall::launch_opened).
///
/// ```no_run
/// use squall::request::{AbsolutePath, Identity, LaunchSpec};
/// use squall::{OpenedSpec, Spawner, Squall, Stdio};
///
/// # fn of_the_caller() -> LaunchSpec { unimplemented!() }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let squall = Squall::builder().spawner(Spawner::fork()?).image_roots(["/srv/images"]).build()?;
/// let spec: LaunchSpec = of_the_caller();
/// // Whom this setuid program works for. No file is opened that this user could not open.
/// let opened = OpenedSpec::open_as(&spec, &Identity::of_user_name("storm")?)?;
/// let allowed = [AbsolutePath::new("/srv/shared")?, AbsolutePath::new("/opt")?];
/// for (index, bind) in opened.binds() {
///     if !bind.lies_within(&allowed)? {
///         return Err(format!("mounts[{index}]: '{}' is not allowed", bind.resolved().as_str()).into());
///     }
/// }
/// squall.launch_opened(opened, Stdio::null()?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OpenedSpec {
    pub(crate) spec: LaunchSpec,
    pub(crate) files: HostFiles,
}

/// What a spec names on the host.
#[derive(Debug)]
pub(crate) struct HostFiles {
    /// With whose ids it was opened, and pid file and exit file are made.
    pub(crate) user: Identity,
    /// In the spec's order.
    pub(crate) layers: Vec<OpenLayer>,
    /// One for each bind of the spec, in its order.
    pub(crate) binds: Vec<HostFile>,
    pub(crate) pid_directory: Option<HostFile>,
    pub(crate) exit_directory: Option<HostFile>,
    pub(crate) writable: Option<HostFile>,
}

impl OpenedSpec {
    /// Opens what the spec names on the host as this user: fsuid, fsgid, supplementary groups, and
    /// no capability (unless the user is root). Symbolic links are followed as the user, links of
    /// `/proc` to what a process has open are not.
    ///
    /// It happens on a thread of its own, so no other thread has these ids at any time. The kernel
    /// marks the process as not dumpable with it, as it does whenever ids change. A FUSE file
    /// system that was not mounted with `allow_other` is closed to it, also the user's own. The
    /// program must not change its own ids meanwhile: setuid(3) of a libc would ask the thread to
    /// follow.
    ///
    /// | | what the user has to be allowed |
    /// |---|---|
    /// | layer | to read it: a regular squashfs or EROFS file that is whole |
    /// | bind source | to search the directories that lead to it; the worker meets its mode |
    /// | pid file, exit file | to write to its directory, and to replace what is there, which has to be a regular file |
    /// | writable directory | it has to be the user's own, and writable: root makes a directory in it, and bounds what it holds |
    ///
    /// Whether the user may have this cgroup, this worker's user, these limits, a bind there or
    /// with these options (`dev`, `suid`) is not asked here: that is for the program to decide, by
    /// the spec and by [`OpenedSpec::binds`].
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) with a problem for each thing that is refused; the
    /// fields are `layers[N]`, `mounts[N].source`, `pid_file`, `exit_file` and `root`.
    /// [`Privilege`](crate::ErrorKind::Privilege) without CAP_SETUID and CAP_SETGID.
    /// [`TimedOut`](crate::ErrorKind::TimedOut) after 20 seconds, in a file system that does not
    /// answer: the thread is left behind then, so a program that has no spawner can launch nothing
    /// any more. [`Exhausted`](crate::ErrorKind::Exhausted) where this process may not have as many
    /// open files: one for each layer and bind, and three more.
    pub fn open_as(spec: &LaunchSpec, user: &Identity) -> Result<OpenedSpec> {
        OpenedSpec::open_on_thread(spec, user.clone(), Some(user))
    }

    /// As [`OpenedSpec::open_as`], with the ids and capabilities of the calling thread: for a
    /// program that works for nobody else.
    ///
    /// # Errors
    /// As [`OpenedSpec::open_as`]; it needs no privilege.
    pub fn open(spec: &LaunchSpec) -> Result<OpenedSpec> {
        let object = format!("container '{}'", spec.id);
        let groups = rustix::process::getgroups().at(Stage::Request, &object, "getgroups")?;
        let (uid, gid) = sys::fs_ids();
        let own = Identity::new(uid, gid, groups.into_iter().map(|group| group.as_raw()))
            .map_err(|bad| Error::invalid(object, vec![bad.at("user")]))?;
        OpenedSpec::open_on_thread(spec, own, None)
    }

    fn open_on_thread(spec: &LaunchSpec, user: Identity, becoming: Option<&Identity>) -> Result<OpenedSpec> {
        let object = format!("files of container '{}'", spec.id);
        let spec = spec.clone();
        as_user::run(becoming, Task { stage: Stage::Request, object, patience: PATIENCE }, move || {
            let files = HostFiles::open(&spec, user)?;
            Ok(OpenedSpec { spec, files })
        })
    }

    /// The spec.
    #[must_use]
    pub fn spec(&self) -> &LaunchSpec {
        &self.spec
    }

    /// With whose ids the files were opened.
    #[must_use]
    pub fn user(&self) -> &Identity {
        &self.files.user
    }

    /// The layers, in the spec's order. The launch checks them against
    /// [`SquallBuilder::image_roots`](crate::SquallBuilder::image_roots).
    #[must_use]
    pub fn layers(&self) -> &[OpenLayer] {
        &self.files.layers
    }

    /// The sources of the binds, each with its place in [`LaunchSpec`]'s `mounts`, for a program
    /// that allows some and refuses others.
    ///
    /// A bind that is not recursive shows what lies below the mounts of the host there, and not
    /// what is mounted.
    pub fn binds(&self) -> impl Iterator<Item = (usize, &HostFile)> {
        let places = binds_of(&self.spec).map(|(index, _)| index);
        places.zip(&self.files.binds)
    }

    /// The directory of the pid file, where the spec has one.
    #[must_use]
    pub fn pid_file_directory(&self) -> Option<&HostFile> {
        self.files.pid_directory.as_ref()
    }

    /// The directory of the exit file, where the spec has one.
    #[must_use]
    pub fn exit_file_directory(&self) -> Option<&HostFile> {
        self.files.exit_directory.as_ref()
    }

    /// The directory that takes the writes of the container's root, where the spec has one.
    #[must_use]
    pub fn writable_directory(&self) -> Option<&HostFile> {
        self.files.writable.as_ref()
    }
}

/// The binds' sources with their places among the mounts.
fn binds_of(spec: &LaunchSpec) -> impl Iterator<Item = (usize, &AbsolutePath)> {
    spec.mounts.iter().enumerate().filter_map(|(index, mount)| match mount {
        Mount::Bind(bind) => Some((index, &bind.source)),
        Mount::Tmpfs(_) => None,
    })
}

impl HostFiles {
    /// Opens everything, as the calling thread.
    fn open(spec: &LaunchSpec, user: Identity) -> Result<HostFiles> {
        let (layers, problems) = open_layers(spec, ResolveFlags::NO_MAGICLINKS)?;
        let mut findings = Findings { problems };
        let mut binds = Vec::new();
        for (index, source) in binds_of(spec) {
            let opened = HostFile::open(source, Expected::Anything);
            binds.extend(findings.note(format!("mounts[{index}].source"), opened)?);
        }
        let mut directory_of = |field: &str, file: Option<&AbsolutePath>| match file {
            Some(path) => findings.note(field.to_owned(), directory_of_file(path)),
            None => Ok(None),
        };
        let pid_directory = directory_of("pid_file", spec.pid_file.as_ref())?;
        let exit_directory = directory_of("exit_file", spec.exit_file.as_ref())?;
        let writable = match &spec.root {
            RootMode::Directory(directory) => {
                findings.note("root".to_owned(), writable_directory(&directory.path, &user))?
            }
            RootMode::ReadOnly | RootMode::Writable { .. } => None,
        };
        if findings.problems.is_empty() {
            return Ok(HostFiles { user, layers, binds, pid_directory, exit_directory, writable });
        }
        Err(Error::invalid(format!("container '{}'", spec.id), findings.problems))
    }

    /// Whether these could be the spec's files, by their number: both crossed a process border.
    pub(crate) fn fit(&self, spec: &LaunchSpec) -> bool {
        binds_of(spec).count() == self.binds.len()
            && spec.pid_file.is_some() == self.pid_directory.is_some()
            && spec.exit_file.is_some() == self.exit_directory.is_some()
            && matches!(spec.root, RootMode::Directory(_)) == self.writable.is_some()
    }
}

/// What was refused so far.
struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    fn note<T>(&mut self, field: String, opened: std::result::Result<T, Refusal>) -> Result<Option<T>> {
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(Refusal::Unknown(error)) => Err(error),
            Err(Refusal::Because(reason)) => {
                self.problems.push(Problem { field, reason });
                Ok(None)
            }
        }
    }
}

/// The directory of a pid file or an exit file, to which the calling thread may write.
fn directory_of_file(path: &AbsolutePath) -> std::result::Result<HostFile, Refusal> {
    let parent = path.as_path().parent().and_then(|parent| AbsolutePath::new(parent).ok());
    let parent = parent.ok_or_else(|| Refusal::Because(format!("{} is a directory", shown(path.as_path()))))?;
    let directory = HostFile::open(&parent, Expected::Directory)?;
    match directory.write_refusal() {
        None => Ok(directory),
        Some(reason) => Err(Refusal::Because(reason)),
    }
}

/// A directory of the user's own. One that the user may only write to, like `/tmp`, must not do:
/// its project quota would be everybody's.
fn writable_directory(path: &AbsolutePath, user: &Identity) -> std::result::Result<HostFile, Refusal> {
    let directory = HostFile::open(path, Expected::Directory)?;
    let owner = directory.stat().map_err(|errno| Refusal::Because(format!("cannot be looked at: fstat: {errno}")))?;
    if user.uid() != 0 && owner.st_uid != user.uid() {
        let text = format!(
            "{} belongs to user {}: expected a directory of user {}'s own",
            shown(path.as_path()),
            owner.st_uid,
            user.uid()
        );
        return Err(Refusal::Because(text));
    }
    match directory.write_refusal() {
        None => Ok(directory),
        Some(reason) => Err(Refusal::Because(reason)),
    }
}
