//! The program's file, and what the program itself says.

use std::fs::Metadata;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::super::PATIENCE;
use super::super::finding::Finding;
use super::super::machine::Machine;
use super::{Node, Said, Supervisor, USUAL, give_to_root};
use squall::child_task;
use squall::request::Identity;
use worker_launcher::{setup, trusted};

/// What the program says when its set-up is right, before the path of the file that it reads.
const RIGHT: &str = "Using configuration file ";

pub(in super::super) fn findings(_: &Machine, node: &Node) -> Vec<Finding> {
    const NAME: &str = "file";
    let advice = "make install, and then --launcher FILE with what supervisor.worker.launcher says in storm.yaml";
    let Some(path) = &node.launcher else {
        return vec![Finding::missing(NAME, format!("there is none at {}", USUAL.join(", ")), advice)];
    };
    let metadata = match path.metadata() {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return vec![Finding::missing(NAME, format!("{}: it is no regular file", path.display()), advice)],
        Err(error) => return vec![Finding::missing(NAME, format!("{}: {error}", path.display()), advice)],
    };
    let mut findings = vec![installed(node, path, &metadata), directories(path)];
    findings.extend(capabilities(path, &metadata));
    findings.push(file_system(path));
    findings.push(check_setup(node, path));
    findings
}

/// Owner, group and mode.
fn installed(node: &Node, path: &Path, metadata: &Metadata) -> Finding {
    const NAME: &str = "owner and mode";
    let Ok(group) = &node.group else {
        return Finding::unknown(NAME, format!("{}: which group it should have is not known", path.display()));
    };
    let problems = setup::problems(path, metadata, group.gid.as_raw());
    if problems.is_empty() {
        return Finding::ok(NAME, format!("{}: root:{}", path.display(), group.name));
    }
    // In this order: a change of the owner takes the setuid bit away.
    let advice = format!("chown root:{1} '{0}' && chmod 6550 '{0}'", path.display(), group.name);
    Finding::missing(NAME, format!("{}: {}", path.display(), problems.join("; ")), advice)
}

/// Whoever can write to a directory above the program can put another in its place, which the
/// supervisor would then call.
fn directories(path: &Path) -> Finding {
    const NAME: &str = "directories above";
    match trusted::resolve(path, &[0]) {
        Ok(resolved) => Finding::ok(NAME, format!("{}: root's alone", resolved.display())),
        Err(untrusted) => Finding::missing(NAME, untrusted.to_string(), give_to_root(&untrusted.part)),
    }
}

/// Those that take the place of the setuid bit.
fn capabilities(path: &Path, metadata: &Metadata) -> Option<Finding> {
    let lacking = setup::lacking(path, metadata);
    // One that has none lacks the setuid bit: that is said already.
    if lacking.is_empty() || lacking.len() == setup::NEEDED.len() {
        return None;
    }
    let all = setup::NEEDED.map(|(_, name)| name).join(",");
    let advice = format!("setcap {all}=ep '{}'", path.display());
    Some(Finding::missing("capabilities", format!("{}: it lacks {}", path.display(), lacking.join(", ")), advice))
}

/// Setuid bits and capabilities count for nothing on some mounts.
fn file_system(path: &Path) -> Finding {
    const NAME: &str = "file system";
    match statvfs(path) {
        Err(errno) => Finding::unknown(NAME, format!("{}: statvfs: {errno}", path.display())),
        Ok(system) if system.f_flag.contains(StatVfsMountFlags::NOSUID) => Finding::missing(
            NAME,
            format!("{} lies on a file system that is mounted nosuid: it gets no privilege", path.display()),
            "mount -o remount,suid the file system, or install it on another",
        ),
        Ok(_) => Finding::ok(NAME, "setuid bits count there"),
    }
}

/// The program's own word, as the supervisor gets it.
fn check_setup(node: &Node, path: &Path) -> Finding {
    const NAME: &str = "--checksetup";
    let said = match &node.supervisor {
        Supervisor::Known(name, identity) if rustix::process::geteuid().is_root() && identity.uid() != 0 => {
            (format!("as {name}"), child_task::apart(PATIENCE / 2, || said_to(identity, path)))
        }
        // Somebody else's file is not executed as root.
        _ if rustix::process::geteuid().is_root() && trusted::program(path).is_err() => {
            let text = format!("{}: others can replace it, so it was not executed as root", path.display());
            return Finding::unknown(NAME, text).advise("--user NAME says as whom");
        }
        _ => ("as the caller of this".to_owned(), child_task::run(PATIENCE / 2, || said(path))),
    };
    match said {
        (who, Ok(Said { code: Some(0), text })) => right(node, &who, &text),
        (who, Ok(Said { code: Some(code), text })) => Finding::missing(
            NAME,
            format!("{who}: status {code}: {text}"),
            "mend what it names; findings above may say how",
        ),
        (who, Ok(Said { code: None, text })) if rustix::process::geteuid().is_root() => {
            let advice = format!("chown root:{1} '{0}' && chmod 6550 '{0}'", path.display(), node.group_name());
            Finding::missing(NAME, format!("{who}: {text}"), advice)
        }
        (who, Ok(Said { text, .. })) => Finding::unknown(NAME, format!("{who}: {text}")).advise("run this as root"),
        (who, Err(failure)) => Finding::unknown(NAME, format!("{who}: {failure}")),
    }
}

fn right(node: &Node, who: &str, text: &str) -> Finding {
    const NAME: &str = "--checksetup";
    let used = text.strip_prefix(RIGHT).map(str::trim_end);
    let examined = node.config.as_ref().map_or(&node.config_path, |config| &config.path);
    match used {
        Some(used) if Path::new(used) != examined.as_path() => Finding::limited(
            NAME,
            format!("{who}: the program reads {used}, and what is examined here is {}", examined.display()),
            format!("put it there, or examine what it reads: --config {used}"),
        ),
        _ => Finding::ok(NAME, format!("{who}: {text}")),
    }
}

/// In a process of its own, which becomes the supervisor's.
fn said_to(identity: &Identity, path: &Path) -> Said {
    let groups: Vec<Gid> = identity.groups().iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid()), Gid::from_raw(identity.gid()));
    let become_it = setgroups(&groups).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
    match become_it {
        Ok(()) => said(path),
        Err(errno) => Said { code: None, text: format!("the user's ids cannot be taken: {errno}") },
    }
}

fn said(path: &Path) -> Said {
    match Command::new(path).arg("--checksetup").env_clear().current_dir("/").output() {
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&all).trim_end().replace('\n', "; ");
            Said { code: Some(output.status.code().unwrap_or(-1)), text }
        }
        Err(error) => Said { code: None, text: format!("{}: {error}", path.display()) },
    }
}
