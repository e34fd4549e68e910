//! Docker's registry, and servers of the tests' own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::tools::{Server, program};

/// Docker's registry on this machine.
pub struct Registry {
    pub port: u16,
    _server: Server,
}

impl Registry {
    /// With its files in `place`, and these further lines of configuration.
    pub fn start(place: &Path, tls: &str, auth: &str) -> Registry {
        let files = place.join("registry");
        let config = place.join("registry.yml");
        let (server, port) = Server::listening(|port| {
            let text = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http:\n  addr: 127.0.0.1:{port}\n{tls}\n{auth}\n",
                files.display()
            );
            fs::write(&config, text).unwrap();
            let mut registry = program("docker-registry");
            registry.arg("serve").arg(&config);
            registry
        });
        Registry { port, _server: server }
    }

    pub fn plain(place: &Path) -> Registry {
        Registry::start(place, "", "")
    }

    /// The name of an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("docker://127.0.0.1:{}/{image}", self.port)
    }
}

/// Serves each connection by a function, on a thread, until it is dropped.
pub struct Listening {
    pub port: u16,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let serve = Arc::new(serve);
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    break;
                }
                let serve = Arc::clone(&serve);
                let connection = connection.unwrap();
                thread::spawn(move || serve(connection));
            }
        });
        Listening { port, ends, thread: Some(thread) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request as it was read: its first line, its headers in lower case, its content.
pub struct Asked {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub content: String,
}

impl Asked {
    /// Reads one; `None` for what is none, as the beginning of TLS.
    pub fn read(connection: &TcpStream) -> Option<Asked> {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        let mut next = || {
            line.clear();
            let read = reader.by_ref().take(8192).read_line(&mut line).ok()?;
            (read > 0).then(|| line.trim_end().to_owned())
        };
        let first = next().filter(|line| line.contains(" HTTP/1."))?;
        let mut headers = Vec::new();
        loop {
            let line = next()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length =
            headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let mut content = vec![0; length];
        reader.read_exact(&mut content).ok()?;
        Some(Asked { line: first, headers, content: String::from_utf8_lossy(&content).into_owned() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Answers and closes.
pub fn answer(mut connection: TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = connection.write_all(&[head.as_bytes(), body].concat());
}

/// Passes bytes both ways, until `limit` bytes came from the server. Calls `limit_reached` then.
pub fn pass(client: TcpStream, port: u16, limit: usize, limit_reached: impl FnOnce()) -> usize {
    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let passed = std::io::copy(&mut (&server).take(limit as u64), &mut &client).unwrap_or(0);
    if passed == limit as u64 {
        limit_reached();
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = up.join();
    usize::try_from(passed).unwrap()
}
