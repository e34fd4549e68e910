//! The configuration file, the group that it names, and the supervisor's user.

use super::super::finding::Finding;
use super::super::machine::Machine;
use super::{Node, Supervisor, give_to_root};
use worker_launcher::config::{Config, GROUP_KEY};
use worker_launcher::keys::KEYS;
use worker_launcher::{settings, trusted};

pub(in super::super) fn findings(_: &Machine, node: &Node) -> Vec<Finding> {
    let config = match &node.config {
        Ok(config) => config,
        Err(problem) => return vec![refused(node, problem)],
    };
    let mut findings = vec![
        Finding::ok("file", format!("{}: {} keys", config.path.display(), config.keys().count())),
        group(node),
        supervisor(node),
        users(config),
    ];
    findings.extend(keys(config));
    findings.extend(settings::problems(config).into_iter().map(|problem| {
        Finding::missing("value", problem.text, "mend the value; worker-launcher(8) and README have the keys")
    }));
    findings
}

/// Why the file cannot be used, and what to do.
fn refused(node: &Node, problem: &str) -> Finding {
    let advice = if !node.config_path.exists() {
        "make it from the example (share/doc/squall/examples/worker-launcher.cfg), root's, mode 0644; or name it: --config FILE"
            .to_owned()
    } else if let Err(untrusted) = trusted::resolve(&node.config_path, &[0]) {
        give_to_root(&untrusted.part)
    } else {
        "mend what is named; nothing is done for anybody meanwhile".to_owned()
    };
    Finding::missing("file", problem, advice)
}

fn group(node: &Node) -> Finding {
    match &node.group {
        Ok(group) => Finding::ok("group", format!("{} ({})", group.name, group.gid)),
        Err(problem) => {
            let advice = format!("groupadd --system GROUP, and {GROUP_KEY}=GROUP");
            Finding::missing("group", problem, advice)
        }
    }
}

/// Only members of the group may execute the program.
fn supervisor(node: &Node) -> Finding {
    const NAME: &str = "supervisor";
    let group = node.group_name();
    match &node.supervisor {
        Supervisor::Unnamed => Finding::limited(
            NAME,
            format!("no user is a member of group '{group}', and none was named"),
            format!("usermod -aG {group} USER, or say who it is: --user USER"),
        ),
        Supervisor::Unknown { name, why } => Finding::missing(
            NAME,
            format!("user '{name}': {why}"),
            format!("useradd --system -G {group} {name}, or say who it is: --user USER"),
        ),
        Supervisor::Known(name, identity) if identity.uid() == 0 => Finding::limited(
            NAME,
            format!("'{name}' is root: Storm's daemons need not be"),
            format!("useradd --system -G {group} storm, and run them as storm"),
        ),
        Supervisor::Known(name, identity) => match &node.group {
            Ok(found) if !identity.groups().contains(&found.gid.as_raw()) && identity.gid() != found.gid.as_raw() => {
                let advice = format!("usermod -aG {group} {name}, and start the supervisor anew");
                Finding::missing(
                    NAME,
                    format!("user '{name}' is not in group '{group}', and may not execute the program"),
                    advice,
                )
            }
            _ => Finding::ok(NAME, format!("user '{name}' ({}) in group '{group}'", identity.uid())),
        },
    }
}

/// For whom the program does anything.
fn users(config: &Config) -> Finding {
    match config.least_uid() {
        Ok(least) => {
            Finding::ok("users", format!("uids from {least} on, but not {}", config.banned_users().join(", ")))
        }
        Err(failure) => Finding::missing("users", failure.text, "min.user.id=1000: every user is refused meanwhile"),
    }
}

/// Keys that nobody reads, and lines that do not count.
fn keys(config: &Config) -> Vec<Finding> {
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for key in config.keys() {
        if seen.contains(&key) {
            let advice = "remove one of the lines: the first holds";
            findings.push(Finding::limited("key", format!("{key} is there more than once"), advice));
        } else if !KEYS.contains(&key) {
            let advice = "correct its name, or remove the line: it is not read";
            findings.push(Finding::limited("key", format!("there is no key '{key}'"), advice));
        }
        seen.push(key);
    }
    findings
}
