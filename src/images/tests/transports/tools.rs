//! Programs that tests run. Each is ended by its id.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a server is started.
const STARTS: u32 = 5;

/// The longest that a server may take to listen.
const START: Duration = Duration::from_secs(60);

/// A program, which fails the test where it is not installed.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    // Files of whoever runs the tests are none of theirs.
    command.env_remove("REGISTRY_AUTH_FILE").env_remove("DOCKER_CONFIG").env_remove("XDG_RUNTIME_DIR");
    command
}

/// Runs a program to its end; what it says where it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; runtime-tests/run installs it", command.get_program().display()));
    match status.success() {
        true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        false => Err(format!("{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr))),
    }
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) -> String {
    output(command).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program with something on its standard input.
pub fn run_with(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

/// skopeo, which asks nobody and takes any policy.
pub fn skopeo() -> Command {
    let mut command = program("skopeo");
    command.arg("--insecure-policy");
    command
}

/// A server in the background, killed at the end.
pub struct Server(Child);

impl Server {
    /// Starts a server that listens on a port of its own. Somebody may take that first: then it is
    /// started again, with another.
    pub fn listening(start: impl Fn(u16) -> Command) -> (Server, u16) {
        let attempt = |_| {
            let port = free_port();
            Some((Server::start(&mut start(port), port)?, port))
        };
        (0..STARTS).find_map(attempt).expect("a server listens")
    }

    /// `None` where it ends.
    fn start(command: &mut Command, port: u16) -> Option<Server> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let name = command.get_program().display().to_string();
        let mut server = Server(child.unwrap_or_else(|error| panic!("{name}: {error}; runtime-tests/run installs it")));
        let end = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.0.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < end, "{name} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of this machine that nobody uses.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A certificate for localhost and 127.0.0.1 with an authority of its own: `ca.crt`, `server.crt`,
/// `server.key`, and a client's `client.cert` and `client.key`, in this directory.
pub fn make_certificates(place: &Path) {
    let openssl = |arguments: &str| {
        run(program("openssl").current_dir(place).args(arguments.split_whitespace()));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority");
    std::fs::write(place.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    for (key, certificate) in [("server.key", "server.crt"), ("client.key", "client.cert")] {
        openssl(&format!("req -newkey rsa:2048 -nodes -keyout {key} -out request -subj /CN=localhost"));
        openssl(&format!(
            "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -out {certificate} -days 2 -extfile names"
        ));
    }
}
