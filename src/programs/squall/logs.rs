//! The flags of a log, and what `logs` shows of one.

use std::io::Write;

use serde_json::{Value, json};
use squall::log::{Entry, Query, Source, parse_time, rfc3339};
use squall::request::{BadValue, Log, MOST_LOG_FILES, values};
use squall::{ContainerLog, Error, ErrorKind, Result, Squall, Stage};

use crate::args::{Logs, Run};

/// The log that the flags ask for.
pub fn asked(run: &Run) -> std::result::Result<Option<Log>, BadValue> {
    if run.log_file.is_none() && run.log_options.is_empty() {
        return Ok(None);
    }
    let mut log = Log::default();
    log.file = run.log_file.as_ref().map(values::host_path).transpose()?;
    for option in &run.log_options {
        match option.split_once('=') {
            Some(("max-size", size)) => log.max_bytes = Some(values::size(size)?),
            Some(("max-file", count)) => {
                let expected = format!("expected 1 to {MOST_LOG_FILES}");
                let wrong = || BadValue::new(format!("'{count}' is not a number of files: {expected}"));
                log.max_files = Some(count.parse().map_err(|_| wrong())?);
            }
            None if option == "timestamps" => log.timestamps = true,
            Some(("timestamps", "true")) => log.timestamps = true,
            Some(("timestamps", "false")) => log.timestamps = false,
            _ => {
                let expected = "max-size=SIZE, max-file=N or timestamps";
                return Err(BadValue::new(format!(
                    "'{}' is not a log option: expected {expected}",
                    option.escape_debug()
                )));
            }
        }
    }
    Ok(Some(log))
}

/// What `inspect` says of a log.
pub fn summary(log: &ContainerLog) -> Value {
    let spec = log.spec();
    let mut document = json!({
        "path": log.path(),
        "timestamps": spec.timestamps,
        "max_bytes": spec.max_bytes,
        "max_files": spec.files(),
    });
    if let Some(status) = log.status() {
        document["lost_bytes"] = json!(status.lost_bytes);
        document["why_lost"] = json!(status.why);
        document["complete"] = json!(status.complete);
        document["copier"] = json!(status.copier);
        document["keeper"] = json!(status.keeper);
    }
    document
}

/// Shows the log of a container.
pub fn show(squall: &Squall, arguments: &Logs) -> Result<i32> {
    let container = squall.attach(&arguments.id)?;
    let object = || format!("container '{}'", arguments.id);
    let log = container.log().ok_or_else(|| {
        let text = "it has no log: launch with --log-file or --log-opt max-size to have one";
        Error::found(ErrorKind::NotFound, Stage::Watch, object(), "logs", text)
    })?;
    if arguments.timestamps && !log.spec().timestamps {
        let bad = BadValue::new("its log has no timestamps: launch with --log-opt timestamps to have them");
        return Err(Error::invalid(object(), vec![bad.at("--timestamps")]));
    }
    // What the kernel refuses here is no reason not to show what there is.
    match log.mend() {
        Ok(true) => tell!("warning: the log was not being copied, its copier was killed; another one goes on"),
        Ok(false) => {}
        Err(error) => tell!("warning: {error}"),
    }
    let mut page = Page { timestamps: arguments.timestamps, midline: [false; 2] };
    let query = query(arguments)?;
    if !arguments.follow {
        return log.read(&query, |entry| page.show(entry)).map(|()| 0);
    }
    let gaps = log.follow(&query, |entry| page.show(entry))?;
    if gaps > 0 {
        tell!("warning: the log was rotated faster than it was shown: something is missing {gaps} times");
    }
    Ok(0)
}

fn query(arguments: &Logs) -> Result<Query> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64;
    let instant = |flag: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(|text| parse_time(text, now)).transpose();
        parsed.map_err(|bad| Error::invalid("command line", vec![bad.at(flag)]))
    };
    let mut query = Query::default();
    query.tail = arguments.tail;
    query.since_unix_ns = instant("--since", &arguments.since)?;
    query.until_unix_ns = instant("--until", &arguments.until)?;
    Ok(query)
}

/// Standard output and error, and whether each is within a line.
struct Page {
    timestamps: bool,
    midline: [bool; 2],
}

impl Page {
    /// The bytes as the worker wrote them. A reader that has gone away ends the program the way
    /// SIGPIPE would.
    fn show(&mut self, entry: &Entry<'_>) -> Result<()> {
        let index = usize::from(entry.source == Some(Source::Stderr));
        let mut line = Vec::new();
        if let Some(instant) = entry.unix_ns.filter(|_| self.timestamps && !self.midline[index]) {
            line.extend_from_slice(rfc3339(instant).as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(entry.text);
        line.extend(entry.ended.then_some(b'\n'));
        self.midline[index] = !entry.ended;
        let written = match index {
            0 => write_all(std::io::stdout().lock(), &line),
            _ => write_all(std::io::stderr().lock(), &line),
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(128 + libc::SIGPIPE),
            other => other.map_err(|error| Error::system(Stage::Watch, "standard output", "write", error)),
        }
    }
}

fn write_all(mut stream: impl Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).and_then(|()| stream.flush())
}
