//! What the configuration gives workers: filter, confinement, profiler, docker.

use super::super::finding::Finding;
use super::super::machine::Machine;
use super::{Node, give_to_root};
use squall::lsm::Host;
use squall::request::Seccomp;
use worker_launcher::config::Config;
use worker_launcher::{PROFILER_KEY, docker_client, settings, trusted};

pub(in super::super) fn findings(machine: &Machine, node: &Node) -> Vec<Finding> {
    let Ok(config) = &node.config else {
        return vec![Finding::unknown("all", "the configuration file cannot be used")];
    };
    let mut findings: Vec<Finding> =
        settings::seccomp(config).ok().map(|filter| seccomp(&filter)).into_iter().collect();
    findings.extend(confinement(machine, config));
    findings.push(profiler(config));
    findings.push(docker(config));
    findings
}

fn seccomp(filter: &Seccomp) -> Finding {
    const NAME: &str = "filter";
    let key = settings::SECCOMP;
    match (filter, filter.filter()) {
        (Seccomp::Unconfined, _) => Finding::limited(
            NAME,
            format!("{key}: unconfined: workers for whom Storm names no filter may make any system call"),
            format!("take {key} out: the default profile holds then"),
        ),
        (_, Err(error)) => {
            Finding::missing(NAME, format!("{key}: {error}"), "squall seccomp check FILE says what is wrong")
        }
        (Seccomp::Default, _) => Finding::ok(NAME, "the default profile"),
        (_, _) => Finding::ok(NAME, format!("{key}: a file that compiles")),
    }
}

/// A launch that cannot be confined as the file says is refused.
fn confinement(machine: &Machine, config: &Config) -> Vec<Finding> {
    let host = Host { top: machine.path("/") };
    let told = |name: &'static str, what: &str, refusal: Option<String>| match refusal {
        None => Finding::ok(name, what.to_owned()),
        Some(why) => Finding::missing(
            name,
            format!("'{what}': {why}; every launch is refused"),
            "load it, or take the key out of the configuration file",
        ),
    };
    let mut findings = Vec::new();
    if let Ok(Some(profile)) = settings::apparmor(config) {
        findings.push(told("AppArmor", profile.as_str(), host.apparmor_refusal(&profile)));
    }
    if let Ok(Some(label)) = settings::selinux(config) {
        findings.push(told("SELinux", label.as_str(), host.selinux_refusal(&label)));
    }
    findings
}

/// It is executed inside containers, where Storm's home is mounted at its place on the host.
fn profiler(config: &Config) -> Finding {
    const NAME: &str = "profiler";
    match config.path(PROFILER_KEY) {
        Err(failure) => Finding::missing(NAME, failure.text, format!("correct {PROFILER_KEY}")),
        Ok(None) => Finding::limited(
            NAME,
            "none is configured: profile requests are refused",
            format!("{PROFILER_KEY}=/opt/storm/bin/flight.bash"),
        ),
        Ok(Some(path)) => match path.metadata() {
            Ok(_) => Finding::ok(NAME, path.display().to_string()),
            Err(error) => Finding::limited(
                NAME,
                format!("{}: {error}; it has to be at this path in containers", path.display()),
                format!("correct {PROFILER_KEY}, unless images have it themselves"),
            ),
        },
    }
}

/// Executed with ids that can become root's.
fn docker(config: &Config) -> Finding {
    const NAME: &str = "docker";
    match docker_client(config) {
        Err(failure) => Finding::missing(NAME, failure.text, "correct the path"),
        Ok(None) => Finding::ok(NAME, "not configured; only DockerManager needs it"),
        Ok(Some(path)) => match trusted::program(&path) {
            Ok(resolved) => Finding::ok(NAME, format!("{}: root's alone", resolved.display())),
            Err(untrusted) => Finding::missing(NAME, untrusted.to_string(), give_to_root(&untrusted.part)),
        },
    }
}
