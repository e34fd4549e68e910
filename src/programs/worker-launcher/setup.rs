//! The program's own file: whoever may execute it may act as any user of the cluster, so who that
//! is has to be what the configuration says.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::getxattr;

use crate::config::Config;
use crate::exit::{Code, Failure, Result, WithCode};

/// The setuid bit.
const SETUID: u32 = 0o4000;

/// Where a file's capabilities are.
const CAPABILITIES: &str = "security.capability";

/// The capabilities of a file (`struct vfs_cap_data` of <linux/capability.h>): revisions 2 and 3 with
/// the effective bit.
const VERSIONS: [u32; 2] = [0x0200_0001, 0x0300_0001];

/// The capabilities that the file needs where it has no setuid bit, by number.
pub const NEEDED: [(u32, &str); 10] = [
    (0, "cap_chown"),
    (1, "cap_dac_override"),
    (3, "cap_fowner"),
    (4, "cap_fsetid"),
    (5, "cap_kill"),
    (6, "cap_setgid"),
    (7, "cap_setuid"),
    (8, "cap_setpcap"),
    (21, "cap_sys_admin"),
    (27, "cap_mknod"),
];

/// Checks owner, group and mode; each problem is said on standard output, as Storm's own does.
pub(crate) fn check_binary(config: &Config) -> Result<()> {
    const OWN: &str = "/proc/self/exe";
    let path = std::fs::read_link(OWN).code(Code::Binary, OWN)?;
    // Through the link of the kernel: the path may lead to another file by now.
    let metadata = std::fs::metadata(OWN).code(Code::Binary, path.display())?;
    let problems = problems(Path::new(OWN), &metadata, config.group);
    if problems.is_empty() {
        return Ok(());
    }
    problems.iter().for_each(|problem| say!("{}: {problem}", path.display()));
    let text = format!(
        "'{}' (mode {:04o}) is not installed as it must be: root:<group>, mode 6550, or mode 0550 with capabilities",
        path.display(),
        metadata.mode() & 0o7777
    );
    Err(Failure::new(Code::Binary, text))
}

/// What is wrong with owner, group and mode of the program's file.
pub fn problems(path: &Path, metadata: &Metadata, group: u32) -> Vec<String> {
    let mode = metadata.mode();
    let mut problems = Vec::new();
    if metadata.uid() != 0 {
        problems.push(format!("it belongs to uid {} instead of root", metadata.uid()));
    }
    if metadata.gid() != group {
        problems.push(format!("its group is {} instead of {group}, the configured one", metadata.gid()));
    }
    if mode & 0o007 != 0 {
        problems.push("others may read, write or execute it".to_owned());
    }
    // With file capabilities in its place: the process has them by now, or it would not be here.
    if mode & SETUID == 0 && getxattr(path, CAPABILITIES, &mut [0_u8; 64]).is_err() {
        problems.push("it has neither a setuid bit nor capabilities".to_owned());
    }
    problems
}

/// Which of the needed capabilities a file without a setuid bit lacks; none of those with one.
pub fn lacking(path: &Path, metadata: &Metadata) -> Vec<&'static str> {
    if metadata.mode() & SETUID != 0 {
        return Vec::new();
    }
    let mut value = [0_u8; 64];
    let length = getxattr(path, CAPABILITIES, &mut value).unwrap_or(0);
    let permitted = permitted(value.get(..length).unwrap_or_default());
    NEEDED.iter().filter(|(number, _)| permitted & (1 << number) == 0).map(|(_, name)| *name).collect()
}

/// The capabilities that a process gets by its exec of the file, as far as they are needed ones.
fn permitted(value: &[u8]) -> u32 {
    let word = |at: usize| value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (word(0), word(4)) {
        (Some(version), Some(permitted)) if VERSIONS.contains(&version) => permitted,
        _ => 0,
    }
}
