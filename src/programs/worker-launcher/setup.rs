//! The program's own file: whoever may execute it may act as any user of the cluster, so who that
//! is has to be what the configuration says.

use std::os::unix::fs::MetadataExt;

use rustix::fs::getxattr;
use squall::setuid::Caller;

use crate::config::Config;
use crate::exit::{Code, Failure, Result, WithCode};

/// The setuid bit.
const SETUID: u32 = 0o4000;

/// Where a file's capabilities are.
const CAPABILITIES: &str = "security.capability";

/// Checks owner, group and mode; each problem is said on standard output, as Storm's own does.
pub fn check_binary(config: &Config, _caller: &Caller) -> Result<()> {
    const OWN: &str = "/proc/self/exe";
    let path = std::fs::read_link(OWN).code(Code::Binary, OWN)?;
    // Through the link of the kernel: the path may lead to another file by now.
    let metadata = std::fs::metadata(OWN).code(Code::Binary, path.display())?;
    let mode = metadata.mode();
    let mut problems = Vec::new();
    if metadata.uid() != 0 {
        problems.push(format!("it belongs to uid {} instead of root", metadata.uid()));
    }
    if metadata.gid() != config.group {
        problems.push(format!("its group is {} instead of {}, the configured one", metadata.gid(), config.group));
    }
    if mode & 0o007 != 0 {
        problems.push("others may read, write or execute it".to_owned());
    }
    // With file capabilities in its place: the process has them by now, or it would not be here.
    if mode & SETUID == 0 && getxattr(OWN, CAPABILITIES, &mut [0_u8; 64]).is_err() {
        problems.push("it has neither a setuid bit nor capabilities".to_owned());
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.iter().for_each(|problem| say!("{}: {problem}", path.display()));
    let text = format!(
        "'{}' (mode {:04o}) is not installed as it must be: root:<group>, mode 6550, or mode 0550 with capabilities",
        path.display(),
        mode & 0o7777
    );
    Err(Failure::new(Code::Binary, text))
}
