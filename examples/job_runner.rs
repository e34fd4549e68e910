//! A job runner over HTTP: every job is a container, with its log and its true end. It may be
//! killed and started again at any moment; the jobs run on.
//!
//! ```console
//! # job_runner /run/squall /squall/jobs base.sqsh 127.0.0.1:8080
//! $ printf '/bin/sleep\n10' | curl --data-binary @- http://127.0.0.1:8080/jobs    # 1
//! $ curl http://127.0.0.1:8080/jobs/1; curl http://127.0.0.1:8080/jobs/1/log
//! $ curl -X DELETE http://127.0.0.1:8080/jobs/1                                   # cancels it
//! ```
//!
//! The arguments: run root, cgroup of the jobs, layer file, address to listen on.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use squall::log::Query;
use squall::request::{Identity, LaunchSpec, Log};
use squall::{Container, ErrorKind, Spawner, Squall, Stdio};

/// The longest command that is taken, in bytes.
const LONGEST: usize = 64 << 10;

struct Runner {
    squall: Squall,
    cgroup: String,
    layer: String,
    next: AtomicU64,
}

type Answer = squall::Result<(&'static str, String)>;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run_root, cgroup, layer, address] = arguments.as_slice() else {
        return Err("usage: job_runner RUN_ROOT CGROUP LAYER ADDRESS".into());
    };
    // First, while there is one thread.
    let spawner = Spawner::fork()?;
    let squall =
        Squall::builder().run_root(run_root).monitors(format!("{cgroup}/monitors")).spawner(spawner).build()?;
    // Those of a runner before this one are there still.
    let next = AtomicU64::new(squall.containers()?.containers.len() as u64 + 1);
    let runner = Arc::new(Runner { squall, cgroup: cgroup.clone(), layer: layer.clone(), next });
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for connection in listener.incoming() {
        let (runner, connection) = (Arc::clone(&runner), connection?);
        std::thread::spawn(move || drop(serve(&runner, connection)));
    }
    Ok(())
}

fn serve(runner: &Runner, mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(connection.try_clone()?.take(2 * LONGEST as u64));
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    for line in reader.by_ref().lines() {
        match line?.to_ascii_lowercase().split_once(": ") {
            Some(("content-length", number)) => length = number.parse::<usize>().unwrap_or(0).min(LONGEST),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let words: Vec<&str> = request.split(' ').take(2).collect();
    let (status, text) = runner.answer(&words, &String::from_utf8_lossy(&body)).unwrap_or_else(|error| {
        let status = match error.kind() {
            ErrorKind::NotFound => "404 Not Found",
            ErrorKind::Invalid | ErrorKind::ProgramNotFound | ErrorKind::ProgramNotExecutable => "400 Bad Request",
            _ => "500 Internal Server Error",
        };
        (status, error.to_string())
    });
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
}

impl Runner {
    fn answer(&self, request: &[&str], body: &str) -> Answer {
        let [method, path] = request else { return Ok(("400 Bad Request", String::new())) };
        match (*method, path.split('/').skip(1).collect::<Vec<_>>().as_slice()) {
            ("POST", ["jobs"]) => self.start(body),
            ("GET", ["jobs", id]) => Ok(("200 OK", said_of(&self.squall.attach(id)?))),
            ("GET", ["jobs", id, "log"]) => {
                let mut text = String::new();
                if let Some(log) = self.squall.attach(id)?.log() {
                    log.read(&Query::default(), |entry| {
                        text.push_str(&String::from_utf8_lossy(entry.text));
                        text.push_str(if entry.ended { "\n" } else { "" });
                        Ok(())
                    })?;
                }
                Ok(("200 OK", text))
            }
            ("DELETE", ["jobs", id]) => {
                if let Container::Running(running) = self.squall.attach(id)? {
                    drop(running.stop(libc::SIGTERM, Duration::from_secs(5))?);
                }
                Ok(("200 OK", said_of(&self.squall.attach(id)?)))
            }
            _ => Ok(("404 Not Found", String::new())),
        }
    }

    /// The command's words are the lines of the body.
    fn start(&self, command: &str) -> Answer {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let builder = LaunchSpec::builder(&id).layers([&self.layer]).args(command.lines());
        let builder = builder.user(Identity::new(65534, 65534, []).expect("these ids are fine"));
        let log = Log::in_run_root(1 << 20, 2);
        self.squall.launch(&builder.log(log).cgroup(format!("{}/{id}", self.cgroup)).build()?, Stdio::null()?)?;
        Ok(("201 Created", id))
    }
}

fn said_of(job: &Container) -> String {
    match job {
        Container::Exited(exited) => format!("{:?}, {:?}\n", exited.exit().exit, exited.exit().reason),
        Container::Lost(_) => "nobody saw it end\n".to_owned(),
        other => format!("{}\n", other.phase().name()),
    }
}
