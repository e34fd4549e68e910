//! The commands: each asks the library for one thing and prints the answer. Those that launch are
//! in [`run_and_plan`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use squall::record::{ExitRecord, LaunchRecord};
use squall::request::values;
use squall::{
    Container, Ended, Error, ErrorKind, ExecEnd, ExecSession, Lost, Phase, Result, Squall, Stage, Trim,
    serve_standard_input,
};

use crate::args::{Cli, Command, Demo, Ids, Inspect, Kill, Layers, Ps, Reap, Rm, Run, Several, Stop, Update};
use crate::{
    attach, doctor_page, events, exec, image, limits, logs, metrics, print, relay, request, resources, run_and_plan,
    seccomp, signals, stats, top,
};

/// How long `wait` gives a launch that is under way: longer than a launch waits for its init.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(40);

/// Runs the command; the answer is the exit code.
pub fn run(cli: Cli) -> Result<i32> {
    let mut builder = Squall::builder().run_root(absolute("--root", &cli.root)?);
    let monitor_cgroup = cli.monitor_cgroup.as_deref();
    if let Some(cgroup) = monitor_cgroup {
        builder = builder.monitors(cgroup);
    }
    if let Some(arguments) = launching(&cli.command) {
        if !arguments.image_roots.is_empty() {
            // A '..' stays, and is refused: what is trusted is to be said plainly.
            let roots = arguments.image_roots.iter();
            let roots = roots.map(|root| std::path::absolute(root).unwrap_or_else(|_| root.clone()));
            builder = builder.image_roots(roots).image_owners(arguments.image_owners.iter().copied());
        }
        builder = builder.default_limits(request::default_limits(arguments));
        if let Some(range) = request::own_users(arguments)? {
            builder = builder.own_users(range);
        }
    }
    let squall = builder.build()?;
    match cli.command {
        Command::Run(arguments) => run_and_plan::run(&squall, &arguments, monitor_cgroup),
        Command::Create(arguments) => run_and_plan::create(&squall, *arguments, monitor_cgroup),
        Command::Start(arguments) => Ok(start(&squall, &arguments)),
        Command::Exec(arguments) => exec::exec(&squall, &arguments),
        Command::Attach(arguments) => attach::run(&squall, &arguments),
        Command::Pause(arguments) => Ok(pause(&squall, &arguments)),
        Command::Resume(arguments) => Ok(resume(&squall, &arguments)),
        Command::Update(arguments) => update(&squall, &arguments),
        Command::Plan(arguments) => run_and_plan::plan(&squall, &arguments, monitor_cgroup),
        Command::Ps(arguments) => list(&squall, &arguments),
        Command::Inspect(arguments) => inspect(&squall, &arguments),
        Command::Wait(arguments) => wait(&squall, &arguments),
        Command::Stop(arguments) => stop(&squall, &arguments),
        Command::Kill(arguments) => kill(&squall, &arguments),
        Command::Rm(arguments) => remove(&squall, &arguments),
        Command::Logs(arguments) => logs::show(&squall, &arguments),
        Command::Stats(arguments) => stats::run(&squall, &arguments),
        Command::Top(arguments) => top::run(&squall, &arguments),
        Command::Metrics(arguments) => metrics::run(squall, &arguments),
        Command::Events(arguments) => events::run(&squall, &arguments),
        Command::Image(arguments) => Ok(image::run(&arguments)),
        Command::Layers(arguments) => layers(&squall, &arguments),
        Command::Reap(arguments) => reap(&squall, &arguments),
        Command::Demo(arguments) => demo(&arguments),
        Command::Doctor(arguments) => doctor_page::run(&cli.root, &arguments),
        Command::Seccomp(arguments) => seccomp::run(&arguments),
        #[cfg(feature = "pages")]
        Command::Pages { directory } => crate::pages::write(&directory).map(|()| 0),
        Command::KeepTerminal => relay::keep(),
        Command::Spawner => serve_standard_input().map(|()| 0),
    }
}

/// What a command that launches says, or would launch.
fn launching(command: &Command) -> Option<&Run> {
    match command {
        Command::Run(arguments) | Command::Create(arguments) => Some(arguments),
        Command::Plan(arguments) => Some(&arguments.run),
        _ => None,
    }
}

/// A path of the command line, made absolute; `flag` is for the error.
pub fn absolute(flag: &str, path: &Path) -> Result<PathBuf> {
    let path = values::host_path(path).map_err(|bad| Error::invalid("command line", vec![bad.at(flag)]))?;
    Ok(path.as_path().to_owned())
}

/// Does something with each container and says its id, whatever comes of the others.
fn with_each(squall: &Squall, ids: &[String], act: impl Fn(Container) -> Result<()>) -> i32 {
    for_each(ids, |id| {
        match squall.attach(id)? {
            Container::Launching(_) => return Err(not_launched(id)),
            container => act(container)?,
        }
        say!("{id}");
        Ok(())
    })
}

/// What has been started already is left as it is, as podman and docker have it.
fn start(squall: &Squall, arguments: &Several) -> i32 {
    with_each(squall, &arguments.ids, |container| match container {
        Container::Created(created) => created.start().map(drop),
        Container::Running(_) | Container::Paused(_) => Ok(()),
        other => Err(wrong_phase(Stage::Become, &other, "start", Phase::Created)),
    })
}

/// What is paused already is left as it is.
fn pause(squall: &Squall, arguments: &Several) -> i32 {
    with_each(squall, &arguments.ids, |container| match container {
        Container::Running(running) => running.pause().map(drop),
        Container::Paused(_) => Ok(()),
        other => Err(wrong_phase(Stage::Watch, &other, "pause", Phase::Running)),
    })
}

/// What runs already is left as it is.
fn resume(squall: &Squall, arguments: &Several) -> i32 {
    with_each(squall, &arguments.ids, |container| match container {
        Container::Paused(paused) => paused.resume().map(drop),
        Container::Running(_) => Ok(()),
        other => Err(wrong_phase(Stage::Watch, &other, "resume", Phase::Paused)),
    })
}

fn update(squall: &Squall, arguments: &Update) -> Result<i32> {
    let changes = limits::limit_changes(arguments)?;
    Ok(with_each(squall, &arguments.ids, |container| {
        let updated = match &container {
            Container::Created(created) => created.update(&changes).map(|created| created.record().clone()),
            Container::Running(running) => running.update(&changes).map(|running| running.record().clone()),
            Container::Paused(paused) => paused.update(&changes).map(|paused| paused.record().clone()),
            other => Err(wrong_phase(Stage::Watch, other, "update", Phase::Running)),
        };
        let record = match &arguments.resources {
            Some(_) => updated?,
            None => updated.map_err(limits::rename_limits)?,
        };
        let changed = changes.fields();
        let now = record.adjustments.iter().filter(|adjustment| changed.contains(&adjustment.field));
        now.for_each(|adjustment| tell!("note: {adjustment}"));
        Ok(())
    }))
}

/// The error for a container that ended while nobody watched it.
pub fn lost_error(id: &str) -> Error {
    Error::found(
        ErrorKind::System,
        Stage::Watch,
        format!("container '{id}'"),
        "wait",
        "lost: it ended while nobody watched it",
    )
}

fn list(squall: &Squall, arguments: &Ps) -> Result<i32> {
    if arguments.resources {
        return resources::list(squall, arguments.json);
    }
    let listing = squall.containers()?;
    for (_, error) in &listing.unreadable {
        tell!("{error}");
    }
    let code = if listing.unreadable.is_empty() { 0 } else { crate::OWN_ERROR };
    let containers = listing.containers;
    let shown: Vec<&Container> = containers
        .iter()
        .filter(|container| arguments.all || !matches!(container.phase(), Phase::Exited | Phase::Lost))
        .collect();
    if arguments.json {
        let rows: Vec<Value> = shown.into_iter().map(summary).collect();
        say!("{}", Value::from(rows));
        return Ok(code);
    }
    let rows: Vec<_> = shown.into_iter().map(print::row).collect();
    print::table(["ID", "PHASE", "PID", "UID", "IMAGE", "AGE"], &rows);
    Ok(code)
}

fn summary(container: &Container) -> Value {
    let record = container.record();
    let pid = match container {
        Container::Created(_) | Container::Running(_) | Container::Paused(_) => record.map(|record| record.init.pid),
        _ => None,
    };
    let age = record.map(|record| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.saturating_sub(Duration::from_nanos(record.created_unix_ns)).as_secs()
    });
    json!({
        "id": container.id(),
        "phase": container.phase(),
        "pid": pid,
        "uid": record.and_then(|record| record.uid()),
        "image_digest": record.and_then(|record| record.image_digest()),
        "age_seconds": age,
        "created_unix_ns": record.map(|record| record.created_unix_ns),
        "exit": exit_of(container),
    })
}

fn exit_of(container: &Container) -> Value {
    match container {
        Container::Exited(exited) => json!(exited.exit().exit),
        _ => Value::Null,
    }
}

fn inspect(squall: &Squall, arguments: &Inspect) -> Result<i32> {
    let container = squall.attach(&arguments.id)?;
    let mut document = match container.record() {
        Some(record) => serde_json::to_value(record).expect("a record is plain data"),
        None => json!({ "id": container.id() }),
    };
    document["phase"] = json!(container.phase());
    document["image_digest"] = json!(container.record().and_then(|record| record.image_digest()));
    document["exit"] = match &container {
        Container::Exited(exited) => json!(exited.exit()),
        _ => Value::Null,
    };
    match &container {
        Container::Created(created) => document["watched"] = json!(created.is_watched()),
        Container::Running(running) => document["watched"] = json!(running.is_watched()),
        Container::Paused(paused) => document["watched"] = json!(paused.is_watched()),
        Container::Exited(exited) => {
            if let Some(error) = exited.start_error() {
                document["start_error"] = json!(error.to_string());
            }
        }
        _ => {}
    }
    let sessions = container.exec_sessions()?;
    if !sessions.is_empty() {
        document["exec_sessions"] = sessions.iter().map(session).collect();
    }
    if let Some(log) = container.log() {
        document["log"] = logs::summary(&log);
    }
    if arguments.json {
        say!("{document}");
    } else {
        print::lines(format_args!("{document:#}"));
    }
    Ok(0)
}

/// An exec session, of which `inspect` shows what is its own.
fn session(session: &ExecSession) -> Value {
    let (record, end) = (session.record(), session.end());
    let phase = match &end {
        Ok(None) => Phase::Running,
        Ok(Some(ExecEnd::Exited(_))) => Phase::Exited,
        _ => Phase::Lost,
    };
    let exit = match end {
        Ok(Some(ExecEnd::Exited(exit))) => json!(exit),
        _ => Value::Null,
    };
    json!({
        "id": session.id(),
        "phase": phase,
        "pid": session.pid(),
        "args": record.spec.get("args"),
        "created_unix_ns": record.created_unix_ns,
        "exit": exit,
    })
}

/// Does something for each id, whatever comes of the others. Every failure is said; the code is
/// that of the first.
fn for_each(ids: &[String], mut act: impl FnMut(&str) -> Result<()>) -> i32 {
    let failures = ids.iter().filter_map(|id| act(id).err());
    let codes: Vec<i32> = failures.map(|error| crate::report(&error)).collect();
    codes.first().copied().unwrap_or(0)
}

/// What there is of an id.
enum Found {
    There(Container),
    /// It was removed with its end.
    Removed(Box<ExitRecord>),
}

fn find(squall: &Squall, id: &str) -> Result<Found> {
    let container = squall.attach(id).and_then(|container| match container {
        Container::Launching(launching) => launching.settle(Duration::ZERO),
        other => Ok(other),
    });
    or_removed(squall, id, container.map(Found::There))
}

fn or_removed(squall: &Squall, id: &str, found: Result<Found>) -> Result<Found> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            squall.removed_exit(id)?.map(|exit| Found::Removed(Box::new(exit))).ok_or(error)
        }
        other => other,
    }
}

fn wait(squall: &Squall, arguments: &Ids) -> Result<i32> {
    Ok(for_each(&arguments.ids, |id| match end_of(squall, id)? {
        Ok(exit) => {
            report_facts(id, &exit);
            let code = print::exit_code(&exit.exit);
            match arguments.json {
                true => say!("{}", json!({ "id": id, "code": code, "phase": "exited", "exit": exit })),
                false => say!("{code}"),
            }
            Ok(())
        }
        Err(lost) => {
            // What is asked for as data is answered as data: that it was lost is the answer.
            if arguments.json {
                say!("{}", json!({ "id": id, "code": null, "phase": "lost", "known": lost.known() }));
                return Ok(());
            }
            if let Some(known) = lost.known() {
                tell!("container '{id}' was lost; the kernel still knew its end: {}", print::exit(known));
            }
            Err(lost_error(id))
        }
    }))
}

/// Waits for the end of a container, in whatever phase it is.
pub fn end_of(squall: &Squall, id: &str) -> Result<std::result::Result<ExitRecord, Lost>> {
    let found = squall.attach(id).and_then(|container| match container {
        Container::Launching(launching) => launching.settle(LAUNCH_PATIENCE),
        other => Ok(other),
    });
    let ended = match or_removed(squall, id, found.map(Found::There))? {
        Found::Removed(exit) => return Ok(Ok(*exit)),
        Found::There(Container::Created(created)) => created.wait()?,
        Found::There(Container::Running(running)) => running.wait()?,
        Found::There(Container::Paused(paused)) => paused.wait()?,
        Found::There(Container::Exited(exited)) => Ended::Exited(exited),
        Found::There(Container::Lost(lost)) => Ended::Lost(lost),
        Found::There(_) => return Err(not_launched(id)),
    };
    Ok(match ended {
        Ended::Exited(exited) => Ok(exited.exit().clone()),
        Ended::Lost(lost) => Err(lost),
    })
}

/// A worker that was killed for want of memory, or by its filter, looks like any other that a
/// signal ended.
pub fn report_facts(id: &str, exit: &ExitRecord) {
    let facts = [print::out_of_memory(exit), print::killed_by_filter(exit), print::out_of_processes(exit)];
    facts.into_iter().flatten().for_each(|words| tell!("container '{id}': {words}"));
}

fn wrong_phase(stage: Stage, container: &Container, call: &str, needed: Phase) -> Error {
    Error::wrong_phase(stage, format!("container '{}'", container.id()), call, container.phase(), needed)
}

pub fn not_launched(id: &str) -> Error {
    let text = "it is being launched, or its launch died half way (then `squall reap` clears it)";
    Error::found(ErrorKind::Phase, Stage::Watch, format!("container '{id}'"), "attach", text)
}

fn stop(squall: &Squall, arguments: &Stop) -> Result<i32> {
    let grace =
        values::seconds(&arguments.time).map_err(|bad| Error::invalid("command line", vec![bad.at("--time")]))?;
    let named = arguments.signal.as_deref().map(signal_number).transpose()?;
    let signal = |record: &LaunchRecord| named.unwrap_or_else(|| record.stop_signal());
    Ok(for_each(&arguments.ids, |id| {
        match find(squall, id)? {
            Found::There(Container::Created(created)) => drop(created.stop()?),
            Found::There(Container::Running(running)) => drop(running.stop(signal(running.record()), grace)?),
            Found::There(Container::Paused(paused)) => drop(paused.stop(signal(paused.record()), grace)?),
            Found::There(Container::Exited(_) | Container::Lost(_)) | Found::Removed(_) => {}
            Found::There(_) => return Err(not_launched(id)),
        }
        say!("{id}");
        Ok(())
    }))
}

fn kill(squall: &Squall, arguments: &Kill) -> Result<i32> {
    let signal = signal_number(&arguments.signal)?;
    Ok(with_each(squall, &arguments.ids, |container| match container {
        Container::Created(created) => created.signal(signal),
        Container::Running(running) => running.signal(signal),
        Container::Paused(paused) => paused.signal(signal),
        other => Err(wrong_phase(Stage::Stop, &other, "signal", Phase::Running)),
    }))
}

fn signal_number(text: &str) -> Result<i32> {
    signals::number(text).map_err(|bad| Error::invalid("command line", vec![bad.at("--signal")]))
}

fn remove(squall: &Squall, arguments: &Rm) -> Result<i32> {
    Ok(for_each(&arguments.ids, |id| {
        match remove_one(squall, id, arguments.force) {
            // As podman and docker have it.
            Err(error) if arguments.force && error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
        say!("{id}");
        Ok(())
    }))
}

fn remove_one(squall: &Squall, id: &str, force: bool) -> Result<()> {
    match squall.attach(id)? {
        Container::Exited(exited) => exited.remove(),
        Container::Lost(lost) => lost.remove(),
        // Nothing of it has run.
        Container::Created(created) => created.kill_tree()?.remove(),
        Container::Running(running) if force => running.kill_tree()?.remove(),
        Container::Paused(paused) if force => paused.kill_tree()?.remove(),
        Container::Launching(launching) if force => launching.abandon(),
        Container::Running(_) | Container::Paused(_) => {
            let text = "it runs: stop it first, or use --force";
            Err(Error::found(ErrorKind::Phase, Stage::Remove, format!("container '{id}'"), "remove", text))
        }
        _ => Err(not_launched(id)),
    }
}

fn layers(squall: &Squall, arguments: &Layers) -> Result<i32> {
    let layers = squall.layers()?;
    if arguments.json {
        say!("{}", json!(layers));
    } else {
        let rows: Vec<_> = layers.iter().map(print::layer_row).collect();
        print::table(["FILE", "SIZE", "LAST USE", "LOOP", "PINNED", "USERS", "DIGEST"], &rows);
    }
    Ok(0)
}

fn reap(squall: &Squall, arguments: &Reap) -> Result<i32> {
    let trim = if arguments.dry_run { Trim::Report } else { Trim::Do };
    let report = squall.reap(arguments.keep, trim)?;
    if arguments.json {
        say!("{}", json!(report));
        return Ok(0);
    }
    for object in report {
        let fate = match (object.goes, trim) {
            (true, Trim::Do) => "gone",
            (true, Trim::Report) => "goes",
            (false, _) => "stays",
        };
        say!("{fate:5}  {:9}  {}  ({})", object.kind.name(), object.name, object.reason);
    }
    Ok(0)
}

fn demo(arguments: &Demo) -> Result<i32> {
    let program =
        std::env::current_exe().map_err(|error| Error::system(Stage::Request, "/proc/self/exe", "readlink", error))?;
    let report = squall_cli::demo::run(&program, |finding| {
        if !arguments.json {
            print::finding(finding);
        }
    })?;
    if arguments.json {
        say!("{}", json!(report));
    }
    Ok(i32::from(!report.passed()))
}
