//! Credential helpers: programs `docker-credential-NAME` that keep credentials for docker.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::authfile::HelperCall;
use super::login::Login;
use crate::error::{Cause, Error, Result, Step};
use crate::transport::Credentials;

/// How long a helper may take: some ask their user.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, in bytes.
const ANSWER_LENGTH: u64 = 1 << 16;
/// The user that stands for an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper. `None` where it knows nothing.
pub(super) fn get(call: &HelperCall) -> Result<Option<Login>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if call.name.is_empty() || !call.name.chars().all(fits) {
        return Err(Error::invalid(Step::Request, format!("credential helper {:?}", call.name), "not a helper's name"));
    }
    let program = format!("docker-credential-{}", call.name);
    run(Command::new(&program), &program, call, PATIENCE)
}

fn run(mut command: Command, program: &str, call: &HelperCall, patience: Duration) -> Result<Option<Login>> {
    let system = |call| move |error: io::Error| Error::system(Step::Request, program, call, error);
    // What it says on standard error is for its user.
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(system("exec"))?;
    let end = Instant::now() + patience;
    let answer = converse(&mut child, &call.server, end);
    if answer.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(system("wait"))?;
    let answer = answer.map_err(system("read"))?;
    if !status.success() {
        // The answer of all of docker's own helpers.
        if String::from_utf8_lossy(&answer).contains("credentials not found") {
            return Ok(None);
        }
        return Err(Error::new(
            Step::Request,
            program,
            Cause::Denied(format!("the credential helper failed: {status}")),
        ));
    }
    // The error does not repeat it.
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| Error::invalid(Step::Request, program, "its answer is not a user name and a secret"))?;
    Ok(match answer.username.as_str() {
        "" => None,
        TOKEN_USER => Some(Login::IdentityToken(answer.secret)),
        _ => Some(Login::Password(Credentials { user: answer.username, password: answer.secret })),
    })
}

/// Tells a helper the registry, and waits for its answer and its end.
fn converse(child: &mut Child, server: &str, end: Instant) -> io::Result<Vec<u8>> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
    let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(late)?;
    let ended = pidfd_open(process, PidfdFlags::empty())?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read is none the worse.
        match input.write_all(server.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let output = child.stdout.take().ok_or_else(late)?;
    let (said, heard) = mpsc::channel();
    // The thread ends with the helper, which is killed where it is late.
    std::thread::Builder::new().name("credential-helper".to_owned()).spawn(move || {
        let mut answer = Vec::new();
        let read = output.take(ANSWER_LENGTH).read_to_end(&mut answer);
        let _ = said.send(read.map(|_| answer));
    })?;
    let left = |end: Instant| end.saturating_duration_since(Instant::now());
    let answer = heard.recv_timeout(left(end)).map_err(|_| late())??;
    let left = Timespec::try_from(left(end)).map_err(|_| late())?;
    match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left))? {
        0 => Err(late()),
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// Asks a helper of the test's own.
    fn ask(script: &str, patience: Duration) -> Result<Option<Login>> {
        let mut command = Command::new("sh");
        command.args(["-c", script, "docker-credential-test"]);
        let call = HelperCall { name: "test".to_owned(), server: "r.example".to_owned() };
        run(command, "docker-credential-test", &call, patience)
    }

    #[test]
    fn a_helper_is_told_the_registry_and_answers() {
        let long = Duration::from_secs(60);
        let script =
            r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$1 $server\",\"Secret\":\"s\"}""#;
        let credentials = Credentials { user: "get r.example".to_owned(), password: "s".to_owned() };
        assert_eq!(ask(script, long).unwrap(), Some(Login::Password(credentials)));
        let token = r#"echo '{"Username":"<token>","Secret":"it"}'"#;
        assert_eq!(ask(token, long).unwrap(), Some(Login::IdentityToken("it".to_owned())));
        let none = "echo credentials not found in native keychain; exit 1";
        assert_eq!(ask(none, long).unwrap(), None);
    }

    #[test]
    fn a_helper_that_fails_is_named_and_its_answer_is_not_repeated() {
        let long = Duration::from_secs(60);
        for script in ["echo sesame; exit 3", "echo sesame", r#"echo '{"Username":["sesame"]}'"#, "yes sesame"] {
            let error = ask(script, long).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("docker-credential-test") && !text.contains("sesame"), "{text}");
        }
        let error = ask("exec sleep 1000", Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("in time"), "{error}");
        let error = ask("exec >&-; exec sleep 1000", Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("in time"), "{error}");
    }

    #[test]
    fn only_a_helpers_name_is_run() {
        for name in ["", "../../bin/sh", "a b", "a/b", "é"] {
            let call = HelperCall { name: name.to_owned(), server: String::new() };
            assert_eq!(get(&call).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
        }
        let call = HelperCall { name: "there-is-none".to_owned(), server: String::new() };
        assert_eq!(get(&call).unwrap_err().kind(), ErrorKind::System);
    }
}
