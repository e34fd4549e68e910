//! The way in: a [`Squall`] knows a run root and how launches are forked.

mod builder;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Pid;

use crate::cgroup::Layout;
use crate::child_task::{self, Failure};
use crate::container::{Container, Created, ExecSession, Running, removed_with};
use crate::crash::{self, Role};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host::monotonic_ns;
use crate::host_files::check_streams;
use crate::image_file;
use crate::launch;
use crate::launch::{ExecJob, Goal, Job, Order, progress, wire};
use crate::layer::{LayerStore, check_layers, without_repeats};
use crate::lsm::{self, Confinement};
use crate::opened::{HostFiles, OpenedSpec};
use crate::plan::Plan;
use crate::privilege;
use crate::request::{AppArmor, ContainerId, ExecSpec, LaunchSpec, Selinux};
use crate::settings::Settings;
use crate::spawner::Spawner;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::ledger::Resources;
use crate::state::own_users::OwnUser;
use crate::state::record::{ExitRecord, LaunchRecord};
use crate::stdio::Stdio;
use crate::supported;
use crate::sys::{self, Fork};
use crate::systemd;
pub use builder::{DEFAULT_KEEP_LAYERS, DEFAULT_MONITORS, SquallBuilder};

/// The runtime for one run root. Cheap, holds no container, may be shared between threads when it
/// has a spawner.
#[derive(Debug)]
pub struct Squall {
    settings: Settings,
    launcher: Launcher,
    default_apparmor: AppArmor,
    default_selinux: Selinux,
}

#[derive(Debug)]
enum Launcher {
    /// This process forks its launches itself: it has one thread.
    Direct,
    Spawner(Spawner),
}

/// What is found in a run root.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The containers.
    pub containers: Vec<Container>,
    /// The names of directories whose record cannot be read, and why.
    pub unreadable: Vec<(String, Error)>,
    /// The machine's cgroups, where they had to be known.
    pub(crate) layout: Option<Layout>,
}

impl Squall {
    /// Which containers of the run root have which processors and memory, and what is free. A
    /// container that has ended has nothing, whatever ended it; one that is being launched counts.
    ///
    /// # Errors
    /// Where the run root cannot be read, by somebody else than root for example.
    pub fn resources(&self) -> Result<Resources> {
        self.settings.ledger().resources(&Layout::detect()?)
    }

    /// The spec with the user that [`Squall::launch_as_own_user`] would give it now, for a plan.
    /// Touches nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when each uid is taken.
    pub fn with_preview_user(&self, spec: LaunchSpec) -> Result<LaunchSpec> {
        self.settings.users().preview(spec)
    }

    /// Runs a worker. Returns when the workload has been executed, the pid file is written and the
    /// record is on disk.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is wrong with the spec or its layers, before anything is
    /// touched; [`ErrorKind::Unsupported`] for an AppArmor profile or an SELinux label that this
    /// host cannot apply, before anything is touched; [`ErrorKind::Privilege`] names the
    /// capabilities that are missing; [`ErrorKind::Exists`] for an id in use;
    /// [`ErrorKind::ProgramNotFound`] and [`ErrorKind::ProgramNotExecutable`] for the program;
    /// [`ErrorKind::Phase`] when this program has threads and no spawner was set;
    /// [`ErrorKind::Exhausted`] names the limit of the system that was reached;
    /// [`ErrorKind::TimedOut`] when the launch made no progress for 25 seconds (35 once there is an
    /// init), in a file system that does not answer for example: it is taken back as soon as it can
    /// be. A failed launch leaves nothing behind, or its message says what.
    pub fn launch(&self, spec: &LaunchSpec, stdio: Stdio) -> Result<Running> {
        self.launch_since(monotonic_ns(), Goal::Start, spec, None, None, stdio, Vec::new())
    }

    /// Does everything that [`Squall::launch`] does but for the last step, the workload's exec:
    /// [`Created::start`] lets that happen, from any program and at any time. Returns when nothing
    /// else is left to do, the pid file is written and the record is on disk. Its monitor watches it
    /// from here on; the caller may end.
    ///
    /// # Errors
    /// As [`Squall::launch`]. What the kernel refuses at the exec itself is an error of the start.
    pub fn create(&self, spec: &LaunchSpec, stdio: Stdio) -> Result<Created> {
        self.launch_since(monotonic_ns(), Goal::Create, spec, None, None, stdio, Vec::new()).map(Created::new)
    }

    /// As [`Squall::create`], with a user as [`Squall::launch_as_own_user`] gives one.
    ///
    /// # Errors
    /// As [`Squall::create`]; [`ErrorKind::Exhausted`] when each uid is taken.
    pub fn create_as_own_user(&self, spec: &LaunchSpec, stdio: Stdio, own_user: OwnUser) -> Result<Created> {
        let created = self.launch_since(monotonic_ns(), Goal::Create, spec, Some(own_user), None, stdio, Vec::new());
        created.map(Created::new)
    }

    /// As [`Squall::launch`], with a user that no other container of this run root has, instead of
    /// the spec's: a uid of [`SquallBuilder::own_users`], the group of the same number, and no
    /// further group. As long as a writable directory or volume of the spec's, or one of the files
    /// given here, is there, only a container with the same directories gets the uid again. The
    /// record says which it is.
    ///
    /// # Errors
    /// As [`Squall::launch`]; [`ErrorKind::Exhausted`] when each uid is taken.
    pub fn launch_as_own_user(&self, spec: &LaunchSpec, stdio: Stdio, own_user: OwnUser) -> Result<Running> {
        self.launch_since(monotonic_ns(), Goal::Start, spec, Some(own_user), None, stdio, Vec::new())
    }

    /// As [`Squall::launch`], of a spec whose files on the host are open already: the launch works
    /// from the descriptors and resolves none of the spec's paths again. The door for a program
    /// that launches for others, so it is closed without [`SquallBuilder::image_roots`].
    ///
    /// The pid file is made in the directory that is held, with the file-system ids by which the
    /// spec was opened, and belongs to that user (mode 0644); so is it taken back when the launch
    /// fails. A file system that keeps it waiting for 10 seconds ends the launch
    /// ([`ErrorKind::TimedOut`]), also after the workload was executed, which is killed then.
    ///
    /// # Errors
    /// As [`Squall::launch`]; [`ErrorKind::Invalid`] without image roots, for layers that they
    /// refuse, and for a log in a file (rather than in the run root), before anything is touched.
    pub fn launch_opened(&self, opened: OpenedSpec, stdio: Stdio) -> Result<Running> {
        let called_ns = monotonic_ns();
        let OpenedSpec { spec, mut files } = opened;
        if self.settings.image_roots.is_none() {
            let text = "none are set: a program that launches for others names the directories that its images lie in";
            return Err(Error::invalid_field("image roots", "image_roots", text));
        }
        if spec.log.as_ref().is_some_and(|log| log.file.is_some()) {
            let text = "a file of the caller's is not opened by its path: open it, and hand it over as a stream";
            return Err(Error::invalid_field(format!("container '{}'", spec.id), "log.file", text));
        }
        let notes = self.settings.check_image_roots(&spec, &files.layers)?;
        files.layers = without_repeats(files.layers);
        self.launch_since(called_ns, Goal::Start, &spec, None, Some(files), stdio, notes)
    }

    #[expect(clippy::too_many_arguments, reason = "what the doors of a launch differ in")]
    fn launch_since(
        &self,
        called_ns: u64,
        goal: Goal,
        spec: &LaunchSpec,
        own_user: Option<OwnUser>,
        files: Option<HostFiles>,
        stdio: Stdio,
        mut notes: Vec<String>,
    ) -> Result<Running> {
        crash::point(Role::Caller, Stage::Request);
        let spec = &*self.with_default_confinement(spec)?;
        supported::check(spec, &self.settings.monitors)?;
        check_streams(&stdio.streams, &format!("container '{}'", spec.id))?;
        if stdio.console.is_some() && spec.log.is_some() {
            let text = "a worker with a terminal writes there, and nothing would come into the log";
            return Err(Error::invalid_field(format!("container '{}'", spec.id), "log", text));
        }
        privilege::check(spec.network)?;
        spec.scope().as_ref().map_or(Ok(()), systemd::check)?;
        Confinement::of(spec).as_ref().map_or(Ok(()), |confinement| lsm::Host::this().check(confinement))?;
        let mut settings = self.settings.clone();
        if let Some(keep) = spec.keep_layers {
            settings.keep_layers = keep as usize;
        }
        let own_user = own_user.map(|own_user| with_own_log(own_user, spec));
        let filter = spec.seccomp.filter()?;
        notes.extend(spec.seccomp.warnings().into_iter().map(|warning| format!("seccomp: {warning}")));
        let job = Job {
            called_ns,
            goal,
            spec: spec.clone(),
            own_user,
            files,
            stdio: stdio.streams,
            console: stdio.console,
            filter,
            notes,
            settings,
        };
        let mut record = self.carry_out(Order::Launch(Box::new(job)))?;
        if record.spec.is_null() {
            record.spec = serde_json::to_value(spec).expect("a spec is plain data");
        }
        Ok(Running::new(self.settings.run_root.container(&spec.id), record))
    }

    /// Executes a further program in a running container: in its namespaces, root and cgroup, with
    /// its user, groups, environment, working directory and seccomp filter where the spec says
    /// nothing else; without capabilities, with no_new_privs. Returns when the program has been
    /// executed. It is watched by a monitor of its own: how it ends is known
    /// ([`ExecSession::wait`]) whatever becomes of its caller.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is wrong with the spec, before anything is touched;
    /// [`ErrorKind::Phase`] when the container has ended or is frozen, also where that happens
    /// meanwhile; [`ErrorKind::ProgramNotFound`] and [`ErrorKind::ProgramNotExecutable`] for the
    /// program; [`ErrorKind::Privilege`], [`ErrorKind::Exhausted`] and [`ErrorKind::TimedOut`] as for
    /// [`Squall::launch`].
    pub fn exec(&self, container: &Running, spec: &ExecSpec, stdio: Stdio) -> Result<ExecSession> {
        crash::point(Role::Caller, Stage::Request);
        let called_ns = monotonic_ns();
        let (record, directory) = (container.record(), container.directory());
        let spec = spec.applied_to(&LaunchSpec::from_json(record.spec.to_string().as_bytes())?)?;
        check_streams(&stdio.streams, &format!("container '{}'", record.id))?;
        privilege::check(spec.network)?;
        let order = Order::Exec(Box::new(ExecJob {
            called_ns,
            filter: spec.seccomp.filter()?,
            spec,
            container: record.clone(),
            directory: directory.to_owned(),
            stdio: stdio.streams,
            console: stdio.console,
            settings: self.settings.clone(),
        }));
        let record = self.carry_out(order)?;
        Ok(ExecSession::new(directory, record))
    }

    fn carry_out(&self, order: Order) -> Result<LaunchRecord> {
        match &self.launcher {
            Launcher::Direct => carry_out_directly(order),
            Launcher::Spawner(spawner) => carry_out_by(spawner, &order),
        }
    }

    /// What files of the spec's image hold, by their absolute paths in it, as its worker would see
    /// them: up to 1 MiB of each, `None` for one that is missing or no regular file. For what has to
    /// be known of an image before a launch, its users by name for example. Symbolic links stay
    /// inside the image. The image is mounted in a child process for it (some 3 ms, the layers
    /// attached for the launch that follows); nothing of that is left.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for layers that are none, or that may not be mounted;
    /// [`ErrorKind::Privilege`]; [`ErrorKind::Phase`] when this program has threads;
    /// [`ErrorKind::TimedOut`] after 25 seconds.
    pub fn image_files(&self, spec: &LaunchSpec, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>> {
        privilege::check(spec.network)?;
        let layers = check_layers(spec)?;
        self.settings.check_image_roots(spec, &layers)?;
        self.settings.run_root.prepare()?;
        let store = LayerStore::new(self.settings.run_root.layers(), self.settings.keep_layers);
        image_file::read_all(&store, &without_repeats(layers), paths)
    }

    /// Dry run of [`Squall::launch`]: what it would do with this spec. Touches nothing, and needs
    /// no privilege.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], as a launch would have it. What else a launch would fail by is in
    /// [`Plan::obstacles`].
    pub fn plan(&self, spec: &LaunchSpec) -> Result<Plan> {
        let spec = &*self.with_default_confinement(spec)?;
        let layers = check_layers_apart(spec).and_then(|()| check_layers(spec))?;
        let notes = self.settings.check_image_roots(spec, &layers)?;
        supported::check(spec, &self.settings.monitors)?;
        // Where the cgroups are not to be seen, the plan says so.
        let preview = |layout: Layout| self.settings.ledger().preview(spec, &layout);
        let (given, taken) = match Layout::detect().ok().map_or(Ok(None), preview) {
            Ok(given) => (given, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut plan = Plan::of(given.as_ref().unwrap_or(spec), layers, &self.settings)?;
        plan.notes.extend(notes);
        plan.obstacles.extend(taken);
        Ok(plan)
    }

    /// The container of this id, in whatever phase it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none.
    pub fn attach(&self, id: &str) -> Result<Container> {
        let id = container_id(id)?;
        Container::open(id.as_str(), self.settings.run_root.container(&id)).map_err(|error| {
            let known = Some(error.kind()).filter(|kind| *kind == ErrorKind::NotFound);
            let exit = known.and_then(|_| self.settings.run_root.removed().read(id.as_str()));
            exit.map_or(error, |exit| removed_with(id.as_str(), &exit))
        })
    }

    /// How the last container of this id ended that was removed with its end
    /// ([`OnExit::Remove`](crate::request::OnExit)). The newest 128 ends are known until a
    /// container of the same id is launched or [`Squall::reap`] is called; `None` for what is not
    /// (any more). Whoever began to wait before the end needs this not: [`Running::wait`] learns it
    /// in any case.
    pub fn removed_exit(&self, id: &str) -> Result<Option<ExitRecord>> {
        Ok(self.settings.run_root.removed().read(container_id(id)?.as_str()))
    }

    /// Every container of the run root, oldest first. One whose record cannot be read does not hide
    /// the others.
    pub fn containers(&self) -> Result<Listing> {
        let directory = self.settings.run_root.containers();
        let mut listing = Listing::default();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(error).at(Stage::Watch, directory.display(), "opendir"),
        };
        let layout = OnceCell::new();
        for entry in entries {
            let entry = entry.at(Stage::Watch, directory.display(), "readdir")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if claim::is_unnamed(&name) {
                continue;
            }
            match Container::open_among(&name, entry.path(), &layout) {
                Ok(container) => listing.containers.push(container),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => listing.unreadable.push((name, error)),
            }
        }
        listing
            .containers
            .sort_by_key(|container| container.record().map_or(u64::MAX, |record| record.created_unix_ns));
        listing.layout = layout.into_inner();
        Ok(listing)
    }

    /// The spec with the profile and the label that it does not say. Where there is no default it
    /// is the caller's own: no launch pays for what nobody asked for.
    fn with_default_confinement<'a>(&self, spec: &'a LaunchSpec) -> Result<Cow<'a, LaunchSpec>> {
        let apparmor = spec.apparmor == AppArmor::Default && self.default_apparmor != AppArmor::Default;
        let selinux = spec.selinux == Selinux::Default && self.default_selinux != Selinux::Default;
        if !apparmor && !selinux {
            return Ok(Cow::Borrowed(spec));
        }
        let mut fields = spec.clone().into_fields();
        if apparmor {
            fields.apparmor = self.default_apparmor.clone();
        }
        if selinux {
            fields.selinux = self.default_selinux.clone();
        }
        LaunchSpec::try_from(fields).map(Cow::Owned)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A log that the worker writes itself may be its own file.
fn with_own_log(mut own_user: OwnUser, spec: &LaunchSpec) -> OwnUser {
    let own = spec.log.as_ref().filter(|log| !log.is_copied());
    own_user.files.extend(own.and_then(|log| Some(log.file.as_ref()?.as_path().to_owned())));
    own_user
}

fn container_id(id: &str) -> Result<ContainerId> {
    ContainerId::new(id).map_err(|bad| Error::invalid("container id", vec![bad.at("id")]))
}

/// Opens the layers in a child first, because a file system that hangs would keep this process for
/// ever.
fn check_layers_apart(spec: &LaunchSpec) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(20);
    child_task::run(PATIENCE, || check_layers(spec).map(drop)).unwrap_or_else(|failure| {
        let object = format!("layers of container '{}'", spec.id);
        let text = "the file system that holds one does not answer, perhaps";
        Err(match failure {
            Failure::Late(patience) => Error::timed_out(Stage::Request, object, "open", patience, text),
            other => Error::process_ended(Stage::Request, object, "open", None, other.to_string()),
        })
    })
}

fn carry_out_directly(order: Order) -> Result<LaunchRecord> {
    if !sys::is_single_threaded() {
        return Err(Error::several_threads("launch", "set a spawner"));
    }
    let (answer, answering) = UnixStream::pair().at(Stage::Clone, "launch process", "socketpair")?;
    let child = match sys::fork().at(Stage::Clone, "launch process", "fork").at_limit(libc::EAGAIN, Limit::Processes)? {
        Fork::Child => {
            drop(answer);
            launch::run(order, answering.into())
        }
        Fork::Parent(child) => child,
    };
    drop((answering, order));
    progress::receive(answer.into()).inspect_err(|_| {
        // It has nothing more to do, unless it hangs; a monitor, in contrast, is left alone.
        Pid::from_raw(child).map(|child| child_task::collect(child, Duration::from_secs(1)));
    })
}

fn carry_out_by(spawner: &Spawner, order: &Order) -> Result<LaunchRecord> {
    let stream = UnixStream::from(spawner.request()?);
    let sent = wire::send_order(&stream, order);
    let answer = progress::receive(stream.into());
    match (sent, answer) {
        (Ok(()), answer) => answer,
        // A spawner that cannot fork says so, and hangs up before it has the job.
        (Err(_), Err(error)) if error.kind() == ErrorKind::Exhausted => Err(error),
        (Err(error), _) => Err(error),
    }
}
