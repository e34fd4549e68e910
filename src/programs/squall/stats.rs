//! `squall stats`: what containers use, once or again and again.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use rustix::termios::{isatty, tcgetwinsize};
use serde_json::{Value, json};
use squall::cgroup::{Pressure, Usage};
use squall::request::values;
use squall::{Container, ContainerUsage, Error, ErrorKind, Problem, Result, Squall, Stage};

use crate::print;

#[derive(Debug, Args)]
#[command(
    after_help = "CPU % is the share of the time since the sample before; in the first sample, and with --no-stream, since the worker was \
                  started. 100 % is one processor. READ / WRITTEN are bytes from and to block devices. WAITING is how much of the last 10 seconds at least one process waited for a CPU, for memory \
                  and for block devices, where the kernel counts it (PSI). With --json each sample is one array in one line; bytes and \
                  microseconds. It goes on until Ctrl-C or, with IDs, until they have ended."
)]
pub struct Stats {
    /// Print once, without repeating
    #[arg(long)]
    pub no_stream: bool,
    /// Seconds between samples
    #[arg(short, long, value_name = "S", default_value = "1", allow_hyphen_values = true)]
    pub interval: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Container names [default: all that live]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
}

pub fn run(squall: &Squall, arguments: &Stats) -> Result<i32> {
    let interval = interval(&arguments.interval)?;
    let mut screen = Screen::new();
    let mut before = HashMap::new();
    let mut code = 0;
    let mut is_first = true;
    loop {
        let sample = if arguments.ids.is_empty() {
            all(squall, &mut code, is_first)?
        } else {
            those(squall, &arguments.ids, is_first)?
        };
        if !is_first && !arguments.ids.is_empty() && sample.is_empty() {
            return Ok(code);
        }
        if arguments.json {
            say!("{}", Value::from_iter(sample.iter().map(|reading| document(reading, &before))));
        } else {
            let rows: Vec<_> = sample.iter().map(|reading| row(reading, &before)).collect();
            screen.show(print::table_lines(
                ["ID", "CPU %", "MEMORY / LIMIT", "PIDS", "READ / WRITTEN", "WAITING CPU / MEMORY / IO"],
                &rows,
            ));
        }
        if arguments.no_stream {
            return Ok(code);
        }
        wait(squall, &arguments.ids, &sample, interval);
        before = sample.into_iter().map(|reading| (reading.id.clone(), reading)).collect();
        is_first = false;
    }
}

fn interval(text: &str) -> Result<Duration> {
    let interval = values::seconds(text).map_err(|bad| Error::invalid("command line", vec![bad.at("--interval")]))?;
    // A reading of a thousand containers takes some 100 ms.
    const SHORTEST: Duration = Duration::from_millis(10);
    if interval < SHORTEST {
        let reason = format!("{text} is too short: expected 0.01 or more");
        return Err(Error::invalid("command line", vec![Problem { field: "--interval".to_owned(), reason }]));
    }
    Ok(interval)
}

/// All that live. What cannot be read is said once, and does not hide the others.
fn all(squall: &Squall, code: &mut i32, is_first: bool) -> Result<Vec<ContainerUsage>> {
    let listing = squall.containers()?;
    if is_first {
        for (_, error) in &listing.unreadable {
            *code = crate::report(error);
        }
    }
    listing.usages()
}

/// Those that were asked for. In the first sample each has to live; afterwards one that has ended
/// is left out.
fn those(squall: &Squall, ids: &[String], is_first: bool) -> Result<Vec<ContainerUsage>> {
    let read = |id: &String| match squall.attach(id).and_then(|container| container.usage()) {
        Ok(None) if is_first => Some(Err(does_not_run(id))),
        Err(error) if !is_first && error.kind() == ErrorKind::NotFound => None,
        reading => reading.transpose(),
    };
    ids.iter().filter_map(read).collect()
}

fn does_not_run(id: &str) -> Error {
    let text = "it does not run: `squall inspect` has its last figures";
    Error::found(ErrorKind::Phase, Stage::Watch, format!("container '{id}'"), "stats", text)
}

/// Until the next sample is due, or the one container that is asked for has ended.
fn wait(squall: &Squall, ids: &[String], sample: &[ContainerUsage], interval: Duration) {
    let last = match (ids, sample) {
        ([_, ..], [reading]) => squall.attach(&reading.id).ok(),
        _ => None,
    };
    let running = last.and_then(|container| match container {
        Container::Running(running) => Some(running),
        Container::Paused(paused) => Some(paused.into_running()),
        _ => None,
    });
    if running.is_none_or(|running| running.wait_for(interval).is_err()) {
        std::thread::sleep(interval);
    }
}

fn cpu_percent(reading: &ContainerUsage, before: &HashMap<String, ContainerUsage>) -> Option<f64> {
    before.get(&reading.id).and_then(|before| reading.cpu_percent_since(before)).or_else(|| reading.cpu_percent())
}

fn document(reading: &ContainerUsage, before: &HashMap<String, ContainerUsage>) -> Value {
    let mut document = json!(reading);
    document["cpu_percent"] = json!(cpu_percent(reading, before));
    document
}

fn row(reading: &ContainerUsage, before: &HashMap<String, ContainerUsage>) -> [String; 6] {
    let usage = &reading.usage;
    let known_bytes = |bytes: Option<u64>| bytes.map_or("-".to_owned(), print::bytes);
    let limit = usage.memory_limit_bytes.map_or("no limit".to_owned(), print::bytes);
    [
        reading.id.clone(),
        cpu_percent(reading, before).map_or("-".to_owned(), |percent| format!("{percent:.2}")),
        format!("{} / {limit}", known_bytes(usage.memory_current_bytes)),
        print::known(usage.pids_current),
        format!("{} / {}", known_bytes(usage.io_read_bytes), known_bytes(usage.io_written_bytes)),
        waiting(usage),
    ]
}

fn waiting(usage: &Usage) -> String {
    let share = |pressure: Option<Pressure>| {
        pressure.map_or("-".to_owned(), |pressure| format!("{:.1} %", pressure.some.avg10_percent))
    };
    [usage.cpu_pressure, usage.memory_pressure, usage.io_pressure].map(share).join(" / ")
}

/// Standard output: on a terminal each sample is drawn over the one before it.
///
/// Nothing of the terminal is changed that would have to be put back, however this program ends:
/// the cursor stays visible and below what was drawn, and nothing is cleared but the lines drawn.
struct Screen {
    is_terminal: bool,
    /// Lines of the sample on the screen.
    drawn: usize,
}

impl Screen {
    fn new() -> Screen {
        Screen { is_terminal: isatty(rustix::stdio::stdout()), drawn: 0 }
    }

    fn show(&mut self, lines: Vec<String>) {
        let size =
            tcgetwinsize(rustix::stdio::stdout()).map(|size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        match size {
            Ok((rows, columns)) if self.is_terminal && rows > 2 && columns > 0 => {
                let lines = fitted(lines, rows - 1, columns);
                print::raw(format_args!("{}", redrawn(self.drawn, &lines)));
                self.drawn = lines.len();
            }
            _ => lines.iter().for_each(|line| say!("{line}")),
        }
    }
}

/// As many lines as there is room for, none of which would be wrapped.
fn fitted(mut lines: Vec<String>, rows: usize, columns: usize) -> Vec<String> {
    if lines.len() > rows {
        let hidden = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push(format!("and {hidden} more"));
    }
    lines.into_iter().map(|line| line.chars().take(columns).collect()).collect()
}

/// What draws lines in the place of those drawn before (ECMA-48: up, erase to the end of the line,
/// erase below).
fn redrawn(drawn: usize, lines: &[String]) -> String {
    let up = if drawn > 0 { format!("\r\x1b[{drawn}A") } else { String::new() };
    let lines: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("{up}{lines}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_take_the_room_that_there_is() {
        let lines = || ["header", "first", "second", "third"].map(str::to_owned).to_vec();
        assert_eq!(fitted(lines(), 4, 80), lines());
        assert_eq!(fitted(lines(), 3, 80), ["header", "first", "and 2 more"]);
        assert_eq!(fitted(lines(), 4, 3), ["hea", "fir", "sec", "thi"]);
    }

    #[test]
    fn a_sample_is_drawn_over_the_one_before_and_nothing_else_is_cleared() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(redrawn(0, &lines), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(redrawn(3, &lines[..1]), "\r\x1b[3Aa\x1b[K\n\x1b[J");
    }

    #[test]
    fn an_interval_is_a_number_of_seconds_that_is_not_nothing() {
        assert_eq!(interval("0.5").unwrap(), Duration::from_millis(500));
        for text in ["0", "0.001", "-1", "x", ""] {
            assert!(interval(text).unwrap_err().to_string().contains("--interval"), "{text}");
        }
    }
}
